"""Where engines are kept, so that only whole ones of this user are ever loaded.

A plan can hold code, and TensorRT runs what it is given. So a file is believed only if nobody else can have written
it: it and its folder belong to this user, nobody else may write to either, and neither is a link. All is checked of
what was opened, not of a name. Then its header has to hold, be of the wanted key in every field, and the hash of what
follows has to be right: a file that was cut, mixed up or changed is as if it were not there.

A file is `MAGIC`, the format and the length of the header (two 32-bit numbers, little-endian), the header (JSON), the
header's SHA-256, and what is kept. It is written aside in the same folder, synced, and renamed; whoever is killed
leaves a file whose name ends in `.part`, which the next one removes. Who makes a file holds a lock on its `.lock`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vidmod.errors import OutputError, RuntimeUnavailableError
from vidmod.models.engines.key import FORMAT, Key, canonical
from vidmod.models.weights import cache_folder

MAGIC = b"vidmod\x00\xe5"
State = Literal["whole", "damaged", "of another vidmod", "not yours"]
_PREFIX = struct.Struct("<8sII")
_HASH_BYTES = 32
_MAX_HEADER_BYTES = 1 << 16
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# O_NONBLOCK: a pipe that somebody put there must not hold us up.
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ROOM = "Nothing of it is left. Make room there, or set VIDMOD_CACHE to a folder elsewhere."
_KINDS = ("plan", "network", "timing")
_NAMED = re.compile(rf"([A-Za-z0-9_.-]+-[0-9a-f]+)\.({'|'.join(_KINDS)})")
_LOCK, _PART = ".lock", ".part"
# What opening a link, a pipe without a reader, a socket, or another user's file fails with.
_NO_FILE_OF_OURS = (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache, read and checked.

    Attributes:
        path: Where it is.
        state: Whether it can be believed.
        why: Why it cannot be.
        key: The document of its key, if its header holds.
        facts: What else is known of what is kept.
        size_bytes: Of the file.
        content: What is kept, if it is whole.
    """

    path: Path
    state: State
    why: str = ""
    key: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    size_bytes: int = 0
    content: bytes = b""


class Cache:
    """The folder.

    Args:
        path: By default `engines` in vidmod's cache folder; `VIDMOD_CACHE` puts it elsewhere.

    Raises:
        RuntimeUnavailableError: By any method: the folder is not this user's alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_folder() / "engines" if path is None else path

    def load(self, key: Key, label: str) -> Entry | None:
        """What is kept for a key, None if there is nothing whole.

        Args:
            label: Begins the file's name; the model's.

        Raises:
            RuntimeUnavailableError: There is something that another user has, or could have, written.
        """
        entry = self.look(key, label)
        if entry is not None and entry.state == "not yours":
            raise RuntimeUnavailableError(
                f"{entry.path}: {entry.why}. A TensorRT engine can hold code, so it is not loaded, and not replaced. "
                "Find out who put it there; to remove it, run: vidmod engines prune"
            )
        if entry is None or entry.state != "whole" or entry.key is None:
            return None
        return entry if canonical(entry.key) == key.canonical else None

    def look(self, key: Key, label: str) -> Entry | None:
        """The file for a key, whatever state it is in; None if there is none."""
        with self._opened() as folder:
            return None if folder is None else self._entry(folder, file_name(key, label))

    def entries(self) -> list[Entry]:
        """All that is kept, by name; without the content."""
        with self._opened() as folder:
            names = [] if folder is None else sorted(os.listdir(folder))  # noqa: PTH208 # of a descriptor
            found = (self._entry(folder, name) for name in names if folder is not None and _NAMED.fullmatch(name))
            return [replace(entry, content=b"") for entry in found if entry is not None]

    def store(self, key: Key, label: str, facts: dict[str, Any], content: bytes) -> Path:
        """Keep something, in place of what there was for the key.

        Raises:
            OutputError: It cannot be written; nothing of it is left, and what was there before is untouched.
        """
        header = canonical(
            {
                "content": _announced(content),
                "facts": facts,
                "key": key.document,
            }
        )
        prefix = _PREFIX.pack(MAGIC, FORMAT, len(header))
        name = file_name(key, label)
        with self._writing(name), self._made() as folder:
            _write_whole(folder, name, (prefix, header, hashlib.sha256(prefix + header).digest(), content))
        return self.path / name

    @contextlib.contextmanager
    def lock(self, key: Key, label: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only one, of all processes, who makes what is kept for a key.

        It ends with the process, however that ends. What killed ones have left of any file is removed.

        Args:
            waiting: Called if another process has it, before waiting for that.

        Raises:
            OutputError: The folder cannot be made or written.
        """
        name = file_name(key, label).rpartition(".")[0] + _LOCK
        with self._made() as folder:
            with self._writing(name):
                descriptor = _locked(folder, name, waiting)
            try:
                _remove_abandoned(folder, os.listdir(folder))  # noqa: PTH208 # of a descriptor
                yield
            finally:
                # Nobody can have it: whoever waits for it looks afterwards whether the name is still there.
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                os.close(descriptor)

    def prune(self, superfluous: Callable[[Entry], bool]) -> tuple[list[Path], int]:
        """Remove what is superfluous, and what killed processes have left.

        What another process is making stays.

        Returns:
            What was removed, and how many bytes that has freed.

        Raises:
            OutputError: Something cannot be removed.
        """
        removed, size = [], 0
        with self._opened() as folder:
            if folder is None:
                return [], 0
            names = sorted(os.listdir(folder))  # noqa: PTH208 # of a descriptor
            for name in filter(_NAMED.fullmatch, names):
                with self._writing(name, "removed", "Remove it by hand."):
                    freed = self._removed(folder, name, superfluous)
                if freed is not None:
                    removed.append(self.path / name)
                    size += freed
            for name, freed in _remove_abandoned(folder, names):
                removed.append(self.path / name)
                size += freed
        return removed, size

    def _removed(self, folder: int, name: str, superfluous: Callable[[Entry], bool]) -> int | None:
        """How many bytes that has freed, None if the file stays."""
        lock = _lock_if_free(folder, name.rpartition(".")[0] + _LOCK)
        if lock is None:
            return None
        try:
            # Looked at under the lock: before, another process may have put a whole one in its place.
            entry = self._entry(folder, name)
            if entry is None or not superfluous(entry):
                return None
            size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
            os.unlink(name, dir_fd=folder)
            return size
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name.rpartition(".")[0] + _LOCK, dir_fd=folder)
            os.close(lock)

    def _entry(self, folder: int, name: str) -> Entry | None:
        path = self.path / name
        try:
            descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as exc:
            # A link, a socket, or what another user keeps to himself.
            why = "is a link" if exc.errno == errno.ELOOP else f"cannot be opened ({exc.strerror})"
            return Entry(path, "not yours", why)
        try:
            status = os.fstat(descriptor)
            doubt = "is no file" if not stat.S_ISREG(status.st_mode) else _doubt(status)
            if doubt is not None:
                return Entry(path, "not yours", doubt)
            with open(descriptor, "rb", closefd=False) as file:
                return _parsed(path, file.read())
        except OSError as exc:
            return Entry(path, "damaged", f"cannot be read ({exc.strerror})")
        finally:
            os.close(descriptor)

    # The folder ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A descriptor of the folder, None if there is none."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        except OSError as exc:
            if not os.path.lexists(self.path):
                yield None
                return
            why = "is a link" if self.path.is_symlink() else f"cannot be opened ({exc.strerror})"
            raise self._refusal(why) from exc
        try:
            doubt = _doubt(os.fstat(descriptor))
            if doubt is not None:
                raise self._refusal(doubt)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _made(self) -> Iterator[int]:
        """A descriptor of the folder, which is made if there is none."""
        with self._writing(""):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=_PRIVATE_FOLDER)
        with self._opened() as folder:
            if folder is None:
                raise OutputError(f"{self.path}: has just been removed. Run the command again.")
            yield folder

    def _refusal(self, why: str) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(
            f"{self.path}: {why}. TensorRT engines can hold code, so nothing is loaded from there or written to it. "
            "Remove it, or set VIDMOD_CACHE to a folder of your own."
        )

    @contextlib.contextmanager
    def _writing(self, name: str, deed: str = "written", hint: str = _ROOM) -> Iterator[None]:
        """Say which file it was that could not be written."""
        try:
            yield
        except (OutputError, RuntimeUnavailableError):
            raise
        except OSError as exc:
            raise OutputError(f"{self.path / name}: cannot be {deed} ({exc.strerror}). {hint}") from exc


def file_name(key: Key, label: str) -> str:
    """What the file for a key is called."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', label)}-{key.digest}.{key.kind}"


def _doubt(status: os.stat_result) -> str | None:
    """Why somebody else can have written it, None if nobody can."""
    if status.st_uid != os.geteuid():
        return f"belongs to another user (uid {status.st_uid}, and you are {os.geteuid()})"
    if status.st_mode & _OTHERS_WRITE:
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _parsed(path: Path, data: bytes) -> Entry:
    """What a file says, if it holds."""
    entry = Entry(path, "damaged", size_bytes=len(data))
    try:
        magic, version, length = _PREFIX.unpack_from(data)
        end = _PREFIX.size + length
        if magic != MAGIC:
            return replace(entry, why="does not begin as one")
        if version != FORMAT:
            why = f"is of format {version}, and this vidmod writes {FORMAT}"
            return replace(entry, state="of another vidmod", why=why)
        if length > _MAX_HEADER_BYTES or hashlib.sha256(data[:end]).digest() != data[end : end + _HASH_BYTES]:
            return replace(entry, why="has a damaged header")
        entry, announced = _with_header(entry, data[_PREFIX.size : end])
    except (struct.error, ValueError, KeyError, TypeError, RecursionError):
        return replace(entry, why="is too short, or no such file")
    content = data[end + _HASH_BYTES :]
    if announced != _announced(content):
        return replace(entry, why="holds something else than its header says")
    return replace(entry, state="whole", content=content)


def _with_header(entry: Entry, text: bytes) -> tuple[Entry, Any]:
    """The entry with its key and facts, and what the header says of the content."""
    header = json.loads(text)
    if canonical(header) != text or not isinstance(header["key"], dict) or not isinstance(header["facts"], dict):
        raise ValueError("not what we write")
    return replace(entry, key=header["key"], facts=header["facts"]), header["content"]


def _announced(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


# Writing, and what was left by others ------------------------------------------------------------


def _write_whole(folder: int, name: str, parts: tuple[bytes, ...]) -> None:
    aside, descriptor = _made_aside(folder, name)
    try:
        try:
            for part in parts:
                _write_all(descriptor, part)
            os.fsync(descriptor)
            os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside, dir_fd=folder)
        raise
    # Some file systems cannot do that for a folder; the file is there all the same.
    with contextlib.suppress(OSError):
        os.fsync(folder)


def _made_aside(folder: int, name: str) -> tuple[str, int]:
    """A new file, locked: who finds one that is not knows that nobody writes it any more."""
    while True:
        aside = f".{name}.{secrets.token_hex(8)}{_PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
        descriptor = os.open(aside, flags, _PRIVATE_FILE, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            os.unlink(aside, dir_fd=folder)
            raise
        if _has_name(folder, aside, descriptor):
            return aside, descriptor
        # Another process took it for abandoned just before it was locked.
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _locked(folder: int, name: str, waiting: Callable[[], None]) -> int:
    """A descriptor of a lock file that this process holds."""
    told = False
    while True:
        descriptor = _opened_lock(folder, name)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    waiting()
                told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it has removed the file: then others lock a new one.
            if _has_name(folder, name, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock_if_free(folder: int, name: str) -> int | None:
    """A descriptor of a lock file that this process holds, None if another one does."""
    descriptor = _opened_lock(folder, name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _has_name(folder, name, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _opened_lock(folder: int, name: str) -> int:
    """A lock file. What is there and is none of ours goes first: nothing is kept in it."""
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | _SAFELY, _PRIVATE_FILE, dir_fd=folder)
        except OSError as exc:
            if exc.errno not in _NO_FILE_OF_OURS:
                raise
        else:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and _doubt(status) is None:
                return descriptor
            os.close(descriptor)
        os.unlink(name, dir_fd=folder)


def _remove_abandoned(folder: int, names: list[str]) -> list[tuple[str, int]]:
    """Remove what killed processes have left; the names and sizes. What cannot be removed stays."""
    removed = []
    for name in names:
        if not name.endswith((_PART, _LOCK)):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _has_name(folder, name, descriptor):
                    os.unlink(name, dir_fd=folder)
                    removed.append((name, os.fstat(descriptor).st_size))
            finally:
                os.close(descriptor)
    return removed


def _has_name(folder: int, name: str, descriptor: int) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))
