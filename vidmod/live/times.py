"""Times of a live filter: what leaves counts on the clock that all processes share, people from when it began."""

from __future__ import annotations

# As in `vidmod.media.live`, which is for those that decode.
UNITS_PER_SECOND = 90_000


def stream_seconds(pts: int, origin: float) -> float:
    """The time in the stream at which a picture leaves, in seconds.

    Args:
        pts: In 1/90000 s of the shared clock.
        origin: That clock when the stream began, in seconds.
    """
    return round(pts / UNITS_PER_SECOND - origin, 6)
