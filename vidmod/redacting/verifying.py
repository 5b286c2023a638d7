"""Whether a redacted file is what it should be: its pictures' times, its copied packets, its covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from vidmod.errors import OutputError
from vidmod.redacting.messages import Rewritten
from vidmod.redaction import SILENT_PEAK, TOLERANCE
from vidmod.timebase import format_time

# Up to that crf the cover comes back within `TOLERANCE`; beyond, it is coarser by so many levels for each.
_MEASURED_CRF, _TOLERANCE_PER_CRF = 23, 1.6
# These ring further at the borders of small boxes.
_COARSE_ENCODERS, _COARSE_TOLERANCE = ("libsvtav1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg"), 36.0


class CopyError(OutputError):
    """What was to be as in the source is not."""


class Sent(NamedTuple):
    """A packet: its time base, pts, bytes, the beginning of its SHA-256, and whether it gives a picture."""

    time_base: Fraction
    pts: int | None
    size: int
    digest: str
    shows: bool

    @property
    def seconds(self) -> Fraction:
        """When it is shown."""
        return (self.pts or 0) * self.time_base


def tolerance_of(encoder: str | None, crf: int | None) -> float:
    """By how much an encoder may have changed a cover, in levels of 8 bits; measured, see :mod:`vidmod.redaction`."""
    if encoder in _COARSE_ENCODERS:
        return _COARSE_TOLERANCE
    coarser = max(0, (crf or 0) - _MEASURED_CRF)
    return min(_COARSE_TOLERANCE, TOLERANCE + _TOLERANCE_PER_CRF * coarser)


def check_times(
    name: str, theirs: Sequence[Sent], ours: Collection[Fraction], written: Rewritten, *, timed: bool
) -> str:
    """That every picture of the source is shown when it was.

    Args:
        name: Of the output.
        theirs: The source's packets.
        ours: When the output's pictures are shown, in seconds.
        written: How it was written.
        timed: Whether the source says when its pictures are shown.

    Raises:
        CopyError: It is not so.
    """
    expected = {row.seconds for row in theirs if row.shows}
    if not timed and len(ours) + written.lost == len(expected):
        return "as many pictures as in the source, which does not say when they are shown"
    added, missing = len(set(ours) - expected), len(expected - set(ours))
    if added or (missing and written.full is None):
        raise CopyError(f"{name}: its pictures are not the source's ({added} too many, {missing} too few).")
    return "picture times equal the source's" + (f", but for {missing} that do not decode" if missing else "")


def check_silence(name: str, heard: Sequence[tuple[int, float, float, int]], seconds: float) -> str:
    """That nothing is heard where it is to be silent.

    Args:
        name: Of the output.
        heard: Of each sound stream its index, peak (1 for full scale), when that is, and packets that do not decode.
        seconds: How long it is silent.

    Raises:
        OutputError: It is not so.
    """
    for index, peak, at, undecodable in heard:
        if undecodable:
            raise OutputError(f"{name}: {undecodable} packets of sound stream {index} in muted spans do not decode.")
        if not peak <= SILENT_PEAK:
            raise OutputError(f"{name}: sound stream {index} is heard at {format_time(at)} (peak {peak:.4f} of 1).")
    worst = max((peak for _, peak, _, _ in heard), default=0.0)
    return f"{len(heard)} sound streams decoded, silent for {seconds:.1f} s to {worst:.6f} of full scale"


def check_packets(
    name: str, theirs: Sequence[Sent], ours: Sequence[Sent], time_base: Fraction, written: Rewritten
) -> str:
    """That every packet that was to be copied is as it was.

    Raises:
        CopyError: It is not so.
    """
    if written.full is not None:
        return "every picture was encoded anew"
    spans = [(start * time_base, end * time_base) for start, end in written.spans]
    copied = Counter(
        (row.seconds, row.size, row.digest)
        for row in theirs
        if not any(start <= row.seconds < end for start, end in spans)
    )
    changed = copied - Counter((row.seconds, row.size, row.digest) for row in ours)
    if changed:
        raise CopyError(f"{name}: {changed.total()} packets that were to be copied differ from the source's.")
    return f"{copied.total()} copied packets equal the source's by SHA-256"
