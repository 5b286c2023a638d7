"""Strictly increasing presentation times."""

from __future__ import annotations

from fractions import Fraction

from vidmod.timebase import to_pts

# A backward step longer than this is a clock that was set anew, not pictures out of order.
_RESET_SECONDS = 2


class PresentationClock:
    """Strictly increasing presentation times from what decoders and containers say.

    Where pts are missing or run backward the decoding times serve instead, chosen as in FFmpeg's
    `guess_correct_pts`: by which of the two has been wrong less often. A clock that was set back
    goes on from where it was.

    Args:
        frame_duration: Length of a picture in time base units where the stream gives none.
        time_base: Seconds per unit.
    """

    def __init__(self, frame_duration: int, time_base: Fraction) -> None:
        self._frame_duration = frame_duration
        self._reset = to_pts(Fraction(_RESET_SECONDS), time_base)
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = 0
        self._faulty_dts = 0
        self._offset = 0
        self._offset_before = 0
        self.now: int | None = None
        self.missing = 0
        self.backward = 0

    def tick(self, pts: int | None, dts: int | None, duration: int = 0) -> int:
        """The time of the next picture, later than every time before.

        `duration` is how long the picture before it was shown, 0 if unknown.
        """
        step = duration if duration > 0 else self._frame_duration
        guess = self._guess(pts, dts)
        if guess is None:
            self.missing += 1
            time = 0 if self.now is None else self.now + step
        else:
            time = guess + self._offset
        if self.now is not None and time <= self.now:
            self.backward += 1
            if self.now - time > self._reset:
                self._offset_before = self._offset
                self._offset += self.now + step - time
                time = self.now + step
            else:
                time = self.now + 1
        self.now = time
        return time

    def place(self, pts: int | None, dts: int | None, near: int | None) -> int | None:
        """When a picture that never came was to be shown, None if nothing says so.

        `near` is the time of a picture from about the same place, which tells on what side of a
        reset the lost one was.
        """
        guess = pts if pts is not None and not (self._prefers_dts and dts is not None) else dts
        if guess is None:
            return None
        times = (guess + self._offset, guess + self._offset_before)
        return times[0] if near is None else min(times, key=lambda time: abs(time - near))

    @property
    def _prefers_dts(self) -> bool:
        return self._faulty_pts > self._faulty_dts

    def _guess(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and (dts is None or not self._prefers_dts):
            return pts
        return dts
