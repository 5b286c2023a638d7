"""The tracker: assignment and smoother against oracles, what is covered when, and that nothing leaks."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidmod.errors import UsageError
from vidmod.predictions import Box, Detection
from vidmod.tracking import (
    FrameDetections,
    FrameRegions,
    Region,
    Track,
    Tracker,
    Tracking,
    TrackRecorder,
    association,
    hidden,
    motion,
)

Floats = npt.NDArray[np.float64]
Look = tuple[Detection, ...] | None
Looks = Sequence[Look]
RATE = 30
WIDTH, HEIGHT = 1280, 720
DEFAULTS = Tracking()


def found(x: float, y: float = 300.0, size: float = 100.0, *, label: str = "FACE", score: float = 0.9) -> Detection:
    """A square detection around a centre."""
    half = size / 2
    return Detection("fake", label, score, (x - half, y - half, x + half, y + half))


def track(looks: Looks, chosen: Tracking = DEFAULTS, cuts: tuple[int, ...] = ()) -> list[FrameRegions]:
    tracker = Tracker(chosen, time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    done: list[FrameRegions] = []
    for pts, detections in enumerate(looks):
        done += tracker.update(FrameDetections(pts, pts + 1, detections, cut=pts in cuts))
    return done + tracker.finish()


def inside(inner: Box, outer: Box) -> bool:
    return all(a >= b for a, b in zip(inner[:2], outer[:2], strict=True)) and all(
        a <= b for a, b in zip(inner[2:], outer[2:], strict=True)
    )


def covered(frames: list[FrameRegions]) -> list[int]:
    return [frame.pts for frame in frames if frame.regions]


def ids(frames: list[FrameRegions]) -> set[int]:
    return {region.track for frame in frames for region in frame.regions}


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def benchmark() -> ModuleType:
    name = "benchmark_tracking"
    if name not in sys.modules:
        path = Path(__file__).parent.parent / "benchmarks" / "tracking.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


# -- association ---------------------------------------------------------------------------------------------


@st.composite
def price_tables(draw: st.DrawFn) -> Floats:
    rows = draw(st.integers(1, 5))
    columns = draw(st.integers(rows, 6))
    price = st.integers(0, 6).map(float) | st.floats(-3, 3)
    return np.array(draw(st.lists(price, min_size=rows * columns, max_size=rows * columns))).reshape(rows, columns)


@given(price_tables())
def test_assignment_is_the_cheapest_of_all(prices: Floats) -> None:
    rows, columns = prices.shape
    chosen = association.assign(prices)
    assert len(set(chosen)) == rows
    every = itertools.permutations(range(columns), rows)
    least = min(sum(prices[row, column] for row, column in enumerate(one)) for one in every)
    assert sum(prices[row, column] for row, column in enumerate(chosen)) == pytest.approx(least)


def test_assignment_of_many_ends_soon_and_is_optimal() -> None:
    rng = np.random.default_rng(1)
    prices = rng.random((120, 120))
    hidden = rng.permutation(120)
    prices[np.arange(120), hidden] = -1
    assert association.assign(prices) == hidden.tolist()


@given(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.randoms(use_true_random=False))
def test_matches_save_the_most(shape: tuple[int, int], random: Any) -> None:
    """Most pairs cannot match, so that there are groups; what a match saves is 1 less its price."""
    rows, columns = shape
    prices = np.array([random.choice([1.0, 1.0, 0.9, 0.5, 0.5, 0.1]) for _ in range(rows * columns)]).reshape(shape)
    pairs = association.matches(prices)
    assert pairs == sorted(pairs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    padded = np.ones((rows, columns + rows))
    padded[:, :columns] = prices
    every = itertools.permutations(range(columns + rows), rows)
    most = max(sum(1 - padded[row, column] for row, column in enumerate(one)) for one in every)
    assert sum(1 - prices[pair] for pair in pairs) == pytest.approx(most)
    assert all(prices[pair] < association.UNMATCHED for pair in pairs)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 1)])
def test_what_costs_as_much_as_nothing_is_no_match(shape: tuple[int, int]) -> None:
    prices = np.full(shape, association.UNMATCHED)
    assert association.matches(prices) == []
    prices[0, shape[1] - 1] = 0.5
    assert association.matches(prices) == [(0, shape[1] - 1)]


def test_one_good_match_beats_two_bad_ones() -> None:
    assert association.matches(np.array([[0.1, 0.9], [0.9, 1.0]])) == [(0, 0)]


def test_costs_prefer_the_near_the_same_size_and_the_same_label() -> None:
    here = np.array([found(300).box])
    others = [found(300), found(320), found(320, size=150), found(320), found(500)]
    same = np.array([[True, True, True, False, True]])
    prices = association.costs(
        here, np.zeros((1, 2)), np.array([one.box for one in others]), same, np.ones((1, 5), dtype=bool), DEFAULTS
    )[0]
    assert prices[0] == 0
    assert prices[0] < prices[1] < min(prices[2], prices[3])
    assert prices[4] == association.UNMATCHED


@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=2, max_size=2))
def test_overlap_is_that_of_the_pixels(corners: list[tuple[int, int, int, int]]) -> None:
    first, second = ((min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners)
    grids = np.zeros((2, 12, 12), dtype=bool)
    for grid, (x1, y1, x2, y2) in zip(grids, (first, second), strict=True):
        grid[y1:y2, x1:x2] = True
    expected = (grids[0] & grids[1]).sum() / max((grids[0] | grids[1]).sum(), 1)
    got = association.overlaps(np.array([first], dtype=float), np.array([second], dtype=float))
    assert got[0, 0] == pytest.approx(expected)


# -- motion --------------------------------------------------------------------------------------------------


def run_filter(boxes: Sequence[Box | None], gaps: list[float]) -> list[motion.Step]:
    assert boxes[0] is not None
    steps = [motion.Step(None, motion.first_state(boxes[0], 1.0, DEFAULTS), None)]
    for box, gap in zip(boxes[1:], gaps, strict=True):
        step = motion.advance(steps[-1].filtered, gap, DEFAULTS)
        if box is not None:
            step.filtered = motion.correct(step.filtered, box, 1.0, DEFAULTS)
        steps.append(step)
    return steps


def by_least_squares(values: list[float | None], gaps: list[float], size: float) -> tuple[Floats, Floats]:
    """Means and variances of a value at all times at once: every belief is a row of one linear system.

    All sizes are the same, so that the noise does not depend on what was estimated.
    """
    count = len(values)
    information, vector = np.zeros((2 * count, 2 * count)), np.zeros(2 * count)
    error = (DEFAULTS.noise * size) ** 2
    information[1, 1] += 1 / (DEFAULTS.first_speed * size) ** 2
    for index, value in enumerate(values):
        if value is not None:
            information[2 * index, 2 * index] += 1 / error
            vector[2 * index] += value / error
    for index, gap in enumerate(gaps):
        density = (DEFAULTS.manoeuvre * size) ** 2
        noise = density * np.array([[gap**3 / 3, gap**2 / 2], [gap**2 / 2, gap]])
        link: Floats = np.zeros((2, 2 * count))
        link[:, 2 * index : 2 * index + 4] = np.array([[-1, -gap, 1, 0], [0, -1, 0, 1]])
        information += link.T @ np.linalg.inv(noise) @ link
    covariance = np.linalg.inv(information)
    return (covariance @ vector)[::2], np.diag(covariance)[::2]


@given(
    st.lists(st.tuples(st.floats(-60, 60) | st.none(), st.floats(0.02, 0.8)), min_size=1, max_size=12),
    st.floats(-60, 60),
)
@settings(deadline=None)
def test_the_smoother_equals_least_squares_over_all_frames(
    rest: list[tuple[float | None, float]], first: float
) -> None:
    values, gaps = [first, *(value for value, _ in rest)], [gap for _, gap in rest]
    boxes = [None if value is None else found(500 + value).box for value in values]
    states = motion.smooth(run_filter(boxes, gaps))
    means, variances = by_least_squares([None if one is None else 500 + one for one in values], gaps, 100.0)
    assert [float(state.mean[0, 0, 0]) for state in states] == pytest.approx(means.tolist(), abs=1e-4)
    assert [float(state.cov[0, 0, 0]) for state in states] == pytest.approx(variances.tolist(), rel=1e-5)


@given(st.floats(-1, 1).filter(lambda one: abs(one) > 0.01), st.floats(0.02, 0.5))
def test_prediction_goes_both_ways_in_time(seconds: float, gap: float) -> None:
    state = motion.smooth(run_filter([found(100).box, found(130).box], [gap]))[0]
    there = motion.predict(state, seconds, DEFAULTS)
    assert motion.predict(there, -seconds, DEFAULTS).mean == pytest.approx(state.mean)
    assert (np.linalg.eigvalsh(there.cov) > 0).all()
    # Two steps know as much as one of the same length.
    halves = motion.predict(motion.predict(state, seconds / 2, DEFAULTS), seconds / 2, DEFAULTS)
    assert halves.cov[:2] == pytest.approx(there.cov[:2], rel=0.2)


def test_uncertainty_is_relative_to_the_size() -> None:
    small = motion.predict(motion.first_state(found(300, size=10).box, 1.0, DEFAULTS), 0.2, DEFAULTS)
    large = motion.predict(motion.first_state(found(300, size=100).box, 1.0, DEFAULTS), 0.2, DEFAULTS)
    assert large.side_sigmas() == pytest.approx([10 * one for one in small.side_sigmas()])


# -- what is covered, and when -------------------------------------------------------------------------------


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[FrameDetections], Tracking]:
    """Boxes anywhere, at irregular times, some frames not looked at, cuts, any settings that matter."""
    side = st.floats(-50, 400)
    label, score = st.sampled_from(["A", "B", "C"]), st.floats(0, 1)
    box = st.tuples(side, side, st.floats(0, 200), st.floats(0, 200))
    one = st.builds(
        lambda b, text, s: Detection("m", text, s, (b[0], b[1], b[0] + b[2], b[1] + b[3])), box, label, score
    )
    looks = draw(st.lists(st.none() | st.lists(one, max_size=4).map(tuple), min_size=1, max_size=25))
    frames, pts = [], draw(st.integers(-5000, 5000))
    for detections in looks:
        duration, hole = draw(st.integers(1, 400)), draw(st.sampled_from([0, 0, 0, 900]))
        frames.append(FrameDetections(pts, pts + duration, detections, cut=draw(st.integers(0, 9)) == 0))
        pts += duration + hole
    chosen = Tracking(
        look_ahead_seconds=draw(st.none() | st.floats(0, 3)),
        families=draw(st.sampled_from([None, (), (("A", "B"),)])),
        max_gap_seconds=draw(st.floats(1, 3)),
        extend_seconds=draw(st.floats(0, 0.5)),
        margin=draw(st.floats(0, 0.5)),
        sigmas=draw(st.floats(0, 3)),
    )
    return frames, chosen


@given(scenes())
@settings(deadline=None, max_examples=150)
def test_every_frame_comes_out_once_and_every_detection_is_covered(
    scene: tuple[list[FrameDetections], Tracking],
) -> None:
    frames, chosen = scene
    tracker = Tracker(chosen, time_base=Fraction(1, 1000), width=320, height=240)
    done: list[FrameRegions] = []
    for frame in frames:
        done += tracker.update(frame)
        if chosen.look_ahead_seconds is not None:  # whatever is old enough is out
            waiting = frames[len(done) :]
            assert all(one.pts > frame.pts - 1000 * chosen.look_ahead_seconds - 1 for one in waiting[:1])
    done += tracker.finish()
    assert [(one.pts, one.end_pts) for one in done] == [(one.pts, one.end_pts) for one in frames]
    for frame, out in zip(frames, done, strict=True):
        numbers = [region.track for region in out.regions]
        assert numbers == sorted(set(numbers))
        for one in frame.detections or ():
            if one.score >= chosen.high:
                assert any(region.seen and inside(one.box, region.box) for region in out.regions)
        for region in out.regions:
            assert all(math.isfinite(edge) for edge in region.box)
            assert region.seen or inside(region.box, (0, 0, 320, 240))
            assert inside(region.box, (-50, -50, 650, 650))
    assert tracker.finish() == []


@given(scenes())
@settings(deadline=None, max_examples=60)
def test_a_long_look_ahead_is_the_same_as_offline(scene: tuple[list[FrameDetections], Tracking]) -> None:
    frames, chosen = scene
    results = []
    for look_ahead in (None, 10_000.0):
        picked = replace(chosen, look_ahead_seconds=look_ahead)
        tracker = Tracker(picked, time_base=Fraction(1, 1000), width=320, height=240)
        results.append([out for frame in frames for out in tracker.update(frame)] + tracker.finish())
    assert results[0] == results[1]


def test_live_with_a_few_seconds_is_almost_offline() -> None:
    rng = np.random.default_rng(4)
    looks: Looks = [
        (found(640 + 300 * math.sin(n / 60) + rng.normal(0, 2)),) if n % 5 == 0 and rng.random() > 0.3 else None
        for n in range(600)
    ]
    offline, live = track(looks), track(looks, Tracking(look_ahead_seconds=3.0))
    assert covered(offline) == covered(live) != []
    for one, other in zip(offline, live, strict=True):
        for region, same in zip(one.regions, other.regions, strict=True):
            assert region.box == pytest.approx(same.box, abs=0.5)


def test_a_single_detection_is_covered_before_and_after() -> None:
    frames = track([()] * 30 + [(found(500),)] + [()] * 30)
    before_and_after = round(DEFAULTS.extend_seconds * RATE)
    assert covered(frames) == list(range(30 - before_and_after, 30 + before_and_after + 1))
    assert [frame.pts for frame in frames for region in frame.regions if region.seen] == [30]


def test_a_mask_is_a_fifth_larger_and_more_where_it_is_unsure() -> None:
    frames = track([(found(500),)] * 20 + [None] * 5)
    x1, _, x2, _ = frames[10].regions[0].box
    assert 120 <= x2 - x1 <= 130
    widths = [frame.regions[0].box[2] - frame.regions[0].box[0] for frame in frames[19:25]]
    assert widths == sorted(widths)
    assert widths[-1] > widths[0] + 2


def test_growth_is_bounded() -> None:
    most = 100 * (1 + 2 * DEFAULTS.max_growth + DEFAULTS.margin)
    for frame in track([None] * 30 + [(found(500),)] + [None] * 30):
        for region in frame.regions:
            assert region.box[2] - region.box[0] <= most + 1e-6


@pytest.mark.parametrize("stride", [2, 5, 15])
def test_frames_between_looks_are_covered(stride: int) -> None:
    """A thing on a smooth path: everything between the first and the last look holds the whole of it."""
    places = [400 + 250 * math.sin(n / 40) for n in range(121)]
    looks: Looks = [(found(x),) if n % stride == 0 else None for n, x in enumerate(places)]
    frames = track(looks)
    assert ids(frames) == {1}
    masked = 0.0
    for x, frame in zip(places, frames, strict=True):
        assert inside(found(x, size=95).box, frame.regions[0].box)
        x1, y1, x2, y2 = frame.regions[0].box
        masked += (x2 - x1) * (y2 - y1)
    assert masked / len(frames) / 100**2 <= 2.5


def test_misses_are_bridged_up_to_a_time_and_no_further() -> None:
    def looks(missed: int) -> Looks:
        return [(found(500),)] * 10 + [()] * missed + [(found(500),)] * 10

    most = round(DEFAULTS.max_gap_seconds * RATE)
    bridged = track(looks(most - 1))
    assert ids(bridged) == {1}
    assert covered(bridged) == list(range(len(bridged)))
    apart = track(looks(most + 1))
    assert ids(apart) == {1, 2}
    assert not apart[10 + most // 2].regions


def test_a_hole_in_the_film_is_not_bridged() -> None:
    tracker = Tracker(DEFAULTS, time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    frames = [FrameDetections(pts, pts + 1, (found(500),)) for pts in (*range(5), *range(3000, 3005))]
    done = [out for frame in frames for out in tracker.update(frame)]
    assert [frame.pts for frame in done] == list(range(5))
    assert ids(done) == {1}
    assert ids(tracker.finish()) == {2}


def test_frames_that_nobody_looked_at_are_no_misses() -> None:
    """Ten looks, all successful: covered beyond the last for little longer than a look takes."""
    sparse: list[Look] = [(found(500),) if n % 15 == 0 else None for n in range(150)]
    last = covered(track(sparse + [None] * 90))[-1]
    assert 135 + 15 <= last <= 135 + 30


def test_what_is_found_seldom_is_covered_for_longer() -> None:
    always: list[Look] = [(found(500),) if n % 5 == 0 else None for n in range(151)]
    seldom: list[Look] = [(found(500),) if n % 10 == 0 else () if n % 5 == 0 else None for n in range(151)]
    rest: list[Look] = [() if n % 5 == 4 else None for n in range(60)]
    assert covered(track(seldom + rest))[-1] > covered(track(always + rest))[-1] >= 155


def test_a_cut_ends_what_is_covered() -> None:
    looks: Looks = [()] * 10 + [(found(500),)] * 10 + [(found(500),)] * 10 + [()] * 10
    frames = track(looks, cuts=(10, 20, 30))
    assert covered(frames) == list(range(10, 30))
    assert ids(frames[10:20]) == {1}
    assert ids(frames[20:30]) == {2}


def test_a_cut_settles_what_was_before() -> None:
    tracker = Tracker(DEFAULTS, time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    for pts in range(10):
        assert tracker.update(FrameDetections(pts, pts + 1, (found(500),))) == []
    done = tracker.update(FrameDetections(10, 11, (found(500),), cut=True))
    assert [frame.pts for frame in done] == list(range(10))


def test_a_track_ends_as_it_leaves_the_picture() -> None:
    """1500 pixels a second to the right, the last time seen when it had a quarter of its width left."""
    places = [900 + 50 * n for n in range(9)]
    wide = Tracking(extend_seconds=1.0)
    frames = track([(found(x),) for x in places] + [()] * 30, wide)
    assert covered(frames)[-1] <= len(places) + 2
    assert all(region.box[2] <= WIDTH for frame in frames for region in frame.regions if not region.seen)
    slow = track([(found(600),)] * 9 + [()] * 30, wide)
    assert covered(slow)[-1] == 9 + 29


def test_what_enters_is_covered_before_it_was_found() -> None:
    """400 pixels a second from the left, found when a third of it shows; covered from its first pixels on."""
    places = [-60 + 40 / 3 * n for n in range(40)]
    looks: list[tuple[Detection, ...]] = []
    for n, x in enumerate(places):
        x1, x2 = max(x - 50, 0.0), x + 50
        looks.append((Detection("fake", "FACE", 0.9, (x1, 250.0, x2, 350.0)),) if n % 5 == 0 and x2 >= 33 else ())
    for n, frame in enumerate(track(looks)):
        shown = (max(places[n] - 50, 0.0), 250.0, places[n] + 50, 350.0)
        if shown[2] >= 20:
            box = frame.regions[0].box
            assert box[0] == 0.0 or box[0] <= shown[0]
            assert box[2] >= shown[2] - 0.05 * (shown[2] - shown[0])


def test_a_thing_at_the_border_is_covered_up_to_it_between_looks() -> None:
    """Fast and half out at every other look: what shows between reaches the border."""
    looks: Looks = [(found(100),), None, None, None, None, (Detection("fake", "FACE", 0.9, (0.0, 250.0, 30.0, 350.0)),)]
    for frame in track(looks)[1:5]:
        assert frame.regions[0].box[0] == 0.0


def test_another_thing_nearby_does_not_continue_a_track_of_known_speed() -> None:
    """The one that stands is hidden when the one that passes is beside it."""
    looks: Looks = [(found(500),)] * 20 + [(found(590),)] * 2
    assert ids(track(looks)) == {1, 2}


def test_a_fast_thing_is_one_track_although_its_boxes_never_touch() -> None:
    looks: Looks = [(found(100 + 30 * n),) if n % 5 == 0 else None for n in range(36)]
    assert ids(track(looks)) == {1}


def test_crossing_things_keep_their_numbers() -> None:
    looks: Looks = [(found(300 + 6 * n, 300), found(900 - 6 * n, 330)) for n in range(100)]
    frames = track(looks)
    assert ids(frames) == {1, 2}
    assert frames[0].regions[0].box[0] < frames[0].regions[1].box[0]
    assert frames[-1].regions[0].box[0] > frames[-1].regions[1].box[0]


# -- what is fast ---------------------------------------------------------------------------------------------


def test_a_thing_that_moves_by_its_own_size_from_look_to_look_is_one_track() -> None:
    places = [-100 + 110 * n for n in range(14)]
    looks: Looks = [(found(x),) if 0 < x < WIDTH else () for x in places]
    frames = track([(), *looks, ()] + [()] * 30)
    assert ids(frames) == {1}
    for x, frame in zip(places, frames[1:], strict=False):
        if -50 < x < WIDTH + 50:
            shown = (max(x - 50.0, 0.0), 250.0, min(x + 50.0, float(WIDTH)), 350.0)
            assert any(inside(shown, region.box) for region in frame.regions)
    assert max(covered(frames)) <= len(places) + 2


def test_a_fast_thing_that_turns_is_one_track() -> None:
    places = [*range(200, 1000, 80), *range(1000, 200, -80)]
    assert ids(track([(found(x),) for x in places])) == {1}


def test_two_that_could_both_be_it_are_neither() -> None:
    assert ids(track([(found(500),), (found(300), found(700))])) == {1, 2, 3}
    assert ids(track([(found(300), found(700)), (found(500),)])) == {1, 2, 3}


def test_what_is_much_larger_is_not_it() -> None:
    assert ids(track([(found(500),), (found(680, size=200),)])) == {1, 2}
    assert ids(track([(found(500),), (found(680, size=90),)])) == {1}


def test_looks_far_apart_join_nothing_across_a_distance() -> None:
    near: Looks = [(found(500),), None, None, (found(700),)]
    far: Looks = [(found(500),), *[None] * 5, (found(750, 480),)]
    assert ids(track(near)) == {1}
    assert ids(track(far, Tracking(first_speed=1.0))) == {1, 2}


def test_what_was_seen_once_and_never_again_is_not_taken_up_later() -> None:
    later: Looks = [(found(500),)] + [()] * 36 + [(found(600),)] * 3
    frames = track(later)
    assert ids(frames) == {1, 2}
    assert not frames[18].regions


# -- what is hidden in part -----------------------------------------------------------------------------------


def shown_beside(x: float, post: tuple[float, float]) -> tuple[Detection, ...]:
    """What a detector sees of a square thing of 100 pixels behind a post: the larger part, if that is large enough."""
    x1, x2 = x - 50, x + 50
    left, right = (x1, min(x2, post[0])), (max(x1, post[1]), x2)
    part = (x1, x2) if x2 <= post[0] or x1 >= post[1] else max(left, right, key=lambda side: side[1] - side[0])
    return (Detection("fake", "FACE", 0.9, (part[0], 250.0, part[1], 350.0)),) if part[1] - part[0] >= 30 else ()


@pytest.mark.parametrize("speed", [4, 10])
def test_what_shows_on_both_sides_of_a_post_is_covered(speed: int) -> None:
    post = (580.0, 610.0)
    places = list(range(300, 900, speed))
    looks = [shown_beside(x, post) for x in places]
    assert any(look and look[0].box[2] - look[0].box[0] < 70 for look in looks), "or there is nothing to test"
    for x, frame in zip(places, track(looks), strict=True):
        left = min(region.box[0] for region in frame.regions)
        right = max(region.box[2] for region in frame.regions)
        assert left <= x - 47
        assert right >= x + 47
        assert right - left <= 190


def test_what_leaves_is_covered_at_its_own_speed_until_it_is_out() -> None:
    """120 pixels a second, found until half of it is out: its box then shrinks, and its centre is half as fast."""
    places = [1000 + 4 * n for n in range(120)]
    looks: list[tuple[Detection, ...]] = []
    for x in places:
        box = (x - 50.0, 250.0, min(x + 50.0, float(WIDTH)), 350.0)
        looks.append((Detection("fake", "FACE", 0.9, box),) if x <= WIDTH else ())
    frames = track(looks)
    gone = next(n for n, x in enumerate(places) if x - 50 >= WIDTH)
    for x, frame in zip(places[:gone], frames, strict=False):
        assert frame.regions[0].box[0] <= x - 50
    assert gone <= covered(frames)[-1] <= gone + 8


def test_a_thing_that_comes_in_lower_than_it_seems_is_covered_whole() -> None:
    """What the border leaves of it is boxed too low: of 100 pixels, 60 at first."""
    looks: list[tuple[Detection, ...]] = []
    for n in range(40):
        right = 5.0 + 6 * n
        height = 60.0 if right < 60 else 100.0
        looks.append((Detection("fake", "FACE", 0.9, (max(right - 100, 0.0), 250.0, right, 250 + height)),))
    for n, frame in enumerate(track(looks)):
        assert frame.regions[0].box[3] >= 348, n


def test_who_left_is_not_who_comes_in_elsewhere() -> None:
    leaving: list[tuple[Detection, ...]] = [(found(1000 + 20 * n),) for n in range(14)]
    frames = track(leaving + [()] * 25 + [(found(1100, 450),)] * 10)
    assert ids(frames) == {1, 2}
    assert not frames[25].regions


def test_what_stays_at_the_border_does_not_leave() -> None:
    """Every other frame is a miss, and each asks whether the thing has left."""
    tracker = Tracker(Tracking(look_ahead_seconds=2.0), time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    for pts in range(300):
        tracker.update(FrameDetections(pts, pts + 1, (found(40),) if pts % 2 else ()))
    assert len(tracker._open) == 1


class TestCompleting:
    PICTURE = (1280.0, 720.0)

    @staticmethod
    def standing(sure: Sequence[hidden.Look], places: Sequence[int]) -> list[Box]:
        return [sure[0].box for _ in places]

    def complete(self, boxes: Sequence[Box]) -> list[Box]:
        looks = [hidden.Look(n, box, 0.8) for n, box in enumerate(boxes)]
        return [look.box for look in hidden.completed(looks, self.PICTURE, self.standing)]

    def test_whole_boxes_stay(self) -> None:
        boxes = [found(300 + n, size=100 + n % 3).box for n in range(9)]
        assert self.complete(boxes) == boxes

    def test_what_the_border_cuts_off_goes_on_beyond_it(self) -> None:
        whole: Box = (100.0, 300.0, 200.0, 420.0)
        assert self.complete([whole] * 3 + [(0.0, 300.0, 40.0, 420.0)])[-1] == (-60.0, 300.0, 40.0, 420.0)
        assert self.complete([whole] * 3 + [(1200.0, 650.0, 1280.0, 720.0)])[-1] == (1200.0, 650.0, 1300.0, 770.0)

    @pytest.mark.parametrize(
        ("part", "expected"),
        [
            ((150.0, 300.0, 200.0, 420.0), (100.0, 300.0, 200.0, 420.0)),
            ((100.0, 300.0, 160.0, 420.0), (100.0, 300.0, 200.0, 420.0)),
            ((100.0, 360.0, 200.0, 420.0), (100.0, 300.0, 200.0, 420.0)),
            ((100.0, 300.0, 200.0, 350.0), (100.0, 300.0, 200.0, 420.0)),
        ],
        ids=["left", "right", "top", "bottom"],
    )
    def test_what_something_in_front_hides_is_the_side_that_is_missing(self, part: Box, expected: Box) -> None:
        assert self.complete([(100.0, 300.0, 200.0, 420.0)] * 6 + [part])[-1] == pytest.approx(expected)

    def test_a_part_is_believed_less(self) -> None:
        looks = [hidden.Look(n, (100.0, 300.0, 200.0, 420.0), 0.8) for n in range(6)]
        looks.append(hidden.Look(6, (150.0, 300.0, 200.0, 420.0), 0.8))
        scores = [look.score for look in hidden.completed(looks, self.PICTURE, self.standing)]
        assert scores[:6] == [0.8] * 6
        assert scores[6] < 0.8

    def test_of_what_is_never_whole_the_largest_part_counts(self) -> None:
        boxes: list[Box] = [(0.0, 300.0, 10.0 * n, 420.0) for n in range(1, 9)]
        assert self.complete(boxes)[0] == (-70.0, 300.0, 10.0, 420.0)


# -- labels and scores ---------------------------------------------------------------------------------------


def test_a_label_that_flips_is_one_track_of_the_stronger_label() -> None:
    frames = track([(found(500, label="MALE" if n % 4 == 1 else "FEMALE"),) for n in range(20)])
    assert ids(frames) == {1}
    assert {region.label for frame in frames for region in frame.regions} == {"FEMALE"}


def test_labels_of_other_families_are_other_things() -> None:
    looks: Looks = [(found(500, label="FEMALE" if n % 2 else "MALE"), found(500, label="FEET")) for n in range(20)]
    assert ids(track(looks, Tracking(families=(("FEMALE", "MALE"),)))) == {1, 2}
    assert ids(track(looks, Tracking(families=()))) == {1, 2, 3}


def test_a_family_without_detections_of_its_own_is_not_continued() -> None:
    looks: Looks = [(found(500, label="FEET"),)] + [(found(500, label="FACE"),)] * 3
    assert ids(track(looks, Tracking(families=()))) == {1, 2}


def test_of_two_near_things_each_keeps_its_label() -> None:
    looks: Looks = [(found(500, label="A"), found(530, label="B")), (found(515, label="B"), found(516, label="A"))]
    labels = {region.track: region.label for region in track(looks)[1].regions}
    assert labels == {1: "A", 2: "B"}


def test_a_second_box_of_the_same_thing_is_covered_without_a_second_track() -> None:
    second = Detection("fake", "MALE", 0.5, (445.0, 245.0, 553.0, 353.0))
    frames = track([(found(500, label="FEMALE"), second)] * 5)
    assert ids(frames) == {1}
    assert all(inside(second.box, frame.regions[0].box) for frame in frames)


def test_low_scores_continue_tracks_but_start_none() -> None:
    weak = found(500, score=0.2)
    assert ids(track([(weak,)] * 20)) == set()
    frames = track([(found(500),)] + [(weak,)] * 20)
    assert [frame.regions[0].seen for frame in frames] == [True] * 21
    assert [frame.regions[0].score for frame in frames] == [0.9] + [0.2] * 20
    below = track([(found(500),)] + [(found(500, score=0.05),)] * 20)
    assert [region.seen for frame in below for region in frame.regions].count(True) == 1


def test_weak_detections_before_the_first_sure_one_begin_its_track() -> None:
    """They are where it was going: from the left, 10 pixels a frame."""
    looks: list[tuple[Detection, ...]] = [()] * 30
    looks += [(found(400 + 10 * n, score=0.3 if n < 12 else 0.9),) for n in range(24)]
    frames = track(looks)
    assert ids(frames) == {1}
    for n in range(24):
        assert frames[30 + n].regions[0].seen
        assert inside(found(400 + 10 * n).box, frames[30 + n].regions[0].box)
    assert covered(frames)[0] < 30
    other = track([(found(900, 600, score=0.3),)] * 12 + [(found(400),)] * 5)
    assert all(region.box[2] < 700 for frame in other for region in frame.regions)


def test_sure_detections_choose_first() -> None:
    frames = track([(found(500),), (found(500, score=0.3, size=104), found(506, score=0.9))])
    assert [region.score for region in frames[1].regions] == [0.9]


# -- steadiness, time and memory -----------------------------------------------------------------------------


def test_masks_tremble_at_most_half_as_much_as_boxes() -> None:
    rng = np.random.default_rng(2)
    places = [300 + 2 * n for n in range(200)]
    boxes = [tuple((np.array(found(x).box) + rng.normal(0, 3, 4)).tolist()) for x in places]
    frames = track([(Detection("fake", "FACE", 0.9, box),) for box in boxes])
    raw = np.diff(np.array([centre(box) for box in boxes]), n=2, axis=0)
    masks = np.diff(np.array([centre(frame.regions[0].box) for frame in frames]), n=2, axis=0)
    assert np.hypot(*masks.T).mean() <= np.hypot(*raw.T).mean() / 2


def test_masks_of_what_trembles_little_are_smaller() -> None:
    def width(noise: float) -> float:
        rng = np.random.default_rng(3)
        boxes = [tuple((np.array(found(300 + 2 * n).box) + rng.normal(0, noise, 4)).tolist()) for n in range(100)]
        frames = track([(Detection("fake", "FACE", 0.9, box),) if n % 3 else () for n, box in enumerate(boxes)])
        return float(np.mean([frame.regions[0].box[2] - frame.regions[0].box[0] for frame in frames[12:-10:3]]))

    assert 120 < width(0.3) < width(8.0) - 4


def test_open_state_is_bounded_when_live() -> None:
    tracker = Tracker(Tracking(look_ahead_seconds=1.0), time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    for pts in range(1500):
        tracker.update(FrameDetections(pts, pts + 1, (found(500 + 200 * math.sin(pts / 50)),)))
        assert len(tracker._waiting) <= RATE + 1
        assert all(len(one.steps) == len(one.raw) <= RATE + 1 for one in tracker._open)
    assert len(tracker._open) == 1


def test_without_anything_to_cover_little_waits() -> None:
    tracker = Tracker(DEFAULTS, time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    for pts in range(500):
        tracker.update(FrameDetections(pts, pts + 1, ()))
        assert len(tracker._waiting) <= DEFAULTS.max_extend_seconds * RATE + 1


def test_time_is_what_the_time_base_says() -> None:
    """The same film in other units, from another start, and with frames of unequal length."""
    starts = np.cumsum([0, *([1, 2, 1, 4] * 10)])
    expected: list[list[Box]] | None = None
    for unit, offset in ((1, 0), (512, 9000)):
        tracker = Tracker(DEFAULTS, time_base=Fraction(1, RATE * unit), width=WIDTH, height=HEIGHT)
        done: list[FrameRegions] = []
        for start, end in itertools.pairwise(starts.tolist()):
            look = (found(300 + 5 * start),) if start % 3 == 0 else None
            done += tracker.update(FrameDetections(offset + start * unit, offset + end * unit, look))
        boxes = [[region.box for region in frame.regions] for frame in done + tracker.finish()]
        if expected is not None:
            assert np.array(boxes) == pytest.approx(np.array(expected), abs=1e-3)
        expected = boxes
    assert expected is not None
    for start, (box,) in zip(starts.tolist(), expected, strict=False):
        assert inside(found(300 + 5 * start).box, box)


def test_numbers_belong_to_the_tracker() -> None:
    looks: Looks = [(found(300), found(700))] * 3
    assert ids(track(looks)) == ids(track(looks)) == {1, 2}


def test_frames_come_in_order() -> None:
    tracker = Tracker(Tracking(look_ahead_seconds=0.0), time_base=Fraction(1, RATE), width=WIDTH, height=HEIGHT)
    assert len(tracker.update(FrameDetections(5, 6, ()))) == 1
    with pytest.raises(ValueError, match="Invalid pts"):
        tracker.update(FrameDetections(5, 6, ()))


# -- tracks for the timeline ---------------------------------------------------------------------------------


def test_tracks_hold_all_regions_and_become_json() -> None:
    recorder = TrackRecorder(Fraction(1, RATE))
    frames = track([(found(300.123),), None, (found(300.123), found(800, label="FEET"))])
    recorder.add(frames)
    first, second = recorder.tracks()
    assert [pts for pts, _ in first.boxes] == [0, 1, 2]
    assert (first.label, second.label) == ("FACE", "FEET")
    assert (first.start_pts, first.end_pts) == (0, 3)
    document = first.as_json()
    assert document["id"] == "t1"
    assert (document["start_seconds"], document["end_seconds"]) == (0.0, 0.1)
    for (pts, box), entry in zip(first.boxes, document["boxes"], strict=True):
        assert (entry["pts"], entry["time_seconds"]) == (pts, round(pts / RATE, 6))
        assert inside(box, tuple(entry["box"]))
        assert entry["box"] == pytest.approx(box, abs=0.011)


def test_a_track_without_frames_in_between_has_its_label_by_majority() -> None:
    recorder = TrackRecorder(Fraction(1, 2))
    box = (0.0, 0.0, 1.0, 1.0)
    recorder.add(FrameRegions(n, n + 1, (Region(7, label, 0.5, box, True),)) for n, label in enumerate("ABB"))
    assert recorder.tracks() == [Track(7, "B", Fraction(1, 2), 0, 3, ((0, box), (1, box), (2, box)))]


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("high", 1.5),
        ("low", -0.1),
        ("low", 0.9),
        ("margin", -1),
        ("margin", math.nan),
        ("noise", 0),
        ("noise", True),
        ("sigmas", "2"),
        ("miss_chance", 1),
        ("max_gap_seconds", math.inf),
        ("extend_seconds", 1.5),
        ("max_extend_seconds", 5.0),
        ("look_ahead_seconds", -1),
        ("families", (("A", "B"), ("B", "C"))),
    ],
)
def test_wrong_settings_are_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"Invalid {field} "):
        Tracking(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("time_base", Fraction(0)), ("width", 0), ("height", -5)])
def test_a_tracker_needs_a_picture_and_a_time_base(field: str, value: Any) -> None:
    good: dict[str, Any] = {"time_base": Fraction(1, 25), "width": 10, "height": 10}
    with pytest.raises(UsageError, match=f"Invalid {field} "):
        Tracker(DEFAULTS, **{**good, field: value})


def test_frames_are_checked() -> None:
    with pytest.raises(ValueError, match="Invalid end_pts"):
        FrameDetections(5, 5)
    with pytest.raises(ValueError, match="Invalid box"):
        FrameDetections(5, 6, (Detection("m", "A", 0.5, (0.0, 0.0, math.inf, 1.0)),))


def test_settings_go_into_the_provenance() -> None:
    assert Tracking(**Tracking(families=(("A", "B"),)).as_dict()).families == (("A", "B"),)  # type: ignore[arg-type]


# -- simulated truth -----------------------------------------------------------------------------------------


def test_nothing_leaks_when_every_frame_is_looked_at() -> None:
    simulated = benchmark()
    score = simulated.Score()
    for number in range(3):
        clip = simulated.simulate((1, number))
        score.add(clip, simulated.vidmod(clip, simulated.degrade(clip, 1, 0.0, np.random.default_rng(1))))
    assert score.leaks == 0
    assert score.masked / score.true <= 2.5


def test_little_leaks_at_every_fifth_frame_and_a_third_missed() -> None:
    simulated = benchmark()
    ours, raw = simulated.Score(), simulated.Score()
    for seed in (11, 12):
        clip = simulated.simulate((seed, 0))
        looks = simulated.degrade(clip, 5, 0.3, np.random.default_rng(1))
        ours.add(clip, simulated.vidmod(clip, looks))
        raw.add(clip, simulated.raw_boxes(clip, looks))
    assert ours.leaks <= raw.leaks / 10
    assert ours.masked / ours.true <= 2.5
    assert np.mean(ours.jitters) <= np.mean(raw.jitters) / 2


@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=5))
def test_the_benchmark_measures_area(corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    grid = np.zeros((12, 12), dtype=bool)
    for x1, y1, x2, y2 in boxes:
        grid[y1:y2, x1:x2] = True
    assert benchmark().covered_area((2, 3, 9, 11), boxes) == grid[3:11, 2:9].sum()
