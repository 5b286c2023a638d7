"""Presentation time: integer pts in a Fraction time base, half-open spans, timecodes.

Seconds are derived once, at the edge, for people and JSON. The vocabulary is FFmpeg's.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter

from vidmod.errors import UsageError

_TIMECODE = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)")


def to_seconds(pts: int | Fraction, time_base: Fraction) -> float:
    """Seconds of presentation time, rounded to the microsecond."""
    return round(float(pts * time_base), 6)


def to_pts(seconds: Fraction, time_base: Fraction) -> int:
    """The first pts at or after `seconds`."""
    return -((-seconds) // time_base)


def parse_time(text: str) -> Fraction:
    """Read seconds (`90`, `90.5`) or a timecode (`1:30`, `00:01:30.500`) exactly.

    Raises:
        UsageError: The text is neither.
    """
    match = _TIMECODE.fullmatch(text.strip())
    if match is None or (match[2] is not None and Fraction(match[3]) >= 60):
        raise UsageError(f"Invalid time ({text!r}). Use seconds (90.5) or HH:MM:SS.mmm (00:01:30.500).")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(seconds)


def format_time(seconds: float) -> str:
    """Write seconds as `H:MM:SS.mmm`, or `M:SS.mmm` below an hour."""
    sign = "-" if seconds < 0 else ""
    milliseconds = round(abs(seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 1000:02d}.{rest % 1000:03d}"
    return f"{sign}{hours}:{minutes:02d}:{tail}" if hours else f"{sign}{minutes}:{tail}"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open interval [start, end) in one unit: pts of one time base, or seconds.

    Raises:
        ValueError: The end lies before the start.
    """

    start: int | float
    end: int | float

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"Invalid span [{self.start}, {self.end}). The end must not lie before the start.")

    @property
    def length(self) -> int | float:
        """End minus start, in the span's unit."""
        return self.end - self.start


def union(spans: Iterable[Span], gap: int | float = 0) -> list[Span]:
    """Sorted, disjoint spans that cover the same time; holes up to `gap` are closed."""
    merged: list[Span] = []
    for span in sorted(spans):
        if span.start == span.end:
            continue
        if merged and span.start <= merged[-1].end + gap:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def complement(spans: Iterable[Span], within: Span) -> Iterator[Span]:
    """The parts of `within` that no span covers, in order."""
    start = within.start
    for span in union(spans):
        if span.start >= within.end:
            break
        if span.start > start:
            yield Span(start, span.start)
        start = max(start, span.end)
    if start < within.end:
        yield Span(start, within.end)


def overlaps(spans: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether [start, end) overlaps any of some sorted, disjoint spans."""
    place = bisect_right(spans, start, key=itemgetter(0)) - 1
    if place >= 0 and spans[place][1] > start:
        return True
    return place + 1 < len(spans) and spans[place + 1][0] < end


def is_within(spans: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether [start, end) lies within one of some sorted, disjoint spans."""
    place = bisect_right(spans, start, key=itemgetter(0)) - 1
    return place >= 0 and spans[place][1] >= end
