"""Messages between the processes of a live filter, over a pair of local sockets.

Frames are a length of four bytes, big endian, and MessagePack. What a process that parses a stranger's stream says is
checked by type, and bounded: a frame that is longer than allowed, or that is no message, closes the wire.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from typing import Generic, TypeVar

import msgspec

_LENGTH = struct.Struct(">I")
_MOST_BYTES = 32 << 20
_AT_ONCE = 1 << 20
# Bytes that may wait to be sent, if nobody says otherwise.
MOST_WAITING = 16 << 20

Received = TypeVar("Received")


class WireClosedError(Exception):
    """The other side has gone, or says what makes no sense."""


class Wire(Generic[Received]):
    """One end; never blocks. Belongs to one thread.

    Args:
        end: A connected stream socket; the wire owns it.
        kind: What comes, for msgspec.
        most_waiting: Bytes that may wait to be sent; see :meth:`send`.
    """

    def __init__(self, end: socket.socket, kind: type[Received], *, most_waiting: int = MOST_WAITING) -> None:
        end.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _AT_ONCE)
        self._end = end
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(kind)
        self._encoder = msgspec.msgpack.Encoder()
        self._most = most_waiting
        self._out: deque[memoryview] = deque()
        self._waiting = 0
        self._in = bytearray()

    def fileno(self) -> int:
        """For a selector."""
        return self._end.fileno()

    def close(self) -> None:
        """More than once is fine."""
        self._end.close()

    @property
    def waiting(self) -> int:
        """Bytes to send as soon as there is room."""
        return self._waiting

    def send(self, message: object) -> bool:
        """Send a message, or let it wait.

        Returns:
            Whether it will be sent: False if too much waits already, and then it is dropped.

        Raises:
            WireClosedError: The other side has gone.
        """
        data = self._encoder.encode(message)
        if self._waiting + len(data) > self._most:
            self.flush()
            if self._waiting + len(data) > self._most:
                return False
        self._out.append(memoryview(_LENGTH.pack(len(data)) + data))
        self._waiting += len(data) + _LENGTH.size
        self.flush()
        return True

    def flush(self) -> None:
        """Send what waits, as far as there is room.

        Raises:
            WireClosedError: The other side has gone.
        """
        while self._out:
            try:
                sent = self._end.send(self._out[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                raise WireClosedError(f"The other side has gone ({exc.strerror}).") from exc
            self._waiting -= sent
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]

    def receive(self) -> list[Received]:
        """All messages that have come.

        Raises:
            WireClosedError: The other side has gone, or what it said is no message. What came before is lost, too.
        """
        is_over = False
        try:
            while data := self._end.recv(_AT_ONCE):
                self._in += data
                if len(self._in) > _MOST_BYTES:
                    break
            else:
                is_over = True
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            raise WireClosedError(f"The other side has gone ({exc.strerror}).") from exc
        found = list(self._taken())
        if is_over and not found:
            raise WireClosedError("The other side has gone.")
        return found

    def _taken(self) -> list[Received]:
        rows: list[Received] = []
        place = 0
        while place + _LENGTH.size <= len(self._in):
            (length,) = _LENGTH.unpack_from(self._in, place)
            if length > _MOST_BYTES:
                raise WireClosedError("The other side says more than it may.")
            end = place + _LENGTH.size + length
            if end > len(self._in):
                break
            try:
                rows.append(self._decoder.decode(self._in[place + _LENGTH.size : end]))
            except (msgspec.DecodeError, ValueError) as exc:
                raise WireClosedError(f"The other side says what makes no sense ({exc}).") from exc
            place = end
        del self._in[:place]
        return rows


def give(carrier: socket.socket, name: str, end: socket.socket) -> None:
    """Hand one end of a wire to another process, under a name; see :func:`taken`."""
    with contextlib.suppress(OSError):
        socket.send_fds(carrier, [name.encode()], [end.fileno()])


def taken(carrier: socket.socket) -> tuple[str, socket.socket] | None:
    """What another process handed over; None if nothing.

    Raises:
        WireClosedError: That process has gone.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(carrier, 64, 1)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError as exc:
        raise WireClosedError(f"The other side has gone ({exc.strerror}).") from exc
    if not data or not descriptors:
        raise WireClosedError("The other side has gone.")
    return data.decode("ascii", "replace"), socket.socket(fileno=descriptors[0])
