"""From a source's times to the times at which its frames leave."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidmod.live.filtering.arrivals import Arrivals, Placed

DELAY, STEP = 1.0, 1 / 30


def test_frames_leave_evenly_whatever_the_network_does() -> None:
    arrivals, chance = Arrivals(DELAY), random.Random(1)
    placed = [arrivals.frame(n * STEP, 100 + n * STEP + chance.uniform(0, 0.2)) for n in range(300)]
    # At first it is still being found out when they should come.
    dues = [row.due for row in placed[100:] if row is not None]
    assert len(dues) == 200
    assert [row.is_cut for row in placed if row is not None][:1] == [True]
    assert not any(row.is_cut for row in placed[100:] if row is not None)
    gaps = [b - a for a, b in itertools.pairwise(dues)]
    assert max(abs(gap - STEP) for gap in gaps) < 1e-3
    assert dues[0] == pytest.approx(101 + 100 * STEP, abs=0.05)


def test_a_clock_that_runs_slow_is_followed() -> None:
    arrivals, rate = Arrivals(DELAY), 1 - 100e-6
    # Three hours, in which it loses more than a second.
    dues = [(n * 0.5, arrivals.frame(n * 0.5 * rate, n * 0.5)) for n in range(3 * 7200)]
    assert all(row is not None and not row.is_cut for _, row in dues[1:])
    delays = [row.due - now for now, row in dues if row is not None]
    assert max(delays) - min(delays) < 0.05


@pytest.mark.parametrize(
    ("time", "now"), [(0.0, 105.1), (4.9, 105.1), (60.0, 105.1), (5.1, 105.9), (6.0, 105.1)], ids=str
)
def test_what_does_not_follow_is_placed_anew(time: float, now: float) -> None:
    arrivals = Arrivals(DELAY)
    for n in range(151):
        arrivals.frame(n * STEP, 100 + n * STEP)
    placed = arrivals.frame(time, now)
    assert placed == Placed(now + DELAY, True)
    following = arrivals.frame(time + STEP, now + STEP)
    assert following is not None
    assert not following.is_cut
    assert following.due == pytest.approx(now + STEP + DELAY)


def test_a_cut_is_told_though_its_first_frame_cannot_be_shown() -> None:
    arrivals = Arrivals(DELAY)
    arrivals.frame(0.0, 100.0)
    assert arrivals.frame(50.0, 100.0) is None
    assert arrivals.frame(50.0 + STEP, 100.0 + STEP) == Placed(50.0 + STEP - 50.0 + 101.0, True)


def test_after_a_loss_all_begins_anew() -> None:
    arrivals = Arrivals(DELAY)
    arrivals.frame(0.0, 100.0)
    arrivals.lose()
    assert arrivals.sound(0.1, 100.1) is None
    assert arrivals.frame(0.1, 100.1) == Placed(101.1, True)


def test_sound_goes_with_its_pictures() -> None:
    arrivals = Arrivals(DELAY)
    assert arrivals.sound(5.0, 100.0) is None
    arrivals.frame(5.0, 100.0)
    assert arrivals.sound(5.25, 100.2) == pytest.approx(101.25)
    assert arrivals.sound(0.0, 100.2) is None
    assert arrivals.sound(50.0, 100.2) is None


TIMES = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 5)), max_size=60)


@given(TIMES)
def test_times_that_leave_only_grow_and_never_lie_behind_the_clock_by_much(rows: list[tuple[float, float]]) -> None:
    arrivals, now, last = Arrivals(DELAY), 0.0, float("-inf")
    for time, passed in rows:
        now += passed
        placed = arrivals.frame(time, now)
        if placed is not None:
            assert placed.due > last
            assert now + DELAY / 2 - 1e-6 <= placed.due <= now + DELAY + 0.5 + 1e-6
            last = placed.due


def test_a_burst_at_the_beginning_does_not_delay_what_follows() -> None:
    arrivals = Arrivals(1.0)
    # A second and a half that waited, nearly all at once.
    placed = [arrivals.frame(number / 30, 100.0 + number * 2e-4) for number in range(45)]
    shown = [row for row in placed if row is not None]
    assert all(after.due - before.due >= 0.004 for before, after in itertools.pairwise(shown))
    assert len(shown) <= 4
    rows = []
    for number in range(45, 105):
        now = 100.0 + 44 * 2e-4 + (number - 44) / 30
        row = arrivals.frame(number / 30, now)
        assert row is not None
        assert row.due == pytest.approx(now + 1.0)
        rows.append(row.is_cut)
    # What was left out is no motion.
    assert rows[0]
    assert not any(rows[1:])
