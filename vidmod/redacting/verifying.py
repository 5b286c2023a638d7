"""Whether a redacted file is what it should be: its pictures' times, its copied packets, its covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from vidmod.cuts import Cuts
from vidmod.errors import OutputError
from vidmod.redacting.messages import OtherPacket, Rewritten
from vidmod.redaction import SILENT_PEAK, TOLERANCE
from vidmod.timebase import format_time, overlaps

# Up to that crf the cover comes back within `TOLERANCE`; beyond, it is coarser by so many levels for each.
_MEASURED_CRF, _TOLERANCE_PER_CRF = 23, 1.6
# These ring further at the borders of small boxes.
_COARSE_ENCODERS, _COARSE_TOLERANCE = ("libsvtav1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg"), 36.0


_NONE = Cuts()


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
    name: str,
    theirs: Sequence[Sent],
    ours: Collection[Fraction],
    written: Rewritten,
    *,
    timed: bool,
    cuts: Cuts = _NONE,
) -> str:
    """That every picture of the source is shown when it was, or earlier by what was cut before it.

    Args:
        name: Of the output.
        theirs: The source's packets.
        ours: When the output's pictures are shown, in seconds.
        written: How it was written.
        timed: Whether the source says when its pictures are shown.
        cuts: What was removed.

    Raises:
        CopyError: It is not so.
    """
    expected = {cuts.shifted(row.seconds) for row in theirs if row.shows and not cuts.removes(row.seconds, row.seconds)}
    if not timed and len(ours) + written.lost == len(expected):
        return "as many pictures as in the source, which does not say when they are shown"
    added, missing = len(set(ours) - expected), len(expected - set(ours))
    if added or (missing and written.full is None):
        raise CopyError(f"{name}: its pictures are not the source's ({added} too many, {missing} too few).")
    moved = ", those that remain moved forward by what was cut" if cuts else ""
    return f"picture times equal the source's{moved}" + (f", but for {missing} that do not decode" if missing else "")


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
    name: str,
    theirs: Sequence[Sent],
    ours: Sequence[Sent],
    time_base: Fraction,
    written: Rewritten,
    cuts: Cuts = _NONE,
) -> str:
    """That every packet that was to be copied is as it was.

    Raises:
        CopyError: It is not so.
    """
    if written.full is not None:
        return "every picture was encoded anew"
    spans = [(start * time_base, end * time_base) for start, end in written.spans]
    copied = Counter(
        (cuts.shifted(row.seconds), row.size, row.digest)
        for row in theirs
        if not any(start <= row.seconds < end for start, end in spans) and not cuts.removes(row.seconds, row.seconds)
    )
    changed = copied - Counter((row.seconds, row.size, row.digest) for row in ours)
    if changed:
        raise CopyError(f"{name}: {changed.total()} packets that were to be copied differ from the source's.")
    return f"{copied.total()} copied packets equal the source's by SHA-256"


def cuts_of(written: Rewritten, time_base: Fraction) -> Cuts:
    """What the process that wrote it says was removed.

    Raises:
        OutputError: That makes no sense.
    """
    spans, begin, end = written.cuts
    try:
        return Cuts.of(spans, time_base, begin, end)
    except ValueError as exc:
        raise OutputError("The process that cut it said what makes no sense.") from exc


def check_cuts(
    name: str, theirs: Sequence[Sent], asked: Sequence[tuple[int, int]], time_base: Fraction, written: Rewritten
) -> Cuts:
    """What was removed: all that was to be, and of the source's pictures exactly those that are shown within it.

    Args:
        name: Of the output.
        theirs: The source's packets.
        asked: What was to be removed, in its time base, sorted and disjoint.
        time_base: The source's.
        written: How it was written.

    Raises:
        CopyError: It is not so.
    """
    cuts = cuts_of(written, time_base)
    times = sorted({row.pts for row in theirs if row.shows and row.pts is not None})
    for start, end in asked:
        # There is nothing to move before the first picture.
        begin = max(start, min(times, default=start))
        if begin < end and cuts.shifted(begin * time_base) != cuts.shifted(end * time_base):
            raise CopyError(f"{name}: what was to be cut is not all cut.")
    # Pictures that do not decode leave the one before on the screen; only what was not decoded is known from here.
    if written.full is None:
        for start, end in pairwise((*times, times[-1] + 1) if times else ()):
            if overlaps(asked, start, end) != cuts.removes(start * time_base, end * time_base):
                raise CopyError(f"{name}: its pictures are not those that are shown outside of the cuts.")
    return cuts


def check_others(
    name: str, theirs: Iterable[OtherPacket], ours: Iterable[OtherPacket], written: Rewritten, cuts: Cuts
) -> str:
    """That of the sound every packet remains of which nothing is heard within a cut, as it was, and no other.

    Each is played as much earlier as the pictures are, to half a unit of both files' time bases.

    Raises:
        OutputError: It is not so.
    """
    found: dict[int, list[OtherPacket]] = {}
    for row in ours:
        found.setdefault(written.streams[row.stream] if row.stream < len(written.streams) else -1, []).append(row)
    expected: dict[int, list[tuple[Fraction, OtherPacket]]] = {}
    for row in theirs:
        if row.stream in written.streams and not cuts.removes(row.start, row.end):
            rows = expected.setdefault(row.stream, [])
            time = cuts.shifted(row.time)
            # What is out of order cannot be written.
            if not rows or time > rows[-1][0]:
                rows.append((time, row))
    for stream in (*found, *expected):
        mine, wanted = found.get(stream, []), expected.get(stream, [])
        if not _are_same(mine, wanted):
            raise OutputError(f"{name}: stream {stream} does not hold what remains of the source's. Do not use it.")
    return f"{sum(map(len, found.values()))} packets of other streams equal the source's outside of the cuts"


def _are_same(ours: Sequence[OtherPacket], wanted: Sequence[tuple[Fraction, OtherPacket]]) -> bool:
    if ours and wanted and not (ours[0].digest and wanted[0][1].digest):
        return _are_as_long(ours, wanted)
    return len(ours) == len(wanted) and all(
        (one.size, one.digest) == (other.size, other.digest) and _are_near(one, time, other)
        for one, (time, other) in zip(ours, wanted, strict=True)
    )


def _are_as_long(ours: Sequence[OtherPacket], wanted: Sequence[tuple[Fraction, OtherPacket]]) -> bool:
    """Of samples without packets of their own: that they begin when they should, and are as many as the time takes."""
    (first_time, first), (last_time, last) = wanted[0], wanted[-1]
    whole = max((row for _, row in wanted), key=lambda row: row.size)
    samples = whole.size / (whole.end - whole.start)
    expected = (last_time + last.end - last.start - first_time) * samples
    written = sum(row.size for row in ours)
    return _are_near(ours[0], first_time, first) and abs(written - expected) <= samples * (first.unit + ours[0].unit)


def _are_near(mine: OtherPacket, time: Fraction, other: OtherPacket) -> bool:
    return 2 * abs(mine.time - time) <= mine.unit + other.unit
