"""Which pictures of a stream are looked at, and in what order."""

from __future__ import annotations

from fractions import Fraction

from vidmod.plans.adaptive import AdaptivePictures, Audit
from vidmod.plans.plan import EveryPicture, KeyPictures, Look, Plan, Scores
from vidmod.plans.uniform import UniformPictures

__all__ = ["AdaptivePictures", "Audit", "Look", "Plan", "Scores", "UniformPictures", "create"]

# How closely `adaptive` looks where something could be, whatever the contract allows elsewhere.
_CLOSE_SECONDS = Fraction(1, 2)


def create(mode: str, interval: Fraction, time_base: Fraction, seed: int) -> Plan:
    """The plan of that name.

    Args:
        mode: One of :data:`vidmod.sampling.MODES`.
        interval: The longest presentation time that may stay unseen, in units of the time base.
        time_base: Seconds per unit.
        seed: For what is chosen at random.
    """
    if mode == "all" or interval <= 0:
        return EveryPicture()
    if mode == "keyframes":
        return KeyPictures()
    if mode == "adaptive":
        return AdaptivePictures(interval, _CLOSE_SECONDS / time_base, time_base, seed)
    return UniformPictures(interval)
