"""Timelines with boxes that move, and hands that edit what was exported of them, as CVAT and Label Studio would."""

from __future__ import annotations

import dataclasses
import functools
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from hypothesis import strategies as st

from tests.timelines import timeline
from vidmod import judge
from vidmod.annotations import Annotations, Frames
from vidmod.coverage import Covered
from vidmod.exports import export
from vidmod.imports import import_review
from vidmod.policy import Policy
from vidmod.predictions import Box, Detection, Predictions, Scores
from vidmod.timeline import Json, Sample, StreamScan, Timeline

RATE, SIZE = 25, (640, 360)
LABELS = ("FEMALE_BREAST_EXPOSED", "BUTTOCKS_EXPOSED")
FORMATS = ("cvat", "labelstudio")


def looked(time: float, nsfw: float, *found: tuple[str, float, Box]) -> Sample:
    """A sample at `time` seconds, of a picture that is shown for a frame."""
    items = tuple(Detection("nudenet", *item) for item in found)
    return Sample(round(time * 1000), time, 1 / RATE, Predictions((Scores("open_nsfw", {"nsfw": nsfw}),), items))


def of_samples(samples: Sequence[Sample], start: float, end: float, **more: Any) -> Timeline:
    """A timeline of which all was looked at, judged by the default policy."""
    packets = round((end - start) * RATE)
    video = {"codec": "h264", "width": 640, "height": 360, "rotation": 0, "mirrored": False, "pixel_format": "yuv420p"}
    video |= {"average_rate": f"{RATE}/1", "time_base": "1/1000", **more}
    scan = StreamScan(0, "video", video, (Covered(start, end, "analysed"),), tuple(samples), {"packets": packets})
    made = timeline(scan)
    source = {**made.source, "video": video, "start_seconds": start, "duration_seconds": end - start}
    return judge(dataclasses.replace(made, source=source, coverage=scan.coverage))


def moving(at: float) -> Box:
    """Where the thing is at a time, with fractions of pixels."""
    return (10 + 20.123 * at, 20 + 5.0625 * at, 110 + 20.123 * at, 90 + 5.0625 * at)


@functools.cache
def film(start: float = 0.0, **more: Any) -> Timeline:
    """Twenty seconds: a thing from 4 to 9 s that moves, one at 12 to 14.5 s that is missed once, and nsfw from 16 s."""
    rows = []
    for number in range(40):
        at = number / 2
        found: list[tuple[str, float, Box]] = []
        if 4 <= at < 9:
            found.append((LABELS[0], 0.9, moving(at)))
        if 12 <= at < 15 and at != 13.5:
            found.append((LABELS[1], 0.8125, (400.5, 100.25, 480.125, 220.0)))
            found.append((LABELS[0], 0.7, (100.0, 200.0, 150.0, 250.0)))
        rows.append(looked(start + at, 0.99 if at >= 16 else 0.01, *found))
    made = of_samples(rows, start, start + 20, **more)
    assert [row.category for row in made.segments] == ["explicit", "explicit", "nsfw"]
    return made


def shown_of(made: Timeline, to: str) -> Annotations:
    """What an export shows of a timeline."""
    return Annotations.of(made, Frames.of(made, as_played=to == "labelstudio"), ())


class Hand(Protocol):
    """Someone who edits an export. Frames count from 0, and an end is the first frame without."""

    def save(self) -> bytes: ...

    def delete(self, key: str) -> None: ...

    def decide(self, key: str, decision: str) -> None: ...

    def write_note(self, key: str, note: str) -> None: ...

    def set_span(self, key: str, start: int, end: int) -> None: ...

    def set_category(self, key: str, category: str) -> None: ...

    def add_segment(self, category: str, start: int, end: int) -> None: ...

    def move_box(self, key: str, frame: int, box: Box) -> None: ...

    def end_track(self, key: str, end: int) -> None: ...

    def relabel(self, key: str, label: str) -> None: ...

    def add_track(self, label: str, boxes: dict[int, Box], end: int) -> None: ...

    def copy_segment(self, key: str, start: int, end: int) -> None: ...

    def replace_track(self, key: str, runs: list[tuple[dict[int, Box], int]]) -> None: ...


class InCvat:
    """As CVAT would: with two decimals, and all attributes with every box."""

    def __init__(self, data: bytes) -> None:
        self.root = ET.fromstring(data)
        for box in self.root.iter("box"):
            for corner in ("xtl", "ytl", "xbr", "ybr"):
                box.set(corner, f"{float(box.get(corner, '')):.2f}")

    def save(self) -> bytes:
        for number, track in enumerate(self.tracks()):
            track.set("id", str(100 + number))
        return ET.tostring(self.root)

    def tracks(self) -> list[ET.Element]:
        return self.root.findall("track")

    def track(self, key: str) -> ET.Element:
        for track in self.tracks():
            if any(item.get("name") == "id" and item.text == key for item in track.iter("attribute")):
                return track
        raise KeyError(key)

    def delete(self, key: str) -> None:
        self.root.remove(self.track(key))

    def _set(self, key: str, name: str, value: str) -> None:
        for item in self.track(key).iter("attribute"):
            if item.get("name") == name:
                item.text = value

    def decide(self, key: str, decision: str) -> None:
        self._set(key, "decision", decision)

    def write_note(self, key: str, note: str) -> None:
        self._set(key, "note", note)

    def set_span(self, key: str, start: int, end: int) -> None:
        boxes = self.track(key).findall("box")
        boxes[0].set("frame", str(start))
        boxes[1].set("frame", str(end))

    def set_category(self, key: str, category: str) -> None:
        self._set(key, "category", category)

    def add_segment(self, category: str, start: int, end: int) -> None:
        attributes = {"id": "", "category": category, "verdict": "block", "decision": "accepted", "note": ""}
        self._add("segment", {start: (0, 0, *SIZE)}, end, attributes)

    def _add(self, label: str, boxes: dict[int, Box], end: int, attributes: dict[str, str]) -> None:
        track = ET.SubElement(self.root, "track", label=label, source="manual")
        for frame, box in [*boxes.items(), (end, list(boxes.values())[-1])]:
            corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{value:.2f}" for value in box), strict=True))
            outside = str(int(frame == end))
            fields = {"frame": str(frame), "outside": outside, "occluded": "0", "keyframe": "1", **corners}
            row = ET.SubElement(track, "box", fields)
            for name, value in attributes.items():
                ET.SubElement(row, "attribute", name=name).text = value

    def move_box(self, key: str, frame: int, box: Box) -> None:
        (row,) = (row for row in self.track(key).findall("box") if row.get("frame") == str(frame))
        for name, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True):
            row.set(name, f"{value:.2f}")

    def end_track(self, key: str, end: int) -> None:
        track = self.track(key)
        rows = track.findall("box")
        for row in rows:
            if int(row.get("frame", "")) >= end:
                track.remove(row)
        last = ET.fromstring(ET.tostring(next(row for row in reversed(rows) if row in list(track))))
        # CVAT sets a box outside where it is in that frame, in a straight line.
        last.set("frame", str(end))
        last.set("outside", "1")
        track.append(last)

    def relabel(self, key: str, label: str) -> None:
        self.track(key).set("label", label)

    def add_track(self, label: str, boxes: dict[int, Box], end: int) -> None:
        self._add(label, boxes, end, {"id": "", "decision": "accepted", "score": ""})

    def replace_track(self, key: str, runs: list[tuple[dict[int, Box], int]]) -> None:
        old = self.track(key)
        label, attributes = old.get("label", ""), {"id": key, "decision": "accepted", "score": ""}
        self.root.remove(old)
        for place, (boxes, end) in enumerate(runs):
            self._add(label, boxes, end, attributes)
            if place:
                *_, first, last = self.tracks()
                first.extend(list(last))
                self.root.remove(last)

    def copy_segment(self, key: str, start: int, end: int) -> None:
        self.root.append(ET.fromstring(ET.tostring(self.track(key))))
        boxes = self.tracks()[-1].findall("box")
        boxes[0].set("frame", str(start))
        boxes[1].set("frame", str(end))


class InLabelStudio:
    """As Label Studio would: an annotation made from the prediction."""

    def __init__(self, data: bytes) -> None:
        (self.task,) = json.loads(data)
        prediction = self.task.pop("predictions")[0]
        self.results: list[Json] = prediction["result"]
        for row in self.results:
            row["origin"] = "prediction"
            for key in row["value"].get("sequence", ()):
                key["time"] = key["frame"] / self.task["data"]["fps"]
        self.made = 0
        self.size = SIZE

    def save(self) -> bytes:
        person = {"id": 1, "email": "ada@example.org", "first_name": "Ada", "last_name": ""}
        stamps = {"created_at": "2026-11-20T10:00:00.000000Z", "updated_at": "2026-11-21T12:00:00.000000Z"}
        annotation = {"id": 7, "completed_by": person, "was_cancelled": False, **stamps, "result": self.results}
        return json.dumps([{**self.task, "id": 3, "annotations": [annotation], "predictions": [12]}]).encode()

    def _rows(self, key: str, kind: str | None = None) -> Iterator[Json]:
        return (row for row in self.results if row["id"] == key and kind in (None, row["type"]))

    def delete(self, key: str) -> None:
        gone = list(self._rows(key))
        assert gone
        self.results = [row for row in self.results if row not in gone]

    def _say(self, key: str, name: str, kind: str, value: Json) -> None:
        self.results = [row for row in self.results if (row["id"], row["from_name"]) != (key, name)]
        self.results.append({"id": key, "from_name": name, "to_name": "video", "type": kind, "value": value})

    def decide(self, key: str, decision: str) -> None:
        self._say(key, "decision", "choices", {"choices": [decision]})

    def write_note(self, key: str, note: str) -> None:
        self._say(key, "note", "textarea", {"text": [note]})

    def set_span(self, key: str, start: int, end: int) -> None:
        (row,) = self._rows(key, "timelinelabels")
        row["value"]["ranges"] = [{"start": start + 1, "end": end}]

    def set_category(self, key: str, category: str) -> None:
        (row,) = self._rows(key, "timelinelabels")
        row["value"]["timelinelabels"] = [category]

    def _add(self, name: str, kind: str, value: Json) -> None:
        self.made += 1
        row = {"id": f"xY{self.made}", "from_name": name, "to_name": "video", "type": kind, "value": value}
        self.results.append({**row, "origin": "manual"})

    def add_segment(self, category: str, start: int, end: int) -> None:
        self._add(
            "segments", "timelinelabels", {"ranges": [{"start": start + 1, "end": end}], "timelinelabels": [category]}
        )

    def _key(self, frame: int, box: Box, *, enabled: bool = True) -> Json:
        x1, y1, x2, y2 = box
        width, height = self.size
        where = {"x": 100 * x1 / width, "y": 100 * y1 / height}
        where |= {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
        return {"frame": frame + 1, "enabled": enabled, "rotation": 0, **where, "time": (frame + 1) / RATE}

    def move_box(self, key: str, frame: int, box: Box) -> None:
        (row,) = self._rows(key, "videorectangle")
        (place,) = (n for n, item in enumerate(row["value"]["sequence"]) if item["frame"] == frame + 1)
        enabled = row["value"]["sequence"][place]["enabled"]
        row["value"]["sequence"][place] = self._key(frame, box, enabled=enabled)

    def end_track(self, key: str, end: int) -> None:
        (row,) = self._rows(key, "videorectangle")
        left = [item for item in row["value"]["sequence"] if item["frame"] <= end]
        row["value"]["sequence"] = [*left, {**left[-1], "frame": end, "enabled": False}]

    def relabel(self, key: str, label: str) -> None:
        (row,) = self._rows(key, "videorectangle")
        row["value"]["labels"] = [label]

    def add_track(self, label: str, boxes: dict[int, Box], end: int) -> None:
        keys = [self._key(frame, box) for frame, box in boxes.items()]
        keys.append({**keys[-1], "frame": end, "enabled": False})
        self._add(
            "boxes", "videorectangle", {"framesCount": 500, "duration": 20.0, "sequence": keys, "labels": [label]}
        )

    def replace_track(self, key: str, runs: list[tuple[dict[int, Box], int]]) -> None:
        (row,) = self._rows(key, "videorectangle")
        row["value"]["sequence"] = []
        for boxes, end in runs:
            keys = [self._key(frame, box) for frame, box in boxes.items()]
            if keys[-1]["frame"] < end:
                keys.append({**keys[-1], "frame": end})
            keys[-1]["enabled"] = False
            row["value"]["sequence"] += keys

    def copy_segment(self, key: str, start: int, end: int) -> None:
        (row,) = self._rows(key, "timelinelabels")
        self.add_segment(row["value"]["timelinelabels"][0], start, end)


HANDS: dict[str, type[InCvat] | type[InLabelStudio]] = {"cvat": InCvat, "labelstudio": InLabelStudio}


def opened(made: Timeline, to: str) -> Hand:
    """A timeline as it is in the tool."""
    hand = HANDS[to](export(made, to))
    if isinstance(hand, InLabelStudio):
        hand.size = shown_of(made, to).size
    return hand


def brought_back(hand: Hand, made: Timeline, **more: Any) -> Timeline:
    """What an import makes of it."""
    return import_review(hand.save(), made, origin="edited", **more)


# Any text that a JSON document can hold, with what breaks out of XML, JSON and attributes.
TEXTS = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["]]>", "<b a='&'\"/>", "$name", "segment", "not analysed", "a\nb\tc", "\x00\x1b", "\ud800", "&lol;"]
    ),
)
COORDINATES = st.one_of(st.floats(-50, 700), st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Also those that are outside, empty or enormous."""
    (x1, x2), (y1, y2) = (sorted(draw(st.tuples(COORDINATES, COORDINATES))) for _ in range(2))
    return (x1, y1, x2, y2)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Timelines that the schema allows: odd rates, sizes, times, names, coverage and gaps."""
    start = draw(st.sampled_from([0.0, 10.0, -3.5]))
    times = sorted(draw(st.sets(st.integers(0, 20_000), max_size=12)))
    label = st.one_of(st.sampled_from([*LABELS, "FACE_FEMALE"]), TEXTS)
    found = st.lists(st.tuples(label, st.floats(0, 1), boxes()), max_size=3)
    rows = [
        Sample(
            at,
            round(start + at / 1000, 6),
            draw(st.sampled_from([0.0, 0.04, 0.5])),
            Predictions(
                (Scores("open_nsfw", {"nsfw": draw(st.sampled_from([0.0, 0.5, 0.99]))}),),
                tuple(Detection(draw(st.sampled_from(["nudenet", ""])), *item) for item in draw(found)),
            ),
        )
        for at in times
    ]
    made = of_samples(
        rows,
        start,
        start + draw(st.sampled_from([0.0, 20.0, 20.04])),
        average_rate=draw(st.sampled_from(["25/1", "30000/1001", "0/0", "1/0", "90000/1", None])),
        rotation=draw(st.sampled_from([0, 90, -90, 180])),
        width=draw(st.sampled_from([0, 1, 640])),
    )
    spans = (
        Covered(start, start + 5, "analysed"),
        Covered(start + 5, start + 20, draw(st.sampled_from(["unsampled", "undecodable"]))),
    )
    coverage = draw(st.sampled_from([made.coverage, spans, ()]))
    named = {row.id: draw(TEXTS.filter(bool)) for row in made.segments}
    segments = [
        dataclasses.replace(row, id=named[row.id], category=draw(st.one_of(st.just(row.category), TEXTS.filter(bool))))
        for row in made.segments
    ]
    ids = [row.id for row in segments]
    policy = draw(
        st.sampled_from([made.provenance["policy"], {}, {"categories": 3}, {"categories": {"a": {"labels": 1}}}])
    )
    return dataclasses.replace(
        made,
        source={**made.source, "name": draw(TEXTS)},
        coverage=coverage,
        status=draw(st.sampled_from(["complete", "partial"])),
        notes=tuple(draw(st.lists(TEXTS, max_size=2))),
        segments=tuple(segments) if len(set(ids)) == len(ids) else made.segments,
        tracks=tuple(draw(st.lists(tracks(start), max_size=2))),
        provenance={
            **made.provenance,
            "policy": policy,
            "sampling": draw(st.sampled_from([made.provenance["sampling"], {"mode": "all"}, {}])),
        },
    )


@st.composite
def tracks(draw: st.DrawFn, start: float) -> Json:
    """A timeline's track."""
    first, last = sorted(draw(st.tuples(st.integers(0, 20_000), st.integers(0, 20_000))))
    times = draw(st.lists(st.integers(-1000, 21_000), max_size=4))
    return {
        "id": draw(TEXTS),
        "label": draw(TEXTS),
        "start_seconds": round(start + first / 1000, 6),
        "end_seconds": round(start + last / 1000, 6),
        "boxes": [{"pts": at, "time_seconds": round(start + at / 1000, 6), "box": list(draw(boxes()))} for at in times],
    }


assert set(LABELS) <= {name.rpartition(".")[2] for row in Policy.default().categories for name in row.labels}
