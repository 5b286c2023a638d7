"""What a tool's file says, before it is compared with what was exported to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vidmod.annotations import Run

# Of a file, packed or not: a film of two hours with a box in every frame has a tenth of that.
MAX_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class ReturnedSegment:
    """A segment in the frames [start, end); an end of None is the film's.

    Attributes:
        where: The path to it in the file, for messages.
        key: Of the segment that it is; None or unknown for a new one.
        category: As it is shown.
        verdict, decision, note: None where the file does not say.
    """

    where: str
    key: str | None
    category: str | None
    start: int
    end: int | None
    verdict: str | None = None
    decision: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ReturnedTrack:
    """A box track.

    Attributes:
        where: The path to it in the file, for messages.
        key: Of the track that it is; None or unknown for a new one.
        label: As it is shown.
        runs: At least one.
    """

    where: str
    key: str | None
    label: str | None
    runs: Sequence[Run]
    decision: str | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """A file.

    Attributes:
        sha256: Of the video to which it says that it belongs.
        digest: Of what was shown of a timeline, see :class:`vidmod.annotations.Annotations`.
        size: Of the picture that its boxes are in, if it says.
        reviewer, at: Who decided and when, if it says.
    """

    sha256: str | None
    digest: str | None
    segments: Sequence[ReturnedSegment]
    tracks: Sequence[ReturnedTrack]
    size: tuple[int, int] | None = None
    reviewer: str | None = None
    at: datetime | None = None
