"""What the answers of moderation services have in common: what is known of each moment, and what is not known.

Such a service looks at one video stream, counts time from its start and knows no reviewer. So:

* Times count from `source.start_seconds`. What is shown before it (a hidden picture) and what has no time (cover art)
  is at the start. The other picture streams of a file count like the first: a hit in any of them is a hit.
* Segments are those that the timeline has, so a reviewer's if there is one. Of a machine's segment that was rejected,
  or of the part that was cut off it, nothing is told: what it stood for is taken out of the samples in it, unless a
  segment of the same category or with the same label is still there. A segment that a person accepted, changed or added
  counts for every sample in it, with the score of its best label. A segment in which there is no sample is told at its
  start, so that every segment is in every answer.
* A segment without labels, as a person may add it, goes by the name of its category.
"""

from __future__ import annotations

import datetime
import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from vidmod.coverage import Covered
from vidmod.policy import Verdict, worst
from vidmod.predictions import Box, Detection
from vidmod.reviewing import decisions, dismissed, machine_segments, machine_tracks
from vidmod.timebase import format_time
from vidmod.timeline import Json, Segment, StreamScan, Timeline

# The longest that protobuf's Duration holds, some 10,000 years; .NET's TimeSpan and AWS's milliseconds hold more.
_LONGEST_SECONDS = 315_576_000_000.0
# Every number in these answers fits a signed integer of 64 bits.
LARGEST = 2**63 - 1
# Words about what is not known are cut off here.
_MAX_SPANS = 20
_MAX_CHARACTERS = 4000
# Of a box that a reviewer dismissed and a detection beside it: what overlaps less is another thing.
_SAME_OVERLAP = 0.5

# What NudeNet 320n can report, see `engines/nudenet.toml`.
PARTS = frozenset(
    (
        "ANUS_COVERED",
        "ANUS_EXPOSED",
        "ARMPITS_COVERED",
        "ARMPITS_EXPOSED",
        "BELLY_COVERED",
        "BELLY_EXPOSED",
        "BUTTOCKS_COVERED",
        "BUTTOCKS_EXPOSED",
        "FACE_FEMALE",
        "FACE_MALE",
        "FEET_COVERED",
        "FEET_EXPOSED",
        "FEMALE_BREAST_COVERED",
        "FEMALE_BREAST_EXPOSED",
        "FEMALE_GENITALIA_COVERED",
        "FEMALE_GENITALIA_EXPOSED",
        "MALE_BREAST_EXPOSED",
        "MALE_GENITALIA_EXPOSED",
    )
)
_LABELS_OF = {"open_nsfw": frozenset(("nsfw",)), "nudenet": PARTS}
_Key = tuple[int, str] | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one moment.

    Attributes:
        microseconds: From the start of the video.
        scores: Label to its best probability in [0, 1], over all models and pictures of that moment.
        held: Label for which a segment stands there, to the segment's verdict.
    """

    microseconds: int
    scores: Mapping[str, float]
    held: Mapping[str, Verdict]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A segment as such an answer tells it.

    Attributes:
        start, end: Microseconds from the start of the video, half open; equal for what has no time.
        scores: Label to its peak; never empty.
    """

    start: int
    end: int
    category: str
    verdict: Verdict
    scores: Mapping[str, float]


@dataclass(slots=True)
class _Moment:
    """One sample, and what the segments around it make of it.

    Attributes:
        kept: Categories and labels of the segments that are there.
        gone: Category and label of what a reviewer took away.
    """

    microseconds: int
    scores: dict[str, float]
    detections: tuple[Detection, ...]
    held: dict[str, Verdict] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    gone: set[tuple[str, str]] = field(default_factory=set)

    def is_gone(self, label: str) -> bool:
        """Whether a reviewer took that label away here."""
        return label not in self.held and any(name == label and of not in self.kept for of, name in self.gone)


def document(answer: Json) -> bytes:
    """The answer as UTF-8 JSON in one line, as services send it.

    Half a surrogate pair, which is no text, becomes a question mark.
    """
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def microseconds(timeline: Timeline, seconds: float) -> int:
    """Presentation time, counted from the start of the video; at least 0."""
    return _micros(_float(seconds) - _float(timeline.source["start_seconds"]))


def length(timeline: Timeline) -> int:
    """How long the video is, in microseconds."""
    return _micros(_float(timeline.source["duration_seconds"]))


def milliseconds(micros: int) -> int:
    """The nearest millisecond."""
    return round(micros / 1000)


def stretches(timeline: Timeline) -> list[Stretch]:
    """The segments that the timeline has, by start."""
    rows = []
    for row in timeline.segments:
        start = 0 if row.kind == "cover" else microseconds(timeline, row.start_seconds)
        end = 0 if row.kind == "cover" else microseconds(timeline, row.end_seconds)
        rows.append(Stretch(start, max(start, end), row.category, row.verdict, _scores(row)))
    return sorted(rows, key=lambda row: (row.start, row.end))


def seen(timeline: Timeline) -> list[Seen]:
    """What is known of every moment that was looked at or lies at the start of an otherwise unseen segment, by time."""
    merged: dict[int, tuple[dict[str, float], dict[str, Verdict]]] = {}
    without: list[tuple[Segment, int]] = []
    for moment in _moments(timeline, without):
        kept = {label: score for label, score in moment.scores.items() if not moment.is_gone(label)}
        _merge(merged, moment.microseconds, kept, moment.held)
    for row, start in without:
        _merge(merged, start, _scores(row), dict.fromkeys(_scores(row), row.verdict))
    return [Seen(time, *merged[time]) for time in sorted(merged)]


def boxes(timeline: Timeline) -> dict[int, list[Detection]]:
    """Boxes in the first stream, by microseconds from the start.

    Without those that a reviewer dismissed or that lie in what was rejected; with those that a reviewer drew, at a
    score of 1.
    """
    first = timeline.streams[:1]
    unwanted = dismissed(timeline)
    rows: dict[int, list[Detection]] = {}
    for moment in (moment for stream in first for moment in _of_stream(timeline, stream, None)[0]):
        kept = [item for item in moment.detections if not moment.is_gone(item.label)]
        kept = [item for item in kept if not _is_dismissed(timeline, unwanted, moment.microseconds, item)]
        rows.setdefault(moment.microseconds, []).extend(kept)
    for track in _drawn(timeline):
        for row in track["boxes"]:
            x1, y1, x2, y2 = (min(max(_float(value), -float(LARGEST)), float(LARGEST)) for value in row["box"])
            box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            found = Detection("", track["label"], 1.0, box)
            rows.setdefault(microseconds(timeline, row["time_seconds"]), []).append(found)
    return {time: rows[time] for time in sorted(rows) if rows[time]}


def best(scores: Mapping[str, float], labels: Iterable[str]) -> float:
    """The highest score of those labels; 0 if there is none."""
    return max((scores[label] for label in labels if label in scores), default=0.0)


def able(timeline: Timeline) -> frozenset[str]:
    """Labels that the scan could have given: a label that is not here was not looked for.

    What is here and has no score was looked for and not found.
    """
    names = {row["name"] for row in timeline.provenance["models"]}
    given: set[str] = set()
    for stream in timeline.streams:
        for sample in stream.samples:
            for scores in sample.predictions.scores:
                names.add(scores.model)
                given.update(scores.labels)
            for item in sample.predictions.detections:
                names.add(item.model)
                given.add(item.label)
    for row in timeline.segments:
        given.update(_scores(row))
    return frozenset(given.union(*(labels for name, labels in _LABELS_OF.items() if name in names)))


def is_whole(timeline: Timeline) -> bool:
    """Whether everything was looked at."""
    return timeline.status == "complete" and not any(True for _ in _gaps(timeline))


def percent(timeline: Timeline) -> int:
    """How much of the first stream's time was looked at; 100 only if everything was."""
    if is_whole(timeline):
        return 100
    spans = [(_length(span.start_seconds, span.end_seconds), span.state) for span in timeline.coverage]
    total = sum(size for size, _ in spans)
    if timeline.status == "unscannable" or not total:
        return 0
    return min(99, 100 * sum(size for size, state in spans if state == "analysed") // total)


def unknown(timeline: Timeline) -> str:
    """In words, what was not looked at; empty if everything was. Times count from the start of the video."""
    if is_whole(timeline):
        return ""
    head = "Nothing could be looked at." if timeline.status == "unscannable" else "Not everything was looked at."
    spans = [
        f"{clock(microseconds(timeline, span.start_seconds))} to {clock(microseconds(timeline, span.end_seconds))} "
        f"{where}is {span.state}"
        for where, span in _gaps(timeline)
    ]
    more = [f"and {len(spans) - _MAX_SPANS} more"] if len(spans) > _MAX_SPANS else []
    gaps = [", ".join([*spans[:_MAX_SPANS], *more]) + "."] if spans else []
    return clipped(" ".join([head, *gaps, *timeline.notes]))


def unnamed(timeline: Timeline, known: Iterable[str]) -> str:
    """In words, which segments an answer cannot tell because none of their labels is known to it; else empty."""
    names = frozenset(known)
    counts: dict[str, int] = {}
    for row in timeline.segments:
        if not names.intersection(_scores(row)):
            counts[row.category] = counts.get(row.category, 0) + 1
    if not counts:
        return ""
    text = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return clipped(f"Segments found that this taxonomy has no label for: {text}.")


def clipped(text: str, most: int = _MAX_CHARACTERS) -> str:
    """Text of that many characters at most."""
    return text if len(text) <= most else text[: most - 1] + "…"


def clock(micros: int) -> str:
    """Microseconds as `M:SS.mmm` or `H:MM:SS.mmm`."""
    return format_time(micros / 1e6)


def shown_size(timeline: Timeline) -> tuple[int, int] | None:
    """Width and height of the picture as a viewer sees it; None if there is none."""
    video = timeline.source["video"]
    if video is None:
        return None
    width, height = min(video["width"], LARGEST), min(video["height"], LARGEST)
    return (height, width) if video["rotation"] in (90, -90) else (width, height)


def frame_rate(timeline: Timeline) -> float | None:
    """Pictures per second; None if it is not known."""
    video = timeline.source["video"]
    try:
        return None if video is None or video["average_rate"] is None else float(Fraction(video["average_rate"]))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def created(timeline: Timeline) -> datetime.datetime | None:
    """When the scan was made, in UTC; None if the timeline does not say it in a way that can be read."""
    try:
        at = datetime.datetime.fromisoformat(timeline.provenance["created"])
        return at.astimezone(datetime.UTC) if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _gaps(timeline: Timeline) -> Iterator[tuple[str, Covered]]:
    """Spans that were not looked at, and in which stream."""
    rows = [("", timeline.coverage), *((f"of stream {row.stream} ", row.coverage) for row in timeline.streams[1:])]
    return ((where, span) for where, coverage in rows for span in coverage if span.state != "analysed")


def _float(value: float) -> float:
    """JSON's numbers have no limit, and Python reads one without a point as an integer of any size."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _micros(seconds: float) -> int:
    return round(min(max(seconds, 0.0), _LONGEST_SECONDS) * 1e6) if seconds > 0 else 0


def _length(start: float, end: float) -> int:
    return _micros(_float(end) - _float(start))


def _scores(row: Segment) -> Mapping[str, float]:
    return row.labels or {row.category: row.peak}


def _key(row: Segment) -> _Key:
    return None if row.stream is None else (row.stream, row.kind or "video")


def _moments(timeline: Timeline, without: list[tuple[Segment, int]]) -> Iterator[_Moment]:
    """The samples of all streams; segments in which there is none, with their start, are added to `without`."""
    left = set(range(len(timeline.segments)))
    for position, stream in enumerate(timeline.streams):
        rows, met = _of_stream(timeline, stream, (stream.stream, stream.kind) if position else None)
        left -= met
        yield from rows
    for place in sorted(left):
        row = timeline.segments[place]
        without.append((row, 0 if row.kind == "cover" else microseconds(timeline, row.start_seconds)))


def _of_stream(timeline: Timeline, stream: StreamScan, key: _Key) -> tuple[list[_Moment], set[int]]:
    """The samples of one stream, by time; and the places of the segments that hold any of them."""
    samples = sorted(stream.samples, key=lambda sample: sample.time_seconds)
    times = [_float(sample.time_seconds) for sample in samples]
    rows = []
    for sample in samples:
        scores: dict[str, float] = {}
        for given in sample.predictions.scores:
            for label, score in given.labels.items():
                scores[label] = max(score, scores.get(label, 0.0))
        for item in sample.predictions.detections:
            scores[item.label] = max(item.score, scores.get(item.label, 0.0))
        at = 0 if stream.kind == "cover" else microseconds(timeline, sample.time_seconds)
        rows.append(_Moment(at, scores, sample.predictions.detections))
    decided = decisions(timeline)
    met: set[int] = set()
    for place, row in enumerate(timeline.segments):
        inside = _inside(row, key, times)
        if inside:
            met.add(place)
        for position in inside:
            _hold(rows[position], row, by_a_person=row.id in decided)
    for row in machine_segments(timeline) if timeline.review is not None else ():
        for position in _inside(row, key, times):
            rows[position].gone.update((row.category, label) for label in _scores(row))
    return rows, met


def _inside(row: Segment, key: _Key, times: list[float]) -> range:
    if _key(row) != key:
        return range(0)
    return range(bisect_left(times, _float(row.start_seconds)), bisect_left(times, _float(row.end_seconds)))


def _hold(moment: _Moment, row: Segment, *, by_a_person: bool) -> None:
    scores = _scores(row)
    moment.kept.add(row.category)
    for label in scores:
        moment.held[label] = worst([row.verdict, moment.held.get(label, "pass")])
    if by_a_person:
        label = max(scores, key=lambda name: scores[name])
        moment.scores[label] = max(scores[label], moment.scores.get(label, 0.0))


def _merge(
    merged: dict[int, tuple[dict[str, float], dict[str, Verdict]]],
    time: int,
    scores: Mapping[str, float],
    held: Mapping[str, Verdict],
) -> None:
    all_scores, all_held = merged.setdefault(time, ({}, {}))
    for label, score in scores.items():
        all_scores[label] = max(score, all_scores.get(label, 0.0))
    for label, verdict in held.items():
        all_held[label] = worst([verdict, all_held.get(label, "pass")])


def _drawn(timeline: Timeline) -> list[Json]:
    """Tracks that a reviewer drew."""
    if timeline.review is None:
        return []
    found = machine_tracks(timeline)
    return [track for track in timeline.tracks if track not in found]


def _is_dismissed(timeline: Timeline, unwanted: Iterable[Json], time: int, item: Detection) -> bool:
    for track in unwanted:
        start, end = (microseconds(timeline, track[name]) for name in ("start_seconds", "end_seconds"))
        if track["label"] != item.label or not track["boxes"] or not start <= time < end:
            continue
        nearest = min(track["boxes"], key=lambda row: abs(microseconds(timeline, row["time_seconds"]) - time))
        if _overlap(nearest["box"], item.box) >= _SAME_OVERLAP:
            return True
    return False


def _overlap(box: Iterable[float], other: Box) -> float:
    """Intersection over union."""
    x1, y1, x2, y2 = map(_float, box)
    width = max(0.0, min(x2, other[2]) - max(x1, other[0]))
    height = max(0.0, min(y2, other[3]) - max(y1, other[1]))
    total = (x2 - x1) * (y2 - y1) + (other[2] - other[0]) * (other[3] - other[1]) - width * height
    return width * height / total if total > 0 else 0.0
