"""The weights with which a picture is scaled: those of FFmpeg's swscale, integer for integer.

What the networks are fed must not depend on where it was scaled. So this follows what libswscale's initFilter does
(as in FFmpeg 8, on x86), its shortcuts and rounding too: each output sample is a weighted sum of neighbours, and

- `bilinear` is a triangle that spans one source sample to either side, or one output sample where it scales down;
- `area` is a box as wide as an output sample, and linear interpolation where it scales up;
- `bicubic` is the cubic of Mitchell and Netravali (1988) with B = 0 and C = 0.6, widened in the same way.

Weights next to nothing are cut off, what reaches over an edge counts for the sample at the edge, and the sum of each
row is exact: what rounding leaves over is carried from weight to weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.int64]

# Where a sample lies within its place: 256ths.
CENTRE = 128
# How far a filter reaches, in source samples when it scales up.
_REACH = {"bilinear": 2, "area": 1, "bicubic": 4}
_UNIT = 1 << 16
_NEGLIGIBLE = 0.002
_CUBIC_C = int(0.6 * (1 << 24))


@dataclass(frozen=True, slots=True, repr=False)
class Taps:
    """How each sample of a line is made of samples of another.

    Attributes:
        first: int32, per output sample the first source sample that counts.
        weights: int16, output samples × taps; `first + taps` never reaches over the end of the source line.
        size: Taps that swscale has for it, by which it chooses what rounds in which way; some may count nothing.
    """

    first: NDArray[np.int32]
    weights: NDArray[np.int16]
    size: int

    def __repr__(self) -> str:
        return f"Taps({self.weights.shape[0]} samples of {self.count})"

    @property
    def count(self) -> int:
        """Source samples for each output sample."""
        return int(self.weights.shape[1])


def taps(
    method: str,
    source: int,
    target: int,
    *,
    one: int,
    source_place: int = CENTRE,
    target_place: int = CENTRE,
    align: int = 1,
) -> Taps:
    """Weights that scale a line.

    Args:
        method: `bilinear`, `area` or `bicubic`.
        source, target: Samples before and after.
        one: What each row of weights adds up to.
        source_place, target_place: Where samples lie within their place, in 256ths: 64 for chroma that lies on the
            left one of its two pixels.
        align: The count of taps, before nothings are cut off, is a multiple of this.
    """
    step = ((source << 16) + (target >> 1)) // target
    full = 1 << (54 - min(max(source // target, 1).bit_length() - 1, 8))
    if abs(step - _UNIT) < 10 and source_place == target_place:
        first, weights = np.arange(target, dtype=np.int64), np.full((target, 1), full, np.int64)
    elif method == "area" and step <= _UNIT:
        first, weights = _linear(step, target, source_place, target_place, full)
    else:
        first, weights = _shaped(method, source, target, step, source_place, target_place, full)
    first, weights = _reduced(first, weights, _NEGLIGIBLE * full, align)
    first, weights = _within(first, weights, source)
    return _tight(first, _exact(weights, one))


def picked(samples: NDArray[np.int64], one: int) -> Taps:
    """No scaling: these source samples as they are."""
    return Taps(samples.astype(np.int32), np.full((len(samples), 1), one, np.int16), 1)


def _linear(step: int, target: int, source_place: int, target_place: int, full: int) -> tuple[Weights, Weights]:
    centre = ((target_place * step) >> 8) - ((source_place << 15) >> 7) + np.arange(target, dtype=np.int64) * step
    first = centre >> 16
    distance = np.abs(((first[:, None] + np.arange(2)) << 16) - centre[:, None])
    return first, np.maximum(full - distance * (full >> 16), 0)


def _shaped(
    method: str, source: int, target: int, step: int, source_place: int, target_place: int, full: int
) -> tuple[Weights, Weights]:
    reach = _REACH[method]
    size = 1 + (reach if step <= _UNIT else -(-reach * source // target))
    size = max(1, min(size, source - 2))
    # In half source samples, 16 bits after the point.
    centre = ((target_place * step) >> 7) - ((source_place << 16) >> 7) + 2 * np.arange(target, dtype=np.int64) * step
    first = _towards_zero(centre - (size - 2) * _UNIT, 2 * _UNIT)
    distance = np.abs(((first[:, None] + np.arange(size)) << 17) - centre[:, None]) << 13
    if step > _UNIT:
        distance = distance * target // source
    if method == "bilinear":
        weights = np.maximum((1 << 30) - distance, 0) * (full >> 30)
    elif method == "area":
        weights = np.clip((1 << 45) - (distance - (1 << 29)) * step, 0, 1 << 46) * (full >> 46)
    else:
        weights = _towards_zero(_cubic(distance), (1 << 54) // full)
    return first, weights


def _cubic(distance: Weights) -> Weights:
    """Of distances with 30 bits after the point, with 54; 0 from 2 on."""
    far = distance >= 1 << 31
    one = np.where(far, 0, distance)
    two = (one * one) >> 30
    three = (two * one) >> 30
    c = _CUBIC_C
    near = ((12 << 24) - 6 * c) * three + (6 * c - (18 << 24)) * two + (6 << 54)
    beyond = 30 * c * two - 6 * c * three - 48 * c * one + ((24 * c) << 30)
    return np.where(far, 0, np.where(one < 1 << 30, near, beyond))


def _reduced(first: Weights, weights: Weights, negligible: float, align: int) -> tuple[Weights, Weights]:
    """Without what hardly counts at the ends; `first` never decreases."""
    count, size = weights.shape
    first, weights = first.copy(), weights.copy()
    needed = 0
    for place in reversed(range(count)):
        row = weights[place]
        drop = int(np.searchsorted(np.cumsum(np.abs(row)), negligible, side="right"))
        if place < count - 1:
            drop = min(drop, max(0, int(first[place + 1] - first[place])))
        row[:] = np.concatenate([row[drop:], np.zeros(drop, np.int64)])
        first[place] += drop
        after = int(np.searchsorted(np.cumsum(np.abs(row[:0:-1])), negligible, side="right"))
        needed = max(needed, size - after)
    kept = min(size, -(-needed // align) * align)
    return first, weights[:, :kept]


def _within(first: Weights, weights: Weights, source: int) -> tuple[Weights, Weights]:
    """What lies outside the line counts for the sample at its end."""
    count, size = weights.shape
    inside = np.zeros((count, size), np.int64)
    start = np.clip(first, 0, max(source - size, 0))
    for tap in range(size):
        at = np.clip(first + tap, 0, source - 1) - start
        np.add.at(inside, (np.arange(count), at), weights[:, tap])
    return start, inside


def _exact(weights: Weights, one: int) -> Weights:
    """Rows that add up to `one`; what rounding leaves over goes to the next weight."""
    total = np.maximum((weights.sum(axis=1) + one // 2) // one, 1)
    rest = np.zeros(len(weights), np.int64)
    whole = np.zeros_like(weights)
    for tap in range(weights.shape[1]):
        wanted = weights[:, tap] + rest
        whole[:, tap] = _towards_zero(wanted + np.sign(wanted) * (total >> 1), total)
        rest = wanted - whole[:, tap] * total
    return whole


def _tight(first: Weights, weights: Weights) -> Taps:
    """Without columns of zeros."""
    size = weights.shape[1]
    used = np.flatnonzero(weights.any(axis=0))
    weights = weights[:, used[0] : used[-1] + 1]
    return Taps((first + used[0]).astype(np.int32), np.ascontiguousarray(weights.astype(np.int16)), size)


def _towards_zero(value: Weights, divisor: Weights | int) -> Weights:
    """Division as C does it."""
    return np.asarray(np.sign(value) * (np.abs(value) // divisor), np.int64)
