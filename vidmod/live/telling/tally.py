"""What processes count, summed up over those that were replaced, and what that is a second."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from vidmod.live.messages import Beat

# Rates are of so long, and no more often renewed than so.
_WINDOW_SECONDS, _STEP_SECONDS = 4.0, 0.25


@dataclass(slots=True)
class _Total:
    """One count of one role: what processes that are gone had, and what the present one has."""

    gone: int = 0
    present: int = 0


@dataclass(slots=True)
class Tally:
    """Totals that never go down, whatever becomes of who counts. Knows no time but what it is told.

    A beat's counts are named by its role: `filter.decoded`, `publisher.pictures`.
    """

    _totals: dict[str, _Total] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _steps: deque[tuple[float, dict[str, int]]] = field(default_factory=deque)

    def hear(self, role: str, number: int, beat: Beat) -> None:
        """Take in what a process says; `number` is another one for each process of a role."""
        if self._numbers.get(role) != number:
            self._numbers[role] = number
            for name, total in self._totals.items():
                if name.startswith(f"{role}."):
                    total.gone += total.present
                    total.present = 0
        for name, value in _counts(beat).items():
            total = self._totals.setdefault(f"{role}.{name}", _Total())
            total.present = max(total.present, value)

    def step(self, now: float) -> None:
        """Note how it is now, for :meth:`rate`."""
        if self._steps and now - self._steps[-1][0] < _STEP_SECONDS:
            return
        self._steps.append((now, {name: total.gone + total.present for name, total in self._totals.items()}))
        while now - self._steps[0][0] > _WINDOW_SECONDS and len(self._steps) > 2:
            self._steps.popleft()

    def total(self, *names: str) -> int:
        """Of all of these together."""
        return sum(row.gone + row.present for name in names if (row := self._totals.get(name)) is not None)

    def grown(self, *names: str) -> int:
        """By how much they grew in the last seconds."""
        if not self._steps:
            return 0
        before, after = self._steps[0][1], self._steps[-1][1]
        return sum(after.get(name, 0) - before.get(name, 0) for name in names)

    def rate(self, *names: str) -> float:
        """How much they grew a second, in the last seconds."""
        length = self._steps[-1][0] - self._steps[0][0] if self._steps else 0.0
        return self.grown(*names) / length if length > 0 else 0.0


def _counts(beat: Beat) -> Mapping[str, int]:
    counts = {} if beat.counts is None else dataclasses.asdict(beat.counts)
    own = ("packets", "connections", "pictures", "covers", "dropped")
    return {**counts, **{name: getattr(beat, name) for name in own}}


@dataclass(slots=True)
class Side:
    """One end of a filter, source or server: whether it is there, and since when not.

    Attributes:
        absence: How long it was gone the last time that it came back, in seconds.
    """

    is_connected: bool = False
    was_connected: bool = False
    gone_since: float | None = None
    absence: float = 0.0

    def update(self, is_connected: bool, now: float) -> str:
        """Take in how it is.

        Returns:
            `first`, `lost` or `back` if that is new; else empty.
        """
        if is_connected == self.is_connected:
            return ""
        self.is_connected = is_connected
        if not is_connected:
            self.gone_since = now
            return "lost"
        if self.gone_since is not None:
            self.absence = now - self.gone_since
        change = "back" if self.was_connected else "first"
        self.was_connected = True
        return change

    def gone_seconds(self, now: float) -> float | None:
        """For how long it has been gone; None while it is there, or was never."""
        return None if self.is_connected or self.gone_since is None else max(0.0, now - self.gone_since)
