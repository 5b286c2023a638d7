"""Timelines of real files without any model: scores by the clock, times as the file has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av

from tests import timelines
from vidmod.coverage import Covered
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.timeline import Sample, Segment, StreamKind, StreamScan, Timeline

BREAST = "FEMALE_BREAST_EXPOSED"


def times(path: Path, stream: int = 0) -> tuple[list[int], Fraction]:
    """When the pictures of a stream are shown, in order, and its time base."""
    with av.open(str(path)) as container:
        chosen = container.streams[stream]
        assert chosen.time_base is not None
        # Attached pictures have no time, and are shown from the beginning.
        shown = sorted(packet.pts or 0 for packet in container.demux(chosen) if packet.size)
        return shown, chosen.time_base


def scan_of(
    path: Path, *, every: int = 1, stream: int = 0, kind: StreamKind = "video", boxes: bool = False
) -> StreamScan:
    """A stream of which every so many pictures were looked at; the middle one is the worst."""
    shown, base = times(path, stream)
    picked = shown[::every]
    rows = []
    for place, pts in enumerate(picked):
        score = 0.99 if place == len(picked) // 2 else 0.5
        found = (Detection("nudenet", BREAST, score, (4.0, 4.0, 40.0, 30.0)),) if boxes else ()
        rows.append(Sample(pts, round(float(pts * base), 6), 0.04, Predictions((Scores("x", {"nsfw": score}),), found)))
    end = rows[-1].end_seconds
    video = {**timelines.VIDEO, "time_base": f"{base.numerator}/{base.denominator}"}
    return StreamScan(stream, kind, video, (Covered(rows[0].time_seconds, end, "analysed"),), tuple(rows), {})


def timeline_of(path: Path, segments: Iterable[Segment], *streams: StreamScan) -> Timeline:
    """A timeline of a file."""
    rows = streams or (scan_of(path),)
    made = timelines.timeline(*rows)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    source = {
        **made.source,
        "name": path.name,
        "sha256": sha256,
        "size_bytes": path.stat().st_size,
        "video": rows[0].video,
    }
    return Timeline(
        source=source,
        status="complete",
        verdict="block",
        notes=(),
        coverage=rows[0].coverage,
        segments=tuple(segments),
        streams=tuple(rows),
        provenance=made.provenance,
    )


def segment(
    start: float,
    end: float,
    *,
    name: str = "s1",
    peak: float = 0.9,
    labels: Sequence[str] = ("nsfw",),
    stream: int | None = None,
    kind: StreamKind | None = None,
) -> Segment:
    """A segment to block."""
    scores = dict.fromkeys(labels, peak)
    return Segment(name, "explicit", "block", "cover", start, end, peak, peak, scores, stream, kind)
