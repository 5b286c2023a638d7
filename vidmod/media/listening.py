"""How loud a file is during some spans, as whoever plays it hears it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from vidmod.media.facts import Medium
from vidmod.media.silence import meets
from vidmod.media.sound_coding import as_floats, samples_of
from vidmod.media.source import open_container
from vidmod.timebase import Span

# As in `Demuxer` and `Reader`.
_MAX_READ_ERRORS = 16
_SIGN_OF_LIFE_PACKETS = 32


@dataclass(slots=True)
class Loudness:
    """What was heard of one sound stream.

    Attributes:
        index: Its number in the file.
        peak: The largest sample during the spans, 1 for full scale.
        at_seconds: When that was heard.
        undecodable: Packets in the spans that nobody can decode here.
    """

    index: int
    peak: float = 0.0
    at_seconds: float = 0.0
    undecodable: int = 0


def listen(medium: Medium, spans: tuple[Span, ...], alive: Callable[[], None] = lambda: None) -> list[Loudness]:
    """Decode all sound streams from the beginning, and measure some spans of them.

    Args:
        medium: The file.
        spans: Seconds of presentation time, sorted and disjoint.
        alive: Called now and then.

    Raises:
        SourceError: The file cannot be opened.
    """
    with open_container(medium) as container:
        streams = [item for item in container.streams.audio if item.codec_context is not None]
        ears = {item.index: _Ear(item, spans) for item in streams}
        for number, packet in enumerate(_packets(container, streams)):
            if number % _SIGN_OF_LIFE_PACKETS == 0:
                alive()
            ears[packet.stream_index].push(packet)
        for ear in ears.values():
            ear.flush()
        deaf = [Loudness(item.index, undecodable=1) for item in container.streams.audio if item.codec_context is None]
    return sorted([*(ear.heard for ear in ears.values()), *deaf], key=lambda row: row.index)


def _packets(container: InputContainer, streams: list[AudioStream]) -> Iterator[Packet[Any]]:
    errors = 0
    while streams and errors < _MAX_READ_ERRORS:
        try:
            for packet in container.demux(*streams):
                errors = 0
                if packet.size:
                    yield packet
            return
        except FFmpegError:
            errors += 1


class _Ear:
    """Decodes one stream."""

    def __init__(self, stream: AudioStream, spans: tuple[Span, ...]) -> None:
        self.heard = Loudness(stream.index)
        self._context = stream.codec_context
        self._context.thread_count = 1
        self._base = stream.time_base or Fraction(1)
        self._spans = spans
        self._next = Fraction(0)

    def push(self, packet: Packet[Any]) -> None:
        try:
            frames = self._context.decode(packet)
        except FFmpegError:
            if packet.pts is not None and not self._inside(
                packet.pts * self._base, (packet.duration or 1) * self._base
            ):
                return
            self.heard.undecodable += 1
            return
        for frame in frames:
            self._measure(frame)

    def flush(self) -> None:
        try:
            for frame in self._context.decode(None):
                self._measure(frame)
        except FFmpegError:
            return

    def _inside(self, start: Fraction, length: Fraction) -> bool:
        return meets(self._spans, start, start + length)

    def _measure(self, frame: AudioFrame) -> None:
        rate = frame.sample_rate
        start = self._next if frame.pts is None else frame.pts * (frame.time_base or self._base)
        length = Fraction(frame.samples, rate)
        self._next = start + length
        if not frame.samples or not self._inside(start, length):
            return
        try:
            samples = np.abs(as_floats(samples_of(frame))).max(axis=0)
        except ValueError:
            self.heard.undecodable += 1
            return
        at = float(start) + np.arange(samples.size) / rate
        # A container's times are no finer than its unit.
        tick = float(self._base)
        inside = np.zeros(samples.size, bool)
        for span in self._spans:
            inside |= (at >= span.start + tick) & (at < span.end - tick)
        # What is no number is not silent.
        loud = np.where(inside, np.nan_to_num(samples, nan=np.inf), 0)
        loudest = int(loud.argmax())
        if loud[loudest] > self.heard.peak:
            self.heard.peak, self.heard.at_seconds = float(loud[loudest]), float(at[loudest])
