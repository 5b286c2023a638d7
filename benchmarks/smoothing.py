"""How well each smoother finds the true segments behind noisy samples.

    python benchmarks/smoothing.py [--seed S] [--clips N] [--simulator logit|beta]

Clips of two minutes with known segments of 0.3 to 20 s are sampled at 1, 2, 5, 10, 25 and 30 per second,
with missing samples, dropped stretches, overlapping and correlated noise, and wrong samples in ones and
twos. A found segment counts when its temporal IoU with a true one is 0.5 or more. The default smoother runs
as it ships. Each rival first gets the best of 1,170 settings (the moving average of 8,190), on clips of other
seeds from the very
same simulator. The threshold is not searched on its own: at a threshold of 0.5 the posterior of the rivals
is their averaged score, so `onset` and `offset` are two thresholds on it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidmod.smoothing import Interval, Smoothing, binarize, posteriors

Floats = npt.NDArray[np.float64]

RATES = (1, 2, 5, 10, 25, 30)
CLIP_SECONDS = 120.0
THRESHOLD = 0.5
SCREENING = 24
FINALISTS = 24
RIVALS: dict[str, list[Smoothing]] = {
    "none": [Smoothing(method="none")],
    "median": [Smoothing(method="median", window_samples=5)],
    "ema": [Smoothing(method="ema", time_constant_seconds=t) for t in (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)],
}
GRID: dict[str, Sequence[float]] = {
    "onset": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "offset": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "min_duration_on": (0.0, 0.15, 0.3, 0.5, 1.0),
    "min_duration_off": (0.0, 0.3, 0.6, 1.0, 1.5, 2.5),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One sampled series and the truth behind it.

    Attributes:
        rate: Samples per second.
        starts: float64[N], seconds.
        ends: float64[N], seconds; a sampled frame is shown for one frame of 25 or 30 per second.
        scores: float64[N], probabilities, NaN where missing.
        truth: float64[M, 2], starts and ends of the true segments in seconds.
    """

    rate: int
    starts: Floats
    ends: Floats
    scores: Floats
    truth: Floats


@dataclass(frozen=True, slots=True)
class Simulator:
    """The ranges from which every clip draws its own conditions, uniformly.

    Attributes:
        scores: ``logit`` (logit-normal, first-order autoregressive noise) or ``beta`` (independent).
        long_durations: Durations uniform over 0.3 to 20 s; otherwise uniform in the logarithm, so that half
            of the segments are shorter than 2.5 s.
        on: logit: mean log-odds in the on state. beta: the larger parameter.
        off: logit: mean log-odds in the off state. beta: the smaller parameter.
        noise: logit: standard deviation of the log-odds.
        correlation: logit: correlation of the noise of one sample with the next.
        flips: Wrong runs of one or two samples, per sample.
        calm_seconds: Mean length of the calm stretches, over the first second of each.
        gap_every_seconds: Mean time between dropped stretches.
        gap_seconds: Length of a dropped stretch.
        missing: Share of samples without a score.
    """

    scores: str = "logit"
    long_durations: bool = False
    on: tuple[float, float] = (1.2, 2.5)
    off: tuple[float, float] = (-2.5, -1.2)
    noise: tuple[float, float] = (0.8, 1.6)
    correlation: tuple[float, float] = (0.1, 0.5)
    flips: tuple[float, float] = (0.005, 0.03)
    calm_seconds: tuple[float, float] = (3.0, 15.0)
    gap_every_seconds: tuple[float, float] = (20.0, 60.0)
    gap_seconds: tuple[float, float] = (0.5, 4.0)
    missing: tuple[float, float] = (0.0, 0.05)

    def clips(self, seed: Iterable[int], count: int) -> list[Clip]:
        """Return `count` clips, the same for the same seed, with the rates in turn."""
        rng = np.random.default_rng(list(seed))
        return [self._clip(rng, RATES[index % len(RATES)]) for index in range(count)]

    def _clip(self, rng: np.random.Generator, rate: int) -> Clip:
        truth = self._truth(rng)
        frame_rate = 25 if rate == 25 else 30
        frames = np.arange(0, int(CLIP_SECONDS * frame_rate), frame_rate // rate)
        starts = frames[~self._dropped(rng, frames / frame_rate)] / frame_rate
        state = np.searchsorted(truth.ravel(), starts, side="right") % 2 == 1
        seen = self._flipped(rng, state)
        scores = self._logit_scores(rng, seen) if self.scores == "logit" else self._beta_scores(rng, seen)
        scores[rng.random(scores.size) < rng.uniform(*self.missing)] = np.nan
        return Clip(rate, starts, starts + 1 / frame_rate, scores, truth)

    def _truth(self, rng: np.random.Generator) -> Floats:
        calm = rng.uniform(*self.calm_seconds)
        found: list[tuple[float, float]] = []
        start = rng.uniform(0, 2 * calm)
        while True:
            position = rng.random()
            duration = 0.3 + 19.7 * position if self.long_durations else 0.3 * (20 / 0.3) ** position
            if start + duration > CLIP_SECONDS:
                return np.array(found, dtype=np.float64).reshape(-1, 2)
            found.append((start, start + duration))
            start += duration + 1 + rng.exponential(calm)

    def _dropped(self, rng: np.random.Generator, times: Floats) -> npt.NDArray[np.bool_]:
        dropped = np.zeros(times.size, dtype=np.bool_)
        for _ in range(rng.poisson(CLIP_SECONDS / rng.uniform(*self.gap_every_seconds))):
            start = rng.uniform(0, CLIP_SECONDS)
            dropped |= (times >= start) & (times < start + rng.uniform(*self.gap_seconds))
        return dropped

    def _flipped(self, rng: np.random.Generator, state: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        flipped = state.copy()
        for index in np.flatnonzero(rng.random(state.size) < rng.uniform(*self.flips)):
            run = slice(index, index + int(rng.integers(1, 3)))
            flipped[run] = ~state[run]
        return flipped

    def _logit_scores(self, rng: np.random.Generator, state: npt.NDArray[np.bool_]) -> Floats:
        noise, correlation = rng.normal(size=state.size), rng.uniform(*self.correlation)
        for index in range(1, state.size):
            noise[index] = correlation * noise[index - 1] + (1 - correlation**2) ** 0.5 * noise[index]
        mean = np.where(state, rng.uniform(*self.on), rng.uniform(*self.off))
        return np.asarray(1 / (1 + np.exp(-mean - rng.uniform(*self.noise) * noise)))

    def _beta_scores(self, rng: np.random.Generator, state: npt.NDArray[np.bool_]) -> Floats:
        large, small = rng.uniform(*self.on), rng.uniform(*self.off)
        return np.where(state, rng.beta(large, small, state.size), rng.beta(small, large, state.size))


SIMULATORS = {
    "logit": Simulator(),
    "beta": Simulator(
        scores="beta", long_durations=True, on=(3.0, 6.0), off=(1.5, 2.5), gap_seconds=(1.0, 3.0), flips=(0.01, 0.02)
    ),
}


@dataclass(slots=True)
class Score:
    """Sums over clips; micro-averages are made from them."""

    matched: int = 0
    found: int = 0
    true: int = 0
    true_seconds: float = 0.0
    covered_seconds: float = 0.0
    border_seconds: float = 0.0

    def add(self, intervals: Sequence[Interval], truth: Floats) -> None:
        """Match the intervals of one clip to its truth and add the outcome."""
        made = np.array([(one.start_seconds, one.end_seconds) for one in intervals]).reshape(-1, 2)
        begin = np.maximum(made[:, None, 0], truth[None, :, 0])
        overlap = np.maximum(np.minimum(made[:, None, 1], truth[None, :, 1]) - begin, 0)
        lengths, true_lengths = made[:, 1] - made[:, 0], truth[:, 1] - truth[:, 0]
        # Disjoint intervals cannot share a partner at an IoU above 0.5: no assignment problem is left.
        rows, columns = np.nonzero(overlap / (lengths[:, None] + true_lengths - overlap) >= 0.5)
        self.matched += len(rows)
        self.found += len(made)
        self.true += len(truth)
        self.true_seconds += float(true_lengths.sum())
        self.covered_seconds += float(overlap.sum())
        self.border_seconds += float(np.abs(made[rows] - truth[columns]).sum()) / 2

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.matched / max(self.found + self.true, 1)


def evaluate(clips: Iterable[Clip], settings: Smoothing) -> Score:
    """Smooth and cut every clip, and sum up how well it matches the truth."""
    score = Score()
    for clip in clips:
        smooth = posteriors(clip.starts, clip.ends, clip.scores, THRESHOLD, settings)
        score.add(binarize(clip.starts, clip.ends, smooth, settings), clip.truth)
    return score


def tune(clips: Sequence[Clip], bases: Iterable[Smoothing], grid: Mapping[str, Sequence[float]]) -> Smoothing:
    """Return the settings with the best F1 on these clips.

    Every combination is tried on the first `SCREENING` clips, the best `FINALISTS` of each base on all.
    """
    finalists: list[Smoothing] = []
    for base in bases:
        smooth = _smooth(clips[:SCREENING], base)
        ranked = sorted(_variants(base, grid), key=lambda one: _f1(clips[:SCREENING], smooth, one), reverse=True)
        finalists += ranked[:FINALISTS]
    return max(finalists, key=lambda one: evaluate(clips, one).f1)


def _smooth(clips: Sequence[Clip], settings: Smoothing) -> list[Floats]:
    return [posteriors(clip.starts, clip.ends, clip.scores, THRESHOLD, settings) for clip in clips]


def _f1(clips: Sequence[Clip], smooth: Sequence[Floats], settings: Smoothing) -> float:
    score = Score()
    for clip, values in zip(clips, smooth, strict=True):
        score.add(binarize(clip.starts, clip.ends, values, settings), clip.truth)
    return score.f1


def compare(
    simulator: Simulator, seed: int, clips: int, grid: Mapping[str, Sequence[float]] = GRID
) -> dict[str, tuple[Smoothing, list[Score]]]:
    """Return settings and scores by method: in total first, then by rate.

    The rivals are tuned on as many clips of another seed; the default ``hmm`` is not tuned.
    """
    tuning, held_out = simulator.clips((seed, 0), clips), simulator.clips((seed, 1), clips)
    contestants = {name: tune(tuning, bases, grid) for name, bases in RIVALS.items()}
    contestants["hmm"] = Smoothing()
    groups = [held_out, *([clip for clip in held_out if clip.rate == rate] for rate in RATES)]
    return {name: (settings, [evaluate(group, settings) for group in groups]) for name, settings in contestants.items()}


def _variants(base: Smoothing, grid: Mapping[str, Sequence[float]]) -> Iterator[Smoothing]:
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        if changes["offset"] <= changes["onset"]:
            yield replace(base, **changes)  # type: ignore[arg-type]


def _row(name: str, settings: Smoothing, scores: Sequence[Score]) -> str:
    total = scores[0]
    figures = [
        *(f"{score.f1:.3f}" for score in scores[1:]),
        f"**{total.f1:.3f}**",
        f"{total.matched / max(total.found, 1):.3f}",
        f"{total.matched / max(total.true, 1):.3f}",
        f"{total.covered_seconds / max(total.true_seconds, 1e-9):.3f}",
        f"{total.border_seconds / max(total.matched, 1):.3f}",
    ]
    return f"| {name} | {' | '.join(figures)} | {_described(settings)} |"


def _described(settings: Smoothing) -> str:
    if settings == Smoothing():
        return "defaults"
    own = {"ema": f"{settings.time_constant_seconds:g} s, ", "median": f"{settings.window_samples}, "}
    durations = f"min {settings.min_duration_on:g} s on, {settings.min_duration_off:g} s off"
    return f"{own.get(settings.method, '')}onset {settings.onset:g}, offset {settings.offset:g}, {durations}"


def main() -> None:
    """Print the table of one simulator."""
    parser = argparse.ArgumentParser(description="Compare the default smoother with tuned rivals.")
    parser.add_argument("--seed", type=int, default=1, help="any number; the rivals are tuned on others")
    parser.add_argument("--clips", type=int, default=120, help="held-out clips of two minutes")
    parser.add_argument("--simulator", choices=sorted(SIMULATORS), default="logit")
    arguments = parser.parse_args()
    results = compare(SIMULATORS[arguments.simulator], arguments.seed, arguments.clips)
    print(f"Segment F1 at temporal IoU 0.5: {arguments.simulator}, seed {arguments.seed}, {arguments.clips} clips\n")
    rates = " | ".join(f"{rate}/s" for rate in RATES)
    print(f"| method | {rates} | all | precision | recall | time found | border error (s) | settings |")
    print("|---" * (len(RATES) + 7) + "|")
    for name, (settings, scores) in results.items():
        print(_row(name, settings, scores))


if __name__ == "__main__":
    main()
