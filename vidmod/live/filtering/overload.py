"""How much a filter gives up so that pictures leave in time: looks first, then the encoder's effort, covers last."""

from __future__ import annotations

# What each level gives up; each gives up what the ones before it do, too.
LEVELS = ("nothing", "looks", "effort", "pictures")
# Pictures that leave so late, in seconds, have the next level follow.
_LATE = (0.04, 0.08, 0.15)
# And so late, the last one at once.
_HOPELESS = 0.4
# How long a level is tried before the next one.
_TRIAL_SECONDS = 0.7
# Pictures that leave no later than this for a while take a level back.
_CALM = 0.02
_CALM_SECONDS, _LONGEST_CALM_SECONDS = 5.0, 60.0


class Overload:
    """The level of one filter, told how late pictures leave.

    What was taken back too soon is taken back later the next time, since each change of effort costs a key picture.
    """

    def __init__(self) -> None:
        self.level = 0
        self._changed = self._lowered = float("-inf")
        self._calm_since: float | None = None
        self._calm_seconds = _CALM_SECONDS

    def observe(self, lag: float, now: float) -> int:
        """A picture is about to leave, so many seconds late; the level from here on."""
        if lag > _CALM:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        if lag > _HOPELESS and self.level < len(_LATE):
            self._raise(len(_LATE), now)
        elif self.level < len(_LATE) and lag > _LATE[self.level] and now - self._changed >= _TRIAL_SECONDS:
            self._raise(self.level + 1, now)
        elif self.level and self._calm_since is not None and now - self._calm_since >= self._calm_seconds:
            self.level -= 1
            self._changed = self._lowered = self._calm_since = now
        elif not self.level and now - self._changed > 2 * _LONGEST_CALM_SECONDS:
            self._calm_seconds = _CALM_SECONDS
        return self.level

    def _raise(self, level: int, now: float) -> None:
        if now - self._lowered < self._calm_seconds:
            self._calm_seconds = min(_LONGEST_CALM_SECONDS, 2 * self._calm_seconds)
        self.level, self._changed = level, now
