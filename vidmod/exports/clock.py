"""A timeline on a player's clock: whole milliseconds from where a player says 0.

A timeline has the times of the source as they are: they may begin at 10 s, or below 0. Players, editors and FFmpeg's
chapters count from the earliest moment of the file instead (FFmpeg's `start_time` of the container, which it subtracts
on its way to another file, mpv by `--rebase-start-time`, and Kodi in its demuxer). Sound may begin before the pictures,
so that moment is `source.container_start_seconds`; a timeline without it is taken to begin with its pictures.

A time that is no whole millisecond is moved outward: what was found, and what was not looked at, never gets shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vidmod.coverage import Covered, State
from vidmod.exports.wording import STATE_WORDS, legible, stream_name, summary
from vidmod.timebase import Span, complement, union
from vidmod.timeline import Segment, StreamScan, Timeline

_MICROSECONDS = 1_000_000
_MICROSECONDS_IN_MS = 1000
# Nothing lasts 30 years; what claims to would not fit into other programs' integers.
_LATEST_SECONDS = 1e9
# Ends and lengths are rounded to the microsecond one by one.
_ROUNDING_MICROSECONDS = 2
# Streams that are shown as long as the film is: cover art and what an edit list hides have no place on its clock.
_ON_CLOCK = (None, "video", "view")


@dataclass(frozen=True, slots=True)
class Found:
    """A segment on the clock, half open, in milliseconds; never empty."""

    start: int
    end: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class Unseen:
    """A stretch that was not looked at or could not be, half open, in milliseconds; never empty.

    Attributes:
        stream: Where, if it is not in the stream of `source.video`.
    """

    start: int
    end: int
    state: State
    stream: StreamScan | None = None

    @property
    def title(self) -> str:
        """It in a few words: `Not looked at`, and the stream if it is not the first."""
        where = "" if self.stream is None else f", {stream_name(self.stream.stream, self.stream.kind).lower()}"
        return STATE_WORDS[self.state] + where


def length(timeline: Timeline) -> int:
    """When the film ends on the clock, in milliseconds; 0 if nobody knows."""
    whole = _extent(timeline)
    return max(0, _outward(whole, _origin(timeline))[1]) if whole.length else 0


def found(timeline: Timeline) -> list[Found]:
    """The segments that a player can show, by start."""
    origin = _origin(timeline)
    rows = []
    for segment in timeline.segments:
        if segment.stream is None or segment.kind in _ON_CLOCK:
            start, end = sorted((_microseconds(segment.start_seconds), _microseconds(segment.end_seconds)))
            rows.append(Found(*_shown(Span(start, end), origin), segment))
    return sorted(rows, key=lambda row: (row.start, row.end))


def unseen(timeline: Timeline) -> list[Unseen]:
    """What nobody has seen of what a player can show, by start; in the first stream, then in the others."""
    origin = _origin(timeline)
    return [
        Unseen(*_shown(span, origin), state, stream)
        for stream, spans in _accounts(timeline)
        for span, state in spans
        if stream is None or stream.kind in _ON_CLOCK
    ]


def elsewhere(timeline: Timeline) -> list[str]:
    """In words, a line each: what was found, or not seen, where no player's clock leads."""
    rows = [
        summary(segment)
        for segment in timeline.segments
        if segment.stream is not None and segment.kind not in _ON_CLOCK
    ]
    for stream in timeline.streams[1:]:
        if stream.kind not in _ON_CLOCK:
            states = {span.state for span in stream.coverage} or {"unsampled"}
            rows += [
                f"{stream_name(stream.stream, stream.kind)}: {STATE_WORDS[state].lower()}"
                for state in sorted(states - {"analysed"})
            ]
    return [legible(row) for row in rows]


def timestamp(milliseconds: int) -> str:
    """`HH:MM:SS.mmm`, with as many digits of hours as there are."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"


def origin_seconds(timeline: Timeline) -> float:
    """What the source calls the moment that players call 0."""
    return _origin(timeline) / _MICROSECONDS


def not_seen(timeline: Timeline) -> list[tuple[Covered, StreamScan | None]]:
    """What nobody has seen of any stream, in the source's own times; None stands for the first stream."""
    return [
        (Covered(span.start / _MICROSECONDS, span.end / _MICROSECONDS, state), stream)
        for stream, spans in _accounts(timeline)
        for span, state in spans
    ]


def _origin(timeline: Timeline) -> int:
    start = timeline.source.get("container_start_seconds")
    return _microseconds(timeline.source["start_seconds"] if start is None else start)


def _extent(timeline: Timeline) -> Span:
    """What there is of the first stream, or is claimed of it, in microseconds of the source."""
    start = _microseconds(timeline.source["start_seconds"])
    claimed = Span(start, start + _microseconds(timeline.source["duration_seconds"]))
    known = _hull(timeline.coverage)
    if not known.length:
        return claimed
    if abs(claimed.end - known.end) <= _ROUNDING_MICROSECONDS:
        return Span(min(known.start, claimed.start), known.end)
    return Span(min(known.start, claimed.start), max(known.end, claimed.end))


def _accounts(timeline: Timeline) -> Iterator[tuple[StreamScan | None, list[tuple[Span, State]]]]:
    """Every stream, the first as None, and what nobody has seen of it."""
    whole = _extent(timeline)
    yield None, _not_seen(timeline.coverage, whole)
    for stream in timeline.streams[1:]:
        # Of a stream that nobody came to look at nothing is known but that it is there.
        yield stream, _not_seen(stream.coverage, _hull(stream.coverage) if stream.coverage else whole)


def _hull(coverage: Iterable[Covered]) -> Span:
    spans = union(map(_span, coverage))
    return Span(spans[0].start, spans[-1].end) if spans else Span(0, 0)


def _not_seen(coverage: Iterable[Covered], within: Span) -> list[tuple[Span, State]]:
    """In order. Where an account contradicts itself, it was not seen."""
    rows = list(coverage)
    analysed, unsampled, undecodable = (
        _clipped((_span(row) for row in rows if row.state == state), within) for state in STATE_WORDS
    )
    seen = complement([*complement(analysed, within), *unsampled, *undecodable], within)
    left = complement([*undecodable, *seen], within)
    found: list[tuple[Span, State]] = [(span, "undecodable") for span in undecodable]
    found += [(span, "unsampled") for span in left if span.length > _ROUNDING_MICROSECONDS]
    return sorted(found, key=lambda row: row[0])


def _clipped(spans: Iterable[Span], within: Span) -> list[Span]:
    return [
        Span(max(span.start, within.start), min(span.end, within.end))
        for span in union(spans)
        if span.start < within.end and span.end > within.start
    ]


def _span(row: Covered) -> Span:
    return Span(*sorted((_microseconds(row.start_seconds), _microseconds(row.end_seconds))))


def _microseconds(seconds: float) -> int:
    return round(min(max(seconds, -_LATEST_SECONDS), _LATEST_SECONDS) * _MICROSECONDS)


def _outward(span: Span, origin: int) -> tuple[int, int]:
    start, end = int(span.start) - origin, int(span.end) - origin
    return start // _MICROSECONDS_IN_MS, -(-end // _MICROSECONDS_IN_MS)


def _shown(span: Span, origin: int) -> tuple[int, int]:
    """A span as a player can show it: not before 0, and not empty."""
    start, end = _outward(span, origin)
    start = max(0, start)
    return start, max(start + 1, end)
