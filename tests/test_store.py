from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
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
    film,
    names,
    only,
    piece,
    python,
    record,
    recovered,
    set_age,
)
from vidmod.store import Journal, Store
from vidmod.store import store as store_module
from vidmod.timeline import Timeline


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
            from tests.stored import SETTINGS, SHA, SIZE, film, piece
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
