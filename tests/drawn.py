"""Timelines for property tests: any that is valid, drawn by hypothesis.

Everything that a scan or a reviewer can leave is in them: every status, further streams, pictures that are turned,
times that begin anywhere, segments that overlap, touch, are empty or many, reviews, tracks, no samples and no video;
and, wherever a stranger has a say, text that would break out of every format there is.
"""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any, cast

from hypothesis import strategies as st

from vidmod.policy import Policy
from vidmod.reviewing import reviewed
from vidmod.timeline import Json, Segment, Timeline, segment_from_json

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "a\nb\r\nc\n\nd",
    "00:00:01.000 --> 00:00:02.000",
    "WEBVTT\n\n00:00:00.000 --> 99:00:00.000\nfree",
    "-->",
    "NOTE",
    "STYLE ::cue{}",
    "a=b;c#d\\",
    "\\",
    "[CHAPTER]\nSTART=0\nEND=1",
    ";FFMETADATA1",
    "1 2 0\n3 4 0",
    "## 0 1 0",
    "=HYPERLINK(1)",
    '+1","x"\n-2',
    "@SUM(A1)",
    "nul\x00in the middle",
    "\x1b[31mred\x07",
    "\u202egnp.exe\u2066",
    "\u2028line\u2029paragraph\x85next",
    "\ufeff\ufffe\U000e0041",
    "']]><!-- &amp; &#0; & ]]>",
    "$\\undefined{$ and $\\frac{1}{0}$",
    "{{ 7 * 7 }} {% raw %}",
    "../../etc/passwd",
    "http://example.org/?a=b&c",
    "日本語 العربية עברית 👩‍👩‍👧 é",
    " ",
    "\t",
    "x" * 5000,
    "long " * 1000,
)

LABELS = (
    "nsfw",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "FACE_FEMALE",
    "MALE_BREAST_EXPOSED",
)
_MICROSECONDS = 1_000_000
_KINDS = ("video", "cover", "view", "hidden")
_MAX_EDGE = 4096


def texts(*, least: int = 0) -> st.SearchStrategy[str]:
    """What a stranger can write: anything that is Unicode."""
    return st.one_of(st.sampled_from(HOSTILE), st.text(min_size=least, max_size=30))


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    """Times as timelines have them, in microseconds."""
    whole = st.integers(round(least * _MICROSECONDS), round(most * _MICROSECONDS))
    return whole.map(lambda count: count / _MICROSECONDS)


def scores() -> st.SearchStrategy[float]:
    """Probabilities in four digits."""
    return st.integers(0, 10_000).map(lambda count: count / 10_000)


def policies() -> st.SearchStrategy[Policy]:
    """The default one, or another with other names and actions."""
    return st.one_of(st.just(Policy.default()), _other_policies())


@st.composite
def _other_policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), min_size=1, max_size=20, unique=True))
    rows = {}
    for name in names:
        low, high = sorted(draw(st.lists(st.integers(1, 999), min_size=2, max_size=2)))
        rows[name] = {
            "labels": draw(st.lists(st.one_of(st.sampled_from(LABELS), texts(least=1)), min_size=1, unique=True)),
            "review": low / 1000,
            "block": high / 1000,
            "action": draw(st.sampled_from(["cover", "cut", "mute", "report"])),
        }
    name = draw(st.text(min_size=1, max_size=20))
    return Policy.from_document({"schema": "vidmod.policy/1", "name": name, "categories": rows}, "drawn")


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """A timeline, as read from a document."""
    status = draw(st.sampled_from(["complete", "complete", "partial", "unscannable"]))
    policy = draw(policies())
    start = draw(st.one_of(st.just(0.0), seconds(-20, 200)))
    length = draw(st.one_of(st.just(0.0), seconds(0, 100), seconds(0, 10_000)))
    has_video = status != "unscannable" or draw(st.booleans())
    looked = status != "unscannable" and draw(st.sampled_from([True, True, False]))
    video = draw(_videos()) if has_video else None
    others = draw(st.lists(_streams(start, length), max_size=3)) if has_video else []
    for number, row in enumerate(others, 1):
        row["stream"] = number
    categories = [category.name for category in policy.categories]
    found = draw(_segments(start, length, categories, others))
    document = {
        "schema": "vidmod.timeline/1",
        "source": {
            "name": draw(texts()),
            "sha256": draw(st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
            "size_bytes": draw(st.integers(0, 1 << 50)),
            "format": draw(st.one_of(st.none(), st.just("mov,mp4,m4a,3gp,3g2,mj2"), texts())),
            "start_seconds": start,
            "duration_seconds": length,
            **draw(
                st.one_of(st.just({}), st.fixed_dictionaries({"container_start_seconds": _container_starts(start)}))
            ),
            "stream": 0,
            "kind": draw(st.sampled_from(["video", "cover"])),
            "video": video,
            "audio": draw(st.lists(st.just({"codec": "aac", "sample_rate": 48_000, "channels": 2}), max_size=2)),
        },
        "status": status,
        "verdict": draw(st.sampled_from(["pass", "review", "block"])) if status == "complete" else "review",
        "notes": draw(st.lists(texts(), min_size=status != "complete", max_size=4)),
        "coverage": draw(_coverages(start, length)),
        "segments": found,
        "samples": draw(_samples(start, length)) if has_video and looked else [],
        "tracks": draw(st.lists(_tracks(start, length), max_size=4)),
        "ledger": {},
        "other_streams": others,
        "provenance": draw(_provenances(policy)),
    }
    timeline = Timeline.from_document(json.loads(json.dumps(document)))
    return draw(_reviews(timeline)) if draw(st.booleans()) else timeline


def _container_starts(start: float) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), seconds(start - 2, start))


@st.composite
def _videos(draw: st.DrawFn) -> Json:
    rate = draw(st.sampled_from([None, "25/1", "30000/1001", "0/1", "0/0", "1/7", "90000/1"]))
    return {
        "codec": draw(st.one_of(st.just("h264"), texts())),
        "width": draw(st.integers(1, _MAX_EDGE)),
        "height": draw(st.integers(1, _MAX_EDGE)),
        "rotation": draw(st.sampled_from([-90, 0, 90, 180])),
        "mirrored": draw(st.booleans()),
        "pixel_format": draw(st.sampled_from([None, "yuv420p"])),
        "average_rate": rate,
        "time_base": draw(st.sampled_from(["1/1000", "1/90000", "1001/30000"])),
    }


@st.composite
def _streams(draw: st.DrawFn, start: float, length: float) -> Json:
    kind = draw(st.sampled_from(_KINDS))
    return {
        "stream": 0,
        "kind": kind,
        "video": draw(_videos()),
        "coverage": draw(_coverages(start, length)),
        "samples": draw(_samples(start, length)),
        "ledger": {},
    }


@st.composite
def _coverages(draw: st.DrawFn, start: float, length: float) -> list[Json]:
    """Spans that touch, or none at all."""
    if not length or draw(st.booleans()):
        return [_covered(start, start + length, "analysed")] if length and draw(st.booleans()) else []
    cuts = sorted({start, _rounded(start + length), *draw(st.lists(seconds(start, start + length), max_size=6))})
    states = st.sampled_from(["analysed", "unsampled", "undecodable"])
    return [_covered(*pair, draw(states)) for pair in itertools.pairwise(cuts)]


def _covered(start: float, end: float, state: str) -> Json:
    return {"start_seconds": start, "end_seconds": _rounded(end), "state": state}


@st.composite
def _segments(draw: st.DrawFn, start: float, length: float, names: list[str], others: list[Json]) -> list[Json]:
    """A few that may be anything, or hundreds."""
    rows = draw(st.lists(_segment(start, length, names, others), max_size=8))
    if draw(st.integers(0, 20)) == 0 and rows:
        rows = [{**row, "start_seconds": _rounded(row["start_seconds"] + k / 8)} for k in range(60) for row in rows]
        rows = [{**row, "end_seconds": max(row["end_seconds"], row["start_seconds"])} for row in rows]
    return [{**row, "id": draw(texts(least=1)) if not k else f"s{k}"} for k, row in enumerate(rows)]


@st.composite
def _segment(draw: st.DrawFn, start: float, length: float, names: list[str], others: list[Json]) -> Json:
    # A reviewer's may reach beyond the film.
    times = sorted(draw(st.lists(seconds(start - 1, start + length + 1), min_size=2, max_size=2)))
    found = draw(st.dictionaries(st.one_of(st.sampled_from(LABELS), texts()), scores(), max_size=4))
    place: Json = {}
    if draw(st.booleans()) and others:
        other = draw(st.sampled_from(others))
        place = {"stream": others.index(other) + 1, "kind": other["kind"]}
    return {
        "category": draw(st.one_of(st.sampled_from(names), texts(least=1))),
        "verdict": draw(st.sampled_from(["review", "block"])),
        "action": draw(st.one_of(st.sampled_from(["cover", "cut", "mute", "report"]), texts())),
        "start_seconds": times[0],
        "end_seconds": times[1],
        "peak": draw(scores()),
        "mean": draw(scores()),
        "labels": found,
        **place,
    }


@st.composite
def _samples(draw: st.DrawFn, start: float, length: float) -> list[Json]:
    times = sorted(draw(st.lists(seconds(start, start + length), max_size=12)))
    return [
        {
            "pts": round(time * 1000),
            "time_seconds": time,
            "duration_seconds": draw(seconds(0, 1)),
            "scores": draw(st.sampled_from([{}, {"open_nsfw": {"nsfw": 0.9}}, {"a": {}, "b": {"nsfw": 0.0}}])),
            "detections": draw(st.lists(_detections(), max_size=3)),
        }
        for time in times
    ]


@st.composite
def _detections(draw: st.DrawFn) -> Json:
    return {
        "model": draw(st.one_of(st.just("nudenet"), texts())),
        "label": draw(st.one_of(st.sampled_from(LABELS), texts())),
        "score": draw(scores()),
        "box": draw(_boxes()),
    }


@st.composite
def _boxes(draw: st.DrawFn) -> list[float]:
    left, right = sorted(draw(st.lists(st.integers(-50, 2 * _MAX_EDGE), min_size=2, max_size=2, unique=True)))
    top, bottom = sorted(draw(st.lists(st.integers(-50, 2 * _MAX_EDGE), min_size=2, max_size=2, unique=True)))
    return [left / 2, top / 2, right / 2, bottom / 2]


@st.composite
def _tracks(draw: st.DrawFn, start: float, length: float) -> Json:
    times = sorted(draw(st.lists(seconds(start, start + length), min_size=1, max_size=5)))
    return {
        "id": draw(texts()),
        "label": draw(st.one_of(st.sampled_from(LABELS), texts())),
        "start_seconds": times[0],
        "end_seconds": times[-1],
        "boxes": [{"pts": round(time * 1000), "time_seconds": time, "box": draw(_boxes())} for time in times],
    }


@st.composite
def _provenances(draw: st.DrawFn, policy: Policy) -> Json:
    model = {
        "name": draw(texts()), "version": draw(texts()), "sha256": "0" * 64, "licence": draw(texts()),
        "runtime": "openvino", "precision": "bf16", "device": "cpu",
    }  # fmt: skip
    return {
        "vidmod": draw(texts()),
        "created": "2026-01-01T00:00:00+00:00",
        "models": [model] if draw(st.booleans()) else [],
        "sampling": draw(st.sampled_from([{}, {"mode": "uniform", "fps": 2.0, "max_gap_seconds": 0.5}])),
        "smoothing": policy.smoothing.as_dict(),
        "policy": policy.as_document(),
    }


@st.composite
def _reviews(draw: st.DrawFn, timeline: Timeline) -> Timeline:
    """The timeline as a person has left it: some rejected, some changed, some added."""
    kept: dict[str, Segment] = {}
    for row in timeline.segments:
        if row.start_seconds < row.end_seconds and draw(st.booleans()):
            kept[row.id] = row
    if draw(st.booleans()):
        known: dict[str, Any] = {"verdict": "block", "labels": {}, "peak": 1.0, "mean": 1.0, "category": "added"}
        start = timeline.source["start_seconds"]
        name = draw(texts(least=1))
        kept[name] = segment_from_json({**known, "id": name, "start_seconds": start, "end_seconds": start + 1.5})
    tracks = draw(st.one_of(st.none(), st.lists(_tracks(timeline.source["start_seconds"], 1.0), max_size=2)))
    return reviewed(
        timeline,
        tuple(kept.values()),
        reviewer=draw(texts()),
        at=datetime(2026, 11, 21, tzinfo=UTC),
        tool=draw(texts()),
        tracks=tracks,
        dismissed=draw(st.lists(_tracks(timeline.source["start_seconds"], 1.0), max_size=1)),
        undecided=cast("list[str]", draw(st.lists(st.sampled_from([*kept]), max_size=2)) if kept else []),
        note=draw(texts()),
        notes={name: draw(texts()) for name in kept},
    )


def _rounded(value: float) -> float:
    return round(value, 6)
