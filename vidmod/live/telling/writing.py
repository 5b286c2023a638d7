"""Lines for a file, a pipe or a terminal that may stand still: whoever says them never waits."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import deque
from pathlib import Path
from typing import Protocol

from vidmod.closing import Closing
from vidmod.errors import OutputError
from vidmod.live.telling.events import Event, EventsLost, Scribe


class Sink(Protocol):
    """Where lines end up. It may take as long as it likes, and fail."""

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: It cannot be written.
        """

    def close(self) -> None:
        """Release it."""


class DescriptorSink:
    """Writes to an open descriptor, such as that of standard error, which stays open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Nothing to do."""


class FileSink:
    """Appends to a file; what is full becomes `PATH.1`, in place of the one before.

    Args:
        path: Made if it is not there, readable by its owner only: events name what was seen.
        max_bytes: Of one file; there are two at most.

    Raises:
        OutputError: It cannot be opened.
    """

    def __init__(self, path: Path, *, max_bytes: int = 64 << 20) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor = -1
        self._size = 0
        self._turns = False
        self._open()

    def write(self, data: bytes) -> None:
        """Append whole lines; a part that a full disk left is taken back."""
        if self._turns and self._size and self._size + len(data) > self._max_bytes:
            self._turn()
        try:
            DescriptorSink(self._descriptor).write(data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
            status = os.fstat(self._descriptor)
        except OSError as exc:
            raise OutputError(f"{self._path}: cannot be written ({exc.strerror}). Name another file.") from exc
        self._size = status.st_size
        # No device and no pipe is given another name.
        self._turns = stat.S_ISREG(status.st_mode)

    def _turn(self) -> None:
        """Start over. Where that cannot be done the old file grows on: better too long than lost."""
        old = self._descriptor
        try:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._open()
        except OSError:
            return
        os.close(old)


class LineWriter(Closing):
    """Hands lines to a sink from a thread of its own, in order.

    What the sink does not take in time, or fails to take, is dropped and counted, never waited for.

    Args:
        sink: Closed at the end, by this.
        capacity: Lines that may wait.
        name: Of the thread.
    """

    def __init__(self, sink: Sink, *, capacity: int = 1000, name: str = "lines") -> None:
        self._sink = sink
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = False
        self._lost = 0
        # A daemon: a sink that stands still must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that were dropped."""
        return self._lost

    def write(self, line: bytes) -> bool:
        """Say a line; False if it is dropped at once because too many wait."""
        with self._changed:
            if self._stopping or len(self._lines) >= self._capacity:
                self._lost += 1
                return False
            self._lines.append(line)
            self._changed.notify_all()
        return True

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until nothing waits; False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._lines or self._busy), timeout_seconds)

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what waits, for so long at most, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while (line := self._next()) is not None:
                told = self._write(line)
                with self._changed:
                    self._busy = False
                    if not told:
                        self._lost += 1
                    self._changed.notify_all()
        finally:
            self._sink.close()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._stopping)
            if not self._lines:
                return None
            self._busy = True
            return self._lines.popleft()

    def _write(self, line: bytes) -> bool:
        try:
            self._sink.write(line)
        except OSError:
            return False
        return True


class EventLog(Closing):
    """Writes events as lines of JSON, and says how many of them were lost once one passes again.

    For one thread.

    Args:
        scribe: Makes the lines.
        writer: Takes them; closed at the end, by this.
    """

    def __init__(self, scribe: Scribe, writer: LineWriter) -> None:
        self._scribe = scribe
        self._writer = writer
        self._told = 0

    @property
    def lost(self) -> int:
        """Lines that were dropped."""
        return self._writer.lost

    def tell(self, event: Event) -> None:
        """Write an event; never waits."""
        lost = self._writer.lost
        if lost > self._told:
            line = self._scribe.line(EventsLost(where="log", reason="it cannot be written", count=lost - self._told))
            if self._writer.write(line):
                self._told = lost
        self._writer.write(self._scribe.line(event))

    def close(self) -> None:
        """Write what waits, and end."""
        self._writer.close()
