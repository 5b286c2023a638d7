"""Publishes a film over and over: `python -m tests.rtmp_publisher URL FILM LOG IDENT`; orders come on standard input.

Packets go out as they are stored, each when its time has come, all that is late at once, as an encoder's would that was
held up.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.container import OutputContainer
from av.packet import Packet

from tests.rtmp import SENT

# Decoding times may begin before 0, which RTMP has no numbers for.
_FIRST_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0


class _Stored(NamedTuple):
    is_sound: bool
    pts: float
    dts: float
    key: bool
    data: bytes
    number: int


class _Publisher:
    def __init__(self, url: str, film: str, log: str, ident: int) -> None:
        self._url, self._ident = url, ident
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._film = av.open(film)
        self._streams = [*self._film.streams.video, *self._film.streams.audio]
        rate = self._streams[0].average_rate
        assert rate is not None
        frames = self._streams[0].frames
        self._seconds = float(frames / rate)
        self._packets = sorted(self._stored(rate), key=lambda row: row.dts)
        self._garbage_until = 0.0
        self._ahead = 0.0
        os.set_blocking(0, False)

    def _stored(self, rate: Fraction) -> Iterator[_Stored]:
        for packet in self._film.demux(self._streams):
            if packet.size and packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                pts, dts = (float(stamp * packet.time_base) for stamp in (packet.pts, packet.dts))
                is_sound = packet.stream_index != self._streams[0].index
                number = round(pts * float(rate))
                # All that is heard begins within the film: the next time round begins where this one ends.
                if pts < self._seconds:
                    yield _Stored(is_sound, pts, dts, packet.is_keyframe, bytes(packet), number)

    def run(self) -> None:
        output = self._connected()
        began = place = time.monotonic()
        turn = 0
        while True:
            for row in self._packets:
                due = began + turn * self._seconds + row.dts
                time.sleep(max(0.0, due - time.monotonic()))
                if self._ordered():
                    output.close()
                    output, place, self._ahead = self._connected(), due, 0.0
                self._send(output, row, due - place)
            turn += 1

    def _ordered(self) -> bool:
        """Take orders; whether to connect again."""
        try:
            lines = os.read(0, 4096).decode().splitlines()
        except BlockingIOError:
            return False
        again = False
        for line in lines:
            match line.split():
                case ["garbage", seconds]:
                    self._garbage_until = time.monotonic() + float(seconds)
                case ["jump", seconds]:
                    self._ahead += float(seconds)
                case ["back"]:
                    again = True
        return again

    def _connected(self) -> OutputContainer:
        output = av.open(
            self._url,
            "w",
            format="flv",
            container_options={"flvflags": "no_duration_filesize"},
            timeout=(_TIMEOUT_SECONDS, _TIMEOUT_SECONDS),
        )
        for stream in self._streams:
            output.add_stream_from_template(stream)
        output.start_encoding()
        return output

    def _send(self, output: OutputContainer, row: _Stored, at: float) -> None:
        data = _spoilt(row.data) if time.monotonic() < self._garbage_until else row.data
        packet: Packet[Any] = Packet(data)
        seconds = _FIRST_SECONDS + at + self._ahead
        packet.time_base = Fraction(1, 90_000)
        packet.dts = round(seconds * 90_000)
        packet.pts = packet.dts + round((row.pts - row.dts) * 90_000)
        packet.is_keyframe = row.key
        packet.stream = output.streams[1 if row.is_sound else 0]
        output.mux(packet)
        if not row.is_sound:
            os.write(self._log, SENT.pack(time.monotonic(), self._ident, row.number))


def _spoilt(data: bytes) -> bytes:
    """What a broken encoder or a malicious one may send: noise, some wrong bytes, a part, nothing but a length."""
    match random.randrange(4):
        case 0:
            return random.randbytes(len(data))
        case 1:
            found = bytearray(data)
            for _ in range(max(1, len(data) // 50)):
                found[random.randrange(len(data))] = random.randrange(256)
            return bytes(found)
        case 2:
            return data[: max(1, len(data) // 3)]
        case _:
            return data[:4] + bytes(max(1, len(data) - 4))


def main(arguments: list[str]) -> None:
    """Publish until killed, or until the server is gone."""
    url, film, log, ident = arguments
    _Publisher(url, film, log, int(ident)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
