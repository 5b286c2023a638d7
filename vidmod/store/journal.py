"""A journal: pieces of a scan, a line each, of which a crash costs at most the last.

A line is a checksum and a JSON text. The first one is the header, the others are pieces.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from vidmod.closing import Closing
from vidmod.store.folder import LockedFile
from vidmod.store.form import dumps
from vidmod.timeline import Json

_CHECKSUM_CHARACTERS = 16
_SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Recovered:
    """The whole lines of a journal: the pieces, where the last one ends, its checksum."""

    pieces: dict[str, Json] = field(default_factory=dict)
    end: int = 0
    checksum: str = ""


class Journal(Closing):
    """Finished pieces of one scan: appended, one line each, and there again after a crash.

    For one thread at a time. As a context manager it is closed at the end.

    Attributes:
        pieces: What an interrupted scan recorded, by key; of several with one key the last. What is
            recorded from now on is not added.
    """

    def __init__(
        self,
        file: LockedFile | None = None,
        recovered: _Recovered | None = None,
        max_bytes: int = 0,
        note: Callable[[OSError], None] | None = None,
    ) -> None:
        """Made by `Store.journal`; without a file it records nothing."""
        recovered = _Recovered() if recovered is None else recovered
        self.pieces: Mapping[str, Json] = recovered.pieces
        self._file = file
        self._note = note
        self._failed = False
        # Where the next line goes and what it is chained to: one value, for an interrupt leaves both or none.
        self._tip = (recovered.end, recovered.checksum)
        self._max_bytes = max_bytes
        self._empty = not self.pieces
        self._synced = time.monotonic()

    @classmethod
    def resume(cls, file: LockedFile, header: Json, max_bytes: int, note: Callable[[OSError], None]) -> Journal:
        """A journal that goes on from the last whole line of this header; it closes the file.

        Args:
            file: Of an earlier journal, or empty.
            header: What the journal is about; one about anything else is started over.
            max_bytes: More is not written.
            note: Told of what goes wrong from now on.

        Raises:
            OSError: The file cannot be read or written; it is not closed.
        """
        recovered = _recover(file.read(), header)
        file.truncate(recovered.end)
        if recovered.end == 0:
            line, checksum = _line("", header)
            file.append(line)
            recovered = _Recovered(end=len(line), checksum=checksum)
        return cls(file, recovered, max_bytes, note)

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

    def _sync(self) -> None:
        if self._file is not None and time.monotonic() - self._synced >= _SYNC_SECONDS:
            self._file.sync()
            self._synced = time.monotonic()

    def _fail(self, error: OSError) -> None:
        self._failed = True
        self._roll_back()
        self._tell(error)

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
            self._tell(exc)
        finally:
            file.close()

    def _tell(self, error: OSError) -> None:
        if self._note is not None:
            self._note(error)


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
        return _Recovered()
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
    text = dumps(row).encode()
    checksum = _checksum(previous, text)
    return f"{checksum} ".encode() + text + b"\n", checksum


def _checksum(previous: str, text: bytes) -> str:
    """Of a line and all lines before it: a whole line of another journal, or one out of order, does not pass.

    File systems give a file old blocks of others after a power cut, and those may hold such lines.
    """
    return hashlib.sha256(previous.encode() + text).hexdigest()[:_CHECKSUM_CHARACTERS]
