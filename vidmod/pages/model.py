"""What a report shows, as values that a template only has to put in place."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from vidmod._version import __version__
from vidmod.errors import PolicyError
from vidmod.pages import chart, words
from vidmod.pages.shots import Shot
from vidmod.policy import Category, Policy, Verdict
from vidmod.predictions import Detection
from vidmod.reviewing import decisions, machine_segments
from vidmod.timeline import Json, Sample, Segment, StreamScan, Timeline

_FALLBACK_RATE = Fraction(25)
_DECIDED = {"accepted": "Accepted", "rejected": "Rejected", "changed": "Changed", "added": "Added"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is said under it."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box on a picture; x, y, width and height in pixels of the picture as displayed."""

    x: float
    y: float
    width: float
    height: float
    title: str
    is_judged: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail with its boxes.

    Attributes:
        uri: The picture itself, as a `data:` URL.
        view_box: Of the boxes: the size of the video as displayed.
    """

    uri: str
    width: int
    height: int
    pts: int
    clock: str
    view_box: str
    boxes: Sequence[BoxView]
    says: str
    is_clear: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One segment: what a scan found, and what a person made of it."""

    number: int
    id: str
    category: str
    verdict: Verdict
    start_seconds: float
    end_seconds: float
    start: str
    end: str
    length: str
    peak: str
    mean: str
    labels: Sequence[tuple[str, float, str]]
    where: str
    is_elsewhere: bool
    decision: str
    decision_word: str
    found: str
    note: str
    pictures: Sequence[Picture]
    lacks_pictures: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A reviewer's page.

    Attributes:
        config: What the script needs beside the timeline itself.
    """

    name: str
    verdict: Verdict
    machine_verdict: Verdict
    headline: str
    status: str
    coverage: str
    facts: Sequence[Fact]
    uncertain: Sequence[str]
    warnings: Sequence[str]
    reviewed: str
    review_note: str
    lanes: Sequence[chart.Lane]
    gaps: Sequence[chart.Bar]
    ticks: Sequence[tuple[float, str]]
    columns: Sequence[str]
    table: Sequence[chart.TableRow]
    cards: Sequence[Card]
    has_pictures: bool
    categories: Sequence[str]
    models: Sequence[Sequence[Fact]]
    provenance: Sequence[Fact]
    policy: Sequence[Fact]
    made: str
    config: Json


def report_of(
    timeline: Timeline,
    shots: Mapping[str, Sequence[Shot]],
    *,
    video: str | None,
    warnings: Sequence[str],
    digest: str,
    now: datetime,
) -> Report:
    """The page about one timeline.

    Args:
        digest: Of the timeline document.
    """
    policy = policy_of(timeline)
    scale = scale_of(timeline)
    machine = timeline.review["machine"]["verdict"] if timeline.review is not None else timeline.verdict
    cards = list(_cards(timeline, shots, policy))
    lanes = _lanes(timeline, policy, scale)
    marks = words.ticks(scale.start, scale.end)
    return Report(
        name=str(timeline.source["name"]),
        verdict=timeline.verdict,
        machine_verdict=machine,
        headline=_headline(timeline),
        status=_STATUS[timeline.status],
        coverage=words.coverage_words(timeline.status, timeline.coverage, timeline.samples),
        facts=_facts(timeline, policy),
        uncertain=_uncertain(timeline, shots, policy),
        warnings=warnings,
        reviewed=_reviewed(timeline),
        review_note="" if timeline.review is None else str(timeline.review.get("note", "")),
        lanes=lanes,
        gaps=chart.gaps(timeline.coverage, scale),
        ticks=[(scale.percent(mark), words.tick_words(mark, marks)) for mark in marks],
        columns=[row.name for row in _categories(policy)],
        table=_table(timeline, policy, scale),
        cards=cards,
        has_pictures=any(card.pictures for card in cards),
        categories=_choices(timeline, policy),
        models=[_model(row) for row in timeline.provenance["models"]],
        provenance=_provenance(timeline, digest),
        policy=_policy_facts(policy),
        made=words.moment(now.isoformat()),
        config={**_config(timeline, policy, scale, lanes, video, digest), "ids": [card.id for card in cards]},
    )


_STATUS = {
    "complete": "Complete: every stretch of it is accounted for",
    "partial": "Partial: some of it was not looked at or could not be",
    "unscannable": "Unscannable: nothing is known about it",
}


def policy_of(timeline: Timeline) -> Policy | None:
    """The policy by which it was judged; None if the document holds none that can be read."""
    try:
        return Policy.from_document(timeline.provenance["policy"], "timeline")
    except PolicyError:
        return None


def scale_of(timeline: Timeline) -> chart.Scale:
    """From the first to the last moment of which a timeline says anything."""
    times = [seconds for row in timeline.coverage for seconds in (row.start_seconds, row.end_seconds)]
    times += [seconds for row in timeline.segments for seconds in (row.start_seconds, row.end_seconds)]
    times += [sample.time_seconds for sample in (*timeline.samples[:1], *timeline.samples[-1:])]
    return chart.Scale(min(times, default=0.0), max(times, default=0.0))


def shown_size(video: Json | None) -> tuple[int, int]:
    """Width and height as displayed."""
    if video is None:
        return 0, 0
    turned = video["rotation"] in (-90, 90)
    return (video["height"], video["width"]) if turned else (video["width"], video["height"])


def _categories(policy: Policy | None) -> tuple[Category, ...]:
    return () if policy is None else policy.categories


def _choices(timeline: Timeline, policy: Policy | None) -> list[str]:
    """Categories that a reviewer's own segment can have."""
    names = [row.name for row in _categories(policy)]
    return list(dict.fromkeys([*names, *(row.category for row in machine_segments(timeline))]))


def _headline(timeline: Timeline) -> str:
    if timeline.status == "unscannable":
        return "It could not be scanned, so a person has to look."
    if not timeline.segments:
        nothing = "Nothing was found" if timeline.review is None else "Nothing remains after review"
        return f"{nothing}." if timeline.status == "complete" else f"{nothing} in what was looked at."
    blocked = sum(row.verdict == "block" for row in timeline.segments)
    review = len(timeline.segments) - blocked
    parts = [f"{blocked} to block"] * bool(blocked) + [f"{review} to review"] * bool(review)
    return f"{words.count(len(timeline.segments), 'segment')}: {words.listed(parts)}."


def _reviewed(timeline: Timeline) -> str:
    if timeline.review is None:
        return ""
    tool = f", with {timeline.review['tool']}" if timeline.review.get("tool") else ""
    return f"{timeline.review['reviewer'] or 'somebody'} on {words.moment(timeline.review['reviewed'])}{tool}"


def _facts(timeline: Timeline, policy: Policy | None) -> list[Fact]:
    source = timeline.source
    video, audio = source["video"], source["audio"]
    container = words.container_words(source["name"], source["format"])
    rows = [Fact("Length", f"{words.clock(source['duration_seconds'])} ({source['duration_seconds']:.1f} s)")]
    if source["start_seconds"]:
        rows.append(Fact("Begins at", words.clock(source["start_seconds"])))
    if video is not None:
        width, height = shown_size(video)
        rows.append(Fact("Picture", f"{width} \N{MULTIPLICATION SIGN} {height}, {video['codec']}{_rate(video)}"))
    sound = [f"{row['codec']} {row['sample_rate'] / 1000:g} kHz" for row in audio]
    rows.append(Fact("Sound", ", ".join(sound) or "none"))
    rows.append(Fact("File", f"{words.bytes_words(source['size_bytes'])}, {container}"))
    rows.append(Fact("Looked at", _looked_at(timeline)))
    if seen := _also_seen(timeline.samples, policy):
        rows.append(Fact("Seen, not judged", seen))
    return rows


def _rate(video: Json) -> str:
    rate = frame_rate(video)
    return "" if rate is None else f", {float(rate):.5g} fps"


def frame_rate(video: Json | None) -> Fraction | None:
    """Pictures a second, if that is known."""
    text = None if video is None else video["average_rate"]
    if not text or text.startswith("0/") or text.endswith("/0"):
        return None
    return Fraction(text)


def _looked_at(timeline: Timeline) -> str:
    streams = f" in {len(timeline.streams)} streams" if len(timeline.streams) > 1 else ""
    mode = timeline.provenance["sampling"].get("mode")
    how = f", {mode}" if mode else ""
    return f"{words.count(timeline.sample_count, 'picture')}{streams}{how}"


def _also_seen(samples: Sequence[Sample], policy: Policy | None, most: int = 6) -> str:
    """Labels of detections that belong to no category."""
    seen: dict[str, int] = {}
    for sample in samples:
        for label in {item.label for item in sample.predictions.detections if not _is_judged(item, policy)}:
            seen[label] = seen.get(label, 0) + 1
    ordered = sorted(seen.items(), key=lambda row: (-row[1], row[0]))
    texts = [f"{label} in {words.count(number, 'picture')}" for label, number in ordered[:most]]
    return ", ".join([*texts, *(["…"] if len(ordered) > most else [])])


def _is_judged(item: Detection, policy: Policy | None) -> bool:
    names = {item.label, f"{item.model}.{item.label}"}
    return any(names & set(row.labels) for row in _categories(policy))


def _uncertain(timeline: Timeline, shots: Mapping[str, Sequence[Shot]], policy: Policy | None) -> list[str]:
    """What whoever decides must know that it is not known."""
    lines = words.gap_lines(timeline.coverage)
    for stream in timeline.streams[1:]:
        where = f"Stream {stream.stream} ({stream.kind})"
        lines += [f"{where}: {line}" for line in words.gap_lines(stream.coverage, 3)]
    if len(timeline.streams) > 1:
        others = words.listed([f"stream {row.stream} ({row.kind})" for row in timeline.streams[1:]])
        lines.append(f"The file has further pictures, which the player does not show: {others}.")
    lines += _lone_peaks(timeline, policy)
    lines += audits(timeline)
    if policy is None:
        lines.append("The timeline's policy cannot be read: there are no thresholds and no scores by category here.")
    if _is_ambiguous(timeline):
        lines.append("Two segments have the same id, so that decisions cannot be told apart: this page takes none.")
    if any(shot.is_clear for rows in shots.values() for shot in rows):
        lines.append("The pictures on this page are clear, as was asked for: neither blurred nor grey.")
    return [*lines, *timeline.notes]


def _lone_peaks(timeline: Timeline, policy: Policy | None) -> list[str]:
    known = {row.name: row for row in _categories(policy)}
    found = [
        row
        for row in machine_segments(timeline)
        if row.verdict == "review" and row.category in known and row.peak >= known[row.category].block
    ]
    if not found:
        return []
    more = [f"{len(found) - 8} more"] if len(found) > 8 else []
    names = words.listed([*(row.id for row in found[:8]), *more])
    return [
        f"Lone peaks ({names}): single pictures reach the score for block, and those beside them do not, so only a "
        "person can tell."
    ]


def audits(timeline: Timeline) -> list[str]:
    """What adaptive sampling may have missed."""
    lines = []
    for row in timeline.provenance["sampling"].get("audits") or ():
        try:
            unseen, bound, sure = float(row["unseen_seconds"]), float(row["upper_bound"]), float(row["confidence"])
            pictures, hits = int(row["pictures"]), int(row["hits"])
        except (KeyError, TypeError, ValueError):
            continue
        lines.append(
            f"Of the pictures in {unseen:.0f} s that nothing spoke for, at most {bound:.1%} may show something "
            f"({sure:.0%} sure, by {words.count(pictures, 'picture')} at random, {words.count(hits, 'hit')})."
        )
    return lines


def _lanes(timeline: Timeline, policy: Policy | None, scale: chart.Scale) -> list[chart.Lane]:
    lanes = []
    for place, stream in enumerate(timeline.streams):
        number = None if place == 0 else stream.stream
        shown = [row for row in timeline.segments if row.stream == number]
        for category in _categories(policy):
            bars = _bars([row for row in shown if row.category == category.name], scale)
            if place == 0 or bars:
                lanes.append(_lane(stream, place, category, bars, scale))
    return lanes


def _lane(
    stream: StreamScan, place: int, category: Category, bars: Sequence[chart.Bar], scale: chart.Scale
) -> chart.Lane:
    series = chart.Series.of(stream.samples, category)
    area, line, floor = chart.shapes(series, stream.coverage, scale)
    name = "" if place == 0 else f"stream {stream.stream} ({stream.kind})"
    return chart.Lane(category.name, name, area, line, floor, category.review, category.block, bars, place)


def _bars(segments: Iterable[Segment], scale: chart.Scale) -> list[chart.Bar]:
    return [
        chart.Bar(
            x := scale.percent(row.start_seconds),
            round(max(0.15, scale.percent(row.end_seconds) - x), 3),
            row.verdict,
            f"{row.id}: {row.category}, {row.verdict}, {words.clock(row.start_seconds)} to "
            f"{words.clock(row.end_seconds)}",
            row.id,
        )
        for row in segments
    ]


def _table(timeline: Timeline, policy: Policy | None, scale: chart.Scale) -> list[chart.TableRow]:
    if not timeline.coverage:
        return []
    series = [chart.Series.of(timeline.samples, category) for category in _categories(policy)]
    return chart.table(series, timeline.coverage, scale)


def _cards(timeline: Timeline, shots: Mapping[str, Sequence[Shot]], policy: Policy | None) -> Iterable[Card]:
    """The machine's segments, those that a person rejected among them, and those that a person added."""
    found = {row.id: row for row in machine_segments(timeline)}
    left = {row.id: row for row in timeline.segments}
    rows = [left.get(row.id, row) for row in machine_segments(timeline)]
    rows += [row for row in timeline.segments if row.id not in found]
    rows.sort(key=lambda row: (row.start_seconds, row.end_seconds))
    decided: Mapping[str, str] = decisions(timeline)
    notes = _notes(timeline)
    for number, row in enumerate(rows, 1):
        before = found.get(row.id)
        stream = _stream_of(timeline, row)
        yield Card(
            number=number,
            id=row.id,
            category=row.category,
            verdict=row.verdict,
            start_seconds=row.start_seconds,
            end_seconds=row.end_seconds,
            start=words.clock(row.start_seconds),
            end=words.clock(row.end_seconds),
            length=words.seconds_words(row.end_seconds - row.start_seconds),
            peak=f"{row.peak:.2f}",
            mean=f"{row.mean:.2f}",
            labels=[(label, score, f"{score:.2f}") for label, score in row.labels.items()],
            where="" if row.stream is None else f"stream {row.stream}" + (f" ({row.kind})" if row.kind else ""),
            is_elsewhere=row.stream is not None,
            decision=decided.get(row.id, ""),
            decision_word=_DECIDED.get(decided.get(row.id, ""), "Undecided"),
            found="" if before is None else f"{words.clock(before.start_seconds)} to {words.clock(before.end_seconds)}",
            note=notes.get(row.id, ""),
            pictures=[_picture(shot, stream, policy) for shot in shots.get(row.id, ())],
            lacks_pictures=row.id in shots and not shots[row.id],
        )


def _notes(timeline: Timeline) -> dict[str, str]:
    if timeline.review is None:
        return {}
    return {row["segment"]: row.get("note", "") for row in timeline.review["decisions"]}


def _stream_of(timeline: Timeline, segment: Segment) -> StreamScan | None:
    if segment.stream is None:
        return timeline.streams[0] if timeline.streams else None
    named = [row for row in timeline.streams[1:] if row.stream == segment.stream]
    return next((row for row in named if row.kind == segment.kind), next(iter(named), None))


def _picture(shot: Shot, stream: StreamScan | None, policy: Policy | None) -> Picture:
    video = None if stream is None else stream.video
    width, height = shown_size(video)
    sample = None if stream is None else next((row for row in stream.samples if row.pts == shot.pts), None)
    found = () if sample is None else sample.predictions.detections
    boxes = [_box(item, policy) for item in found]
    return Picture(
        uri=f"data:{shot.media_type};base64,{base64.b64encode(shot.data).decode()}",
        width=shot.width,
        height=shot.height,
        pts=shot.pts,
        clock=words.clock(shot.time_seconds),
        view_box=f"0 0 {width or shot.width} {height or shot.height}",
        boxes=boxes,
        says=words.listed([box.title for box in boxes]),
        is_clear=shot.is_clear,
    )


def _box(item: Detection, policy: Policy | None) -> BoxView:
    x1, y1, x2, y2 = (round(value, 2) for value in item.box)
    title = f"{item.label} {item.score:.2f}"
    return BoxView(x1, y1, round(x2 - x1, 2), round(y2 - y1, 2), title, _is_judged(item, policy))


def _model(row: Json) -> list[Fact]:
    run = " ".join(str(row[key]) for key in ("runtime", "runtime_version", "precision") if row.get(key))
    return [
        Fact("Model", f"{row['name']} {row['version']}"),
        Fact("Ran on", f"{run} on {row['device']}"),
        Fact("Licence", row["licence"]),
        Fact("Weights SHA-256", row["sha256"]),
    ]


def _provenance(timeline: Timeline, digest: str) -> list[Fact]:
    given = timeline.provenance
    sampling = {key: value for key, value in given["sampling"].items() if key != "audits" and value is not None}
    return [
        Fact("Source SHA-256", timeline.source["sha256"]),
        Fact("Timeline SHA-256", digest),
        Fact("Scanned", f"{given['created']} by vidmod {given['vidmod']}"),
        Fact("Sampling", _settings(sampling)),
        Fact("Smoothing", _settings(given["smoothing"])),
    ]


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _policy_facts(policy: Policy | None) -> list[Fact]:
    if policy is None:
        return []
    rows = [Fact("Policy", f"{policy.name}, lone peaks: {policy.lone_peaks}")]
    return rows + [
        Fact(
            row.name,
            f"review from {row.review:g}, block from {row.block:g}, {row.action}"
            f"{f', from {row.min_duration:g} s on' if row.min_duration else ''}: {', '.join(row.labels)}",
        )
        for row in policy.categories
    ]


def _is_ambiguous(timeline: Timeline) -> bool:
    both = (timeline.segments, machine_segments(timeline))
    return any(len({row.id for row in rows}) < len(rows) for rows in both)


def _config(
    timeline: Timeline,
    policy: Policy | None,
    scale: chart.Scale,
    lanes: Sequence[chart.Lane],
    video: str | None,
    digest: str,
) -> Json:
    names = [row.name for row in _categories(policy)]
    width, height = shown_size(timeline.source["video"])
    return {
        "digest": digest,
        "tool": f"vidmod report {__version__}",
        "name": timeline.source["name"],
        "video": video is not None,
        "decides": not _is_ambiguous(timeline),
        "start": scale.start,
        "end": scale.end,
        "width": width,
        "height": height,
        "frame_seconds": float(1 / (frame_rate(timeline.source["video"]) or _FALLBACK_RATE)),
        "categories": [
            {
                "name": row.name,
                "labels": list(row.labels),
                "review": row.review,
                "block": row.block,
                "action": row.action,
            }
            for row in _categories(policy)
        ],
        "lanes": [{"category": names.index(row.category), "place": row.place} for row in lanes],
        "choices": _choices(timeline, policy),
    }
