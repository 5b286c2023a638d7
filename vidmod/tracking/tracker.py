"""The tracker: tracks that are open, and frames that wait for their final answer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, cast

import numpy as np

from vidmod.errors import UsageError
from vidmod.predictions import Box, Detection
from vidmod.tracking import association, motion, regions
from vidmod.tracking.motion import State, Step
from vidmod.tracking.regions import Sides
from vidmod.tracking.settings import Tracking
from vidmod.tracking.values import FrameDetections, FrameRegions, Region

# Sums of frame durations in another order differ in the last digits; a frame lasts milliseconds.
_SLACK_SECONDS: Final = 1e-6
# A side that is no further from the picture's border than this share of the box is cut off by it.
_BORDER_SHARE: Final = 0.2
# How often a thing is missed is not known after two looks: one miss in four is believed beforehand.
_PRIOR_MISSES: Final = 1.0
_PRIOR_LOOKS: Final = 4.0


@dataclass(slots=True)
class _Frame:
    """A frame whose regions are not settled. Its regions so far come from tracks that have ended."""

    pts: int
    end_pts: int
    seconds: float
    regions: list[Region] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """A track that can still go on.

    Attributes:
        number: Its public number.
        family: Of its labels.
        start: Index of its first step's frame; moves on as settled frames are dropped.
        born, born_seconds: The frame of its first detection.
        earliest: Index of the first frame that it may cover.
        steps: One for each frame from `start` on.
        raw: The detections of each frame from `start` on; empty where there are none.
        last_index, last_seconds: The frame of its last detection.
        labels: Sum of the scores by label.
        looks, hits: Frames looked at from birth to the last detection, and those in which it was found.
        misses: Frames looked at since.
    """

    number: int
    family: str
    start: int
    born: int
    born_seconds: float
    earliest: int
    steps: list[Step]
    raw: list[tuple[Detection, ...]]
    last_index: int
    last_seconds: float
    labels: dict[str, float] = field(default_factory=dict)
    best: float = 0.0
    looks: int = 0
    hits: int = 0
    misses: int = 0

    @property
    def label(self) -> str:
        return max(self.labels, key=self.labels.__getitem__)

    def found(self, detection: Detection, index: int, seconds: float) -> None:
        """Book a detection in the newest frame."""
        self.raw[-1] = (*self.raw[-1], detection)
        self.labels[detection.label] = self.labels.get(detection.label, 0.0) + detection.score
        self.best = max(self.best, detection.score)
        if self.last_index < index or not self.hits:
            self.looks, self.misses, self.hits = self.looks + self.misses + 1, 0, self.hits + 1
        self.last_index, self.last_seconds = index, seconds

    def forget(self, before: int) -> None:
        """Drop the steps of frames that are settled, except from the last detection among them on."""
        count = min(before - self.start, len(self.steps)) - 1
        while count > 0 and not self.raw[count]:
            count -= 1
        if count > 0:
            del self.steps[:count], self.raw[:count]
            self.start += count


class Tracker:
    """Joins the detections of a video's frames into tracks and says what to cover in every frame.

    Push and flush: every frame that goes in comes out once, in order, as soon as its regions are settled.
    Without a look-ahead that is when no open track reaches back to it any more, so a track holds back the
    frames from shortly before its first one: what is held grows with the longest open track (about 2 kB for
    each frame of each track, no pictures). With a look-ahead it is bounded by that.

    Args:
        settings: How detections become tracks and tracks become regions.
        time_base: Seconds per unit of pts, above 0.
        width: Of the displayed picture in pixels. A track ends where it leaves the picture.
        height: The same.

    Raises:
        UsageError: The time base or the picture's size is not above 0.

    Example:
        >>> tracker = Tracker(Tracking(), time_base=Fraction(1, 30), width=640, height=360)
        >>> face = Detection("nudenet", "FACE_FEMALE", 0.8, (100.0, 100.0, 150.0, 150.0))
        >>> looks = [(face,), None, None, None, (face,)]
        >>> frames = [FrameDetections(pts, pts + 1, found) for pts, found in enumerate(looks)]
        >>> done = [out for frame in frames for out in tracker.update(frame)] + tracker.finish()
        >>> [[region.seen for region in frame.regions] for frame in done]
        [[True], [False], [False], [False], [True]]
    """

    def __init__(self, settings: Tracking, *, time_base: Fraction, width: int, height: int) -> None:
        for name, value in (("time_base", time_base), ("width", width), ("height", height)):
            if value <= 0:
                raise UsageError(f"Invalid {name} ({value!r}). Use a number above 0.")
        self._settings = settings
        self._seconds_per_unit = float(time_base)
        self._picture = (float(width), float(height))
        self._waiting: deque[_Frame] = deque()
        self._first = 0  # index of the first waiting frame, counted from the first that came in
        self._scene = 0  # index of the first frame since the last cut
        self._open: list[_Open] = []
        self._ids = 0
        self._newest: _Frame | None = None
        self._looked: float | None = None
        self._interval = 0.0  # seconds between looks, lately

    def update(self, frame: FrameDetections) -> list[FrameRegions]:
        """Take the next frame; return the frames that are settled now, in order.

        Raises:
            ValueError: The frame does not start after the one before it.
        """
        seconds = frame.pts * self._seconds_per_unit
        if self._newest is not None and frame.pts <= self._newest.pts:
            raise ValueError(f"Invalid pts ({frame.pts}). Frames come in order; the last one was {self._newest.pts}.")
        gap = self._settings.max_gap_seconds + _SLACK_SECONDS
        self._end([track for track in self._open if frame.cut or seconds - track.last_seconds > gap])
        if frame.cut:
            self._scene = self._next
        self._append(_Frame(frame.pts, frame.end_pts, seconds))
        if frame.detections is not None:
            self._look(frame.detections, seconds)
        return self._settled(max(self._final(frame.end_pts * self._seconds_per_unit), self._forced(seconds)))

    def finish(self) -> list[FrameRegions]:
        """End all tracks and return all frames that are left."""
        self._end(self._open)
        return self._settled(self._next)

    @property
    def _next(self) -> int:
        """Index of the frame after the newest."""
        return self._first + len(self._waiting)

    def _append(self, frame: _Frame) -> None:
        """Let all open tracks go on to the next frame."""
        for track in self._open:
            assert self._newest is not None
            elapsed = frame.seconds - self._newest.seconds
            track.steps.append(motion.advance(track.steps[-1].filtered, elapsed, self._settings))
            track.raw.append(())
        self._waiting.append(frame)
        self._newest = frame

    # -- looks ---------------------------------------------------------------------------------------------

    def _look(self, detections: Sequence[Detection], seconds: float) -> None:
        """Match the newest frame's detections: first the sure ones, then the others with what is left."""
        if self._looked is not None:
            self._interval = seconds - self._looked
        self._looked = seconds
        high = [one for one in detections if one.score >= self._settings.high]
        low = [one for one in detections if self._settings.low <= one.score < self._settings.high]
        tracks, high = self._associate(self._open, high, seconds)
        lost, low = self._associate(tracks, low, seconds)
        for track in lost:
            track.misses += 1
        for detection in sorted(high, key=lambda one: -one.score):
            if not self._attached(detection, seconds):
                self._begin(detection, seconds)
        for detection in low:
            self._attached(detection, seconds)

    def _associate(
        self, tracks: Sequence[_Open], found: Sequence[Detection], seconds: float
    ) -> tuple[list[_Open], list[Detection]]:
        """Continue tracks by the detections that fit best; return the tracks and detections without a match."""
        if not tracks or not found:
            return list(tracks), list(found)
        pairs = association.matches(self._prices(tracks, found))
        for row, column in pairs:
            track, step = tracks[row], tracks[row].steps[-1]
            step.filtered = motion.correct(step.filtered, found[column].box, found[column].score, self._settings)
            track.found(found[column], self._next - 1, seconds)
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        return (
            [track for index, track in enumerate(tracks) if index not in rows],
            [one for index, one in enumerate(found) if index not in columns],
        )

    def _prices(self, tracks: Sequence[_Open], found: Sequence[Detection]) -> association.Floats:
        states = [track.steps[-1].filtered for track in tracks]
        families = [self._settings.family(one.label) for one in found]
        return association.costs(
            np.array([state.box() for state in states]),
            np.array([state.centre_sigmas() for state in states]),
            np.array([one.box for one in found]),
            np.array([[track.label == one.label for one in found] for track in tracks]),
            np.array([[track.family == family for family in families] for track in tracks]),
            self._settings,
        )

    def _attached(self, detection: Detection, seconds: float) -> bool:
        """Give a second box of one thing to the track that has the first; return whether there is one.

        A detector that suppresses doubles only within a label reports a face once for each label.
        """
        family = self._settings.family(detection.label)
        for track in self._open:
            if track.raw[-1] and track.family == family:
                boxes = np.array([track.raw[-1][0].box, detection.box])
                if association.overlaps(boxes[:1], boxes[1:])[0, 0] >= self._settings.duplicate_iou:
                    track.found(detection, self._next - 1, seconds)
                    return True
        return False

    def _begin(self, detection: Detection, seconds: float) -> None:
        index = self._next - 1
        self._ids += 1
        track = _Open(
            number=self._ids,
            family=self._settings.family(detection.label),
            start=index,
            born=index,
            born_seconds=seconds,
            earliest=self._since(seconds - self._settings.max_extend_seconds),
            steps=[Step(None, motion.first_state(detection.box, detection.score, self._settings), None)],
            raw=[()],
            last_index=index,
            last_seconds=seconds,
        )
        track.found(detection, index, seconds)
        self._open.append(track)

    def _since(self, seconds: float) -> int:
        """Index of the first waiting frame of this scene that is shown at or after `seconds`."""
        index = self._next
        while index > max(self._scene, self._first) and self._frame(index - 1).seconds >= seconds - _SLACK_SECONDS:
            index -= 1
        return index

    def _frame(self, index: int) -> _Frame:
        return self._waiting[index - self._first]

    # -- what is settled -----------------------------------------------------------------------------------

    def _final(self, now: float) -> int:
        """Index of the first frame that an open track, or one that is yet to come, can still change."""
        future = self._since(now - self._settings.max_extend_seconds)
        return min([future, *(track.earliest for track in self._open)])

    def _forced(self, now: float) -> int:
        """Index of the first frame that may wait on; those before it get what open tracks say by now."""
        if self._settings.look_ahead_seconds is None:
            return self._first
        latest = now - self._settings.look_ahead_seconds + _SLACK_SECONDS
        stop = self._first
        while stop < self._next and self._frame(stop).seconds <= latest:
            stop += 1
        if stop > self._first:
            for track in self._open:
                self._cover(track, stop, math.inf)
                track.forget(stop)
        return stop

    def _settled(self, stop: int) -> list[FrameRegions]:
        """Give out the frames before index `stop`."""
        done = []
        for _ in range(stop - self._first):
            frame = self._waiting.popleft()
            covered = tuple(sorted(frame.regions, key=lambda region: region.track))
            done.append(FrameRegions(frame.pts, frame.end_pts, covered))
        self._first += len(done)
        return done

    def _end(self, tracks: Sequence[_Open]) -> None:
        """Let tracks go; the frames that wait keep what they have to say."""
        ended = {track.number for track in tracks}
        self._open = [track for track in self._open if track.number not in ended]
        for track in tracks:
            self._cover(track, self._next, self._extension(track))

    def _extension(self, track: _Open) -> float:
        """How long something found as often as this track may go unseen by mere chance, in seconds."""
        missed = (_PRIOR_MISSES + track.looks - track.hits) / (_PRIOR_LOOKS + track.looks)
        looks = math.log(self._settings.miss_chance) / math.log(missed)
        return min(max(looks * self._interval, self._settings.extend_seconds), self._settings.max_extend_seconds)

    # -- what a track covers -------------------------------------------------------------------------------

    def _cover(self, track: _Open, stop: int, after_seconds: float) -> None:
        """Add a track's regions to the waiting frames before index `stop`."""
        states = motion.smooth(track.steps)
        last = track.last_index - track.start
        touched = self._touched(track.raw[: last + 1])
        for offset in range(max(self._first - track.start, 0), min(stop - track.start, last + 1)):
            self._add(track, track.start + offset, states[offset], track.raw[offset], touched[offset])
        after = range(max(track.last_index + 1, self._first), stop)
        self._extend(track, states[last], track.last_seconds, touched[last], after, after_seconds)
        if track.start == track.born:
            before = range(min(track.born, stop) - 1, max(track.earliest, self._first) - 1, -1)
            self._extend(track, states[0], track.born_seconds, touched[0], before, self._extension(track))

    def _extend(self, track: _Open, anchor: State, seconds: float, touched: Sides, indices: range, most: float) -> None:
        """Cover frames before the first or after the last detection, as long as the thing may be there.

        One that is cut off by the picture's border is coming in or going out: a detector misses what little shows.
        """
        if any(touched):
            most = max(most, min(2 * self._settings.extend_seconds, self._settings.max_extend_seconds))
        for index in indices:
            elapsed = self._frame(index).seconds - seconds
            if abs(elapsed) > most + _SLACK_SECONDS:
                break
            state = motion.predict(motion.unshrinking(anchor, elapsed), elapsed, self._settings)
            if regions.clipped(self._grown(state.box()), self._picture) is None:
                break
            self._add(track, index, state, (), touched)

    def _touched(self, raw: Sequence[tuple[Detection, ...]]) -> list[Sides]:
        """For every frame, the picture's borders that the thing reaches in it or at the looks around it."""
        boxes = [[one.box for one in found] for found in raw]
        at = [regions.touched(some, self._picture, _BORDER_SHARE) if some else None for some in boxes]
        last, following = _carried(at), _carried(at[::-1])[::-1]
        around = zip([last[0], *last], last, [*following[1:], following[-1]], strict=False)
        return [cast("Sides", tuple(map(any, zip(*three, strict=True)))) for three in around]

    def _add(self, track: _Open, index: int, state: State, raw: tuple[Detection, ...], touched: Sides) -> None:
        box = self._mask(state, [one.box for one in raw], touched)
        if box is not None:
            score = max((one.score for one in raw), default=track.best)
            self._frame(index).regions.append(Region(track.number, track.label, score, box, bool(raw)))

    def _mask(self, state: State, raw: Sequence[Box], touched: Sides) -> Box | None:
        """What to cover: the smoothed box, grown as it is uncertain, and the detections, all with the margin."""
        smoothed = state.box()
        width, height = smoothed[2] - smoothed[0], smoothed[3] - smoothed[1]
        along_x, along_y = (self._settings.sigmas * sigma for sigma in state.side_sigmas())
        limit = self._settings.max_growth
        sure = regions.grown(smoothed, min(along_x, limit * width), min(along_y, limit * height))
        margins = self._margins(regions.union([smoothed, *raw]))
        whole = regions.reaching(regions.grown(regions.union([sure, *raw]), *margins), touched, self._picture)
        inside = regions.clipped(whole, self._picture)
        # A detection counts as it is, even where it says that a thing reaches out of the picture.
        boxes = [*raw] if inside is None else [inside, *raw]
        return regions.union(boxes) if boxes else None

    def _grown(self, box: Box) -> Box:
        return regions.grown(box, *self._margins(box))

    def _margins(self, box: Box) -> tuple[float, float]:
        share = self._settings.margin / 2
        return (box[2] - box[0]) * share, (box[3] - box[1]) * share


def _carried(found: Iterable[Sides | None]) -> list[Sides]:
    """Replace every None by the value before it; the first is none."""
    result: list[Sides] = []
    for sides in found:
        result.append(result[-1] if sides is None else sides)
    return result
