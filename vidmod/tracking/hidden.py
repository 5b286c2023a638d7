"""What a thing's box would be if nothing hid a part of it.

A detector boxes what it sees. Where the picture's border cuts a thing off, or something in front covers a part of it,
its box shrinks from one side, and its centre moves as the thing does not. Such a box is completed before a motion is
fitted to it: the side that can be seen stays, the other is moved as far away as the thing is wide or high. How wide and
high that is, other looks at the same thing tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from vidmod.predictions import Box
from vidmod.tracking.regions import Sides, size, touched

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# A side no further from the picture's border than this share of the box is cut off by it.
_BORDER_SHARE: Final = 0.03
# Of the width that its height lets expect: what is narrower is partly hidden. The same for its height.
_PARTIAL: Final = 0.9
# From so few looks no ratio of width to height is known.
_LEAST_LOOKS: Final = 5
# How many of the largest boxes tell it.
_SHARE_LARGEST: Final = 0.2
_LEAST_LARGEST: Final = 3
# Of the largest box of a thing of which a part is always hidden: what is so large shows where it is.
_NEARLY_ALL: Final = 0.75
# How much larger a thing may have become since all of it was seen.
_MOST_LARGER: Final = 1.5
# What is known of a thing from a part of it is worth less.
_SCORE_OF_PARTS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What a detector found of a thing at one time.

    Attributes:
        index: Of the frame.
        box: What was found.
        score: Its probability; less where the box was completed.
    """

    index: int
    box: Box
    score: float


Predict = Callable[[Sequence[Look], Sequence[int]], Sequence[Box]]


def completed(looks: Sequence[Look], picture: tuple[float, float], predict: Predict) -> list[Look]:
    """Return the looks with the boxes of whole things, as far as these can be known.

    Args:
        looks: Of one track, in order.
        picture: Width and height.
        predict: From looks at the whole thing, and frames, to where it should be in those.
    """
    sides = [touched([look.box], picture, _BORDER_SHARE) for look in looks]
    boxes = np.array([look.box for look in looks])
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    cut = np.array([(left or right, top or bottom) for left, top, right, bottom in sides])
    ratio = _ratio(sizes, cut)
    # What the border leaves of a thing is often boxed too low or too narrow along it, too.
    partial = cut.any(axis=1, keepdims=True) | _narrow(sizes, cut, ratio)
    if not partial.any():
        return list(looks)
    full = _full_sizes(np.array([look.index for look in looks]), sizes, partial, ratio)
    sure = [look for look, row in zip(looks, partial, strict=True) if not row.any()]
    if not sure:
        # All of it is never seen: what shows most of it has to do.
        least = _NEARLY_ALL * sizes.prod(axis=1).max()
        sure = [look for look, area in zip(looks, sizes.prod(axis=1).tolist(), strict=True) if area >= least]
    places = [place for place, row in enumerate(partial) if row.any()]
    expected = dict(zip(places, predict(sure, [looks[place].index for place in places]), strict=True))
    whole = list(looks)
    for place in places:
        width, height = full[place].tolist()
        hidden = _hidden(looks[place].box, expected[place], sides[place], partial[place].tolist())
        # What comes closer is larger than when all of it could be seen.
        across, along = size(expected[place])
        width = max(width, min(across, _MOST_LARGER * width))
        height = max(height, min(along, _MOST_LARGER * height))
        whole[place] = _whole(looks[place], hidden, width, height)
    return whole


def _ratio(sizes: Floats, cut: Bools) -> float | None:
    """Width over height of the whole thing, as the largest boxes have it: of these most are whole."""
    inside = sizes[~cut.any(axis=1)]
    if len(inside) < _LEAST_LOOKS:
        return None
    count = max(_LEAST_LARGEST, round(_SHARE_LARGEST * len(inside)))
    largest = inside[np.argsort(-inside.prod(axis=1), kind="stable")[:count]]
    return float(np.median(largest[:, 0] / largest[:, 1]))


def _narrow(sizes: Floats, cut: Bools, ratio: float | None) -> Bools:
    """Which widths and heights are too small for the height and width, though no border cuts them off."""
    narrow = np.zeros_like(cut)
    if ratio is not None:
        expected = np.stack([sizes[:, 1] * ratio, sizes[:, 0] / ratio], axis=1)
        narrow = ~cut.any(axis=1, keepdims=True) & (sizes < _PARTIAL * expected)
    return np.asarray(narrow, dtype=np.bool_)


def _full_sizes(at: npt.NDArray[np.int_], sizes: Floats, partial: Bools, ratio: float | None) -> Floats:
    """float64[N, 2]: how wide and how high the thing is at every look."""
    full = sizes.copy()
    for axis in (0, 1):
        whole = ~partial[:, axis]
        known = np.interp(at, at[whole], sizes[whole, axis]) if whole.any() else np.full(len(at), sizes[:, axis].max())
        other = sizes[:, 1 - axis] * (ratio if axis == 0 else 1 / ratio) if ratio is not None else known
        expected = np.where(partial[:, 1 - axis], known, np.maximum(known, other))
        full[:, axis] = np.where(whole, sizes[:, axis], np.maximum(sizes[:, axis], expected))
    return full


def _hidden(box: Box, expected: Box, sides: Sides, partial: Sequence[bool]) -> Sides:
    """Which sides of a box are not the thing's: the border's, or those further inside of where they should be."""
    left, top = box[0] - expected[0], box[1] - expected[1]
    right, bottom = expected[2] - box[2], expected[3] - box[3]
    across, along = sides[0] or sides[2], sides[1] or sides[3]
    return (
        sides[0] if across else partial[0] and left > right,
        sides[1] if along else partial[1] and top > bottom,
        sides[2] if across else partial[0] and left <= right,
        sides[3] if along else partial[1] and top <= bottom,
    )


def _whole(look: Look, hidden: Sides, width: float, height: float) -> Look:
    x1, y1, x2, y2 = look.box
    left, top, right, bottom = hidden
    # Of a box of which both sides are hidden nothing more is known.
    if left != right:
        x1, x2 = (min(x1, x2 - width), x2) if left else (x1, max(x2, x1 + width))
    if top != bottom:
        y1, y2 = (min(y1, y2 - height), y2) if top else (y1, max(y2, y1 + height))
    return replace(look, box=(x1, y1, x2, y2), score=look.score * _SCORE_OF_PARTS)
