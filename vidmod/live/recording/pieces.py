"""The files of a recording, their names, and what becomes of those whose recorder was killed.

::

    NAME-20261121T170000Z.mkv.part           being written; the time is that of its first picture, UTC
    NAME-20261121T170000Z.mkv                whole
    NAME-20261121T170000Z.unfinished.mkv     whoever wrote it was killed or could not go on: it plays up to there
    NAME-20261121T170000Z.timeline.json      of the first two
    NAME-20261121T170000Z.unfinished.timeline.json

The same with `.mkv.age` for what is sealed, which has no timeline. A second file of the same second is `…Z_2`.
Whoever writes a part holds a lock on it (flock), so that nobody takes it for abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from vidmod.closing import Closing

PART, TIMELINE = ".part", ".timeline.json"
_UNFINISHED = ".unfinished"
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_CHARACTERS = 100
_MOST_A_SECOND = 1000
# What failed is tried again after so long; on a disk that was full not with less room than this.
RETRY_SECONDS = 5.0
_LEAST_ROOM_BYTES = 8 << 20


class Piece(Closing):
    """A file that is being written, with its names. Belongs to one thread.

    Args:
        folder: It has to be there.
        name: Of the filter; what a file's name should not hold is replaced.
        began: When its first picture leaves, in seconds since 1970.
        suffix: `.mkv` or `.mkv.age`.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, folder: Path, name: str, began: float, suffix: str) -> None:
        stem = f"{_plain(name)}-{datetime.fromtimestamp(began, UTC):%Y%m%dT%H%M%SZ}"
        self._stem, self._suffix = folder / _free(folder, stem, suffix), suffix
        self.path = Path(f"{self._stem}{suffix}{PART}")
        self._file = self.path.open("x+b", buffering=0)
        _lock(self._file)

    @classmethod
    def abandoned(cls, folder: Path, name: str, suffix: str) -> Iterator[Piece]:
        """Those in a folder that nobody writes any more; what cannot be read is left alone."""
        pattern = re.compile(re.escape(_plain(name)) + r"-\d{8}T\d{6}Z(_\d+)?" + re.escape(suffix + PART))
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError:
            return
        for found in filter(pattern.fullmatch, names):
            piece = cls.__new__(cls)
            piece.path = folder / found
            piece._stem, piece._suffix = folder / found.removesuffix(suffix + PART), suffix
            try:
                piece._file = piece.path.open("r+b", buffering=0)
            except OSError:
                continue
            if _lock(piece._file):
                yield piece
            else:
                piece.close()

    @property
    def timeline_path(self) -> Path:
        """Of the document about it, while it is written and when it is whole."""
        return Path(f"{self._stem}{TIMELINE}")

    @property
    def unfinished_timeline_path(self) -> Path:
        """Of the document about it if it stays unfinished."""
        return Path(f"{self._stem}{_UNFINISHED}{TIMELINE}")

    @property
    def whole_path(self) -> Path:
        """What it is called when it is whole."""
        return Path(f"{self._stem}{self._suffix}")

    @property
    def unfinished_path(self) -> Path:
        """What it is called if it stays unfinished."""
        return Path(f"{self._stem}{_UNFINISHED}{self._suffix}")

    @property
    def descriptor(self) -> int:
        """Of the open file."""
        return self._file.fileno()

    @property
    def is_there(self) -> bool:
        """Whether the file still has its name: its folder may have gone, or another one come in its place."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.descriptor))
        except OSError:
            return False

    def write(self, data: bytes) -> int:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def restart(self) -> None:
        """Write it from its beginning again."""
        self._file.seek(0)
        self._file.truncate()

    def sync(self) -> None:
        """Have the disk hold it.

        Raises:
            OSError: It does not.
        """
        os.fsync(self.descriptor)

    def finish(self, *, whole: bool) -> Path:
        """Give it its last name.

        Raises:
            OSError: It cannot be renamed.
        """
        path = self.whole_path if whole else self.unfinished_path
        self.path.rename(path)
        self.path = path
        return path

    def discard(self) -> None:
        """Remove it: there is nothing in it."""
        with contextlib.suppress(OSError):
            if self.is_there:
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the file, and with that the lock; more than once is fine."""
        self._file.close()


class Folder:
    """Where pieces are begun, and tried again where that fails. Belongs to one thread.

    Args:
        path: It has to be there, or nothing is begun until it is.
        name: Of the filter.
        suffix: Of the pieces.

    Attributes:
        trouble: Why nothing is written now; empty if something is.
    """

    def __init__(self, path: Path, name: str, suffix: str) -> None:
        self.trouble = ""
        self._path, self._name, self._suffix = path, name, suffix
        self._not_before = float("-inf")

    def begin(self, began: float, now: float) -> Piece | None:
        """A new piece, whose first picture leaves at `began`; None if there is none, or not yet."""
        if now < self._not_before:
            return None
        try:
            if self.trouble and _room(self._path) < _LEAST_ROOM_BYTES:
                self._not_before = now + RETRY_SECONDS
                return None
            piece = Piece(self._path, self._name, began, self._suffix)
        except OSError as exc:
            self.fail(f"{self._path}: nothing can be written there ({exc.strerror or exc}).", now)
            return None
        self.trouble = ""
        return piece

    def fail(self, why: str, now: float) -> None:
        """Something could not be written: nothing is begun for a while."""
        self.trouble, self._not_before = why, now + RETRY_SECONDS

    def abandoned(self) -> Iterator[Piece]:
        """What a process was writing that was killed."""
        return Piece.abandoned(self._path, self._name, self._suffix)


def write_document(path: Path, text: str) -> None:
    """Write a document aside, and give it its name when it is whole.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    aside = Path(f"{path}{PART}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def _plain(name: str) -> str:
    return _STRANGE.sub("_", name)[:_MOST_CHARACTERS].lstrip(".-") or "live"


def _free(folder: Path, stem: str, suffix: str) -> str:
    """A name that no file has in any state."""
    for number in range(1, _MOST_A_SECOND):
        found = stem if number == 1 else f"{stem}_{number}"
        endings = (suffix, suffix + PART, _UNFINISHED + suffix)
        if not any((folder / (found + ending)).exists() for ending in endings):
            return found
    raise FileExistsError(f"{folder / stem}: there are too many files of this second.")


def _room(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _lock(file: io.FileIO) -> bool:
    """Whether nobody else has it; True where a file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
