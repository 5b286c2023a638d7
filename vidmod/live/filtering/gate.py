"""What of every frame may be seen. What nobody knows is covered.

Frames come in order; some of them are looked at, and what was seen comes later. A frame leaves in clear, or with boxes,
only if it was looked at itself or lies between two looks that are no further apart than is allowed; every other frame
is covered whole. So is a frame between a look that saw a thing and one that did not: where it came in, and when, nobody
knows. And so is a frame near the edge of what is known, where a source broke off or has just begun: a thing that is
partly in the picture there is known only by the rest of its way, of which nothing came. Nothing here waits, reads a
clock or touches a picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from vidmod.live.filtering.rules import Rules
from vidmod.predictions import Box, Detection, Predictions
from vidmod.tracking import FrameDetections, FrameRegions, Region, Tracker, Tracking

# Frames are settled some at a time: to smooth a track costs the same for one as for several.
_AT_A_TIME_SECONDS = 0.1
_MOST_BEHIND_SECONDS = 2.0
# What is found no further from a border than so many times its size came in there, or goes out.
_NEAR_BORDER = 2.0
# Of how many frames it is told how far apart a source's are; and how much further apart than before the next may be.
_RECENT, _STEADY = 8, 1.5
# How far from its way it may have been, as a share of its size.
_ASTRAY = 0.5

Reason = Literal["clear", "boxes", "found", "unclear", "unseen"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What of a frame is covered.

    Attributes:
        reason: `clear`, nothing; `boxes`, those; `found`, all of it, because of what was seen; `unclear`, all of it,
            because the looks around it differ; `unseen`, all of it, because too little was looked at.
    """

    reason: Reason
    boxes: tuple[Box, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all of it is covered."""
        return self.reason in ("found", "unclear", "unseen")


@dataclass(slots=True)
class _Thing:
    """What is found look after look in about the same place.

    Attributes:
        box: Where it was last, however unsure.
        sure: Where it was last for sure, if it ever was.
        first, last: When it was found first, and last, however unsure.
        last_sure: When it was found last for sure, if it ever was.
    """

    box: Box
    sure: Box
    first: int
    last: int
    last_sure: int
    is_sure: bool = False


@dataclass(slots=True)
class _Run:
    """Frames that came without a break.

    Attributes:
        first, last: Their pts.
        recent: How far apart the newest are.
    """

    first: int
    last: int
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))

    @property
    def apart(self) -> int:
        """How far apart its frames are at most, lately."""
        return max(self.recent, default=0)


class Gate:
    """Decides about frames, in order.

    Args:
        rules: What is covered.
        tracking: How detections become boxes. Its look-ahead is not used: a frame gets what is known when it leaves.
        size: Displayed width and height.
        time_base: Seconds per unit of pts.
        max_gap_seconds: Two looks no further apart than this speak for the frames between them.
        reach_seconds: How long before it is first found, and after it is last found, a thing near the picture's border
            may be partly in the picture. A detector knows a thing only when most of it is to be seen.
        foresight_seconds: How much must have come after a frame without a break, and have been looked at, when it
            leaves: otherwise nobody can know what is just coming in.
        edge_seconds: How much must have come before a frame without a break, and have been looked at: what is just
            going out where that begins is known by no look.
    """

    def __init__(
        self,
        rules: Rules,
        tracking: Tracking,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        max_gap_seconds: float,
        reach_seconds: float = 1.0,
        foresight_seconds: float = 0.0,
        edge_seconds: float = 0.0,
    ) -> None:
        self._rules, self._tracking = rules, tracking
        self._size, self._time_base = size, time_base
        self._max_gap = int(Fraction(max_gap_seconds) / time_base)
        self._foresight = round(foresight_seconds / float(time_base))
        self._edge = round(edge_seconds / float(time_base))
        self._reach = round(reach_seconds / float(time_base))
        self._most_behind = round(_MOST_BEHIND_SECONDS / float(time_base))
        self._at_a_time = round(_AT_A_TIME_SECONDS / float(time_base))
        self._begin()

    def _begin(self) -> None:
        self._tracker = Tracker(self._tracking, time_base=self._time_base, width=self._size[0], height=self._size[1])
        self._runs: deque[_Run] = deque()  # in order
        self._last_apart = 0  # how far the last two frames were apart
        # Frames after the newest look, [pts, end).
        self._ahead: deque[tuple[int, int]] = deque()
        self._dropped: int | None = None  # the last frame of which no look is taken any more
        self._regions: dict[int, tuple[Region, ...]] = {}
        self._things: list[_Thing] = []  # of the newest look
        # Ways in and out of the picture, [start, end), and what they take.
        self._ways: deque[tuple[int, int, Box]] = deque()
        self._looks: deque[int] = deque()  # pts of looks, in order
        self._tracks: dict[int, frozenset[int]] = {}  # which tracks a look saw
        self._newest_look: tuple[int, int] | None = None
        # Frames within these have been looked at, or lie between looks: [first, last] pts, in order.
        self._known: deque[tuple[int, int]] = deque()
        # When everything is covered, [start, end).
        self._found: deque[tuple[int, int]] = deque()
        # When something may be on its way out that no look has seen, [start, end).
        self._blind: deque[tuple[int, int]] = deque()

    def cut(self) -> None:
        """What comes has nothing to do with what was: another source, or the same one after a gap."""
        self._begin()

    def frame(self, pts: int, end_pts: int) -> None:
        """The next frame is there; it is shown in [pts, end_pts).

        Raises:
            ValueError: It does not come after the one before it.
        """
        if end_pts <= pts or (self._ahead and pts <= self._ahead[-1][0]):
            raise ValueError(f"Invalid frame ({pts} to {end_pts}). Frames come in order, and last.")
        self._ahead.append((pts, end_pts))
        self._extend_run(pts)

    def _extend_run(self, pts: int) -> None:
        apart = pts - self._runs[-1].last if self._runs else 0
        if self._runs and apart <= max(self._max_gap, round(self._last_apart * _STEADY)):
            self._runs[-1].last = pts
            self._runs[-1].recent.append(apart)
        else:
            self._runs.append(_Run(pts, pts))
        self._last_apart = apart

    def look(self, pts: int, predictions: Predictions) -> None:
        """What was seen in a frame; looks come in the order of their frames, and not all frames have one.

        One that comes so late that its frame has long left is of no use, and left out.

        Raises:
            ValueError: There is no such frame after the last look.
        """
        if self._dropped is not None and pts <= self._dropped:
            return
        if not any(frame[0] == pts for frame in self._ahead):
            raise ValueError(f"Invalid look ({pts}). There is no such frame after the last look.")
        is_adjacent = self._ahead[0][0] == pts
        while self._ahead[0][0] < pts:
            start, end = self._ahead.popleft()
            self._settle(self._tracker.update(FrameDetections(start, end, None)))
        start, end = self._ahead.popleft()
        self._looks.append(start)
        targets = self._rules.targets
        found = targets.levelled(targets.boxes(predictions), self._tracking.high)
        self._settle(self._tracker.update(FrameDetections(start, end, found)))
        self._follow_things(start, end, found)
        before = self._newest_look
        # What a look has seen is covered on its way out for so long that a shorter pause makes no difference.
        if not is_adjacent and (before is None or pts - before[0] > self._reach - self._edge):
            self._blind.append((pts, pts + self._edge))
        near = before is not None and pts - before[0] <= self._max_gap
        if not near or before is None:
            self._known.append((pts, pts))
        elif self._known:
            self._known[-1] = (self._known[-1][0], pts)
        else:  # the last frame that was known has left
            self._known.append((before[0], pts))
        holds = [row.hold_seconds for row in self._rules.cover_all if row.is_met(predictions)]
        if holds:
            # It may have begun right after the look before.
            since = before[1] if near and before is not None else start
            self._found.append((since, end + round(max(holds) / float(self._time_base))))
        self._newest_look = (start, end)

    def _follow_things(self, start: int, end: int, found: Sequence[Detection]) -> None:
        """What is new near a border came in there; what is there no more went out."""
        gone, here = self._things, list[_Thing]()
        for item in sorted(found, key=lambda one: -one.score):
            if any(_is_about(item.box, thing.box) for thing in here):
                continue  # the same thing by another name
            thing = next((one for one in gone if _is_about(item.box, one.box)), None)
            if thing is None:
                thing = _Thing(item.box, item.box, start, start, start)
            else:
                gone.remove(thing)
            here.append(thing)
            if item.score < self._tracking.high:
                if thing.is_sure:  # the tracker may take it for another one, and lose it
                    self._cover_way(thing.last, end, item.box, thing.sure)
            elif not thing.is_sure:
                thing.is_sure = True
                self._cover_way(thing.first - self._reach, end, thing.box, item.box)
                thing.sure, thing.last_sure = item.box, start
            else:
                if thing.last_sure != thing.last:
                    self._cover_way(thing.last_sure, end, item.box)
                thing.sure, thing.last_sure = item.box, start
            thing.box, thing.last = item.box, start
        for thing in gone:
            if thing.is_sure:
                self._cover_way(thing.last, thing.last + self._reach, thing.box, thing.sure)
        self._things = here

    def _cover_way(self, start: int, end: int, *boxes: Box) -> None:
        for way in map(self._way, boxes):
            if way is not None:
                self._ways.append((start, end, way))

    def _way(self, box: Box) -> Box | None:
        """All between a box and the borders near it; None if there is none."""
        x1, y1, x2, y2 = box
        (width, height), (across, down) = self._size, (x2 - x1, y2 - y1)
        left, right = x1 <= across * _NEAR_BORDER, width - x2 <= across * _NEAR_BORDER
        top, bottom = y1 <= down * _NEAR_BORDER, height - y2 <= down * _NEAR_BORDER
        if not (left or right or top or bottom):
            return None
        return (
            0.0 if left else max(0.0, x1 - across * _ASTRAY),
            0.0 if top else max(0.0, y1 - down * _ASTRAY),
            float(width) if right else min(float(width), x2 + across * _ASTRAY),
            float(height) if bottom else min(float(height), y2 + down * _ASTRAY),
        )

    def decide(self, pts: int, end_pts: int) -> Decision:
        """What of a frame is covered, now that it is to leave. Frames are asked about once, in order."""
        while self._known and self._known[0][1] < pts:
            self._known.popleft()
        # A look at what left so long ago tells nothing of what comes.
        while self._ahead and self._ahead[0][0] < pts - self._most_behind:
            self._dropped = self._ahead.popleft()[0]
        self._found = deque(span for span in self._found if span[1] > pts)
        self._blind = deque(span for span in self._blind if span[1] > pts)
        # Two looks that are known to speak for this frame, of which it may be one.
        while len(self._looks) > 1 and self._looks[1] <= pts:
            self._tracks.pop(self._looks.popleft(), None)
        for first in [row for row in self._regions if row < pts]:
            del self._regions[first]
        self._ways = deque(row for row in self._ways if row[1] > pts)
        if not self._known or not self._known[0][0] <= pts <= self._known[0][1] or self._is_at_edge(pts):
            return Decision("unseen")
        if self._blind and self._blind[0][0] <= pts:
            return Decision("unseen")
        if self._ahead and self._ahead[0][0] <= pts + self._foresight:
            return Decision("unseen")
        if any(start < end_pts and pts < end for start, end in self._found):
            return Decision("found")
        before = self._looks[0]
        after = before if before == pts else self._looks[1]
        if pts not in self._regions or after not in self._tracks:
            self._settle(self._tracker.settle(max(after, min(pts + self._at_a_time, self._known[0][1]))))
        regions = self._regions.pop(pts, None)
        if regions is None or before not in self._tracks or after not in self._tracks:
            return Decision("unseen")
        certain = {region.track for region in regions if not region.beyond}
        if before != after and (self._tracks[before] ^ self._tracks[after]) - certain:
            return Decision("unclear")
        boxes = [region.box for region in regions]
        boxes += [box for start, end, box in self._ways if start < end_pts and pts < end]
        return Decision("boxes", tuple(boxes)) if boxes else Decision("clear")

    def _is_at_edge(self, pts: int) -> bool:
        """Whether too little came without a break before or after a frame.

        What was not looked at in time is no break: a thing that is found before or after it is covered on its way, and
        each late look would cost many times the pictures that it was late for.
        """
        while self._runs and self._runs[0].last < pts:
            self._runs.popleft()
        if not self._runs:
            return True
        run = self._runs[0]
        # The next frame of a slow source is not yet to have come.
        return pts < run.first + self._edge or run.last < pts + self._foresight - run.apart

    def _settle(self, frames: Sequence[FrameRegions]) -> None:
        for frame in frames:
            self._regions[frame.pts] = frame.regions
            if frame.pts in self._looks:
                self._tracks[frame.pts] = frozenset(region.track for region in frame.regions if region.seen)


def _is_about(box: Box, other: Box) -> bool:
    """Whether one is where the other is, or right beside it."""
    return all(
        abs((box[side] + box[side + 2]) - (other[side] + other[side + 2])) / 2
        <= max(box[side + 2] - box[side], other[side + 2] - other[side])
        for side in (0, 1)
    )
