"""Where a box is in every frame: keyframes, a straight line between them, and where two such shapes differ.

CVAT and Label Studio both have it so: a box stands still after its last keyframe, and is gone from a frame on in which
it is `outside` (CVAT) or after one that is not `enabled` (Label Studio).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

from vidmod.predictions import Box

# CVAT writes two decimals.
_SAME_PIXELS = 0.02
_SAME_SHARE = 1e-9


@dataclass(frozen=True, slots=True)
class Key:
    """A box in a frame, (x1, y1, x2, y2) in pixels of the picture as displayed.

    Attributes:
        score: A detector's, if it is one's.
        pts, time_seconds: The exact time, if it is known.
        exact: The box before it was cut off at the picture's borders, if it was.
    """

    frame: int
    box: Box
    score: float | None = None
    pts: int | None = None
    time_seconds: float | None = None
    exact: Box | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Frames in which a box is shown all the while.

    Attributes:
        keys: In order, no two in one frame; at least one.
        end: The first frame in which it is not shown; None if it is shown to the film's end.
        start_seconds, end_seconds: From when to when what it is of may be there, if that is known: of what a detector
            found that is more than is shown.
    """

    keys: tuple[Key, ...]
    end: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def start(self) -> int:
        """The first frame in which it is shown."""
        return self.keys[0].frame

    def shows(self, frame: int) -> bool:
        """Whether the box is shown in a frame."""
        return self.start <= frame and (self.end is None or frame < self.end)

    def box(self, frame: int) -> Box:
        """The box in a frame, in a straight line between two keyframes."""
        place = bisect_right(self.keys, frame, key=attrgetter("frame"))
        if place == 0 or place == len(self.keys):
            return self.keys[max(place - 1, 0)].box
        before, after = self.keys[place - 1], self.keys[place]
        share = (frame - before.frame) / (after.frame - before.frame)
        x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(before.box, after.box, strict=True))
        return (x1, y1, x2, y2)


# In order, without overlap.
Shape = Sequence[Run]


def box_at(shape: Shape, frame: int) -> Box | None:
    """Where the box is in a frame; None if it is not shown."""
    place = bisect_right(shape, frame, key=attrgetter("start")) - 1
    return shape[place].box(frame) if place >= 0 and shape[place].shows(frame) else None


def differing(shape: Shape, other: Shape) -> list[tuple[int, int | None]]:
    """Frames [start, end) in which two shapes differ, from the last before in which they do not; None is the end.

    Both are made of straight lines, so they need comparing only where one of them has a corner.
    """
    corners = sorted({*_corners(shape), *_corners(other)})
    same = [_is_same(box_at(shape, frame), box_at(other, frame)) for frame in corners]
    found: list[tuple[int, int | None]] = []
    for place, frame in enumerate(corners):
        if same[place]:
            continue
        following = corners[place + 1] if place + 1 < len(corners) else None
        if place and not same[place - 1]:
            found[-1] = (found[-1][0], following)
        else:
            found.append((corners[place - 1] if place else frame, following))
    return found


def _corners(shape: Shape) -> Iterator[int]:
    for run in shape:
        yield from (key.frame for key in run.keys if run.shows(key.frame))
        if run.end is not None:
            yield run.end - 1
            yield run.end


def _is_same(box: Box | None, other: Box | None) -> bool:
    if box is None or other is None:
        return box is other
    return all(abs(a - b) <= _SAME_PIXELS + _SAME_SHARE * max(abs(a), abs(b)) for a, b in zip(box, other, strict=True))


def part(shape: Shape, start: int, end: int | None) -> list[Run]:
    """What of a shape is shown in the frames [start, end), with the boxes towards which it moves at both ends."""
    found = []
    for run in shape:
        first = max(start, run.start)
        last = run.end if end is None else end if run.end is None else min(end, run.end)
        if last is not None and first >= last:
            continue
        keys = [key for key in run.keys if first <= key.frame and (last is None or key.frame <= last)]
        if not keys or keys[0].frame > first:
            keys.insert(0, Key(first, run.box(first)))
        if last is not None and keys[-1].frame < last and run.keys[-1].frame > last:
            keys.append(Key(last, run.box(last)))
        found.append(
            Run(
                tuple(keys),
                last,
                run.start_seconds if first == run.start else None,
                run.end_seconds if last == run.end else None,
            )
        )
    return found


def joined(shapes: Iterable[Shape]) -> list[Run] | None:
    """The runs of all shapes; None if two are shown in one frame."""
    runs = sorted((run for shape in shapes for run in shape), key=attrgetter("start"))
    for one, other in pairwise(runs):
        if one.end is None or one.end > other.start:
            return None
    return runs
