"""The account of one stream's packets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from vidmod.timebase import Span, union

# A hostile file can have a hole after every packet; past this many the nearest are joined.
_MAX_HOLES = 10_000


@dataclass(slots=True)
class Ledger:
    """What became of every packet of one stream, complete once reading has ended.

    packets = frames + lost + hidden + without_picture + skipped for `video` and `cover`. A `view` has as
    many pictures again as the base view; `hidden` counts the hidden ones. Where only a part is
    read, packets whose picture is outside of it count only if they were decoded.

    Attributes:
        packets: Packets with data that the container has.
        frames: Packets that gave a picture (for a `view`: pictures of that view).
        lost: Packets whose picture could not be decoded.
        hidden: Packets that an edit list keeps from being shown; a player that ignores edit
            lists shows them.
        without_picture: Packets that hold no picture to show (invisible reference frames of VP8
            and VP9, placeholders of MPEG-4, second fields).
        skipped: Packets that were not decoded because no sample needs them.
        damaged: Pictures that the decoder patched.
        unusable: Pictures of a size or format that nothing can scale.
        read_errors: Times that reading on failed.
        size_changes: Times that the picture size changed.
        missing_pts, backward_pts: Pictures whose time had to be inferred.
        first_pts: Time of the first picture or lost packet.
        end_pts: End of the last picture or lost packet.
        holes: Where pictures were lost, and from `end_pts` to the claimed end if the file was
            cut off.
        truncated: Whether it was.
    """

    packets: int = 0
    frames: int = 0
    lost: int = 0
    hidden: int = 0
    without_picture: int = 0
    skipped: int = 0
    damaged: int = 0
    unusable: int = 0
    read_errors: int = 0
    size_changes: int = 0
    missing_pts: int = 0
    backward_pts: int = 0
    first_pts: int | None = None
    end_pts: int | None = None
    holes: list[Span] = field(default_factory=list)
    truncated: bool = False

    def add_hole(self, start: int, end: int) -> None:
        """Record that what was to be shown in [start, end) is unknown."""
        self.holes.append(Span(start, end))
        self.extend(start, end)
        if len(self.holes) > 2 * _MAX_HOLES:
            self.holes = self._joined()

    def as_json(self) -> dict[str, Any]:
        """Its counts, for a timeline."""
        left_out = ("first_pts", "end_pts", "holes")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}

    def include(self, other: Ledger) -> None:
        """Take in the account of another part of the same stream."""
        for field_ in fields(self):
            mine, theirs = getattr(self, field_.name), getattr(other, field_.name)
            if isinstance(theirs, int) and field_.name not in ("first_pts", "end_pts"):
                setattr(self, field_.name, bool(mine or theirs) if field_.name == "truncated" else mine + theirs)
        for hole in other.holes:
            self.add_hole(int(hole.start), int(hole.end))
        if other.first_pts is not None and other.end_pts is not None:
            self.extend(other.first_pts, other.end_pts)

    def extend(self, start: int, end: int) -> None:
        """Widen the stream's extent."""
        self.first_pts = start if self.first_pts is None else min(self.first_pts, start)
        self.end_pts = end if self.end_pts is None else max(self.end_pts, end)

    def _joined(self) -> list[Span]:
        gap = 0
        holes = union(self.holes)
        while len(holes) > _MAX_HOLES:
            gap = max(1, gap * 2)
            holes = union(holes, gap)
        return holes
