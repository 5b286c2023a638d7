"""The smoother: posteriors against enumeration, borders and durations, and that it beats its rivals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarked import script
from tests.yardstick import yards
from vidmod.errors import UsageError
from vidmod.smoothing import Interval, Smoothing, binarize, posteriors, segments

Floats = npt.NDArray[np.float64]
METHODS = ("hmm", "ema", "median", "none")
# Nothing but the cut at 0.5, so that a test sees one step at a time.
PLAIN = Smoothing(method="none", onset=0.5, offset=0.5, min_duration_on=0, min_duration_off=0)


def frames(count: int, rate: float = 25.0) -> tuple[Floats, Floats]:
    """Every frame sampled: each is shown until the next."""
    borders = np.arange(count + 1) / rate
    return borders[:-1], borders[1:]


def times(found: list[Interval]) -> list[tuple[float, float]]:
    return [(round(one.start_seconds, 6), round(one.end_seconds, 6)) for one in found]


@st.composite
def series(draw: st.DrawFn, max_size: int = 40) -> tuple[Floats, Floats, Floats]:
    """Samples at irregular times, from 4 ms to 20 s apart, some of them missing, frames shown shorter."""
    gap = st.integers(4, 200) | st.integers(4, 20_000)
    gaps = draw(st.lists(gap, min_size=1, max_size=max_size))
    edges = (draw(st.integers(-10_000, 10_000)) + np.cumsum([0, *gaps])) / 1000
    shown = np.array([draw(st.integers(1, one)) for one in gaps]) / 1000
    score = st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.99, 1.0, math.nan])
    scores = draw(st.lists(score, min_size=len(gaps), max_size=len(gaps)))
    return edges[:-1], np.minimum(edges[:-1] + shown, edges[1:]), np.array(scores)


def smoothings(**fixed: Any) -> st.SearchStrategy[Smoothing]:
    seconds = st.floats(0, 5)
    built = {
        "method": st.sampled_from(METHODS),
        "offset": st.floats(0.05, 0.5),
        **dict.fromkeys(("min_duration_on", "min_duration_off", "pad_onset", "pad_offset", "reach_seconds"), seconds),
    }
    return st.builds(Smoothing, **{**built, **{name: st.just(value) for name, value in fixed.items()}})


def by_enumeration(starts: Floats, scores: Floats, threshold: float, chosen: Smoothing) -> Floats:
    """P(on) at each sample, from the sum over all 2^N paths; the evidence is spelled out once more."""
    on, off = chosen.mean_on_seconds, chosen.mean_off_seconds
    prior, count = on / (on + off), len(starts)
    ratios = []
    for i, score in enumerate(scores):
        gaps = [abs(starts[i] - starts[j]) for j in (i - 1, i + 1) if 0 <= j < count]
        alone = min(gaps, default=math.inf) >= chosen.alone_seconds
        most = chosen.evidence_ceiling_alone if alone else chosen.evidence_ceiling
        score = min(max(score, 1e-12), 1 - 1e-12)
        raw = math.log(score / (1 - score)) - math.log(threshold / (1 - threshold))
        ratios.append(math.exp(min(max(chosen.evidence_gain * raw, chosen.evidence_floor), most)))
    totals = np.zeros((2, count))
    for path in itertools.product((0, 1), repeat=count):
        weight = prior if path[0] else 1 - prior
        for i in range(1, count):
            decay = math.exp(-(starts[i] - starts[i - 1]) * (1 / on + 1 / off))
            stay_on = prior + (1 - prior) * decay
            stay_off = 1 - prior + prior * decay
            stay = stay_on if path[i - 1] else stay_off
            weight *= stay if path[i] == path[i - 1] else 1 - stay
        weight *= math.prod(ratio for ratio, state in zip(ratios, path, strict=True) if state)
        for i, state in enumerate(path):
            totals[state, i] += weight
    return np.asarray(totals[1] / totals.sum(axis=0))


@settings(max_examples=40, deadline=None)
@given(series(max_size=8), st.floats(0.05, 0.95), st.floats(0.2, 30), st.floats(0.2, 30))
def test_hmm_is_the_sum_over_all_paths(
    samples: tuple[Floats, Floats, Floats], threshold: float, on: float, off: float
) -> None:
    starts, ends, scores = samples
    chosen = Smoothing(mean_on_seconds=on, mean_off_seconds=off)
    seen = ~np.isnan(scores)
    made = posteriors(starts, ends, scores, threshold, chosen)
    assert np.isnan(made[~seen]).all()
    if seen.any():
        expected = by_enumeration(starts[seen], scores[seen], threshold, chosen)
        np.testing.assert_allclose(made[seen], expected, rtol=1e-7, atol=1e-12)


def test_hmm_with_ten_samples_and_two_missing() -> None:
    starts = np.array([0, 0.04, 0.08, 0.5, 1.5, 1.7, 4.0, 4.04, 9.0, 9.5])
    scores = np.array([0.2, math.nan, 0.9, 0.7, 0.99, 0.0, 0.6, math.nan, 1.0, 0.4])
    chosen = Smoothing(mean_on_seconds=3, mean_off_seconds=11)
    made = posteriors(starts, starts + 0.01, scores, 0.6, chosen)
    seen = ~np.isnan(scores)
    np.testing.assert_allclose(made[seen], by_enumeration(starts[seen], scores[seen], 0.6, chosen), rtol=1e-10)


@settings(deadline=None)
@given(series(), smoothings(), st.floats(0.01, 0.99))
def test_intervals_are_sorted_disjoint_and_inside(
    samples: tuple[Floats, Floats, Floats], chosen: Smoothing, threshold: float
) -> None:
    starts, ends, scores = samples
    found = segments(starts, ends, scores, threshold, chosen)
    made = posteriors(starts, ends, scores, threshold, chosen)
    assert ((made >= 0) & (made <= 1) | np.isnan(scores)).all()
    for one in found:
        assert starts[0] <= one.start_seconds < one.end_seconds <= ends[-1]
        assert 0 <= one.first <= one.last < len(starts)
        assert one.start_seconds <= starts[one.first]
        assert one.end_seconds >= ends[one.last]
        assert made[one.first] >= chosen.onset
        assert made[one.last] >= chosen.offset
    for left, right in itertools.pairwise(found):
        assert left.end_seconds < right.start_seconds
        assert left.last < right.first


@settings(deadline=None)
@given(series(), smoothings(method="none"), st.data())
def test_higher_scores_never_shrink_the_on_set(
    samples: tuple[Floats, Floats, Floats], chosen: Smoothing, data: st.DataObject
) -> None:
    starts, ends, scores = samples
    raised = np.maximum(scores, np.array([data.draw(st.floats(0, 1)) for _ in scores]))
    before, after = (segments(starts, ends, values, 0.5, chosen) for values in (scores, raised))
    for one in before:
        assert any(
            other.start_seconds <= one.start_seconds + 1e-9 and one.end_seconds <= other.end_seconds + 1e-9
            for other in after
        )


@settings(deadline=None)
@given(series(), smoothings(), st.integers(-1000, 1000))
def test_a_shift_in_time_shifts_the_intervals_only(
    samples: tuple[Floats, Floats, Floats], chosen: Smoothing, shift: int
) -> None:
    starts, ends, scores = samples
    still = posteriors(starts, ends, scores, 0.5, chosen)
    moved = posteriors(starts + shift, ends + shift, scores, 0.5, chosen)
    np.testing.assert_allclose(moved, still, rtol=1e-6, atol=1e-9)
    once, later = (binarize(starts + by, ends + by, still, chosen) for by in (0, shift))
    assert [(one.first, one.last) for one in once] == [(one.first, one.last) for one in later]
    for one, other in zip(once, later, strict=True):
        assert one.start_seconds + shift == pytest.approx(other.start_seconds, abs=1e-6)
        assert one.end_seconds + shift == pytest.approx(other.end_seconds, abs=1e-6)


@settings(deadline=None)
@given(series(), smoothings())
def test_time_has_no_unit_but_the_settings(samples: tuple[Floats, Floats, Floats], chosen: Smoothing) -> None:
    """Twice as slow with every setting in seconds doubled is the same, twice as long."""
    starts, ends, scores = samples
    names = [name for name in Smoothing.__slots__ if "seconds" in name or "duration" in name or "pad" in name]
    slower = replace(chosen, **{name: 2 * getattr(chosen, name) for name in names})
    once = segments(starts, ends, scores, 0.5, chosen)
    twice = segments(2 * starts, 2 * ends, scores, 0.5, slower)
    assert [Interval(2 * one.start_seconds, 2 * one.end_seconds, one.first, one.last) for one in once] == twice


@pytest.mark.parametrize("method", METHODS)
def test_nothing_seen_is_no_segment(method: str) -> None:
    chosen = Smoothing(method=method, mean_on_seconds=100, mean_off_seconds=1, onset=0.01, offset=0.0)
    empty = np.array([])
    assert segments(empty, empty, empty, 0.5, chosen) == []
    starts, ends = frames(5)
    assert np.isnan(posteriors(starts, ends, np.full(5, math.nan), 0.5, chosen)).all()
    assert segments(starts, ends, np.full(5, math.nan), 0.5, chosen) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_still_image_is_judged_by_its_threshold(method: str) -> None:
    chosen = Smoothing(method=method)
    assert segments([3.0], [3.04], [0.6], 0.6, chosen) == [Interval(3.0, 3.04, 0, 0)]
    assert segments([3.0], [3.04], [0.599], 0.6, chosen) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [1e-9, 0.3, 0.62, 1 - 1e-9])
def test_one_half_stands_for_the_threshold(method: str, threshold: float) -> None:
    starts, ends = frames(70)
    made = posteriors(starts, ends, np.full(70, threshold), threshold, Smoothing(method=method))
    assert (made == 0.5).all()
    for score in (0.0, 1.0):
        assert posteriors(starts, ends, np.full(70, score), threshold, Smoothing(method=method))[35] == pytest.approx(
            score, abs=0.01
        )


@pytest.mark.parametrize("method", ["hmm", "none"])
def test_borders_are_frame_exact_when_every_frame_is_sampled(method: str) -> None:
    starts, ends = frames(100)
    scores = np.where((np.arange(100) >= 20) & (np.arange(100) < 55), 0.9, 0.1)
    [found] = segments(starts, ends, scores, 0.5, Smoothing(method=method))
    assert found == Interval(starts[20], ends[54], 20, 54)


def test_a_sparse_border_is_in_the_middle_of_what_was_not_seen() -> None:
    starts = np.array([0.0, 1.0, 2.0, 3.0])
    [found] = segments(starts, starts + 0.2, [0.0, 0.9, 0.9, 0.0], 0.5, PLAIN)
    assert times([found]) == [(0.6, 2.6)]


def test_reach_ends_a_segment_in_a_long_gap() -> None:
    starts = np.array([0.0, 1.0, 5.9, 100.0, 101.0])
    chosen = replace(PLAIN, reach_seconds=2.5)
    assert times(segments(starts, starts + 0.1, [0.9] * 5, 0.5, chosen)) == [(0, 8.5), (97.5, 101.1)]
    # It is the same when the stretch holds samples that say nothing ...
    many = np.arange(0, 101.5, 0.5)
    scores = np.where(np.isin(many, [0, 1, 100, 101]), 0.9, math.nan)
    assert times(segments(many, many + 0.1, scores, 0.5, chosen)) == [(0, 3.6), (97.5, 101.1)]
    # ... and hysteresis does not carry over it.
    faint = segments(starts, starts + 0.1, [0.9, 0.9, 0.9, 0.4, 0.4], 0.5, replace(chosen, offset=0.3))
    assert times(faint) == [(0, 8.5)]


def test_the_chain_forgets_over_a_gap() -> None:
    starts, ends = frames(50)
    late = np.append(starts, 600.0)
    made = posteriors(late, np.append(ends, 600.04), np.append(np.full(50, 0.99), 0.499), 0.5, Smoothing())
    assert made[:50].min() > 0.9
    assert made[50] < 0.5


def test_hysteresis() -> None:
    starts, ends = frames(8, rate=1)
    values = [0.5, 0.65, 0.5, 0.35, 0.29, 0.5, 0.7, 0.3]
    chosen = replace(PLAIN, onset=0.6, offset=0.3)
    assert times(binarize(starts, ends, values, chosen)) == [(1, 4), (6, 8)]


def test_fill_then_drop_then_pad_then_merge() -> None:
    starts, ends = frames(40, rate=10)
    values = np.zeros(40)
    values[[5, 7, 15, 25, 26, 27, 32, 33, 34]] = 1.0

    def cut(**changes: float) -> list[tuple[float, float]]:
        return times(binarize(starts, ends, values, replace(PLAIN, **changes)))  # type: ignore[arg-type]

    assert cut() == [(0.5, 0.6), (0.7, 0.8), (1.5, 1.6), (2.5, 2.8), (3.2, 3.5)]
    # 0.1 s of hole is filled, which makes 0.3 s out of twice 0.1 s before the short ones are dropped.
    assert cut(min_duration_off=0.2, min_duration_on=0.3) == [(0.5, 0.8), (2.5, 2.8), (3.2, 3.5)]
    # What is exactly as long as the least duration stays, hole or interval.
    assert cut(min_duration_off=0.1, min_duration_on=0.1) == cut()
    # Padding saves nothing from being dropped; what overlaps or touches after it is one, inside the series.
    padded = cut(min_duration_on=0.3, pad_onset=0.2, pad_offset=0.2)
    assert padded == [(2.3, 3.7)]
    assert cut(min_duration_on=0.3, pad_onset=9, pad_offset=9) == [(0, 4)]


def test_indices_name_the_on_samples_whatever_the_padding() -> None:
    starts, ends = frames(20, rate=10)
    values = np.full(20, 0.1)
    values[[8, 9, 11]] = 0.9
    values[12] = math.nan
    [found] = binarize(starts, ends, values, replace(PLAIN, min_duration_off=0.2, pad_onset=0.5, pad_offset=0.5))
    assert (found.first, found.last) == (8, 11)
    assert times([found]) == [(0.3, 1.75)]


def test_one_sure_sample_stands_alone_only_where_samples_are_sparse() -> None:
    sparse = np.arange(0, 10, 0.5)
    scores = np.where(sparse == 5.0, 0.99, 0.05)
    assert times(segments(sparse, sparse + 0.04, scores, 0.5, Smoothing())) == [(4.77, 5.27)]
    assert segments(sparse, sparse + 0.04, np.where(sparse == 5.0, 0.7, 0.05), 0.5, Smoothing()) == []
    starts, ends = frames(250)
    flipped = np.full(250, 0.05)
    flipped[[100, 101]] = 0.99
    assert segments(starts, ends, flipped, 0.5, Smoothing()) == []
    flipped[100:110] = 0.95  # 0.4 s is an event
    assert times(segments(starts, ends, flipped, 0.5, Smoothing())) == [(4.0, 4.4)]


def test_moving_average_and_median_by_hand() -> None:
    starts = np.array([0.0, 1.0, 3.0])
    made = posteriors(starts, starts + 0.1, [0.0, 1.0, 0.0], 0.5, Smoothing(method="ema", time_constant_seconds=1.0))
    first = 1 - math.exp(-1)
    np.testing.assert_allclose(made, [0, first, first * math.exp(-2)])
    starts, ends = frames(5)
    median = Smoothing(method="median", window_samples=3)
    np.testing.assert_allclose(
        posteriors(starts, ends, [0.9, 0.1, 0.2, 0.8, 0.7], 0.5, median), [0.9, 0.2, 0.2, 0.7, 0.7]
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("method", "kalman", "Invalid method ('kalman'). Use one of hmm, ema, median, none."),
        ("mean_on_seconds", 0, "Invalid mean_on_seconds (0). Use a number above 0."),
        ("mean_off_seconds", math.inf, "Invalid mean_off_seconds (inf). Use a number above 0."),
        ("evidence_floor", 1, "Invalid evidence_floor (1). Use nats below 0, down to -30."),
        ("evidence_ceiling", 31.0, "Invalid evidence_ceiling (31.0). Use nats above 0, up to 30."),
        ("time_constant_seconds", "1", "Invalid time_constant_seconds ('1'). Use a number above 0."),
        ("window_samples", 4, "Invalid window_samples (4). Use an odd number: 1, 3, 5, ..."),
        ("window_samples", 3.0, "Invalid window_samples (3.0). Use an odd number: 1, 3, 5, ..."),
        ("onset", 0.0, "Invalid onset (0.0). Use a probability above 0, up to 1."),
        ("onset", True, "Invalid onset (True). Use a probability above 0, up to 1."),
        ("offset", 0.6, "Invalid offset (0.6). Use at most onset, which is 0.5."),
        ("min_duration_on", -1, "Invalid min_duration_on (-1). Use seconds, 0 or more."),
        ("pad_offset", math.nan, "Invalid pad_offset (nan). Use seconds, 0 or more."),
    ],
)
def test_settings_say_what_is_allowed(field: str, value: object, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        Smoothing(**{field: value})  # type: ignore[arg-type]
    assert str(raised.value) == words


@pytest.mark.parametrize(
    ("starts", "ends", "scores", "threshold", "words"),
    [
        ([0.0, 1.0], [1.0, 2.0], [0.5], 0.5, "Invalid shapes"),
        ([0.0, 1.0], [1.5, 2.0], [0.5, 0.5], 0.5, "Invalid times"),
        ([0.0, 0.0], [0.0, 1.0], [0.5, 0.5], 0.5, "Invalid times"),
        ([0.0, math.nan], [1.0, 2.0], [0.5, 0.5], 0.5, "Invalid times"),
        ([0.0], [1.0], [1.5], 0.5, "Invalid scores"),
        ([0.0], [1.0], [0.5], 1.0, "Invalid threshold"),
    ],
)
def test_arrays_that_do_not_fit(
    starts: list[float], ends: list[float], scores: list[float], threshold: float, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        segments(starts, ends, scores, threshold, Smoothing())


def test_provenance_names_what_the_method_uses() -> None:
    shared = set(Smoothing(method="none").as_dict())
    assert {"method", "onset", "offset", "min_duration_on", "reach_seconds"} <= shared
    assert set(Smoothing(method="ema").as_dict()) - shared == {"time_constant_seconds"}
    assert set(Smoothing(method="median").as_dict()) - shared == {"window_samples"}
    assert Smoothing(**Smoothing().as_dict()) == Smoothing()  # type: ignore[arg-type]
    assert set(Smoothing.__slots__) - set(Smoothing().as_dict()) == {"time_constant_seconds", "window_samples"}


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with script("smoothing") as module:
        yield module


@pytest.mark.parametrize("simulator", ["logit", "beta"])
def test_the_default_beats_each_tuned_rival(benchmark: ModuleType, simulator: str) -> None:
    grid = {"onset": (0.5, 0.7), "offset": (0.3, 0.5), "min_duration_on": (0.0, 0.3), "min_duration_off": (0.3, 1.0)}
    results = benchmark.compare(benchmark.SIMULATORS[simulator], seed=7, clips=36, grid=grid)
    totals = {name: scores[0].f1 for name, (_settings, scores) in results.items()}
    assert all(totals["hmm"] > totals[name] + 0.01 for name in ("none", "median", "ema")), totals


def test_six_series_of_fast_sampling_take_a_fraction_of_a_second() -> None:
    starts, ends = frames(14_400, rate=30)
    scores = np.clip(np.random.default_rng(0).normal(0.5, 0.3, 14_400), 0, 1)
    _, took = yards(lambda: [segments(starts, ends, scores, 0.5, Smoothing()) for _ in range(6)])
    assert took < 10  # measured: 0.7
