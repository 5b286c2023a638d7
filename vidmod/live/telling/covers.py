"""Why the whole picture is covered, and since when: told when it begins and when it is over."""

from __future__ import annotations

from collections.abc import Collection

from vidmod.live.telling.events import CoverOff, CoverOn

# A reason that comes back within this time was never gone: what flickers is not worth a line each time.
_SETTLING_SECONDS = 1.0


class Covers:
    """Follows reasons to cover; each is told of by itself. Knows no time but what it is told."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._gone: dict[str, float] = {}

    def update(self, reasons: Collection[str], seconds: float) -> list[CoverOn | CoverOff]:
        """Take in why all is covered from this time in the stream on; none if it is not."""
        events: list[CoverOn | CoverOff] = []
        for reason in reasons:
            self._gone.pop(reason, None)
            if reason not in self._since:
                self._since[reason] = seconds
                events.append(CoverOn(reason=reason, at_seconds=seconds))
        for reason in [name for name in self._since if name not in reasons]:
            gone = self._gone.setdefault(reason, max(seconds, self._since[reason]))
            if seconds - gone >= _SETTLING_SECONDS:
                events.append(self._over(reason, gone))
        return events

    def end(self, seconds: float) -> list[CoverOn | CoverOff]:
        """Nothing leaves any more, covered or not."""
        return [self._over(name, self._gone.get(name, max(seconds, self._since[name]))) for name in list(self._since)]

    def _over(self, reason: str, at: float) -> CoverOff:
        self._gone.pop(reason, None)
        since = self._since.pop(reason)
        return CoverOff(reason=reason, at_seconds=at, covered_seconds=at - since)
