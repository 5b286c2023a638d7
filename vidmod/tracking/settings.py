"""How detections become tracks and tracks become regions."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from vidmod.errors import UsageError

_LEAST: Final = 1e-9  # stands for "above 0"
_SECONDS: Final = (0.0, math.inf, "seconds, 0 or more")
_SHARE: Final = (0.0, math.inf, "a share of the box's size, 0 or more")
_POSITIVE: Final = (_LEAST, math.inf, "a number above 0")
_PROBABILITY: Final = (0.0, 1.0, "a probability in [0, 1]")
_RANGES: Final = {
    **dict.fromkeys(("high", "low", "label_penalty"), _PROBABILITY),
    "duplicate_iou": (_LEAST, 1.0, "an overlap above 0, up to 1"),
    "miss_chance": (_LEAST, 1.0 - _LEAST, "a probability above 0 and below 1"),
    **dict.fromkeys(("max_gap_seconds", "extend_seconds", "max_extend_seconds"), _SECONDS),
    **dict.fromkeys(("margin", "max_growth", "gate_size"), _SHARE),
    **dict.fromkeys(("noise", "manoeuvre", "first_speed"), _POSITIVE),
    **dict.fromkeys(("sigmas", "gate_sigmas"), (0.0, math.inf, "a number, 0 or more")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """How detections become tracks and tracks become regions.

    "Size" is a box's width along x and its height along y; where motion is meant, it is the geometric mean
    of both. benchmarks/tracking.py shows what the defaults do.

    Attributes:
        high: Detections with this score or more are covered whatever happens, and start tracks.
        low: Those between `low` and `high` only continue tracks, both ways in time. Those below are ignored.
        families: Labels that may be the same thing, for instance FACE_FEMALE and FACE_MALE. A label in no
            family is a family of its own. None: any label may continue any track.
        label_penalty: What another label adds to the cost of a match, which lies in [0, 1].
        duplicate_iou: A detection that overlaps a matched one by this much is the same thing once more: it
            is covered, and starts no track.
        max_gap_seconds: A track without a detection for longer than this has ended.
        extend_seconds: How long a track is covered before its first and after its last detection, at least.
        max_extend_seconds: The same, at most, and while the picture's border cuts it off. Between the two, it is as
            long as a thing found as often as this one would be missed by mere chance.
        miss_chance: The chance that is left there, of being missed for even longer.
        margin: How much wider and higher than its box a region is, as a share of the box's size: half of it on
            each side.
        noise: Standard error of a detection's centre, as a share of its size; of its width and height √2 times.
        manoeuvre: Speed that a thing gains or loses within a second, in sizes per second (standard deviation).
        first_speed: Speed of a thing that was seen once, in sizes per second (standard deviation).
        sigmas: A smoothed box is grown on each side by as many standard errors of that side; fewer where a track's
            detections tremble less than `noise` says, more where they tremble more.
        max_growth: The most that this growth adds to one side, as a share of the box's size.
        gate_size: A detection further from where a track should be than this share of their mean size...
        gate_sigmas: ...and this many standard errors together, is another thing. A track that takes another
            thing's detection uncovers its own, so this is narrow where its speed is known.
        look_ahead_seconds: A frame's regions are settled when the frames until this time after it are known
            (live). None: when no later frame can change them (offline).

    Raises:
        UsageError: A field is of the wrong type or out of range; the message names it.
    """

    high: float = 0.4
    low: float = 0.1
    families: tuple[tuple[str, ...], ...] | None = None
    label_penalty: float = 0.1
    duplicate_iou: float = 0.7
    max_gap_seconds: float = 2.0
    extend_seconds: float = 0.3
    max_extend_seconds: float = 1.0
    miss_chance: float = 0.02
    margin: float = 0.2
    noise: float = 0.025
    manoeuvre: float = 1.2
    first_speed: float = 5.0
    sigmas: float = 2.0
    max_growth: float = 0.4
    gate_size: float = 0.3
    gate_sigmas: float = 2.0
    look_ahead_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high, allowed) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high, allowed)
        if self.look_ahead_seconds is not None:
            _check_number("look_ahead_seconds", self.look_ahead_seconds, *_SECONDS)
        _check_order("low", self.low, "high", self.high)
        _check_order("extend_seconds", self.extend_seconds, "max_extend_seconds", self.max_extend_seconds)
        _check_order("max_extend_seconds", self.max_extend_seconds, "max_gap_seconds", self.max_gap_seconds)
        named = [label for family in self.families or () for label in family]
        if len(named) != len(set(named)):
            raise UsageError(f"Invalid families ({self.families!r}). A label belongs to one family at most.")

    def family(self, label: str) -> str:
        """Name the family of a label by its first member; the empty string where all are one."""
        if self.families is None:
            return ""
        return next((family[0] for family in self.families if label in family), label)

    def as_dict(self) -> dict[str, object]:
        """Return the fields by name: what a timeline's provenance records."""
        return dataclasses.asdict(self)


def _check_number(name: str, value: object, low: float, high: float, allowed: str) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high:  # type: ignore[operator]
        raise UsageError(f"Invalid {name} ({value!r}). Use {allowed}.")


def _check_order(smaller: str, value: float, larger: str, limit: float) -> None:
    if value > limit:
        raise UsageError(f"Invalid {smaller} ({value!r}). Use at most {larger}, which is {limit!r}.")
