"""Streams from and to a network, and files paced as if they came from one.

What is read here is a stranger's, and what opens it has to reach the network: so only a reader's own process does this,
which knows nothing else, and hands on packets. Nothing here waits longer than it is told to, but for what FFmpeg's
connecting does without a limit (see the process that watches).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import ExitError, FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from vidmod.errors import OutputError, SourceUnreadableError
from vidmod.media.live import AAC_SAMPLES, TIME_BASE, UNSAID_COLOURS, Colours, Shape, configure
from vidmod.media.packets import packet_of
from vidmod.media.places import PROTOCOLS, is_file, output_format, scheme_of, told
from vidmod.media.trust import distrust, shake_hands, tls_options

_FORMATS = "flv,live_flv,hls,mpegts,rtsp,mov,matroska,h264,hevc"
# How long is waited for pictures and sound to show up. With less, FFmpeg has missed pictures that began a little after
# the sound. FLV does not say that there will be no sound: each connection to such a source takes all of it.
_PROBE_SECONDS = 3
_PROBE_SECONDS_WITHOUT_SOUND = 1
# How long is waited for a key picture, which may be the only ones that say how large pictures are.
_SIZE_SECONDS = 20.0
_FIRST_RATE, _LAST_RATE = Fraction(1), Fraction(240)
_USUAL_RATE = Fraction(30)


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """A sound stream: codec as FFmpeg names it, and what its container says before its packets."""

    codec: str
    sample_rate: int
    layout: str
    extradata: bytes


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What a source says of itself.

    Attributes:
        codec: FFmpeg's decoder name.
        size: Stored width and height.
        rate: Pictures a second, as claimed or usual.
        bits: A second, 0 if it does not say so.
        aspect: Width over height of one pixel, as claimed; 1 if it does not say so.
        colours: As it says they are.
    """

    codec: str
    extradata: bytes
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    bits: int
    sound: SoundFacts | None
    aspect: Fraction = Fraction(1)
    colours: Colours = UNSAID_COLOURS


@dataclass(frozen=True, slots=True, repr=False)
class Incoming:
    """A packet: of pictures with its own times, or of sound.

    Attributes:
        pts, dts: In the picture stream's time base; None if it does not say them.
        seconds: Of sound, when it is heard.
        extradata: What replaces the stream's from here on, if anything does.
    """

    is_sound: bool
    data: bytes
    key: bool
    pts: int | None
    dts: int | None
    seconds: float
    extradata: bytes | None = None


class NoPicturesError(SourceUnreadableError):
    """A source can be read and shows no pictures, or none in the time that it had."""


class NetworkReader:
    """An open source. A context manager.

    Args:
        url: `rtmp`, `rtmps`, `http`, `https`, `rtsp`, `tcp`, `udp`, or a file's path, which is paced by its times.
        timeout_seconds: For connecting, and for anything to come.
        max_pixels: Larger pictures are not decoded, not even to know their size.
        trusted: Whose certificates a server may show, as a PEM file; None for anybody's. Of a playlist's entries FFmpeg
            takes any.
        expects_sound: False does not wait long for sound, nor, where there is some, for pictures: for a source that had
            none when it was last read.
        meanwhile: Called again and again while packets come and none says how large pictures are: until a key picture,
            20 s at most.

    Raises:
        UsageError: The URL's scheme is none of these.
        NoPicturesError: It shows no pictures.
        SourceUnreadableError: It cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        max_pixels: int = 1 << 28,
        trusted: str | None = None,
        expects_sound: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        scheme = scheme_of(url)
        probe_seconds = _PROBE_SECONDS if expects_sound else _PROBE_SECONDS_WITHOUT_SOUND
        microseconds = str(round(timeout_seconds * 1e6))
        options = {
            "format_whitelist": _FORMATS,
            "protocol_whitelist": PROTOCOLS[scheme],
            "analyzeduration": str(probe_seconds * 1_000_000),
            "max_streams": "16",
            **tls_options(url, trusted),
        }
        if scheme != "file":
            options["rw_timeout"] = microseconds
        if scheme in ("rtmp", "rtmps"):
            # It claims its rate; to count pictures would take seconds of each connection.
            options["fpsprobesize"] = "0"
        if scheme == "rtsp":
            options["rtsp_transport"] = "tcp"
        self._is_paced = scheme == "file"
        try:
            self._container: InputContainer = av.open(
                f"file:{url}" if scheme == "file" and not url.startswith("file:") else url,
                "r",
                options={"max_pixels": str(max_pixels)},
                container_options=options,
                timeout=(timeout_seconds + probe_seconds, timeout_seconds),
                metadata_errors="replace",
            )
        except (FFmpegError, ValueError, UnicodeError) as exc:
            raise SourceUnreadableError(f"{told(url)}: cannot be opened ({_why(exc, url, trusted)}).") from exc
        self._first: list[Packet[Any]] = []
        try:
            self._choose(url)
            if 0 in _size(self._pictures):
                self._find_size(url, max_pixels, meanwhile)
            self.facts = self._probed()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """More than once is fine."""
        self._container.close()

    def _choose(self, url: str) -> None:
        pictures = [stream for stream in self._container.streams.video if stream.codec_context is not None]
        if not pictures:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            raise NoPicturesError(f"{told(url)}: shows no pictures that vidmod decodes ({kinds}).")
        self._pictures = pictures[0]
        sounds = [item for item in self._container.streams.audio if item.codec_context is not None]
        self._sound: AudioStream | None = sounds[0] if sounds else None

    def _find_size(self, url: str, max_pixels: int, meanwhile: Callable[[], None]) -> None:
        """Wait for the picture that says it, as far as FFmpeg has not: nothing before it can be decoded anyway."""
        context = self._pictures.codec_context
        context.thread_count = 1  # with more, it would be known some pictures later
        until = time.monotonic() + _SIZE_SECONDS
        try:
            for packet in self._container.demux(self._pictures):
                meanwhile()
                with contextlib.suppress(FFmpegError):
                    context.decode(packet)
                if 0 not in _size(self._pictures):
                    break
                if packet.size == 0 or time.monotonic() >= until:
                    raise NoPicturesError(f"{told(url)}: shows no pictures that say how large they are.")
        except (FFmpegError, ValueError) as exc:
            raise SourceUnreadableError(f"{told(url)}: is gone ({reason(exc)}).") from exc
        if context.width * context.height > max_pixels:
            raise SourceUnreadableError(f"{told(url)}: has pictures of more than {max_pixels} pixels.")
        self._first = [packet]

    def _probed(self) -> StreamFacts:
        stream = self._pictures
        rate = stream.average_rate or stream.guessed_rate
        context = stream.codec_context
        return StreamFacts(
            codec=context.codec.name,
            extradata=bytes(context.extradata or b""),
            size=_size(stream),
            rate=rate if rate is not None and _FIRST_RATE <= rate <= _LAST_RATE else _USUAL_RATE,
            time_base=stream.time_base or Fraction(1, 1000),
            bits=context.bit_rate or 0,
            sound=None if self._sound is None else _sound_facts(self._sound),
            aspect=stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1),
            colours=(context.color_primaries, context.color_trc, context.colorspace),
        )

    def packets(self) -> Iterator[Incoming]:
        """What comes, as it comes.

        Raises:
            SourceUnreadableError: The source is gone, silent, or damaged.
        """
        began: float | None = None
        wanted = [stream for stream in (self._pictures, self._sound) if stream is not None]
        try:
            for packet in itertools.chain(self._first, self._container.demux(wanted)):
                if packet.size == 0:
                    continue
                time_base = packet.time_base or Fraction(1, 1000)
                stamp = packet.dts if packet.dts is not None else packet.pts
                if self._is_paced and stamp is not None:
                    seconds = float(stamp * time_base)
                    now = time.monotonic()
                    began = now - seconds if began is None else began
                    time.sleep(max(0.0, began + seconds - now))
                yield self._incoming(packet, time_base)
        except (FFmpegError, ValueError) as exc:
            raise SourceUnreadableError(f"It is gone ({reason(exc)}).") from exc
        raise SourceUnreadableError("It has ended.")

    def _incoming(self, packet: Packet[Any], time_base: Fraction) -> Incoming:
        is_sound = self._sound is not None and packet.stream_index == self._sound.index
        new = bytes(packet.get_sidedata("new_extradata")) if packet.has_sidedata("new_extradata") else None
        return Incoming(
            is_sound=is_sound,
            data=bytes(packet),
            key=packet.is_keyframe,
            pts=packet.pts,
            dts=packet.dts,
            seconds=0.0 if packet.pts is None else float(packet.pts * time_base),
            extradata=new,
        )


class NetworkWriter:
    """A stream that leaves. A context manager.

    Args:
        url: `rtmp` or `rtmps`, `tcp` or `udp` (MPEG-TS), or a path that ends in .m3u8, .ts, .flv, .mkv or .mp4.
        shape: Of its pictures, which a :class:`vidmod.media.live.PictureEncoder` of the same shape encoded.
        sound: Sample rate and layout of its AAC; None for none.
        number: How often this stream was begun before: it goes on in another file beside the first, `NAME-2.mkv`, and
            in the same playlist.
        trusted: Whose certificates a server may show, as a PEM file; None for anybody's. That is looked at on a
            connection of its own before.

    Raises:
        UsageError: The URL is none of these.
        OutputError: It cannot be opened.
    """

    def __init__(
        self,
        url: str,
        shape: Shape,
        sound: tuple[int, str] | None,
        *,
        timeout_seconds: float = 5.0,
        number: int = 0,
        trusted: str | None = None,
    ) -> None:
        name, options = output_format(url)
        self._is_file = is_file(url)
        if name == "hls" and number > 0:
            options["hls_flags"] += "+append_list"
        elif is_file(url) and number > 0:
            url = _beside(url, number)
        try:
            shake_hands(url, trusted, timeout_seconds)
            self._container: OutputContainer = av.open(
                url, "w", format=name, container_options=options, timeout=(timeout_seconds, timeout_seconds)
            )
            self._pictures = self._container.add_stream("libx264", rate=shape.rate)
            configure(self._pictures.codec_context, shape, 1)
            self._pictures.time_base = TIME_BASE
            self._sound = None
            if sound is not None:
                self._sound = self._container.add_stream("aac", rate=sound[0])
                context = self._sound.codec_context
                context.layout, context.format = sound[1], "fltp"
                self._sound.time_base = TIME_BASE
            self._container.start_encoding()
        except (FFmpegError, ValueError, OSError) as exc:
            raise OutputError(f"{told(url)}: cannot be written to ({_why(exc, url, trusted)}).") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
            return
        with contextlib.suppress(OutputError):
            self.close()

    def close(self) -> None:
        """End the stream, as far as whoever reads it still listens; more than once is fine.

        Raises:
            OutputError: The end of a file cannot be written.
        """
        try:
            self._container.close()
        except (FFmpegError, ValueError, OSError) as exc:
            if self._is_file:
                raise OutputError(f"It cannot be written to ({reason(exc)}).") from exc

    def write(self, data: bytes, pts: int, *, is_sound: bool, key: bool) -> None:
        """Write a packet; `pts` in `TIME_BASE`.

        Raises:
            OutputError: It cannot be written.
        """
        stream = self._sound if is_sound else self._pictures
        if stream is None:
            return
        packet = packet_of(data)
        packet.pts = packet.dts = pts
        packet.time_base = TIME_BASE
        packet.is_keyframe = key
        packet.stream = stream
        try:
            self._container.mux(packet)
        except (FFmpegError, ValueError, OSError) as exc:
            what = "cannot be written to" if self._is_file else "is gone"
            raise OutputError(f"It {what} ({reason(exc)}).") from exc


def _size(stream: VideoStream) -> tuple[int, int]:
    return (stream.codec_context.width, stream.codec_context.height)


def _beside(path: str, number: int) -> str:
    """A name that is free, for what follows upon a file."""
    stem, dot, suffix = path.rpartition(".")
    while os.path.lexists(found := f"{stem}-{number + 1}{dot}{suffix}"):
        number += 1
    return found


def packet_seconds(sample_rate: int) -> float:
    """How long a packet of AAC sounds."""
    return AAC_SAMPLES / sample_rate


def reason(exc: Exception) -> str:
    """Why FFmpeg gave up, for people."""
    if isinstance(exc, ExitError):
        return "it did not answer in time"
    return str(getattr(exc, "strerror", None) or exc)


def _why(exc: Exception, url: str, trusted: str | None) -> str:
    """Why one could not be connected to, for people."""
    return (None if isinstance(exc, ExitError) else distrust(exc, url, trusted)) or reason(exc)


def _sound_facts(stream: AudioStream) -> SoundFacts:
    context = stream.codec_context
    return SoundFacts(
        context.codec.canonical_name if hasattr(context.codec, "canonical_name") else context.name,
        context.sample_rate,
        context.layout.name,
        bytes(context.extradata or b""),
    )
