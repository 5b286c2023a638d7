"""The worker's side: what a handler is given."""

from __future__ import annotations

import socket
from collections import deque

from vidmod.workers.slots import Slots
from vidmod.workers.wire import Inbox, Json, WireError, encode

_CHUNK_BYTES = 1 << 16


class Link:
    """A worker's connection to the process that started it. All methods wait.

    Args:
        connection: A blocking stream socket.
        source: Kept as an attribute, see below.
        slots: Shared memory, None if there is none.
        count: How many slots it has.

    Attributes:
        source: Descriptor of the one file to parse, read-only. Its offset is shared with the
            process that opened it.
    """

    def __init__(self, connection: socket.socket, source: int, slots: Slots | None, count: int) -> None:
        self.source = source
        self._connection = connection
        self._inbox = Inbox()
        self._messages: deque[Json] = deque()
        self._slots = slots
        self._count = count
        # The last released comes first: its pages are in the cache.
        self._free = list(reversed(range(count)))
        self._taken: set[int] = set()

    def receive(self) -> Json | None:
        """Wait for a message; None when the parent has closed."""
        while not self._messages:
            if not self._read():
                return None
        return self._messages.popleft()

    def send(self, payload: Json) -> None:
        """Send a message of at most 4 MiB as JSON.

        The key `slot` is reserved: it hands over a slot from :meth:`acquire`, which must not be
        written any more.

        Raises:
            WireError: The message is too large, or is not JSON.
            ValueError: The slot was not acquired.
            BrokenPipeError, ConnectionResetError: The parent has closed.
        """
        slot = payload.get("slot")
        if slot is not None and slot not in self._taken:
            raise ValueError(f"Slot {slot!r} was not acquired.")
        self._connection.sendall(encode({"payload": payload}))
        if slot is not None:
            self._taken.remove(slot)

    def acquire(self) -> tuple[int, memoryview]:
        """Wait for a free slot; give its number and its writable bytes.

        Raises:
            ValueError: There would be none, ever: all are acquired and none is handed over.
            EOFError: The parent has closed.
        """
        while not self._free:
            if self._slots is None or len(self._taken) == self._count:
                raise ValueError("No slot can become free: hand one over first.")
            if not self._read():
                raise EOFError("The parent has closed while a slot was waited for.")
        assert self._slots is not None
        slot = self._free.pop()
        self._taken.add(slot)
        return slot, self._slots[slot]

    def _read(self) -> bool:
        try:
            data = self._connection.recv(_CHUNK_BYTES)
        except ConnectionResetError:
            data = b""
        self._inbox.feed(data)
        while (frame := self._inbox.take()) is not None:
            if "release" in frame:
                self._free.append(frame["release"])
            elif "payload" in frame:
                self._messages.append(frame["payload"])
            else:
                raise WireError(f"a frame of an unknown kind ({', '.join(frame)})")
        return bool(data)
