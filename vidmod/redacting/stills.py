"""Whether an image that was written is what it should be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from vidmod.errors import OutputError
from vidmod.media import VideoTrack
from vidmod.redacting.clerk import Clerk
from vidmod.redacting.covering import Covered
from vidmod.redacting.messages import Covering, Rewritten, VerifyTask
from vidmod.redacting.verifying import Sent, check_times, tolerance_of


class Manner(Protocol):
    """How it was covered and encoded; see :class:`vidmod.redacting.settings.RedactSettings`."""

    @property
    def style(self) -> str:
        """`fill`, `mosaic` or `blur`."""

    @property
    def shape(self) -> str:
        """`box` or `ellipse`."""

    @property
    def crf(self) -> int | None:
        """Of the encoder."""


def verify_image(
    output: Path,
    clerks: tuple[Clerk, Clerk],
    track: VideoTrack,
    covered: Covered,
    slated: Sequence[tuple[int, int]],
    written: Rewritten,
    size: tuple[int, int],
    manner: Manner,
) -> tuple[str, ...]:
    """Read an image back, animated or not.

    Args:
        output: What messages call it.
        clerks: One that has the source, and one that has the new file.
        track: The source's picture.
        covered, slated: What is to be covered, in the source's time base.
        written: How it was written.
        size: Width and height that the source is displayed with.
        manner: As it was asked for.

    Returns:
        In words, what was verified.

    Raises:
        OutputError: It is not what it should be.
    """
    source, reader = clerks
    tracks = reader.probe().tracks
    if len(tracks) != 1:
        raise OutputError(f"{output}: {len(tracks)} pictures were written, not one.")
    (mine,) = tracks
    if mine.size != size:
        raise OutputError(f"{output}: is {mine.size[0]}x{mine.size[1]} pixels, and the source {size[0]}x{size[1]}.")
    factor = track.time_base / mine.time_base
    reader.remember(tuple(_moved(row, factor) for row in covered.rows))
    whole = [(math.floor(start * factor), math.ceil(end * factor)) for start, end in slated]
    task = VerifyTask(track=mine, start=None, end=None, slated=whole, style=manner.style, shape=manner.shape)
    found = dict(reader.pictures(task))
    if len(found) != written.encoded:
        raise OutputError(f"{output}: {len(found)} pictures can be decoded of {written.encoded} that were written.")
    worst = max(found.values())
    if worst > tolerance_of(written.encoder, manner.crf):
        raise OutputError(f"{output}: what is to be covered shows, off by {worst:.1f} of 255 levels.")
    pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
    checks = [
        f"{pictures} decoded, covered to {worst:.1f} of 255 levels",
        f"{size[0]}x{size[1]} pixels, as the source is displayed",
    ]
    if len(found) > 1:
        theirs = [Sent(track.time_base, *row) for row in source.packets(track) if row[0] is not None]
        checks.append(check_times(str(output), theirs, {pts * mine.time_base for pts in found}, written, timed=True))
    return tuple(checks)


def _moved(row: Covering, factor: Fraction) -> Covering:
    return Covering(pts=round(row.pts * factor), whole=row.whole, boxes=row.boxes)
