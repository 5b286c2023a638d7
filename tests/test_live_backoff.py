from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidmod.live.backoff import Backoff, wait_seconds


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(first=0.5, most=10.0, uniform=lambda low, high: high)
    assert [backoff.failed() for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_waits_are_drawn_from_the_upper_half() -> None:
    backoff = Backoff(first=0.5, most=10.0, uniform=lambda low, high: low)
    assert [backoff.failed() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@given(failures=st.integers(1, 10_000), seed=st.integers(0, 1000))
def test_a_wait_is_within_its_bounds(failures: int, seed: int) -> None:
    wait = wait_seconds(failures, first=0.5, most=10.0, uniform=random.Random(seed).uniform)
    assert 0.5 <= wait <= 10.0
    assert failures < 5 or wait >= 5.0


def test_many_clients_do_not_come_back_together() -> None:
    waits = {round(Backoff(uniform=random.Random(seed).uniform).failed(), 3) for seed in range(100)}
    assert len(waits) > 50
    assert max(waits) - min(waits) > 0.3


def test_success_that_lasts_starts_over() -> None:
    clock = Clock()
    backoff = Backoff(reset_after=30.0, clock=clock, uniform=lambda low, high: high)
    for _ in range(4):
        backoff.failed()
    backoff.succeeded()
    clock.now += 29.9
    assert backoff.failed() == 10.0
    backoff.succeeded()
    clock.now += 30.0
    assert backoff.failed() == 1.0


def test_success_told_often_lasts_since_the_first_time() -> None:
    clock = Clock()
    backoff = Backoff(reset_after=30.0, clock=clock, uniform=lambda low, high: high)
    backoff.failed()
    for _ in range(31):
        backoff.succeeded()
        clock.now += 1.0
    assert backoff.failures == 0


def test_a_failure_ends_a_success() -> None:
    clock = Clock()
    backoff = Backoff(reset_after=30.0, clock=clock, uniform=lambda low, high: high)
    backoff.succeeded()
    clock.now += 20
    backoff.failed()
    clock.now += 20
    backoff.succeeded()
    assert backoff.failures == 1
    assert backoff.failed() == 2.0


@pytest.mark.parametrize(
    "values", [{"first": 0.0}, {"first": 11.0}, {"most": float("inf")}, {"reset_after": -1.0}, {"first": float("nan")}]
)
def test_times_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Invalid backoff"):
        Backoff(**values)
