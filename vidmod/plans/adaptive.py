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
from vidmod.media.parts import PICTURE, Shown
from vidmod.plans.plan import Look, Scores

# Of a reviewer's threshold. A faded or half-hidden sight scores low before it scores high.
_SUSPICIOUS = 0.3
_DIFFERENT = 0.2
# A cut without a key picture costs nearly what a key picture costs, and far more than other pictures.
_CUT_TO_KEY = 0.3
_CUT_TO_USUAL = 3.0
# One picture for so much time that nothing spoke for.
_AUDIT_SECONDS = 30
_CONFIDENCE = 0.95
# How many pictures at most narrow down a border in one go.
_PROBES = 7
# How many pictures on each side make a border certain: three of them outweigh that a change is rare.
_CONFIRMING = 4


class Audit(msgspec.Struct, frozen=True):
    """What a random look at the stretches found that nothing spoke for.

    Attributes:
        pictures: How many were chosen, each as likely as any other.
        hits: How many of them were enough for a reviewer.
        unseen_seconds: How much time nothing spoke for.
        upper_bound: The share of that time that may hold something, with `confidence`; 1 without a
            picture. By Clopper and Pearson; with no hit 1 - (1 - confidence)**(1 / pictures).
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
        cut: Whether it is a cut that its size betrays.
        seen: Whether it was ordered.
    """

    part: bytes
    times: NDArray[np.int64]
    reference: NDArray[np.bool_]
    cut: NDArray[np.bool_]
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
        self._unspoken = 0

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:
        """Its first and its key pictures, and what the contract wants between them."""
        if not part.sound or not shown:
            return Look(part, None if not part.sound else ())
        times = np.array([*(picture.pts for picture in shown), shown[-1].end_pts], np.int64)
        stretch = self._stretches[part.number] = _Stretch(
            msgspec.msgpack.encode(part),
            times,
            np.array([picture.reference for picture in shown]),
            _cuts(part, times),
            np.zeros(len(shown), np.bool_),
        )
        keys = np.isin(times[:-1], part.key_times())
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
        bounds = [place for place in np.flatnonzero(stretch.seen).tolist() if start <= place]
        bounds = [*bounds, len(stretch.seen)] if end is None else [place for place in bounds if place <= end]
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
        self._unspoken = len(silent)
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
        hits = sum(max(scores.get(pts, (0.0,)), default=0.0) >= 1 for pts in self._audited)
        bound = _upper_bound(hits, len(self._audited))
        self.audit = Audit(len(self._audited), hits, self.audit.unseen_seconds, round(bound, 6))
        if hits:
            for stretch in self._stretches.values():
                self._fill(stretch, self._close)

    def _follow_scores(self, scores: Scores) -> None:
        """Look closely at what is suspicious, and narrow down where it begins and ends."""
        for stretch in self._stretches.values():
            for low, high, near, far in list(self._neighbours(stretch, scores)):
                if _is_suspicious(near, far):
                    self._fill(stretch, self._close, low, high)
                if high < len(stretch.seen) and _is_border(near, far):
                    self._probe(stretch, low, high)

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

    def _probe(self, stretch: _Stretch, low: int, high: int) -> None:
        """Order pictures between two of which one is suspicious and one is not."""
        between = high - low - 1
        if between == 0 or between <= _PROBES:
            stretch.seen[max(0, low + 1 - _CONFIRMING) : high + _CONFIRMING] = True
        else:
            stretch.seen[np.linspace(low, high, _PROBES + 2).round().astype(int)[1:-1]] = True


def _cuts(part: Part, times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pictures are so much larger than their like that they show something new."""
    sizes = np.array(part.sizes, np.float64)
    cut = np.zeros(len(sizes), np.bool_)
    usual = float(np.median(sizes)) if len(sizes) else 0.0
    for start, end in part.runs():
        cut[start:end] = (sizes[start:end] >= _CUT_TO_KEY * sizes[start]) & (sizes[start:end] >= _CUT_TO_USUAL * usual)
        cut[start] = False
    own = np.array([bool(mark & PICTURE) for mark in part.marks])
    return np.isin(times[:-1], np.array(part.times, np.int64)[cut & own])


def _is_suspicious(near: tuple[float, ...], far: tuple[float, ...]) -> bool:
    high = max((*near, *far), default=0.0)
    return high >= _SUSPICIOUS or any(abs(a - b) >= _DIFFERENT for a, b in zip(near, far, strict=True))


def _is_border(near: tuple[float, ...], far: tuple[float, ...]) -> bool:
    return any((a >= 1) != (b >= 1) for a, b in zip(near, far, strict=True))


def _upper_bound(hits: int, pictures: int) -> float:
    """The largest share at which so few hits are no more unlikely than `1 - _CONFIDENCE`."""
    if not pictures:
        return 1.0
    low, high = hits / pictures, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        few = sum(math.comb(pictures, k) * middle**k * (1 - middle) ** (pictures - k) for k in range(hits + 1))
        low, high = (middle, high) if few > 1 - _CONFIDENCE else (low, middle)
    return high
