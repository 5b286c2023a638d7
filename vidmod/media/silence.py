"""When sound is to be silent, and how far around that a codec smears what is beside it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, takewhile
from typing import Any

import numpy.typing as npt

from vidmod.redaction.sound import mute
from vidmod.timebase import Span, union

FADE_SECONDS = 0.01


class NotMutableError(Exception):
    """A sound stream cannot be muted in this way; the message says why, for people.

    Attributes:
        index: The stream's number in the source.
        encoded: Whether encoding all of it is what failed, and not replacing some of its packets.
    """

    def __init__(self, index: int, why: str, *, encoded: bool = False) -> None:
        super().__init__(why)
        self.index, self.encoded = index, encoded


def meets(spans: Sequence[Span], start: float | Fraction, end: float | Fraction) -> bool:
    """Whether any of some sorted, disjoint spans overlaps with [start, end)."""
    place = bisect_right(spans, start, key=_end)
    return place < len(spans) and spans[place].start < end


def _end(span: Span) -> float:
    return span.end


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
        return meets(self.spans, start - FADE_SECONDS, end + FADE_SECONDS)

    def apply(self, samples: npt.NDArray[Any], sample_rate: int, start_sample: int) -> bool:
        """Silence what is to be silent of channels×time samples, in place; whether any sample may have changed."""
        start, end = start_sample / sample_rate, (start_sample + samples.shape[-1]) / sample_rate
        # A sample more on each side, for the fade is rounded to whole ones.
        reach = FADE_SECONDS + 1 / sample_rate
        first = bisect_right(self.spans, start - reach, key=_end)
        near = list(takewhile(lambda span: span.start < end + reach, islice(self.spans, first, None)))
        return bool(near) and mute(samples, sample_rate, start_sample, near, FADE_SECONDS)
