"""What was looked at: every span of a stream is analysed, unsampled or undecodable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vidmod.timebase import Span, complement, to_seconds, union

State = Literal["analysed", "unsampled", "undecodable"]


@dataclass(frozen=True, slots=True)
class Covered:
    """A span of presentation time, half open, and what is known of it."""

    start_seconds: float
    end_seconds: float
    state: State


def account(
    extent: Span,
    samples: Iterable[Span],
    holes: Sequence[Span],
    max_gap: int,
    time_base: Fraction,
    *,
    open_end: bool = False,
) -> list[Covered]:
    """Tile `extent` with states, all in units of `time_base`.

    Args:
        extent: The stream's presentation time.
        samples: How long each analysed frame is shown, in order.
        holes: Where frames were lost.
        max_gap: Two samples no further apart than this vouch for what lies between them.
        time_base: Seconds per unit.
        open_end: The last sample vouches for as much after it; else what follows it is unsampled.

    Returns:
        Spans that touch, from the extent's start to its end; none is empty, so what is shorter
        than the microsecond that seconds are rounded to has none.
    """
    undecodable = _clipped(union(holes), extent)
    seen_and_end = [*samples, Span(extent.end, extent.end + 1)] if open_end else samples
    seen = _clipped(union(seen_and_end, gap=max_gap), extent)
    analysed = [part for span in seen for part in complement(undecodable, span)]
    unsampled = complement([*undecodable, *analysed], extent)
    rows: list[tuple[Span, State]] = [(span, "undecodable") for span in undecodable]
    rows += [(span, "analysed") for span in analysed]
    rows += [(span, "unsampled") for span in unsampled]
    covered = [
        Covered(to_seconds(int(span.start), time_base), to_seconds(int(span.end), time_base), state)
        for span, state in sorted(rows, key=lambda row: row[0])
    ]
    return [row for row in covered if row.start_seconds < row.end_seconds]


def _clipped(spans: Iterable[Span], extent: Span) -> list[Span]:
    return [
        Span(max(span.start, extent.start), min(span.end, extent.end))
        for span in spans
        if span.start < extent.end and span.end > extent.start
    ]


def seconds_of(coverage: Iterable[Covered], state: State) -> float:
    """How much presentation time is in that state, in seconds."""
    return sum(span.end_seconds - span.start_seconds for span in coverage if span.state == state)
