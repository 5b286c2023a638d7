"""What must hold of a timeline, whatever the file was."""

from __future__ import annotations

import itertools
import json

from vidmod.errors import VidmodError
from vidmod.timeline import StreamScan, Timeline


def problems(timeline: Timeline) -> list[str]:
    """What is wrong with a timeline, whatever the file was."""
    found = [f"stream {stream.stream} ({stream.kind}): {text}" for stream in timeline.streams for text in _gaps(stream)]
    if timeline.verdict == "pass" and timeline.status != "complete":
        found.append(f"the verdict is pass, the status {timeline.status}")
    if timeline.status == "complete":
        found += [
            f"complete, but stream {stream.stream} ({stream.kind}) {text}"
            for stream in timeline.streams
            for text in _missing(stream)
        ]
        if not timeline.samples:
            found.append("complete without a sample")
    if timeline.coverage:
        start = timeline.source["start_seconds"]
        extent = (start, start + timeline.source["duration_seconds"])
        told = (timeline.coverage[0].start_seconds, timeline.coverage[-1].end_seconds)
        scale = max(map(abs, told))
        if not all(_near(one, other, scale) for one, other in zip(extent, told, strict=True)):
            found.append(f"the source is {extent}, its coverage {told}")
    try:
        # Through the text, as a reader gets it; a timeline of strange numbers must survive that too.
        again = Timeline.from_document(json.loads(json.dumps(timeline.as_document(), allow_nan=False)))
        if again != timeline:
            found.append("is another one when it is read again")
    except (VidmodError, ValueError) as exc:
        found.append(f"is no valid document: {exc}")
    return found


def _near(one: float, other: float, scale: float) -> bool:
    """Seconds are rounded to microseconds, and large ones to what a float holds."""
    return abs(one - other) <= 2e-6 + 1e-12 * scale


def _gaps(stream: StreamScan) -> list[str]:
    spans = stream.coverage
    found = [f"span of no length at {span.start_seconds}" for span in spans if span.start_seconds >= span.end_seconds]
    found += [
        f"coverage from {one.end_seconds} to {other.start_seconds} is missing or double"
        for one, other in itertools.pairwise(spans)
        if not _near(one.end_seconds, other.start_seconds, abs(one.end_seconds))
    ]
    return found


def _missing(stream: StreamScan) -> list[str]:
    ledger = stream.ledger
    found = [f"has {name} {ledger[name]}" for name in ("lost", "unusable", "read_errors", "truncated") if ledger[name]]
    sound = sum(ledger.get(name, 0) for name in ("frames", "lost", "hidden", "without_picture", "skipped"))
    # Of the further views and of what edit lists hide, packets are counted in their own way (see Ledger).
    if stream.kind in ("video", "cover") and ledger["packets"] != sound:
        found.append(f"has {ledger['packets']} packets and knows of {sound}")
    found += [f"is {span.state} from {span.start_seconds}" for span in stream.coverage if span.state != "analysed"]
    return found
