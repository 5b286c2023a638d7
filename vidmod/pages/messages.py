"""What a report and the workers that take its pictures say to each other.

As in :mod:`vidmod.messages`, replies come from a process that parsed an untrusted file, and are checked, not believed.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec

from vidmod.media.facts import TrackKind
from vidmod.messages import Failed, MediumSettings, Working

# No container holds larger ones.
_MOST_PIXELS = (1 << 31) - 1


class TakeSettings(MediumSettings, frozen=True, kw_only=True):
    """What a worker is started with.

    Attributes:
        max_packets: More of one stream are not read.
        clear: Pictures are handed over in colour and sharp; without it, as what :mod:`vidmod.blurring` leaves.
    """

    max_packets: int
    clear: bool


class TakeTask(msgspec.Struct, frozen=True, tag="take", kw_only=True):
    """Decode pictures and hand them over small. Answered by every `Taken`, then `TakeDone`; or `Failed`.

    Attributes:
        stream, kind: Which pictures of the file; see :class:`vidmod.media.VideoTrack`.
        hidden: Of kind `hidden`, how many there are; 0 if unknown.
        time_base: Of `wanted`, in seconds.
        wanted: When they are shown, in order, each once.
    """

    stream: int
    kind: TrackKind
    hidden: int
    time_base: Fraction
    wanted: list[int]


class Taken(msgspec.Struct, frozen=True, tag="taken", kw_only=True):
    """One picture, in a slot of shared memory.

    Attributes:
        place: In the task's `wanted`.
        width, height: Of the picture as displayed, from which follows how large the small one is.
    """

    slot: int
    place: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.place < 0 or not 0 < self.width <= _MOST_PIXELS or not 0 < self.height <= _MOST_PIXELS:
            raise ValueError("Invalid picture.")


class TakeDone(msgspec.Struct, frozen=True, tag="took"):
    """That was all; what was not handed over could not be found."""


Reply = Taken | TakeDone | Working | Failed
ReplyType: Any = Reply
