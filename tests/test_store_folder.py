from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from tests.stored import OTHER_SETTINGS, OTHER_SHA, SETTINGS, SHA, SIZE, film, names, only, record, recovered, set_age
from vidmod.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "scans"


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
