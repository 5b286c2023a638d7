"""Recording packets as they come: Matroska that plays up to where it was cut off, and whose times begin at 0.

What is written is a cluster of at most a second after the other (RFC 9559, 5.1.3), so that a kill costs no more. Where
the file can be sought in, an index and the length are added at the end.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.layout import AudioLayout
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from vidmod.closing import Closing
from vidmod.errors import OutputError, SourceUnreadableError
from vidmod.media.live import PIXEL_FORMAT
from vidmod.media.muxer import RefusedError
from vidmod.media.packets import packet_of

# Matroska counts in milliseconds, as FFmpeg writes it.
TIME_BASE = Fraction(1, 1000)
FORMAT = "matroska,webm"
_OPTIONS = {
    "cluster_time_limit": "1000",
    "flush_packets": "1",
    # In microseconds: pictures do not wait any longer for sound that does not come.
    "max_interleave_delta": "500000",
    # The times are right as they are.
    "avoid_negative_ts": "disabled",
}
_ADTS_BYTES = 7


class Written(Protocol):
    """Where bytes go. With `seek` and `tell` it can be sought in."""

    def write(self, data: bytes) -> int:
        """Write all of it.

        Raises:
            OSError: It cannot be written.
        """


@dataclass(frozen=True, slots=True)
class RecordedPictures:
    """Pictures that are recorded.

    Attributes:
        codec: Of FFmpeg, a codec's or a decoder's name.
        extradata: What a container says before the packets; of H.264 and HEVC with lengths or start codes alike.
        size: Width and height.
        rate: Pictures a second, as the file will claim.
    """

    codec: str
    extradata: bytes
    size: tuple[int, int]
    rate: Fraction


@dataclass(frozen=True, slots=True)
class RecordedSound:
    """Sound that is recorded."""

    codec: str
    extradata: bytes
    sample_rate: int
    layout: str


class MatroskaWriter(Closing):
    """Writes packets. Belongs to one thread.

    Args:
        output: Where to; not closed.
        sound: None without.

    Raises:
        RefusedError: Matroska does not take these codecs.
        OutputError: It cannot be written to; why, without its name.
    """

    def __init__(self, output: Written, pictures: RecordedPictures, sound: RecordedSound | None) -> None:
        self._container: OutputContainer | None = None
        with _writing():
            self._container = av.open(cast(Any, output), "w", format="matroska", container_options=_OPTIONS)
            # Never written, and never opened: streams without an encoder are made like another one's.
            with av.open(io.BytesIO(), "w", format="matroska") as pattern:
                self._pictures = self._picture_stream(pattern, pictures)
                self._sound = None if sound is None else self._sound_stream(pattern, sound)
            self._container.start_encoding()

    def close(self) -> None:
        """Write what is left, and the index; more than once is fine.

        Raises:
            OutputError: It cannot be written.
        """
        container, self._container = self._container, None
        if container is not None:
            with _writing():
                container.close()

    def abandon(self) -> None:
        """Write no more than can be written; more than once is fine."""
        with contextlib.suppress(OutputError):
            self.close()

    def picture(self, data: bytes, pts: int, dts: int, duration: int, *, key: bool) -> None:
        """Write a packet of pictures; times in `TIME_BASE`, and in the order of `dts`.

        Raises:
            RefusedError: Its times or its content make no sense. The next one's may.
            OutputError: The file cannot be written.
        """
        self._write(self._pictures, data, pts, dts, duration, key=key)

    def sound(self, data: bytes, pts: int) -> None:
        """Write a packet of sound, in order; left out where there is no sound.

        Raises:
            RefusedError: Its time or its content makes no sense. The next one's may.
            OutputError: The file cannot be written.
        """
        if self._sound is not None:
            self._write(self._sound, data, pts, pts, 0, key=True)

    def _write(self, stream: Stream, data: bytes, pts: int, dts: int, duration: int, *, key: bool) -> None:
        if self._container is None:
            return
        packet = packet_of(data)
        packet.pts, packet.dts, packet.duration, packet.time_base = pts, dts, duration, TIME_BASE
        packet.is_keyframe = key
        packet.stream = stream
        with _writing():
            self._container.mux_one(packet)

    def _picture_stream(self, pattern: OutputContainer, facts: RecordedPictures) -> Stream:
        stream = self._like(pattern.add_stream(cast(Any, _codec_name(facts.codec)), rate=facts.rate))
        context = cast(VideoCodecContext, stream.codec_context)
        context.width, context.height = facts.size
        context.pix_fmt = PIXEL_FORMAT
        context.extradata = facts.extradata or None
        return stream

    def _sound_stream(self, pattern: OutputContainer, facts: RecordedSound) -> Stream:
        stream = self._like(pattern.add_stream(cast(Any, _codec_name(facts.codec)), rate=facts.sample_rate))
        context = cast(AudioCodecContext, stream.codec_context)
        context.sample_rate = facts.sample_rate
        cast(Any, context).layout = facts.layout
        context.extradata = facts.extradata or None
        return stream

    def _like(self, pattern: Stream) -> Stream:
        assert self._container is not None
        stream: Stream = self._container.add_stream_from_template(cast(Any, pattern), opaque=True)
        stream.time_base = TIME_BASE
        return stream


def channels_of(layout: str) -> int:
    """How many channels a layout has, as FFmpeg names it.

    Raises:
        ValueError: There is no such layout.
    """
    return AudioLayout(layout).nb_channels


def plain_aac_config(sample_rate: int, layout: str) -> bytes:
    """What a container says of AAC-LC (ISO/IEC 14496-3, 1.6.2.1).

    Raises:
        RefusedError: There is no AAC of that rate and layout.
    """
    with _writing():
        context = av.CodecContext.create("aac", "w")
        context.sample_rate, context.layout, context.format = sample_rate, layout, "fltp"
        context.open()
        return bytes(context.extradata or b"")


def aac_config_of(packet: bytes) -> bytes | None:
    """The same, of a packet that says it itself: an ADTS frame (ISO/IEC 14496-3, 1.A.2.2); None of any other."""
    if len(packet) < _ADTS_BYTES or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return None
    kind, rate = (packet[2] >> 6) + 1, packet[2] >> 2 & 15
    channels = (packet[2] & 1) << 2 | packet[3] >> 6
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")


def recorded_end(path: Path) -> int | None:
    """When the last picture of a recording begins, in `TIME_BASE`; of one that was cut off as far as it goes.

    Returns:
        None if there is no picture in it.

    Raises:
        SourceUnreadableError: It cannot be read.
    """
    last: int | None = None
    try:
        with path.open("rb") as file:
            if not file.read(1):
                return None
            file.seek(0)
            with contextlib.suppress(FFmpegError), av.open(file, "r", format="matroska") as source:
                for packet in source.demux(video=0):
                    if packet.size and packet.pts is not None:
                        last = packet.pts if last is None else max(last, packet.pts)
    except (OSError, ValueError, IndexError) as exc:
        raise SourceUnreadableError(f"{path}: cannot be read ({exc}).") from exc
    return last


def _codec_name(name: str) -> str:
    """A codec's own name, of a decoder's.

    Raises:
        ValueError: There is none.
    """
    return av.Codec(name, "r").canonical_name


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Translate what goes wrong while writing."""
    try:
        yield
    except OutputError:
        raise
    except (FFmpegError, ValueError, OverflowError) as exc:
        # What the file itself raises comes through as it is; this is the muxer's own.
        raise RefusedError(f"Matroska does not take it ({getattr(exc, 'strerror', None) or exc}).") from exc
    except OSError as exc:
        raise OutputError(exc.strerror or str(exc)) from exc
