"""Decoding and encoding a stream picture by picture, for as long as it lasts.

A decoder takes what a network brings, damage and changes of size included. An encoder has one size, rate and set of
parameters for its whole life, so that whoever watches need not begin anew: two encoders that are opened alike write the
same parameter sets, and a stream can go on with another one's pictures from a key picture on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.audio.frame import AudioFrame
from av.codec.context import Flags, ThreadType
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from vidmod import redaction
from vidmod.errors import OutputError, UndecodableError
from vidmod.media.frame import Frame, Raster, Scaler, colour_range
from vidmod.media.packets import packet_of
from vidmod.predictions import Box

# What leaves counts time in these: as MPEG-TS does, and fine enough for every rate.
TIME_BASE = Fraction(1, 90_000)
PIXEL_FORMAT = "yuv420p"
# From one key picture to the next: whoever tunes in waits for one.
KEY_SECONDS = 2
AAC_SAMPLES = 1024
_AAC_PREPARING = 6
# As H.273 numbers them: primaries, transfer, matrix. Encoders are told those that pictures of YCbCr can have.
Colours = tuple[int, int, int]
UNSAID_COLOURS: Colours = (2, 2, 2)
_COLOURS = (frozenset((1, *range(4, 13), 22)), frozenset((1, *range(4, 19))), frozenset((1, 4, 5, 6, 7, 9, 10)))
_MOST_ASPECT = 10
# Decoders that, told to hurry, give a picture as soon as it is its turn; others then give them in the order in which
# they come.
_EARLY = frozenset(("h264", "hevc", "libdav1d", "av1", "vp8", "vp9"))
# Of a blurred picture, along its longer side.
_CELLS = 32
# x264's, and nothing of it is in a parameter set.
_HURRIED = ":subme=0:me=dia:analyse=none:trellis=0:aq-mode=0:no-deblock=1"
_LEAST_BITS, _BITS_PER_PIXEL = 300_000, 0.07


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stream that leaves is like, from its first picture to its last.

    Attributes:
        size: Width and height, both even.
        rate: Pictures a second.
        bits: A second.
        preset: x264's.
        aspect: Width over height of one pixel.
        colours: What is said of them; they are not converted.
    """

    size: tuple[int, int]
    rate: Fraction
    bits: int
    preset: str = "superfast"
    aspect: Fraction = Fraction(1)
    colours: Colours = UNSAID_COLOURS

    @classmethod
    def like(
        cls,
        size: tuple[int, int],
        rate: Fraction,
        bits: int | None = None,
        preset: str = "superfast",
        *,
        aspect: Fraction = Fraction(1),
        colours: Colours = UNSAID_COLOURS,
    ) -> Shape:
        """As a source is, but even, and with as many bits as it takes; what makes no sense of the rest is left out."""
        width, height = (max(2, side - side % 2) for side in size)
        needed = max(_LEAST_BITS, round(width * height * float(rate) * _BITS_PER_PIXEL))
        square = not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT
        primaries, transfer, matrix = (
            value if value in known else unsaid
            for value, known, unsaid in zip(colours, _COLOURS, UNSAID_COLOURS, strict=True)
        )
        return cls(
            (width, height),
            rate,
            needed if bits is None else bits,
            preset,
            Fraction(1) if square else aspect,
            (primaries, transfer, matrix),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Encoded:
    """A packet of a stream that leaves; it is decoded when it is shown, at `pts`, in `TIME_BASE`."""

    pts: int
    key: bool
    data: bytes


def silent_packet(sample_rate: int, layout: str) -> bytes:
    """A packet of silence in AAC-LC, of 1,024 samples of each channel.

    Raises:
        OutputError: There is no AAC of that rate and layout.
    """
    try:
        context = av.CodecContext.create("aac", "w")
        context.sample_rate, context.layout, context.format = sample_rate, layout, "fltp"
        context.time_base = Fraction(1, sample_rate)
        context.open()
        frame = AudioFrame("fltp", layout, AAC_SAMPLES)
        frame.sample_rate = sample_rate
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        packets: list[bytes] = []
        # The first ones prepare what follows them.
        for number in range(_AAC_PREPARING):
            frame.pts = number * AAC_SAMPLES
            packets += [bytes(packet) for packet in context.encode(frame)]
    except (FFmpegError, ValueError) as exc:
        raise OutputError(f"There is no AAC with {sample_rate} Hz and {layout} ({exc}).") from exc
    return packets[-1]


class PictureDecoder:
    """Decodes the packets of one picture stream as they come. Belongs to one thread.

    Args:
        codec: FFmpeg's decoder name.
        extradata: What the container says of it before its packets.
        time_base: Of packets' times.
        max_pixels: Larger pictures are not decoded.
        threads: Of the decoder.

    Raises:
        UndecodableError: There is no such decoder.
    """

    def __init__(
        self, codec: str, extradata: bytes | None, time_base: Fraction, *, max_pixels: int, threads: int = 1
    ) -> None:
        self._time_base = time_base
        self._scaler = Scaler()
        try:
            context = cast(VideoCodecContext, av.CodecContext.create(codec, "r"))
            context.extradata = extradata
            # Slices only: frames in several threads come out later by as many.
            context.thread_type = ThreadType.SLICE if threads > 1 else ThreadType.NONE
            context.thread_count = threads
            # Without the last one FFmpeg guesses what damage has taken, and says nothing.
            context.options = {"max_pixels": str(max_pixels), "err_detect": "explode"}
            if codec in _EARLY:
                context.flags |= Flags.low_delay
            context.open()
        except (FFmpegError, ValueError) as exc:
            raise UndecodableError(f"There is no decoder for {codec} ({exc}).") from exc
        self._context = context

    def decode(self, data: bytes, pts: int | None, dts: int | None) -> Iterator[Frame]:
        """The pictures that a packet completes, in the order in which they are shown.

        Raises:
            UndecodableError: It is damaged. The next one may not be.
        """
        packet = packet_of(data)
        packet.pts, packet.dts, packet.time_base = pts, dts, self._time_base
        try:
            frames = self._context.decode(packet)
        except FFmpegError as exc:
            raise UndecodableError(f"A packet cannot be decoded ({exc.strerror}).") from exc
        for frame in frames:
            if frame.pts is not None and not frame.is_corrupt:
                yield Frame(frame.pts, frame.pts + 1, self._time_base, frame, self._scaler)


class PictureEncoder:
    """Encodes pictures of any size into a stream of one shape. Belongs to one thread.

    No picture waits for another: each gives its packet at once.

    Args:
        shape: Of what leaves.
        threads: Of the encoder.
        hurried: With as little effort as the shape's parameter sets allow.

    Raises:
        OutputError: It cannot be opened.
    """

    def __init__(self, shape: Shape, *, threads: int = 1, hurried: bool = False) -> None:
        self._shape = shape
        self._reformatter = VideoReformatter()
        try:
            self._context = _opened(shape, threads, hurried=hurried)
        except (FFmpegError, ValueError) as exc:
            raise OutputError(f"libx264 cannot be opened for {shape.size[0]}x{shape.size[1]} ({exc}).") from exc
        self._cover = _filled(shape.size)

    @property
    def parameter_sets(self) -> bytes:
        """SPS and PPS, as start codes and NAL units; the same for every encoder of the same shape."""
        return bytes(self._context.extradata or b"")

    def picture(self, frame: VideoFrame, boxes: tuple[Box, ...], pts: int, *, key: bool = False) -> list[Encoded]:
        """Cover boxes of a decoded picture, and encode it.

        Args:
            frame: As it was decoded; changed. No one else may use it.
            boxes: In displayed pixels of that picture.
            pts: When it is shown, in `TIME_BASE`.
            key: Make it a key picture.

        Raises:
            UndecodableError: It is of a kind that cannot be drawn on, or scaled.
        """
        try:
            fitted = self._fitted(self._covered(frame, boxes), self._place(frame))
        except (FFmpegError, ValueError) as exc:
            raise UndecodableError(f"A picture cannot be used ({exc}).") from exc
        return self._encoded(fitted, pts, key=key)

    def _covered(self, frame: VideoFrame, boxes: tuple[Box, ...]) -> VideoFrame:
        if boxes:
            if frame.format.name not in redaction.FORMATS:
                frame = self._reformatter.reformat(frame, format=PIXEL_FORMAT, threads=1)
            frame.make_writable()
            raster = Raster.of(frame)
            layout, planes = raster.canvas()
            stored = redaction.stored_boxes(boxes, raster.orientation, raster.displayed_size)
            redaction.cover(planes, layout, stored, redaction.STYLES["fill"], "box")
        return frame

    def blurred(self, frame: VideoFrame, pts: int, *, key: bool = False) -> list[Encoded]:
        """Encode what is left of a picture when all detail is gone: at most 32 cells along its longer side.

        Raises:
            UndecodableError: It cannot be scaled.
        """
        longer = max(frame.width, frame.height)
        columns, rows = (_even(side * _CELLS / longer, _CELLS) for side in (frame.width, frame.height))
        try:
            cells = self._reformatter.reformat(
                frame, columns, rows, PIXEL_FORMAT, interpolation=Interpolation.AREA, threads=1
            )
            fitted = self._fitted(cells, self._place(frame))
        except (FFmpegError, ValueError) as exc:
            raise UndecodableError(f"A picture cannot be used ({exc}).") from exc
        return self._encoded(fitted, pts, key=key)

    def cover(self, pts: int, *, key: bool = False) -> list[Encoded]:
        """Encode a picture of nothing but cover."""
        return self._encoded(self._cover, pts, key=key)

    def _encoded(self, frame: VideoFrame, pts: int, *, key: bool) -> list[Encoded]:
        frame.pts, frame.time_base = pts, TIME_BASE
        frame.pict_type = PictureType.I if key else PictureType.NONE
        try:
            packets = self._context.encode(frame)
        except FFmpegError as exc:
            raise OutputError(f"libx264 failed ({exc.strerror}).") from exc
        return [Encoded(packet.pts or 0, packet.is_keyframe, bytes(packet)) for packet in packets]

    def _place(self, frame: VideoFrame) -> tuple[int, int, int, int]:
        return placed((frame.width, frame.height), self._shape.size)

    def _fitted(self, frame: VideoFrame, place: tuple[int, int, int, int]) -> VideoFrame:
        """The picture in the stream's size, in the middle of black."""
        width, height = self._shape.size
        is_limited = colour_range(frame) == ColorRange.MPEG
        if is_limited and (frame.width, frame.height, frame.format.name) == (width, height, PIXEL_FORMAT):
            return frame
        left, top, *inner = place
        scaled = self._reformatter.reformat(
            frame,
            inner[0],
            inner[1],
            PIXEL_FORMAT,
            interpolation=Interpolation.BILINEAR,
            src_color_range=colour_range(frame),
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        if inner == [width, height]:
            return scaled
        canvas = _blank(self._shape.size)
        _, target = Raster.of(canvas).canvas()
        _, source = Raster.of(scaled).canvas()
        for number, (rows, taken) in enumerate(zip(target, source, strict=True)):
            half = 1 if number == 0 else 2
            rows[top // half : top // half + taken.shape[0], left // half : left // half + taken.shape[1]] = taken
        return canvas


def placed(size: tuple[int, int], within: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a picture is in a larger or smaller one, its sides kept, in the middle: left, top, width and height."""
    factor = min(within[0] / size[0], within[1] / size[1])
    width, height = _even(size[0] * factor, within[0]), _even(size[1] * factor, within[1])
    return (within[0] - width) // 4 * 2, (within[1] - height) // 4 * 2, width, height


def _even(length: float, most: int) -> int:
    return max(2, min(most, round(length / 2) * 2))


def _opened(shape: Shape, threads: int, *, hurried: bool) -> VideoCodecContext:
    context = av.CodecContext.create("libx264", "w")
    configure(context, shape, threads)
    if hurried:
        context.options = {**context.options, "x264-params": context.options["x264-params"] + _HURRIED}
    context.open()
    return context


def configure(context: VideoCodecContext, shape: Shape, threads: int) -> None:
    """Set an encoder up for a shape, before it is opened."""
    context.width, context.height = shape.size
    context.pix_fmt = PIXEL_FORMAT
    context.sample_aspect_ratio = shape.aspect
    context.color_primaries, context.color_trc, context.colorspace = shape.colours
    context.color_range = ColorRange.MPEG
    context.time_base, context.framerate = TIME_BASE, shape.rate
    context.thread_count = threads
    context.gop_size = max(1, round(shape.rate * KEY_SECONDS))
    context.max_b_frames = 0
    context.bit_rate = shape.bits
    context.flags |= Flags.global_header
    # Room for a second: a scene that changes may take more than its share.
    context.options = {
        "preset": shape.preset,
        "tune": "zerolatency",
        "profile": "high",
        "x264-params": f"scenecut=0:vbv-maxrate={shape.bits // 1000}:vbv-bufsize={shape.bits // 1000}",
    }


def _blank(size: tuple[int, int]) -> VideoFrame:
    """A black picture, in limited range."""
    frame = VideoFrame(*size, PIXEL_FORMAT)
    for rows, level in zip(Raster.of(frame).canvas()[1], (16, 128, 128), strict=True):
        rows[:] = level
    return frame


def _filled(size: tuple[int, int]) -> VideoFrame:
    """A picture of nothing but cover."""
    frame = VideoFrame(*size, PIXEL_FORMAT)
    layout, planes = Raster.of(frame).canvas()
    redaction.slate(planes, layout)
    return frame
