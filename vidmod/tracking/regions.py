"""Arithmetic of boxes: (x1, y1, x2, y2) in pixels, x right, y down."""

from __future__ import annotations

from collections.abc import Sequence

from vidmod.predictions import Box

# Of the picture or a box: left, top, right, bottom.
Sides = tuple[bool, bool, bool, bool]


def size(box: Box) -> tuple[float, float]:
    """Return width and height."""
    return box[2] - box[0], box[3] - box[1]


def centre(box: Box) -> tuple[float, float]:
    """Return x and y of the middle."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def grown(box: Box, along_x: float, along_y: float) -> Box:
    """Return the box with so many pixels more on each side."""
    return box[0] - along_x, box[1] - along_y, box[2] + along_x, box[3] + along_y


def union(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all boxes."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def clipped(box: Box, picture: tuple[float, float]) -> Box | None:
    """Return the part of a box that is inside a picture of this width and height, None if there is none."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], picture[0]), min(box[3], picture[1])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def touched(boxes: Sequence[Box], picture: tuple[float, float], slack: float) -> Sides:
    """Return the picture's borders that one of the boxes reaches, give or take a share of its size."""
    x1, y1, x2, y2 = union(boxes)
    along_x, along_y = slack * (x2 - x1), slack * (y2 - y1)
    return x1 <= along_x, y1 <= along_y, x2 >= picture[0] - along_x, y2 >= picture[1] - along_y


def reaching(box: Box, sides: Sides, picture: tuple[float, float]) -> Box:
    """Return the box drawn out to those borders of the picture that are no further away than its own size.

    A thing that is cut off by a border changes its box as if it grew or shrank, and its centre moves at half
    its speed. Between two looks, what shows of it reaches as far as the border.
    """
    x1, y1, x2, y2 = box
    left, top, right, bottom = sides
    width, height = x2 - x1, y2 - y1
    return (
        min(x1, 0.0) if left and x1 <= width else x1,
        min(y1, 0.0) if top and y1 <= height else y1,
        max(x2, picture[0]) if right and picture[0] - x2 <= width else x2,
        max(y2, picture[1]) if bottom and picture[1] - y2 <= height else y2,
    )
