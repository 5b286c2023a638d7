"""Pictures that a page shows of a segment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture of the video, small.

    Attributes:
        pts, time_seconds: Of the sample that it belongs to.
        data: The encoded picture.
        media_type: Of `data`, such as `image/png`.
        width, height: Pixels of `data`; the shape is that of the picture as displayed.
        is_clear: Neither blurred nor grey: somebody asked for that.
    """

    pts: int
    time_seconds: float
    data: bytes
    media_type: str
    width: int
    height: int
    is_clear: bool = False
