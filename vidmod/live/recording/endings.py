"""Files that are not written any more: hashed, told of, renamed. Nobody waits for it; what fails is tried again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from vidmod.closing import Closing
from vidmod.digest import Digest
from vidmod.errors import SourceUnreadableError, TimelineError
from vidmod.live.recording.accounts import Facts, cut_off
from vidmod.live.recording.pieces import PART, RETRY_SECONDS, Piece, write_document
from vidmod.media.recording import recorded_end
from vidmod.timeline import Timeline

_MOST_ENDING = 8


class Ending(Closing):
    """A file that gets its last name.

    Args:
        piece: Closed in the end.
        whole: Whether all of it was written.
    """

    def __init__(self, piece: Piece, *, whole: bool) -> None:
        self.piece, self.not_before = piece, float("-inf")
        self._is_whole = whole

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`end` would not wait."""
        return True

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return os.fstat(self.piece.descriptor).st_size

    def end(self) -> None:
        """Give the file its name; one that has lost even that is left alone, and an empty one removed.

        Raises:
            OSError: It cannot be done, and may be tried again.
        """
        if not self.piece.is_there:
            return
        if self.size_bytes:
            self.piece.finish(whole=self._is_whole)
        else:
            self.piece.discard()

    def close(self) -> None:
        """Close the file; more than once is fine."""
        self.piece.close()


class ToldEnding(Ending):
    """The same, and its timeline is written.

    Args:
        timeline: Of the file; None if nobody knows one.
    """

    def __init__(self, piece: Piece, timeline: Callable[[Facts], Timeline | None], *, whole: bool) -> None:
        super().__init__(piece, whole=whole)
        self._timeline = timeline
        self._digest = Digest(piece.path, piece.descriptor)
        self._digest.start()

    @property
    def is_ready(self) -> bool:
        """Whether its hash is known."""
        return self._digest.is_done

    def end(self) -> None:
        """Write the document, then rename the file: a part whose document names its hash lacks but its name."""
        if not self.piece.is_there:
            return
        if self._is_whole:
            told = self._timeline(self._facts(self.piece.whole_path))
            if told is not None:
                write_document(self.piece.timeline_path, "".join(told.dumps()))
            self.piece.finish(whole=True)
        else:
            self._end_unfinished()

    def close(self) -> None:
        """Close the file; more than once is fine."""
        self._digest.close()
        super().close()

    def _end_unfinished(self) -> None:
        piece, facts = self.piece, self._facts(self.piece.unfinished_path)
        _remove(Path(f"{piece.timeline_path}{PART}"))
        try:
            last = recorded_end(piece.path)
        except SourceUnreadableError:
            piece.finish(whole=False)
            return
        if last is None:
            _remove(piece.timeline_path)
            piece.discard()
            return
        told = self._timeline(facts)
        if told is not None and told.source["sha256"] == facts.sha256 and told.source["name"] != facts.name:
            piece.finish(whole=True)
            return
        if told is not None:
            write_document(piece.unfinished_timeline_path, "".join(cut_off(told, facts, last).dumps()))
            _remove(piece.timeline_path)
        piece.finish(whole=False)

    def _facts(self, path: Path) -> Facts:
        return Facts(path.name, self.size_bytes, self._digest.hexdigest())


class Endings:
    """Several of them. Belongs to one thread.

    Attributes:
        trouble: Why one of them does not end; empty if none is in the way.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._rows: list[Ending] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, ending: Ending) -> None:
        """End another one; of too many the oldest stays a part, which the next process ends."""
        self._rows.append(ending)
        if len(self._rows) > _MOST_ENDING:
            self._rows.pop(0).close()

    def tick(self, now: float) -> None:
        """End what can be ended."""
        for row in list(self._rows):
            if now < row.not_before or not row.is_ready:
                continue
            try:
                row.end()
            except OSError as exc:
                row.not_before = now + RETRY_SECONDS
                self.trouble = f"{row.piece.path}: cannot be finished ({exc.strerror or exc})."
                continue
            row.close()
            self._rows.remove(row)
            self.trouble = ""

    def close(self) -> None:
        """Leave those that do not end as they are."""
        while self._rows:
            self._rows.pop().close()


def told_before(piece: Piece) -> Callable[[Facts], Timeline | None]:
    """What is known of a piece that another process wrote: its last document."""

    def read(_facts: Facts) -> Timeline | None:
        for path in (piece.timeline_path, piece.unfinished_timeline_path):
            with contextlib.suppress(TimelineError):
                found = Timeline.read(path)
                if found.streams:
                    return found
        return None

    return read


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
