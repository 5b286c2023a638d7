"""Which frames are looked at.

Where a part of a stream is sound, when its pictures are shown is known before anything is decoded, and a plan
(:mod:`vidmod.plans`) chooses among them. Where it is not, a sampler chooses while it is decoded: push frames in
presentation order, get the samples, flush.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from vidmod.errors import choose

MODES = ("uniform", "adaptive", "keyframes", "all")


class Timed(Protocol):
    """Anything that is shown for a time, half open, in the stream's time base."""

    @property
    def pts(self) -> int:
        """When it is first shown."""

    @property
    def end_pts(self) -> int:
        """When something else is shown."""


Item = TypeVar("Item", bound=Timed)


class Sampler(Protocol[Item]):
    """A stage: it owns no thread and holds at most one frame."""

    def update(self, frame: Item) -> list[Item]:
        """Take the next frame; give those that are to be looked at."""

    def finish(self) -> list[Item]:
        """Give what is still to be looked at: the last frame, always."""


class EveryFrame(Generic[Item]):
    """Look at everything."""

    def update(self, frame: Item) -> list[Item]:
        """Give the frame back."""
        return [frame]

    def finish(self) -> list[Item]:
        """Nothing is held."""
        return []


class Uniform(Generic[Item]):
    """The first frame, the first at or after every multiple of `interval`, and the last.

    Also every frame whose omission would leave more than `interval` of presentation time unseen:
    in video of variable frame rate the frame before a grid point can be shown for long.

    Args:
        interval: In units of the stream's time base.
        origin: Where the grid begins; None for the first frame.
    """

    def __init__(self, interval: Fraction, origin: int | None = None) -> None:
        self._interval = interval
        self._origin = origin
        self._next: Fraction | None = None
        self._seen_until = 0
        self._held: Item | None = None

    def update(self, frame: Item) -> list[Item]:
        """Take the next frame; give it back if it is to be looked at."""
        if self._origin is None:
            self._origin = frame.pts
        if self._next is not None and frame.pts < self._next and frame.end_pts - self._seen_until <= self._interval:
            self._held = frame
            return []
        self._held = None
        self._seen_until = frame.end_pts
        self._next = self._origin + ((frame.pts - self._origin) // self._interval + 1) * self._interval
        return [frame]

    def finish(self) -> list[Item]:
        """Give the last frame, if it was not given already."""
        held, self._held = self._held, None
        return [] if held is None else [held]


def create(mode: str, interval: Fraction, *, origin: int | None = None) -> Sampler[Item]:
    """The sampler for what has to be decoded whole.

    Args:
        mode: One of `MODES`.
        interval: The longest presentation time that may stay unseen, in units of the time base.
        origin: Where the grid of `uniform` begins.

    Raises:
        UsageError: No such mode.
    """
    choose("sampling", mode, MODES)
    return EveryFrame() if mode == "all" or interval <= 0 else Uniform(interval, origin)
