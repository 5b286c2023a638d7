"""Which groups of pictures a cut leaves as they are, which go, and which have to be encoded again.

A group of which nothing is shown within a cut is copied, one of which everything is goes undecoded, and of any other
the pictures that remain are encoded. All that remains moves forward by the exact length of the cuts before it,
decoding times too: where these would then not rise any more, the groups are not apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from itertools import pairwise

from vidmod.cuts import Cuts, Widening
from vidmod.media.groups import Group, NotApartError
from vidmod.timebase import is_within, overlaps


class Fate(Enum):
    """What becomes of a group of pictures: it is copied, encoded again in part, or removed."""

    COPIED = auto()
    ENCODED = auto()
    REMOVED = auto()


@dataclass(frozen=True, slots=True)
class Remainder:
    """What remains of a group that is cut in part.

    Attributes:
        shown: The pictures that remain, by their time in the source: when they are shown now, and for how long.
        slots: When their packets are decoded now, in that order; None where the source does not say.
    """

    shown: dict[int, tuple[int, int]]
    slots: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """From packet `first` on, packets move forward by `shift` units; None for those that are removed."""

    first: int
    shift: int | None


@dataclass(slots=True)
class _Row:
    """Adjacent groups of the same fate; the first and last decoding time that is known."""

    fate: Fate
    first: int
    start_pts: int
    low: int | None
    high: int | None
    group: Group | None = None


class GroupCutter:
    """Decides on one group after the other, and then on all packets' times.

    Args:
        spans: What is to be cut, [start, end) in pts, sorted and disjoint.
        time_base: Seconds per unit.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], time_base: Fraction) -> None:
        self._spans = spans
        self._time_base = time_base
        self._widening = Widening(spans, time_base)
        self._rows: list[_Row] = []
        self.cuts = Cuts()
        self.moves: deque[Move] = deque()
        self.remainders: dict[int, Remainder] = {}

    @property
    def kept(self) -> int:
        """How many pictures remain."""
        return self._widening.kept

    @property
    def removed(self) -> int:
        """How many do not."""
        return self._widening.removed

    def fate(self, group: Group) -> Fate:
        """Take in the next group; what becomes of it.

        Raises:
            NotApartError: It is cut in part, and cannot be encoded apart.
        """
        fate = self._fate(group)
        known = [slot for slot in group.slots if slot is not None]
        low, high = (known[0], known[-1]) if known else (None, None)
        last = self._rows[-1] if self._rows else None
        if fate is not Fate.ENCODED and last is not None and last.fate is fate:
            last.low, last.high = last.low if last.low is not None else low, high if high is not None else last.high
        else:
            cut = group if fate is Fate.ENCODED else None
            self._rows.append(_Row(fate, group.first, group.start_pts, low, high, cut))
        return fate

    def _fate(self, group: Group) -> Fate:
        if not overlaps(self._spans, group.start_pts, group.end_pts):
            self._widening.removes(group.start_pts, group.end_pts, group.pictures)
            return Fate.COPIED
        if group.flaw is not None:
            if not is_within(self._spans, group.start_pts, group.end_pts):
                raise NotApartError(group.flaw)
            self._widening.removes(group.start_pts, group.end_pts, group.pictures)
            return Fate.REMOVED
        removed = [self._widening.removes(*shown) for shown in pairwise((*group.times, group.end_pts))]
        return Fate.REMOVED if all(removed) else Fate.ENCODED

    def settle(self) -> None:
        """After the last group: find out what is removed, and by how much every packet moves.

        Raises:
            NotApartError: Decoding times would not rise any more.
        """
        self.cuts = self._widening.cuts()
        last: int | None = None
        for row in self._rows:
            if row.fate is Fate.REMOVED:
                self.moves.append(Move(row.first, None))
                continue
            for low, high in self._placed(row):
                if last is not None and low <= last:
                    raise NotApartError("decoding times would not rise across a cut")
                last = high

    def _placed(self, row: _Row) -> Iterator[tuple[int, int]]:
        """The first and last decoding times of what remains of a row, wherever they are known, in order."""
        if row.group is None:
            shift = row.start_pts - self.cuts.shifted_pts(row.start_pts, self._time_base)
            self.moves.append(Move(row.first, shift))
            if row.low is not None and row.high is not None:
                yield row.low - shift, row.high - shift
        else:
            remainder = self.remainders[row.first] = self._remainder(row.group)
            yield from ((slot, slot) for slot in remainder.slots if slot is not None)

    def _remainder(self, group: Group) -> Remainder:
        """The k-th picture that remains gets the decoding time of the picture shown as that one was, moved as it is.

        An encoder that reorders by d pictures gives the k-th packet a picture not earlier than the (k - d)-th shown,
        so none may be decoded later than that.
        """
        shown: dict[int, tuple[int, int]] = {}
        slots: list[int | None] = []
        for (start, end), slot in zip(pairwise((*group.times, group.end_pts)), group.slots, strict=True):
            if overlaps(self._spans, start, end):
                continue
            now = self.cuts.shifted_pts(start, self._time_base)
            shown[start] = now, end - start
            slots.append(None if slot is None else slot - (start - now))
        times = [now for now, _ in shown.values()]
        latest = [times[max(0, place - group.depth)] for place in range(len(times))]
        fitting = tuple(None if slot is None else min(slot, most) for slot, most in zip(slots, latest, strict=True))
        return Remainder(shown, fitting)
