"""One track that can still go on: its detections, and the motion that fits them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from vidmod.predictions import Box, Detection
from vidmod.tracking import motion, regions
from vidmod.tracking.hidden import Look, completed
from vidmod.tracking.motion import State, Step
from vidmod.tracking.settings import Tracking

# How noisy a track's detections are is not known after two looks: one and the other are believed beforehand.
_PRIOR_LOOKS: Final = 2.0
_LEAST_DOUBT: Final = 0.5
_MOST_DOUBT: Final = 2.0
# The median of what is normally distributed, without its sign, over its standard deviation.
_MEDIAN: Final = 0.6745
# So many frames tell where a thing was going when it was last seen.
_TAIL: Final = 60


@dataclass(slots=True, eq=False)
class OpenTrack:
    """A track that can still go on.

    Attributes:
        number: Its public number.
        family: Of its labels.
        settings: Noise, and how things move.
        start: Index of its first step's frame; moves on as settled frames are dropped.
        born: Index of the frame of its first detection.
        earliest: Index of the first frame that it may cover.
        steps: One for each frame from `start` on.
        raw: The detections of each frame from `start` on; empty where there are none.
        times: When each frame from `start` on is shown, in seconds.
        last_index: Index of the frame of its last detection.
        labels: Sum of the scores by label.
        best: Its greatest score.
        looks, hits: Frames looked at from birth to the last detection, and those in which it was found.
        misses: Frames looked at since.
        speed: In pixels per second, where the second look showed it to be faster than most.
        kicks: Times of frames right before which its speed changed at once, and by how much.
    """

    number: int
    family: str
    settings: Tracking
    start: int
    born: int
    earliest: int
    steps: list[Step]
    raw: list[tuple[Detection, ...]]
    times: list[float]
    last_index: int
    labels: dict[str, float] = field(default_factory=dict)
    best: float = 0.0
    looks: int = 0
    hits: int = 0
    misses: int = 0
    speed: float = 0.0
    kicks: dict[float, float] = field(default_factory=dict)
    _leaving: tuple[int, State] | None = None

    @classmethod
    def begun(
        cls, number: int, detection: Detection, index: int, seconds: float, earliest: int, settings: Tracking
    ) -> OpenTrack:
        """Return a track of one detection."""
        track = cls(
            number=number,
            family=settings.family(detection.label),
            settings=settings,
            start=index,
            born=index,
            earliest=earliest,
            steps=[Step(None, motion.first_state(detection.box, detection.score, settings), None)],
            raw=[()],
            times=[seconds],
            last_index=index,
        )
        track.found(detection, index)
        return track

    @property
    def label(self) -> str:
        """The label with the greatest sum of scores."""
        return max(self.labels, key=self.labels.__getitem__)

    @property
    def last(self) -> int:
        """Place of the last detection in `raw`."""
        return self.last_index - self.start

    @property
    def last_box(self) -> Box:
        """The last detection's."""
        return self.raw[self.last][0].box

    @property
    def last_seconds(self) -> float:
        """When it was last detected."""
        return self.times[self.last]

    # -- forward -----------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Go on to the next frame."""
        self.times.append(seconds)
        self.raw.append(())
        self.steps.append(self._advanced(self.steps[-1].filtered, len(self.raw) - 1))

    def correct(self, detection: Detection, index: int) -> None:
        """Take a detection in the newest frame."""
        step = self.steps[-1]
        step.filtered = motion.correct(step.filtered, detection.box, detection.score, self.settings)
        self.found(detection, index)

    def found(self, detection: Detection, index: int) -> None:
        """Book a detection in the newest frame."""
        self.raw[-1] = (*self.raw[-1], detection)
        self.labels[detection.label] = self.labels.get(detection.label, 0.0) + detection.score
        self.best = max(self.best, detection.score)
        if self.last_index < index or not self.hits:
            self.looks, self.misses, self.hits = self.looks + self.misses + 1, 0, self.hits + 1
        self.last_index = index

    def hurry(self, detection: Detection, index: int) -> None:
        """Take a detection in the newest frame that the track's speed did not let expect."""
        last = self.last
        away = math.dist(regions.centre(self.last_box), regions.centre(detection.box))
        speed = away / (self.times[-1] - self.last_seconds)
        if last == 0 and self.hits == 1:
            self.speed = speed
            first = motion.first_state(self.last_box, self.raw[0][0].score, self.settings, speed)
            self.steps[0] = Step(None, first, None)
        else:
            self.kicks[self.times[last + 1]] = speed + self.steps[last].filtered.speed()
        for place in range(last + 1, len(self.raw)):
            self.steps[place] = self._advanced(self.steps[place - 1].filtered, place)
        self.correct(detection, index)

    def forget(self, before: int) -> None:
        """Drop the steps of frames that are settled, except from the last detection among them on."""
        count = min(before - self.start, len(self.steps)) - 1
        while count > 0 and not self.raw[count]:
            count -= 1
        if count > 0:
            del self.steps[:count], self.raw[:count], self.times[:count]
            self.start += count

    def begin_earlier(self, found: Mapping[int, Detection], seconds: Sequence[float]) -> None:
        """Take detections in frames before the first.

        Args:
            found: Detections by the index of their frame.
            seconds: When each frame is shown from the first of these up to the track's first.
        """
        added = range(min(found), self.born)
        self.raw[:0] = [(found[index],) if index in found else () for index in added]
        self.times[:0] = seconds
        self.start = self.born = added.start
        self.steps = self._fitted(self._looks())

    def _advanced(self, before: State, place: int) -> Step:
        """The step of a frame without a look, from the state in the frame before."""
        elapsed = self.times[place] - self.times[place - 1]
        return motion.advance(before, elapsed, self.settings, self.kicks.get(self.times[place], 0.0))

    # -- in the light of all of it -----------------------------------------------------------------------------

    def states(self, picture: tuple[float, float]) -> list[State]:
        """What is believed of every frame: of the whole thing, where a part of it was hidden.

        Args:
            picture: Width and height; what reaches its border is cut off there.
        """
        return motion.smooth(self._completed(picture))

    def going(self, picture: tuple[float, float]) -> State:
        """What is believed at the last detection, by what was seen shortly before."""
        if self._leaving is None or self._leaving[0] != self.last_index:
            first = next(place for place in range(max(0, self.last - _TAIL), self.last + 1) if self.raw[place])
            tail = dataclasses.replace(
                self,
                start=self.start + first,
                steps=self.steps[first : self.last + 1],
                raw=self.raw[first : self.last + 1],
                times=self.times[first : self.last + 1],
            )
            self._leaving = self.last_index, tail.states(picture)[-1]
        return self._leaving[1]

    def doubt(self, states: Sequence[State]) -> float:
        """How far the detections are from the smoothed boxes, over how far noise would have them be.

        One detector is steadier than another, and steadier with this thing than with that.
        """
        errors = [
            motion.errors(found[0].box, found[0].score, state, self.settings)
            for found, state in zip(self.raw, states, strict=True)
            if found
        ]
        spread = float(np.median(np.concatenate(errors))) / _MEDIAN
        doubt = (len(errors) * spread + _PRIOR_LOOKS) / (len(errors) + _PRIOR_LOOKS)
        return min(max(doubt, _LEAST_DOUBT), _MOST_DOUBT)

    def _looks(self) -> list[Look]:
        return [Look(place, raw[0].box, raw[0].score) for place, raw in enumerate(self.raw) if raw]

    def _completed(self, picture: tuple[float, float]) -> list[Step]:
        """The steps, fitted to boxes of the whole thing."""
        looks = self._looks()
        whole = completed(looks, picture, self._predicted)
        return self.steps if whole == looks else self._fitted(whole)

    def _predicted(self, sure: Sequence[Look], places: Sequence[int]) -> list[Box]:
        """Where the thing should be in some frames, by some looks."""
        states, first = motion.smooth(self._fitted(sure)), sure[0].index
        found = []
        for place in places:
            before = self.times[place] - self.times[first]
            state = states[place - first] if place >= first else motion.predict(states[0], before, self.settings)
            found.append(state.box())
        return found

    def _fitted(self, looks: Sequence[Look]) -> list[Step]:
        """Steps from the first of some looks on, as if there had been only these."""
        known, first = {look.index: look for look in looks}, looks[0].index
        state = self.steps[0].filtered
        if first or self.start == self.born:
            state = motion.first_state(looks[0].box, looks[0].score, self.settings, self.speed)
        steps = [Step(None, state, None)]
        for place in range(first + 1, len(self.raw)):
            step = self._advanced(steps[-1].filtered, place)
            if (look := known.get(place)) is not None:
                step.filtered = motion.correct(step.filtered, look.box, look.score, self.settings)
            steps.append(step)
        return steps
