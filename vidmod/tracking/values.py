"""What goes into a tracker and what comes out of it: checked values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from vidmod.predictions import Box, Detection
from vidmod.timebase import to_seconds


@dataclass(frozen=True, slots=True)
class FrameDetections:
    """One frame of a video and what a detector found in it.

    Attributes:
        pts: When it is shown, in the tracker's time base.
        end_pts: When it is no longer shown, above `pts`.
        detections: What was found; None if no detector looked at this frame.
        cut: A scene cut lies right before this frame.

    Raises:
        ValueError: The end is not after the start, or a box is not finite.
    """

    pts: int
    end_pts: int
    detections: tuple[Detection, ...] | None = None
    cut: bool = False

    def __post_init__(self) -> None:
        if self.end_pts <= self.pts:
            raise ValueError(f"Invalid end_pts ({self.end_pts}). A frame ends after its pts, which is {self.pts}.")
        for one in self.detections or ():
            if not all(math.isfinite(side) for side in one.box):
                raise ValueError(f"Invalid box ({one.box}) of {one.label}. Its sides are finite numbers.")


@dataclass(frozen=True, slots=True)
class Region:
    """What to cover in one frame because of one track.

    Attributes:
        track: The track's number, from 1, the same within one tracker.
        label: The track's label: the one with the greatest sum of scores.
        score: Of this frame's detection; in frames without one, the track's best.
        box: (x1, y1, x2, y2) in pixels of the displayed picture.
        seen: The track has a detection in this frame.
        beyond: This frame is before the track's first detection or after its last one, as far as is known.
    """

    track: int
    label: str
    score: float
    box: Box
    seen: bool
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class FrameRegions:
    """One frame of a video and all that is to be covered in it.

    Attributes:
        pts: When it is shown, in the tracker's time base.
        end_pts: When it is no longer shown.
        regions: In the order of their tracks' numbers, at most one for each track.
    """

    pts: int
    end_pts: int
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """One thing and what to cover of it from first to last.

    Attributes:
        id: The track's number, from 1.
        label: What it is.
        time_base: Seconds per unit of pts.
        start_pts: When its first frame is shown.
        end_pts: When its last frame is no longer shown.
        boxes: (pts, box) of every frame in which it is covered.
    """

    id: int
    label: str
    time_base: Fraction
    start_pts: int
    end_pts: int
    boxes: tuple[tuple[int, Box], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object that the timeline's `tracks` hold.

        Boxes are rounded outwards to the hundredth of a pixel: what was covered stays covered.
        """
        boxes = [
            {"pts": pts, "time_seconds": to_seconds(pts, self.time_base), "box": _rounded(box)}
            for pts, box in self.boxes
        ]
        return {
            "id": f"t{self.id}",
            "label": self.label,
            "start_seconds": to_seconds(self.start_pts, self.time_base),
            "end_seconds": to_seconds(self.end_pts, self.time_base),
            "boxes": boxes,
        }


def _rounded(box: Box) -> list[float]:
    x1, y1, x2, y2 = (side * 100 for side in box)
    return [math.floor(x1) / 100, math.floor(y1) / 100, math.ceil(x2) / 100, math.ceil(y2) / 100]


@dataclass(slots=True)
class _Draft:
    start_pts: int
    end_pts: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    boxes: list[tuple[int, Box]] = field(default_factory=list)


class TrackRecorder:
    """Gathers a tracker's regions by track, for the timeline.

    A tracker itself forgets what it has given out. What this holds grows with the frames that are covered.

    Args:
        time_base: Seconds per unit of pts.

    Example:
        >>> recorder = TrackRecorder(Fraction(1, 25))
        >>> recorder.add([FrameRegions(50, 51, (Region(1, "FACE", 0.9, (10.0, 10.0, 20.0, 20.0), True),))])
        >>> [track.as_json()["start_seconds"] for track in recorder.tracks()]
        [2.0]
    """

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._drafts: dict[int, _Draft] = {}

    def add(self, frames: Iterable[FrameRegions]) -> None:
        """Take what `Tracker.update` or `Tracker.finish` returned."""
        for frame in frames:
            for region in frame.regions:
                draft = self._drafts.setdefault(region.track, _Draft(frame.pts))
                draft.end_pts = frame.end_pts
                draft.labels[region.label] += 1
                draft.boxes.append((frame.pts, region.box))

    def tracks(self) -> list[Track]:
        """Return all tracks so far, in the order in which they were found."""
        return [
            Track(
                number, one.labels.most_common(1)[0][0], self._time_base, one.start_pts, one.end_pts, tuple(one.boxes)
            )
            for number, one in sorted(self._drafts.items())
        ]
