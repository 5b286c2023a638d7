"""What is asked of a rewriting and what is told of it, and what both ways of doing it share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidmod.cuts import Cuts
from vidmod.errors import OutputError, SourceUnreadableError, UsageError, choose
from vidmod.media.encoding import (
    DEFAULT_PRESET,
    Effort,
)
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.groups import codec_of
from vidmod.media.muting import Muted, Muting
from vidmod.media.muxer import KEEPABLE, Dropped, Muxer, output_format
from vidmod.media.others import is_raw, lasting, silent_bytes, untimed
from vidmod.media.packets import packet_of
from vidmod.media.silence import NotMutableError, meets
from vidmod.media.splicing import stand_in
from vidmod.timebase import Span, overlaps, union

Draw = Callable[[VideoFrame, int], None]
# As in `Demuxer` and `Reader`.
_MAX_READ_ERRORS = 16
_SIGN_OF_LIFE_PACKETS = 32
# How long subtitles are taken to be shown that do not say so.
_UNSAID_SECONDS = 10.0
_NO_TEXT = b"\0\0"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change, what to keep and how to encode.

    Attributes:
        touched: When the pictures to change are shown, half open, in pts of the track's time base.
        keep: Which of `KEEPABLE` are kept beside sound and languages, which always are.
        muted: When all sound is silent, half open, in pts of the track's time base; none to copy it as it is.
        crf, preset, threads: See `Effort`.
        full: Encode the whole stream.
        gpu: Which NVIDIA GPU encodes a whole stream, if it can; None for the CPU.
        cuts: What is removed, half open, in pts of the track's time base: every picture that is shown in it for any
            time, and all that sounds meanwhile. What comes after moves forward, see :mod:`vidmod.cuts`.

    Raises:
        UsageError: Something is to be removed and something to be changed.
    """

    touched: tuple[Span, ...]
    keep: frozenset[str] = frozenset()
    muted: tuple[Span, ...] = ()
    crf: float | None = None
    preset: str = DEFAULT_PRESET
    threads: int = 1
    full: bool = False
    gpu: int | None = None
    cuts: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if self.cuts and self.touched:
            raise UsageError("Invalid plan (touched and cuts). Use one of them.")
        for name in sorted(self.keep):
            choose("keep", name, KEEPABLE)

    def effort(self) -> Effort:
        """How to encode, as far as it does not depend on the source."""
        return Effort(crf=self.crf, preset=self.preset, threads=self.threads, gpu=self.gpu)

    def spans(self) -> tuple[tuple[int, int], ...]:
        """What is touched, sorted and disjoint."""
        return tuple((int(span.start), int(span.end)) for span in union(self.touched))

    def removed(self) -> tuple[tuple[int, int], ...]:
        """What is to be cut, sorted and disjoint."""
        return tuple((int(span.start), int(span.end)) for span in union(self.cuts))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was done.

    Attributes:
        format: FFmpeg's name of the muxer.
        format_reason: Why that is not the source's format; None if it is.
        full: Whether the whole stream was encoded.
        reason: Why it was; None if it was not.
        encoder: FFmpeg's name; None if nothing was encoded.
        copied_packets: Of the picture stream.
        groups, pictures: How many were encoded.
        drawn: How many of those were changed.
        spans: When they are shown, in pts, sorted and disjoint.
        dropped: What is not in the output.
        muted: What became of each sound stream, where any was to be muted.
        hidden_subtitles: How many were left out, since what they say is muted.
        lost_pictures: Packets of which no picture could be decoded; only where all was encoded.
        lost_packets: Packets of copied streams that were out of order.
        read_errors: Times that reading on failed.
        cuts: What was removed, to whole pictures.
        cut_pictures, cut_packets: How many pictures, and packets of other streams, were removed.
        streams: For every stream of the output, which one of the source it is.
    """

    format: str
    format_reason: str | None
    full: bool
    reason: str | None
    encoder: str | None
    copied_packets: int
    groups: int
    pictures: int
    drawn: int
    spans: tuple[Span, ...]
    dropped: tuple[Dropped, ...]
    muted: tuple[Muted, ...] = ()
    hidden_subtitles: int = 0
    lost_pictures: int = 0
    lost_packets: int = 0
    read_errors: int = 0
    cuts: Cuts = field(default_factory=Cuts)
    cut_pictures: int = 0
    cut_packets: int = 0
    streams: tuple[int, ...] = ()


@dataclass(slots=True)
class Tally:
    """The account as it grows; see `Rewritten`."""

    copied_packets: int = 0
    groups: int = 0
    pictures: int = 0
    drawn: int = 0
    lost_pictures: int = 0
    read_errors: int = 0
    hidden_subtitles: int = 0
    cut_pictures: int = 0
    cut_packets: int = 0
    spans: list[Span] = field(default_factory=list)


class Job:
    """What both ways have in common: reading packets of several streams, and the account.

    Attributes:
        cuts: What is removed, to whole pictures; known before the output is begun.
    """

    def __init__(
        self, medium: Medium, track: VideoTrack, output: BinaryIO, plan: Plan, draw: Draw, alive: Callable[[], None]
    ) -> None:
        self.medium, self.track, self.output, self.plan = medium, track, output, plan
        self.draw, self.alive = draw, alive
        self.tally = Tally()
        self.forced: tuple[str, str] | None = None
        self._packets = 0
        self.touched, self.removed = plan.spans(), plan.removed()
        self.cuts = Cuts()
        # What turned out under way not to be possible with a sound stream, by its index.
        self.failed: Mapping[int, NotMutableError] = {}
        self._raw_ends: dict[int, int] = {}
        self._unfit: frozenset[int] = frozenset()

    def stream_of(self, container: InputContainer) -> VideoStream:
        """The picture stream that is changed.

        Raises:
            SourceUnreadableError: It is not there, or nothing can decode it.
        """
        index = self.track.index
        stream = next((item for item in container.streams.video if item.index == index), None)
        if stream is None or stream.codec_context is None:
            raise SourceUnreadableError(f"{self.medium}: stream {index} is gone, or of a codec nobody knows.")
        return stream

    def muxer(self, container: InputContainer) -> Muxer:
        """The output, emptied and without streams yet."""
        stream = self.stream_of(container)
        kept = output_format(self.medium, container, stream, codec_of(self.track.codec))
        self.format, self.format_reason = self.forced or kept
        muxer = Muxer(self.output, self.format, stream.time_base or Fraction(1), keep=self.plan.keep)
        muxer.unfit = self._unfit
        muxer.describe(container, self.cuts)
        base = self.track.time_base
        self._silent = tuple(Span(float(span.start * base), float(span.end * base)) for span in union(self.plan.muted))
        self._muting = Muting(self._silent, self.failed)
        return muxer

    def keep(self, stream: Stream, muxer: Muxer) -> None:
        """Give another stream than the pictures its place in the output, or note that it has none."""
        if self._silent and isinstance(stream, AudioStream):
            self._muting.add(stream, muxer)
        else:
            muxer.keep(stream)

    def pass_on(self, packet: Packet[Any], muxer: Muxer) -> None:
        """Write a packet of another stream than the pictures, moved or muted if need be."""
        if self.cuts:
            self._move_on(packet, muxer)
        elif self._muting.holds(packet.stream_index):
            self._muting.push(packet, muxer)
        elif self._silent and isinstance(packet.stream, SubtitleStream) and self._is_muted(packet):
            self.tally.hidden_subtitles += packet.size > len(_NO_TEXT)
            if packet.stream.codec_context.name == "mov_text":
                # In MP4 one without text ends the one before it.
                muxer.copy(stand_in(packet, _NO_TEXT))
        else:
            muxer.copy(packet)

    def _is_muted(self, packet: Packet[Any]) -> bool:
        if packet.pts is None:
            return True
        start = float(packet.pts * packet.time_base)
        end = start + (float((packet.duration or 0) * packet.time_base) or _UNSAID_SECONDS)
        return meets(self._silent, start, end)

    def finish(self, muxer: Muxer) -> None:
        """Write what is left of the other streams, and the index."""
        self._muting.finish(muxer)
        muxer.close()

    def packets(self, container: InputContainer, muxer: Muxer | None) -> Iterator[Packet[Any]]:
        """The packets with data of all streams that have a place in the output; without one, of the picture stream."""
        streams = [
            item
            for item in container.streams
            if (item.index == self.track.index if muxer is None else muxer.holds(item.index))
        ]
        errors = 0
        while errors < _MAX_READ_ERRORS:
            try:
                for packet in container.demux(*streams):
                    errors = 0
                    if packet.size:
                        self._packets += 1
                        if self._packets % _SIGN_OF_LIFE_PACKETS == 0:
                            self.alive()
                        yield packet
                return
            except FFmpegError:
                errors += 1
                self.tally.read_errors += 1

    def _move_on(self, packet: Packet[Any], muxer: Muxer) -> None:
        """Write a packet of another stream, moved as the pictures around it are, unless any of it is cut."""
        cover = packet.stream.disposition & Disposition.attached_pic
        time = packet.pts if packet.pts is not None else packet.dts
        if self.cuts and time is not None and not cover:
            base = packet.time_base or Fraction(1)
            if self.cuts.removes(*lasting(packet, time * base)):
                self.tally.cut_packets += 1
                return
            shift = time - self.cuts.shifted_pts(time, base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if muxer.is_mov and is_raw(packet):
                self._fill(packet, time - shift, muxer)
        muxer.copy(packet)

    def _fill(self, packet: Packet[Any], time: int, muxer: Muxer) -> None:
        """Fill what a cut left open before a packet of PCM with silence: MP4 gives samples no times of their own."""
        length = packet.duration or 0
        end = self._raw_ends.get(packet.stream_index, time)
        self._raw_ends[packet.stream_index] = time + length
        if length and end < time and packet.size % length == 0:
            silence = packet_of(silent_bytes(packet) * (packet.size // length * (time - end)))
            silence.pts = silence.dts = end
            silence.duration, silence.time_base = time - end, packet.time_base
            muxer.write(silence, packet.stream_index)

    def prepare_cut(self, kept: int) -> None:
        """Before anything is written: that some picture remains, and which streams cannot be cut.

        Raises:
            OutputError: None does.
        """
        if not kept:
            raise OutputError(f"{self.medium}: nothing is left, all of its pictures are cut.")
        self._unfit = untimed(self.medium, self.alive)

    def draw_on(self, frame: VideoFrame, pts: int, end_pts: int) -> bool:
        """Change a picture if any of the time that it is shown is touched; whether it was."""
        if not overlaps(self.touched, pts, end_pts):
            return False
        frame.make_writable()
        self.draw(frame, pts)
        return True

    def result(self, muxer: Muxer, encoder: str | None, reason: str | None) -> Rewritten:
        """What was done; `reason` is why all was encoded, None if not all was."""
        tally = self.tally
        return Rewritten(
            format=self.format,
            format_reason=self.format_reason,
            full=reason is not None,
            reason=reason,
            encoder=encoder,
            copied_packets=tally.copied_packets,
            groups=tally.groups,
            pictures=tally.pictures,
            drawn=tally.drawn,
            spans=tuple(union(tally.spans)),
            dropped=tuple(muxer.dropped),
            muted=self._muting.rows(),
            hidden_subtitles=tally.hidden_subtitles,
            lost_pictures=tally.lost_pictures,
            lost_packets=muxer.lost_packets,
            read_errors=tally.read_errors,
            cuts=self.cuts,
            cut_pictures=tally.cut_pictures,
            cut_packets=tally.cut_packets,
            streams=muxer.sources,
        )
