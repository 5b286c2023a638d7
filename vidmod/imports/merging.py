"""What was exported and what came back, to a reviewed timeline.

What is as it was exported keeps its exact times and boxes. Where a person has moved an end, it is on the frame that
they moved it to. What a file does not know of (segments of other streams) stays undecided, as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol, TypeVar, cast

from vidmod.annotations import Annotations, SegmentItem, TrackItem
from vidmod.annotations.shapes import differing, joined
from vidmod.errors import PolicyError, TimelineError
from vidmod.imports.boxes import Boxes
from vidmod.imports.returned import Returned, ReturnedSegment, ReturnedTrack
from vidmod.policy import VERDICTS, Category, Policy, Verdict
from vidmod.reviewing import decisions, reviewed
from vidmod.timeline import Segment, Timeline

_DECISIONS = ("accepted", "rejected", "undecided")
_MAX_NOTE = 10_000


class _Keyed(Protocol):
    @property
    def key(self) -> str | None: ...


Item = TypeVar("Item", bound=_Keyed)
Row = TypeVar("Row", bound=_Keyed)


def merged(
    timeline: Timeline,
    shown: Annotations,
    returned: Returned,
    *,
    origin: str,
    reviewer: str,
    note: str,
    tool: str,
    at: datetime,
) -> Timeline:
    """The timeline as a person has corrected it.

    Args:
        shown: What was exported of it.
        returned: What came back.
        origin: Names the file in messages.

    Raises:
        TimelineError: A label or a frame is not one of this timeline's.
    """
    _check(shown, returned, origin)
    segments = _Segments(timeline, shown, origin)
    for item, rows in _paired(shown.segments, returned.segments, _is_same_segment):
        segments.take(item, rows)
    boxes = Boxes(timeline, shown)
    for track, tracks in _paired(shown.tracks, returned.tracks, _is_same_track):
        _take_tracks(boxes, track, tracks)
    return reviewed(
        timeline,
        segments.kept,
        reviewer=reviewer,
        at=at,
        tool=tool,
        tracks=boxes.tracks,
        dismissed=boxes.dismissed,
        undecided=segments.undecided,
        note=note,
        notes=segments.notes,
    )


def _check(shown: Annotations, returned: Returned, origin: str) -> None:
    def refuse(where: str, what: str) -> TimelineError:
        return TimelineError(f"{origin}: {where}: {what}")

    rows: list[ReturnedSegment | ReturnedTrack] = [*returned.segments, *returned.tracks]
    for row in rows:
        if row.decision and row.decision not in _DECISIONS:
            raise refuse(f"{row.where}.decision", f"{row.decision[:60]!r} is none of {', '.join(_DECISIONS)}.")
    for track in returned.tracks:
        if track.label is not None and shown.labels.original(track.label) is None:
            raise refuse(f"{track.where}.label", f"{track.label[:60]!r} is none of {', '.join(shown.labels)}.")
    for segment in returned.segments:
        if segment.verdict and segment.verdict not in VERDICTS[1:]:
            raise refuse(f"{segment.where}.verdict", f"{segment.verdict[:60]!r} is neither review nor block.")
        if segment.note is not None and len(segment.note) > _MAX_NOTE:
            raise refuse(f"{segment.where}.note", f"has more than {_MAX_NOTE} characters.")


def _take_tracks(boxes: Boxes, item: TrackItem | None, rows: Sequence[ReturnedTrack]) -> None:
    """What came back of an exported track, perhaps in several parts; of None, what is new."""
    if item is None or not rows:
        if item is not None:
            boxes.take(item, None)
        copies = list(rows)
    else:
        runs, copies = list(rows[0].runs), []
        for row in rows[1:]:
            both = joined([runs, row.runs])
            if both is None or row.label != rows[0].label:
                copies.append(row)
            else:
                runs = both
        boxes.take(item, dataclasses.replace(rows[0], runs=runs))
    for row in copies:
        boxes.add(row)


def _paired(
    items: Sequence[Item], rows: Sequence[Row], is_same: Callable[[Item, Row], bool]
) -> Iterator[tuple[Item | None, list[Row]]]:
    """Every exported item with what came back of it, and at last, with None, what is new.

    What has no key is known by being the same: some tools drop what they have no place for.
    """
    by_key: dict[str | None, list[Row]] = {item.key: [] for item in items}
    keyless = [row for row in rows if not row.key]
    new = [row for row in rows if row.key and row.key not in by_key]
    for row in rows:
        if row.key in by_key:
            by_key[row.key].append(row)
    for item in items:
        found = by_key[item.key]
        if not found and keyless:
            same = next((row for row in keyless if is_same(item, row)), None)
            if same is not None:
                keyless.remove(same)
                found = [same]
        # What is as it was comes first.
        yield item, [*(row for row in found if is_same(item, row)), *(row for row in found if not is_same(item, row))]
    yield None, [*new, *keyless]


def _is_same_segment(item: SegmentItem, row: ReturnedSegment) -> bool:
    return (item.start, item.end) == (row.start, row.end) and row.category in (None, "", item.category)


def _is_same_track(item: TrackItem, row: ReturnedTrack) -> bool:
    return item.label == row.label and not differing(item.runs, row.runs)


class _Segments:
    """The segments of a reviewed timeline.

    Attributes:
        kept: All that remain, and those that were added.
        undecided: Ids of those that nobody has decided about.
        notes: Id to what was written about it.
    """

    def __init__(self, timeline: Timeline, shown: Annotations, origin: str) -> None:
        self._timeline, self._shown, self._origin = timeline, shown, origin
        before = decisions(timeline)
        seen = {item.segment.id for item in shown.segments}
        self.kept = [row for row in timeline.segments if row.id not in seen]
        self.undecided = {row.id for row in self.kept if row.id not in before}
        rows = () if timeline.review is None else timeline.review["decisions"]
        self.notes: dict[str, str] = {row["segment"]: row["note"] for row in rows if row.get("note")}
        self._taken = {row.id for row in self.kept} | seen
        self._policy = _policy(timeline)

    def take(self, item: SegmentItem | None, rows: Sequence[ReturnedSegment]) -> None:
        """What came back of an exported segment; of None, what is new."""
        if item is not None and rows:
            first, *rows = rows
            self._keep(item, first)
        for row in rows:
            self._add(row)

    def _keep(self, item: SegmentItem, row: ReturnedSegment) -> None:
        before, frames = item.segment, self._shown.frames
        name = before.id
        if row.note is not None and row.note != item.note:
            self.notes[name] = row.note
        decision = row.decision or ("accepted" if item.judgement == "accepted" else item.judgement)
        if decision == "rejected":
            return
        after = dataclasses.replace(
            before,
            category=self._category(row) if row.category else before.category,
            verdict=cast("Verdict", row.verdict or before.verdict),
            start_seconds=before.start_seconds if row.start == item.start else frames.seconds(row.start),
            end_seconds=before.end_seconds if row.end == item.end else self._end(row),
        )
        self.kept.append(after)
        if decision == "undecided":
            self.undecided.add(name)

    def _add(self, row: ReturnedSegment) -> None:
        if row.decision == "rejected":
            return
        start, end = self._shown.frames.seconds(row.start), self._end(row)
        name = self._category(row)
        category = next((item for item in self._policy if item.name == name), None)
        peak, mean, labels = _scored(self._timeline, category, start, end)
        number = 1
        while f"r{number}" in self._taken:
            number += 1
        added = Segment(
            id=f"r{number}",
            category=name,
            verdict=cast("Verdict", row.verdict or VERDICTS[-1]),
            action="cover" if category is None else category.action,
            start_seconds=start,
            end_seconds=end,
            peak=peak,
            mean=mean,
            labels=labels,
        )
        self._taken.add(added.id)
        self.kept.append(added)
        if row.note:
            self.notes[added.id] = row.note

    def _end(self, row: ReturnedSegment) -> float:
        frames = self._shown.frames
        return (
            frames.seconds(row.end) if row.end is not None else max(frames.end_seconds, frames.seconds(row.start + 1))
        )

    def _category(self, row: ReturnedSegment) -> str:
        known = self._shown.categories.original(row.category or "")
        if known is None:
            # Redaction covers what its policy knows: another name would be covered nowhere.
            names = ", ".join(self._shown.categories)
            raise TimelineError(f"{self._origin}: {row.where}: its category {row.category!r:.60} is none of {names}.")
        return known


def _policy(timeline: Timeline) -> tuple[Category, ...]:
    try:
        return Policy.from_document(timeline.provenance["policy"], "timeline").categories
    except PolicyError:
        return ()


def _scored(
    timeline: Timeline, category: Category | None, start: float, end: float
) -> tuple[float, float, dict[str, float]]:
    """Peak, mean and labels of what models said in that time of a category that a person has seen there."""
    labels: dict[str, float] = {}
    scores = []
    for sample in timeline.samples if category is not None else ():
        if start <= sample.time_seconds < end:
            found = cast("Category", category).label_scores(sample.predictions)
            scores.append(max(found.values(), default=0.0))
            for label, score in found.items():
                labels[label] = max(score, labels.get(label, 0.0))
    mean = sum(scores) / len(scores) if scores else 0.0
    return round(max(scores, default=0.0), 4), round(mean, 4), labels
