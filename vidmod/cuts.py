"""What is cut out of a film, and when what remains is shown then.

Values alone, for any time base: pictures, sound, subtitles and chapters all move by the same exact
number of seconds, which is rounded once, to a unit of their own time base, and never added up::

    cuts = Cuts.of([(100, 200)], Fraction(1, 25))                # seconds 4 to 8
    cuts.removes(Fraction(7), Fraction(9))                       # True
    cuts.shifted(Fraction(10))                                   # Fraction(6, 1)
    cuts.shifted_pts(480_000, Fraction(1, 48_000))               # 288000
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import itemgetter

from vidmod.timebase import Span, is_within, overlaps, union

# Of how many packets' time beside its own a packet holds something, before it and after it.
_REACHES = {
    # The sound of its own time and of no other.
    **dict.fromkeys(("flac", "alac", "wavpack", "tta", "truehd", "mlp"), (0, 0)),
    # A transform that overlaps the next packet's. One that ends where a cut begins gave back 0.89 of a tone of 0.9.
    **dict.fromkeys(("ac3", "eac3", "mp2", "mp2float"), (0, 1)),
    # The same, and it is predicted from the packet before (RFC 6716, 4.2.7 and 4.3.2.1): of a tone of 0.9 that ended
    # where a cut did, 0.01 was left.
    **dict.fromkeys(("opus", "libopus"), (1, 1)),
    # Windows of two lengths: the end of a long one goes on for twice as long as a packet that began with a short one.
    "vorbis": (0, 2),
    # Layer III packets hold up to 511 bytes of later ones' data (ISO/IEC 11172-3, main_data_begin): at 32 kbit/s nine
    # packets' worth.
    **dict.fromkeys(("mp3", "mp3float"), (0, 9)),
}
# HE-AAC has a filter bank behind the transform, AAC-ELD longer windows, and others prediction.
_AAC_REACHES, _OTHER_AAC_REACH = {"LC": (0, 1)}, (1, 3)
_OTHER_REACH = (2, 2)
# What Opus predicts from goes back that far, however short its packets are.
_PREDICTED_SECONDS = Fraction(1, 50)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Stretches of time that are removed; what comes after them moves forward by as much.

    Attributes:
        spans: [start, end) in exact seconds, sorted and apart from each other.
        begin, end: What begins before the one, or at or after the other, in seconds of the source, is removed too, and
            moves nothing: what sounds before the first picture if that one is cut, and after the last. None for all.

    Raises:
        ValueError: The spans are not as they should be.
    """

    spans: tuple[tuple[Fraction, Fraction], ...] = ()
    begin: Fraction | None = None
    end: Fraction | None = None
    _before: tuple[Fraction, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = [time for span in self.spans for time in span]
        if any(after <= before for before, after in pairwise(ends)):
            raise ValueError(f"Invalid cuts ({self.spans}). They must rise and lie apart.")
        lengths = accumulate((end - start for start, end in self.spans), initial=Fraction(0))
        object.__setattr__(self, "_before", tuple(lengths))

    @classmethod
    def of(
        cls,
        spans: Iterable[tuple[int, int]],
        time_base: Fraction,
        begin: int | None = None,
        end: int | None = None,
    ) -> Cuts:
        """The same from pts in any order."""
        rows = union(Span(*span) for span in spans)
        return cls(
            tuple((int(row.start) * time_base, int(row.end) * time_base) for row in rows),
            None if begin is None else begin * time_base,
            None if end is None else end * time_base,
        )

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def length(self) -> Fraction:
        """How many seconds are removed, as far as there are pictures."""
        return self._before[-1]

    def in_pts(self, time_base: Fraction) -> tuple[list[tuple[int, int]], int | None, int | None]:
        """The spans, the begin and the end in the time base that they are of."""
        begin, end = (None if time is None else round(time / time_base) for time in (self.begin, self.end))
        return [(round(start / time_base), round(end / time_base)) for start, end in self.spans], begin, end

    def removes(self, start: Fraction, end: Fraction) -> bool:
        """Whether anything that goes from `start` to `end` (in seconds; what has no length is a moment) is cut."""
        if (self.begin is not None and start < self.begin) or (self.end is not None and start >= self.end):
            return True
        place = bisect_right(self.spans, start, key=itemgetter(0)) - 1
        if place >= 0 and self.spans[place][1] > start:
            return True
        return place + 1 < len(self.spans) and self.spans[place + 1][0] < end

    def removed_before(self, time: Fraction) -> Fraction:
        """How many seconds before `time` are removed."""
        place = bisect_left(self.spans, time, key=itemgetter(0)) - 1
        return (
            Fraction(0) if place < 0 else self._before[place] + min(self.spans[place][1], time) - self.spans[place][0]
        )

    def shifted(self, time: Fraction) -> Fraction:
        """When what was at `time` is now, in seconds; what was within a cut is where that cut is."""
        return time - self.removed_before(time)

    def shifted_pts(self, pts: int, time_base: Fraction) -> int:
        """The same of a pts, to the nearest unit."""
        return pts - round(self.removed_before(pts * time_base) / time_base)

    def restored(self, time: Fraction) -> Fraction:
        """When what is at `time` now was, in seconds; what begins where a cut is was behind it."""
        for start, end in self.spans:
            if time < start:
                break
            time += end - start
        return time


def reach(codec: str, profile: str | None, length: Fraction) -> tuple[Fraction, Fraction]:
    """For how long before and after the time that it plays a sound packet holds something of what is heard.

    Args:
        codec: FFmpeg's name of its decoder.
        profile: FFmpeg's name of it, if it is known.
        length: How long it plays, in seconds.
    """
    if codec.startswith("pcm_"):
        return Fraction(0), Fraction(0)
    if codec == "aac":
        before, after = _AAC_REACHES.get(profile or "", _OTHER_AAC_REACH)
    else:
        before, after = _REACHES.get(codec, _OTHER_REACH)
    return before * max(length, _PREDICTED_SECONDS), after * length


class Widening:
    """Widens cuts to whole pictures: one that is shown within a cut for any time is removed for all of it.

    Args:
        spans: What is to be cut, [start, end) in pts, sorted and disjoint.
        time_base: Seconds per unit.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], time_base: Fraction) -> None:
        self._spans = spans
        self._time_base = time_base
        self._widened = [Span(*span) for span in spans]
        self._first: tuple[int, bool] | None = None
        self._last: tuple[int, bool] | None = None
        self.kept = 0
        self.removed = 0

    def removes(self, start: int, end: int, pictures: int = 1) -> bool:
        """Take in a picture, or several as one, and when the next one is shown; whether it is removed."""
        removed = overlaps(self._spans, start, end)
        self.removed += pictures * removed
        self.kept += pictures * (not removed)
        if removed and not is_within(self._spans, start, end):
            self._widened.append(Span(start, end))
        if self._first is None or start < self._first[0]:
            self._first = start, removed
        if self._last is None or start > self._last[0]:
            self._last = start, removed
        return removed

    def cuts(self) -> Cuts:
        """What is removed, from the first picture on: nothing moves to before that."""
        if self._first is None or self._last is None:
            return Cuts()
        first, is_removed = self._first
        rows = [Span(max(first, span.start), span.end) for span in union(self._widened) if span.end > first]
        begins = is_removed or any(span.start < first for span in self._widened)
        ends = rows[-1].start if rows and self._last[1] else None
        return Cuts.of(
            [(int(row.start), int(row.end)) for row in rows],
            self._time_base,
            first if begins else None,
            None if ends is None else int(ends),
        )
