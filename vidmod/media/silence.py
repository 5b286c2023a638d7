"""When sound is to be silent, and how far around that a codec smears what is beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy.typing as npt

from vidmod.redaction.sound import mute
from vidmod.timebase import Span, union

FADE_SECONDS = 0.01
# -60 dB: above what 16 bits and a decoder's dither leave of silence (AC-3: 1e-5), below what is heard beside speech.
SILENT_PEAK = 1e-3


class NotMutableError(Exception):
    """A sound stream cannot be muted in this way; the message says why, for people.

    Attributes:
        index: The stream's number in the source.
        encoded: Whether encoding all of it is what failed, and not replacing some of its packets.
    """

    def __init__(self, index: int, why: str, *, encoded: bool = False) -> None:
        super().__init__(why)
        self.index, self.encoded = index, encoded


@dataclass(frozen=True, slots=True)
class Silence:
    """What is silent of one stream.

    A codec of blocks smears the noise of coding over its blocks, so silence is longer than what is asked for: then
    what is asked for is encoded from nothing but zeros.

    Attributes:
        spans: Seconds of presentation time, sorted and disjoint, without the fades.
    """

    spans: tuple[Span, ...]

    @classmethod
    def around(cls, spans: Iterable[Span], before: float, after: float) -> Silence:
        """Silence that begins and ends so many seconds outside of some spans."""
        return cls(tuple(union(Span(span.start - before, span.end + after) for span in spans)))

    def touches(self, start: float | Fraction, end: float | Fraction) -> bool:
        """Whether anything from `start` to `end`, in seconds, changes."""
        return any(span.start - FADE_SECONDS < end and start < span.end + FADE_SECONDS for span in self.spans)

    def apply(self, samples: npt.NDArray[Any], sample_rate: int, start_sample: int) -> bool:
        """Silence what is to be silent of channels×time samples, in place; whether any sample may have changed."""
        start, end = start_sample / sample_rate, (start_sample + samples.shape[-1]) / sample_rate
        near = [span for span in self.spans if span.start - 1 < end and start < span.end + 1]
        return bool(near) and mute(samples, sample_rate, start_sample, near, FADE_SECONDS)
