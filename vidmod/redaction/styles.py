"""What regions are covered with, and whether a region is covered still after it was encoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from vidmod.errors import UsageError
from vidmod.predictions import Box
from vidmod.redaction.planes import Component, Plane, PlaneLayout
from vidmod.redaction.regions import Region, find_region

__all__ = [
    "BLACK",
    "SLATE",
    "STYLES",
    "TOLERANCE",
    "Blur",
    "Deviation",
    "Fill",
    "Mosaic",
    "Style",
    "cover",
    "deviation",
    "is_covered",
    "slate",
]

Floats = npt.NDArray[np.floating[Any]]

# Measured with x264, 8 and 10 bits 4:2:0, over noise, hard edges and smooth colours, all moving: `Deviation.level` is
# at most 15.4 at crf 23 (7 inside of the rim; 15.4 is the mean of boxes of 8x8 pixels). It grows with the quantizer:
# 20 at crf 28, 29 at 33; SVT-AV1 at 35 has 35. The crf 23 part is a test.
TOLERANCE: Final = 16.0
# A transform block of H.264 that is half covered rings into the covered half; blocks are up to 8 pixels wide.
_RIM: Final = 8


class Style(Protocol):
    """Computes what replaces a region's samples."""

    def paint(self, patch: Plane, component: Component, region: Region, /) -> int | Plane:
        """One word for all, or words of the patch's shape.

        Args:
            patch: The component's samples in the region's window, rows×columns, any strides; not to be changed.
            component: Whose samples they are.
            region: Where they lie.
        """


@dataclass(frozen=True, slots=True)
class Fill:
    """One flat grey; nothing of what was there remains.

    Attributes:
        level: From 0 (black) to 1 (white).

    Raises:
        UsageError: The level is outside of [0, 1].
    """

    level: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.level <= 1.0:
            raise UsageError(f"Invalid level ({self.level!r}). Use a number from 0 (black) to 1 (white).")

    def paint(self, _patch: Plane, component: Component, _region: Region) -> int:
        """The word of the grey."""
        return component.gray(self.level)


@dataclass(frozen=True, slots=True)
class Averages:
    """What mosaic and blur share: all that they keep of a region is a few averages for each component.

    There are at most `blocks` averages along the longer side of the shape, each over a window half as long as that
    side. Windows are spread evenly over the region, never beyond it, and weighted by a raised cosine (Hann, 1949):
    stripes and checkers with a period below a quarter of the longer side (and half of the shorter) keep less than 3 %
    of their contrast, wherever they lie (5 % where a small box has few chroma samples). Plain averages over blocks
    would keep up to 41 % at this many blocks.

    What it hides: features, writing, texture. What it does not: that something is there, how it is lit and coloured
    on the whole, how it moves. Networks have told known people apart through mosaic and blur (McPherson, Shokri and
    Shmatikov, "Defeating Image Obfuscation with Deep Learning", 2016, arXiv:1609.00408), and many frames of one moving
    thing say more than one. Where that matters, fill.

    Attributes:
        blocks: Averages along the longer side, 1 to 8.
        min_block: Pixels; where blocks would be smaller than this there are fewer. At least 8.

    Raises:
        UsageError: A number is out of its range.
    """

    blocks: int = 6
    min_block: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= 8:
            raise UsageError(f"Invalid blocks ({self.blocks!r}). Use 1 to 8.")
        if self.min_block < 8:
            raise UsageError(f"Invalid min_block ({self.min_block!r}). Use 8 pixels or more.")

    def _count(self, length: int, extent: float) -> int:
        """Averages along a side of `length` pixels, of a shape of this `extent`."""
        by_share = length * self.blocks // max(extent, 1.0)
        return max(1, int(min(self.blocks, by_share, length // self.min_block)))

    def _share(self, length: int, extent: float) -> float:
        """A window's part of a side of `length` pixels."""
        return min(1.0, max(extent / 2, 2.0 * self.min_block) / length)

    def _averages(self, patch: Plane, component: Component, region: Region) -> Floats:
        """float32[rows, columns], samples without their padding."""
        rows = _windows(patch.shape[0], *self._plan(region.height, region.extent))
        columns = _windows(patch.shape[1], *self._plan(region.width, region.extent))
        samples = (patch >> component.padding).astype(np.float32)
        return _product(_product(rows, samples), columns.T)

    def _plan(self, length: int, extent: float) -> tuple[int, float]:
        return self._count(length, extent), self._share(length, extent)


@dataclass(frozen=True, slots=True)
class Mosaic(Averages):
    """Flat blocks of `Averages`, which says what they hide and what they do not."""

    def paint(self, patch: Plane, component: Component, region: Region) -> Plane:
        """Each average as a block; blocks are laid out on the region, along its cells."""
        averages = _words(self._averages(patch, component, region), component, patch.dtype)
        rows, columns = (_blocks(*item) for item in zip(patch.shape, averages.shape, strict=True))
        return averages.take(columns, 1).take(rows, 0)


@dataclass(frozen=True, slots=True)
class Blur(Averages):
    """A smooth surface through `Averages`, which says what it hides and what it does not."""

    def paint(self, patch: Plane, component: Component, region: Region) -> Plane:
        """The averages, with a cubic B-spline between them (which never leaves their range)."""
        averages = self._averages(patch, component, region)
        rows, columns = (_splines(*item) for item in zip(patch.shape, averages.shape, strict=True))
        return _words(_product(_product(rows, averages), columns.T), component, patch.dtype)


BLACK: Final = Fill()
SLATE: Final = Fill(0.25)
STYLES: Final[dict[str, Style]] = {"fill": BLACK, "mosaic": Mosaic(), "blur": Blur()}


def cover(
    planes: Sequence[Plane], layout: PlaneLayout, boxes: Iterable[Box], style: Style = BLACK, shape: str = "box"
) -> None:
    """Cover every box, in place; nothing else changes.

    Alpha becomes opaque where a picture is covered. Where boxes overlap they are covered one after the other.

    Args:
        planes: The picture's, as `PlaneLayout.arrays` gives them, writable.
        layout: The picture's.
        boxes: (x1, y1, x2, y2) in stored pixels (see `stored_boxes`); rounded outward to whole cells of the chroma
            grid and clipped to the picture. Boxes without area or outside of the picture change nothing.
        style: `Fill`, `Mosaic` or `Blur`.
        shape: ``box`` or ``ellipse``, as in `find_region`.

    Raises:
        UsageError: A box is damaged, the shape unknown, or the planes are not of this layout or read-only. The
            boxes before a damaged one may be covered.
    """
    views = layout.views(planes)
    if not all(view.flags.writeable for _, view in views):
        raise UsageError("Invalid planes (read-only). Make the frame writable first.")
    for box in boxes:
        region = find_region(box, layout, shape)
        for component, view in views if region is not None else ():
            assert region is not None
            _draw(view[region.window(component)], component, region, region.mask(component, layout), style)


def slate(planes: Sequence[Plane], layout: PlaneLayout) -> None:
    """Cover the whole picture with `SLATE`, a dark grey that no fade to black is mistaken for."""
    cover(planes, layout, [layout.bounds], SLATE)


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far covered regions are from their fill, in levels of 8 bits.

    Attributes:
        worst: The largest of all samples that are not on a region's rim.
        mean: The mean of all samples, for the worst region and component.
    """

    worst: float = 0.0
    mean: float = 0.0

    @property
    def level(self) -> float:
        """The larger of both: what a tolerance is compared with."""
        return max(self.worst, self.mean)


def deviation(
    planes: Sequence[Plane],
    layout: PlaneLayout,
    boxes: Iterable[Box],
    shape: str = "box",
    *,
    fill: Fill = BLACK,
    rim: int = _RIM,
) -> Deviation:
    """How far boxes are from being filled.

    An encoder rings near a region's border, by up to 57 levels at x264's crf 23, so the `rim` counts only in the mean.
    A region that is all rim (one side is 2 * `rim` or less) is judged by its mean alone.

    Args:
        planes: As in `cover`, of the decoded output; may be read-only.
        layout: The output's.
        boxes: As they were covered.
        shape: As they were covered.
        fill: What they were covered with.
        rim: Pixels. 8 for H.264; encoders with larger transform blocks ring further.

    Raises:
        UsageError: As in `cover`.
    """
    views = layout.views(planes)
    regions = [region for box in boxes if (region := find_region(box, layout, shape)) is not None]
    found = [
        _deviation(view[region.window(component)], component, region.mask(component, layout), fill, rim)
        for region in regions
        for component, view in views
        if component.role != "X"
    ]
    return Deviation(max((item.worst for item in found), default=0.0), max((item.mean for item in found), default=0.0))


def is_covered(
    planes: Sequence[Plane],
    layout: PlaneLayout,
    boxes: Iterable[Box],
    shape: str = "box",
    *,
    fill: Fill = BLACK,
    tolerance: float = TOLERANCE,
) -> bool:
    """Whether all boxes are filled, within a tolerance in levels of 8 bits; see `deviation`."""
    return deviation(planes, layout, boxes, shape, fill=fill).level <= tolerance


def _draw(patch: Plane, component: Component, region: Region, mask: npt.NDArray[np.bool_] | None, style: Style) -> None:
    words = component.gray(0) if component.role in "AX" else style.paint(patch, component, region)
    if mask is None:
        patch[...] = words
    else:
        np.copyto(patch, np.asarray(words, patch.dtype), where=mask)


def _deviation(
    patch: Plane, component: Component, mask: npt.NDArray[np.bool_] | None, fill: Fill, rim: int
) -> Deviation:
    wanted = patch.dtype.type(component.gray(fill.level) >> component.padding)
    samples = patch >> component.padding if component.padding else patch
    # Stays unsigned and short: a signed difference would cost several times as much.
    away = np.maximum(samples, wanted) - np.minimum(samples, wanted)
    rows, columns = -(-rim >> component.y_shift), -(-rim >> component.x_shift)
    if mask is None:
        core, count = away[rows : away.shape[0] - rows, columns : away.shape[1] - columns], away.size
    else:
        away *= mask
        core, count = away[_eroded(mask, rows, columns)], int(mask.sum())
    unit = 1 << (component.bits - 8)
    return Deviation(int(core.max(initial=0)) / unit, int(away.sum(dtype=np.uint64)) / count / unit)


def _eroded(mask: npt.NDArray[np.bool_], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """True where a rectangle of so many rows and columns to each side is in the mask, which is convex."""
    padded = np.pad(mask, ((rows, rows), (columns, columns)))
    upper, lower = padded[: mask.shape[0]], padded[2 * rows :]
    left, right = slice(mask.shape[1]), slice(2 * columns, None)
    return upper[:, left] & upper[:, right] & lower[:, left] & lower[:, right]


def _product(left: Floats, right: Floats) -> Floats:
    """Matrix product on the calling thread alone.

    OpenBLAS would share it out among threads that wait for each other: half a millisecond becomes 30 where an encoder
    keeps all cores busy.
    """
    result: Floats = np.einsum("ik,kj->ij", left, np.ascontiguousarray(right))
    return result


def _windows(length: int, count: int, share: float) -> Floats:
    """float32[count, length], rows of sum 1: Hann windows over a `share` of the length, spread evenly."""
    width = max(share * length, 1.0)
    centres = np.linspace(width / 2, length - width / 2, count) if count > 1 else np.array([length / 2])
    away = np.abs(np.arange(length) + 0.5 - centres[:, None]) / width
    weights = np.where(away < 0.5, 1.0 + np.cos(2.0 * np.pi * away), 0.0)
    result: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def _blocks(length: int, count: int) -> npt.NDArray[np.intp]:
    """intp[length]: the block that each sample is in."""
    return np.arange(length) * count // length


def _splines(length: int, count: int) -> Floats:
    """float32[length, count], rows of sum 1: the cubic B-spline's weight of each average at each sample."""
    places = (np.arange(length) + 0.5) * count / length - 0.5
    knots = np.arange(-2, count + 2)
    away = np.abs(places[:, None] - knots)
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    # Beyond its ends the row of averages goes on with the last one.
    ends = np.equal.outer(np.clip(knots, 0, count - 1), np.arange(count))
    weights: Floats = (np.where(away < 1, near, far) @ ends).astype(np.float32)
    return weights


def _words(samples: Floats, component: Component, dtype: np.dtype[np.uint8 | np.uint16]) -> Plane:
    """Round to whole samples and put them into words."""
    words: Plane = np.clip(np.rint(samples), 0, (1 << component.bits) - 1).astype(dtype)
    words <<= component.padding
    return words
