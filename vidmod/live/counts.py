"""What became of pictures: counted where they are decoded, told to who decodes nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What became of pictures, since the pipe began.

    Attributes:
        decoded: Pictures that came.
        damaged: Packets that could not be decoded.
        late: Pictures and packets that came too late to be shown.
        looked: Pictures of which the looks are here.
        shown: Pictures that left as they were, or with boxes; in a shadow, that would have.
        boxed: Those of them with boxes.
        found: Pictures covered whole for what was seen.
        unclear: Pictures covered whole because something came or went between the looks around them.
        unseen: Pictures covered whole because too little was seen.
        held: Pictures covered whole by command.
        filled: Covers that left because there was no picture.
    """

    decoded: int = 0
    damaged: int = 0
    late: int = 0
    looked: int = 0
    shown: int = 0
    boxed: int = 0
    found: int = 0
    unclear: int = 0
    unseen: int = 0
    held: int = 0
    filled: int = 0
