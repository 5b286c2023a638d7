"""What it takes to scale one kind of stored picture to one size, as swscale would."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vidmod.errors import UsageError
from vidmod.media.frame import UPRIGHT, Orientation
from vidmod.models.cuda.colours import colours
from vidmod.models.cuda.filters import CENTRE, Taps, picked, taps
from vidmod.models.manifest import ChannelOrder

# Weights across add up to 1 << 14, weights down to 1 << 12; swscale's for x86 come in fours across.
_ONE_ACROSS = 1 << 14
_ONE_DOWN = 1 << 12
_ALIGN_ACROSS = 4


class Blend(IntEnum):
    """How the rows of an output row are added up, and so which of the three arithmetics of `colours` follows."""

    ROUNDED = 0
    CUT = 1
    FINE_ROUNDED = 2
    FINE_CUT = 3
    WORDS = 4
    WORDS_CUT = 5
    WORDS_PAIR = 6


@dataclass(frozen=True, slots=True)
class Siting:
    """Where a chroma sample of 4:2:0 lies between its pixels: 0 on the first, 256 on the second; 128 half way."""

    x: int
    y: int


LEFT = Siting(0, 128)
MIDDLE = Siting(128, 128)
TOP_LEFT = Siting(0, 0)
_LEFT_CODECS = ("h264", "hevc", "mpeg2video", "mpeg4")


def siting_of(codec: str) -> Siting:
    """Where FFmpeg's decoder of that name says that chroma lies, in streams that do not say it themselves.

    A stream that does, as HDR video often (top left), cannot be told apart: PyAV does not give a picture's siting. Its
    colours then come from up to half a pixel beside where the CPU path takes them from.
    """
    return LEFT if codec in _LEFT_CODECS else MIDDLE


@dataclass(frozen=True, slots=True)
class Layout:
    """How a stored 4:2:0 picture lies in memory: a plane of luma, and one of Cb and Cr taking turns.

    Attributes:
        width, height: Stored pixels, 1 or more.
        sample_bytes: 1 for NV12; 2 for P010 and P016, whose values are in the high bits.
        matrix: By ITU-T H.273, table 4; see `vidmod.media.frame.colour_matrix`.
        full_range: Whether luma goes from 0 to the highest value.
        orientation: How the stored picture is turned for display.
        siting: Where chroma lies; see :func:`siting_of`.
        interlaced: Whether even and odd rows are of two moments. They are scaled apart, as swscale does it.

    Raises:
        UsageError: A number makes no sense.
    """

    width: int
    height: int
    sample_bytes: int = 1
    matrix: int = 1
    full_range: bool = False
    orientation: Orientation = UPRIGHT
    siting: Siting = LEFT
    interlaced: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UsageError(f"Invalid size ({self.width}x{self.height}). A picture has 1 pixel or more.")
        if self.sample_bytes not in (1, 2):
            raise UsageError(f"Invalid sample_bytes ({self.sample_bytes}). Use 1 (NV12) or 2 (P010, P016).")

    @property
    def chroma_size(self) -> tuple[int, int]:
        """(width, height) of the plane of chroma, in pairs of samples."""
        return -(-self.width // 2), -(-self.height // 2)

    @property
    def displayed_size(self) -> tuple[int, int]:
        """(width, height) in displayed pixels."""
        return self.orientation.size(self.width, self.height)


@dataclass(frozen=True, slots=True, repr=False)
class Scaling:
    """All that the kernels need to scale and convert, made once for a kind of picture.

    Attributes:
        width, height: Of the scaled picture, not yet turned.
        luma_across, chroma_across: How the samples of a scaled line are made.
        luma_down, chroma_down: How its rows are.
        row_step: From one row of a filter to the next: 2 if the rows of a field are every other one.
        blends: int32, per scaled row a `Blend`.
        chroma_shift: 1 if two pixels of the scaled picture share a chroma sample, else 0.
        colours: int32, see :func:`vidmod.models.cuda.colours.colours`.
    """

    width: int
    height: int
    luma_across: Taps
    chroma_across: Taps
    luma_down: Taps
    chroma_down: Taps
    row_step: int
    blends: NDArray[np.int32]
    chroma_shift: int
    colours: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Down:
    """The rows of a picture, or of one of its fields."""

    luma: Taps
    chroma: Taps
    blends: NDArray[np.int32]


def scaling(layout: Layout, width: int, height: int, method: str, order: ChannelOrder) -> Scaling:
    """How stored pictures become width×height (not yet turned).

    Args:
        method: `bilinear`, `area` or `bicubic`.
        order: Of the channels: on x86, swscale has another arithmetic for BGR than for RGB.
    """
    numbers = colours(layout.matrix, full_range=layout.full_range)
    if _as_is(layout, width, height):
        luma, chroma = picked(np.arange(width), _ONE_ACROSS), picked(np.arange(layout.chroma_size[0]), _ONE_ACROSS)
        rows = np.arange(height)
        pairs = rows // 4 * 2 + rows % 2 if layout.interlaced else rows // 2
        down = (picked(rows, _ONE_DOWN), picked(pairs, _ONE_DOWN))
        return Scaling(width, height, luma, chroma, *down, 1, np.full(height, Blend.WORDS_CUT, np.int32), 1, numbers)
    odd = width % 2
    shared = width if odd else width // 2
    luma = _across(method, layout.width, width, CENTRE)
    chroma = _across(method, layout.chroma_size[0], shared, _place(layout.siting.x))
    family = Blend.FINE_ROUNDED if odd else Blend.WORDS if order == "bgr" else Blend.ROUNDED
    fields = layout.interlaced and height > 1 and layout.height > 2
    made = _fields(layout, height, method, family) if fields else _whole(layout, height, method, family)
    step = 2 if fields else 1
    return Scaling(width, height, luma, chroma, made.luma, made.chroma, step, made.blends, 1 - odd, numbers)


def _as_is(layout: Layout, width: int, height: int) -> bool:
    """Whether swscale converts without scaling; then it repeats chroma instead of interpolating it."""
    same_size = (layout.width, layout.height) == (width, height)
    return same_size and layout.sample_bytes == 1 and height % (4 if layout.interlaced else 2) == 0


def _across(method: str, source: int, target: int, place: int) -> Taps:
    return taps(method, source, target, one=_ONE_ACROSS, source_place=place, align=_ALIGN_ACROSS)


def _place(siting: int) -> int:
    """Of a chroma sample within the two pixels that share it, in 256ths."""
    return (siting + 128) >> 1


def _whole(layout: Layout, height: int, method: str, family: Blend) -> _Down:
    return _down(layout.height, layout.chroma_size[1], height, method, _place(layout.siting.y), family)


def _fields(layout: Layout, height: int, method: str, family: Blend) -> _Down:
    """The even rows from the even ones, the odd from the odd."""
    fields = []
    for field in (0, 1):
        lines = (layout.height + 1 - field) // 2
        place = _place((layout.siting.y + 256 * field) >> 1)
        fields.append(_down(lines, (lines + 1) // 2, (height + 1 - field) // 2, method, place, family))
    even, odd = fields
    blends = np.empty(height, np.int32)
    blends[0::2], blends[1::2] = even.blends, odd.blends
    luma = _woven(even.luma, odd.luma, layout.height)
    return _Down(luma, _woven(even.chroma, odd.chroma, layout.chroma_size[1]), blends)


def _woven(even: Taps, odd: Taps, lines: int) -> Taps:
    """One table of both fields; what it has too much of has a weight of 0.

    A height that is no multiple of 4 leaves the odd field a row of chroma short of what swscale takes it to have; the
    row before stands in for it, as it does for all that reaches over the end.
    """
    count, width = len(even.first) + len(odd.first), max(even.count, odd.count)
    first, weights = np.empty(count, np.int32), np.zeros((count, width), np.int16)
    for field, one in enumerate((even, odd)):
        first[field::2] = 2 * np.minimum(one.first, (lines - 1 - field) // 2) + field
        weights[field::2, : one.count] = one.weights
    return Taps(first, weights, width)


def _down(lines: int, chroma_lines: int, height: int, method: str, place: int, family: Blend) -> _Down:
    luma = taps(method, lines, height, one=_ONE_DOWN)
    chroma = taps(method, chroma_lines, height, one=_ONE_DOWN, source_place=place)
    blends = np.full(height, family, np.int32)
    if family == Blend.WORDS:
        # The last two rows are left to the general code.
        blends[-2:] = Blend.ROUNDED
    if luma.size == 1 and chroma.size <= 2:
        chroma = _nearest(chroma, blends == Blend.WORDS)
        blends[blends == Blend.WORDS] = Blend.WORDS_CUT
        blends[blends == Blend.FINE_ROUNDED] = Blend.FINE_CUT
    elif luma.size == chroma.size == 2:
        plain = _is_mean(luma) & _is_mean(chroma)
        cut = {Blend.ROUNDED: Blend.CUT, Blend.FINE_ROUNDED: Blend.FINE_CUT, Blend.WORDS: Blend.WORDS_PAIR}
        for blend, other in cut.items():
            blends[plain & (blends == blend)] = other
    return _Down(luma, chroma, blends)


def _is_mean(pairs: Taps) -> NDArray[np.bool_]:
    """Rows whose two weights make a mean."""
    if pairs.count == 1:
        return np.ones(len(pairs.first), np.bool_)
    weights = pairs.weights.astype(np.int32)
    result: NDArray[np.bool_] = (weights.sum(axis=1) == _ONE_DOWN) & (weights.min(axis=1) >= 0)
    return result


def _nearest(chroma: Taps, rows: NDArray[np.bool_]) -> Taps:
    """These rows from one row of chroma or from the middle of two, as x86 has it where luma needs no scaling down."""
    if chroma.count == 1:
        return chroma
    both = chroma.weights[:, 1:] >= _ONE_DOWN // 2
    weights = np.where(both, _ONE_DOWN // 2, np.array([_ONE_DOWN, 0]))
    weights = np.where((rows & _is_mean(chroma))[:, None], weights, chroma.weights)
    return Taps(chroma.first, weights.astype(np.int16), chroma.size)
