"""Sound on its way through: as late as the pictures, silent while they are covered, without a gap."""

from __future__ import annotations

from collections import deque

from vidmod.media.live import TIME_BASE

# A piece that begins so much before the one before it ends, as a share of its length, still follows it.
_MOST_OVERLAP = 0.5
# Sound that is missing for so long is replaced.
_GRACE_SECONDS = 0.1
# A hole is never filled from longer ago: nobody waits for what is past.
_MOST_PAST_SECONDS = 1.0


class SoundLine:
    """Sound packets of one length, in and out. Belongs to one thread.

    Args:
        silence: A packet of silence, coded as the stream is.
        packet_seconds: How long each packet sounds.
        began: The time now.
    """

    def __init__(self, silence: bytes, packet_seconds: float, began: float) -> None:
        self._silence = silence
        self._length = packet_seconds
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._end = began  # of what has left
        self.filled = 0
        self.muted = 0

    def take(self, data: bytes, due: float) -> None:
        """A packet came, to leave then."""
        if not self._waiting or due > self._waiting[-1][0]:
            self._waiting.append((due, data))

    @property
    def due(self) -> float:
        """When there is something to do next."""
        starving = self._end + _GRACE_SECONDS
        return min(starving, self._waiting[0][0]) if self._waiting else starving

    def leave(self, now: float, *, covered: bool) -> list[tuple[int, bool, bytes]]:
        """What leaves by now: pts in units of `TIME_BASE`, whether it can be begun with, and data."""
        rows: list[tuple[int, bool, bytes]] = []
        while self._waiting and self._waiting[0][0] <= now:
            due, data = self._waiting.popleft()
            if due < self._end - self._length * _MOST_OVERLAP:
                continue  # what filled its place has left
            self._fill(due - self._length * (1 - _MOST_OVERLAP), rows)
            self.muted += covered
            self._say(max(due, self._end - self._length * _MOST_OVERLAP), self._silence if covered else data, rows)
        self._fill(now - _GRACE_SECONDS, rows)
        return rows

    def _fill(self, until: float, rows: list[tuple[int, bool, bytes]]) -> None:
        self._end = max(self._end, until - _MOST_PAST_SECONDS)
        while self._end <= until:
            self.filled += 1
            self._say(self._end, self._silence, rows)

    def _say(self, due: float, data: bytes, rows: list[tuple[int, bool, bytes]]) -> None:
        rows.append((round(due / TIME_BASE), True, data))
        self._end = due + self._length
