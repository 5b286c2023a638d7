"""What CVAT and Label Studio are given, read by their own tools and by Datumaro."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from PIL import Image

from tests import readers
from tests.annotated import LABELS, RATE, SIZE, film, looked, moving, of_samples, timelines
from tests.readers import ask
from vidmod.annotations import clean
from vidmod.coverage import Covered
from vidmod.exports import FORMATS, export
from vidmod.exports.cvat import RESERVED
from vidmod.imports import import_review
from vidmod.reviewing import decisions, dismissed
from vidmod.timeline import Json, Timeline

needs_readers = pytest.mark.skipif(not readers.PYTHON, reason=readers.WHY_NOT)
HOSTILE = "<script>alert(1)</script>]]>&\"'\x00\ud800\n$x"


def boxes_of(data: bytes) -> list[tuple[int, str, dict[str, str], dict[str, str]]]:
    """Track, label, attributes of the box, and its `attribute`s, by another XML reader than vidmod's."""
    return [
        (
            number,
            track.get("label", ""),
            dict(box.attrib),
            {item.get("name", ""): item.text or "" for item in box.findall("attribute")},
        )
        for number, track in enumerate(ET.fromstring(data).findall("track"))
        for box in track.findall("box")
    ]


def hostile() -> Timeline:
    made = film()
    first, *rest = made.segments
    segments = (dataclasses.replace(first, id=HOSTILE, category=HOSTILE), *rest)
    track: Json = {"id": HOSTILE, "label": HOSTILE, "start_seconds": 1.0, "end_seconds": 2.0}
    track["boxes"] = [{"pts": 1000, "time_seconds": 1.0, "box": [1, 2, 3, 4]}]
    return dataclasses.replace(
        made, source={**made.source, "name": HOSTILE}, segments=segments, tracks=(track,), notes=(HOSTILE,)
    )


def with_gaps(made: Timeline) -> Timeline:
    spans = (Covered(0.0, 15.0, "analysed"), Covered(15.0, 16.0, "unsampled"), Covered(16.0, 20.0, "undecodable"))
    return dataclasses.replace(made, coverage=spans, status="partial")


class TestCvat:
    def test_segments_are_boxes_around_the_picture_with_their_exact_times(self) -> None:
        made = film(10.0)
        *rest, last = made.segments
        made = dataclasses.replace(made, segments=(*rest, dataclasses.replace(last, end_seconds=30.0)))
        rows = [row for row in boxes_of(export(made, "cvat")) if row[1] == "segment"]
        assert len(rows) == 2 * len(made.segments) - 1
        for segment in made.segments:
            (start, *end) = [row for row in rows if row[3]["id"] == segment.id]
            assert float(start[3]["start_seconds"]) == segment.start_seconds
            assert float(start[3]["end_seconds"]) == segment.end_seconds
            frame = int(start[2]["frame"])
            assert 0 <= 10 + frame / RATE - segment.start_seconds < 1 / RATE
            if end:
                assert end[0][2]["outside"] == "1"
                assert 0 <= 10 + int(end[0][2]["frame"]) / RATE - segment.end_seconds < 1 / RATE
            else:  # it goes on to the end, and CVAT knows no frame after the last
                assert segment.end_seconds == 30.0
            corners = [float(start[2][name]) for name in ("xtl", "ytl", "xbr", "ybr")]
            assert corners == [0, 0, *SIZE]
            assert (start[3]["category"], start[3]["verdict"]) == (segment.category, segment.verdict)

    def test_every_box_is_there_with_its_time(self) -> None:
        made = film()
        rows = [row for row in boxes_of(export(made, "cvat")) if row[1] in LABELS and row[2]["outside"] == "0"]
        assert all(row[2]["keyframe"] == "1" for row in rows)
        written = sorted(
            (
                float(fields["seconds"]),
                label,
                [float(box[name]) for name in ("xtl", "ytl", "xbr", "ybr")],
                float(fields["score"]),
            )
            for _, label, box, fields in rows
        )
        found: list[Any] = sorted(
            (row.time_seconds, item.label, [pytest.approx(value, abs=1e-6) for value in item.box], item.score)
            for row in made.samples
            for item in row.predictions.detections
        )
        assert written == found
        assert all(abs(int(row[2]["frame"]) - float(row[3]["seconds"]) * RATE) <= 0.5 for row in rows)

    def test_a_thing_that_is_missed_once_is_one_track(self) -> None:
        rows = [row for row in boxes_of(export(film(), "cvat")) if row[1] == LABELS[1]]
        assert len({row[0] for row in rows}) == 1
        frames = [(int(row[2]["frame"]), row[2]["outside"]) for row in rows]
        assert frames == [
            (300, "0"), (313, "0"), (325, "0"), (332, "1"), (350, "0"), (363, "0"), (369, "1"),
        ]  # fmt: skip

    def test_what_was_not_looked_at_is_said(self) -> None:
        rows = [row for row in boxes_of(export(with_gaps(film()), "cvat")) if row[1] == "not analysed"]
        assert [(row[3]["state"], int(row[2]["frame"]), row[2]["outside"]) for row in rows] == [
            ("unsampled", 375, "0"),
            ("unsampled", 400, "1"),
            ("undecodable", 400, "0"),
        ]
        (mark, *_) = [row for row in boxes_of(export(with_gaps(film()), "cvat")) if row[1] == "timeline"]
        assert mark[3]["about"].startswith("partial, verdict block; unsampled 0:15.000 to 0:16.000; undecodable")

    @pytest.mark.parametrize("rotation", [90, -90])
    def test_the_picture_is_as_displayed(self, rotation: int) -> None:
        root = ET.fromstring(export(film(rotation=rotation), "cvat"))
        size = root.find("meta/task/original_size")
        assert size is not None
        assert (size.findtext("width"), size.findtext("height")) == ("360", "640")

    def test_no_frame_is_beyond_the_last_that_was_counted(self) -> None:
        """CVAT refuses a whole file for one: `rel_frame_id` raises for what is not in the job."""
        made = film()
        (stream,) = made.streams
        made = dataclasses.replace(made, streams=(dataclasses.replace(stream, ledger={"packets": 498}),))
        root = ET.fromstring(export(made, "cvat"))
        assert root.findtext("meta/task/size") == "498"
        assert max(int(box.get("frame", "")) for box in root.iter("box")) <= 497

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @example(hostile())
    @given(made=timelines())
    def test_whatever_it_is_given(self, made: Timeline) -> None:
        data = export(made, "cvat")
        root = ET.fromstring(data)
        count = int(root.findtext("meta/task/size") or 0)
        names = [item.text or "" for item in root.findall("meta/task/labels/label/name")]
        declared = {
            label.findtext("name"): {item.findtext("name") for item in label.iter("attribute")}
            for label in root.iter("label")
        }
        # CVAT's own limits
        assert len(set(names)) == len(names)
        assert all(1 <= len(name) <= 64 and name == name.strip() for name in names)
        for track in root.findall("track"):
            frames = [int(box.get("frame", "")) for box in track.findall("box")]
            assert all(one < other for one, other in pairwise(frames))
            assert all(0 <= frame < count for frame in frames)
            for _, label, box, fields in boxes_of(b"<annotations>" + ET.tostring(track) + b"</annotations>"):
                assert set(fields) <= declared[label]
                assert all(len(value) <= 4096 for value in fields.values())
                assert float(box["xtl"]) <= float(box["xbr"])
                assert float(box["ytl"]) <= float(box["ybr"])

    def test_hostile_text_is_text(self) -> None:
        data = export(hostile(), "cvat").decode()
        assert "<script>" not in data
        assert "\x00" not in data
        labels = [label for _, label, _, _ in boxes_of(data.encode())]
        assert clean(HOSTILE) in labels

    def test_a_strangers_label_is_not_taken_for_one_of_ours(self) -> None:
        rows = [looked(n / 2, 0.0, (label, 0.9, moving(n / 2))) for n in range(4) for label in RESERVED]
        made = of_samples(rows[::3], 0.0, 2.0)
        drawn = [
            {"id": "1", "label": name, "start_seconds": 0.0, "end_seconds": 1.0, "boxes": [
                {"pts": 0, "time_seconds": 0.0, "box": [0, 0, 5, 5]}
            ]}
            for name in RESERVED
        ]  # fmt: skip
        made = dataclasses.replace(made, tracks=tuple(drawn), provenance={**made.provenance, "policy": {}})
        back = import_review(export(made, "cvat"), made)
        assert back.tracks == made.tracks
        labels = {
            label for _, label, _, fields in boxes_of(export(made, "cvat")) if fields.get("id", "").startswith("d")
        }
        assert labels == {f"{name} (2)" for name in RESERVED}


@needs_readers
class TestDatumaro:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "task"
        (folder / "images").mkdir(parents=True)
        (folder / "annotations.xml").write_bytes(export(film(), "cvat"))
        return folder

    def test_it_reads_the_same_tracks(self, folder: Path) -> None:
        rows = ask("datumaro_tracks", folder=str(folder))
        read = {(frame, track): (label, points, attributes) for frame, track, label, points, attributes in rows}
        ours = boxes_of(export(film(), "cvat"))
        assert len(read) == len(ours)
        for number, label, box, fields in ours:
            name, points, attributes = read[int(box["frame"]), number]
            assert name == label
            # it keeps two decimals
            corners = [float(box[corner]) for corner in ("xtl", "ytl", "xbr", "ybr")]
            assert points == pytest.approx(corners, abs=0.00501)
            assert attributes["outside"] == (box["outside"] == "1")
            assert attributes["keyframe"] is True
            assert {key: attributes[key] for key in fields} == fields

    def test_what_it_writes_comes_back(self, folder: Path, tmp_path: Path) -> None:
        """It writes tracks without their attributes: what they are, is then known by where they are."""
        frames = {int(box["frame"]) for _, _, box, _ in boxes_of(export(film(), "cvat"))}
        for frame in frames:
            Image.new("L", SIZE).save(folder / "images" / f"frame_{frame:06}.png")
        data = ask("datumaro_rewritten", folder=str(folder), output=str(tmp_path / "out")).encode()
        assert b"sha256" not in data.split(b"</meta>")[1]
        after = import_review(data, film(), force=True)
        assert after.segments == film().segments
        assert decisions(after) == dict.fromkeys(("s1", "s2", "s3"), "accepted")
        assert (after.tracks, dismissed(after)) == ((), ())


@needs_readers
def test_cvats_own_client_takes_the_labels() -> None:
    rows = json.loads(export(hostile(), "cvat-labels"))
    assert ask("cvat_labels", rows=rows) == [row["name"] for row in rows]


def test_the_labels_are_those_of_the_tracks() -> None:
    rows = {
        row["name"]: {item["name"] for item in row["attributes"]} for row in json.loads(export(film(), "cvat-labels"))
    }
    for _, label, _, fields in boxes_of(export(with_gaps(film()), "cvat")):
        assert set(fields) == rows[label]


def label_studio_errors(made: Timeline, configured: Timeline | None = None) -> list[str]:
    """What Label Studio's own validator says of a task and its configuration, or another one's."""
    (task,) = json.loads(export(made, "labelstudio"))
    config = export(made if configured is None else configured, "labelstudio-config").decode()
    found: list[str] = ask("labelstudio_errors", config=config, task=task)
    return found


class TestLabelStudio:
    @needs_readers
    @pytest.mark.parametrize("made", [film(), film(10.0, rotation=90), with_gaps(film()), hostile()])
    def test_its_own_validator_takes_the_task(self, made: Timeline) -> None:
        assert label_studio_errors(made) == []

    @needs_readers
    def test_its_validator_sees_a_label_that_is_not_there(self) -> None:
        assert label_studio_errors(hostile(), film())

    @needs_readers
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(made=timelines())
    def test_its_validator_takes_whatever_is_drawn(self, made: Timeline) -> None:
        assert label_studio_errors(made) == []

    def test_frames_begin_with_one_and_both_ends_are_in_a_range(self) -> None:
        made = film()
        (task,) = json.loads(export(made, "labelstudio"))
        rows = {row["id"]: row for row in task["predictions"][0]["result"] if row["type"] == "timelinelabels"}
        for segment in made.segments:
            (span,) = rows[segment.id]["value"]["ranges"]
            assert 0 <= (span["start"] - 1) / RATE - segment.start_seconds < 1 / RATE
            assert 0 <= span["end"] / RATE - segment.end_seconds < 1 / RATE
            assert rows[segment.id]["meta"] == {
                "start_seconds": segment.start_seconds,
                "end_seconds": segment.end_seconds,
            }
        assert task["data"]["fps"] == RATE

    def test_every_box_is_there_with_its_time(self) -> None:
        made = film(10.0)
        (task,) = json.loads(export(made, "labelstudio"))
        written: dict[tuple[float, str], Any] = {}
        for row in task["predictions"][0]["result"]:
            if row["type"] == "videorectangle":
                for key in row["value"]["sequence"]:
                    sides = [key["x"], key["y"], key["x"] + key["width"], key["y"] + key["height"]]
                    corners = [side * length / 100 for side, length in zip(sides, SIZE * 2, strict=True)]
                    assert abs(key["frame"] - 1 - key["time"] * RATE) <= 0.5
                    written[round(10 + key["time"], 6), row["value"]["labels"][0]] = corners
        for sample in made.samples:
            for item in sample.predictions.detections:
                assert written[sample.time_seconds, item.label] == pytest.approx(item.box, abs=1e-6)

    def test_a_box_is_gone_after_a_keyframe_that_is_not_enabled(self) -> None:
        (task,) = json.loads(export(film(), "labelstudio"))
        (row,) = [row for row in task["predictions"][0]["result"] if row.get("value", {}).get("labels") == [LABELS[1]]]
        keys = [(key["frame"], key["enabled"]) for key in row["value"]["sequence"]]
        assert keys == [(301, True), (314, True), (326, True), (332, False), (351, True), (364, True), (369, False)]

    def test_a_slide_show(self) -> None:
        """Label Studio turns a frame rate below one into its reciprocal."""
        made = of_samples([looked(at, 0.99) for at in (0.0, 4.0, 8.0)], 0.0, 12.0, average_rate="1/4")
        (task,) = json.loads(export(made, "labelstudio"))
        assert task["data"]["fps"] == 1.0
        assert import_review(export(made, "labelstudio"), made).segments == made.segments

    def test_its_video_is_no_script(self) -> None:
        made = film()
        made = dataclasses.replace(made, source={**made.source, "name": "javascript:alert(1)//?a=b&c#d"})
        (task,) = json.loads(export(made, "labelstudio"))
        assert re.fullmatch(r"/data/local-files/\?d=[A-Za-z0-9%._/~-]+", task["data"]["video"])


@pytest.mark.parametrize("to", ["cvat", "cvat-labels", "labelstudio", "labelstudio-config"])
class TestEach:
    def test_it_is_the_same_every_time(self, to: str) -> None:
        assert export(film(), to) == export(film(), to)

    def test_nothing_could_be_scanned(self, to: str) -> None:
        made = film()
        source, coverage = {**made.source, "video": None}, (Covered(0.0, 5.0, "undecodable"),)
        made = dataclasses.replace(
            made, source=source, streams=(), segments=(), status="unscannable", coverage=coverage
        )
        data = export(made, to)
        if to in ("cvat", "labelstudio"):
            assert b"undecodable" in data
            assert import_review(data, made).segments == ()

    def test_no_coverage_and_no_samples(self, to: str) -> None:
        made = of_samples([], 0.0, 1.0)
        assert export(dataclasses.replace(made, coverage=()), to)

    def test_five_hundred_segments(self, to: str) -> None:
        made = film()
        first = made.segments[0]
        many = [
            dataclasses.replace(first, id=f"s{n}", start_seconds=n / 26, end_seconds=n / 26 + 0.5) for n in range(500)
        ]
        made = dataclasses.replace(made, segments=tuple(many))
        data = export(made, to)
        if to in ("cvat", "labelstudio"):
            assert import_review(data, made).segments == tuple(many)

    def test_the_command_lists_it(self, to: str) -> None:
        assert FORMATS[to].tells_unknown
        listed = subprocess.run(
            [sys.executable, "-m", "vidmod", "export", "--help"], capture_output=True, text=True, check=True
        )
        assert f"  {to} " in listed.stdout
