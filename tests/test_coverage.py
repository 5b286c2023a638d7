from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vidmod.coverage import account, seconds_of
from vidmod.timebase import Span

SECOND = Fraction(1)


def states(extent: Span, samples: list[Span], holes: list[Span], max_gap: int) -> dict[int, str]:
    """The state of every unit, worked out one unit at a time."""
    found = dict.fromkeys(range(int(extent.start), int(extent.end)), "unsampled")
    for one, other in pairwise(sorted(samples)):
        if other.start - one.end <= max_gap:
            found |= {unit: "analysed" for unit in range(int(one.end), int(other.start)) if unit in found}
    for span in samples:
        found |= {unit: "analysed" for unit in range(int(span.start), int(span.end)) if unit in found}
    for span in holes:
        found |= {unit: "undecodable" for unit in range(int(span.start), int(span.end)) if unit in found}
    return found


@st.composite
def disjoint(draw: st.DrawFn) -> list[Span]:
    """Spans in order that do not overlap, as frames are."""
    edges = sorted(draw(st.sets(st.integers(-10, 70), max_size=16)))
    return [Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False)]


holes_anywhere = st.lists(
    st.tuples(st.integers(-20, 80), st.integers(0, 15)).map(lambda pair: Span(pair[0], pair[0] + pair[1])), max_size=5
)


@given(st.integers(0, 20), st.integers(0, 60), disjoint(), holes_anywhere, st.integers(0, 8))
def test_every_unit_has_one_state_and_the_right_one(
    start: int, length: int, samples: list[Span], holes: list[Span], max_gap: int
) -> None:
    extent = Span(start, start + length)
    rows = account(extent, samples, holes, max_gap, SECOND)
    assert all(row.start_seconds < row.end_seconds for row in rows)
    assert all(one.end_seconds == other.start_seconds for one, other in pairwise(rows))
    found = {unit: row.state for row in rows for unit in range(int(row.start_seconds), int(row.end_seconds))}
    assert found == states(extent, samples, holes, max_gap)
    assert sum(seconds_of(rows, state) for state in ("analysed", "unsampled", "undecodable")) == length


@given(st.integers(1, 5000), st.sampled_from([Fraction(1, 10**9), Fraction(1, 90_000), Fraction(1001, 30_000)]))
def test_no_span_is_empty_in_seconds(units: int, time_base: Fraction) -> None:
    rows = account(Span(0, 3 * units), [Span(0, units)], [Span(2 * units, 2 * units + 1)], 0, time_base)
    assert all(row.start_seconds < row.end_seconds for row in rows)
    assert all(one.end_seconds == other.start_seconds for one, other in pairwise(rows))


def test_samples_vouch_only_for_short_gaps() -> None:
    rows = account(Span(0, 30), [Span(0, 1), Span(11, 12), Span(23, 24)], [Span(5, 6)], 10, SECOND)
    assert [(row.start_seconds, row.end_seconds, row.state) for row in rows] == [
        (0, 5, "analysed"),
        (5, 6, "undecodable"),
        (6, 12, "analysed"),
        (12, 23, "unsampled"),
        (23, 24, "analysed"),
        (24, 30, "unsampled"),
    ]


def test_nothing_to_account_for() -> None:
    assert account(Span(5, 5), [Span(5, 6)], [Span(4, 7)], 1, SECOND) == []
