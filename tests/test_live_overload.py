"""What a live filter gives up, and when it takes it back."""

from __future__ import annotations

import pytest

from vidmod.live.filtering.overload import LEVELS, Overload

STEP = 1 / 30


def levels(lags: list[tuple[float, float]]) -> list[int]:
    """The level at the end of each stretch of so many seconds at so much lag."""
    overload, now, found = Overload(), 0.0, []
    for lag, seconds in lags:
        for _ in range(round(seconds / STEP)):
            now += STEP
            overload.observe(lag, now)
        found.append(overload.level)
    return found


def test_nothing_is_given_up_in_time() -> None:
    assert levels([(0.0, 60), (0.03, 60)]) == [0, 0]


def test_looks_go_first_then_effort_then_pictures() -> None:
    assert levels([(0.05, 5), (0.1, 5), (0.2, 5)]) == [1, 2, 3]
    assert LEVELS[1:] == ("looks", "effort", "pictures")


@pytest.mark.parametrize("lag", [0.5, 5.0])
def test_what_is_hopeless_has_all_given_up_at_once(lag: float) -> None:
    assert levels([(lag, 2 * STEP)]) == [3]


def test_what_was_given_up_comes_back_step_by_step() -> None:
    assert levels([(0.2, 5), (0.0, 6), (0.0, 5), (0.0, 5)]) == [3, 2, 1, 0]


def test_what_came_back_too_soon_stays_away_longer() -> None:
    overload, now = Overload(), 0.0
    lasted = []
    for _ in range(4):
        while overload.level == 0:
            now += STEP
            overload.observe(0.06, now)
        since = now
        while overload.level:
            now += STEP
            overload.observe(0.0, now)
        lasted.append(now - since)
    assert lasted == sorted(lasted)
    assert lasted[-1] > 1.8 * lasted[1]
    assert lasted[-1] <= 61
