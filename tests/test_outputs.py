"""Files written aside: what is left when that is killed, interrupted or refused at any step."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vidmod import outputs
from vidmod.errors import OutputError
from vidmod.outputs import Aside, write_whole

# Everything by which an output changes what a disk holds.
STEPS = ("fsync", "fchmod", "link", "rename", "replace", "unlink")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.iterdir())}


def visible(folder: Path) -> dict[str, str]:
    return {name: text for name, text in contents(folder).items() if not name.startswith(".")}


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """With and without files that have no name."""
    if request.param == "named":
        monkeypatch.setattr(Aside, "_make_nameless", lambda self: False)
    elif not has_nameless(tmp_path):
        pytest.skip("the file system of the temporary folder has no O_TMPFILE")
    return str(request.param)


def has_nameless(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        return False
    return True


class TestOne:
    def test_it_appears_when_it_is_whole(self, tmp_path: Path, way: str) -> None:
        path = tmp_path / "out.txt"
        with Aside(path) as aside:
            aside.write(["half"])
            names = [item.name for item in tmp_path.iterdir()]
            assert len(names) == (way == "named")
            assert not any(name == "out.txt" for name in names)
            assert aside.path.read_text("utf-8") == "half"
            aside.empty()
            os.pwrite(aside.descriptor, b"whole", 0)
            assert aside.facts()["size_bytes"] == 5
            assert os.read(aside.descriptor_for_reading(), 10) == b"whole"
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(aside.descriptor_for_reading(), b"x")
            aside.finish()
        assert contents(tmp_path) == {"out.txt": "whole"}

    def test_an_error_leaves_nothing(self, tmp_path: Path, way: str) -> None:
        with pytest.raises(ZeroDivisionError), Aside(tmp_path / "out.txt") as aside:
            aside.write([str(1 // 0)])
        assert contents(tmp_path) == {}

    def test_permissions_are_the_old_ones_or_the_users(self, tmp_path: Path, way: str) -> None:
        before = os.umask(0o027)
        try:
            write_whole(tmp_path / "new", ["x"])
        finally:
            os.umask(before)
        (tmp_path / "old").touch(0o600)
        write_whole(tmp_path / "old", ["x"])
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
        assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o600

    def test_what_is_being_written_is_private(self, tmp_path: Path, way: str) -> None:
        with Aside(tmp_path / "out.txt") as aside:
            assert stat.S_IMODE(os.fstat(aside.descriptor).st_mode) == 0o600

    @pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "x" * 230])
    def test_the_longest_names(self, tmp_path: Path, way: str, name: str) -> None:
        write_whole(tmp_path / name, ["x"])
        assert contents(tmp_path) == {name: "x"}

    def test_a_name_that_is_too_long(self, tmp_path: Path, way: str) -> None:
        with pytest.raises(OutputError, match="Choose a shorter name"):
            write_whole(tmp_path / ("x" * 256), ["x"])

    def test_where_files_without_names_cannot_get_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        with Aside(tmp_path / "out.txt") as aside:
            assert len(contents(tmp_path)) == 1
            aside.write(["whole"])
            aside.finish()
        assert contents(tmp_path) == {"out.txt": "whole"}

    def test_the_folder_is_synced_after_the_renaming(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        real_sync, real_replace = os.fsync, os.replace

        def sync(descriptor: int) -> None:
            done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            real_sync(descriptor)

        def replace(*args: Any, **options: Any) -> None:
            done.append("renamed")
            real_replace(*args, **options)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(os, "replace", replace)
        write_whole(tmp_path / "out.txt", ["x"])
        assert done == ["file", "renamed", "folder"]

    def test_what_is_no_file_any_more_is_not_replaced(self, tmp_path: Path, way: str) -> None:
        path = tmp_path / "out"

        def parts() -> Iterator[str]:
            os.mkfifo(path)
            yield "x"

        with pytest.raises(OutputError, match="no file any more"):
            write_whole(path, parts())
        assert path.is_fifo()

    def test_a_folder_that_goes(self, tmp_path: Path, way: str) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()

        def parts() -> Iterator[str]:
            shutil.rmtree(folder)
            yield "x"

        with pytest.raises(OutputError, match="No such file"):
            write_whole(folder / "out", parts())
        assert not folder.exists()


class TestLinks:
    def test_a_link_stays_and_what_it_leads_to_is_replaced(self, tmp_path: Path, way: str) -> None:
        (tmp_path / "real").mkdir()
        target, link = tmp_path / "real" / "out.txt", tmp_path / "link.txt"
        link.symlink_to("real/out.txt")
        for text in ("new", "newer"):
            write_whole(link, [text])
            assert link.is_symlink()
            assert contents(target.parent) == {"out.txt": text}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link.txt", "real"]

    def test_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "one").symlink_to("two")
        (tmp_path / "two").symlink_to("one")
        with pytest.raises(OutputError, match="Too many levels"):
            write_whole(tmp_path / "one", ["x"])
        assert (tmp_path / "one").is_symlink()

    def test_other_names_of_the_old_file_keep_it(self, tmp_path: Path, way: str) -> None:
        (tmp_path / "out").write_text("before", "utf-8")
        os.link(tmp_path / "out", tmp_path / "other")
        write_whole(tmp_path / "out", ["after"])
        assert contents(tmp_path) == {"other": "before", "out": "after"}


def killed_while_writing(folder: Path, *, named: bool) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from vidmod.outputs import Aside\n"
        "if sys.argv[2] == 'named':\n"
        "    Aside._make_nameless = lambda self: False\n"
        "with Aside(Path(sys.argv[1], 'out.txt')) as aside:\n"
        "    aside.write(['half'])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(folder), "named" if named else ""]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


class TestWhatAKillLeaves:
    def test_nothing_where_files_need_no_name(self, tmp_path: Path) -> None:
        if not has_nameless(tmp_path):
            pytest.skip("the file system of the temporary folder has no O_TMPFILE")
        killed_while_writing(tmp_path, named=False)
        assert contents(tmp_path) == {}

    def test_elsewhere_the_next_one_removes_it(self, tmp_path: Path, way: str) -> None:
        killed_while_writing(tmp_path, named=True)
        (name,) = contents(tmp_path)
        assert name.startswith(".out.txt.")
        write_whole(tmp_path / "other.txt", ["x"])
        assert name in contents(tmp_path)
        write_whole(tmp_path / "out.txt", ["x"])
        assert contents(tmp_path) == {"other.txt": "x", "out.txt": "x"}

    def test_what_is_in_use_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Aside, "_make_nameless", lambda self: False)
        with Aside(tmp_path / "out.txt") as first:
            first.write(["first"])
            with Aside(tmp_path / "out.txt") as second:
                second.write(["second"])
                assert len(contents(tmp_path)) == 2
                second.finish()
            first.finish()
        assert contents(tmp_path) == {"out.txt": "first"}

    def test_what_another_process_took_for_abandoned_is_made_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Aside, "_make_nameless", lambda self: False)
        real = fcntl.flock
        taken: list[Path] = []

        def lock(descriptor: int, how: int) -> None:
            real(descriptor, how)
            if not taken:
                taken.extend(tmp_path.iterdir())
                taken[0].unlink()

        monkeypatch.setattr(fcntl, "flock", lock)
        write_whole(tmp_path / "out.txt", ["x"])
        assert taken
        assert contents(tmp_path) == {"out.txt": "x"}

    def test_what_only_looks_like_it_stays(self, tmp_path: Path, way: str) -> None:
        digits = "0123456789abcdef"
        target = tmp_path / "target"
        target.write_text("mine", "utf-8")
        (tmp_path / f".out.txt.{digits}.part").symlink_to(target)
        (tmp_path / f".out.txt.{digits[::-1]}.part").mkdir()
        for name in (f".out.txt.{digits}.part.mp4", f".out.txt.{digits[:8]}.part", f"out.txt.{digits}.part"):
            (tmp_path / name).touch()
        before = sorted(path.name for path in tmp_path.iterdir())
        write_whole(tmp_path / "out.txt", ["x"])
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "out.txt"])
        assert target.read_text("utf-8") == "mine"


# An output and the document about it -----------------------------------------------------------------------


OLD = {"out": "old", "out.doc": "of old"}
NEW = {"out": "new", "out.doc": "of new"}
BARE_OLD, BARE_NEW = {"out": "old"}, {"out": "new"}


def write_both(folder: Path, text: str = "new") -> None:
    with Aside(folder / "out") as output, Aside(folder / "out.doc") as document:
        output.write([text])
        document.write([f"of {text}"])
        output.finish_with(document)


@pytest.fixture(params=["old", "empty"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """With what is there before, if anything."""
    folder = tmp_path / "folder"
    folder.mkdir()
    fill(folder, OLD if request.param == "old" else {})
    return folder


def fill(folder: Path, files: dict[str, str]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")


class Interfering:
    """A context manager in which something happens before or after one of the steps; counts them."""

    def __init__(self, act: Callable[[], object], at: int, *, after: bool) -> None:
        self.count = 0
        self._act, self._at, self._after = act, at, after
        self._patching = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        for name in STEPS:
            self._patching.setattr(os, name, self._step(getattr(os, name)))

    def __exit__(self, *_: object) -> None:
        self._patching.undo()

    def _step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            number = self.count
            if number == self._at and not self._after:
                self._act()
            try:
                return real(*args, **options)
            finally:
                if number == self._at and self._after:
                    self._act()

        return step


def attempts(act: Callable[[], object], *, after: bool) -> Iterator[Interfering]:
    """Interfere at the first step, the second, and so on, until there are no more."""
    for at in range(1, 100):
        interfering = Interfering(act, at, after=after)
        yield interfering
        if interfering.count < at:
            assert at > 10, "there are more steps than that"
            return
    raise AssertionError("It has no end.")


def kill_at_every_step(folder: str, way: str, when: str) -> None:
    """Print what is left beside hidden files each time."""
    path, states = Path(folder), []
    before = contents(path)
    if way == "named":
        pytest.MonkeyPatch().setattr(Aside, "_make_nameless", lambda self: False)
    for at in range(1, 100):
        fill(path, before)
        if not (pid := os.fork()):
            with Interfering(lambda: os.kill(os.getpid(), signal.SIGKILL), at, after=when == "after"):
                write_both(path)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        states.append(visible(path))
        write_both(path)
        assert contents(path) == NEW, "what is left goes with the next one"
        if not killed:
            break
    print(json.dumps(states))


class TestTwo:
    def test_both_appear(self, folder: Path, way: str) -> None:
        write_both(folder)
        assert contents(folder) == NEW

    @pytest.mark.parametrize("after", [False, True])
    def test_killed_at_any_step(self, folder: Path, way: str, *, after: bool) -> None:
        before = contents(folder)
        code = "import sys, tests.test_outputs as tests; tests.kill_at_every_step(*sys.argv[1:])"
        # In a process of its own, which has no threads and can be forked.
        command = [sys.executable, "-c", code, str(folder), way, "after" if after else "before"]
        result = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        states = json.loads(result.stdout)
        for left in states:
            assert left in (before, BARE_OLD if before else {}, BARE_NEW, NEW)
        for state in (before, BARE_NEW, NEW):
            assert state in states

    @pytest.mark.parametrize("after", [False, True])
    def test_interrupted_at_any_step(self, folder: Path, way: str, *, after: bool) -> None:
        before = contents(folder)

        def interrupt() -> None:
            raise KeyboardInterrupt

        for interfering in attempts(interrupt, after=after):
            fill(folder, before)
            try:
                with interfering:
                    write_both(folder)
            except KeyboardInterrupt:
                assert contents(folder) in (before, BARE_OLD if before else {}, BARE_NEW, NEW)
            else:
                assert contents(folder) == NEW

    def test_refused_at_any_step(self, folder: Path, way: str) -> None:
        before = contents(folder)
        strays = 0

        def refuse() -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        said = set()
        for interfering in attempts(refuse, after=False):
            fill(folder, before)
            message, expected = "", NEW
            try:
                with interfering:
                    write_both(folder)
            except OutputError as exc:
                message = str(exc).removeprefix(f"{folder}/")
                said.add(message)
                expected = BARE_NEW if "says what was done" in message else before
            assert visible(folder) == expected, message
            strays += visible(folder) != contents(folder)
        assert strays <= 1, "only what could not be removed may stay"
        assert said == {
            "out: cannot be written (Read-only file system). What was there before is untouched.",
            "out.doc: cannot be written (Read-only file system). What was there before is untouched.",
            f"out.doc: cannot be written (Read-only file system). {folder}/out is whole, but nothing says what was "
            "done to it.",
        }

    def test_two_at_a_time(self, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = outputs._sync_names

        def slowly(folder: int) -> None:
            real(folder)
            threading.Event().wait(0.001)

        monkeypatch.setattr(outputs, "_sync_names", slowly)
        for _ in range(20):
            threads = [threading.Thread(target=write_both, args=(tmp_path, text)) for text in ("one", "two")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            left = contents(tmp_path)
            assert left == {"out": left["out"], "out.doc": f"of {left['out']}"}


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "x.json", [json.dumps({"a": "ü"}), "\n"])
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"a": "ü"}
