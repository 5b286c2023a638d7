"""A folder of files that are believed only if nobody else can have written them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidmod.store.form import is_ours

_DAY_SECONDS = 86_400
# Nobody takes an hour to write a timeline: what is older was left by a process that was killed.
_ORPHAN_SECONDS = 3600
# A journal can vanish between opening and locking it as often as others finish or prune it.
_LOCK_ATTEMPTS = 8
# O_NONBLOCK: a planted pipe must not hang a scan.
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a folder may hold.

    Attributes:
        max_bytes: Of all files together, 0 or more.
        max_age_days: Since a file was last written, 0 or more.

    Raises:
        ValueError: A bound is negative.
    """

    max_bytes: int
    max_age_days: int

    def __post_init__(self) -> None:
        if self.max_bytes < 0 or self.max_age_days < 0:
            raise ValueError(f"Invalid limits ({self.max_bytes} bytes, {self.max_age_days} days). Use 0 or more.")

    @property
    def allow_nothing(self) -> bool:
        """Whether nothing is read or stored."""
        return self.max_bytes == 0 or self.max_age_days == 0

    def is_too_old(self, age_seconds: float) -> bool:
        """Whether a file of this age is as if it were not there."""
        return age_seconds > self.max_age_days * _DAY_SECONDS

    def allow(self, status: os.stat_result) -> bool:
        """Whether a file is neither too large nor too old."""
        return status.st_size <= self.max_bytes and not self.is_too_old(time.time() - status.st_mtime)


class Folder:
    """An open folder. Whoever swaps a folder of its path later changes nothing.

    Args:
        descriptor: Stays the caller's.
        bounds: What it may hold.
    """

    def __init__(self, descriptor: int, bounds: Bounds) -> None:
        self._descriptor = descriptor
        self._bounds = bounds

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, bounds: Bounds, *, make: bool = False) -> Iterator[Folder]:
        """A folder to work in.

        Args:
            path: Where it is.
            bounds: What it may hold.
            make: Make it, with its parents, if it is not there.

        Raises:
            OSError: It is missing (without `make`), not to be believed, or cannot be made.
        """
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        try:
            if not _is_ours_alone(os.fstat(descriptor)):
                raise PermissionError(errno.EPERM, "the folder belongs to another user, or others may write to it")
            yield cls(descriptor, bounds)
        finally:
            os.close(descriptor)

    def names(self) -> list[str]:
        """What its files are called."""
        return os.listdir(self._descriptor)  # noqa: PTH208 # of a descriptor

    def read(self, name: str) -> bytes | None:
        """A file's bytes, None if it is not to be believed, too old or too large.

        Raises:
            OSError: It is not there, or cannot be read.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=self._descriptor)
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                return None
            raise
        with open(descriptor, "rb") as file:  # noqa: PTH123 # of a descriptor
            status = os.fstat(descriptor)
            return file.read() if _is_believed(status) and self._bounds.allow(status) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file that is there as a whole or not at all.

        Not `outputs.write_whole`: that goes by path and gives the file the permissions of the user's
        other files. Nor is it synced, for that would cost more than scanning a picture; what a power cut
        leaves of it has the wrong checksum.

        Raises:
            OSError: It cannot be written; nothing is left of it.
        """
        aside = f".{name}.{secrets.token_hex(8)}.part"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=self._descriptor)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 # of a descriptor
                file.write(content)
            os.replace(aside, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(aside)
            raise

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            OSError: It cannot be removed.
        """
        os.unlink(name, dir_fd=self._descriptor)

    def lock(self, name: str) -> LockedFile | None:
        """Open and lock a file, new or not; None if another process has it.

        Raises:
            OSError: It cannot be opened or locked.
        """
        for _ in range(_LOCK_ATTEMPTS):
            self._remove_if_not_believed(name)
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | _SAFELY, 0o600, dir_fd=self._descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had the lock before may have removed the file: then nobody would find it again.
                if _has_name(self._descriptor, name, descriptor) and _is_believed(os.fstat(descriptor)):
                    return LockedFile(self._descriptor, name, descriptor, self._bounds)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise OSError(errno.EAGAIN, "a journal cannot be locked")

    def prune(self, room: int = 0) -> None:
        """Remove what is too old, and the oldest until `room` more bytes fit; what cannot be removed stays."""
        now = time.time()
        rows: list[tuple[float, int, str]] = []
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                if not is_ours(entry.name):
                    continue
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    rows.append((now - status.st_mtime, status.st_size, entry.name))
        total = sum(size for _, size, _ in rows) + room
        for age, size, name in sorted(rows, key=lambda row: -_age_for_order(row[0])):
            orphan = name.endswith(".part") and abs(age) > _ORPHAN_SECONDS
            superfluous = orphan or self._bounds.is_too_old(age) or total > self._bounds.max_bytes
            if superfluous and self._remove_unlocked(name):
                total -= size

    def _remove_unlocked(self, name: str) -> bool:
        """Remove a file, False if a scan has it locked or it cannot be removed."""
        try:
            try:
                descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=self._descriptor)
            except FileNotFoundError:
                return True
            except OSError:
                # A link, or not ours: no scan has it locked.
                self.remove(name)
                return True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _has_name(self._descriptor, name, descriptor):
                    self.remove(name)
                    return True
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return False

    def _remove_if_not_believed(self, name: str) -> None:
        try:
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not _is_believed(status):
            self.remove(name)


class LockedFile:
    """A file of the folder that this process alone appends to, until it is closed."""

    def __init__(self, folder: int, name: str, descriptor: int, bounds: Bounds) -> None:
        """Made by `Folder.lock`. Takes over `descriptor`; the folder's is duplicated."""
        self._descriptor = descriptor
        self._name = name
        self._bounds = bounds
        self._folder = os.dup(folder)

    def close(self) -> None:
        """Let go of it."""
        # A forked child shares the descriptor: closing ours alone would leave the lock with it.
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._folder)
        os.close(self._descriptor)

    def read(self) -> bytes:
        """What was in it; nothing if it is not to be believed, too old or too large."""
        status = os.fstat(self._descriptor)
        if not _is_believed(status) or not self._bounds.allow(status):
            return b""
        with open(self._descriptor, "rb", closefd=False) as file:
            return file.read()

    def append(self, data: bytes) -> None:
        """Write all of it at the end."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def truncate(self, size: int) -> None:
        """Cut off what is behind so many bytes."""
        if os.fstat(self._descriptor).st_size != size:
            os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Have it survive a power cut."""
        os.fdatasync(self._descriptor)

    def remove(self) -> None:
        """Take its name away, if it still has it."""
        if _has_name(self._folder, self._name, self._descriptor):
            os.unlink(self._name, dir_fd=self._folder)


def _age_for_order(age_seconds: float) -> float:
    """By which files go first when space is short.

    What was written far in the future is from a clock that was wrong. It has no age, so it does not
    go for that; but it goes first, or it would push out everything new until that time comes.
    """
    return age_seconds if age_seconds > -_DAY_SECONDS else float("inf")


def _is_ours_alone(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_believed(status: os.stat_result) -> bool:
    """Whether it is a regular file that only this user can have written, under one name.

    A second name would let a journal's truncation cut a file that belongs elsewhere.
    """
    return stat.S_ISREG(status.st_mode) and _is_ours_alone(status) and status.st_nlink <= 1


def _has_name(folder: int, name: str, descriptor: int) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))
