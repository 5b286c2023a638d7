"""Looking at regular times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from fractions import Fraction

from vidmod.media import Part
from vidmod.media.parts import Shown
from vidmod.plans.plan import EveryPicture, Look

# How far from its grid point a picture may be that is decoded anyway, as a share of the interval.
_TOLERANCE = Fraction(1, 8)


class UniformPictures(EveryPicture):
    """Look at a picture for every multiple of `interval`, at the first, and at the last.

    For a grid point serves the first picture from there on, or one close by that others refer to: that one is decoded
    anyway, unless it is in the next part, which is not known yet. Never is more than `interval` of presentation time
    left unseen between two pictures, unless one picture is shown for longer.

    Args:
        interval: In units of the stream's time base.
    """

    def __init__(self, interval: Fraction) -> None:
        self._interval = interval
        self._tolerance = interval * _TOLERANCE
        self._origin: int | None = None
        self._next: Fraction | None = None
        self._seen_until = 0

    @property
    def origin(self) -> int | None:
        """Where the grid begins; None before the first part."""
        return self._origin

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:
        """The pictures near the grid points in it."""
        if self._origin is None:
            self._origin = shown[0].pts if shown else part.start_pts
        if not part.sound:
            # What of it can be decoded, and so the last time that was seen, is known to nobody yet.
            self._next = None
            return Look(part, None)
        wanted = self._choose(shown)
        if last and shown and (not wanted or wanted[-1] != shown[-1].pts):
            wanted.append(shown[-1].pts)
        return Look(part, tuple(wanted))

    def _choose(self, shown: list[Shown]) -> list[int]:
        times = [picture.pts for picture in shown]
        wanted: list[int] = []
        place = -1
        while True:
            following = self._place(shown, times, place)
            if following is None:
                return wanted
            place = following
            picture = shown[place]
            wanted.append(picture.pts)
            self._seen_until = picture.end_pts
            assert self._origin is not None
            grid = (picture.pts + self._tolerance - self._origin) // self._interval + 1
            self._next = self._origin + grid * self._interval

    def _place(self, shown: list[Shown], times: list[int], before: int) -> int | None:
        """The next picture to look at after the one at place `before`; None if that is in another part."""
        start = before + 1
        if start >= len(shown):
            return None
        if self._next is None:
            return start
        # Leaving out everything before a picture leaves unseen what lies between the last one that was seen and it.
        times_and_end = [*times, shown[-1].end_pts]
        latest = max(start, bisect_right(times_and_end, self._seen_until + self._interval) - 1)
        target = min(latest, max(start, bisect_left(times, self._next)))
        if target >= len(shown):
            return None
        if shown[target].reference:
            return target
        close = [
            place
            for place in range(start, min(latest, len(shown) - 1) + 1)
            if shown[place].reference and abs(times[place] - self._next) <= self._tolerance
        ]
        return min(close, key=lambda place: abs(times[place] - times[target]), default=target)
