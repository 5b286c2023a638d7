"""Encoding only the groups of pictures that are touched, between packets that are copied.

Two ways to have two encoders in one stream:

- H.264: the new groups bring parameter sets under an id that the source does not use.
- HEVC in MP4: a sample description of its own for each run (`new_extradata`).

VP8, VP9, AV1 and MJPEG need neither.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, cast

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet, PacketSideData, packet_sidedata_type_from_literal
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidmod.errors import OutputError
from vidmod.media.bitstreams import with_lengths
from vidmod.media.cut_groups import Fate, GroupCutter, Move, Remainder
from vidmod.media.encoding import (
    Effort,
    Look,
    Shaper,
    encoder_for,
    open_encoder,
)
from vidmod.media.groups import NAL_CODECS, Group, Groups, NotApartError, codec_of
from vidmod.media.muxer import MOV_FAMILY, Muxer
from vidmod.media.packets import holds_picture, packet_of
from vidmod.media.rewrite_job import Job, Rewritten
from vidmod.media.source import open_container
from vidmod.timebase import Span, overlaps

# Groups shorter than this are encoded together: starting an encoder for each costs more than it saves.
_RUN_PICTURES = 48
# Longer ones are not held in memory: they go through their encoder as they are read, alone.
_MAX_HELD_PICTURES = 1200
# Pictures of that many pixels in all are encoded at a time, each encoder holding some twenty of its own.
_SIDE_BY_SIDE_PIXELS = 4 * 1920 * 1088
# What is read ahead while groups are encoded.
_MAX_HELD_BYTES = 64 << 20
_SIGN_OF_LIFE_SECONDS = 1.0
_NEW_EXTRADATA = packet_sidedata_type_from_literal("new_extradata")


@dataclass(frozen=True, slots=True)
class _Run:
    """Adjacent groups that one encoder encodes; `longest` is the number of pictures of the longest."""

    span: Group
    groups: int
    longest: int

    @property
    def is_held(self) -> bool:
        """Whether its packets fit into memory."""
        return self.span.lead + self.span.count <= _MAX_HELD_PICTURES


class Partial(Job):
    """Encodes the groups that are touched, and copies the others."""

    def run(self) -> Rewritten:
        """Survey, then copy and encode.

        Raises:
            NotApartError: That is not safe; what the output holds is of no use.
            NoEncoderError: There is no encoder for it.
        """
        survey = Groups(self.medium, self.track, self.alive, self.touched)
        self._cutter = GroupCutter(self.removed, self.track.time_base) if self.plan.cuts else None
        runs = self._runs(survey)
        self._settle(survey)
        self._sets = survey.sets
        with open_container(self.medium) as container:
            stream = self.stream_of(container)
            self._look = Look.of(stream) if runs else None
            self._check(runs, survey)
            muxer = self.muxer(container)
            try:
                self._add_streams(container, stream, muxer)
                self._write(container, stream, muxer, deque(runs))
                self.finish(muxer)
            except BaseException:
                muxer.abandon()
                raise
            return self.result(muxer, encoder_for(self._look) if self._look else None, None)

    def _runs(self, survey: Groups) -> list[_Run]:
        """The touched groups, short ones that are adjacent joined."""
        runs: list[_Run] = []
        untouched = False
        for found in survey.run():
            group, fate = self._fate(found)
            if fate is not Fate.ENCODED:
                untouched |= fate is Fate.COPIED
                continue
            if group.flaw is not None:
                raise NotApartError(group.flaw)
            last = runs[-1] if runs and self._cutter is None else None
            if last and last.span.first + last.span.count == group.first and last.span.pictures < _RUN_PICTURES:
                longest = max(last.longest, group.lead + group.pictures)
                runs[-1] = _Run(last.span.joined(group), last.groups + 1, longest)
            else:
                # Of one picture alone, x265 would make another profile.
                runs.append(_Run(group, 1, group.lead + group.pictures))
        if runs and not untouched:
            raise NotApartError("every group of pictures is touched")
        return runs

    def _fate(self, group: Group) -> tuple[Group, Fate]:
        """What becomes of a group; without what is known of single pictures, but where that is needed."""
        if self._cutter is not None:
            return group, self._cutter.fate(group)
        touched = overlaps(self.touched, group.start_pts, group.end_pts)
        return replace(group, times=(), slots=()), Fate.ENCODED if touched else Fate.COPIED

    def _settle(self, survey: Groups) -> None:
        """What is cut, once all groups are known.

        Raises:
            NotApartError: What remains cannot follow upon each other.
            OutputError: Nothing remains.
        """
        self._moves = deque([Move(0, 0)])
        if self._cutter is None:
            return
        self.prepare_cut(self._cutter.kept)
        self._cutter.settle()
        self.cuts, self._moves = self._cutter.cuts, self._cutter.moves
        self.tally.cut_pictures = self._cutter.removed
        if self._cutter.removed and survey.sets is not None and survey.sets.flaw:
            raise NotApartError(survey.sets.flaw)

    def _check(self, runs: list[_Run], survey: Groups) -> None:
        """Whether the stream as a whole allows for another encoder's groups in it."""
        if not runs or self._look is None:
            return
        if survey.sets is not None and survey.sets.flaw:
            raise NotApartError(survey.sets.flaw)
        encoder_for(self._look)
        if self._look.interlaced:
            raise NotApartError("it is interlaced")
        if self._look.codec == "h264" and self._spare_id() is None:
            raise NotApartError("every id of a parameter set is taken")

    def _spare_id(self) -> int | None:
        return None if self._sets is None else self._sets.unused()

    def _add_streams(self, container: InputContainer, stream: VideoStream, muxer: Muxer) -> None:
        """In the source's order, so that what refers to a track by its number still does."""
        codec = codec_of(self.track.codec)
        if self._look is not None and codec == "hevc" and not muxer.is_mov:
            raise NotApartError(f"{self.format} has no place for a second set of HEVC parameters")
        if codec in NAL_CODECS and not muxer.is_mov and _has_shape_of_its_own(stream):
            raise NotApartError("its sample aspect is said only by Matroska, and cannot be written there")
        if codec in NAL_CODECS and muxer.is_mov and not (stream.codec_context.extradata or b"").startswith(b"\1"):
            raise NotApartError(f"{self.format_reason or 'its packets are not as MP4 has them'}")
        for item in container.streams:
            if item.index != stream.index:
                self.keep(item, muxer)
                continue
            try:
                copy = cast(VideoStream, muxer.copy_stream(stream))
            except ValueError as exc:
                raise NotApartError(f"{self.format} cannot hold {codec}") from exc
            if codec == "hevc" and muxer.is_mov:
                tag = stream.codec_context.codec_tag
                copy.codec_context.codec_tag = tag if tag in ("hvc1", "hev1") else "hvc1"
            if stream.average_rate:
                # Matroska has a duration for its packets only from this.
                copy.codec_context.framerate = stream.average_rate

    def _write(self, container: InputContainer, stream: VideoStream, muxer: Muxer, runs: deque[_Run]) -> None:
        number = -1
        current: _RunEncoder | None = None
        extradata = stream.codec_context.extradata
        restore = False
        shift: int | None = 0
        with _InTurn(self, muxer, side_by_side=self._prepare(runs)) as line:
            for packet in self.packets(container, muxer):
                if packet.stream_index != stream.index:
                    line.copy(packet)
                    continue
                number += 1
                if packet.has_sidedata("new_extradata"):
                    extradata = bytes(packet.get_sidedata("new_extradata"))
                if current is not None and number >= current.end:
                    line.end(current)
                    current, restore = None, self.track.codec == "hevc"
                if self._moves and self._moves[0].first == number:
                    shift = self._moves.popleft().shift
                if runs and runs[0].span.first - runs[0].span.lead == number:
                    current = self._begin(runs.popleft(), stream, extradata)
                    line.begin(current)
                if current is not None and number < current.first:
                    line.lead(current, packet)
                elif current is not None:
                    line.encode(current, packet)
                    continue
                if shift is None:
                    restore |= packet.has_sidedata("new_extradata")
                    continue
                if restore and extradata and not packet.has_sidedata("new_extradata"):
                    _set_extradata(packet, extradata)
                restore = False
                line.copy(self._moved(packet, shift))
                self.tally.copied_packets += 1
            if current is not None:
                line.end(current)
            line.finish()
        if runs or (self.tally.read_errors and self._look is not None):
            raise NotApartError("parts of the file cannot be read")

    def _prepare(self, runs: Sequence[_Run]) -> int:
        """How many runs are encoded side by side; each gets its share of the threads."""
        self._shares: deque[int] = deque()
        if self._look is None:
            return 1
        width, height = self._look.size
        held = sum(run.is_held for run in runs)
        count = max(1, min(self.plan.threads, held, _SIDE_BY_SIDE_PIXELS // (width * height)))
        # The last ones have fewer beside them.
        left = held % count
        self._shares.extend([math.ceil(self.plan.threads / count)] * (held - left))
        self._shares.extend([math.ceil(self.plan.threads / max(1, left))] * left)
        return count

    def _moved(self, packet: Packet[Any], shift: int) -> Packet[Any]:
        """A packet, shown and decoded by so much earlier."""
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        return self.begun(packet)

    def begun(self, packet: Packet[Any]) -> Packet[Any]:
        """What a cut at the start may have brought before time 0: MP4 has edit lists for it, Matroska no such times.

        Raises:
            NotApartError: The format has no decoding time for it.
        """
        if self.cuts and packet.dts is not None and packet.dts < 0 and self.format == "mpegts":
            raise NotApartError("decoding would begin before time 0")
        return packet

    def _begin(self, run: _Run, stream: VideoStream, extradata: bytes | None) -> _RunEncoder:
        if self._look is None:
            raise NotApartError("its pictures are unknown")
        self.tally.groups += run.groups
        self.tally.spans.append(Span(run.span.start_pts, run.span.end_pts))
        remainder = None if self._cutter is None else self._cutter.remainders[run.span.first]
        effort = replace(
            self.plan.effort(),
            threads=self._shares.popleft() if run.is_held else self.plan.threads,
            group=run.longest,
            depth=run.span.depth if self._look.reorders else 0,
            parameter_sets=self._spare_id(),
            global_header=self._look.codec == "hevc",
            steady=self.format == "mpegts",
        )
        length_size = None if self._sets is None else self._sets.length_size
        return _RunEncoder(
            self,
            self._look,
            effort,
            run.span,
            stream,
            extradata,
            length_size,
            remainder,
            decodes_by_duration=self.format in MOV_FAMILY,
            is_held=run.is_held,
        )


class _InTurn:
    """Writes packets in the order of the source, while groups are encoded side by side. A context manager.

    Only the pictures of encoded groups are changed in threads; all reading and writing stays where it was.

    Args:
        side_by_side: How many groups are encoded at a time.
    """

    def __init__(self, job: Partial, muxer: Muxer, *, side_by_side: int) -> None:
        self._job = job
        self._muxer = muxer
        self._most = side_by_side
        self._threads = ThreadPoolExecutor(side_by_side)
        self._line: deque[Packet[Any] | tuple[_RunEncoder, Future[list[Packet[Any]]]]] = deque()
        self._held: list[Packet[Any]] = []
        self._bytes = 0

    def __enter__(self) -> _InTurn:
        return self

    def __exit__(self, *_: object) -> None:
        # Whatever is still being encoded is of no use, and must not draw on when this has ended.
        self._threads.shutdown(wait=True, cancel_futures=True)

    def copy(self, packet: Packet[Any]) -> None:
        """A packet that stays as it is."""
        if self._line:
            self._bytes += packet.size
            self._line.append(packet)
            self._advance(wait_for_room=True)
        else:
            self._write(packet)

    def begin(self, encoder: _RunEncoder) -> None:
        """From here on, packets of the stream belong to a group that is encoded."""
        if not encoder.is_held:
            self.finish()

    def lead(self, encoder: _RunEncoder, packet: Packet[Any]) -> None:
        """A packet that is copied, and that the group cannot be decoded without."""
        # What is written gets other times.
        same = packet_of(bytes(packet))
        same.pts, same.dts, same.time_base = packet.pts, packet.dts, packet.time_base
        self.encode(encoder, same)

    def encode(self, encoder: _RunEncoder, packet: Packet[Any]) -> None:
        """A packet of that group."""
        if encoder.is_held:
            self._held.append(packet)
        else:
            self._write_all(encoder.push(packet))

    def end(self, encoder: _RunEncoder) -> None:
        """That was all of the group."""
        if encoder.is_held:
            self._line.append((encoder, self._threads.submit(encoder.whole, self._held)))
            self._held = []
            self._advance(wait_for_room=True)
        else:
            self._write_all(encoder.finish())
            self._account(encoder)

    def finish(self) -> None:
        """Write all that is still to be written."""
        while self._line:
            self._advance(wait_for_room=False)
            if self._line:
                self._wait()

    def _advance(self, *, wait_for_room: bool) -> None:
        while self._line:
            first = self._line[0]
            if isinstance(first, tuple):
                encoder, future = first
                if not future.done():
                    if not (wait_for_room and self._is_full()):
                        return
                    self._wait()
                    continue
                self._line.popleft()
                self._write_all(iter(future.result()))
                self._account(encoder)
            else:
                self._line.popleft()
                self._bytes -= first.size
                self._write(first)

    def _is_full(self) -> bool:
        waiting = sum(isinstance(item, tuple) for item in self._line)
        return self._bytes > _MAX_HELD_BYTES or waiting > self._most

    def _wait(self) -> None:
        first = self._line[0]
        assert isinstance(first, tuple)
        wait([first[1]], _SIGN_OF_LIFE_SECONDS)
        self._job.alive()

    def _account(self, encoder: _RunEncoder) -> None:
        self._job.tally.pictures += encoder.pictures
        self._job.tally.drawn += encoder.drawn

    def _write(self, packet: Packet[Any]) -> None:
        if packet.stream_index == self._job.track.index:
            self._muxer.write(packet, self._job.track.index)
        else:
            self._job.pass_on(packet, self._muxer)

    def _write_all(self, packets: Iterator[Packet[Any]]) -> None:
        for packet in packets:
            self._muxer.write(self._job.begun(packet), self._job.track.index)


class _RunEncoder:
    """Decodes the packets of adjacent groups, has their pictures changed, and encodes them.

    Push and flush: `push` takes a packet of the source and gives those that are ready, `finish` the
    rest; or `whole` does it all, in one thread at a time. The k-th packet gets the decoding time of
    the k-th that it replaces. Of a group that is cut in part, only what remains is encoded.

    Raises:
        NotApartError: What comes out is not what the packets promised.
    """

    def __init__(
        self,
        job: Job,
        look: Look,
        effort: Effort,
        span: Group,
        stream: VideoStream,
        extradata: bytes | None,
        length_size: int | None,
        remainder: Remainder | None = None,
        *,
        decodes_by_duration: bool,
        is_held: bool,
    ) -> None:
        self._decodes_by_duration = decodes_by_duration
        self.first, self.end = span.first, span.first + span.count
        self._lead = span.lead
        self.is_held = is_held
        self.pictures = 0
        self.drawn = 0
        self._job, self._look, self._span = job, look, span
        self._length_size = length_size
        self._index = stream.index
        self._effort, self._stream, self._extradata = effort, stream, extradata
        self._slots: deque[tuple[int | None, int]] = deque()
        self._durations: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._held: VideoFrame | None = None
        self._shaper = Shaper(look.size, look.pixel_format)
        self._first = True
        self._remainder = remainder
        self._due = span.pictures
        if remainder is not None:
            self._slots.extend((slot, 0) for slot in remainder.slots)
            self._due = len(remainder.shown)
            self._last_due = max(remainder.shown)

    # Opened when the first packet comes and closed after the last, so that what waits for its turn holds no pictures.
    @functools.cached_property
    def _encoder(self) -> VideoCodecContext:
        return open_encoder(encoder_for(self._look), self._look, self._effort)

    @functools.cached_property
    def _decoder(self) -> VideoCodecContext:
        return _decoder_like(self._stream, self._extradata, self._job.medium.max_pixels)

    def whole(self, packets: Sequence[Packet[Any]]) -> list[Packet[Any]]:
        """All of the group at once."""
        done = [ready for packet in packets for ready in self.push(packet)]
        return [*done, *self.finish()]

    def push(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """Take a packet of the source: first those that lead, then those that are replaced."""
        if self._is_done:
            return
        if self._lead:
            self._lead -= 1
        elif packet.pts is not None and holds_picture(self._decoder.name, packet):
            if self._remainder is None:
                self._slots.append((packet.dts, packet.duration or 0))
            self._durations[packet.pts] = packet.duration or 0
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError as exc:
            raise NotApartError("a picture of a touched group cannot be decoded") from exc
        for frame in frames:
            yield from self._take(frame)

    def finish(self) -> Iterator[Packet[Any]]:
        """All that is left."""
        try:
            frames = [] if self._is_done else self._decoder.decode(None)
        except FFmpegError as exc:
            raise NotApartError("a picture of a touched group cannot be decoded") from exc
        for frame in frames:
            yield from self._take(frame)
        if self._held is not None:
            yield from self._encode(self._held, self._span.end_pts)
        yield from self._encoded(None)
        if self._slots or self.pictures != self._due:
            raise NotApartError("not every packet of a touched group gives a picture")
        self._held = None
        del self._encoder, self._decoder

    @property
    def _is_done(self) -> bool:
        """Whether the last picture that remains of a cut group is here; what comes after it need not be decoded."""
        held = self._held
        return self._remainder is not None and held is not None and (held.pts or 0) >= self._last_due

    def _take(self, frame: VideoFrame) -> Iterator[Packet[Any]]:
        held, look = self._held, self._look
        if frame.pts is not None and frame.pts < self._span.start_pts and not frame.is_corrupt:
            return
        if frame.pts is None or frame.pts not in self._durations or (held and (held.pts or 0) >= frame.pts):
            raise NotApartError("pictures of a touched group do not come out at the times of their packets")
        if frame.is_corrupt:
            raise NotApartError("a picture of a touched group is damaged")
        if frame.interlaced_frame:
            raise NotApartError("it is interlaced")
        if ((frame.width, frame.height), frame.format.name) != (look.size, look.pixel_format):
            raise NotApartError("the size or format of its pictures changes under way")
        if held is not None:
            yield from self._encode(held, frame.pts)
        self._held = frame

    def _encode(self, frame: VideoFrame, end_pts: int) -> Iterator[Packet[Any]]:
        pts = cast(int, frame.pts)
        self.drawn += self._job.draw_on(frame, pts, end_pts)
        duration = self._durations.pop(pts)
        if self._remainder is not None:
            if pts not in self._remainder.shown:
                return
            pts, shown = self._remainder.shown[pts]
            duration = shown if self._decodes_by_duration else duration
        self._lengths[pts] = duration
        yield from self._encoded(self._shaper.shaped(frame, pts, self._look.time_base))

    def _encoded(self, frame: VideoFrame | None) -> Iterator[Packet[Any]]:
        try:
            packets = self._encoder.encode(frame)
        except FFmpegError as exc:
            raise OutputError(f"{self._encoder.name} failed ({exc.strerror}).") from exc
        for packet in packets:
            yield self._placed(packet)

    def _placed(self, packet: Packet[Any]) -> Packet[Any]:
        """A packet with the decoding time of the one in its place, in the source's form."""
        pts = packet.pts
        if pts is None or not self._slots:
            raise NotApartError("an encoder gives more packets than there are pictures")
        slot, length = self._slots.popleft()
        if slot is not None and slot > pts:
            raise NotApartError("an encoder reorders by more pictures than the source does")
        data = bytes(packet)
        if self._look.codec == "h264" and self._length_size is not None:
            try:
                data = with_lengths(data, self._length_size)
            except OverflowError as exc:
                raise NotApartError("its packets have no room for what is encoded") from exc
        placed = packet_of(data)
        placed.time_base = self._look.time_base
        duration = self._lengths.pop(pts)
        # MP4's durations part decoding times, other formats' say how long a picture is shown.
        by_slot = self._decodes_by_duration and self._remainder is None
        placed.pts, placed.dts, placed.duration = pts, slot, length if by_slot else duration
        placed.is_keyframe = packet.is_keyframe
        if self._first and self._look.codec == "hevc" and self._encoder.extradata:
            _set_extradata(placed, self._encoder.extradata)
        self._first = False
        self.pictures += 1
        return placed


def _has_shape_of_its_own(stream: VideoStream) -> bool:
    """Whether the container says another sample aspect than the bit stream."""
    return (stream.sample_aspect_ratio or 1) != (stream.codec_context.sample_aspect_ratio or 1)


def _decoder_like(stream: VideoStream, extradata: bytes | None, max_pixels: int) -> VideoCodecContext:
    """A decoder of its own that has seen nothing yet."""
    decoder = cast(VideoCodecContext, av.CodecContext.create(stream.codec_context.name, "r"))
    decoder.extradata = extradata
    decoder.thread_type = ThreadType.NONE
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(max_pixels)}
    return decoder


def _set_extradata(packet: Packet[Any], extradata: bytes) -> None:
    """Let a packet say that from here on another global header holds."""
    # PyAV's stubs leave its arguments out.
    data = cast(Any, PacketSideData)(_NEW_EXTRADATA, len(extradata))
    data.update(extradata)
    packet.set_sidedata(data)
