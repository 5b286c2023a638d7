from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stored import (
    OTHER_SETTINGS,
    OTHER_SHA,
    SETTINGS,
    SHA,
    SIZE,
    damaged,
    names,
    only,
    piece,
    python,
    record,
    recovered,
)
from tests.yardstick import yards
from vidmod.store import Store
from vidmod.store import journal as journal_module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "scans"


class TestJournal:
    def test_pieces_come_back(self, folder: Path) -> None:
        record(folder, range(10))
        assert recovered(folder) == {str(number): piece(number) for number in range(10)}

    def test_the_last_of_a_key_wins(self, folder: Path) -> None:
        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            journal.record("a", {"n": 1})
            journal.record("b", {"n": 2})
            journal.record("a", {"n": 3})
        assert recovered(folder) == {"a": {"n": 3}, "b": {"n": 2}}

    def test_it_goes_on_over_several_runs(self, folder: Path) -> None:
        for first in range(0, 50, 10):
            assert len(recovered(folder)) == first
            record(folder, range(first, first + 10))
        assert recovered(folder) == {str(number): piece(number) for number in range(50)}

    def test_finished_it_is_gone(self, folder: Path) -> None:
        record(folder, range(3))
        journal = Store(folder).journal(SHA, SIZE, SETTINGS)
        journal.finish()
        journal.finish()
        journal.close()
        journal.record("late", {})
        assert names(folder) == []
        assert recovered(folder) == {}

    def test_without_a_piece_nothing_is_left(self, folder: Path) -> None:
        with Store(folder).journal(SHA, SIZE, SETTINGS):
            assert len(names(folder)) == 1
        assert names(folder) == []

    def test_it_is_of_one_source_and_settings(self, folder: Path) -> None:
        record(folder, range(3))
        store = Store(folder)
        for sha256, size, digest in (
            (OTHER_SHA, SIZE, SETTINGS), (SHA, SIZE + 1, SETTINGS), (SHA, SIZE, OTHER_SETTINGS),
        ):  # fmt: skip
            with store.journal(sha256, size, digest) as journal:
                assert journal.pieces == {}
        assert len(recovered(folder)) == 3

    def test_the_whole_digests_are_compared(self, folder: Path) -> None:
        record(folder, range(3))
        with Store(folder).journal(SHA, SIZE, SETTINGS[:-1] + "0") as journal:
            assert journal.pieces == {}

    def test_a_second_one_records_nothing(self, folder: Path) -> None:
        first = Store(folder).journal(SHA, SIZE, SETTINGS)
        first.record("a", {"by": "first"})
        store = Store(folder)
        with store.journal(SHA, SIZE, SETTINGS) as second:
            assert second.pieces == {}
            assert not second.recording
            second.record("a", {"by": "second"})
            second.finish()
        first.record("b", {"by": "first"})
        first.close()
        assert recovered(folder) == {"a": {"by": "first"}, "b": {"by": "first"}}
        assert store.trouble is None

    def test_what_cannot_be_json_is_refused_and_nothing_is_torn(self, folder: Path) -> None:
        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            journal.record("a", {"n": 1})
            with pytest.raises(TypeError):
                journal.record("b", {"n": object()})
            journal.record("c", {"n": 3})
        assert recovered(folder) == {"a": {"n": 1}, "c": {"n": 3}}

    def test_odd_keys_and_values_come_back(self, folder: Path) -> None:
        odd = {"\udcff\n": {"x": ["\0", "é", 1e300, None, {}]}, "": {}}
        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            for key, value in odd.items():
                journal.record(key, value)
        assert recovered(folder) == odd

    def test_it_is_removed_only_if_it_is_still_ours(self, folder: Path) -> None:
        journal = Store(folder).journal(SHA, SIZE, SETTINGS)
        only(folder).unlink()
        other = Store(folder).journal(SHA, SIZE, SETTINGS)
        other.record("a", {})
        journal.finish()
        other.close()
        assert recovered(folder) == {"a": {}}

    def test_a_hundred_thousand_lines_are_read_fast(self, folder: Path) -> None:
        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            for number in range(100_000):
                journal.record(str(number), {"pts": number, "scores": {"open_nsfw": {"nsfw": 0.123456}}})
        found, took = yards(lambda: recovered(folder))
        assert len(found) == 100_000
        assert took < 150  # measured: 17 to 30, of which JSON is 7

    def test_it_is_synced_at_most_every_second(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        syncs: list[int] = []
        moment = [0.0]
        monkeypatch.setattr(os, "fdatasync", syncs.append)
        monkeypatch.setattr(time, "monotonic", lambda: moment[0])
        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            for number in range(100):
                moment[0] = number / 10
                journal.record(str(number), {})
            assert 8 <= len(syncs) <= 10
            before = len(syncs)
        assert len(syncs) == before + 1

    def test_an_interrupt_in_a_write_leaves_whole_lines(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write

        def interrupted(descriptor: int, data: bytes) -> int:
            write(descriptor, data)
            raise KeyboardInterrupt

        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            journal.record("a", {})
            monkeypatch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.record("b", {})
            monkeypatch.undo()
            journal.record("c", {})
        assert recovered(folder) == {"a": {}, "c": {}}


class TestDamage:
    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_what_is_recovered_is_a_prefix_and_goes_on(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "scans"
            record(folder, range(6))
            path = only(folder)
            path.write_bytes(damaged(path.read_bytes(), data))
            with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
                kept = len(journal.pieces)
                assert journal.pieces == {str(number): piece(number) for number in range(kept)}
                assert kept < 6
                for number in range(kept, 8):
                    journal.record(str(number), piece(number))
            assert recovered(folder) == {str(number): piece(number) for number in range(8)}

    def test_every_cut_keeps_every_whole_line(self, folder: Path) -> None:
        record(folder, range(4))
        path = only(folder)
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            assert len(recovered(folder)) == max(content[:length].count(b"\n") - 1, 0)

    def test_lines_out_of_order_are_dropped(self, folder: Path) -> None:
        record(folder, range(5))
        path = only(folder)
        lines = path.read_bytes().splitlines(keepends=True)
        for order, whole in (((0, 1, 3), 1), ((0, 1, 1), 1), ((0, 1, 0), 1), ((0, 2, 1), 0), ((1, 2, 3), 0)):
            path.write_bytes(b"".join(lines[number] for number in order))
            assert recovered(folder) == {str(number): piece(number) for number in range(whole)}

    def test_lines_of_another_journal_are_dropped(self, folder: Path) -> None:
        record(folder, range(2))
        store = Store(folder)
        with store.journal(OTHER_SHA, SIZE, SETTINGS) as journal:
            for number in range(5):
                journal.record(str(number), {"of": "another"})
            ours, other = folder / f"{SIZE}-{SHA[:16]}-{SETTINGS[:16]}.journal", names(folder)[1]
        with ours.open("ab") as file:
            file.write(b"".join((folder / other).read_bytes().splitlines(keepends=True)[3:]))
        assert recovered(folder) == {"0": piece(0), "1": piece(1)}

    @pytest.mark.parametrize("content", [b"\0" * 5000, b"\n" * 5000, b"0123456789abcdef []\n", b"\xff" * 100 + b"\n"])
    def test_rubbish_is_started_over(self, folder: Path, content: bytes) -> None:
        record(folder, range(2))
        only(folder).write_bytes(content)
        assert recovered(folder) == {}
        record(folder, range(2))
        assert len(recovered(folder)) == 2

    @pytest.mark.parametrize("row", [[], ["a"], ["a", []], [1, {}], {"a": {}}, ["a", {}, {}], None])
    def test_sound_lines_of_another_form_are_dropped(self, folder: Path, row: object) -> None:
        record(folder, range(2))
        path = only(folder)
        last = path.read_bytes().splitlines()[-1][:16].decode()
        with path.open("ab") as file:
            file.write(journal_module._line(last, row)[0])
        assert recovered(folder) == {"0": piece(0), "1": piece(1)}


CHILD = """
    import sys
    from pathlib import Path
    from tests.stored import SETTINGS, SHA, SIZE, piece
    from vidmod.store import Store
    journal = Store(Path(sys.argv[1])).journal(SHA, SIZE, SETTINGS)
    assert journal.recording
    for number in range(len(journal.pieces), 1_000_000):
        journal.record(str(number), piece(number))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


class TestCrashes:
    def test_killed_at_any_moment_every_piece_is_there(self, folder: Path) -> None:
        seed = random.randrange(1 << 32)
        print("seed", seed)
        chance = random.Random(seed)
        for _ in range(10):
            with python(CHILD, str(folder)) as child:
                assert child.stdout is not None
                for _ in range(chance.randrange(1, 300)):
                    last = int(child.stdout.readline())
                time.sleep(chance.random() / 100)
                child.send_signal(signal.SIGKILL)
                # A line that the kill tore is of a piece that was recorded nevertheless.
                last = max(
                    [last, *(int(line) for line in child.stdout.read().splitlines(keepends=True) if line[-1:] == "\n")]
                )
            pieces = recovered(folder)
            assert len(pieces) in (last + 1, last + 2)
            assert pieces == {str(number): piece(number) for number in range(len(pieces))}

    def test_a_killed_process_leaves_no_lock(self, folder: Path) -> None:
        with python(CHILD, str(folder)) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
                assert not journal.recording
            child.kill()
        with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
            assert journal.recording
            assert journal.pieces

    def test_a_forked_child_does_not_keep_the_lock(self, folder: Path) -> None:
        code = """
            import os, sys, time
            from pathlib import Path
            from tests.stored import SETTINGS, SHA, SIZE
            from vidmod.store import Store
            store = Store(Path(sys.argv[1]))
            journal = store.journal(SHA, SIZE, SETTINGS)
            journal.record("a", {})
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            journal.close()
            with store.journal(SHA, SIZE, SETTINGS) as again:
                print(again.recording)
            os.kill(child, 9)
            os.wait()
        """
        with python(code, str(folder)) as child:
            assert child.communicate()[0] == "True\n"

    def test_many_processes_at_once(self, folder: Path) -> None:
        code = """
            import sys
            from pathlib import Path
            from tests.stored import SETTINGS, SHA, SIZE, film, piece
            from vidmod.store import Store
            store = Store(Path(sys.argv[1]), max_bytes=60_000)
            for turn in range(60):
                with store.journal(SHA, SIZE, SETTINGS) as journal:
                    assert all(journal.pieces[key] == piece(int(key)) for key in journal.pieces)
                    for number in range(turn % 7):
                        journal.record(str(number), piece(number))
                    if turn % 5 == 0:
                        journal.finish()
                store.keep(film(size=turn % 4), SETTINGS)
                assert store.find(film().source["sha256"], turn % 4, SETTINGS) in (None, film(size=turn % 4))
            print(store.trouble)
        """
        children = [python(code, str(folder)) for _ in range(4)]
        for child in children:
            with child:
                assert child.communicate()[0] == "None\n"
                assert child.returncode == 0
        assert not [name for name in names(folder) if name.endswith(".part")]
