"""Plays a stream and writes down what comes: `python -m tests.rtmp_player URL RECORD [EVERY LENGTH]`.

Nothing is decoded. When the connection is gone it says so, and connects again.
"""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from tests.rtmp import CONNECTED, EXTRADATA, GONE, PICTURE, RECORD, SOUND

_OPENING_SECONDS = 60.0
# Longer than any server here stands still.
_PATIENCE_SECONDS = 120.0
_AGAIN_SECONDS = 0.1
_MS = Fraction(1, 1000)


class _Player:
    def __init__(self, url: str, file: BinaryIO, every: float | None, length: float) -> None:
        self._url, self._file, self._every, self._length = url, file, every, length
        self._began = time.monotonic()
        self._is_writing = False

    def run(self) -> None:
        while True:
            try:
                self._play()
                why = "it has ended"
            except FFmpegError as exc:
                why = str(exc.strerror or exc)
            self._write(GONE, data=why.encode())
            time.sleep(_AGAIN_SECONDS)

    def _play(self) -> None:
        with av.open(
            self._url,
            # What it takes to know both streams, and no more: a player that tunes in fast.
            container_options={"fflags": "nobuffer", "analyzeduration": "2000000", "fpsprobesize": "0"},
            timeout=(_OPENING_SECONDS, _PATIENCE_SECONDS),
        ) as source:
            streams = [*source.streams.video[:1], *source.streams.audio[:1]]
            self._write(CONNECTED, data=json.dumps({_kind(stream): _told(stream) for stream in streams}).encode())
            sounds = {stream.index for stream in streams if stream.type == "audio"}
            for packet in source.demux(streams):
                if packet.size:
                    self._packet(packet, is_sound=packet.stream_index in sounds)

    def _packet(self, packet: Packet[Any], *, is_sound: bool) -> None:
        since = time.monotonic() - self._began
        if self._every is not None:
            is_wanted = since % self._every < self._length
            # What is written down begins with a picture that can be begun with.
            self._is_writing = is_wanted and (self._is_writing or (packet.is_keyframe and not is_sound))
            if not self._is_writing:
                return
        if not is_sound and packet.has_sidedata("new_extradata"):
            self._write(EXTRADATA, data=bytes(packet.get_sidedata("new_extradata")))
        base = packet.time_base or _MS
        pts, dts = (-1 if stamp is None else round(stamp * base / _MS) for stamp in (packet.pts, packet.dts))
        self._write(SOUND if is_sound else PICTURE, pts, dts, key=packet.is_keyframe, data=bytes(packet))

    def _write(self, kind: bytes, pts: int = 0, dts: int = 0, *, key: bool = False, data: bytes = b"") -> None:
        self._file.write(RECORD.pack(kind, time.monotonic(), pts, dts, key, len(data)) + data)


def _kind(stream: Stream) -> str:
    return "sound" if stream.type == "audio" else "picture"


def _told(stream: Stream) -> dict[str, str] | None:
    # There is none for a codec that FFmpeg does not know.
    context: CodecContext | None = stream.codec_context
    if context is None:
        return None
    return {"codec": context.codec.name, "extradata": bytes(context.extradata or b"").hex()}


def main(arguments: list[str]) -> None:
    """Play until killed."""
    url, record, *times = arguments
    every, length = (float(times[0]), float(times[1])) if times else (None, 0.0)
    with Path(record).open("ab", buffering=0) as file:
        _Player(url, file, every, length).run()


if __name__ == "__main__":
    main(sys.argv[1:])
