"""The packets of streams that are no pictures: sound, subtitles, data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError
from av.packet import Packet

from vidmod.cuts import reach
from vidmod.media.facts import Medium
from vidmod.media.source import open_container

# PCM that is not silent at 0.
_SILENCE = {"pcm_u8": b"\x80", "pcm_mulaw": b"\xff", "pcm_alaw": b"\xd5"}
# By how much longer than from its first packet to its last a stream may claim to play: encoders' delays, rounding.
_MOST_SHARE, _MOST_SECONDS = Fraction(21, 20), Fraction(1, 2)
# As in `Demuxer`.
_MAX_READ_ERRORS = 16
_SIGN_OF_LIFE_PACKETS = 32


def other_packets(medium: Medium) -> Iterator[tuple[Packet[Any], Fraction]]:
    """Every such packet that has a time, and that time in seconds."""
    with open_container(medium) as container:
        streams = [item for item in container.streams if item.type != "video"]
        errors = 0
        while streams and errors < _MAX_READ_ERRORS:
            try:
                for packet in container.demux(*streams):
                    errors = 0
                    time = packet.pts if packet.pts is not None else packet.dts
                    if packet.size and time is not None:
                        yield packet, time * (packet.time_base or Fraction(1))
                return
            except FFmpegError:
                errors += 1


def untimed(medium: Medium, alive: Callable[[], None]) -> frozenset[int]:
    """The sound streams of which it is not known what is heard when: too many packets claim the same time.

    `alive` is called now and then.
    """
    claims: dict[int, _Claim] = {}
    for number, (packet, time) in enumerate(other_packets(medium)):
        if number % _SIGN_OF_LIFE_PACKETS == 0:
            alive()
        if isinstance(packet.stream.codec_context, AudioCodecContext):
            length = (packet.duration or 0) * (packet.time_base or Fraction(1))
            claims.setdefault(packet.stream_index, _Claim(time)).note(time, length)
    return frozenset(index for index, claim in claims.items() if claim.is_impossible())


@dataclass(slots=True)
class _Claim:
    """For how long a stream's packets play, and from when to when, in seconds."""

    first: Fraction
    last: Fraction = Fraction(0)
    played: Fraction = Fraction(0)

    def note(self, time: Fraction, length: Fraction) -> None:
        self.first, self.last = min(self.first, time), max(self.last, time + length)
        self.played += length

    def is_impossible(self) -> bool:
        return self.played > (self.last - self.first) * _MOST_SHARE + _MOST_SECONDS


def is_raw(packet: Packet[Any]) -> bool:
    """Whether it is a number of samples, and not one thing that is decoded as a whole."""
    context = packet.stream.codec_context
    return context is not None and context.name.startswith("pcm_")


def is_loose(packet: Packet[Any]) -> bool:
    """Whether its file has only samples, so that others may be read than were written."""
    return is_raw(packet) and packet.stream.container.format.name.startswith("mov")


def silent_bytes(packet: Packet[Any]) -> bytes:
    """What silence is made of, in a stream of PCM."""
    return _SILENCE.get(packet.stream.codec_context.name, b"\0")


def lasting(packet: Packet[Any], time: Fraction) -> tuple[Fraction, Fraction]:
    """From when to when a packet of that time, in seconds, has to do with what is heard or seen."""
    length = (packet.duration or 0) * (packet.time_base or Fraction(1))
    context = packet.stream.codec_context
    if not isinstance(context, AudioCodecContext):
        return time, time + length
    if context.frame_size and context.sample_rate:
        length = max(length, Fraction(context.frame_size, context.sample_rate))
    before, after = reach(context.name, context.profile, length)
    return time - before, time + length + after
