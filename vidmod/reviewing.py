"""What a person decides about a timeline, kept beside what the machine found.

A reviewed timeline is one that `vidmod redact --timeline` and every other reader takes as it is: its `segments`,
`tracks` and `verdict` are the reviewer's. Under `review` it says who decided what and when, and `review.machine` is
what the scan had found, untouched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from vidmod.errors import TimelineError
from vidmod.judging import verdict_of
from vidmod.predictions import Box, Detection
from vidmod.timeline import Json, Sample, Segment, Timeline, segment_from_json, segment_json

Decision = Literal["accepted", "rejected", "changed", "added"]
# What a scan's times are rounded to.
_SAME_SECONDS = 1e-6
# Of a box that a reviewer dismissed and a detection beside it: what overlaps less is another thing.
_SAME_OVERLAP = 0.5


def machine_segments(timeline: Timeline) -> tuple[Segment, ...]:
    """The segments that a scan found, whatever a person made of them."""
    if timeline.review is None:
        return timeline.segments
    return tuple(segment_from_json(row) for row in timeline.review["machine"]["segments"])


def machine_tracks(timeline: Timeline) -> tuple[Json, ...]:
    """The tracks that a scan wrote, whatever a person made of them."""
    return timeline.tracks if timeline.review is None else tuple(timeline.review["machine"]["tracks"])


def dismissed(timeline: Timeline) -> tuple[Json, ...]:
    """Tracks of boxes that a detector gave and a reviewer does not want covered."""
    return () if timeline.review is None else tuple(timeline.review.get("dismissed", ()))


def decisions(timeline: Timeline) -> dict[str, Decision]:
    """A segment's id to what was decided about it; what nobody decided about is absent."""
    return {} if timeline.review is None else {row["segment"]: row["decision"] for row in timeline.review["decisions"]}


def without_dismissed(found: Iterable[Detection], sample: Sample, rows: Iterable[Json]) -> list[Detection]:
    """Those detections of a sample that no track of `rows`, as :func:`dismissed` gives them, is about."""
    shown = [row for row in rows if row["start_seconds"] <= sample.time_seconds < row["end_seconds"] and row["boxes"]]
    return [
        item
        for item in found
        if not any(
            row["label"] == item.label and _is_same_thing(box_between(row["boxes"], sample.pts), item.box)
            for row in shown
        )
    ]


def _is_same_thing(box: Box, other: Box) -> bool:
    """By their intersection over union."""
    common = max(0.0, min(box[2], other[2]) - max(box[0], other[0])) * max(
        0.0, min(box[3], other[3]) - max(box[1], other[1])
    )
    total = sum((row[2] - row[0]) * (row[3] - row[1]) for row in (box, other)) - common
    return total > 0 and common / total >= _SAME_OVERLAP


def box_between(rows: Sequence[Json], pts: float) -> Box:
    """Where a track's box is at a time: between two of its `boxes` in a straight line, else as the nearest."""
    before = max((row for row in rows if row["pts"] <= pts), key=lambda row: row["pts"], default=rows[0])
    after = min((row for row in rows if row["pts"] >= pts), key=lambda row: row["pts"], default=rows[-1])
    share = 0.0 if after["pts"] == before["pts"] else (pts - before["pts"]) / (after["pts"] - before["pts"])
    x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(before["box"], after["box"], strict=True))
    return (x1, y1, x2, y2)


def reviewed(
    timeline: Timeline,
    segments: Sequence[Segment],
    *,
    reviewer: str,
    at: datetime,
    tool: str,
    tracks: Iterable[Json] | None = None,
    dismissed: Iterable[Json] = (),
    undecided: Iterable[str] = (),
    note: str = "",
    notes: Mapping[str, str] | None = None,
) -> Timeline:
    """The timeline as a person has corrected it.

    Args:
        timeline: As a scan wrote it, or as a person has corrected it before: the machine's part stays the scan's.
        segments: All that remain, and those that were added. One of the machine's that is not here was rejected, one
            whose times, category or verdict differ was changed, one of another id was added.
        at: When; with a zone.
        tracks: All that remain; None for those that the timeline has.
        dismissed: Tracks of boxes that are not to be covered.
        undecided: Ids of segments that nobody decided about: they stay as they are.
        notes: A segment's id to what was written about it.

    Raises:
        TimelineError: Two segments have one id, one ends before it begins, or `undecided` names one that is not here.
    """
    found = machine_segments(timeline)
    _check(segments, set(undecided))
    machine = {
        "verdict": timeline.verdict if timeline.review is None else timeline.review["machine"]["verdict"],
        "segments": [segment_json(row) for row in found],
        "tracks": list(machine_tracks(timeline)),
    }
    rows = [
        {"segment": name, "decision": decision, **({"note": notes[name]} if notes and notes.get(name) else {})}
        for name, decision in _decided(found, segments, set(undecided))
    ]
    review = {
        "reviewer": reviewer,
        "reviewed": at.isoformat(timespec="seconds"),
        "note": note,
        "tool": tool,
        "decisions": rows,
        "dismissed": list(dismissed),
        "machine": machine,
    }
    ordered = tuple(sorted(segments, key=lambda row: (row.start_seconds, row.end_seconds, row.category)))
    return dataclasses.replace(
        timeline,
        segments=ordered,
        tracks=timeline.tracks if tracks is None else tuple(tracks),
        verdict=verdict_of(ordered, timeline.status),
        review=review,
    )


def _check(segments: Sequence[Segment], undecided: set[str]) -> None:
    known: set[str] = set()
    for row in segments:
        if row.id in known:
            raise TimelineError(f"segments: two have the id {row.id!r}. Give each its own.")
        known.add(row.id)
        if not row.start_seconds < row.end_seconds:
            raise TimelineError(
                f"segments: {row.id!r} ends at {row.end_seconds} s, which is not after its start at "
                f"{row.start_seconds} s. Correct one of them."
            )
    if strange := sorted(undecided - known):
        raise TimelineError(f"segments: {strange[0]!r} is undecided, and is not there. Reject it, or leave it.")


def _decided(
    found: Sequence[Segment], segments: Sequence[Segment], undecided: set[str]
) -> Iterable[tuple[str, Decision]]:
    left = {row.id: row for row in segments}
    for before in found:
        after = left.pop(before.id, None)
        if after is None:
            yield before.id, "rejected"
        elif not _is_same(before, after):
            yield before.id, "changed"
        elif before.id not in undecided:
            yield before.id, "accepted"
    for name in left:
        yield name, "added"


def _is_same(before: Segment, after: Segment) -> bool:
    return (
        abs(before.start_seconds - after.start_seconds) <= _SAME_SECONDS
        and abs(before.end_seconds - after.end_seconds) <= _SAME_SECONDS
        and before.category == after.category
        and before.verdict == after.verdict
    )
