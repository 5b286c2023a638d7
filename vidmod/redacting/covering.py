"""From pictures that were all looked at to what is covered of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from vidmod.predictions import Box, Detection
from vidmod.redacting.messages import Covering
from vidmod.reviewing import box_between, without_dismissed
from vidmod.targets import Targets
from vidmod.timebase import Span, complement, to_seconds, union
from vidmod.timeline import Json, Sample, Segment
from vidmod.tracking import FrameDetections, FrameRegions, Tracker, Tracking, TrackRecorder

# What is found this close to where looking ended may go on.
_EDGE_SECONDS = 0.25
_SHARE_COVERED = 0.9


@dataclass(frozen=True, slots=True)
class Covered:
    """What is covered of a stream.

    Attributes:
        rows: Of every picture of which something is covered, in order.
        touched: When those are shown, [start, end) in the stream's time base, disjoint.
        tracks: For a timeline.
        further: Where else to look, in seconds: what was found goes on to the edge of where was looked. Each is as
            long as was wanted, up to the stream's ends.
    """

    rows: tuple[Covering, ...]
    touched: tuple[tuple[int, int], ...]
    tracks: tuple[Json, ...]
    further: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """How it is decided.

    Attributes:
        targets: What is to be covered.
        tracking: How detections become regions.
        slate: Cover the whole picture wherever something is to be covered.
        truth: A reviewer's segments: nothing outside of them is covered, and where a classifier's is, all is. None if
            nobody has looked at them.
        drawn: A reviewer's tracks.
        scanned: What the scan made of the samples that the reviewer saw.
        dismissed: Tracks of boxes that a reviewer does not want covered.
        reach: How far from a scan's border of a segment what goes on is covered as well, in seconds: a scan knows it no
            better. A border that a reviewer has moved is where it is.
    """

    targets: Targets
    tracking: Tracking
    slate: bool = False
    truth: tuple[Segment, ...] | None = None
    drawn: tuple[Json, ...] = ()
    scanned: tuple[Segment, ...] = ()
    dismissed: tuple[Json, ...] = ()
    reach: float = 0.5


def cover(
    samples: Sequence[Sample],
    size: tuple[int, int],
    time_base: Fraction,
    extent: Span,
    rules: Rules,
    ahead_seconds: float = 2.0,
) -> Covered:
    """Decide what is covered.

    Args:
        samples: Of every picture of some stretches, in order.
        size: Displayed width and height.
        time_base: Of the samples' pts.
        extent: From when to when the stream goes, in seconds.
        rules: What is wanted.
        ahead_seconds: How far to look on where what is covered goes on.
    """
    recorder = TrackRecorder(time_base)
    regions: list[FrameRegions] = []
    first = 1
    for run in _runs(samples, time_base):
        frames = _renumbered(_track(run, size, time_base, rules), first)
        first = max([first, *(region.track + 1 for frame in frames for region in frame.regions)])
        regions += frames
    recorder.add(regions)
    rows = tuple(_rows(regions, _whole(samples, regions, time_base, rules), time_base, rules))
    ends = {frame.pts: frame.end_pts for frame in regions}
    return Covered(
        rows,
        tuple(joined([(row.pts, ends[row.pts]) for row in rows])),
        tuple(track.as_json() for track in recorder.tracks()),
        # Further away than a reviewer's segments reach, nothing is covered.
        ()
        if rules.truth is not None
        else tuple(_further(regions, {row.pts for row in rows}, time_base, extent, ahead_seconds)),
    )


def combined(found: Sequence[Covered]) -> Covered:
    """All that was decided by one set of rules or another."""
    rows: tuple[Covering, ...] = ()
    for item in found:
        rows = merged(rows, item.rows)
    tracks = (track for item in found for track in item.tracks)
    return Covered(
        rows,
        tuple(joined(sorted(span for item in found for span in item.touched))),
        tuple({**track, "id": f"t{number}"} for number, track in enumerate(tracks, 1)),
        tuple(union(span for item in found for span in item.further)),
    )


def still_visible(samples: Sequence[Sample], rows: Sequence[Covering], rules: Rules) -> list[Covering]:
    """What models still find in a redacted file, to be covered as well.

    A detection of which nine tenths are covered already is of the cover itself.

    Args:
        samples: Of the redacted file.
        rows: What was covered, in the same time base.
        rules: By which it was covered.
    """
    known = {row.pts: row for row in rows}
    found = []
    for sample in samples:
        start, end = sample.time_seconds, sample.end_seconds
        row = known.get(sample.pts)
        if (row is not None and row.whole) or not _meets(start, end, rules):
            continue
        covers = [] if row is None else row.boxes
        boxes = [
            _grown(item.box, rules.tracking.margin)
            for item in _boxes(sample, rules)
            if rules.targets.is_box_certain(item) and _covered_share(item.box, covers) < _SHARE_COVERED
        ]
        whole = bool(rules.targets.whole([sample]))
        if boxes or whole:
            found.append(Covering(pts=sample.pts, whole=whole, boxes=boxes))
    return found


def still_tracked(
    samples: Sequence[Sample],
    rows: Sequence[Covering],
    size: tuple[int, int],
    time_base: Fraction,
    rules: Rules,
) -> tuple[Covering, ...]:
    """Where what still shows in a redacted file is before and after, as it comes and goes around its threshold.

    Args:
        samples, rows, rules: As for :func:`still_visible`.
        size: Displayed width and height.
        time_base: Of the samples' pts.
    """
    known = {row.pts: row for row in rows}
    bare = [_uncovered(sample, known.get(sample.pts)) for sample in samples]
    frames = [frame for run in _runs(bare, time_base) for frame in _track(run, size, time_base, rules)]
    return tuple(
        Covering(pts=frame.pts, whole=rules.slate, boxes=[region.box for region in frame.regions])
        for frame in frames
        if frame.regions and _meets(to_seconds(frame.pts, time_base), to_seconds(frame.end_pts, time_base), rules)
    )


def _uncovered(sample: Sample, row: Covering | None) -> Sample:
    """A sample without the detections of covers."""
    if row is None:
        return sample
    found = () if row.whole else sample.predictions.detections
    left = tuple(item for item in found if _covered_share(item.box, row.boxes) < _SHARE_COVERED)
    return dataclasses.replace(sample, predictions=dataclasses.replace(sample.predictions, detections=left))


def merged(rows: Sequence[Covering], more: Sequence[Covering]) -> tuple[Covering, ...]:
    """Both, one row for a picture, in order."""
    known = {row.pts: row for row in rows}
    for row in more:
        before = known.get(row.pts, Covering(pts=row.pts, whole=False, boxes=[]))
        known[row.pts] = Covering(pts=row.pts, whole=before.whole or row.whole, boxes=[*before.boxes, *row.boxes])
    return tuple(known[pts] for pts in sorted(known))


def _grown(box: Box, margin: float) -> Box:
    x1, y1, x2, y2 = box
    x, y = (x2 - x1) * margin / 2, (y2 - y1) * margin / 2
    return (x1 - x, y1 - y, x2 + x, y2 + y)


def _covered_share(box: Box, covers: Sequence[Box]) -> float:
    """Which share of a box lies under others that covers most of it."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    if area <= 0:
        return 1.0
    best = 0.0
    for cover_box in covers:
        width = min(box[2], cover_box[2]) - max(box[0], cover_box[0])
        height = min(box[3], cover_box[3]) - max(box[1], cover_box[1])
        best = max(best, max(0.0, width) * max(0.0, height) / area)
    return best


def end_pts(sample: Sample, time_base: Fraction) -> int:
    """When a sample's picture is no longer shown."""
    return sample.pts + max(1, round(sample.duration_seconds / time_base))


def _runs(samples: Sequence[Sample], time_base: Fraction) -> Iterator[list[Sample]]:
    """Samples of pictures that follow each other."""
    run: list[Sample] = []
    for sample in samples:
        # A stored duration is rounded to the microsecond.
        if run and abs(sample.pts - end_pts(run[-1], time_base)) > max(1, round(Fraction(1, 500_000) / time_base)):
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


def _track(run: Sequence[Sample], size: tuple[int, int], time_base: Fraction, rules: Rules) -> list[FrameRegions]:
    tracker = Tracker(rules.tracking, time_base=time_base, width=size[0], height=size[1])
    frames: list[FrameRegions] = []
    for place, sample in enumerate(run):
        following = run[place + 1].pts if place + 1 < len(run) else end_pts(sample, time_base)
        found = rules.targets.levelled(_boxes(sample, rules), rules.tracking.high)
        frames += tracker.update(FrameDetections(sample.pts, following, found))
    return [*frames, *tracker.finish()]


def _boxes(sample: Sample, rules: Rules) -> list[Detection]:
    """The detections that are to be covered."""
    return without_dismissed(rules.targets.boxes(sample.predictions), sample, rules.dismissed)


def _renumbered(frames: Sequence[FrameRegions], first: int) -> list[FrameRegions]:
    return [
        dataclasses.replace(
            frame,
            regions=tuple(dataclasses.replace(item, track=item.track + first - 1) for item in frame.regions),
        )
        for frame in frames
    ]


def _whole(samples: Sequence[Sample], frames: Sequence[FrameRegions], time_base: Fraction, rules: Rules) -> list[Span]:
    """When a picture without boxes is covered whole."""
    if rules.truth is None:
        return rules.targets.whole(samples)
    boxed = [
        Span(to_seconds(frame.pts, time_base), to_seconds(frame.end_pts, time_base))
        for frame in frames
        if frame.regions
    ]
    # Where a reviewer dismissed the box, there is none to miss.
    unboxed = union(Span(row["start_seconds"], row["end_seconds"]) for row in rules.dismissed)
    accepted = [
        span
        for segment in rules.truth
        for span in (
            complement(unboxed, _between_boxes(segment, boxed, rules))
            if _is_of_detector(segment, samples)
            else [Span(segment.start_seconds, segment.end_seconds)]
        )
    ]
    near = [
        Span(segment.start_seconds - before, segment.end_seconds + after)
        for segment in rules.truth
        for before, after in [_reaches(segment, rules)]
    ]
    going_on = [
        Span(max(span.start, reach.start), min(span.end, reach.end))
        for span in rules.targets.whole(samples)
        for reach in near
        if span.start < reach.end and reach.start < span.end
    ]
    return union([*accepted, *going_on])


def _between_boxes(segment: Segment, boxed: Sequence[Span], rules: Rules) -> Span:
    """When something is to be covered in a detector's segment, though it may not be seen where.

    A border that is still the scan's lies anywhere between two samples: there, every picture that was looked at since
    knows better. One that a reviewer has set is where it is.
    """
    start, end = segment.start_seconds, segment.end_seconds
    before, after = _reaches(segment, rules)
    inside = [span for span in boxed if span.start < end and start < span.end]
    if inside:
        first, last = float(inside[0].start), float(inside[-1].end)
        if first - start <= before:
            start = max(start, first)
        if end - last <= after:
            end = min(end, last)
    return Span(start, end)


def _reaches(segment: Segment, rules: Rules) -> tuple[float, float]:
    """By how much a segment's start and end may be off, in seconds."""
    return (
        rules.reach if any(row.start_seconds == segment.start_seconds for row in rules.scanned) else 0.0,
        rules.reach if any(row.end_seconds == segment.end_seconds for row in rules.scanned) else 0.0,
    )


def _is_of_detector(segment: Segment, samples: Sequence[Sample]) -> bool:
    """Whether a segment's labels are ones that a detector gives, and so can be covered by boxes."""
    known = {item.label for sample in samples for item in sample.predictions.detections}
    return bool(segment.labels) and set(segment.labels) <= known


def _rows(
    frames: Sequence[FrameRegions], whole: Sequence[Span], time_base: Fraction, rules: Rules
) -> Iterator[Covering]:
    for frame in frames:
        start, end = to_seconds(frame.pts, time_base), to_seconds(frame.end_pts, time_base)
        if not _meets(start, end, rules):
            boxes: list[Box] = []
        else:
            boxes = [region.box for region in frame.regions]
        boxes += _drawn(frame.pts, start, rules)
        all_of_it = any(span.start < end and start < span.end for span in whole) and (rules.slate or not boxes)
        if boxes or all_of_it:
            yield Covering(pts=frame.pts, whole=all_of_it or rules.slate, boxes=boxes)


def _meets(start: float, end: float, rules: Rules) -> bool:
    """Whether a reviewer's segment is near, if there are any."""
    if rules.truth is None:
        return True
    for segment in rules.truth:
        before, after = _reaches(segment, rules)
        if segment.start_seconds - before < end and start < segment.end_seconds + after:
            return True
    return False


def _drawn(pts: int, start: float, rules: Rules) -> list[Box]:
    """A reviewer's boxes at that time, between two of a track's in a straight line."""
    shown = (track for track in rules.drawn if track["start_seconds"] <= start < track["end_seconds"])
    return [box_between(track["boxes"], pts) for track in shown if track["boxes"]]


def joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans that cover the same time, disjoint."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _further(
    frames: Sequence[FrameRegions], hit: set[int], time_base: Fraction, extent: Span, ahead_seconds: float
) -> Iterator[Span]:
    """Where what is covered goes on to the edge of a run, if there is more of the stream."""
    edge = round(Fraction(_EDGE_SECONDS) / time_base)
    for start, end in joined([(frame.pts, frame.end_pts) for frame in frames]):
        first, last = to_seconds(start, time_base), to_seconds(end, time_base)
        if first > extent.start + 1e-3 and any(start <= pts < start + edge for pts in hit):
            yield Span(max(extent.start, first - ahead_seconds), first)
        if last < extent.end - 1e-3 and any(end - edge <= pts < end for pts in hit):
            yield Span(last, min(extent.end, last + ahead_seconds))
