"""Decoding and encoding all of a stream, where its groups of pictures cannot be encoded apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from av.container import InputContainer
from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidmod.cuts import Widening
from vidmod.errors import OutputError, UndecodableError
from vidmod.media.clock import PresentationClock
from vidmod.media.encoding import (
    COUNTING,
    Effort,
    Look,
    NoEncoderError,
    Shaper,
    configure,
    encoder_for,
    nearest_format,
    nvenc_for,
    open_encoder,
)
from vidmod.media.muxer import MOV_FAMILY, Muxer, display_matrix
from vidmod.media.rewrite_job import Job, Rewritten, Tally
from vidmod.media.source import configure_decoder, open_container
from vidmod.timebase import Span, overlaps

_MAX_DRAIN_ERRORS = 64
# The first picture tells what the headers leave open; it comes out of the first packets or never.
_MAX_PROBED_PACKETS = 600
# Key frames of a stream that is encoded whole: the longest wait for a seek that players are used to.
_FULL_GROUP_SECONDS = 5
_MAX_FULL_GROUP = 250


class Whole(Job):
    """Decodes and encodes all of the stream."""

    def run(self, reason: str) -> Rewritten:
        """Encode; `reason` is why.

        Raises:
            OutputError: It cannot be written, or no encoder here takes its pictures.
        """
        first = self._first_picture()
        self._widening = Widening(self.removed, self.track.time_base)
        if self.plan.cuts:
            self._find_cuts()
        with open_container(self.medium) as container:
            stream = self.stream_of(container)
            muxer = self.muxer(container)
            try:
                name, why = self._add_streams(container, stream, muxer, first)
                self._write(container, stream, muxer)
                self.finish(muxer)
            except BaseException:
                muxer.abandon()
                raise
            return self.result(muxer, name, reason if why is None else _both(reason, why))

    def _first_picture(self) -> VideoFrame:
        """What the first picture that can be decoded looks like."""
        with open_container(self.medium) as container:
            stream = self.stream_of(container)
            configure_decoder(stream, self.medium.max_pixels)
            for _ in range(_MAX_PROBED_PACKETS):
                try:
                    for number, packet in enumerate(container.demux(stream)):
                        for frame in packet.decode():
                            return frame
                        if number > _MAX_PROBED_PACKETS:
                            break
                    break
                except FFmpegError:
                    continue
        raise UndecodableError(f"{self.medium}: no picture of stream {self.track.index} can be decoded.")

    def _add_streams(
        self, container: InputContainer, stream: VideoStream, muxer: Muxer, first: VideoFrame
    ) -> tuple[str, str | None]:
        """Returns the encoder's name, and why it is not one of the source's codec."""
        try:
            claimed = Look.of(stream)
        except NoEncoderError as exc:
            raise UndecodableError(f"{self.medium}: {exc}.") from exc
        look = replace(
            claimed,
            size=(first.width, first.height),
            pixel_format=first.format.name,
            interlaced=first.interlaced_frame,
        )
        rate = look.rate
        group = min(_MAX_FULL_GROUP, max(1, round(rate * _FULL_GROUP_SECONDS)))
        effort = replace(
            self.plan.effort(), group=group, depth=2 if look.reorders else 0, steady=self.format == "mpegts"
        )
        try:
            name, look, why = _choose(look, effort, muxer)
        except NoEncoderError as exc:
            raise OutputError(f"{self.medium}: cannot be encoded: {exc}.") from exc
        for item in container.streams:
            if item.index != stream.index:
                self.keep(item, muxer)
                continue
            out = cast(VideoStream, muxer.container.add_stream(name, rate=rate))
            configure(out.codec_context, name, look, effort)
            out.time_base = look.time_base
            out.set_display_matrix(display_matrix(first))
            if look.codec == "hevc" and muxer.is_mov:
                out.codec_context.codec_tag = "hvc1"
            muxer.adopt(item, out)
            self._encoder, self._look, self._shaper = out.codec_context, look, Shaper(look.size, look.pixel_format)
        return name, why

    def _write(self, container: InputContainer, stream: VideoStream, muxer: Muxer) -> None:
        self._durations: dict[int, int] = {}
        self._times: deque[int] = deque()
        for shown in self._shown(self._frames(container, stream, muxer), stream):
            self._encode(*shown, muxer)
        self._encoded(None, muxer)

    def _shown(self, frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[tuple[VideoFrame, int, int]]:
        """Every picture, when it is shown, and when the next one is."""
        clock = PresentationClock(self.track.frame_duration_pts, self.track.time_base)
        configure_decoder(stream, self.medium.max_pixels)
        held: tuple[VideoFrame, int] | None = None
        for frame in frames:
            pts = clock.tick(frame.pts, frame.dts, 0 if held is None else held[0].duration)
            if held is not None:
                yield (*held, pts)
            held = (frame, pts)
        if held is not None:
            length = held[0].duration
            yield (*held, held[1] + (length if length > 0 else self.track.frame_duration_pts))

    def _find_cuts(self) -> None:
        """Find out which pictures go before anything is written: the sound between them is read earlier than they are.

        Raises:
            OutputError: All of them go.
        """
        with open_container(self.medium) as container:
            stream = self.stream_of(container)
            for _, pts, end_pts in self._shown(self._frames(container, stream, None), stream):
                self._widening.removes(pts, end_pts)
        self.prepare_cut(self._widening.kept)
        self.cuts = self._widening.cuts()
        self.tally = Tally(cut_pictures=self._widening.removed)

    def _frames(self, container: InputContainer, stream: VideoStream, muxer: Muxer | None) -> Iterator[VideoFrame]:
        """Every picture that can be decoded; the other streams are copied on the way, if there is an output."""
        for packet in self.packets(container, muxer):
            if packet.stream_index != stream.index:
                if muxer is not None:
                    self.pass_on(packet, muxer)
                continue
            try:
                yield from stream.codec_context.decode(packet)
            except FFmpegError:
                self.tally.lost_pictures += 1
        for _ in range(_MAX_DRAIN_ERRORS):
            try:
                frames = stream.codec_context.decode(None)
            except AvEOFError:
                return
            except FFmpegError:
                continue
            yield from frames
            if not frames:
                return

    def _encode(self, frame: VideoFrame, pts: int, end_pts: int, muxer: Muxer) -> None:
        if overlaps(self.removed, pts, end_pts):
            return
        self.tally.drawn += self.draw_on(frame, pts, end_pts)
        # What MP4 has for a duration parts decoding times, which are new here.
        kept = frame.duration if frame.duration > 0 and self.format not in MOV_FAMILY else 0
        length = kept or end_pts - pts
        self._note(pts, end_pts)
        pts = self.cuts.shifted_pts(pts, self.track.time_base)
        self._durations[pts] = length
        shaped = self._shaper.shaped(frame, pts, self._look.time_base)
        if self._encoder.name in COUNTING:
            shaped.pts, shaped.time_base = self.tally.pictures, self._encoder.time_base
            self._times.append(pts)
        self._encoded(shaped, muxer)

    def _note(self, pts: int, end_pts: int) -> None:
        spans = self.tally.spans
        if spans and spans[-1].end == pts:
            spans[-1] = Span(spans[-1].start, end_pts)
        else:
            spans.append(Span(pts, end_pts))
        self.tally.pictures += 1

    def _encoded(self, frame: VideoFrame | None, muxer: Muxer) -> None:
        try:
            packets = self._encoder.encode(frame)
        except FFmpegError as exc:
            raise OutputError(f"{self._encoder.name} failed ({exc.strerror}).") from exc
        for packet in packets:
            if self._times:
                packet.pts = packet.dts = self._times.popleft()
                packet.time_base = self._look.time_base
            packet.duration = self._durations.pop(packet.pts or 0, 0)
            self.tally.groups += packet.is_keyframe
            muxer.write(packet, self.track.index)


def _both(reason: str, why: str) -> str:
    return why if why.startswith(reason) else f"{reason}; {why}"


def _choose(look: Look, effort: Effort, muxer: Muxer) -> tuple[str, Look, str | None]:
    """An encoder that opens: the source's codec if it can be, else the nearest, and why.

    Raises:
        NoEncoderError: None does.
    """
    why: str | None = None
    refused: str | None = None
    if effort.gpu is not None:
        try:
            name, its = nvenc_for(look)
            _try(name, its, effort, muxer)
        except NoEncoderError as exc:
            refused = f"{exc}, so the CPU has encoded it"
        else:
            return name, its, None
    try:
        name = encoder_for(look)
        _try(name, look, effort, muxer)
    except NoEncoderError as exc:
        why = str(exc)
    else:
        return name, look, refused
    for name, codec in (("libx264", "h264"), ("libsvtav1", "av1"), ("libvpx-vp9", "vp9")):
        other = replace(look, codec=codec, profile=None, pixel_format=nearest_format(name, look))
        try:
            _try(name, other, effort, muxer)
        except NoEncoderError:
            continue
        return name, other, f"{why}, so it is {codec} ({other.pixel_format}) now"
    raise NoEncoderError(why)


def _try(name: str, look: Look, effort: Effort, muxer: Muxer) -> None:
    """Whether an encoder opens, and the format takes its codec."""
    if not muxer.takes(name, look.codec):
        raise NoEncoderError(f"{muxer.format_name} cannot hold {look.codec}")
    open_encoder(name, look, effort)
