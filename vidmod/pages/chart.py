"""Scores over time as shapes: what of a chart needs computing.

All of it fits a viewport of 1000 x 100 that is stretched to the page's width; positions along the time axis are
percent. Of a long film each column shows the lowest and the highest score of its time, so that no peak is lost and a
page of two hours is as small as one of two minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vidmod.coverage import Covered
from vidmod.pages import words
from vidmod.policy import Category
from vidmod.timeline import Sample

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 1000, 100
_BINS = 500
_TABLE_ROWS = 48


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds to places along the axis."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """In seconds; never zero."""
        return max(self.end - self.start, 1e-6)

    def percent(self, seconds: float) -> float:
        """From 0 to 100."""
        return round(min(100.0, max(0.0, 100 * (seconds - self.start) / self.length)), 3)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time on the axis, in percent."""

    x: float
    width: float
    kind: str
    title: str
    segment: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """One category of one stream.

    Attributes:
        area: SVG path of the highest scores, down to zero.
        line: The same, without the way down.
        floor: SVG path of the lowest scores, if they are others.
        review, block: Thresholds.
        place: Which stream it is, in the order of the timeline's.
    """

    category: str
    stream: str
    area: str
    line: str
    floor: str
    review: float | None
    block: float | None
    bars: Sequence[Bar]
    place: int

    @property
    def review_y(self) -> float | None:
        """The threshold for review, from the top."""
        return None if self.review is None else round(HEIGHT * (1 - self.review), 2)

    @property
    def block_y(self) -> float | None:
        """The threshold for block, from the top."""
        return None if self.block is None else round(HEIGHT * (1 - self.block), 2)


@dataclass(frozen=True, slots=True)
class TableRow:
    """The chart in words: a stretch of time, what is known of it and the highest score of each category."""

    start: str
    end: str
    state: str
    scores: Sequence[str]


@dataclass(frozen=True, slots=True)
class Series:
    """One category's best score over a stream's samples."""

    times: Floats
    scores: Floats

    @classmethod
    def of(cls, samples: Sequence[Sample], category: Category) -> Series:
        """Of these samples, in order of time."""
        times = np.array([sample.time_seconds for sample in samples], np.float64)
        scores = np.array([category.best_label(sample.predictions)[1] for sample in samples], np.float64)
        order = np.argsort(times, kind="stable")
        return cls(times[order], scores[order])


def shapes(series: Series, coverage: Sequence[Covered], scale: Scale) -> tuple[str, str, str]:
    """SVG paths (area, line, floor) of one series; interrupted where nobody looked."""
    area, line, floor = [], [], []
    for part in _parts(series, coverage):
        x, low, high = _columns(part, scale)
        path = _path(x, high)
        line.append(path)
        area.append(f"{path}V{HEIGHT}H{_number(x[0])}Z")
        if not np.array_equal(low, high):
            floor.append(f"{_path(x, low)}V{HEIGHT}H{_number(x[0])}Z")
    return "".join(area), "".join(line), "".join(floor)


def _parts(series: Series, coverage: Sequence[Covered]) -> list[Series]:
    """The series cut at what was not looked at."""
    holes = [row for row in coverage if row.state != "analysed"]
    number = np.searchsorted(np.array([row.start_seconds for row in holes]), series.times, side="right")
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(series.times)]
    return [Series(series.times[a:b], series.scores[a:b]) for a, b in pairwise(edges) if a < b]


def _columns(series: Series, scale: Scale) -> tuple[Floats, Floats, Floats]:
    """Places along the axis, and the lowest and the highest score at each."""
    x = np.clip((series.times - scale.start) / scale.length, 0, 1) * WIDTH
    if len(x) <= _BINS:
        return x, series.scores, series.scores
    column = np.minimum((x / WIDTH * _BINS).astype(np.int64), _BINS - 1)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    low, high = np.minimum.reduceat(series.scores, first), np.maximum.reduceat(series.scores, first)
    return (column[first] + 0.5) * WIDTH / _BINS, low, high


def _path(x: Floats, scores: Floats) -> str:
    y = HEIGHT * (1 - scores)
    points = [f"{_number(a)} {_number(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    # A single picture is still to be seen.
    return f"M{points[0]}h.5" if len(points) == 1 else f"M{points[0]}L{' '.join(points[1:])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def gaps(coverage: Sequence[Covered], scale: Scale) -> list[Bar]:
    """What was not looked at, and what could not be."""
    return [
        Bar(
            x := scale.percent(row.start_seconds),
            round(max(0.15, scale.percent(row.end_seconds) - x), 3),
            row.state,
            f"{words.clock(row.start_seconds)} to {words.clock(row.end_seconds)}: "
            f"{'not looked at' if row.state == 'unsampled' else 'could not be decoded'}",
        )
        for row in coverage
        if row.state != "analysed"
    ]


def table(series: Sequence[Series], coverage: Sequence[Covered], scale: Scale) -> list[TableRow]:
    """The chart for who cannot see it: some dozens of rows, whatever the length."""
    step = next(
        (step for step in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600) if scale.length / step <= _TABLE_ROWS),
        scale.length / _TABLE_ROWS,
    )
    edges = scale.start + np.arange(int(np.ceil(scale.length / step - 1e-9)) + 1) * step
    edges[-1] = max(scale.end, edges[-2])
    rows = []
    for start, end in pairwise(edges.tolist()):
        scores = [_peak(item, start, end, is_last=end >= scale.end) for item in series]
        rows.append(TableRow(words.clock(start), words.clock(end), _state(coverage, start, end), scores))
    return rows


def _peak(series: Series, start: float, end: float, *, is_last: bool) -> str:
    first = np.searchsorted(series.times, start, side="left")
    after = len(series.times) if is_last else np.searchsorted(series.times, end, side="left")
    return f"{series.scores[first:after].max():.2f}" if after > first else "\N{EM DASH}"


def _state(coverage: Sequence[Covered], start: float, end: float) -> str:
    states = {row.state for row in coverage if row.start_seconds < end and start < row.end_seconds}
    if states == {"analysed"}:
        return "looked at"
    parts = [
        name
        for state, name in (
            ("analysed", "partly looked at"),
            ("unsampled", "not looked at"),
            ("undecodable", "could not be decoded"),
        )
        if state in states
    ]
    return words.listed(parts) or "not looked at"
