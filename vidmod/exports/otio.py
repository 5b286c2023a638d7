"""OpenTimelineIO (https://opentimelineio.readthedocs.io): a track of clips and gaps, and markers.

The track `film` is the film from its first moment to its last: clips of the file where it was looked at, and gaps
where it was not or could not be, each with its `state`. An editing program plays nothing there; what nobody has seen
is not passed on. Segments are markers of the timeline (its stack), red for `block`, orange for `review`; so are,
purple, unseen stretches of further video tracks. What has no place in time (cover art, pictures that an edit list
hides) is a marker without length at the beginning.

What a timeline knows and OpenTimelineIO has no field for stands in `metadata` under `vidmod`, with the times of the
source. All other times count from the start of the file, see :mod:`vidmod.exports.clock`, at the film's average rate;
values are not rounded to whole frames, so milliseconds survive. The file is named as a neighbour of the `.otio` file.

It is written by the library itself, which has no build for Python 3.14 yet; where it is missing this format is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import quote

from vidmod.errors import UsageError
from vidmod.exports.clock import found, length, origin_seconds, unseen
from vidmod.exports.wording import labels, legible, title
from vidmod.reviewing import decisions
from vidmod.timebase import Span, complement
from vidmod.timeline import Json, Timeline, segment_json

try:
    import opentimelineio as otio
except ImportError as exc:
    raise UsageError(
        f"otio: needs the package opentimelineio, which cannot be imported ({exc}). Install it, or run another Python: "
        "for 3.14 there is no build of it."
    ) from exc

_COLORS = {"block": otio.schema.MarkerColor.RED, "review": otio.schema.MarkerColor.ORANGE}
_UNSEEN_COLOR = otio.schema.MarkerColor.PURPLE
_MILLISECONDS = 1000
# A rate that an editing program can have.
_MAX_RATE = 1000


def write(timeline: Timeline) -> bytes:
    """The `.otio` file: JSON, in UTF-8."""
    rate = _rate(timeline)
    document = otio.schema.Timeline(
        name=legible(timeline.source["name"]),
        global_start_time=otio.opentime.RationalTime(0, rate),
        metadata={"vidmod": _about(timeline)},
    )
    document.tracks.append(_track(timeline, rate))
    document.tracks.markers.extend(_markers(timeline, rate))
    return f"{document.to_json_string(indent=2)}\n".encode()


def _track(timeline: Timeline, rate: float) -> otio.schema.Track:
    track = otio.schema.Track(name="film", kind=otio.schema.TrackKind.Video)
    gaps = [row for row in unseen(timeline) if row.stream is None]
    whole = Span(0, max([length(timeline), *(row.end for row in gaps)]))
    seen = complement((Span(row.start, row.end) for row in gaps), whole)
    items = [(span.start, _clip(timeline, span, whole, rate)) for span in seen]
    before = 0
    for row in gaps:
        # Rounded outward, two neighbours may share a millisecond.
        start, before = max(row.start, before), row.end
        if start < row.end:
            span = _range(0, row.end - start, rate)
            items.append((start, otio.schema.Gap(name=row.title, source_range=span, metadata=_state(row.state))))
    track.extend(item for _, item in sorted(items, key=lambda item: item[0]))
    return track


def _clip(timeline: Timeline, span: Span, whole: Span, rate: float) -> otio.schema.Clip:
    name = timeline.source["name"]
    reference = otio.schema.ExternalReference(
        # A name with a slash or a colon leads nowhere else.
        target_url=quote(name, safe="", errors="replace"),
        available_range=_range(0, int(whole.end), rate),
        metadata={"vidmod": {"sha256": timeline.source["sha256"]}},
    )
    return otio.schema.Clip(
        name=legible(name),
        media_reference=reference,
        source_range=_range(int(span.start), int(span.end), rate),
        metadata=_state("analysed"),
    )


def _markers(timeline: Timeline, rate: float) -> list[otio.schema.Marker]:
    decided = decisions(timeline)
    timed = {id(row.segment): row for row in found(timeline)}
    rows = []
    for segment in timeline.segments:
        place = timed.get(id(segment))
        marked = _range(0, 0, rate) if place is None else _range(place.start, place.end, rate)
        about = {**_clean(segment_json(segment)), "decision": decided.get(segment.id)}
        rows.append(_marker(title(segment), labels(segment), marked, _COLORS[segment.verdict], about))
    for gap in unseen(timeline):
        if gap.stream is not None:
            about = {"state": gap.state, "stream": gap.stream.stream, "kind": gap.stream.kind}
            rows.append(_marker(gap.title, "", _range(gap.start, gap.end, rate), _UNSEEN_COLOR, about))
    return rows


def _marker(
    name: str, comment: str, marked: otio.opentime.TimeRange, color: str, about: Mapping[str, Any]
) -> otio.schema.Marker:
    return otio.schema.Marker(
        name=name, comment=comment, marked_range=marked, color=color, metadata={"vidmod": dict(about)}
    )


def _about(timeline: Timeline) -> Json:
    """What is to be known of the timeline as a whole."""
    review = timeline.review or {}
    rows = {
        "verdict": timeline.verdict,
        "status": timeline.status,
        "notes": list(timeline.notes),
        "sha256": timeline.source["sha256"],
        "zero_is_source_seconds": origin_seconds(timeline),
        "created": timeline.provenance["created"],
        "version": timeline.provenance["vidmod"],
        "review": {key: review[key] for key in ("reviewer", "reviewed", "note", "tool") if key in review} or None,
        "not_looked_at": [
            {"stream": stream.stream, "kind": stream.kind}
            for stream in timeline.streams[1:]
            if not any(span.state == "analysed" for span in stream.coverage)
        ],
    }
    cleaned: Json = _clean(rows)
    return cleaned


def _clean(value: Any) -> Any:
    """The same without what OpenTimelineIO's JSON cannot hold, or nobody can read."""
    if isinstance(value, str):
        return legible(value, 1000)
    if isinstance(value, Mapping):
        return {legible(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def _state(state: str) -> Json:
    return {"vidmod": {"state": state}}


def _range(start: int, end: int, rate: float) -> otio.opentime.TimeRange:
    """From milliseconds."""
    begin = otio.opentime.RationalTime(start * rate / _MILLISECONDS, rate)
    return otio.opentime.TimeRange(begin, otio.opentime.RationalTime((end - start) * rate / _MILLISECONDS, rate))


def _rate(timeline: Timeline) -> float:
    """Pictures a second, as an editing program is to count; milliseconds where that is unknown."""
    video = timeline.source["video"]
    numerator, _, denominator = ((video and video["average_rate"]) or "0/1").partition("/")
    rate = Fraction(int(numerator), int(denominator)) if int(denominator) else Fraction(0)
    return float(rate) if 1 <= rate <= _MAX_RATE else float(_MILLISECONDS)
