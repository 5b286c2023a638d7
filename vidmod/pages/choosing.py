"""Which pictures a report shows of each segment: the worst, and others spread over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidmod.media.facts import TrackKind
from vidmod.policy import VERDICTS
from vidmod.timeline import Sample, Segment, StreamScan, Timeline

# A picture is some 3 KB blurred and 8 KB clear: with these, what a page has of them stays below 1 MB and 3 MB.
MOST_OF_A_SEGMENT, MOST_OF_ALL = 6, 240


@dataclass(frozen=True, slots=True)
class Choice:
    """A sample of which a picture is wanted, and the stream that it is in."""

    stream: int
    kind: TrackKind
    sample: Sample


def choose(timeline: Timeline, *, each: int, most: int) -> dict[str, tuple[Choice, ...]]:
    """The pictures to show, by segment, in the order in which they are shown.

    Args:
        timeline: Which segments and samples there are.
        each: Pictures of one segment, at most.
        most: Of all segments together. Where there are too many of these, each has fewer, down to one; where there are
            more segments than pictures, those come first that are worst.

    Returns:
        Segment id to its samples; without the segments for which nothing is left.
    """
    if each < 1 or most < 1 or not timeline.segments:
        return {}
    served = sorted(timeline.segments, key=_by_weight)[:most]
    count = max(1, min(each, most // len(served)))
    streams = {(row.stream, row.kind): row for row in timeline.streams}
    first = timeline.streams[0] if timeline.streams else None
    chosen: dict[str, tuple[Choice, ...]] = {}
    for segment in served:
        stream = first if segment.stream is None else streams.get((segment.stream, segment.kind or "video"))
        if stream is not None and (samples := _within(stream, segment)):
            picked = _picked(samples, segment.labels, count)
            chosen[segment.id] = tuple(Choice(stream.stream, stream.kind, sample) for sample in picked)
    return chosen


def _by_weight(segment: Segment) -> tuple[int, float, float]:
    """Worst first."""
    return -VERDICTS.index(segment.verdict), -segment.peak, segment.start_seconds


def _within(stream: StreamScan, segment: Segment) -> list[Sample]:
    """The samples that begin in a segment; of one that lies between two samples, the last before it."""
    start, end = segment.start_seconds, segment.end_seconds
    within = [sample for sample in stream.samples if start <= sample.time_seconds < end]
    before = [sample for sample in stream.samples if sample.time_seconds < start] if not within else []
    return within or before[-1:]


def _picked(samples: Sequence[Sample], labels: Mapping[str, float], count: int) -> list[Sample]:
    """The one with the highest score of any of these labels, and others at equal distances."""
    peak = max(range(len(samples)), key=lambda place: _score(samples[place], labels))
    spread = [round((number + 0.5) * len(samples) / count - 0.5) for number in range(count)]
    # The one nearest to the peak makes room for it.
    spread.remove(min(spread, key=lambda place: abs(place - peak)))
    return [samples[place] for place in sorted({peak, *spread})]


def _score(sample: Sample, labels: Mapping[str, float]) -> float:
    found = [item.score for item in sample.predictions.detections if item.label in labels]
    found += [
        score for scores in sample.predictions.scores for label, score in scores.labels.items() if label in labels
    ]
    return max(found, default=0.0)
