"""What a live filter gives up, and when it takes it back."""

from __future__ import annotations

import pytest

from vidmod.live.filtering.overload import LEVELS, Overload

STEP, MOST = 1 / 30, 0.25 - 1 / 30


def levels(lags: list[tuple[float, float]]) -> list[int]:
    """The level at the end of each stretch of so many seconds at so much lag."""
    overload, now, found = Overload(MOST), 0.0, []
    for lag, seconds in lags:
        for _ in range(round(seconds / STEP)):
            now += STEP
            overload.observe(lag, now)
        found.append(overload.level)
    return found


def test_nothing_is_given_up_in_time() -> None:
    assert levels([(0.0, 60), (0.04, 60)]) == [0, 0]


def test_looks_go_first_then_effort_then_pictures() -> None:
    assert levels([(0.06, 5), (0.1, 5), (0.2, 5)]) == [1, 2, 3]
    assert LEVELS[1:] == ("looks", "effort", "pictures")


def test_looks_go_further_apart_step_by_step_and_come_closer_again() -> None:
    overload, now, apart = Overload(MOST), 0.0, []
    for lag, seconds in ((0.06, 3), (0.0, 12)):
        for _ in range(round(seconds / STEP)):
            now += STEP
            overload.observe(lag, now)
            apart.append(overload.apart)
    further, closer = apart[: round(3 / STEP)], apart[round(3 / STEP) :]
    assert further == sorted(further)
    assert sorted(set(further)) == pytest.approx([0.06, 0.12, MOST])
    assert closer == sorted(closer, reverse=True)
    assert len(set(closer)) >= 5
    assert closer[-1] == 0.0


def test_one_hiccup_costs_a_few_looks() -> None:
    overload, now = Overload(MOST), 0.0
    for number in range(90):
        now += STEP
        overload.observe(0.06 if number == 10 else 0.0, now)
    assert overload.level == 0
    assert overload.apart == 0.0


@pytest.mark.parametrize("lag", [0.5, 5.0])
def test_what_is_hopeless_has_all_given_up_at_once(lag: float) -> None:
    assert levels([(lag, 2 * STEP)]) == [3]


def test_what_was_given_up_comes_back_step_by_step() -> None:
    assert levels([(0.2, 5), (0.0, 6), (0.0, 5), (0.0, 5)]) == [3, 2, 1, 0]


def test_what_came_back_too_soon_stays_away_longer() -> None:
    overload, now = Overload(MOST), 0.0
    lasted = []
    for _ in range(4):
        while overload.level < 2:
            now += STEP
            overload.observe(0.1, now)
        since = now
        while overload.level >= 2:
            now += STEP
            overload.observe(0.0, now)
        lasted.append(now - since)
    assert lasted == sorted(lasted)
    assert lasted[-1] > 1.8 * lasted[1]
    assert lasted[-1] <= 61
