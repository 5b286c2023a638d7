"""How long a worker may take for what it is doing."""

from __future__ import annotations

import math
import time

_GRACE_SECONDS = 0.5


class Deadline:
    """A timer for one task that runs only while the worker can work.

    It does not run at first: a process that has not started is not late.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._left = math.inf
        self._since: float | None = None
        self._heard = False

    def start(self, seconds: float | None) -> None:
        """Give the present task this long from now on; None for ever."""
        self.seconds = seconds
        self._left = math.inf if seconds is None else seconds
        self._heard = False
        if self._since is not None:
            self._since = time.monotonic()

    def run(self, running: bool) -> None:
        """Let the time pass, or hold it."""
        self._left = self.left_seconds()
        self._since = time.monotonic() if running else None

    def hear(self) -> None:
        """Note that a message came: it may have waited for us while the time ran out.

        Once a task this gives half a second, in which the next task can be started or the time held.
        """
        left = self.left_seconds()
        if left < _GRACE_SECONDS and not self._heard:
            self._heard = True
            self._left += _GRACE_SECONDS - left

    def left_seconds(self) -> float:
        """What is left; zero or less if it is over."""
        return self._left if self._since is None else self._left - (time.monotonic() - self._since)

    @property
    def due_seconds(self) -> float:
        """In how many seconds it will be over if nothing happens; infinite while it is held."""
        return math.inf if self._since is None else self.left_seconds()
