from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.timelines import sample, stream, timeline
from vidmod import store as store_module
from vidmod.store import Journal, Store
from vidmod.timeline import Json, Timeline

SHA = "ab" * 32
OTHER_SHA = "cd" * 32
SIZE = 1000
SETTINGS = "12" * 32
OTHER_SETTINGS = "34" * 32
DAY = 86_400


def film(sha256: str = SHA, size: int = SIZE, length: int = 20) -> Timeline:
    """A scanned film; `length` is the number of its samples."""
    bare = timeline(stream([sample(t / 2, 0.9 if 4 < t < 9 else 0.01, ("FACE_FEMALE", 0.8)) for t in range(length)]))
    return dataclasses.replace(bare, source={**bare.source, "sha256": sha256, "size_bytes": size})


def piece(number: int) -> Json:
    return {"number": number, "scores": [number / 7, 0.25], "text": "ä\n" * (number % 5)}


def record(folder: Path, numbers: range) -> None:
    with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
        for number in numbers:
            journal.record(str(number), piece(number))


def recovered(folder: Path) -> Mapping[str, Json]:
    with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
        return journal.pieces


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir()) if folder.exists() else []


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def set_age(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "scans"


@pytest.fixture
def rightless() -> Iterator[Path]:
    """A folder of a user to whom permissions apply: root becomes another for the test."""
    Timeline.from_document(film().as_document())  # reads the schema, which that user perhaps cannot
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name) / "scans"
        finally:
            if root:
                os.seteuid(0)


class TestTimelines:
    def test_what_is_kept_is_found(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        assert Store(folder).find(SHA, SIZE, SETTINGS) == film()
        assert names(folder) == [f"{SIZE}-{SHA[:16]}-{SETTINGS[:16]}.timeline.json"]
        assert store.trouble is None

    def test_an_empty_store_knows_nothing_and_makes_no_folder(self, folder: Path) -> None:
        store = Store(folder)
        assert not store.knows_size(SIZE)
        assert store.find(SHA, SIZE, SETTINGS) is None
        assert store.trouble is None
        assert not folder.parent.exists()

    def test_two_settings_of_one_source_live_side_by_side(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(length=20), SETTINGS)
        store.keep(film(length=30), OTHER_SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film(length=20)
        assert store.find(SHA, SIZE, OTHER_SETTINGS) == film(length=30)

    def test_a_later_one_takes_the_place_of_an_earlier(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(length=20), SETTINGS)
        store.keep(film(length=30), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film(length=30)
        assert len(names(folder)) == 1

    def test_another_source_size_or_settings_is_not_found(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        assert store.find(OTHER_SHA, SIZE, SETTINGS) is None
        assert store.find(SHA, SIZE + 1, SETTINGS) is None
        assert store.find(SHA, SIZE, OTHER_SETTINGS) is None

    def test_the_whole_digests_are_compared(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        assert store.find(SHA[:-1] + "0", SIZE, SETTINGS) is None
        store.keep(film(), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS[:-1] + "0") is None

    def test_a_file_under_the_name_of_another_source_is_not_found(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        path = only(folder)
        path.rename(path.with_name(path.name.replace(SHA[:16], OTHER_SHA[:16])))
        assert store.find(OTHER_SHA, SIZE, SETTINGS) is None
        assert names(folder) == []

    def test_a_timeline_of_another_source_than_its_header_says_is_not_found(self, folder: Path) -> None:
        Store(folder).keep(film(), SETTINGS)
        path = only(folder)
        stored = json.loads(path.read_text())
        stored["timeline"]["source"]["sha256"] = OTHER_SHA
        stored["checksum"] = store_module._checksum_of(stored["timeline"])
        path.write_text(json.dumps(stored))
        assert Store(folder).find(SHA, SIZE, SETTINGS) is None

    def test_a_sound_checksum_does_not_excuse_a_wrong_document(self, folder: Path) -> None:
        Store(folder).keep(film(), SETTINGS)
        path = only(folder)
        stored = json.loads(path.read_text())
        stored["timeline"]["samples"][3]["scores"]["open_nsfw"]["nsfw"] = 7
        stored["checksum"] = store_module._checksum_of(stored["timeline"])
        path.write_text(json.dumps(stored))
        assert Store(folder).find(SHA, SIZE, SETTINGS) is None
        assert names(folder) == []

    @pytest.mark.parametrize(
        "content", [b"", b"\0" * 900, b"[]", b"{}", b'{"timeline": {}}', b"\xff\xfe", b"[" * 200_000, b"9" * 9000]
    )
    def test_rubbish_is_removed(self, folder: Path, content: bytes) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        only(folder).write_bytes(content)
        assert store.find(SHA, SIZE, SETTINGS) is None
        assert names(folder) == []
        store.keep(film(), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film()
        assert store.trouble is None

    def test_a_name_that_is_not_text_breaks_nothing(self, folder: Path) -> None:
        odd = dataclasses.replace(film(), source={**film().source, "name": "\udcff.mp4"})
        store = Store(folder)
        store.keep(odd, SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) in (None, odd)

    def test_sizes_are_known(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(size=SIZE), SETTINGS)
        record_at = Store(folder).journal(SHA, 77, SETTINGS)
        record_at.record("a", {})
        assert [size for size in (0, 7, 77, 100, SIZE, 10 * SIZE) if store.knows_size(size)] == [77, SIZE]
        record_at.finish()
        assert not store.knows_size(77)

    @pytest.mark.parametrize("name", ["1000-notes.txt", "1000", f".1000-{'a' * 16}-{'b' * 16}.journal.part", "x"])
    def test_other_peoples_files_are_left_alone(self, folder: Path, name: str) -> None:
        store = Store(folder, max_bytes=1)
        folder.mkdir(parents=True, mode=0o700)
        (folder / name).write_text("not ours")
        set_age(folder / name, 1000)
        assert not store.knows_size(SIZE)
        store.journal(SHA, SIZE, SETTINGS).close()
        assert names(folder) == [name]

    @pytest.mark.parametrize("digest", ["", "abc", "../" * 8, "g" * 64, "AB" * 32])
    def test_what_is_no_digest_is_refused(self, folder: Path, digest: str) -> None:
        store = Store(folder)
        with pytest.raises(ValueError, match="Invalid sha256"):
            store.find(digest, SIZE, SETTINGS)
        with pytest.raises(ValueError, match="Invalid settings"):
            store.journal(SHA, SIZE, digest)
        with pytest.raises(ValueError, match="Invalid size_bytes"):
            store.journal(SHA, -1, SETTINGS)

    def test_limits_are_not_negative(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="Invalid limits"):
            Store(folder, max_bytes=-1)
        with pytest.raises(ValueError, match="Invalid limits"):
            Store(folder, max_age_days=-1)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_altered_or_cut_it_is_never_another(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "scans"
            store = Store(folder)
            store.keep(film(length=3), SETTINGS)
            path = only(folder)
            path.write_bytes(damaged(path.read_bytes(), data))
            assert store.find(SHA, SIZE, SETTINGS) in (None, film(length=3))


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """The content with one byte altered, cut short, or with a stretch missing."""
    position = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "hole"]))
    if kind == "cut":
        return content[:position]
    if kind == "hole":
        return content[:position] + content[position + data.draw(st.integers(1, 200)) :]
    return content[:position] + bytes([content[position] ^ data.draw(st.integers(1, 255))]) + content[position + 1 :]


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
        start = time.perf_counter()
        assert len(recovered(folder)) == 100_000
        assert time.perf_counter() - start < 2  # measured: 0.5

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
            file.write(store_module._line(last, row)[0])
        assert recovered(folder) == {"0": piece(0), "1": piece(1)}


CHILD = """
    import sys
    from pathlib import Path
    from tests.test_store import SETTINGS, SHA, SIZE, piece
    from vidmod.store import Store
    journal = Store(Path(sys.argv[1])).journal(SHA, SIZE, SETTINGS)
    assert journal.recording
    for number in range(len(journal.pieces), 1_000_000):
        journal.record(str(number), piece(number))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True, cwd=root
    )


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
            from tests.test_store import SETTINGS, SHA, SIZE
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
            from tests.test_store import SETTINGS, SHA, SIZE, film, piece
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


class TestPruning:
    def test_what_is_too_old_is_neither_found_nor_kept(self, folder: Path) -> None:
        store = Store(folder, max_age_days=10)
        store.keep(film(), SETTINGS)
        set_age(only(folder), 9.9)
        assert store.find(SHA, SIZE, SETTINGS) == film()
        set_age(only(folder), 10.1)
        assert store.find(SHA, SIZE, SETTINGS) is None
        assert names(folder) == []
        store.keep(film(), SETTINGS)
        set_age(only(folder), 10.1)
        store.keep(film(OTHER_SHA), SETTINGS)
        assert store.find(OTHER_SHA, SIZE, SETTINGS) is not None
        assert len(names(folder)) == 1

    def test_an_old_journal_is_started_over(self, folder: Path) -> None:
        record(folder, range(3))
        set_age(only(folder), 91)
        assert recovered(folder) == {}

    def test_the_oldest_go_first(self, folder: Path) -> None:
        Store(folder).keep(film(), SETTINGS)
        size = only(folder).stat().st_size
        only(folder).unlink()
        store = Store(folder, max_bytes=4 * size)
        for number in range(8):
            sha256 = f"{number}" * 64
            store.keep(film(sha256), SETTINGS)
            set_age(folder / f"{SIZE}-{sha256[:16]}-{SETTINGS[:16]}.timeline.json", 8 - number)
            assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * size
        kept = [number for number in range(8) if store.find(f"{number}" * 64, SIZE, SETTINGS) is not None]
        assert kept == [4, 5, 6, 7]
        assert store.trouble is None

    def test_a_locked_journal_is_never_pruned(self, folder: Path) -> None:
        store = Store(folder)
        journal = store.journal(SHA, SIZE, SETTINGS)
        journal.record("a", {"x": "y" * 5000})
        set_age(only(folder), 1000)
        Store(folder, max_bytes=5500).keep(film(OTHER_SHA, length=1), SETTINGS)
        assert any(name.endswith(".journal") for name in names(folder))
        journal.record("b", {})
        journal.close()
        assert set(recovered(folder)) == {"a", "b"}

    def test_a_timeline_above_the_limit_is_not_stored(self, folder: Path) -> None:
        store = Store(folder, max_bytes=500)
        store.keep(film(), SETTINGS)
        assert names(folder) == []
        assert "above the limit" in str(store.trouble)

    def test_a_journal_stops_at_the_limit(self, folder: Path) -> None:
        store = Store(folder, max_bytes=2000)
        with store.journal(SHA, SIZE, SETTINGS) as journal:
            for number in range(100):
                journal.record(str(number), {"number": number})
            assert not journal.recording
        assert only(folder).stat().st_size <= 2000
        assert "limit" in str(store.trouble)
        pieces = recovered(folder)
        assert pieces == {str(number): {"number": number} for number in range(len(pieces))}
        assert len(pieces) > 20

    def test_what_a_killed_writer_left_is_removed(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        left = folder / f".{only(folder).name}.{'0' * 16}.part"
        left.touch(mode=0o600)
        store.keep(film(), SETTINGS)
        assert left.exists()
        set_age(left, 0.1)
        store.keep(film(), SETTINGS)
        assert not left.exists()

    def test_files_from_the_future_have_no_age_but_make_room_first(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        size = only(folder).stat().st_size
        set_age(only(folder), -3000)
        store.keep(film(OTHER_SHA), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film()
        small = Store(folder, max_bytes=5 * size // 2)
        small.keep(film("ef" * 32), SETTINGS)
        assert small.find(SHA, SIZE, SETTINGS) is None
        assert small.find(OTHER_SHA, SIZE, SETTINGS) is not None
        assert small.find("ef" * 32, SIZE, SETTINGS) is not None

    def test_a_clock_that_goes_backward_loses_nothing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        record(folder, range(3))
        monkeypatch.setattr(time, "time", lambda: 0.0)
        store.keep(film(OTHER_SHA), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film()
        assert len(recovered(folder)) == 3

    @pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_age_days": 0}])
    def test_zero_switches_everything_off(self, folder: Path, limits: dict[str, int]) -> None:
        Store(folder).keep(film(), SETTINGS)
        record(folder, range(3))
        before = names(folder)
        store = Store(folder, **limits)
        assert not store.knows_size(SIZE)
        assert store.find(SHA, SIZE, SETTINGS) is None
        store.keep(film(), OTHER_SETTINGS)
        with store.journal(SHA, SIZE, SETTINGS) as journal:
            journal.record("a", {})
            assert journal.pieces == {}
        assert names(folder) == before
        assert store.trouble is None


class TestTrust:
    def test_only_the_user_can_read_it(self, folder: Path) -> None:
        mask = os.umask(0)
        try:
            Store(folder).keep(film(), SETTINGS)
            record(folder, range(1))
        finally:
            os.umask(mask)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}

    @pytest.mark.parametrize("mode", [0o660, 0o602, 0o666])
    def test_a_file_that_others_may_write_is_not_believed(self, folder: Path, mode: int) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        only(folder).chmod(mode)
        assert store.find(SHA, SIZE, SETTINGS) is None
        record(folder, range(3))
        only(folder).chmod(mode)
        assert recovered(folder) == {}
        record(folder, range(3))
        assert stat.S_IMODE(only(folder).stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
    def test_a_folder_that_others_may_write_is_not_believed(self, folder: Path, mode: int) -> None:
        Store(folder).keep(film(), SETTINGS)
        record(folder, range(3))
        before = names(folder)
        folder.chmod(mode)
        store = Store(folder)
        assert store.find(SHA, SIZE, SETTINGS) is None
        assert "others may write to it" in str(store.trouble)
        assert not store.knows_size(SIZE)
        store.keep(film(), OTHER_SETTINGS)
        with store.journal(SHA, SIZE, SETTINGS) as journal:
            assert journal.pieces == {}
            assert not journal.recording
        assert names(folder) == before

    def test_what_another_user_owns_is_not_believed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Store(folder).keep(film(), SETTINGS)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        store = Store(folder)
        assert store.find(SHA, SIZE, SETTINGS) is None
        assert "another user" in str(store.trouble)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_a_file_that_another_user_owns_is_not_believed(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        os.chown(only(folder), 65534, 65534)
        assert store.find(SHA, SIZE, SETTINGS) is None
        assert names(folder) == []
        record(folder, range(3))
        os.chown(only(folder), 65534, 65534)
        assert recovered(folder) == {}

    def test_links_are_not_followed(self, folder: Path, tmp_path: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        path, elsewhere = only(folder), tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        assert store.find(SHA, SIZE, SETTINGS) is None
        record(folder, range(3))
        journal = only(folder)
        for link in (journal.symlink_to, journal.hardlink_to):
            journal.unlink()
            before = elsewhere.read_bytes()
            link(elsewhere)
            assert recovered(folder) == {}
            record(folder, range(3))
            assert elsewhere.read_bytes() == before
            assert len(recovered(folder)) == 3

    def test_a_folder_that_is_a_link_is_not_believed(self, folder: Path, tmp_path: Path) -> None:
        real = tmp_path / "real"
        Store(real).keep(film(), SETTINGS)
        folder.parent.mkdir()
        folder.symlink_to(real)
        store = Store(folder)
        assert store.find(SHA, SIZE, SETTINGS) is None
        store.keep(film(), OTHER_SETTINGS)
        assert len(names(real)) == 1
        assert store.trouble is not None

    def test_a_pipe_or_folder_in_place_of_a_file_hangs_nothing(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        path = only(folder)
        path.unlink()
        os.mkfifo(path, 0o600)
        assert store.find(SHA, SIZE, SETTINGS) is None
        os.mkfifo(path.with_name(path.name.replace("timeline.json", "journal")), 0o600)
        assert recovered(folder) == {}
        assert store.trouble is None
        path.mkdir()
        assert store.find(SHA, SIZE, SETTINGS) is None
        store.keep(film(), SETTINGS)
        assert store.trouble is not None


class TestTrouble:
    def test_a_folder_deleted_midway_costs_what_was_in_it(self, folder: Path) -> None:
        store = Store(folder)
        store.keep(film(), SETTINGS)
        journal = store.journal(SHA, SIZE, SETTINGS)
        journal.record("a", {})
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        journal.record("b", {})
        assert not store.knows_size(SIZE)
        assert store.find(SHA, SIZE, SETTINGS) is None
        store.keep(film(), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film()
        journal.finish()
        assert store.trouble is None

    def test_a_read_only_folder_is_read(self, rightless: Path) -> None:
        Store(rightless).keep(film(), SETTINGS)
        rightless.chmod(0o500)
        try:
            store = Store(rightless)
            assert store.knows_size(SIZE)
            assert store.find(SHA, SIZE, SETTINGS) == film()
            assert store.trouble is None
            store.keep(film(OTHER_SHA), SETTINGS)
            assert "Permission denied" in str(store.trouble)
            with store.journal(SHA, SIZE, SETTINGS) as journal:
                journal.record("a", {})
                assert not journal.recording
        finally:
            rightless.chmod(0o700)

    def test_a_folder_that_cannot_be_made(self, rightless: Path) -> None:
        rightless.parent.chmod(0o500)
        store = Store(rightless)
        store.keep(film(), SETTINGS)
        assert "Permission denied" in str(store.trouble)
        assert not store.journal(SHA, SIZE, SETTINGS).recording
        rightless.parent.chmod(0o700)

    def test_a_file_where_the_folder_should_be(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True)
        folder.write_text("")
        store = Store(folder)
        assert store.find(SHA, SIZE, SETTINGS) is None
        store.keep(film(), SETTINGS)
        assert not store.journal(SHA, SIZE, SETTINGS).recording
        assert not Store(folder / "deeper").journal(SHA, SIZE, SETTINGS).recording
        assert str(folder) in str(store.trouble)

    def test_the_first_trouble_is_told(self, folder: Path) -> None:
        store = Store(folder)
        store.note(OSError(errno.ENOSPC, "No space left on device"))
        store.note(OSError(errno.EIO, "Input/output error"))
        assert "No space left" in str(store.trouble)
        assert "Input/output" not in str(store.trouble)

    def test_a_file_system_without_locks(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        store = Store(folder)
        store.keep(film(), SETTINGS)
        assert store.find(SHA, SIZE, SETTINGS) == film()
        with store.journal(SHA, SIZE, SETTINGS) as journal:
            assert not journal.recording
        assert "No locks" in str(store.trouble)

    def test_a_full_disk_costs_no_whole_piece(self, folder: Path) -> None:
        # A limit on the size of files cuts a write in the middle, as a full disk does.
        code = """
            import resource, sys
            from pathlib import Path
            from tests.test_store import SETTINGS, SHA, SIZE, film, piece
            from vidmod.store import Store
            store = Store(Path(sys.argv[1]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            journal = store.journal(SHA, SIZE, SETTINGS)
            last = -1
            for number in range(1000):
                journal.record(str(number), piece(number))
                last = number if journal.recording else last
            journal.close()
            print(last)
            print(store.trouble)
            store.keep(film(length=1000), SETTINGS)
            print(store.find(SHA, SIZE, SETTINGS))
        """
        with python(code, str(folder)) as child:
            last, trouble, found = child.communicate()[0].splitlines()
        assert child.returncode == 0
        assert int(last) > 10
        assert "File too large" in trouble
        assert found == "None"
        assert [name.rpartition(".")[2] for name in names(folder)] == ["journal"]
        assert only(folder).read_bytes().endswith(b"\n")
        assert recovered(folder) == {str(number): piece(number) for number in range(int(last) + 1)}

    def test_no_room_for_the_first_line(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", refuse)
        store = Store(folder)
        with store.journal(SHA, SIZE, SETTINGS) as journal:
            journal.record("a", {})
            assert not journal.recording
        assert "No space left" in str(store.trouble)
        monkeypatch.undo()
        record(folder, range(2))
        assert len(recovered(folder)) == 2

    def test_no_descriptor_is_left_open(self, folder: Path) -> None:
        def opened() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        before = opened()
        record(folder, range(3))
        store = Store(folder)
        journal = store.journal(SHA, SIZE, SETTINGS)
        assert isinstance(journal, Journal)
        store.journal(SHA, SIZE, SETTINGS).close()
        store.keep(film(), SETTINGS)
        store.find(SHA, SIZE, SETTINGS)
        store.knows_size(SIZE)
        journal.finish()
        assert opened() == before
