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
from vidmod.tracking.motion import State
from vidmod.tracking.regions import Sides
from vidmod.tracking.settings import Tracking
from vidmod.tracking.track import OpenTrack
from vidmod.tracking.values import FrameDetections, FrameRegions, Region

# Sums of frame durations in another order differ in the last digits; a frame lasts milliseconds.
_SLACK_SECONDS: Final = 1e-6
# A side that is no further from the picture's border than this share of the box is cut off by it.
_BORDER_SHARE: Final = 0.2
# How often a thing is missed is not known after two looks: one miss in four is believed beforehand.
_PRIOR_MISSES: Final = 1.0
_PRIOR_LOOKS: Final = 4.0
# Fewer detections than this, and then so many times as many misses on end, were of nothing that stays.
_SURE_HITS: Final = 4
_MOST_MISSES: Final = 4
# How far a thing that was seen once may be at the next look, in its widths and heights, and how alike in one of them.
_FARTHEST: Final = 2.5
# Of the time for which a track is covered beyond its detections: looks that are closer in time miss little.
_SOON: Final = 0.34
# How much further than by its speed a thing may be from where it was seen, when it turns or hurries.
_MOST_FASTER: Final = 2.0
_LEAST_ALIKE: Final = 0.6


@dataclass(slots=True)
class _Frame:
    """A frame whose regions are not settled.

    Attributes:
        regions: So far, from tracks that have ended.
        weak: Detections that no track has taken, and that are not sure enough to begin one.
    """

    pts: int
    end_pts: int
    seconds: float
    regions: list[Region] = field(default_factory=list)
    weak: list[Detection] = field(default_factory=list)


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
        self._open: list[OpenTrack] = []
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
        self._end([track for track in self._open if frame.cut or self._is_lost(track, seconds)])
        if frame.cut:
            self._scene = self._next
        self._append(_Frame(frame.pts, frame.end_pts, seconds))
        if frame.detections is not None:
            self._look(frame.detections, seconds)
        return self._settled(max(self._final(frame.end_pts * self._seconds_per_unit), self._forced(seconds)))

    def _is_lost(self, track: OpenTrack, seconds: float) -> bool:
        """Whether a track has ended: too long ago, or missed more often than something that is there would be."""
        gap = seconds - track.last_seconds
        return (
            gap > self._settings.max_gap_seconds + _SLACK_SECONDS
            or (
                track.hits < _SURE_HITS
                and track.misses > _MOST_MISSES * track.hits
                and gap > self._settings.max_extend_seconds + _SLACK_SECONDS
            )
            or (track.misses > 0 and self._has_left(track, seconds))
        )

    def _has_left(self, track: OpenTrack, seconds: float) -> bool:
        """Whether a track has gone out of the picture since its last detection."""
        if not any(regions.touched([track.last_box], self._picture, _BORDER_SHARE)):
            return False
        return self._is_out(self._carried_on(track.going(self._picture), seconds - track.last_seconds))

    def _is_out(self, state: State) -> bool:
        return regions.clipped(self._grown(self._grown(state.box())), self._picture) is None

    def settle(self, pts: int) -> list[FrameRegions]:
        """Settle the frames up to `pts` by what is known now, whatever may come; return them, in order."""
        return self._settled(self._settled_by_now(pts * self._seconds_per_unit))

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
            track.advance(frame.seconds)
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
        tracks, high = self._associate(self._open, high)
        lost, low = self._associate(tracks, low)
        lost, high = self._caught_up(lost, high, seconds)
        for track in lost:
            track.misses += 1
        for detection in sorted(high, key=lambda one: -one.score):
            if not self._attached(detection):
                self._begin(detection, seconds)
        self._waiting[-1].weak = [detection for detection in low if not self._attached(detection)]

    def _associate(
        self, tracks: Sequence[OpenTrack], found: Sequence[Detection]
    ) -> tuple[list[OpenTrack], list[Detection]]:
        """Continue tracks by the detections that fit best; return the tracks and detections without a match."""
        if not tracks or not found:
            return list(tracks), list(found)
        pairs = association.matches(self._prices(tracks, found))
        for row, column in pairs:
            tracks[row].correct(found[column], self._next - 1)
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        return (
            [track for index, track in enumerate(tracks) if index not in rows],
            [one for index, one in enumerate(found) if index not in columns],
        )

    def _caught_up(
        self, tracks: Sequence[OpenTrack], found: Sequence[Detection], seconds: float
    ) -> tuple[list[OpenTrack], list[Detection]]:
        """Continue tracks by what was found further away at the very next look, if only they fit together.

        Of a thing that was seen once nobody knows how fast it is, and what is fast can turn: most things do neither,
        and for those gates are narrow. If it is another thing after all, the first is found again before what is
        covered around that ends.
        """
        recent = [
            track
            for track in tracks
            if not track.misses and seconds - track.last_seconds <= self._settings.extend_seconds * _SOON
        ]
        near = [[one for one in found if self._may_follow(track, one, seconds)] for track in recent]
        pairs = [
            (track, some[0])
            for track, some in zip(recent, near, strict=True)
            if len(some) == 1 and sum(some[0] in other for other in near) == 1
        ]
        for track, one in pairs:
            track.hurry(one, self._next - 1)
        taken, used = [track for track, _ in pairs], [one for _, one in pairs]
        return [track for track in tracks if track not in taken], [one for one in found if one not in used]

    def _may_follow(self, track: OpenTrack, found: Detection, seconds: float) -> bool:
        """Whether something is as large as a track's last detection, and no further from it than it may have moved."""
        (width, height), other = regions.size(track.last_box), regions.size(found.box)
        # At the picture's border one of both is cut.
        alike = max(
            min(width, other[0]) / max(width, other[0], 1.0), min(height, other[1]) / max(height, other[1], 1.0)
        )
        if track.family != self._settings.family(found.label) or alike < _LEAST_ALIKE:
            return False
        away = math.dist(regions.centre(track.last_box), regions.centre(found.box))
        if track.hits == 1:
            return away <= _FARTHEST * math.sqrt(max(width, other[0]) * max(height, other[1]))
        state = track.steps[track.last].filtered
        return away <= _MOST_FASTER * state.speed() * (seconds - track.last_seconds)

    def _prices(self, tracks: Sequence[OpenTrack], found: Sequence[Detection]) -> association.Floats:
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

    def _attached(self, detection: Detection) -> bool:
        """Give a second box of one thing to the track that has the first; return whether there is one.

        A detector that suppresses doubles only within a label reports a face once for each label.
        """
        family = self._settings.family(detection.label)
        for track in self._open:
            if track.raw[-1] and track.family == family:
                boxes = np.array([track.raw[-1][0].box, detection.box])
                if association.overlaps(boxes[:1], boxes[1:])[0, 0] >= self._settings.duplicate_iou:
                    track.found(detection, self._next - 1)
                    return True
        return False

    def _begin(self, detection: Detection, seconds: float) -> None:
        self._ids += 1
        earliest = self._since(seconds - self._settings.max_extend_seconds)
        index = self._next - 1
        self._open.append(OpenTrack.begun(self._ids, detection, index, seconds, earliest, self._settings))

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
        return self._settled_by_now(now - self._settings.look_ahead_seconds)

    def _settled_by_now(self, latest: float) -> int:
        """Index of the first frame after `latest`; those before it get what open tracks say by now."""
        stop = self._first
        while stop < self._next and self._frame(stop).seconds <= latest + _SLACK_SECONDS:
            stop += 1
        if stop > self._first:
            for track in self._open:
                # What was just seen may be there until somebody looks; what looks missed is not there for ever.
                self._cover(track, stop, self._extension(track) if track.misses else math.inf)
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

    def _end(self, tracks: Sequence[OpenTrack]) -> None:
        """Let tracks go; the frames that wait keep what they have to say."""
        ended = {track.number for track in tracks}
        self._open = [track for track in self._open if track.number not in ended]
        for track in tracks:
            self._cover(track, self._next, self._extension(track))

    def _extension(self, track: OpenTrack) -> float:
        """How long something found as often as this track may go unseen by mere chance, in seconds."""
        missed = (_PRIOR_MISSES + track.looks - track.hits) / (_PRIOR_LOOKS + track.looks)
        looks = math.log(self._settings.miss_chance) / math.log(missed)
        return min(max(looks * self._interval, self._settings.extend_seconds), self._settings.max_extend_seconds)

    # -- what a track covers -------------------------------------------------------------------------------

    def _cover(self, track: OpenTrack, stop: int, after_seconds: float) -> None:
        """Add a track's regions to the waiting frames before index `stop`."""
        if track.start == track.born:
            self._reach_back(track)
        states, last = track.states(self._picture), track.last
        doubt = track.doubt(states)
        touched = self._touched(track.raw[: last + 1])
        for offset in range(max(self._first - track.start, 0), min(stop - track.start, last + 1)):
            box = self._mask(states[offset], track.raw[offset], touched[offset], doubt)
            self._add(track, track.start + offset, box, track.raw[offset])
        after = range(max(track.last_index + 1, self._first), stop)
        self._extend(track, last, states[last], touched[last], doubt, after, after_seconds)
        if track.start == track.born:
            before = range(min(track.born, stop) - 1, max(track.earliest, self._first) - 1, -1)
            self._extend(track, 0, states[0], touched[0], doubt, before, self._extension(track))

    def _reach_back(self, track: OpenTrack) -> None:
        """Begin a track earlier where weak detections before its first sure one are of the same thing."""
        anchor, seconds = track.states(self._picture)[0], track.times[0]
        found: dict[int, Detection] = {}
        for index in range(track.born - 1, max(track.earliest, self._first) - 1, -1):
            frame = self._frame(index)
            state = motion.predict(anchor, frame.seconds - seconds, self._settings)
            weak = [one for one in frame.weak if self._settings.family(one.label) == track.family]
            if weak and (place := self._best_of(weak, state, track.label)) is not None:
                found[index] = weak[place]
                frame.weak.remove(weak[place])
                anchor = motion.correct(state, weak[place].box, weak[place].score, self._settings)
                seconds = frame.seconds
        if found:
            track.begin_earlier(found, [self._frame(index).seconds for index in range(min(found), track.born)])

    def _best_of(self, found: Sequence[Detection], state: State, label: str) -> int | None:
        """Which detection is of what was expected; None if none is."""
        prices = association.costs(
            np.array([state.box()]),
            np.array([state.centre_sigmas()]),
            np.array([one.box for one in found]),
            np.array([[one.label == label for one in found]]),
            np.ones((1, len(found)), dtype=np.bool_),
            self._settings,
        )[0]
        best = int(prices.argmin())
        return best if prices[best] < association.UNMATCHED else None

    def _extend(
        self,
        track: OpenTrack,
        place: int,
        anchor: State,
        touched: Sides,
        doubt: float,
        indices: range,
        most: float,
    ) -> None:
        """Cover frames before the first or after the last detection, as long as the thing may be there.

        One that the picture's border cuts off is coming in or going out: a detector misses what little shows.
        """
        for index in indices:
            elapsed = self._frame(index).seconds - track.times[place]
            state = self._carried_on(anchor, elapsed)
            is_cut = any(regions.touched([state.box()], self._picture, 0.0))
            longest = max(most, self._settings.max_extend_seconds) if is_cut else most
            if abs(elapsed) > longest + _SLACK_SECONDS or self._is_out(state):
                break
            self._add(track, index, self._mask(state, (), touched, doubt), (), beyond=True)

    def _carried_on(self, anchor: State, seconds: float) -> State:
        return motion.predict(motion.unshrinking(anchor, seconds), seconds, self._settings)

    def _touched(self, raw: Sequence[tuple[Detection, ...]]) -> list[Sides]:
        """For every frame, the picture's borders that the thing reaches in it or at the looks around it."""
        boxes = [[one.box for one in found] for found in raw]
        at = [regions.touched(some, self._picture, _BORDER_SHARE) if some else None for some in boxes]
        last, following = _carried(at), _carried(at[::-1])[::-1]
        around = zip([last[0], *last], last, [*following[1:], following[-1]], strict=False)
        return [cast("Sides", tuple(map(any, zip(*three, strict=True)))) for three in around]

    def _add(
        self, track: OpenTrack, index: int, box: Box | None, raw: tuple[Detection, ...], *, beyond: bool = False
    ) -> None:
        if box is not None:
            score = max((one.score for one in raw), default=track.best)
            self._frame(index).regions.append(Region(track.number, track.label, score, box, bool(raw), beyond))

    def _mask(self, state: State, found: Sequence[Detection], touched: Sides, doubt: float) -> Box | None:
        """What to cover: the smoothed box, grown as it is uncertain, and the detections, all with the margin."""
        raw = [one.box for one in found]
        smoothed = state.box()
        limit, sigmas = self._settings.max_growth, doubt * self._settings.sigmas
        along_x, along_y = (
            min(sigmas * sigma, limit * side)
            for sigma, side in zip(state.side_sigmas(), regions.size(smoothed), strict=True)
        )
        sure = regions.grown(smoothed, along_x, along_y)
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
