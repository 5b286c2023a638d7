"""What moves through a sample, what it passes behind, and the box of what can be seen of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samples.faces import Box, draw_face
from samples.patterns import draw_disc

Image = NDArray[np.uint8]

# What draws a thing, by the label that NudeNet gives it.
_DRAWINGS: dict[str, Callable[[Image, tuple[float, float], float], Box | None]] = {
    "FACE_FEMALE": draw_face,
    "FEMALE_BREAST_EXPOSED": draw_disc,
}
LABELS = tuple(_DRAWINGS)
# Less than a tenth of a pixel is nothing that one could tell.
_LEAST_PIXELS = 0.1


@dataclass(frozen=True)
class Pass:
    """A thing that moves in a straight line at constant speed.

    Attributes:
        start: First frame.
        end: Frame after the last.
        origin: Its middle in the first frame, as parts of the frame's width and height.
        target: The same one frame after the last.
        size: Its height at both ends, as parts of the frame's height; of a face, that of the head.
        thing: Which one it is: passes of the same number are one thing that goes on or comes back.
        label: One of `LABELS`.
    """

    start: int
    end: int
    origin: tuple[float, float]
    target: tuple[float, float]
    size: tuple[float, float] = (0.45, 0.45)
    thing: int = 0
    label: str = "FACE_FEMALE"

    def at(self, number: int) -> tuple[float, float, float]:
        """Middle x, y and height in a frame, as parts of the frame."""
        part = (number - self.start) / (self.end - self.start)
        way = zip((*self.origin, self.size[0]), (*self.target, self.size[1]), strict=True)
        x, y, size = (a + (b - a) * part for a, b in way)
        return x, y, size


@dataclass(frozen=True)
class Post:
    """What things pass behind: an upright or a lying bar.

    Attributes:
        left, top, right, bottom: Its sides at first, as parts of the frame's width and height.
        drift: How far to the right it moves in a frame, as a part of the frame's width.
        start: First frame in which it is there.
        end: Frame after the last; None for the film's.
        colour: Red, green and blue of 0 to 255; None where the background shows through, so that things vanish.
    """

    left: float
    right: float
    top: float = 0.0
    bottom: float = 1.0
    drift: float = 0.0
    start: int = 0
    end: int | None = None
    colour: tuple[int, int, int] | None = (96, 78, 60)

    def is_there(self, number: int) -> bool:
        """Whether it stands in a frame."""
        return self.start <= number and (self.end is None or number < self.end)

    def sides(self, number: int, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in whole pixels, clipped to the frame."""
        moved = self.drift * (number - self.start)
        left, right = (min(max(round((side + moved) * width), 0), width) for side in (self.left, self.right))
        return left, round(self.top * height), right, round(self.bottom * height)


@dataclass(frozen=True)
class Shown:
    """A thing in a frame.

    Attributes:
        thing: Which one.
        label: What it is.
        box: x1, y1, x2, y2 of what can be seen of it, in pixels.
    """

    thing: int
    label: str
    box: Box


def draw_things(
    frame: Image, number: int, passes: tuple[Pass, ...], posts: tuple[Post, ...]
) -> tuple[Image, list[Shown]]:
    """Draw what passes, the later the further in front, and the posts in front of all.

    Args:
        frame: uint8 [height, width, 3] RGB; is drawn on.
        number: Which frame.
        passes: What moves.
        posts: What stands in front.

    Returns:
        The picture, and what can be seen in it. Where a post hides a part of a thing, the box is the smallest around
        what shows, without strips of less than a tenth of the thing; a thing in front of another hides nothing here:
        both have their whole boxes.
    """
    height, width = frame.shape[:2]
    before = frame.copy() if any(post.colour is None for post in posts) else frame
    seen: list[Shown] = []
    for one in passes:
        if one.start <= number < one.end:
            x, y, size = one.at(number)
            box = _DRAWINGS[one.label](frame, (x * width, y * height), size * height)
            if box is not None:
                seen.append(Shown(one.thing, one.label, box))
    for post in posts:
        if post.is_there(number):
            left, top, right, bottom = sides = post.sides(number, width, height)
            hidden = (slice(top, bottom), slice(left, right))
            frame[hidden] = before[hidden] if post.colour is None else _wood(post.colour, left, sides)
            boxes = [(one, _beside(one.box, sides)) for one in seen]
            seen = [Shown(one.thing, one.label, box) for one, box in boxes if box is not None]
    return frame, [one for one in seen if _is_visible(one.box)]


def _is_visible(box: Box) -> bool:
    return box[2] - box[0] >= _LEAST_PIXELS and box[3] - box[1] >= _LEAST_PIXELS


def _wood(colour: tuple[int, int, int], origin: int, sides: tuple[int, int, int, int]) -> Image:
    """The face of a post: a colour, a little darker at its edges, with a grain that moves along."""
    left, top, right, bottom = sides
    across = np.arange(right - left, dtype=np.float32)
    shade = (
        1
        - 0.3 * np.abs(2 * (across + 0.5) / max(right - left, 1) - 1) ** 3
        + 0.05 * np.sin((left - origin + across) * 0.9)
    )
    row = np.clip(np.array(colour, np.float32)[None, :] * shade[:, None], 0, 255).astype(np.uint8)
    return np.broadcast_to(row[None], (bottom - top, right - left, 3)).copy()


def _beside(box: Box, hidden: tuple[int, int, int, int]) -> Box | None:
    """The box of what of it can be seen beside something in front; None where nothing can."""
    x1, y1, x2, y2 = box
    left, top, right, bottom = hidden
    # A post that does not go all along a side leaves the box as it is.
    if top <= y1 and bottom >= y2:
        x1, x2 = _outside(x1, x2, left, right)
    elif left <= x1 and right >= x2:
        y1, y2 = _outside(y1, y2, top, bottom)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _outside(low: float, high: float, start: int, stop: int) -> tuple[float, float]:
    """What of a stretch can be seen around a hidden one, without slivers."""
    # A sliver on the other side is nothing that one could tell.
    sliver = (high - low) / 10
    first, last = low, high
    if start - sliver <= low < stop:
        first = float(stop)
    if start < high <= stop + sliver:
        last = float(start)
    return first, last
