from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidmod.errors import UsageError
from vidmod.timebase import Span, complement, format_time, parse_time, to_pts, to_seconds, union

spans = st.lists(
    st.tuples(st.integers(-60, 60), st.integers(0, 20)).map(lambda pair: Span(pair[0], pair[0] + pair[1])), max_size=12
)


def units(rows: list[Span]) -> set[int]:
    """The whole units that spans of integers cover."""
    return {unit for span in rows for unit in range(int(span.start), int(span.end))}


@given(spans, st.integers(0, 6))
def test_union_covers_the_same_and_closes_small_holes(rows: list[Span], gap: int) -> None:
    merged = union(rows, gap)
    assert all(span.start < span.end for span in merged)
    assert all(one.end + gap < other.start for one, other in pairwise(merged))
    assert units(rows) <= units(merged)
    if gap == 0:
        assert units(rows) == units(merged)
    edges = {span.start for span in rows} | {span.end for span in rows}
    assert {span.start for span in merged} | {span.end for span in merged} <= edges
    assert union(merged, gap) == merged


@given(spans, st.integers(-70, 70), st.integers(0, 80))
def test_complement_is_the_rest(rows: list[Span], start: int, length: int) -> None:
    within = Span(start, start + length)
    rest = list(complement(rows, within))
    assert units(rest) == units([within]) - units(rows)
    assert rest == union(rest)


def test_a_span_does_not_run_backward() -> None:
    assert Span(1, 1).length == 0
    with pytest.raises(ValueError, match="must not lie before"):
        Span(2, 1)


@given(st.integers(-(10**9), 10**9), st.sampled_from([Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 90000)]))
def test_seconds_and_back(pts: int, time_base: Fraction) -> None:
    assert to_pts(pts * time_base, time_base) == pts
    assert to_pts(pts * time_base - time_base / 2, time_base) == pts
    assert abs(to_seconds(pts, time_base) - pts * time_base) <= 1e-6


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90.5", Fraction(181, 2)),
        ("1:30", 90),
        ("00:01:30.500", Fraction(181, 2)),
        ("100:00:00", 360_000),
        (" 0 ", 0),
    ],
)
def test_times_are_read_exactly(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:2:3:4", "60:00:61", "x", "1e3", "1.", ".5", "nan", "1:90:00"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Invalid time"):
        parse_time(text)


@given(st.integers(0, 10**9))
def test_a_written_time_can_be_read(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds / 1000)) == Fraction(milliseconds, 1000)


def test_how_times_are_written() -> None:
    assert [format_time(value) for value in (0, 59.9996, 3661.25, -1.5)] == [
        "0:00.000",
        "1:00.000",
        "1:01:01.250",
        "-0:01.500",
    ]
