from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidmod.errors import UsageError
from vidmod.media.frame import Frame
from vidmod.sampling import EveryFrame, Sampler, Uniform, create
from vidmod.timebase import Span

BLANK = Frame.from_ndarray(np.zeros((2, 2, 3), np.uint8))

durations = st.lists(st.integers(1, 60), min_size=1, max_size=60)
intervals = st.fractions(min_value=Fraction(1, 3), max_value=80, max_denominator=6)


def given_by(sampler: Sampler[Frame], spans: list[Span]) -> list[Span]:
    frames = [dataclasses.replace(BLANK, pts=int(span.start), end_pts=int(span.end)) for span in spans]
    found = [sample for frame in frames for sample in sampler.update(frame)] + sampler.finish()
    assert sampler.finish() == []
    return [Span(frame.pts, frame.end_pts) for frame in found]


def frames_of(start: int, lengths: list[int]) -> list[Span]:
    edges = [start, *(start + total for total in accumulate(lengths))]
    return [Span(one, other) for one, other in pairwise(edges)]


@given(st.integers(-100, 100), durations, intervals)
def test_uniform_leaves_no_more_than_the_interval_unseen(start: int, lengths: list[int], interval: Fraction) -> None:
    spans = frames_of(start, lengths)
    found = given_by(Uniform(interval), spans)
    assert found[0] == spans[0]
    assert found[-1] == spans[-1]
    assert found == [span for span in spans if span in set(found)]
    assert all(other.start - one.end <= interval for one, other in pairwise(found))


@given(st.integers(-100, 100), st.integers(1, 12), st.integers(1, 80), intervals)
def test_uniform_at_constant_rate_is_the_grid(start: int, length: int, count: int, interval: Fraction) -> None:
    spans = frames_of(start, [length] * count)
    wanted = {0, count - 1}
    point = Fraction(0)
    while point < length * count:
        wanted.add(-(-point // length))
        point += interval
    assert given_by(Uniform(interval), spans) == [span for place, span in enumerate(spans) if place in wanted]


def test_a_frame_shown_for_long_between_grid_points_is_given() -> None:
    spans = frames_of(0, [1, 1, 400, 1, 1])
    assert given_by(Uniform(Fraction(50)), spans) == [spans[0], spans[2], spans[3], spans[4]]


def test_all_gives_all() -> None:
    spans = frames_of(3, [1, 5, 2])
    assert given_by(EveryFrame(), spans) == spans
    assert given_by(create("all", Fraction(25, 2)), spans) == spans


def test_nothing_in_nothing_out() -> None:
    assert given_by(Uniform(Fraction(1)), []) == []


def test_create_knows_the_modes() -> None:
    spans = frames_of(0, [1] * 26)
    sampler: Sampler[Frame] = create("uniform", Fraction(25, 2))
    assert [span.start for span in given_by(sampler, spans)] == [0, 13, 25]
    with pytest.raises(UsageError, match="Use one of uniform, adaptive, keyframes, all"):
        create("sometimes", Fraction(1))


def test_the_grid_can_begin_elsewhere() -> None:
    """A part that is decoded by itself keeps to the grid of the stream, and begins with its first frame."""
    sampler: Sampler[Frame] = create("uniform", Fraction(10), origin=0)
    assert [span.start for span in given_by(sampler, frames_of(7, [1] * 20))] == [7, 10, 20, 26]
