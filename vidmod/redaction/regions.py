"""Where to draw: boxes in stored pixels, rounded outward to the chroma grid and clipped to the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from vidmod.errors import UsageError, choose
from vidmod.predictions import Box
from vidmod.redaction.planes import Component, PlaneLayout

__all__ = ["SHAPES", "Orientation", "Region", "find_region", "stored_boxes"]

Bools = npt.NDArray[np.bool_]

SHAPES: Final = ("box", "ellipse")
# A box thinner than this is as thin as this, so that nothing is divided by 0; it still fills a whole cell.
_THINNEST: Final = 1e-6


class Orientation(Protocol):
    """How stored pixels become displayed ones: an exchange of the axes, then flips; as in `vidmod.media`."""

    @property
    def transposed(self) -> bool:
        """Whether the axes are exchanged."""

    @property
    def flip_x(self) -> bool:
        """Whether, after that, left and right are."""

    @property
    def flip_y(self) -> bool:
        """Whether, after that, top and bottom are."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The part of one picture that one box covers.

    Attributes:
        left: Pixels, a multiple of the cell's width.
        top: Pixels, a multiple of the cell's height.
        right: Pixels, exclusive; a multiple as well, or the picture's edge.
        bottom: Pixels, exclusive, likewise.
        extent: The longer side of the shape before it was clipped, in pixels.
        cells: bool[rows, columns], one for each cell of the chroma grid: whether it is covered; None: all are.
    """

    left: int
    top: int
    right: int
    bottom: int
    extent: float
    cells: Bools | None = None

    @property
    def width(self) -> int:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels."""
        return self.bottom - self.top

    def window(self, component: Component) -> tuple[slice, slice]:
        """(rows, columns) of the component's samples."""
        y, x = component.y_shift, component.x_shift
        return slice(self.top >> y, -(-self.bottom >> y)), slice(self.left >> x, -(-self.right >> x))

    def mask(self, component: Component, layout: PlaneLayout) -> Bools | None:
        """bool, of `window`'s shape: the samples that are covered; None: all are.

        A chroma sample is covered with all luma samples that share it, or not at all.
        """
        x, y = layout.x_shift - component.x_shift, layout.y_shift - component.y_shift
        if self.cells is None or x == y == 0:
            return self.cells
        return self.cells.repeat(1 << y, 0).repeat(1 << x, 1)[: self.height, : self.width]


def find_region(box: Box, layout: PlaneLayout, shape: str = "box") -> Region | None:
    """What a box covers of a picture.

    A ``box`` is rounded outward to whole cells of the chroma grid. An ``ellipse`` is the one through the box's
    corners (its semi-axes are half the box's sides times the square root of 2), so that all of the box is covered:
    the ellipse inside of a box leaves 21.5 % of it in clear. It covers 57 % more than the box (pi / 2), and every
    cell that it touches. Then both are clipped to the picture.

    Args:
        box: (x1, y1, x2, y2) in stored pixels; may lie partly or wholly outside of the picture.
        layout: The picture's.
        shape: ``box`` or ``ellipse``.

    Returns:
        None if the box has no area, or lies outside of the picture.

    Raises:
        UsageError: A coordinate is no finite number, the box is inside out, or the shape is unknown.
    """
    choose("shape", shape, SHAPES)
    x1, y1, x2, y2 = _checked(box)
    columns = _snap(x1, x2, layout.width, layout.x_shift)
    rows = _snap(y1, y2, layout.height, layout.y_shift)
    if columns is None or rows is None:
        return None
    inner = Region(columns[0], rows[0], columns[1], rows[1], max(x2 - x1, y2 - y1))
    return inner if shape == "box" else _ellipse(box, inner, layout)


def stored_boxes(boxes: Iterable[Box], orientation: Orientation, size: tuple[int, int]) -> list[Box]:
    """Turn boxes in displayed pixels into boxes in stored pixels.

    Args:
        boxes: (x1, y1, x2, y2) as a viewer sees them, x right, y down.
        orientation: How stored pixels become displayed ones.
        size: (width, height) in displayed pixels.

    Raises:
        UsageError: A coordinate is no finite number, or a box is inside out.
    """
    return [_stored(_checked(box), orientation, size) for box in boxes]


def _stored(box: Box, orientation: Orientation, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = box
    if orientation.flip_x:
        x1, x2 = size[0] - x2, size[0] - x1
    if orientation.flip_y:
        y1, y2 = size[1] - y2, size[1] - y1
    return (y1, x1, y2, x2) if orientation.transposed else (x1, y1, x2, y2)


def _checked(box: Box) -> Box:
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)) or x2 < x1 or y2 < y1:
        raise UsageError(f"Invalid box ({box}). Use finite (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2.")
    return box


def _snap(low: float, high: float, size: int, shift: int) -> tuple[int, int] | None:
    """The cells from `low` to `high`, in pixels; None without any."""
    start, stop = max(low, 0.0), min(high, float(size))
    if low >= high or start >= stop:
        return None
    return math.floor(start) >> shift << shift, min(-(-math.ceil(stop) >> shift) << shift, size)


def _ellipse(box: Box, inner: Region, layout: PlaneLayout) -> Region:
    """The cells that the ellipse through the box's corners touches; `inner` is the box itself."""
    (x, semi_x), (y, semi_y) = _axis(box[0], box[2]), _axis(box[1], box[3])
    columns = _snap(x - semi_x, x + semi_x, layout.width, layout.x_shift) or (inner.left, inner.right)
    rows = _snap(y - semi_y, y + semi_y, layout.height, layout.y_shift) or (inner.top, inner.bottom)
    left, right = min(columns[0], inner.left), max(columns[1], inner.right)
    top, bottom = min(rows[0], inner.top), max(rows[1], inner.bottom)
    width, height = layout.cell
    far_x, far_y = _nearest(left, right, width, x) / semi_x, _nearest(top, bottom, height, y) / semi_y
    cells = far_x[None, :] ** 2 + far_y[:, None] ** 2 <= 1.0
    # Its corners lie on the border, where rounding decides.
    rows_in = slice((inner.top - top) // height, -((top - inner.bottom) // height))
    cells[rows_in, (inner.left - left) // width : -((left - inner.right) // width)] = True
    return Region(left, top, right, bottom, 2 * max(semi_x, semi_y), cells)


def _axis(low: float, high: float) -> tuple[float, float]:
    """Centre and semi-axis, without overflow."""
    return low / 2 + high / 2, max(high / 2 - low / 2, _THINNEST) * math.sqrt(2)


def _nearest(start: int, stop: int, cell: int, centre: float) -> npt.NDArray[np.float64]:
    """Pixels from the centre to the nearest point of each cell."""
    edges = np.arange(start, stop, cell, dtype=np.float64)
    away: npt.NDArray[np.float64] = np.abs(np.clip(centre, edges, edges + cell) - centre)
    return away
