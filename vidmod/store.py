"""What earlier scans left behind: whole timelines to judge again, and journals of scans that were cut off.

A store is a folder of the user's cache. A file's name starts with the size of the source, so that
a listing tells whether hashing a source could be worth while. All that decides whether a file fits
(the source's whole hash, the settings) is inside and compared on reading::

    <size>-<16 of the source's SHA-256>-<16 of the settings>.timeline.json
    <size>-<16 of the source's SHA-256>-<16 of the settings>.journal

A stored clean timeline is a verdict. So a folder or file is believed only if it belongs to this user,
nobody else may write to it, and no link led there. What is damaged, too old or not believed is
as if it were not there: a scan then starts from the beginning, and never fails because of its store.
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
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vidmod.errors import TimelineError
from vidmod.timeline import Json, Timeline

_TIMELINE = "vidmod.stored/1"
_JOURNAL = "vidmod.journal/1"
_OURS = re.compile(r"\.?[0-9]+-[0-9a-f]{16}-[0-9a-f]{16}\.(timeline\.json|journal)(\.[0-9a-f]{16}\.part)?")
_PREFIX_CHARACTERS = 16
_CHECKSUM_CHARACTERS = 16
_SYNC_SECONDS = 1.0
_DAY_SECONDS = 86_400
# Nobody takes an hour to write a timeline: what is older was left by a process that was killed.
_ORPHAN_SECONDS = 3600
# A journal can vanish between opening and locking it as often as others finish or prune it.
_LOCK_ATTEMPTS = 8
# O_NONBLOCK: a planted pipe must not hang a scan.
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Store:
    """A folder with the timelines and journals of earlier scans.

    Several processes may use it at once. What goes wrong with it (damage, a full disk, missing rights)
    means that nothing is stored, and raises nothing.

    Args:
        folder: Made, with its parents, when something is first stored.
        max_bytes: Of all files together, 0 or more; the oldest go first. 0: nothing is read or stored.
        max_age_days: Since a file was last written, 0 or more. 0: nothing is read or stored.

    Attributes:
        trouble: The first thing that went wrong, in words, None if nothing did.

    Raises:
        ValueError: A limit is negative.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 256 << 20, max_age_days: int = 90) -> None:
        if max_bytes < 0 or max_age_days < 0:
            raise ValueError(f"Invalid limits ({max_bytes} bytes, {max_age_days} days). Use 0 or more.")
        self.folder = folder
        self.trouble: str | None = None
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_days * _DAY_SECONDS
        self._off = max_bytes == 0 or max_age_days == 0

    def knows_size(self, size_bytes: int) -> bool:
        """Whether there is any file for a source of this size: only then is hashing the source worth while."""
        if self._off:
            return False
        try:
            with self._open_folder() as folder, os.scandir(folder) as entries:
                return any(_size_in(entry.name) == size_bytes for entry in entries)
        except FileNotFoundError:
            return False
        except OSError as exc:
            self.note(exc)
            return False

    def find(self, sha256: str, size_bytes: int, settings: str) -> Timeline | None:
        """The timeline of an earlier scan.

        Args:
            sha256: Of the source, 64 hex digits.
            size_bytes: Of the source.
            settings: A hex digest, 16 digits or more, of all that a scan's samples depend on: models,
                weights, sampling, vidmod's version.

        Raises:
            ValueError: A digest is none.
        """
        subject = _Subject(sha256, size_bytes, settings)
        if self._off:
            return None
        try:
            with self._open_folder() as folder:
                return self._find(folder, subject)
        except FileNotFoundError:
            return None
        except OSError as exc:
            self.note(exc)
            return None

    def keep(self, timeline: Timeline, settings: str) -> None:
        """Store a timeline in place of an earlier one of the same source and settings.

        Args:
            timeline: Of a scan of the whole source: hash and size are those of its `source`.
            settings: As for `find`.

        Raises:
            ValueError: A digest is none.
        """
        subject = _Subject(timeline.source["sha256"], timeline.source["size_bytes"], settings)
        if self._off:
            return
        document = timeline.as_document()
        text = _dumps({**subject.header(_TIMELINE), "checksum": _checksum_of(document), "timeline": document})
        content = text.encode() + b"\n"
        try:
            if len(content) > self._max_bytes:
                raise OSError(errno.EFBIG, f"a timeline of {len(content)} bytes is above the limit of the store")
            with self._open_folder(make=True) as folder:
                self._prune(folder, room=len(content))
                _write_aside(folder, subject.name("timeline.json"), content)
        except OSError as exc:
            self.note(exc)

    def journal(self, sha256: str, size_bytes: int, settings: str) -> Journal:
        """The journal of a scan, with what an interrupted one left in it.

        It is locked until it is closed or finished. Whoever wants a locked one, or one that cannot be
        written, gets a journal that is empty and records nothing.

        Args:
            sha256, size_bytes, settings: As for `find`.

        Raises:
            ValueError: A digest is none.
        """
        subject = _Subject(sha256, size_bytes, settings)
        if self._off:
            return Journal(self)
        try:
            with self._open_folder(make=True) as folder:
                file = _lock(folder, subject.name("journal"))
                if file is None:
                    return Journal(self)
                try:
                    # After locking, so that it is not this journal that makes room.
                    self._prune(folder)
                    return self._continue(file, subject.header(_JOURNAL))
                except BaseException:
                    file.close()
                    raise
        except OSError as exc:
            self.note(exc)
            return Journal(self)

    def note(self, error: OSError) -> None:
        """Remember the first trouble in words."""
        if self.trouble is None:
            self.trouble = (
                f"{self.folder}: scans are not stored, or not found again ({error.strerror or error}). "
                "Check the folder, or set VIDMOD_CACHE to a folder of yours."
            )

    @contextlib.contextmanager
    def _open_folder(self, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder: whoever swaps a folder of the path later changes nothing.

        Raises:
            OSError: It is missing (without `make`), not to be believed, or cannot be made.
        """
        if make:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        try:
            status = os.fstat(descriptor)
            if not _is_ours_alone(status):
                raise PermissionError(errno.EPERM, "the folder belongs to another user, or others may write to it")
            yield descriptor
        finally:
            os.close(descriptor)

    def _find(self, folder: int, subject: _Subject) -> Timeline | None:
        name = subject.name("timeline.json")
        content = self._read(folder, name)
        timeline = None if content is None else _parse_timeline(content, subject)
        if timeline is None:
            # Others may have put a good one in its place since: that one is scanned again, no more.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
        return timeline

    def _read(self, folder: int, name: str) -> bytes | None:
        """A file's bytes, None if it is not to be believed, too old or too large."""
        try:
            descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=folder)
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                return None
            raise
        with open(descriptor, "rb") as file:  # noqa: PTH123 # of a descriptor
            return file.read() if self._is_usable(os.fstat(descriptor)) else None

    def _is_usable(self, status: os.stat_result) -> bool:
        return (
            _is_believed(status)
            and status.st_size <= self._max_bytes
            and time.time() - status.st_mtime <= self._max_age_seconds
        )

    def _continue(self, file: _Locked, header: Json) -> Journal:
        """A journal on a locked file, from the last whole line of the same source and settings on."""
        content = file.read() if self._is_usable(os.fstat(file.descriptor)) else b""
        recovered = _recover(content, header)
        file.truncate(recovered.end)
        tip = (recovered.end, recovered.checksum)
        if recovered.end == 0:
            line, checksum = _line("", header)
            file.append(line)
            tip = (len(line), checksum)
        return Journal(self, recovered.pieces, file, tip, self._max_bytes)

    def _prune(self, folder: int, room: int = 0) -> None:
        """Remove what is too old, and the oldest until `room` more bytes fit; what cannot be removed stays."""
        now = time.time()
        rows: list[tuple[float, int, str]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _OURS.fullmatch(entry.name):
                    continue
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    rows.append((now - status.st_mtime, status.st_size, entry.name))
        total = sum(size for _, size, _ in rows) + room
        for age, size, name in sorted(rows, key=lambda row: -_age_for_order(row[0])):
            orphan = name.endswith(".part") and abs(age) > _ORPHAN_SECONDS
            if (orphan or age > self._max_age_seconds or total > self._max_bytes) and _remove_unlocked(folder, name):
                total -= size


class Journal:
    """Finished pieces of one scan: appended, one line each, and there again after a crash.

    For one thread at a time. As a context manager it is closed at the end.

    Attributes:
        pieces: What an interrupted scan recorded, by key; of several with one key the last. What is
            recorded from now on is not added.
    """

    def __init__(
        self,
        store: Store,
        pieces: Mapping[str, Json] | None = None,
        file: _Locked | None = None,
        tip: tuple[int, str] = (0, ""),
        max_bytes: int = 0,
    ) -> None:
        """Made by `Store.journal`; without a file it records nothing."""
        self.pieces: Mapping[str, Json] = {} if pieces is None else pieces
        self._store = store
        self._file = file
        self._failed = False
        # Where the next line goes and what it is chained to: one value, for an interrupt leaves both or none.
        self._tip = tip
        self._max_bytes = max_bytes
        self._empty = not self.pieces
        self._synced = time.monotonic()

    @property
    def recording(self) -> bool:
        """Whether what is recorded is written: not if another process has the journal, or writing failed."""
        return self._file is not None and not self._failed

    def record(self, key: str, piece: Json) -> None:
        """Append a piece. It survives the end of this process at once; a power cut takes a second of pieces at most.

        Args:
            key: What to find it by; a later piece with the same key replaces it.
            piece: A JSON object: what comes back has lists for tuples and strings for keys.

        Raises:
            TypeError: The piece cannot be JSON.
        """
        if self._file is None or self._failed:
            return
        end, previous = self._tip
        line, checksum = _line(previous, [key, piece])
        try:
            if end + len(line) > self._max_bytes:
                raise OSError(errno.EFBIG, "a journal reached the limit of the store")
            self._file.append(line)
            self._tip = (end + len(line), checksum)
            self._empty = False
            self._sync()
        except OSError as exc:
            self._fail(exc)
        except BaseException:
            # An interrupt: the line may be there while the tip does not know it.
            self._roll_back()
            raise

    def finish(self) -> None:
        """The scan is whole: the journal is removed and closed."""
        self._end(remove=True)

    def close(self) -> None:
        """Leave the journal to the next run; one without any piece is removed."""
        self._end(remove=self._empty)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sync(self) -> None:
        if self._file is not None and time.monotonic() - self._synced >= _SYNC_SECONDS:
            self._file.sync()
            self._synced = time.monotonic()

    def _fail(self, error: OSError) -> None:
        self._failed = True
        self._roll_back()
        self._store.note(error)

    def _roll_back(self) -> None:
        """Take back a line that is not whole; where that fails too, reading drops it."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.truncate(self._tip[0])

    def _end(self, *, remove: bool) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if remove:
                file.remove()
            else:
                file.sync()
        except OSError as exc:
            self._store.note(exc)
        finally:
            file.close()


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a file is about: a source, and the settings of its scan."""

    sha256: str
    size_bytes: int
    settings: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"Invalid sha256 ({self.sha256!r}). Use 64 lower-case hex digits.")
        if not re.fullmatch(r"[0-9a-f]{16,}", self.settings):
            raise ValueError(f"Invalid settings ({self.settings!r}). Use 16 or more lower-case hex digits.")
        if self.size_bytes < 0:
            raise ValueError(f"Invalid size_bytes ({self.size_bytes}). Use 0 or more.")

    def name(self, suffix: str) -> str:
        return f"{self.size_bytes}-{self.sha256[:_PREFIX_CHARACTERS]}-{self.settings[:_PREFIX_CHARACTERS]}.{suffix}"

    def header(self, schema: str) -> Json:
        return {"schema": schema, "sha256": self.sha256, "size_bytes": self.size_bytes, "settings": self.settings}


class _Locked:
    """A file of the folder that this process alone appends to, until it is closed."""

    def __init__(self, folder: int, name: str, descriptor: int) -> None:
        """Takes over `descriptor`; the folder's is duplicated."""
        self.descriptor = descriptor
        self._name = name
        self._folder = os.dup(folder)

    def close(self) -> None:
        # A forked child shares the descriptor: closing ours alone would leave the lock with it.
        with contextlib.suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self._folder)
        os.close(self.descriptor)

    def read(self) -> bytes:
        with open(self.descriptor, "rb", closefd=False) as file:
            return file.read()

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self.descriptor, left) :]

    def truncate(self, size: int) -> None:
        if os.fstat(self.descriptor).st_size != size:
            os.ftruncate(self.descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self.descriptor)

    def remove(self) -> None:
        if _has_name(self._folder, self._name, self.descriptor):
            os.unlink(self._name, dir_fd=self._folder)


@dataclass(frozen=True, slots=True)
class _Recovered:
    """The whole lines of a journal: the pieces, where the last one ends, its checksum."""

    pieces: dict[str, Json]
    end: int
    checksum: str


def _lock(folder: int, name: str) -> _Locked | None:
    """Open and lock a journal, new or not; None if another has it.

    Raises:
        OSError: It cannot be opened or locked.
    """
    for _ in range(_LOCK_ATTEMPTS):
        _remove_if_not_believed(folder, name)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | _SAFELY, 0o600, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock before may have removed the file: then nobody would find it again.
            if _has_name(folder, name, descriptor) and _is_believed(os.fstat(descriptor)):
                return _Locked(folder, name, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(errno.EAGAIN, "a journal cannot be locked")


def _remove_unlocked(folder: int, name: str) -> bool:
    """Remove a file, False if a scan has it locked or it cannot be removed."""
    try:
        try:
            descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=folder)
        except FileNotFoundError:
            return True
        except OSError:
            # A link, or not ours: no scan has it locked.
            os.unlink(name, dir_fd=folder)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(folder, name, descriptor):
                os.unlink(name, dir_fd=folder)
                return True
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return False


def _remove_if_not_believed(folder: int, name: str) -> None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not _is_believed(status):
        os.unlink(name, dir_fd=folder)


def _write_aside(folder: int, name: str, content: bytes) -> None:
    """Write a file that is there as a whole or not at all.

    Not `outputs.write_whole`: that goes by path and gives the file the permissions of the user's
    other files. Nor is it synced, for that would cost more than scanning a picture; what a power cut
    leaves of it has the wrong checksum.

    Raises:
        OSError: It cannot be written; nothing is left of it.
    """
    aside = f".{name}.{secrets.token_hex(8)}.part"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 # of a descriptor
            file.write(content)
        os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside, dir_fd=folder)
        raise


def _parse_timeline(content: bytes, subject: _Subject) -> Timeline | None:
    """The timeline in a stored file, None if it is damaged or of another source or other settings."""
    try:
        stored = json.loads(content)
        if not isinstance(stored, dict) or not isinstance(stored.get("timeline"), dict):
            return None
        document, checksum = stored.pop("timeline"), stored.pop("checksum", None)
        if stored != subject.header(_TIMELINE) or checksum != _checksum_of(document):
            return None
        timeline = Timeline.from_document(document)
    except (TimelineError, ValueError, RecursionError):
        return None
    source = timeline.source
    return timeline if (source["sha256"], source["size_bytes"]) == (subject.sha256, subject.size_bytes) else None


def _recover(content: bytes, header: Json) -> _Recovered:
    """Read a journal up to the first line that is torn, altered, out of place or not of this `header`."""
    lines = list(_sound_lines(content))
    try:
        # At once: half the time of parsing line by line.
        rows = json.loads(b"[" + b",".join(text for _, text in lines) + b"]")
    except (ValueError, RecursionError):
        rows = []
    pieces: dict[str, Json] = {}
    end, last = 0, ""
    if len(rows) != len(lines) or not rows or rows[0] != header:
        return _Recovered(pieces, end, last)
    for position, ((checksum, text), row) in enumerate(zip(lines, rows, strict=True)):
        if position:
            if not _is_piece(row):
                break
            pieces[row[0]] = row[1]
        end += len(checksum) + len(text) + 2
        last = checksum
    return _Recovered(pieces, end, last)


def _sound_lines(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Checksum and JSON text of every line before the first that is torn, altered or out of place."""
    previous = ""
    # What follows the last line feed is torn, or empty.
    for line in content.split(b"\n")[:-1]:
        text = line[_CHECKSUM_CHARACTERS + 1 :]
        previous = _checksum(previous, text)
        if not line.startswith(previous.encode() + b" "):
            return
        yield previous, text


def _is_piece(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)


def _line(previous: str, row: object) -> tuple[bytes, str]:
    """A journal's line and its checksum."""
    text = _dumps(row).encode()
    checksum = _checksum(previous, text)
    return f"{checksum} ".encode() + text + b"\n", checksum


def _checksum(previous: str, text: bytes) -> str:
    """Of a line and all lines before it: a whole line of another journal, or one out of order, does not pass.

    File systems give a file old blocks of others after a power cut, and those may hold such lines.
    """
    return hashlib.sha256(previous.encode() + text).hexdigest()[:_CHECKSUM_CHARACTERS]


def _checksum_of(document: Json) -> str:
    return hashlib.sha256(_dumps(document).encode()).hexdigest()


def _dumps(value: object) -> str:
    """One line of ASCII: a file's name may hold what UTF-8 cannot."""
    return json.dumps(value, separators=(",", ":"))


def _size_in(name: str) -> int | None:
    """The source's size in a file's name, None if it is not a timeline or journal."""
    return None if name.startswith(".") or not _OURS.fullmatch(name) else int(name.partition("-")[0])


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
