"""Which pictures of a stream are looked at, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from vidmod.plans.adaptive import AdaptivePictures, Audit
from vidmod.plans.plan import EveryPicture, KeyPictures, Look, Plan, Scores, SpanPictures
from vidmod.plans.uniform import UniformPictures
from vidmod.timebase import Span, to_pts

__all__ = ["AdaptivePictures", "Audit", "Look", "Plan", "Scores", "UniformPictures", "create"]

# How closely `adaptive` looks where something could be, whatever the contract allows elsewhere.
_CLOSE_SECONDS = Fraction(1, 2)


def create(
    mode: str, interval: Fraction, time_base: Fraction, seed: int, spans: Sequence[tuple[Fraction, Fraction]] = ()
) -> Plan:
    """The plan of that name.

    Args:
        mode: One of :data:`vidmod.sampling.MODES`.
        interval: The longest presentation time that may stay unseen, in units of the time base.
        time_base: Seconds per unit.
        seed: For what is chosen at random.
        spans: With `all`, only what is shown in these, [start, end) in seconds; none for everything.
    """
    if spans:
        return SpanPictures([Span(int(start // time_base), to_pts(end, time_base)) for start, end in spans])
    if mode == "all" or interval <= 0:
        return EveryPicture()
    if mode == "keyframes":
        return KeyPictures()
    if mode == "adaptive":
        return AdaptivePictures(interval, _CLOSE_SECONDS / time_base, time_base, seed)
    return UniformPictures(interval)
