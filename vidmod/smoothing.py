"""From noisy probabilities at irregular times to the segments behind them.

`posteriors` weighs every sample against its neighbours in time, `binarize` cuts the posteriors into
intervals, `segments` does both. All of them take one series: one category of one video.

A **sample** i is a frame that a model has looked at; it is shown in [starts[i], ends[i]). From ends[i] to
starts[i + 1] nothing is known. This **unseen stretch** is empty where every frame is sampled, half a second
long at two samples per second, and longer where frames could not be decoded. A missing sample (its score is
NaN) leaves its own span unseen as well. Unseen stretches are shared out like this:

* between an on and an off sample the border is in the middle, which measures best for temporal IoU;
* between two on samples the stretch belongs to the segment;
* but no sample speaks for more than ``reach_seconds`` before or after itself. A stretch longer than twice
  that ends a segment, and its middle belongs to none: it is the caller's coverage that reports it, as
  unsampled. Only ``min_duration_off``, where it is longer still, fills it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from vidmod.errors import UsageError, choose

__all__ = ["Interval", "Smoothing", "binarize", "posteriors", "segments"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Sums of the same frame durations in another order differ in the last digits; a frame lasts milliseconds.
_SLACK_SECONDS: Final = 1e-6

# What exp() and the division in `_predict` carry without loss; far beyond any evidence that makes sense.
_LARGEST_EVIDENCE: Final = 30.0

_METHOD_OF: Final = {
    "mean_on_seconds": "hmm",
    "mean_off_seconds": "hmm",
    "evidence_gain": "hmm",
    "evidence_floor": "hmm",
    "evidence_ceiling": "hmm",
    "evidence_ceiling_alone": "hmm",
    "alone_seconds": "hmm",
    "time_constant_seconds": "ema",
    "window_samples": "median",
}
_LEAST: Final = 1e-9  # stands for "above 0"
_POSITIVE: Final = (_LEAST, math.inf, "a number above 0")
_SECONDS: Final = (0.0, math.inf, "seconds, 0 or more")
_NATS: Final = (_LEAST, _LARGEST_EVIDENCE, f"nats above 0, up to {_LARGEST_EVIDENCE:g}")
_RANGES: Final = {
    **dict.fromkeys(("mean_on_seconds", "mean_off_seconds", "time_constant_seconds"), _POSITIVE),
    "evidence_gain": _POSITIVE,
    "evidence_floor": (-_LARGEST_EVIDENCE, -_LEAST, f"nats below 0, down to {-_LARGEST_EVIDENCE:g}"),
    **dict.fromkeys(("evidence_ceiling", "evidence_ceiling_alone"), _NATS),
    **dict.fromkeys(("alone_seconds", "reach_seconds", "pad_onset", "pad_offset"), _SECONDS),
    **dict.fromkeys(("min_duration_on", "min_duration_off"), _SECONDS),
    "onset": (_LEAST, 1.0, "a probability above 0, up to 1"),
    "offset": (0.0, 1.0, "a probability from 0 to onset"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """How a series is smoothed and cut.

    benchmarks/smoothing.py compares the defaults with tuned rivals. They lie on a plateau: a fifth more or
    less of any one of them costs at most about 0.01 of F1. On the plateau, recall decided.

    Attributes:
        method: ``hmm``, ``ema``, ``median`` or ``none``.
        mean_on_seconds: hmm: mean dwell time in the on state. Where it equals `mean_off_seconds`, a sample
            without neighbours is judged by the policy's threshold alone.
        mean_off_seconds: hmm: mean dwell time in the off state.
        evidence_gain: hmm: factor on the log-odds of a score; above 1 the model is underconfident.
        evidence_floor: hmm: the most that one sample can say against the on state, in nats, below 0.
            Detectors report 0 for all that is under their own cut, so 0 is "not seen", not "impossible".
            At two samples per second, one or two of them among sure ones do not split a segment; three do.
        evidence_ceiling: hmm: the most that one sample can say for the on state, in nats. It is what keeps
            one or two wrong samples among many from making a segment.
        evidence_ceiling_alone: hmm: the same for a sample whose nearest neighbour is `alone_seconds` or
            more away. No neighbour can confirm a short event there, so a score near 1 may stand alone.
        alone_seconds: hmm: the duration of the shortest event that is looked for.
        time_constant_seconds: ema: after this time a sample's weight has fallen to 1/e.
        window_samples: median: an odd number of samples.
        onset: A segment starts where the posterior reaches this, in (0, 1].
        offset: It ends where the posterior falls below this, in [0, onset].
        min_duration_on: Seconds; shorter intervals are dropped.
        min_duration_off: Seconds; shorter holes are filled.
        pad_onset: Seconds added before each interval.
        pad_offset: Seconds added after each interval.
        reach_seconds: How far into an unseen stretch a sample speaks.

    Raises:
        UsageError: A field is of the wrong type or out of range; the message names it.
    """

    method: str = "hmm"
    mean_on_seconds: float = 8.0
    mean_off_seconds: float = 8.0
    evidence_gain: float = 1.7
    evidence_floor: float = -2.5
    evidence_ceiling: float = 2.5
    evidence_ceiling_alone: float = 6.5
    alone_seconds: float = 0.3
    time_constant_seconds: float = 0.5
    window_samples: int = 5
    onset: float = 0.5
    offset: float = 0.4
    min_duration_on: float = 0.2
    min_duration_off: float = 0.6
    pad_onset: float = 0.0
    pad_offset: float = 0.0
    reach_seconds: float = 2.5

    def __post_init__(self) -> None:
        choose("method", self.method, ("hmm", "ema", "median", "none"))
        for name, (low, high, allowed) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high, allowed)
        if not isinstance(self.window_samples, int) or self.window_samples % 2 != 1 or self.window_samples < 1:
            raise UsageError(f"Invalid window_samples ({self.window_samples!r}). Use an odd number: 1, 3, 5, ...")
        if self.offset > self.onset:
            raise UsageError(f"Invalid offset ({self.offset!r}). Use at most onset, which is {self.onset!r}.")

    def as_dict(self) -> dict[str, object]:
        """Return the fields that `method` uses, by name: what a timeline's provenance records."""
        names = (field.name for field in fields(self))
        return {name: getattr(self, name) for name in names if _METHOD_OF.get(name, self.method) == self.method}


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time in the on state.

    Attributes:
        start_seconds: Where it starts; the interval is half open.
        end_seconds: Where it ends, above `start_seconds`.
        first: Index of its first on sample. Padding does not move it.
        last: Index of its last on sample, inclusive. Samples between may be off (filled) or missing.
    """

    start_seconds: float
    end_seconds: float
    first: int
    last: int


def posteriors(
    starts: npt.ArrayLike, ends: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, settings: Smoothing
) -> Floats:
    """Weigh every sample against its neighbours in time.

    Whatever the method, 0.5 stands for `threshold`: a lone sample on it, or a constant series on it, comes
    out as 0.5 (for ``hmm`` where the two dwell times are equal).

    Args:
        starts: float64[N], times of the samples in seconds, strictly increasing.
        ends: float64[N], the time until which each sampled frame is shown; starts < ends, and no end is
            after the next start.
        scores: float64[N], probabilities in [0, 1]; NaN is a missing sample.
        threshold: The policy's threshold for this series, in (0, 1).
        settings: The method and its parameters.

    Returns:
        float64[N], in [0, 1], and NaN where the score is NaN: nothing was looked at there.

    Raises:
        UsageError: The arrays do not fit together, or a value is out of its range.
    """
    times, _ends, values = _checked(starts, ends, scores, "scores")
    if not 0 < threshold < 1:
        raise UsageError(f"Invalid threshold ({threshold!r}). Use a probability above 0 and below 1.")
    result = np.full(values.size, np.nan)
    seen = ~np.isnan(values)
    if seen.any():
        # For the chain, to leave a sample out is the same as one without evidence (Chapman-Kolmogorov).
        smooth = _hmm if settings.method == "hmm" else _relative_average
        result[seen] = smooth(times[seen], values[seen], threshold, settings)
    return result


def binarize(
    starts: npt.ArrayLike, ends: npt.ArrayLike, posteriors: npt.ArrayLike, settings: Smoothing
) -> list[Interval]:
    """Cut posteriors into intervals.

    In this order: hysteresis (on from `onset`, until below `offset`; an unseen stretch that is too long to
    bridge resets it), borders into the unseen stretches, holes shorter than `min_duration_off` filled,
    intervals shorter than `min_duration_on` dropped (one that covers the whole series stays: a still image
    has no neighbours), padding, overlaps merged. The names are those of pyannote.audio's ``Binarize``.

    Args:
        starts: float64[N], as in `posteriors`.
        ends: float64[N], as in `posteriors`.
        posteriors: float64[N], in [0, 1]; NaN is a missing sample.
        settings: Thresholds, durations, padding and reach.

    Returns:
        Intervals in order, disjoint, within [starts[0], ends[-1]).

    Raises:
        UsageError: The arrays do not fit together, or a value is out of its range.
    """
    times, until, values = _checked(starts, ends, posteriors, "posteriors")
    seen = np.flatnonzero(~np.isnan(values))
    if seen.size == 0:
        return []
    unseen = times[seen[1:]] - until[seen[:-1]]
    apart = unseen > 2 * settings.reach_seconds + _SLACK_SECONDS
    first, last = _runs(_hysteresis(values[seen], apart, settings), apart)
    # Before the first and after the last sample there is no off sample to share with.
    before = np.concatenate(([2 * (times[seen[0]] - times[0])], unseen)) / 2
    after = np.concatenate((unseen, [2 * (until[-1] - until[seen[-1]])])) / 2
    begin = times[seen] - np.minimum(before, settings.reach_seconds)
    finish = until[seen] + np.minimum(after, settings.reach_seconds)
    columns = (begin[first], finish[last], seen[first], seen[last])
    found = [Interval(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return _tidied(found, float(times[0]), float(until[-1]), settings)


def segments(
    starts: npt.ArrayLike, ends: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, settings: Smoothing
) -> list[Interval]:
    """Return the intervals in which a series is on: `posteriors`, then `binarize`.

    Example:
        >>> starts = np.arange(7) / 2
        >>> scores = [0.1, 0.0, 0.9, 0.8, 0.9, 0.0, 0.0]
        >>> [found] = segments(starts, starts + 0.04, scores, 0.5, Smoothing())
        >>> round(found.start_seconds, 2), round(found.end_seconds, 2), found.first, found.last
        (0.77, 2.27, 2, 4)
    """
    return binarize(starts, ends, posteriors(starts, ends, scores, threshold, settings), settings)


def _hmm(starts: Floats, scores: Floats, threshold: float, settings: Smoothing) -> Floats:
    """Smooth with a two-state Markov chain in continuous time, by forward-backward.

    Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 77 (1989), III-A; Särkkä, "Bayesian filtering
    and smoothing" (2013), ch. 8. Of two states, exp(Qt) has a closed form: the chance to be on relaxes to
    the prior as exp(-t (1/on + 1/off)) (Norris, "Markov chains" (1997), 2.1). Such a chain is reversible,
    so the backward pass is the forward pass over the reversed series.
    """
    evidence = _evidence(starts, scores, threshold, settings)
    prior = settings.mean_on_seconds / (settings.mean_on_seconds + settings.mean_off_seconds)
    rate = 1 / settings.mean_on_seconds + 1 / settings.mean_off_seconds
    ratios = np.exp(evidence).tolist()
    decays = np.exp(-rate * np.diff(starts)).tolist()
    past = _logit(_predict(ratios, decays, prior))
    future = _logit(_predict(ratios[::-1], decays[::-1], prior)[::-1])
    odds = np.exp(past + evidence + future - math.log(prior / (1 - prior)))
    return np.asarray(odds / (1 + odds), dtype=np.float64)


def _evidence(starts: Floats, scores: Floats, threshold: float, settings: Smoothing) -> Floats:
    """Return log P(score | on) - log P(score | off) of every sample, in nats."""
    with np.errstate(divide="ignore"):  # 0 and 1 are infinite here, and clipped below
        raw = settings.evidence_gain * (_logit(scores) - _logit(np.array([threshold])))
    gaps = np.diff(starts, prepend=-np.inf, append=np.inf)
    alone = np.minimum(gaps[:-1], gaps[1:]) >= settings.alone_seconds - _SLACK_SECONDS
    ceiling = np.where(alone, settings.evidence_ceiling_alone, settings.evidence_ceiling)
    return np.asarray(np.clip(raw, settings.evidence_floor, ceiling), dtype=np.float64)


def _predict(ratios: list[float], decays: list[float], prior: float) -> Floats:
    """Return P(on) at every sample given the samples before it.

    A plain loop over floats takes about 0.1 µs a step, so there is nothing to win with a parallel scan.
    """
    chance = prior
    chances = [chance]
    for ratio, decay in zip(ratios, decays, strict=False):
        on = chance * ratio
        chance = prior + decay * (on / (on + 1.0 - chance) - prior)
        chances.append(chance)
    # Samples nanoseconds apart can round the chance of the other state away.
    return np.asarray(np.clip(chances, 1e-15, 1 - 1e-15), dtype=np.float64)


def _relative_average(starts: Floats, scores: Floats, threshold: float, settings: Smoothing) -> Floats:
    """Return sigmoid(logit(average) - logit(threshold)): exact at 0, at 1 and on the threshold."""
    average = scores
    if settings.method == "ema":
        average = _moving_average(starts, scores, settings.time_constant_seconds)
    elif settings.method == "median":
        average = _running_median(scores, settings.window_samples)
    on = average * (1 - threshold)
    return np.asarray(on / (on + (1 - average) * threshold), dtype=np.float64)


def _moving_average(starts: Floats, scores: Floats, time_constant_seconds: float) -> Floats:
    """Exponential moving average at irregular times: the weight follows from the time between samples."""
    decays = np.exp(-np.diff(starts) / time_constant_seconds).tolist()
    values = scores.tolist()
    mean = values[0]
    means = [mean]
    for value, decay in zip(values[1:], decays, strict=True):
        mean = value + decay * (mean - value)
        means.append(mean)
    return np.asarray(np.clip(means, 0.0, 1.0), dtype=np.float64)


def _running_median(scores: Floats, window_samples: int) -> Floats:
    """Median over a number of samples, whatever their times; the first and the last are repeated."""
    padded = np.pad(scores, window_samples // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window_samples)
    return np.asarray(np.median(windows, axis=1), dtype=np.float64)


def _logit(probabilities: Floats) -> Floats:
    return np.log(probabilities) - np.log1p(-probabilities)


def _hysteresis(values: Floats, apart: Bools, settings: Smoothing) -> Bools:
    """Return which samples are on: each follows the last decisive one before it in its group."""
    rising = values >= settings.onset
    decisive = rising | (values < settings.offset)
    decisive[1:] |= apart
    latest = np.maximum.accumulate(np.where(decisive, np.arange(values.size), 0))
    return np.asarray(rising[latest], dtype=np.bool_)


def _runs(on: Bools, apart: Bools) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first and the last index of every run of on samples that are not too far apart."""
    joined = on[1:] & on[:-1] & ~apart
    return (
        np.flatnonzero(on & ~np.concatenate(([False], joined))),
        np.flatnonzero(on & ~np.concatenate((joined, [False]))),
    )


def _tidied(found: list[Interval], begin: float, finish: float, settings: Smoothing) -> list[Interval]:
    """Fill, drop, pad, merge: in this order, so that a flicker is first one thing and then long enough."""
    filled = _merged(found, settings.min_duration_off)
    shortest = min(settings.min_duration_on, finish - begin) - _SLACK_SECONDS
    padded = [
        Interval(
            max(begin, one.start_seconds - settings.pad_onset),
            min(finish, one.end_seconds + settings.pad_offset),
            one.first,
            one.last,
        )
        for one in filled
        if one.end_seconds - one.start_seconds >= shortest
    ]
    return _merged(padded, 0.0)


def _merged(intervals: list[Interval], hole_seconds: float) -> list[Interval]:
    """Join intervals that touch, overlap, or leave a hole shorter than this."""
    joined: list[Interval] = []
    for one in intervals:
        hole = one.start_seconds - joined[-1].end_seconds if joined else math.inf
        if hole < max(hole_seconds - _SLACK_SECONDS, _SLACK_SECONDS):
            head = joined.pop()
            one = Interval(head.start_seconds, max(head.end_seconds, one.end_seconds), head.first, one.last)
        joined.append(one)
    return joined


def _checked(
    starts: npt.ArrayLike, ends: npt.ArrayLike, values: npt.ArrayLike, name: str
) -> tuple[Floats, Floats, Floats]:
    times, until, checked = (np.asarray(array, dtype=np.float64) for array in (starts, ends, values))
    if times.ndim != 1 or not times.shape == until.shape == checked.shape:
        shapes = f"{times.shape}, {until.shape} and {checked.shape}"
        raise UsageError(f"Invalid shapes of starts, ends and {name} ({shapes}). Use three arrays of length N.")
    if not (np.isfinite(times).all() and np.isfinite(until).all()):
        raise UsageError("Invalid times (NaN or infinite). Use finite seconds in starts and ends.")
    following = np.append(times[1:], np.inf)
    if not ((times < np.minimum(until, following)).all() and (until <= following + _SLACK_SECONDS).all()):
        raise UsageError("Invalid times. Use starts[i] < ends[i] <= starts[i + 1] for every sample i.")
    if ((checked < 0) | (checked > 1) | np.isinf(checked)).any():
        raise UsageError(f"Invalid {name} (outside [0, 1]). Use probabilities, and NaN for a missing sample.")
    return times, np.minimum(until, following), checked


def _check_number(name: str, value: object, low: float, high: float, allowed: str) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and low <= number <= high):
        raise UsageError(f"Invalid {name} ({value!r}). Use {allowed}.")
