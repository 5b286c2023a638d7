"""Seconds of presentation time to frame numbers, which begin with 0, and back.

A timeline has the times of the pictures that were looked at, and an average rate. Where every picture was looked at, a
frame's number is its place among them, exactly. Else frames lie on a grid of the average rate: right for a constant
rate, and with a variable one as near as can be told without the video.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from vidmod.timeline import Timeline

_UNKNOWN_RATE = Fraction(25)
# Of a frame: times are rounded, in Matroska to the millisecond.
_SLACK = 0.05
# No film is longer; headers lie.
_MAX_FRAMES = 10**9


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a film.

    Attributes:
        first_seconds: When frame 0 is shown.
        end_seconds: When the last one no longer is.
        rate: Frames per second, on average.
        count: How many there are. Never more than the film has, as far as that is known: CVAT refuses a whole file
            for one frame too many.
        times: When each is shown, in seconds, if all were looked at.
    """

    first_seconds: float
    end_seconds: float
    rate: Fraction
    count: int
    times: tuple[float, ...] = ()

    @classmethod
    def of(cls, timeline: Timeline, *, as_played: bool = False) -> Frames:
        """The frames of a timeline's first stream.

        Args:
            as_played: Frame numbers are a player's time multiplied by the rate, as in Label Studio; else they count
                pictures, as in CVAT.
        """
        first = timeline.coverage[0].start_seconds if timeline.coverage else timeline.source["start_seconds"]
        if as_played:
            first = min(first, timeline.source["start_seconds"])
        end = max((span.end_seconds for span in timeline.coverage), default=first)
        times = () if as_played else _all_times(timeline)
        # Label Studio takes less than one for the seconds of a frame.
        rate = max(_rate(timeline), Fraction(1)) if as_played else _rate(timeline)
        estimate = max(1, round(min(max((end - first) * float(rate), 1.0), _MAX_FRAMES)))
        counted = _counted(timeline)
        if times:
            first, estimate = times[0], len(times)
        elif not as_played and abs(estimate - counted) <= max(2, estimate // 50):
            estimate = max(1, min(estimate, counted))
        return cls(first, end, rate, estimate, times)

    def at(self, seconds: float) -> int:
        """The frame whose time is nearest."""
        if self.times:
            place = bisect_left(self.times, seconds)
            near = [other for other in (place - 1, place) if 0 <= other < len(self.times)]
            return min(near, key=lambda other: abs(self.times[other] - seconds))
        return min(max(math.floor(self._place(seconds) + 0.5), 0), self.count - 1)

    def since(self, seconds: float) -> int:
        """The first frame that is shown at that time or later; the count of frames if there is none."""
        if self.times:
            return bisect_left(self.times, seconds - _SLACK / float(self.rate))
        return min(max(math.ceil(self._place(seconds) - _SLACK), 0), self.count)

    def seconds(self, frame: int) -> float:
        """When a frame is shown, to the microsecond; from the last one's end on, as if the film went on."""
        if self.times:
            if frame < len(self.times):
                return self.times[max(frame, 0)]
            return round(self.end_seconds + (frame - len(self.times)) / float(self.rate), 6)
        return round(self.first_seconds + frame / float(self.rate), 6)

    @property
    def half_seconds(self) -> float:
        """Half of what a frame lasts."""
        return 0.5 / float(self.rate)

    @property
    def limit(self) -> int:
        """More frames than this the film does not have, even if its rate and duration are a little off."""
        return self.count + self.count // 100 + math.ceil(self.rate)

    def ended(self, frame: int | None) -> int | None:
        """The first frame in which something is not shown; None if it is shown to the end."""
        return None if frame is None or frame >= self.count else frame

    def _place(self, seconds: float) -> float:
        return min(max((seconds - self.first_seconds) * float(self.rate), -1.0), float(_MAX_FRAMES))


def _rate(timeline: Timeline) -> Fraction:
    text = None if timeline.source["video"] is None else timeline.source["video"]["average_rate"]
    numerator, _, denominator = (text or "0/0").partition("/")
    # Longer numbers than that are no rate.
    if max(len(numerator), len(denominator)) < 12 and int(numerator) > 0 and int(denominator) > 0:
        return Fraction(int(numerator), int(denominator))
    shown = [sample.duration_seconds for sample in timeline.samples if sample.duration_seconds > 1e-6]
    return Fraction(1 / min(shown)).limit_denominator(1001) or _UNKNOWN_RATE if shown else _UNKNOWN_RATE


def _is_whole_scan(timeline: Timeline) -> bool:
    sampling = timeline.provenance.get("sampling", {})
    return timeline.status == "complete" and not any(
        sampling.get(name) is not None for name in ("start_seconds", "end_seconds", "stop_at")
    )


def _all_times(timeline: Timeline) -> tuple[float, ...]:
    """When every picture is shown, if a scan has looked at each."""
    if not _is_whole_scan(timeline) or timeline.provenance.get("sampling", {}).get("mode") != "all":
        return ()
    times = tuple(sample.time_seconds for sample in timeline.samples)
    return times if all(one < other for one, other in pairwise(times)) else ()


def _counted(timeline: Timeline) -> int:
    """How many pictures the stream's packets gave, if a scan has counted them all; else 0."""
    if not _is_whole_scan(timeline) or not timeline.streams:
        return 0
    ledger = timeline.streams[0].ledger
    return int(ledger.get("packets", 0)) - sum(int(ledger.get(name, 0)) for name in ("hidden", "without_picture"))
