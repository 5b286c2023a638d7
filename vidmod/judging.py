"""Judging: samples and a policy to segments and a verdict. Needs no video and no model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidmod.policy import Category, Policy, Verdict, worst
from vidmod.smoothing import Interval, segments
from vidmod.timeline import Sample, Segment, Status, StreamScan, Timeline

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Series:
    """One category's best score over the samples of one stream."""

    starts: Floats
    ends: Floats
    scores: Floats


def judge(timeline: Timeline, policy: Policy | None = None, smoothing: str | None = None) -> Timeline:
    """The timeline with segments and a verdict by another policy; its samples stay as they are.

    Args:
        timeline: As a scan wrote it, or as it was judged before. What a person decided about other segments is left
            out.
        policy: None for the default policy, and the manifests' thresholds for models of whose
            labels that says nothing.
        smoothing: A method, if not the policy's.
    """
    if policy is None:
        thresholds = {row["name"]: row.get("thresholds", {}) for row in timeline.provenance["models"]}
        policy = Policy.default().with_models(thresholds)
    policy = policy.smoothed_by(smoothing)
    found = find_segments(timeline.streams, policy)
    provenance = {**timeline.provenance, "smoothing": policy.smoothing.as_dict(), "policy": policy.as_document()}
    verdict = verdict_of(found, timeline.status)
    machine = (
        timeline
        if timeline.review is None
        else dataclasses.replace(timeline, tracks=tuple(timeline.review["machine"]["tracks"]), review=None)
    )
    return dataclasses.replace(machine, segments=found, verdict=verdict, provenance=provenance)


def verdict_of(found: Iterable[Segment], status: Status) -> Verdict:
    """The worst segment's verdict, but never `pass` where something is unknown."""
    least: Verdict = "pass" if status == "complete" else "review"
    return worst([least, *(segment.verdict for segment in found)])


def find_segments(streams: Sequence[StreamScan], policy: Policy) -> tuple[Segment, ...]:
    """All segments of all streams, by start; ids are in that order."""
    found = [
        segment if position == 0 else dataclasses.replace(segment, stream=stream.stream, kind=stream.kind)
        for position, stream in enumerate(streams)
        for category in policy.categories
        for segment in category_segments(stream.samples, category, policy)
    ]
    found.sort(key=lambda segment: (segment.start_seconds, segment.end_seconds, segment.category))
    return tuple(dataclasses.replace(segment, id=f"s{number}") for number, segment in enumerate(found, 1))


def category_segments(samples: Sequence[Sample], category: Category, policy: Policy) -> Iterator[Segment]:
    """One category's segments in one stream, in order.

    Scores are smoothed twice, as evidence against `review` and against `block`. A segment is what
    is at or above `review`; it blocks if any of it is at or above `block`.
    """
    rows = _told_apart(samples, category)
    label_scores = [scores for _, _, scores in rows]
    if not any(label_scores):
        return
    series = _Series(
        starts=np.array([start for start, _, _ in rows]),
        ends=np.array([end for _, end, _ in rows]),
        scores=np.array([max(scores.values(), default=0.0) for scores in label_scores]),
    )
    settings = policy.smoothing
    if category.min_duration > settings.min_duration_on:
        settings = dataclasses.replace(settings, min_duration_on=category.min_duration)
    blocked = segments(series.starts, series.ends, series.scores, category.block, settings)
    reviewed = segments(series.starts, series.ends, series.scores, category.review, settings)
    found = [(interval, _verdict(interval, blocked)) for interval in _merged([*reviewed, *blocked])]
    if policy.lone_peaks == "review":
        found += [(interval, "review") for interval in _lone_peaks(series, category, [row[0] for row in found])]
    for interval, verdict in sorted(found, key=lambda row: row[0].start_seconds):
        yield _segment(interval, verdict, category, series, label_scores)


def _told_apart(samples: Sequence[Sample], category: Category) -> list[tuple[float, float, dict[str, float]]]:
    """Start, end and scores of samples whose times differ once they are seconds; of equal times the best scores."""
    rows: list[tuple[float, float, dict[str, float]]] = []
    for sample in samples:
        start, scores = sample.time_seconds, category.label_scores(sample.predictions)
        # Times that floats cannot tell apart: a hostile file's, centuries from now or a nanosecond apart.
        end = max(sample.end_seconds, math.nextafter(start, math.inf))
        if rows and start <= rows[-1][0]:
            before = rows.pop()
            labels = {*before[2], *scores}
            scores = {label: max(before[2].get(label, 0.0), scores.get(label, 0.0)) for label in labels}
            start, end = before[0], max(before[1], end)
        elif rows and rows[-1][1] > start:
            rows[-1] = (rows[-1][0], start, rows[-1][2])
        rows.append((start, end, scores))
    return rows


def _verdict(interval: Interval, blocked: Iterable[Interval]) -> Verdict:
    hit = any(
        other.start_seconds < interval.end_seconds and other.end_seconds > interval.start_seconds for other in blocked
    )
    return "block" if hit else "review"


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Disjoint intervals that cover the same time and samples."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda item: item.start_seconds):
        last = merged[-1] if merged else None
        if last is not None and interval.start_seconds <= last.end_seconds:
            merged[-1] = Interval(
                last.start_seconds,
                max(last.end_seconds, interval.end_seconds),
                min(last.first, interval.first),
                max(last.last, interval.last),
            )
        else:
            merged.append(interval)
    return merged


def _lone_peaks(series: _Series, category: Category, found: Sequence[Interval]) -> Iterator[Interval]:
    """Runs of samples at or above `block` that no segment holds: shown to a reviewer, not dropped."""
    high = series.scores >= category.block
    for interval in found:
        high[interval.first : interval.last + 1] = False
    edges = np.flatnonzero(np.diff(np.concatenate(([0], high.astype(np.int8), [0]))))
    for first, after in edges.reshape(-1, 2).tolist():
        yield Interval(float(series.starts[first]), float(series.ends[after - 1]), first, after - 1)


def _segment(
    interval: Interval,
    verdict: Verdict,
    category: Category,
    series: _Series,
    label_scores: Sequence[dict[str, float]],
) -> Segment:
    inside = slice(interval.first, interval.last + 1)
    labels: dict[str, float] = {}
    for scores in label_scores[inside]:
        for label, score in scores.items():
            labels[label] = max(score, labels.get(label, 0.0))
    raw = series.scores[inside]
    return Segment(
        id="",
        category=category.name,
        verdict=verdict,
        action=category.action,
        start_seconds=round(interval.start_seconds, 6),
        end_seconds=round(interval.end_seconds, 6),
        peak=round(float(raw.max()), 4),
        mean=round(float(raw.mean()), 4),
        labels=dict(sorted(labels.items(), key=lambda item: -item[1])),
    )
