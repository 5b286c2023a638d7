"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


def wait_seconds(
    failures: int,
    *,
    first: float,
    most: float,
    growth: float = 2.0,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Seconds to wait after so many failures in a row, 1 or more; between `first` and `most`.

    Drawn evenly from the upper half of [0, `first` * `growth` ** `failures`], so that many clients of a server that
    came back do not return all at once ("equal jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    # A power of 64 is beyond any limit; a float does not hold every one.
    ceiling = min(most, first * growth ** min(failures, 64))
    return min(most, max(first, uniform(ceiling / 2, ceiling)))


class Backoff:
    """Exponential backoff with jitter, which starts over after a time of success.

    Success that does not last is none: a server that takes a connection and drops it at once is left alone for
    longer each time.

    Args:
        first: The shortest wait, in seconds, above 0.
        most: The longest, in seconds, not below `first`.
        growth: How many times longer each wait may be than the one before.
        reset_after: Seconds that success has to last; 0 if it counts at once.
        clock: Seconds that only go forward.
        uniform: Draws a number between two.

    Attributes:
        failures: In a row.

    Raises:
        ValueError: A time makes no sense.
    """

    def __init__(
        self,
        *,
        first: float = 0.5,
        most: float = 10.0,
        growth: float = 2.0,
        reset_after: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if not (0 < first <= most < float("inf") and 0 <= reset_after < float("inf") and growth > 1):
            raise ValueError(f"Invalid backoff ({first}, {most}, {reset_after}). Use 0 < first <= most.")
        self._first = first
        self._most = most
        self._growth = growth
        self._reset_after = reset_after
        self._clock = clock
        self._uniform = uniform
        self._since: float | None = None
        self.failures = 0

    def failed(self) -> float:
        """Note a failure, or the end of a success, and return the seconds to wait."""
        self._settle()
        self._since = None
        self.failures += 1
        return wait_seconds(
            self.failures, first=self._first, most=self._most, growth=self._growth, uniform=self._uniform
        )

    def succeeded(self) -> None:
        """Note that it works, at first or still."""
        if self._since is None:
            self._since = self._clock()
        self._settle()

    def _settle(self) -> None:
        if self._since is not None and self._clock() - self._since >= self._reset_after:
            self.failures = 0
