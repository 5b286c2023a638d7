"""How much a filter gives up so that pictures leave in time: looks first, then the encoder's effort, covers last."""

from __future__ import annotations

# What each level gives up; each gives up what the ones before it do, too.
LEVELS = ("nothing", "looks", "effort", "pictures")
# Pictures that leave so late, in seconds, have looks go further apart, and once that is all, the next levels follow.
_LATE = (0.05, 0.09, 0.15)
# And so late, the last one at once.
_HOPELESS = 0.4
# Looks are first so far apart, and then twice as far each time.
_FIRST_APART = 0.06
# How long that, or a level, is tried before the next one.
_LOOKS_TRIAL_SECONDS, _TRIAL_SECONDS = 0.25, 0.7
# Pictures that leave no later than this for a while have looks come closer, and take a level back.
_CALM = 0.025
_CLOSER_SECONDS, _CLOSER = 1.0, 0.6
_CALM_SECONDS, _LONGEST_CALM_SECONDS = 5.0, 60.0


class Overload:
    """The level of one filter, told how late pictures leave.

    A level that was taken back too soon is taken back later the next time, since each change of effort costs a key
    picture.

    Args:
        most_apart: Looks are never further apart than this, in seconds.

    Attributes:
        apart: How far apart looks should be, in seconds; 0 for as close as can be.
    """

    def __init__(self, most_apart: float) -> None:
        self.apart = 0.0
        self._most_apart = most_apart
        self._higher = 0  # levels above that of looks
        self._changed = self._lowered = float("-inf")
        self._calm_since: float | None = None
        self._closer_since = 0.0
        self._calm_seconds = _CALM_SECONDS

    @property
    def level(self) -> int:
        """0 for none; looks count once they are more than half as far apart as they may be."""
        return 1 + self._higher if self._higher else int(self.apart > self._most_apart / 2)

    def observe(self, lag: float, now: float) -> int:
        """A picture is about to leave, so many seconds late; the level from here on."""
        if lag > _CALM:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = self._closer_since = now
        if lag > _HOPELESS:
            self._raise(len(_LATE) - 1, now)
        elif lag > _LATE[0] and self.apart < self._most_apart:
            if now - self._changed >= _LOOKS_TRIAL_SECONDS:
                self.apart, self._changed = min(self._most_apart, max(_FIRST_APART, 2 * self.apart)), now
        elif self._higher < len(_LATE) - 1 and lag > _LATE[self._higher + 1]:
            if now - self._changed >= _TRIAL_SECONDS:
                self._raise(self._higher + 1, now)
        elif self._calm_since is not None:
            self._relax(self._calm_since, now)
        return self.level

    def _raise(self, higher: int, now: float) -> None:
        self.apart = self._most_apart
        if higher == self._higher:
            return
        if now - self._lowered < self._calm_seconds:
            self._calm_seconds = min(_LONGEST_CALM_SECONDS, 2 * self._calm_seconds)
        self._higher, self._changed = higher, now

    def _relax(self, calm_since: float, now: float) -> None:
        if self._higher:
            if now - calm_since >= self._calm_seconds:
                self._higher -= 1
                self._changed = self._lowered = self._calm_since = self._closer_since = now
            return
        if self.apart and now - self._closer_since >= _CLOSER_SECONDS:
            self._closer_since = now
            self.apart = self.apart * _CLOSER if self.apart * _CLOSER > _FIRST_APART / 2 else 0.0
        if now - self._lowered > 2 * _LONGEST_CALM_SECONDS:
            self._calm_seconds = _CALM_SECONDS
