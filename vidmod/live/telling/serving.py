"""A small server for one question and one answer a connection, which a loop polls: it has no thread and never waits.

Whoever asks slowly, too much or too often harms himself only: a connection has one time limit for all of it, a
question has a limit in bytes, and of too many connections the oldest is closed.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable

from vidmod.closing import Closing

_CHUNK_BYTES = 65_536
# Where accepting fails, as for want of descriptors, it would fail again at once.
_PAUSE_SECONDS = 0.5

Answer = Callable[[bytes, socket.socket], bytes | None]


class _Connection:
    """One that asks.

    Attributes:
        answer: What is left to send; None until the question is whole.
        finished: All was sent; what still comes is read and forgotten, since closing with unread bytes would
            reset the connection and may destroy the answer on its way.
    """

    def __init__(self, peer: socket.socket, deadline: float) -> None:
        self.peer = peer
        self.deadline = deadline
        self.received = bytearray()
        self.answer: memoryview | None = None
        self.finished = False


class PolledServer(Closing):
    """Answers questions whenever it is polled.

    Args:
        listener: A listening socket; closed at the end, by this.
        answer: Given all that came so far, and the socket: the answer, or None if the question goes on. What it
            raises is answered by `broken`, so that no question ends the filter.
        too_long: The answer to a question of more than `max_bytes`.
        broken: The answer where `answer` fails.
        admits: Whether a connection may ask at all; one that may not is closed.
        max_bytes: Of a question.
        deadline_seconds: For the question, the answer and the end of a connection.
        max_connections: At once.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        listener: socket.socket,
        answer: Answer,
        *,
        too_long: bytes,
        broken: bytes,
        admits: Callable[[socket.socket], bool] = lambda _: True,
        max_bytes: int = 8192,
        deadline_seconds: float = 5.0,
        max_connections: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._too_long = too_long
        self._broken = broken
        self._admits = admits
        self._max_bytes = max_bytes
        self._deadline_seconds = deadline_seconds
        self._max_connections = max_connections
        self._clock = clock
        self._connections: dict[socket.socket, _Connection] = {}
        self._resume = 0.0
        self._listening = False
        # epoll, for its descriptor can be waited for in another loop.
        self._selector = selectors.EpollSelector()
        listener.setblocking(False)
        self._listen()

    def fileno(self) -> int:
        """A descriptor that is readable whenever :meth:`poll` has something to do but to close what is too slow."""
        return self._selector.fileno()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def poll(self, timeout_seconds: float = 0.0) -> None:
        """Do what there is to do.

        Args:
            timeout_seconds: To wait at most, for something to do.
        """
        for key, events in self._selector.select(timeout_seconds):
            if key.data is None:
                # Not all that come: somebody who never stops must not keep this from ending.
                for _ in range(2 * self._max_connections):
                    if not self._accept():
                        break
            elif key.fileobj in self._connections:
                self._serve(key.data, events)
        now = self._clock()
        for connection in [item for item in self._connections.values() if now >= item.deadline]:
            self._drop(connection)
        if not self._listening and now >= self._resume:
            self._listen()

    def close(self) -> None:
        """Close all connections and the listening socket."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._selector.close()
        self._listener.close()

    def _listen(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._listening = True

    def _accept(self) -> bool:
        """Take in one that asks; False if nobody does."""
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return False
        except OSError:
            self._selector.unregister(self._listener)
            self._listening = False
            self._resume = self._clock() + _PAUSE_SECONDS
            return False
        peer.setblocking(False)
        if not self._is_admitted(peer):
            peer.close()
            return True
        if len(self._connections) >= self._max_connections:
            self._drop(next(iter(self._connections.values())))
        connection = _Connection(peer, self._clock() + self._deadline_seconds)
        self._connections[peer] = connection
        self._selector.register(peer, selectors.EVENT_READ, connection)
        return True

    def _is_admitted(self, peer: socket.socket) -> bool:
        try:
            return self._admits(peer)
        except OSError:
            return False

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._receive(connection)
            if connection.answer is not None and not connection.finished:
                self._send(connection)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(connection)

    def _receive(self, connection: _Connection) -> None:
        data = connection.peer.recv(_CHUNK_BYTES)
        if not data:
            # It has said all; whoever waits for an answer still gets it.
            if connection.answer is None or connection.finished:
                self._drop(connection)
            else:
                self._selector.modify(connection.peer, selectors.EVENT_WRITE, connection)
            return
        if connection.answer is not None:
            return
        connection.received += data[: self._max_bytes + 1 - len(connection.received)]
        answer = self._answered(connection)
        if answer is not None:
            connection.answer = memoryview(answer)
            connection.received.clear()
            self._selector.modify(connection.peer, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _answered(self, connection: _Connection) -> bytes | None:
        if len(connection.received) > self._max_bytes:
            return self._too_long
        try:
            return self._answer(bytes(connection.received), connection.peer)
        except Exception:  # noqa: BLE001 # a question must not end the filter
            return self._broken

    def _send(self, connection: _Connection) -> None:
        assert connection.answer is not None
        connection.answer = connection.answer[connection.peer.send(connection.answer) :]
        if not connection.answer:
            connection.finished = True
            connection.peer.shutdown(socket.SHUT_WR)
            self._selector.modify(connection.peer, selectors.EVENT_READ, connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.peer, None)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(connection.peer)
        connection.peer.close()
