"""From a source's times to the times at which its frames leave.

Every frame leaves a fixed delay after it should have come: its own time tells when that is, so that what a network
delivers in bursts leaves evenly. All times that leave are seconds of one clock that never jumps, whatever the source's
do: where they go back, leap, or fall behind, the source is placed anew.
"""

from __future__ import annotations

from dataclasses import dataclass

# A frame that comes so much later than it should, as a share of the delay, could not be looked at in time.
_LATEST = 0.5
# One that comes so much earlier, in seconds, would wait: a source that was held up and caught up.
_EARLIEST_SECONDS = 0.5
# Two frames of a source are never further apart than this.
_MOST_APART_SECONDS = 10.0
# Two frames that leave are never closer together than this.
_CLOSEST_SECONDS = 0.004
# Clocks of two machines differ by some 50 parts in a million; the delay follows no faster than nobody sees.
_MOST_SLEW = 5e-4
_SMOOTHING_SECONDS = 20.0
_SETTLING_SECONDS = 4.0
_BURST_SECONDS, _BURST_JITTER = 3.0, 0.02


@dataclass(frozen=True, slots=True)
class Placed:
    """When a frame leaves.

    Attributes:
        due: In seconds of the clock that `now` was of.
        is_cut: It does not follow upon the frame before it.
    """

    due: float
    is_cut: bool


class Arrivals:
    """Places the frames of one source after the other.

    Args:
        delay_seconds: From when a frame should come until it leaves.
    """

    def __init__(self, delay_seconds: float) -> None:
        self._delay = delay_seconds
        self._anchor: float | None = None  # `now` at the source's time 0
        self._last_time = 0.0
        self._last_now = 0.0
        self._last_due = float("-inf")
        self._error = 0.0  # how late frames come lately, smoothed
        self._usual: float | None = None  # what that was at first
        self._since = 0.0
        self._is_cut = False  # and no frame has said so yet

    def lose(self) -> None:
        """The source is gone; what comes next is another one."""
        self._anchor = None

    def frame(self, time: float, now: float) -> Placed | None:
        """Place a picture.

        Args:
            time: The source's, in seconds.
            now: When it came.

        Returns:
            None for one that is not to be shown: it would leave with the one before it, or sooner.
        """
        is_shown = True
        if self._is_elsewhere(time, now):
            self._is_cut = True
            self._anchor, self._error, self._usual, self._since = now - time, 0.0, None, now
        elif self._is_of_a_burst(time, now):
            # All of it waited somewhere: the last of it is what is new, and what it leaves out is a cut.
            self._anchor, self._error = now - time, 0.0
            self._is_cut, is_shown = True, False
        else:
            self._follow(time, now)
        assert self._anchor is not None
        self._last_time, self._last_now = time, now
        due = time + self._anchor + self._delay
        if not is_shown or due < self._last_due + _CLOSEST_SECONDS:
            return None
        self._last_due = due
        is_cut, self._is_cut = self._is_cut, False
        return Placed(due, is_cut)

    def sound(self, time: float, now: float) -> float | None:
        """When a piece of sound leaves; None if no picture tells, since it is of another time than they are."""
        if self._anchor is None:
            return None
        due = time + self._anchor + self._delay
        return due if abs(due - self._delay - now) <= max(_EARLIEST_SECONDS, self._latest) else None

    @property
    def _latest(self) -> float:
        return self._delay * _LATEST

    def _is_elsewhere(self, time: float, now: float) -> bool:
        if self._anchor is None or not 0 < time - self._last_time <= _MOST_APART_SECONDS:
            return True
        return not -_EARLIEST_SECONDS <= now - time - self._anchor <= self._latest

    def _is_of_a_burst(self, time: float, now: float) -> bool:
        """Whether it comes sooner than what a connection began with."""
        return self._anchor is not None and (
            now - self._since < _BURST_SECONDS and now - time < self._anchor - _BURST_JITTER
        )

    def _follow(self, time: float, now: float) -> None:
        """Let the delay follow the source's clock, slowly."""
        assert self._anchor is not None
        passed = max(0.0, now - self._last_now)
        share = min(1.0, passed / (_SETTLING_SECONDS if self._usual is None else _SMOOTHING_SECONDS))
        self._error += (now - time - self._anchor - self._error) * share
        if self._usual is None:
            if now - self._since >= _SETTLING_SECONDS:
                self._usual = self._error
            return
        step = max(-_MOST_SLEW * passed, min(_MOST_SLEW * passed, self._error - self._usual))
        self._anchor += step
        self._error -= step
