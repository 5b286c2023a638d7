"""All of a timeline that an annotation tool shows.

- **Segments** of the stream that a tool plays. One that a reviewer has rejected is there too, to be seen as such.
- **Box tracks**: what a detector found, of the labels that the policy speaks of (see :mod:`.linking`); the tracks of a
  timeline, which a person has drawn; and what a reviewer dismissed.
- **What was not looked at**: nobody is to take it for clean.

Boxes are pixels of the picture as displayed, which is what CVAT and a browser show. They are cut off at its borders; a
box that comes back as it was is the timeline's own, which is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vidmod.annotations.frames import Frames
from vidmod.annotations.linking import link
from vidmod.annotations.names import Names, clean
from vidmod.annotations.shapes import Key, Run
from vidmod.predictions import Box, Detection
from vidmod.reviewing import box_between, decisions, dismissed, machine_segments, without_dismissed
from vidmod.timebase import format_time
from vidmod.timeline import Json, Sample, Segment, Timeline, segment_json

# What a person draws that no detector has a label for.
ADDED_LABEL = "ADDED"
Judgement = Literal["accepted", "rejected", "undecided"]
_GAP_SECONDS = 0.5
# A scan's own. Whoever wrote another may have meant to break out of something, or to be taken for another region.
_PLAIN_ID = re.compile(r"[a-z]\d{1,9}")


@dataclass(frozen=True, slots=True)
class SegmentItem:
    """A segment in the frames [start, end); an end of None is the film's.

    Attributes:
        key: By which it is known when it comes back: its id, if that is a plain one.
        category: As it is shown.
        judgement: What an import without a change makes of it.
        note: What a reviewer wrote about it.
    """

    key: str
    segment: Segment
    category: str
    start: int
    end: int | None
    judgement: Judgement
    note: str = ""


@dataclass(frozen=True, slots=True)
class TrackItem:
    """A box track.

    Attributes:
        key: By which it is known when it comes back.
        label: As it is shown.
        origin: `detected` by a model, `drawn` in the timeline's tracks, or `dismissed` by a reviewer.
        row: The timeline's track, if it is one.
    """

    key: str
    label: str
    origin: Literal["detected", "drawn", "dismissed"]
    runs: tuple[Run, ...]
    row: Json | None = None

    @property
    def judgement(self) -> Judgement:
        """What an import without a change makes of it."""
        return "rejected" if self.origin == "dismissed" else "accepted"


@dataclass(frozen=True, slots=True)
class Unseen:
    """Frames [start, end) that were not looked at; an end of None is the film's."""

    state: str
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Annotations:
    """What of a timeline is shown.

    Attributes:
        size: Width and height of the picture as displayed; 1 where they are not known.
        categories, labels: As they are shown, with those that a reviewer may want.
        about: The timeline in words: its status, and what is not shown.
        digest: SHA-256 of all that a reviewer is shown and may change.
    """

    frames: Frames
    size: tuple[int, int]
    segments: tuple[SegmentItem, ...]
    tracks: tuple[TrackItem, ...]
    unseen: tuple[Unseen, ...]
    categories: Names
    labels: Names
    about: str
    digest: str

    @classmethod
    def of(cls, timeline: Timeline, frames: Frames, reserved: Sequence[str] = ()) -> Annotations:
        """What is shown of a timeline.

        Args:
            reserved: Names that no label is to have.
        """
        policy = _policy_categories(timeline)
        found = _wanted(timeline, policy)
        drawn = [row for row in (*timeline.tracks, *dismissed(timeline)) if row["boxes"]]
        categories = Names([*policy, *(row.category for row in _shown_segments(timeline))], reserved)
        judged = [label.rpartition(".")[2] for labels in policy.values() for label in labels]
        detected = sorted({item.label for items in found for item in items})
        labels = Names([*judged, *detected, *(row["label"] for row in drawn), ADDED_LABEL], reserved)
        size = _size(timeline)
        segments = tuple(_segments(timeline, frames, categories))
        tracks = tuple(_tracks(timeline, found, frames, labels, size))
        return cls(
            frames=frames,
            size=size,
            segments=segments,
            tracks=tracks,
            unseen=tuple(
                Unseen(span.state, *_frames_of(span.start_seconds, span.end_seconds, frames))
                for span in timeline.coverage
                if span.state != "analysed"
            ),
            categories=categories,
            labels=labels,
            about=_about(timeline),
            digest=_digest(segments, tracks),
        )


def _frames_of(start: float, end: float, frames: Frames) -> tuple[int, int | None]:
    """The frames that are shown in that time, or the nearest one."""
    first = min(frames.since(start), frames.count - 1)
    return first, frames.ended(max(frames.since(end), first + 1))


def _policy_categories(timeline: Timeline) -> dict[str, list[str]]:
    """Category to its labels, of the policy by which a timeline was judged, as far as it is one."""
    rows = timeline.provenance["policy"].get("categories")
    rows = rows if isinstance(rows, dict) else {}
    named = {name: row.get("labels") for name, row in rows.items() if isinstance(row, dict)}
    return {
        name: [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []
        for name, labels in named.items()
    }


def _wanted(timeline: Timeline, policy: dict[str, list[str]]) -> list[list[Detection]]:
    """Of every sample, the detections that a reviewer has to do with; all, if no policy says which."""
    judged = {label for labels in policy.values() for label in labels}
    rows = dismissed(timeline)
    return [
        without_dismissed(
            [
                item
                for item in sample.predictions.detections
                if not judged or item.label in judged or f"{item.model}.{item.label}" in judged
            ],
            sample,
            rows,
        )
        for sample in timeline.samples
    ]


def _size(timeline: Timeline) -> tuple[int, int]:
    video = timeline.source["video"]
    if video is None:
        return 1, 1
    width, height = max(video["width"], 1), max(video["height"], 1)
    return (height, width) if video["rotation"] in (90, -90) else (width, height)


def _shown_segments(timeline: Timeline) -> list[Segment]:
    """Those that remain and those that a reviewer rejected, of the stream that is played."""
    left = {row.id for row in timeline.segments}
    rows = [*timeline.segments, *(row for row in machine_segments(timeline) if row.id not in left)]
    return [row for row in rows if row.stream is None]


def _segments(timeline: Timeline, frames: Frames, categories: Names) -> Iterator[SegmentItem]:
    rows, decided = _shown_segments(timeline), decisions(timeline)
    known = {} if timeline.review is None else {row["segment"]: row for row in timeline.review["decisions"]}
    keys: set[str] = set()
    for number, row in enumerate(rows, 1):
        key = row.id if _PLAIN_ID.fullmatch(row.id) and row.id not in keys else f"segment-{number}"
        keys.add(key)
        judgement: Judgement = "accepted"
        if timeline.review is not None and decided.get(row.id) in (None, "rejected"):
            judgement = "rejected" if row.id in decided else "undecided"
        start, end = _frames_of(row.start_seconds, row.end_seconds, frames)
        note = clean(known.get(row.id, {}).get("note", ""))
        yield SegmentItem(key, row, categories.shown(row.category), start, end, judgement, note)


def _tracks(
    timeline: Timeline, found: list[list[Detection]], frames: Frames, labels: Names, size: tuple[int, int]
) -> Iterator[TrackItem]:
    gap = timeline.provenance.get("sampling", {}).get("max_gap_seconds")
    gap_seconds = float(gap) if isinstance(gap, int | float) and gap > 0 else _GAP_SECONDS
    samples: tuple[Sample, ...] = timeline.samples
    for number, linked in enumerate(link(samples, found, gap_seconds, frames), 1):
        runs = tuple(_inside(run, size) for run in linked.runs)
        yield TrackItem(f"detected-{number}", labels.shown(linked.label), "detected", runs)
    for number, row in enumerate(timeline.tracks, 1):
        if row["boxes"]:
            run = _inside(_run(row, frames), size)
            yield TrackItem(f"drawn-{number}", labels.shown(row["label"]), "drawn", (run,), row)
    for number, row in enumerate(dismissed(timeline), 1):
        if row["boxes"]:
            run = _inside(_run(row, frames), size)
            yield TrackItem(f"dismissed-{number}", labels.shown(row["label"]), "dismissed", (run,), row)


def _run(row: Json, frames: Frames) -> Run:
    """A timeline's track."""
    boxes = sorted(row["boxes"], key=lambda item: item["pts"])
    first, end = _frames_of(row["start_seconds"], row["end_seconds"], frames)
    last = frames.count if end is None else end
    if abs(boxes[0]["time_seconds"] - row["start_seconds"]) <= 2 * frames.half_seconds:
        # A track that begins with its first box is to have it as a keyframe.
        first = min(frames.at(boxes[0]["time_seconds"]), last - 1)
    keys: dict[int, Key] = {}
    for item in boxes:
        frame = frames.at(item["time_seconds"])
        if first <= frame < last and frame not in keys:
            keys[frame] = Key(frame, _box(item["box"]), None, item["pts"], item["time_seconds"])
    for frame in {first, last - 1} if frames.at(boxes[-1]["time_seconds"]) >= last else {first}:
        if frame not in keys:
            keys[frame] = Key(frame, _interpolated(boxes, frames.seconds(frame)))
    ordered = tuple(keys[frame] for frame in sorted(keys))
    return Run(ordered, end, row["start_seconds"], row["end_seconds"])


def _interpolated(boxes: Sequence[Json], seconds: float) -> Box:
    return box_between([{"pts": item["time_seconds"], "box": item["box"]} for item in boxes], seconds)


def _box(values: Sequence[float]) -> Box:
    x1, y1, x2, y2 = values
    return (x1, y1, x2, y2)


def _inside(run: Run, size: tuple[int, int]) -> Run:
    """With boxes cut off at the picture's borders."""
    keys = (dataclasses.replace(key, box=inside(key.box, size), exact=key.box) for key in run.keys)
    return dataclasses.replace(run, keys=tuple(keys))


def inside(box: Box, size: tuple[int, int]) -> Box:
    """What of a box lies in a picture of that width and height; on its border if nothing does."""
    x1, x2 = (min(max(0.0, float(x)), float(size[0])) for x in (box[0], box[2]))
    y1, y2 = (min(max(0.0, float(y)), float(size[1])) for y in (box[1], box[3]))
    return (x1, y1, x2, y2)


def _about(timeline: Timeline) -> str:
    parts = [f"{timeline.status}, verdict {timeline.verdict}"]
    parts += [
        f"{span.state} {format_time(span.start_seconds)} to {format_time(span.end_seconds)}"
        for span in timeline.coverage
        if span.state != "analysed"
    ]
    others = sum(row.stream is not None for row in timeline.segments)
    if others:
        parts.append(f"{others} segments of other streams are not shown")
    if len(timeline.streams) > 1:
        parts.append(f"{len(timeline.streams) - 1} other picture streams are not shown")
    return clean("; ".join([*parts, *timeline.notes]))


def _digest(segments: Sequence[SegmentItem], tracks: Sequence[TrackItem]) -> str:
    document = [
        [[item.key, segment_json(item.segment), item.start, item.end, item.judgement] for item in segments],
        [
            [item.key, item.label, item.origin, [[*map(dataclasses.astuple, run.keys), run.end] for run in item.runs]]
            for item in tracks
        ],
    ]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
