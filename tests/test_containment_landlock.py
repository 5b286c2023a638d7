"""What Landlock refuses to a worker, by its effect."""
# The calls of the system are the subject here, not paths.
# ruff: noqa: PTH102, PTH104, PTH108, PTH208, PTH211

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.enclosed import Body, Needs, landlock_version, outcome, worker
from vidmod.containment import Grants, landlock

# linux/random.h: how much entropy the kernel has; only a device answers.
RNDGETENTCNT = 0x80045200


def touches_files(folder: str, version: int | None) -> Body:
    open_before = os.open(f"{folder}/there", os.O_RDONLY)
    yield (open_before,)
    # By itself where a version is given, on top of no layer.
    if version is not None:
        landlock.enforce_landlock(version)
    return {
        "read": outcome(lambda: os.close(os.open(f"{folder}/there", os.O_RDONLY))),
        "write": outcome(lambda: os.close(os.open(f"{folder}/there", os.O_WRONLY))),
        "list": outcome(lambda: len(os.listdir(folder)) and None),
        "make": outcome(lambda: os.close(os.open(f"{folder}/new", os.O_WRONLY | os.O_CREAT))),
        "folder": outcome(lambda: os.mkdir(f"{folder}/sub")),
        "remove": outcome(lambda: os.unlink(f"{folder}/other")),
        "rename": outcome(lambda: os.rename(f"{folder}/third", f"{folder}/fourth")),
        "execute": outcome(lambda: spawn_and_wait("/bin/true")),
        "inherited": os.pread(open_before, 5, 0).decode(),
    }


def spawn_and_wait(path: str) -> None:
    os.waitpid(os.posix_spawn(path, [path], {}), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("there", "other", "third"):
        (tmp_path / name).write_text("bytes")
    return tmp_path


# Landlock refuses by EACCES, seccomp by EPERM: each is seen to work where the other is not.
@pytest.mark.parametrize(("layer", "error"), [("landlock", "EACCES"), ("seccomp", "EPERM")])
def test_files_are_out_of_reach(layer: str, error: str, folder: Path, needs: Needs) -> None:
    needs(layer)
    refused = worker(touches_files, str(folder), None, only=(layer,)).value
    assert refused.pop("inherited") == "bytes"
    assert set(refused.values()) == {error}
    assert sorted(path.name for path in folder.iterdir()) == ["other", "there", "third"]
    done = worker(touches_files, str(folder), None, only=()).value
    assert done.pop("inherited") == "bytes"
    assert set(done.values()) == {None}
    assert sorted(path.name for path in folder.iterdir()) == ["fourth", "new", "sub", "there"]


@pytest.mark.parametrize("version", range(1, 10))
def test_every_version_of_landlock(version: int, folder: Path, needs: Needs) -> None:
    needs("landlock")
    if version > landlock_version():
        pytest.skip(f"this kernel has version {landlock_version()}")
    refused = worker(touches_files, str(folder), version, only=()).value
    assert refused.pop("inherited") == "bytes"
    assert set(refused.values()) == {"EACCES"}


def uses_grants(folder: str, version: int | None) -> Body:
    yield ()
    if version is not None:
        paths = {name: Path(folder, name) for name in ("seen", "kept", "there", "nowhere")}
        landlock.enforce_landlock(
            version,
            Grants(readable=(paths["seen"], paths["there"], paths["nowhere"]), writable=(paths["kept"],)),
        )

    def tried(action: Callable[..., object], *names: str) -> list[Any]:
        return [outcome(partial(action, f"{folder}/{name}")) for name in names]

    return {
        "reads": tried(lambda path: os.close(os.open(path, os.O_RDONLY)), "there", "seen/file", "kept/file", "other"),
        "lists": tried(lambda path: len(os.listdir(path)) and None, "seen", "kept", "."),
        "changes": tried(lambda path: os.close(os.open(path, os.O_WRONLY)), "kept/file", "there", "seen/file", "other"),
        "makes": tried(lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)), "kept/new", "seen/new", "new"),
        "removes": tried(os.unlink, "kept/file", "seen/file", "there"),
        "renames": outcome(lambda: os.rename(f"{folder}/kept/new", f"{folder}/kept/newer")),
        "links": outcome(lambda: os.symlink("/etc/passwd", f"{folder}/kept/link")),
        "pipes": outcome(lambda: os.mkfifo(f"{folder}/kept/pipe")),
        "executes": outcome(lambda: spawn_and_wait(f"{folder}/kept/true")),
    }


@pytest.mark.parametrize("version", range(1, 10))
def test_what_is_granted_can_be_used_and_nothing_else(version: int, folder: Path, needs: Needs) -> None:
    needs("landlock")
    if version > landlock_version():
        pytest.skip(f"this kernel has version {landlock_version()}")
    for name in ("seen", "kept"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    shutil.copy("/bin/true", folder / "kept" / "true")
    assert worker(uses_grants, str(folder), version, only=()).value == {
        "reads": [None, None, None, "EACCES"],
        "lists": [None, None, "EACCES"],
        "changes": [None, "EACCES", "EACCES", "EACCES"],
        "makes": [None, "EACCES", "EACCES"],
        "removes": [None, "EACCES", "EACCES"],
        "renames": None,
        "links": "EACCES",
        "pipes": "EACCES",
        "executes": "EACCES",
    }


def uses_devices(folder: str, version: int) -> Body:
    yield ()
    landlock.enforce_landlock(
        version, Grants(devices=(Path("/dev/urandom"), Path(folder, "file"), Path("/dev/nowhere")))
    )

    def entropy(path: str, flags: int) -> None:
        device = os.open(path, flags)
        try:
            fcntl.ioctl(device, RNDGETENTCNT, bytes(4))
        finally:
            os.close(device)

    def opens(path: str, flags: int) -> Any:
        return outcome(lambda: os.close(os.open(path, flags)))

    return {
        "commands": outcome(partial(entropy, "/dev/urandom", os.O_RDWR)),
        "another": [opens(path, os.O_RDONLY) for path in ("/dev/random", f"{folder}/other", folder)],
        "cuts": opens(f"{folder}/file", os.O_RDWR | os.O_TRUNC),
        "makes": opens(f"{folder}/new", os.O_RDWR | os.O_CREAT),
    }


@pytest.mark.parametrize("version", range(3, 10))
def test_a_device_that_is_granted_can_be_commanded_and_no_other_opened(
    version: int, folder: Path, needs: Needs
) -> None:
    needs("landlock")
    if version > landlock_version():
        pytest.skip(f"this kernel has version {landlock_version()}")
    for name in ("file", "other"):
        (folder / name).touch()
    assert worker(uses_devices, str(folder), version, only=()).value == {
        "commands": None,
        "another": ["EACCES"] * 3,
        "cuts": "EACCES",
        "makes": "EACCES",
    }


def test_a_version_asks_only_for_what_it_knows() -> None:
    assert [landlock.rights(version) for version in (*range(1, 10), 30)] == [
        (0x1FFF, 0, 0),
        (0x3FFF, 0, 0),
        (0x7FFF, 0, 0),
        (0x7FFF, 3, 0),
        (0xFFFF, 3, 0),
        (0xFFFF, 3, 3),
        (0xFFFF, 3, 3),
        (0xFFFF, 3, 3),
        (0x1FFFF, 3, 3),
        (0x1FFFF, 3, 3),
    ]


def reaches_for_others(name: str, claimed: int) -> Body:
    other = os.getppid()
    yield ()
    if claimed:
        landlock.enforce_landlock(claimed)

    def call() -> None:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(f"\0{name}")

    return [outcome(lambda: os.kill(other, 0)), outcome(call)]


# A kernel that claims a later version than it has gets what it does have: here, one from the future.
@pytest.mark.parametrize("claimed", [0, 9])
def test_no_signal_and_no_abstract_socket_leaves_landlock(claimed: int, needs: Needs) -> None:
    needs("landlock")
    if landlock_version() < 6:
        pytest.skip("this Landlock scopes nothing")
    name = f"vidmod-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        only = () if claimed else ("landlock",)
        assert worker(reaches_for_others, name, claimed, only=only).value == ["EPERM", "EPERM"]
        assert worker(reaches_for_others, name, 0, only=()).value == [None, None]
