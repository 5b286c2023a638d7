"""Frames between two processes: a length of four bytes, big endian, and a JSON object in UTF-8."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import socket
from typing import Any, Final, NoReturn, cast

Json = dict[str, Any]
MAX_FRAME_BYTES: Final = 4 << 20

_PREFIX_BYTES = 4
# Half of a surrogate pair is no character: nothing that is written as UTF-8 later could hold it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class WireError(ValueError):
    """What came, or was to be sent, is not a frame."""


def encode(message: Json) -> bytes:
    """Write one frame.

    Raises:
        WireError: The message is not JSON (NaN and infinity are not), or is above 4 MiB.
    """
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise WireError(f"A message cannot be written as JSON ({exc}).") from exc
    body = text.encode("utf-8", "replace")
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"A message has {len(body)} bytes; at most {MAX_FRAME_BYTES} are allowed.")
    return len(body).to_bytes(_PREFIX_BYTES, "big") + body


def connect() -> tuple[socket.socket, int]:
    """Make a connection: this side's end, which never waits, and the descriptor of the other, which does."""
    pair = socket.socketpair()
    descriptors: list[int] = []
    try:
        for end in pair:
            # Where standard streams are closed their numbers are free, and what a library prints lands on them.
            descriptors.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3))
            end.close()
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        for end in pair:
            end.close()
        raise
    os.set_blocking(descriptors[1], True)
    ours = socket.socket(fileno=descriptors[0])
    ours.setblocking(False)
    return ours, descriptors[1]


class Inbox:
    """Bytes in, frames out. Holds little more than one frame if it is emptied between feeds."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`take` gives a frame, or an error."""
        size = self._size()
        return size is not None and (size > MAX_FRAME_BYTES or len(self._bytes) >= _PREFIX_BYTES + size)

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        self._bytes += data

    def take(self) -> Json | None:
        """The next frame; None if it is not complete yet.

        Raises:
            WireError: The frame is too large, or is not one JSON object. What follows is worthless.
        """
        if not self.is_ready:
            return None
        size = cast(int, self._size())
        if size > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {size} bytes; at most {MAX_FRAME_BYTES} are allowed")
        body = bytes(self._bytes[_PREFIX_BYTES : _PREFIX_BYTES + size])
        del self._bytes[: _PREFIX_BYTES + size]
        return _decode(body)

    def _size(self) -> int | None:
        if len(self._bytes) < _PREFIX_BYTES:
            return None
        return int.from_bytes(self._bytes[:_PREFIX_BYTES], "big")


def _decode(body: bytes) -> Json:
    try:
        message = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        if _SURROGATE.search(body) is not None:
            json.dumps(message, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as exc:
        # Of the exception only its kind: its text quotes the frame.
        raise WireError(f"a frame that is not JSON ({type(exc).__name__})") from exc
    if not isinstance(message, dict):
        raise WireError(f"a frame with a {type(message).__name__} in place of an object")
    return message


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value
