"""Looking where it matters: key pictures first, then wherever something could be.

Key pictures decode for a tenth of what others cost. They are looked at first, with pictures between where two are
further apart than the contract allows. Then signals add work, and never take any away:

* a score near what a reviewer wants to see, or two neighbours that differ strongly: the stretch is looked at closely;
* a packet far larger than its like: a cut without a key picture; the picture is looked at;
* a random audit of the stretches that nothing spoke for. What it does not find bounds what was missed; if it finds
  anything, the signals were no good for this film, and all of it is looked at closely.

At last every border between a picture that is suspicious and one that is not is narrowed down to two adjacent pictures,
and some more on each side: smoothing believes no picture alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from vidmod.media import Part
from vidmod.media.parts import ANEW, PICTURE, REFERENCE, Shown
from vidmod.plans.plan import Look, Scores

# Of a reviewer's threshold. A faded or half-hidden sight scores low before it scores high.
_SUSPICIOUS = 0.3
_DIFFERENT = 0.2
# A cut without a key picture costs about half of what a key picture costs, and far more than the pictures around it.
_CUT_TO_KEY = 0.4
_CUT_TO_USUAL = 3.0
_CUT_WINDOW = 8
# One picture for so much time that nothing spoke for.
_AUDIT_SECONDS = 30
_CONFIDENCE = 0.95
# How many pictures narrow down a border in one go: every go decodes anew what they refer to.
_PROBES = 3
# Pictures between two key pictures, and not between probes.
_LONG = 20
# How many pictures on each side make a border certain for smoothing, to which a change is rare: two of which the
# models are sure, more of others.
_CONFIRMING = 2
_CONFIRMING_UNSURE = 4
# Of a reviewer's threshold, from which nothing is near it any more.
_SURE = 1.5
# A reference is coded before some pictures that are shown before it.
_CODED_LATE = 3
# Of the longest distance of key pictures: one that comes sooner was put there for a cut.
_EARLY = 0.95


class Audit(msgspec.Struct, frozen=True):
    """What a random look at the stretches found that nothing spoke for.

    Attributes:
        pictures: How many were looked at, chosen each as likely as any other.
        hits: How many of them were enough for a reviewer.
        unseen_seconds: For how long pictures are shown that nothing spoke for.
        upper_bound: The share of those pictures that may show something, with `confidence`; 1 without a
            look. By Clopper and Pearson; with no hit 1 - (1 - confidence)**(1 / pictures).
    """

    pictures: int
    hits: int
    unseen_seconds: float
    upper_bound: float
    confidence: float = _CONFIDENCE


@dataclass(slots=True)
class _Stretch:
    """The pictures of one sound part, in the order in which they are shown.

    Attributes:
        times: When each is shown, and at last when the next part begins.
        reference: Whether others may refer to it.
        change: Whether it seems to be a cut, by its size or because it is a key picture before its time.
        cut: Those of them that are worth a look.
        key: Whether it can be decoded by itself.
        seen: Whether it was ordered.
    """

    part: bytes
    times: NDArray[np.int64]
    reference: NDArray[np.bool_]
    change: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    key: NDArray[np.bool_]
    seen: NDArray[np.bool_]


class AdaptivePictures:
    """See the module.

    Args:
        interval: The longest time that may stay unseen, in units of the time base.
        close: The same where something could be.
        time_base: Seconds per unit.
        seed: For the audit.
    """

    def __init__(self, interval: Fraction, close: Fraction, time_base: Fraction, seed: int) -> None:
        self.audit: Audit | None = None
        self._interval = interval
        self._close = min(close, interval)
        self._time_base = time_base
        self._random = random.Random(seed)  # noqa: S311 -- a reproducible sample, no secret
        self._stretches: dict[int, _Stretch] = {}
        self._round = 0
        self._audited: list[int] = []
        self._longest_run = 0

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:
        """Its first and its key pictures, and what the contract wants between them."""
        if not part.sound or not shown:
            return Look(part, None if not part.sound else ())
        times = np.array([*(picture.pts for picture in shown), shown[-1].end_pts], np.int64)
        keys = np.isin(times[:-1], part.key_times())
        stretch = self._stretches[part.number] = _Stretch(
            msgspec.msgpack.encode(part),
            times,
            np.array([picture.reference for picture in shown]),
            change := _changes(part, times),
            _apart(change, times, math.floor(self._close / 2)),
            keys.copy(),
            np.zeros(len(shown), np.bool_),
        )
        distances = np.diff(np.flatnonzero(keys), prepend=-(1 << 30))
        self._longest_run = max(self._longest_run, *distances[1:].tolist(), 0)
        change[np.flatnonzero(keys)[distances < self._longest_run * _EARLY]] = True
        keys[0] = True
        keys[-1] |= last
        stretch.seen |= keys
        self._fill(stretch, self._interval)
        return self._look(stretch, stretch.seen)

    def proceed(self, scores: Scores) -> list[Look]:
        """Signals and audit first, then borders until there is nothing between."""
        before = {number: stretch.seen.copy() for number, stretch in self._stretches.items()}
        if self._round == 0:
            self._follow_signals(scores)
        elif self._round == 1:
            self._close_audit(scores)
        self._round += 1
        self._follow_scores(scores)
        looks = []
        for number, stretch in self._stretches.items():
            new = stretch.seen & ~before[number]
            if new.any():
                looks.append(self._look(stretch, new))
        return looks

    def _look(self, stretch: _Stretch, wanted: NDArray[np.bool_]) -> Look:
        part = msgspec.msgpack.decode(stretch.part, type=Part)
        return Look(part, tuple(stretch.times[:-1][wanted].tolist()))

    def _fill(self, stretch: _Stretch, interval: Fraction, start: int = 0, end: int | None = None) -> None:
        """Order pictures between those at `start` and `end` until no more than `interval` is left unseen.

        From the end backward, each as early as can be: what follows a run's last picture is not decoded.
        """
        end = len(stretch.seen) if end is None else end
        bounds = [place for place in np.flatnonzero(stretch.seen).tolist() if start <= place <= end]
        if end == len(stretch.seen):
            bounds.append(end)
        times, limit = stretch.times, math.floor(interval)
        for low, high in pairwise(bounds):
            border = high
            while times[border] - times[low + 1] > limit:
                # The first picture that is shown until so late that what follows it may stay unseen.
                place = int(np.searchsorted(times, times[border] - limit, "left")) - 1
                place = max(place, low + 1)
                if place >= border:
                    break
                references = np.flatnonzero(stretch.reference[place:border])
                if len(references) and times[place + references[0]] - times[place] <= limit // 8:
                    place += int(references[0])
                stretch.seen[place] = True
                border = place

    def _follow_signals(self, scores: Scores) -> None:
        spoken_for: dict[int, NDArray[np.bool_]] = {}
        for number, stretch in self._stretches.items():
            stretch.seen |= stretch.cut
            spoken_for[number] = self._spoken_for(stretch, scores)
        silent = [
            (number, place)
            for number, spoken in spoken_for.items()
            for place in np.flatnonzero(~spoken & ~self._stretches[number].seen).tolist()
        ]
        seconds = sum(
            float(np.diff(self._stretches[number].times)[~spoken & ~self._stretches[number].seen].sum())
            for number, spoken in spoken_for.items()
        ) * float(self._time_base)
        chosen = self._random.sample(silent, min(len(silent), round(seconds / _AUDIT_SECONDS)))
        for number, place in chosen:
            stretch = self._stretches[number]
            stretch.seen[place] = True
            self._audited.append(int(stretch.times[place]))
        self.audit = Audit(len(chosen), 0, round(seconds, 3), 1.0)

    def _spoken_for(self, stretch: _Stretch, scores: Scores) -> NDArray[np.bool_]:
        """Which pictures lie in a stretch that will be looked at closely anyway."""
        spoken = np.zeros(len(stretch.seen), np.bool_)
        for low, high, near, far in self._neighbours(stretch, scores):
            if _is_suspicious(near, far):
                spoken[low : high + 1] = True
        return spoken

    def _close_audit(self, scores: Scores) -> None:
        assert self.audit is not None
        # What could not be decoded was not looked at, and bounds nothing.
        looked = [scores[pts] for pts in self._audited if pts in scores]
        hits = sum(max(found, default=0.0) >= 1 for found in looked)
        bound = _upper_bound(hits, len(looked))
        self.audit = Audit(len(looked), hits, self.audit.unseen_seconds, round(bound, 6))
        if hits:
            for stretch in self._stretches.values():
                self._fill(stretch, self._close)

    def _follow_scores(self, scores: Scores) -> None:
        """Look closely at what is suspicious, and narrow down where it begins and ends."""
        for number, stretch in self._stretches.items():
            for low, high, near, far in list(self._neighbours(stretch, scores)):
                if _is_border(near, far):
                    self._narrow(number, low, high, sure=_is_sure(near) and _is_sure(far))
                elif _is_suspicious(near, far):
                    self._fill(stretch, self._close, low, high)

    def _neighbours(
        self, stretch: _Stretch, scores: Scores
    ) -> Sequence[tuple[int, int, tuple[float, ...], tuple[float, ...]]]:
        """Pictures that were seen one after the other, with what was found in each."""
        places = [place for place in np.flatnonzero(stretch.seen).tolist() if int(stretch.times[place]) in scores]
        rows = [
            (low, high, scores[int(stretch.times[low])], scores[int(stretch.times[high])])
            for low, high in pairwise(places)
        ]
        following = scores.get(int(stretch.times[-1]))
        if places and following is not None:
            last = places[-1]
            rows.append((last, len(stretch.seen), scores[int(stretch.times[last])], following))
        return rows

    def _narrow(self, number: int, low: int, high: int, *, sure: bool) -> None:
        """Order pictures between two of which one is suspicious and one is not; at last some around them."""
        stretch = self._stretches[number]
        between = range(low + 1, high)
        if not between:
            self._confirm(number, high, _CONFIRMING if sure else _CONFIRMING_UNSURE)
            return
        if len(between) <= _PROBES:
            stretch.seen[low + 1 : high] = True
            return
        # The likeliest place is a cut; with one more on each side that is certain at once. What is coded first of a new
        # sight, where it is no key picture, can be shown after some more of it.
        probes: list[int] = []
        for place in (np.flatnonzero(stretch.change[low + 1 : high + 1]) + low + 1).tolist()[:_PROBES]:
            backs = (-1, 1, 2) if stretch.key[place] else (1, 1 + _CODED_LATE)
            probes += [place - back for back in backs if place - back in between]
        if not probes:
            probes = np.linspace(low, high, _PROBES + 2).round().astype(int)[1:-1].tolist()
            if len(between) > _LONG:
                # With no packet that speaks for a cut, it is as likely as anywhere at the key picture itself.
                probes += [high - 2, high - 1]
        stretch.seen[probes] = True

    def _confirm(self, number: int, border: int, confirming: int) -> None:
        """Order some pictures on each side of a border; they can lie in the parts before and after."""
        stretch = self._stretches[number]
        start, end = border - confirming, border + confirming
        stretch.seen[max(0, start) : end] = True
        before, after = self._stretches.get(number - 1), self._stretches.get(number + 1)
        if start < 0 and before is not None:
            before.seen[start:] = True
        if end > len(stretch.seen) and after is not None:
            after.seen[: end - len(stretch.seen)] = True


def _changes(part: Part, times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pictures are so much larger than their like that they show something new.

    Only pictures that others refer to: encoders code a new sight in one of those.
    """
    order = np.argsort(np.array(part.times, np.int64), kind="stable")
    shown = np.array(part.times, np.int64)[order]
    sizes, marks = np.array(part.sizes, np.float64)[order], np.array(part.marks)[order]
    keys = (marks & ANEW) > 0
    places = np.flatnonzero(((marks & (REFERENCE | PICTURE)) == REFERENCE | PICTURE) & ~keys)
    found: list[int] = []
    if keys.any():
        least = _CUT_TO_KEY * float(np.median(sizes[keys]))
        for place in np.flatnonzero(sizes[places] >= least).tolist():
            near = places[max(0, place - _CUT_WINDOW) : place + _CUT_WINDOW + 1]
            others = sizes[near[near != places[place]]]
            if not len(others) or sizes[places[place]] >= _CUT_TO_USUAL * float(np.median(others)):
                found.append(int(shown[places[place]]))
    return np.isin(times[:-1], found)


def _apart(change: NDArray[np.bool_], times: NDArray[np.int64], apart: int) -> NDArray[np.bool_]:
    """Of several changes that are less than `apart` from each other the first."""
    chosen = np.zeros(len(change), np.bool_)
    before: int | None = None
    for place in np.flatnonzero(change).tolist():
        if before is None or times[place] - times[before] >= apart:
            chosen[place] = True
            before = place
    return chosen


def _is_suspicious(near: tuple[float, ...], far: tuple[float, ...]) -> bool:
    high = max((*near, *far), default=0.0)
    return high >= _SUSPICIOUS or any(abs(a - b) >= _DIFFERENT for a, b in zip(near, far, strict=True))


def _is_sure(found: tuple[float, ...]) -> bool:
    """Whether no category is near a reviewer's threshold."""
    return not any(_SUSPICIOUS <= value < _SURE for value in found)


def _is_border(near: tuple[float, ...], far: tuple[float, ...]) -> bool:
    return any((a >= 1) != (b >= 1) for a, b in zip(near, far, strict=True))


def _upper_bound(hits: int, pictures: int) -> float:
    """The largest share at which so few hits are no more unlikely than `1 - _CONFIDENCE`."""
    if not pictures:
        return 1.0
    low, high = hits / pictures, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        few = math.fsum(_chance(k, pictures, middle) for k in range(hits + 1))
        low, high = (middle, high) if few > 1 - _CONFIDENCE else (low, middle)
    return high


def _chance(hits: int, pictures: int, share: float) -> float:
    """How likely exactly so many hits are; by logarithms, since the ways to choose them overflow a float."""
    if not 0 < share < 1:
        return float(hits == round(pictures * share))
    ways = math.lgamma(pictures + 1) - math.lgamma(hits + 1) - math.lgamma(pictures - hits + 1)
    return math.exp(ways + hits * math.log(share) + (pictures - hits) * math.log1p(-share))
