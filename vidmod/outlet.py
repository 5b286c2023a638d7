"""A file that is written in another process: its bytes go through slots of shared memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidmod.workers import Link


class Outlet(io.RawIOBase):
    """What a muxer writes to, in a worker that may write no file.

    Bytes that follow each other are collected in a slot; a full slot, and one that a seek ends, is handed over
    with the place where it belongs.

    Args:
        link: Gives the slots.
        hand_over: Told of every slot: its number, where its bytes belong, how many there are.
        cut: Told to end the file at a place.
    """

    def __init__(
        self, link: Link, hand_over: Callable[[int, int, int], None], cut: Callable[[int], None] = lambda _: None
    ) -> None:
        self._link = link
        self._hand_over = hand_over
        self._cut = cut
        self._slot: tuple[int, memoryview] | None = None
        self._start = 0
        self._filled = 0
        self._end = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: what was written can be written again."""
        return True

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._start + self._filled

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._end}[whence]
        if base + offset != self.tell():
            self.flush()
            self._start = base + offset
        return self.tell()

    def write(self, data: Any, /) -> int:
        """Write all of it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            if self._slot is None:
                self._slot = self._link.acquire()
            memory = self._slot[1]
            part = rest[: len(memory) - self._filled]
            memory[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            self._end = max(self._end, self.tell())
            rest = rest[len(part) :]
            if self._filled == len(memory):
                self.flush()
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """End the file here, or at `size`."""
        self.flush()
        self._end = self.tell() if size is None else size
        self._cut(self._end)
        return self._end

    def flush(self) -> None:
        """Hand over what was collected."""
        if self._slot is not None:
            slot, self._slot = self._slot[0], None
            self._hand_over(slot, self._start, self._filled)
            self._start, self._filled = self._start + self._filled, 0
