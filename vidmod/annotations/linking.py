"""A detector's boxes, sample by sample, to tracks that a person can edit.

Every box is a keyframe of a track, as it is. The link is greedy and by sight alone: boxes of one label in samples that
follow each other, the nearest first. A thing that one sample misses is gone for that while, and is the same track
afterwards. What redaction covers does not hang on it: that tracks what it finds in every picture, see
:mod:`vidmod.tracking`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vidmod.annotations.frames import Frames
from vidmod.annotations.shapes import Key, Run
from vidmod.predictions import Box, Detection
from vidmod.timeline import Sample

# Samples in a row in which a thing may be missed.
_MISSED = 1
_SLACK_SECONDS = 0.1
_LEAST_OVERLAP = 0.1
# Of a box's diagonal: as far as a thing may have moved if the boxes do not meet.
_MOST_DISTANCE = 0.5


@dataclass(frozen=True, slots=True)
class Linked:
    """A track of what a detector found."""

    label: str
    runs: tuple[Run, ...]


@dataclass(slots=True)
class _Chain:
    """A track that grows: places of samples, and what was found there."""

    items: list[tuple[int, Detection]] = field(default_factory=list)

    @property
    def last(self) -> tuple[int, Detection]:
        return self.items[-1]


def link(
    samples: Sequence[Sample], found: Sequence[Sequence[Detection]], gap_seconds: float, frames: Frames
) -> list[Linked]:
    """Detections as tracks, in the order in which they begin.

    Args:
        found: Of every sample, those that are wanted.
        gap_seconds: Samples are no further apart where all is accounted for.
        frames: To number keyframes.
    """
    chains: list[_Chain] = []
    open_chains: list[_Chain] = []
    for place, (sample, items) in enumerate(zip(samples, found, strict=True)):
        reach = sample.time_seconds - (1 + _MISSED) * gap_seconds - _SLACK_SECONDS
        open_chains = [
            chain
            for chain in open_chains
            if place - chain.last[0] <= 1 + _MISSED and samples[chain.last[0]].time_seconds >= reach
        ]
        matched = _matches(open_chains, items)
        for number, item in enumerate(items):
            chain = matched.get(number)
            if chain is None:
                chain = _Chain()
                chains.append(chain)
                open_chains.append(chain)
            chain.items.append((place, item))
    rows = (Linked(chain.last[1].label, tuple(_runs(chain, samples, gap_seconds, frames))) for chain in chains)
    return [row for row in rows if row.runs]


def _matches(chains: Sequence[_Chain], items: Sequence[Detection]) -> dict[int, _Chain]:
    """Which detection, by its place, continues which track."""
    pairs = sorted(
        (-likeness, at, number)
        for number, item in enumerate(items)
        for at, chain in enumerate(chains)
        if (chain.last[1].label, chain.last[1].model) == (item.label, item.model)
        and (likeness := _likeness(chain.last[1].box, item.box)) > 0
    )
    taken: set[int] = set()
    matched: dict[int, _Chain] = {}
    for _, at, number in pairs:
        if at not in taken and number not in matched:
            taken.add(at)
            matched[number] = chains[at]
    return matched


def _likeness(box: Box, other: Box) -> float:
    """More for boxes that overlap more; a little for those that do not and are near; else 0."""
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    total = sum((row[2] - row[0]) * (row[3] - row[1]) for row in (box, other)) - width * height
    overlap = width * height / total if total > 0 else float(box == other)
    if overlap >= _LEAST_OVERLAP:
        return 1 + overlap
    apart = math.hypot(box[0] + box[2] - other[0] - other[2], box[1] + box[3] - other[1] - other[3]) / 2
    size = sum(math.hypot(row[2] - row[0], row[3] - row[1]) for row in (box, other)) / 2
    reach = _MOST_DISTANCE * size
    return 1 - apart / reach if apart < reach < math.inf else 0.0


def _runs(chain: _Chain, samples: Sequence[Sample], gap_seconds: float, frames: Frames) -> Iterator[Run]:
    """The stretches of samples that follow each other, in frames."""
    stretches: list[list[tuple[int, Detection]]] = []
    for place, item in chain.items:
        if stretches and stretches[-1][-1][0] == place - 1:
            stretches[-1].append((place, item))
        else:
            stretches.append([(place, item)])
    after = -1  # two samples may fall into one frame, where the rate varies
    for number, stretch in enumerate(stretches):
        keys = []
        for place, item in stretch:
            sample = samples[place]
            frame = frames.at(sample.time_seconds)
            if frame > after:
                after = frame
                keys.append(Key(frame, item.box, item.score, sample.pts, sample.time_seconds))
        if not keys:
            continue
        start, end = _extent(stretch[0][0], stretch[-1][0], samples, gap_seconds)
        following = stretches[number + 1][0][0] if number + 1 < len(stretches) else None
        until = max(frames.since(_midway(stretch[-1][0], samples, gap_seconds)), after + 1)
        if following is not None:
            until = max(min(until, frames.at(samples[following].time_seconds)), after + 1)
        after = until - 1
        yield Run(tuple(keys), frames.ended(until), start, end)


def _extent(first: int, last: int, samples: Sequence[Sample], gap_seconds: float) -> tuple[float, float]:
    """From the sample before to the sample after, if they are near: the thing may have begun and ended there.

    Whoever dismisses it has not seen that. But redaction looks at every picture, finds it there, and covers it to both
    sides of where it found it.
    """
    start, end = samples[first].time_seconds, samples[last].end_seconds
    before = samples[first - 1].end_seconds if first > 0 else start
    after = samples[last + 1].time_seconds if last + 1 < len(samples) else end
    return round(min(start, max(before, start - gap_seconds)), 6), round(max(end, min(after, end + gap_seconds)), 6)


def _midway(last: int, samples: Sequence[Sample], gap_seconds: float) -> float:
    """Up to when the last box is shown: where a scan's segments end as well."""
    sample = samples[last]
    if last + 1 == len(samples):
        return sample.end_seconds
    middle = (sample.time_seconds + samples[last + 1].time_seconds) / 2
    return max(sample.end_seconds, min(middle, sample.end_seconds + gap_seconds / 2))
