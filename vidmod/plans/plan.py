"""Which pictures of which parts of a stream are looked at, and in what order.

A plan is told of every part that was found, and answers with what to look at. Once all of that was seen it is
asked what comes next; with nothing more, the stream is done. The answers depend on the file, the settings and the
scores alone, never on who was quicker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vidmod.media import Part
from vidmod.media.parts import Shown
from vidmod.timebase import Span, union


@dataclass(frozen=True, slots=True)
class Look:
    """An order to look at a part.

    Attributes:
        wanted: When the pictures are shown, in order; None to choose while it is decoded whole.
    """

    part: Part
    wanted: tuple[int, ...] | None


# Time of every picture that was looked at to how suspicious it is, by category: 1 is enough for a reviewer.
Scores = Mapping[int, tuple[float, ...]]


class Plan(Protocol):
    """A strategy for one stream."""

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:
        """Take the next part, in order; what to look at of it.

        Args:
            shown: The pictures to choose from; none if the part is not sound.
            last: No more pictures will come.
        """

    def proceed(self, scores: Scores) -> list[Look]:
        """What else to look at, now that everything that was asked for was seen."""


class EveryPicture:
    """Look at everything."""

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:  # noqa: ARG002
        """All of it."""
        return Look(part, tuple(picture.pts for picture in shown) if part.sound else None)

    def proceed(self, scores: Scores) -> list[Look]:  # noqa: ARG002
        """Nothing is left."""
        return []


class SpanPictures(EveryPicture):
    """Look at everything that is shown in some spans, in the stream's time base."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = union(spans)

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:  # noqa: ARG002
        """The pictures of it that are shown in a span; all of it if it is not sound and may have some."""
        if part.sound:
            return Look(part, tuple(item.pts for item in shown if self._meets(item.pts, item.end_pts)))
        unknown = part.start_pts is None or part.end_pts is None or part.count < 0
        return Look(part, None if unknown or self._meets(part.start_pts or 0, part.end_pts or 0) else ())

    def _meets(self, start: int, end: int) -> bool:
        return any(span.start < end and start < span.end for span in self._spans)


class KeyPictures(EveryPicture):
    """Look at the pictures that can be decoded by themselves."""

    def found(self, part: Part, shown: list[Shown], *, last: bool) -> Look:  # noqa: ARG002
        """Its key pictures."""
        times = {picture.pts for picture in shown}
        return Look(part, tuple(pts for pts in part.key_times() if pts in times) if part.sound else None)
