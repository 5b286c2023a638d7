"""A decoded picture, seen the way a viewer sees it."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar, cast

import numpy as np
from av.buffer import Buffer
from av.error import FFmpegError
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidmod import redaction
from vidmod.errors import UndecodableError
from vidmod.media.hardware import FORMATS, GpuPlane, planes_on_gpu

ChannelOrder = Literal["bgr", "rgb"]
Samples = TypeVar("Samples", bound=np.generic)
INTERPOLATIONS = {"area": Interpolation.AREA, "bicubic": Interpolation.BICUBIC, "bilinear": Interpolation.BILINEAR}

# AVColorSpace (ITU-T H.273, table 4) to the matrix that swscale is to use.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_HD_HEIGHT = 720
_FULL_RANGE_FORMATS = ("yuvj", "gray", "ya", "mono", "pal")
# What PyAV says of side data for which it has no name, and how many kinds of it one picture may have.
_UNNAMED = re.compile(r"(\d+) is not a valid")
_MAX_UNNAMED = 8


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels become displayed ones: an exchange of the axes, then flips."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation:
        """Read an FFmpeg display matrix (9 × int32), clamped to multiples of 90 degrees.

        The matrix maps stored (x, y) to displayed (a·x + c·y, b·x + d·y); see libavutil/display.h.
        """
        a, b, _, c, d, *_ = struct.unpack("<9i", matrix[:36])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @classmethod
    def from_rotation(cls, degrees: int) -> Orientation:
        """From degrees counter-clockwise, clamped to multiples of 90; FFmpeg gives INT_MIN for damage."""
        quarters = round(degrees / 90) % 4 if abs(degrees) <= 360 else 0
        return (cls(), cls(True, False, True), cls(False, True, True), cls(True, True, False))[quarters]

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise, as FFmpeg reports them: -90 is a turn to the right."""
        if self.transposed:
            return 90 if self.flip_y else -90
        return 180 if self.flip_x and self.flip_y else 0

    @property
    def mirrored(self) -> bool:
        """Whether text in the picture would read backward without the flips."""
        return (self.flip_x == self.flip_y) == self.transposed

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) on the other side of the change: stored to displayed, or back."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, image: NDArray[Samples]) -> NDArray[Samples]:
        """Turn a stored H×W×C image into the displayed one; a view where possible."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


UPRIGHT = Orientation()


class Scaler:
    """Scales frames to small images; keeps swscale's contexts, so belongs to one thread."""

    def __init__(self) -> None:
        self._reformatters: dict[tuple[int, int, str, str], VideoReformatter] = {}

    def scale(
        self, frame: VideoFrame, width: int, height: int, order: ChannelOrder, interpolation: str
    ) -> NDArray[np.uint8]:
        """Stored pixels of `frame` as full-range uint8 height×width×3."""
        key = (width, height, order, interpolation)
        reformatter = self._reformatters.setdefault(key, VideoReformatter())
        try:
            scaled = reformatter.reformat(
                frame,
                width,
                height,
                f"{order}24",
                src_colorspace=colour_matrix(frame),
                dst_colorspace=Colorspace.ITU709,
                interpolation=INTERPOLATIONS[interpolation],
                src_color_range=colour_range(frame),
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
        except FFmpegError as exc:
            raise UndecodableError(
                f"A {frame.width}x{frame.height} {frame.format.name} picture cannot be scaled: {exc.strerror}."
            ) from exc
        return _pixels(scaled)


def _pixels(frame: VideoFrame) -> NDArray[np.uint8]:
    """The H×W×3 pixels of a packed 24-bit frame, without its row padding."""
    plane = frame.planes[0]
    rows: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def colour_matrix(frame: VideoFrame) -> Colorspace:
    """The YCbCr matrix; unspecified means BT.709 from 720 lines up, BT.601 below, as players assume."""
    default = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
    return _MATRICES.get(int(frame.colorspace), default)


def colour_range(frame: VideoFrame) -> ColorRange:
    """Full or limited; unspecified is limited, but for formats that are full by definition."""
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG) and not frame.format.is_rgb:
        return ColorRange(frame.color_range)
    full = frame.format.is_rgb or frame.format.name.startswith(_FULL_RANGE_FORMATS)
    return ColorRange.JPEG if full else ColorRange.MPEG


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation in the frame's display matrix, upright without one."""
    for _ in range(_MAX_UNNAMED):
        try:
            matrix = side_data(frame).get("DISPLAYMATRIX")
        except ValueError as exc:
            # PyAV 18.1 knows no name for newer side data (EXIF, a multiview id) and then lists none at all.
            unnamed = _UNNAMED.match(str(exc))
            without = None if unnamed is None else _without_side_data(frame, int(unnamed[1]))
            if without is None:
                break
            frame = without
        else:
            return Orientation.from_display_matrix(bytes(matrix)) if isinstance(matrix, Buffer) else UPRIGHT
    return Orientation.from_rotation(frame.rotation)


def side_data(frame: VideoFrame) -> Mapping[Any, Any]:
    """What came with a frame, by its kind's name.

    The frame's own `side_data` refers to the frame, which refers to it: no frame that was asked for it would be freed,
    with all of its pixels, before the garbage collector comes by.

    Raises:
        ValueError: PyAV knows no name for some of it.
    """
    return cast(Mapping[Any, Any], cast(Any, SideDataContainer)(frame))


def _without_side_data(frame: VideoFrame, number: int) -> VideoFrame | None:
    """The same picture without side data of one kind (libavutil/frame.h); None if that cannot be had."""
    graph = Graph()
    graph.threads = 1
    try:
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
        )
        graph.link_nodes(source, graph.add("sidedata", f"mode=delete:type={number}"), graph.add("buffersink"))
        graph.configure()
        graph.vpush(frame)
        return graph.vpull()
    except (FFmpegError, ValueError):
        return None


@dataclass(frozen=True, slots=True, repr=False)
class Raster:
    """A picture's stored samples, where they lie.

    Attributes:
        format: FFmpeg's name of the pixel format.
        width, height: Stored pixels.
        full_range: Whether luma goes from 0 to the highest value.
        planes: The buffers, writable if the picture is.
        line_sizes: Bytes from one row of a plane to the next.
        orientation: How the stored picture is turned for display.
    """

    format: str
    width: int
    height: int
    full_range: bool
    planes: tuple[memoryview, ...]
    line_sizes: tuple[int, ...]
    orientation: Orientation

    @classmethod
    def of(cls, picture: VideoFrame) -> Raster:
        """The samples of a decoder's picture."""
        return cls(
            picture.format.name,
            picture.width,
            picture.height,
            colour_range(picture) == ColorRange.JPEG,
            tuple(memoryview(plane) for plane in picture.planes),
            tuple(plane.line_size for plane in picture.planes),
            orientation_of(picture),
        )

    def canvas(self) -> tuple[redaction.PlaneLayout, list[redaction.Plane]]:
        """Where to draw on the picture.

        Raises:
            UsageError: Nothing is drawn on its format.
        """
        layout = redaction.PlaneLayout.of(self.format, self.width, self.height, full_range=self.full_range)
        return layout, layout.arrays(self.planes, self.line_sizes)

    @property
    def displayed_size(self) -> tuple[int, int]:
        """(width, height) in displayed pixels."""
        return self.orientation.size(self.width, self.height)


@dataclass(frozen=True, slots=True, repr=False)
class GpuPicture:
    """A picture's stored samples in a GPU's memory: luma, and chroma of 4:2:0 interleaved.

    Attributes:
        planes: The two planes.
        width, height: Stored pixels.
        sample_bytes: 1, or 2 with the value in the high bits.
        matrix: Of YCbCr, by ITU-T H.273, table 4.
        full_range: Whether luma goes from 0 to the highest value.
        interlaced: Whether even and odd rows are of two moments.
        orientation: How the stored picture is turned for display.
    """

    planes: tuple[GpuPlane, ...]
    width: int
    height: int
    sample_bytes: int
    matrix: int
    full_range: bool
    interlaced: bool
    orientation: Orientation

    @classmethod
    def of(cls, picture: VideoFrame) -> GpuPicture | None:
        """The samples of a decoder's picture; None if they are elsewhere, or of another kind."""
        planes, kept = planes_on_gpu(picture), picture.sw_format
        if not planes or kept is None:
            return None
        return cls(
            planes,
            picture.width,
            picture.height,
            FORMATS[kept.name],
            int(colour_matrix(picture)),
            colour_range(picture) == ColorRange.JPEG,
            bool(picture.interlaced_frame),
            orientation_of(picture),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Frame:
    """One picture with its presentation time, half open: [pts, end_pts).

    Attributes:
        pts: Presentation time in `time_base`; strictly increasing within one stream.
        end_pts: When the next picture is shown.
        time_base: Seconds per unit.
        picture: The decoder's frame. Its buffers are shared with the decoder: read only.
        scaler: Scales `picture`; belongs to the thread that reads.
    """

    pts: int
    end_pts: int
    time_base: Fraction
    picture: VideoFrame
    scaler: Scaler

    def __repr__(self) -> str:
        size = f"{self.picture.width}x{self.picture.height} {self.picture.format.name}"
        return f"Frame(pts={self.pts}, end_pts={self.end_pts}, time_base={self.time_base}, {size})"

    @property
    def orientation(self) -> Orientation:
        """How the stored picture is turned for display."""
        return orientation_of(self.picture)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in displayed pixels."""
        return self.orientation.size(self.picture.width, self.picture.height)

    @property
    def is_on_gpu(self) -> bool:
        """Whether a GPU has decoded it, and keeps it."""
        return self.picture.sw_format is not None

    @property
    def on_gpu(self) -> GpuPicture | None:
        """The stored picture where a GPU keeps it as 4:2:0; None of any other."""
        return GpuPicture.of(self.picture)

    def image(
        self, width: int, height: int, order: ChannelOrder = "rgb", interpolation: str = "bilinear"
    ) -> NDArray[np.uint8]:
        """The displayed picture scaled to height×width×3, uint8, full range, C-contiguous.

        What a GPU keeps is fetched from there first.

        Raises:
            UndecodableError: swscale refuses the picture's size or format.
        """
        orientation = self.orientation
        stored = self.scaler.scale(self.picture, *orientation.size(width, height), order, interpolation)
        return np.ascontiguousarray(orientation.apply(stored))

    @classmethod
    def from_ndarray(cls, image: NDArray[np.uint8], order: ChannelOrder = "rgb") -> Frame:
        """A frame at time 0 from H×W×3 uint8 pixels, for tests and golden inputs."""
        return cls(0, 1, Fraction(1, 25), VideoFrame.from_ndarray(image, f"{order}24"), Scaler())
