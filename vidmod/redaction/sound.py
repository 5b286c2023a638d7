"""Silence in place, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vidmod.errors import UsageError
from vidmod.timebase import Span

__all__ = ["SILENT_PEAK", "mute"]

# What is no louder than that, of full scale, counts as silent after encoding and decoding: -60 dB, above what 16 bits
# and a decoder's dither leave of silence (AC-3: 1e-5), below what is heard beside speech.
SILENT_PEAK: Final = 1e-3

# FFmpeg's sample formats u8, s16, s32, flt, dbl, planar or packed, with the sample that is silent.
_SILENCE: Final = {"uint8": 128, "int16": 0, "int32": 0, "float32": 0, "float64": 0}


def mute(
    samples: npt.NDArray[Any],
    sample_rate: int,
    start_sample: int,
    spans: Iterable[Span],
    fade_seconds: float = 0.01,
    *,
    time_axis: int = -1,
) -> bool:
    """Silence the spans in one chunk of sound, in place.

    Every sample that a span touches becomes silent. The fades (straight lines) lie outside of the spans: down before,
    up after. What a sample becomes depends on its index alone, not on the chunk that it comes in. Samples outside of
    spans and fades stay as they are, bit for bit.

    Args:
        samples: uint8 (silent at 128), int16, int32, float32 or float64; channels×time (planar), or time×channels
            (packed) with ``time_axis=0``. A packed chunk of PyAV is 1×(time·channels): reshape it first.
        sample_rate: Samples per second and channel.
        start_sample: Index of the chunk's first sample; may be negative (an encoder's priming).
        spans: Seconds after sample 0, in any order; they may overlap.
        fade_seconds: Length of a fade, 0 or more.
        time_axis: The axis of `samples` that is time.

    Returns:
        Whether any sample may have changed; if not, the packets of the source can be kept.

    Raises:
        UsageError: The type of the samples or a number is not among the above.
    """
    silence = _SILENCE.get(samples.dtype.name)
    if silence is None:
        raise UsageError(f"Invalid samples ({samples.dtype}). Use one of {', '.join(_SILENCE)}.")
    if sample_rate <= 0 or not 0 <= fade_seconds < math.inf:
        raise UsageError(
            f"Invalid sample_rate or fade_seconds ({sample_rate}, {fade_seconds}). Use above 0, 0 or more."
        )
    view = np.moveaxis(samples, time_axis, -1)
    stop_sample = start_sample + view.shape[-1]
    gain = np.ones(view.shape[-1])
    for start, stop, part in _gains(spans, sample_rate, round(fade_seconds * sample_rate), start_sample, stop_sample):
        place = gain[start - start_sample : stop - start_sample]
        np.minimum(place, part, out=place)
    changed = np.flatnonzero(gain < 1)
    if changed.size:
        _apply(view, gain, slice(int(changed[0]), int(changed[-1]) + 1), silence)
    return bool(changed.size)


def _gains(
    spans: Iterable[Span], sample_rate: int, fade: int, first: int, last: int
) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
    """The part of [first, last) that each span and its fades reach, with its gain from 0 to 1."""
    for span in spans:
        # Exact where the span's ends are Fractions; outward where they are not whole samples.
        start, end = math.floor(span.start * sample_rate), math.ceil(span.end * sample_rate)
        low, high = max(first, start - fade), min(last, end + fade)
        if span.length and low < high:
            index = np.arange(low, high)
            away = np.maximum(0, np.maximum(start - index, index - (end - 1)))
            yield low, high, away / (fade + 1)


def _apply(view: npt.NDArray[Any], gain: npt.NDArray[np.float64], where: slice, silence: int) -> None:
    part, factor = view[..., where], gain[where]
    with np.errstate(invalid="ignore"):
        faded = (part - float(silence)) * factor + silence
    if part.dtype.kind in "iu":
        faded = np.rint(faded)
    # Not the product: 0 times a NaN, or times infinity, is NaN.
    part[...] = np.where(factor == 0, silence, np.where(factor < 1, faded, part)).astype(part.dtype)
