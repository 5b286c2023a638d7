"""Which detection continues which track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vidmod.tracking.settings import Tracking

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# What it costs to leave a track and a detection unmatched; no match costs more.
UNMATCHED: Final = 1.0
_OVERLAP_WEIGHT: Final = 0.4
_DISTANCE_WEIGHT: Final = 0.4
_SIZE_WEIGHT: Final = 0.2


def overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every box with every other.

    Args:
        first: float64[N, 4], boxes (x1, y1, x2, y2).
        second: float64[M, 4], the same.

    Returns:
        float64[N, M], in [0, 1]; 0 for boxes without area.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    total = _areas(first)[:, None] + _areas(second)[None, :] - shared
    return np.asarray(shared / np.maximum(total, 1e-9), dtype=np.float64)


def costs(
    boxes: Floats, sigmas: Floats, found: Floats, same_label: Bools, allowed: Bools, settings: Tracking
) -> Floats:
    """Price every match of a track with a detection.

    The price grows with the distance of the centres (1 is as far as a detection may be: `gate_size` of the mean
    size and `gate_sigmas` standard errors), with missing overlap and with the difference in area.

    Args:
        boxes: float64[N, 4], where the tracks should be.
        sigmas: float64[N, 2], standard errors of their centres along x and y.
        found: float64[M, 4], the detections.
        same_label: bool[N, M], whether the labels are the same.
        allowed: bool[N, M], whether the labels may belong to the same thing.
        settings: Gate and penalty.

    Returns:
        float64[N, M], in [0, 1]; `UNMATCHED` for what cannot match.
    """
    away = (boxes[:, None, :2] + boxes[:, None, 2:] - found[None, :, :2] - found[None, :, 2:]) / 2
    sizes = (boxes[:, None, 2:] - boxes[:, None, :2] + found[None, :, 2:] - found[None, :, :2]) / 2
    reach = np.maximum(settings.gate_size * sizes + settings.gate_sigmas * sigmas[:, None, :], 1.0)
    distance = np.hypot(away[..., 0] / reach[..., 0], away[..., 1] / reach[..., 1])
    areas, other = np.maximum(_areas(boxes), 1.0)[:, None], np.maximum(_areas(found), 1.0)[None, :]
    ratio = np.minimum(areas, other) / np.maximum(areas, other)
    price = _OVERLAP_WEIGHT * (1 - overlaps(boxes, found)) + _DISTANCE_WEIGHT * distance + _SIZE_WEIGHT * (1 - ratio)
    price = price * (1 - settings.label_penalty) + settings.label_penalty * ~same_label
    return np.asarray(
        np.where(allowed & (distance <= 1), np.minimum(price, UNMATCHED), UNMATCHED),
        dtype=np.float64,
    )


def matches(prices: Floats) -> list[tuple[int, int]]:
    """Return the (row, column) pairs of the cheapest assignment, without those that cost `UNMATCHED`.

    Tracks and detections far apart have nothing to do with each other: every group is solved by itself.
    """
    pairs: list[tuple[int, int]] = []
    for rows, columns in _groups(prices < UNMATCHED):
        part = prices[np.ix_(rows, columns)]
        chosen = enumerate(assign(part)) if len(rows) <= len(columns) else _swapped(assign(part.T))
        pairs += [(int(rows[row]), int(columns[column])) for row, column in chosen]
    return sorted((row, column) for row, column in pairs if prices[row, column] < UNMATCHED)


def _swapped(columns: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((row, column) for column, row in enumerate(columns))


def _groups(possible: Bools) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Rows and columns that matches connect, directly or through others."""
    left = np.asarray(possible.any(axis=1), dtype=np.bool_)
    while left.any():
        rows = np.zeros_like(left)
        rows[left.argmax()] = True
        while True:
            columns = possible[rows].any(axis=0)
            reached = np.asarray(possible[:, columns].any(axis=1), dtype=np.bool_)
            if (reached == rows).all():
                break
            rows = reached
        left &= ~rows
        yield np.flatnonzero(rows), np.flatnonzero(columns)


def assign(prices: Floats) -> list[int]:
    """Give every row a column of its own so that the sum of prices is the least.

    The Hungarian method with potentials, one shortest augmenting path for each row: Kuhn (1955); Jonker &
    Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
    Computing 38 (1987). Time grows with N² M.

    Args:
        prices: float64[N, M], N <= M, finite.

    Returns:
        The column of every row.

    Example:
        >>> assign(np.array([[1.0, 2.0, 9.0], [1.0, 9.0, 9.0]]))
        [1, 0]
    """
    count, width = prices.shape
    row_of = np.full(width, -1)
    rows, columns = np.zeros(count), np.zeros(width)
    for row in range(count):
        _augment(prices, row, row_of, rows, columns)
    result = [-1] * count
    for column in np.flatnonzero(row_of >= 0).tolist():
        result[int(row_of[column])] = column
    return result


def _augment(prices: Floats, start: int, row_of: npt.NDArray[np.int_], rows: Floats, columns: Floats) -> None:
    """Find a column for row `start` along the cheapest chain of rows that change theirs (Dijkstra)."""
    width = prices.shape[1]
    distance, before = np.full(width, np.inf), np.full(width, -1)
    done = np.zeros(width, dtype=np.bool_)
    row, reached, column = start, 0.0, -1
    while True:
        through = reached + prices[row] - rows[row] - columns
        better = ~done & (through < distance)
        distance[better], before[better] = through[better], column
        column = int(np.where(done, np.inf, distance).argmin())
        reached = float(distance[column])
        done[column] = True
        if row_of[column] < 0:
            break
        row = int(row_of[column])
    used = done & (row_of >= 0)
    rows[row_of[used]] += reached - distance[used]
    rows[start] += reached
    columns[used] -= reached - distance[used]
    while column >= 0:
        previous = int(before[column])
        row_of[column] = row_of[previous] if previous >= 0 else start
        column = previous


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), dtype=np.float64)
