"""To CVAT and Label Studio and back: what nobody touched is as it was, and what a person did is what comes back."""

from __future__ import annotations

import dataclasses
import functools
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.annotated import (
    FORMATS,
    HANDS,
    LABELS,
    RATE,
    SIZE,
    InCvat,
    brought_back,
    film,
    looked,
    moving,
    of_samples,
    opened,
    shown_of,
    timelines,
)
from vidmod.annotations.shapes import Key, Run, box_at, differing
from vidmod.exports import export
from vidmod.imports import import_review, summary
from vidmod.predictions import Box
from vidmod.reviewing import box_between, decisions, dismissed, machine_segments, reviewed, without_dismissed
from vidmod.timeline import Json, Timeline

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DRAWN: Json = {
    "id": "by hand",
    "label": "TATTOO",
    "start_seconds": 1.013,
    "end_seconds": 3.251,
    "boxes": [
        {"pts": 1013, "time_seconds": 1.013, "box": [5.123456, 6.5, 50.25, 60.0]},
        {"pts": 2300, "time_seconds": 2.3, "box": [15.0, 6.5, 61.7, 60.0]},
    ],
}
pytestmark = pytest.mark.parametrize("to", FORMATS)


@functools.cache
def on_the_grid() -> Timeline:
    """A thing that moves from 4.32 to 8.64 s, sampled at times that are those of frames."""
    times = [number * 12 / RATE for number in range(42)]
    return of_samples([looked(at, 0.0, *[(LABELS[0], 0.9, moving(at))] * (4 < at < 9)) for at in times], 0.0, 20.0)


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[dict[int, Box], int]]:
    """Some runs of keyframes, some of them as they were."""
    corners = sorted(draw(st.sets(st.integers(0, 499), min_size=2, max_size=9)))
    runs = []
    while len(corners) >= 2:
        count = draw(st.integers(1, len(corners) - 1))
        frames, end, corners = corners[:count], corners[count], corners[count + 1 :]
        boxes = {}
        for frame in frames:
            moved = draw(st.sampled_from([0.0, 0.0, 31.25]))
            x1, y1, x2, y2 = moving(min(max(frame / RATE, 4.32), 8.64))
            boxes[frame] = (x1 + moved, y1, x2 + moved, y2)
        runs.append((boxes, end))
    return runs


def by_key(made: Timeline, to: str) -> dict[str, Any]:
    return {item.key: item for item in shown_of(made, to).tracks}


class TestUntouched:
    @pytest.mark.parametrize("start", [0.0, 10.0, -3.5])
    def test_all_is_accepted_and_as_it_was(self, to: str, start: float) -> None:
        before = film(start)
        after = brought_back(opened(before, to), before, reviewer="Ada", note="fine")
        assert after.segments == before.segments
        assert set(decisions(after).values()) == {"accepted"}
        assert (after.tracks, dismissed(after), after.verdict) == ((), (), before.verdict)
        assert dataclasses.replace(after, review=None) == before
        assert after.review is not None
        assert (after.review["reviewer"], after.review["note"]) == ("Ada", "fine")
        assert summary(after) == "3 accepted, 0 rejected, 0 changed, 0 added"

    def test_as_it_was_exported(self, to: str) -> None:
        before = film()
        after = import_review(export(before, to), before)
        assert after.segments == before.segments

    @pytest.mark.parametrize("rotation", [0, 90, -90, 180])
    def test_a_picture_that_is_turned(self, to: str, rotation: int) -> None:
        before = film(rotation=rotation)
        assert shown_of(before, to).size == (SIZE if rotation in (0, 180) else SIZE[::-1])
        assert brought_back(opened(before, to), before).tracks == ()

    def test_pictures_at_times_that_no_grid_has(self, to: str) -> None:
        times = [0.0, 0.013, 0.051, 0.062, 0.3, 0.331, 0.34, 0.9, 1.0, 1.5, 1.52]
        rows = [looked(at, 0.99, (LABELS[0], 0.9, moving(at))) for at in times]
        before = of_samples(rows, 0.0, 1.56)
        after = brought_back(opened(before, to), before)
        assert dataclasses.replace(after, review=None) == before
        assert (after.tracks, dismissed(after)) == ((), ())

    def test_where_every_picture_was_looked_at_cvat_has_its_number(self, to: str) -> None:
        times = [0.0, 0.013, 0.051, 0.062, 0.3, 0.331]
        made = of_samples([looked(at, 0.0, (LABELS[0], 0.9, moving(at))) for at in times], 0.0, 0.37)
        sampling = {"mode": "all", "fps": None, "max_gap_seconds": 0.5}
        made = dataclasses.replace(made, provenance={**made.provenance, "sampling": sampling})
        keys = [key.frame for run in shown_of(made, to).tracks[0].runs for key in run.keys]
        assert keys == ([0, 1, 2, 3, 4, 5] if to == "cvat" else [0, 1, 2, 8])
        assert dataclasses.replace(brought_back(opened(made, to), made), review=None) == made

    def test_what_a_reviewer_left_stays_as_it_is(self, to: str) -> None:
        scanned = film()
        first, _, third = scanned.segments
        (gone,) = [
            {"id": "x1", "label": LABELS[1], "start_seconds": 11.75, "end_seconds": 14.75, "boxes": row["boxes"]}
            for row in [{"boxes": [{"pts": 12000, "time_seconds": 12.0, "box": [400.5, 100.25, 480.125, 220.0]}]}]
        ]
        before = reviewed(
            scanned,
            [
                dataclasses.replace(first, end_seconds=7.7777),
                third,
                dataclasses.replace(first, id="new", start_seconds=18.0, end_seconds=19.0),
            ],
            reviewer="Ada",
            at=AT,
            tool="a test",
            tracks=[DRAWN],
            dismissed=[gone],
            undecided=["s3"],
            notes={"s2": "a <sculpture>\nof stone", "new": "look"},
        )
        after = brought_back(opened(before, to), before, reviewer="Bob", at=AT)
        assert after.segments == before.segments
        assert (after.tracks, dismissed(after)) == (before.tracks, dismissed(before))
        assert after.review is not None
        assert before.review is not None
        assert after.review["decisions"] == before.review["decisions"]
        assert after.review["machine"] == before.review["machine"]
        assert after.review["reviewer"] == "Bob"
        assert summary(after) == "0 accepted, 1 rejected, 1 changed, 1 added, 1 undecided; 1 box dismissed, 1 box drawn"

    def test_what_is_not_shown_stays_undecided(self, to: str) -> None:
        before = film()
        other = dataclasses.replace(before.segments[0], id="s9", stream=1, kind="video")
        before = dataclasses.replace(before, segments=(*before.segments, other))
        after = brought_back(opened(before, to), before)
        assert other in after.segments
        assert set(decisions(after)) == {"s1", "s2", "s3"}

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(before=timelines())
    def test_whatever_is_drawn(self, to: str, before: Timeline) -> None:
        data = export(before, to)
        if any(row.start_seconds >= row.end_seconds for row in before.segments):
            return
        after = import_review(data, before)
        assert sorted(after.segments, key=repr) == sorted(before.segments, key=repr)
        assert set(decisions(after).values()) <= {"accepted"}
        assert sorted(after.tracks, key=repr) == sorted(before.tracks, key=repr)
        assert dismissed(after) == ()
        assert after.streams == before.streams


class TestSegments:
    def test_deleted_is_rejected(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.delete("s1")
        after = brought_back(hand, before)
        assert decisions(after) == {"s1": "rejected", "s2": "accepted", "s3": "accepted"}
        assert machine_segments(after) == before.segments

    def test_rejected_in_words_with_a_note(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.decide("s2", "rejected")
        hand.write_note("s2", "a <b>statue</b> & co")
        hand.decide("s3", "undecided")
        after = brought_back(hand, before)
        assert decisions(after) == {"s1": "accepted", "s2": "rejected"}
        assert after.review is not None
        assert after.review["decisions"][1]["note"] == "a <b>statue</b> & co"
        assert [row.id for row in after.segments] == ["s1", "s3"]

    def test_an_end_that_was_moved_is_on_its_frame_and_the_other_where_it_was(self, to: str) -> None:
        before = film(10.0)
        item = next(item for item in shown_of(before, to).segments if item.key == "s1")
        assert item.end is not None
        hand = opened(before, to)
        hand.set_span("s1", item.start, item.end + 30)
        after = brought_back(hand, before)
        first = after.segments[0]
        assert first.start_seconds == before.segments[0].start_seconds
        assert first.end_seconds == round(10 + (item.end + 30) / RATE, 6)
        assert decisions(after)["s1"] == "changed"
        again = brought_back(opened(after, to), after)
        assert again.segments == after.segments

    def test_a_new_one_has_what_models_said_there(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.add_segment("explicit", 100, 125)
        after = brought_back(hand, before)
        (new,) = [row for row in after.segments if row.id not in ("s1", "s2", "s3")]
        assert (new.category, new.verdict, new.action) == ("explicit", "block", "cover")
        assert (new.start_seconds, new.end_seconds, new.peak) == (4.0, 5.0, 0.9)
        assert decisions(after)[new.id] == "added"

    def test_another_category_is_a_change(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.set_category("s1", "nsfw")
        after = brought_back(hand, before)
        assert after.segments[0].category == "nsfw"
        assert decisions(after)["s1"] == "changed"

    def test_one_cut_in_two(self, to: str) -> None:
        before = film()
        item = next(item for item in shown_of(before, to).segments if item.key == "s1")
        assert item.end is not None
        hand = opened(before, to)
        hand.copy_segment("s1", item.start + 50, item.end)
        hand.set_span("s1", item.start, item.start + 25)
        after = brought_back(hand, before)
        assert sorted(decisions(after).values()) == ["accepted", "accepted", "added", "changed"]
        spans = [(row.start_seconds, row.end_seconds) for row in after.segments if row.category == "explicit"]
        frames = [(round(start * RATE), round(end * RATE)) for start, end in spans[:2]]
        assert frames[0][1] == item.start + 25
        assert frames[1][0] == item.start + 50


class TestBoxes:
    def test_deleted_is_dismissed_with_the_very_boxes(self, to: str) -> None:
        before = film()
        item = by_key(before, to)["detected-1"]
        hand = opened(before, to)
        hand.delete("detected-1")
        after = brought_back(hand, before)
        (gone,) = dismissed(after)
        assert gone["label"] == LABELS[0]
        assert [row["box"] for row in gone["boxes"]] == [list(moving(number / 2)) for number in range(8, 18)]
        assert [row["pts"] for row in gone["boxes"]] == [500 * number for number in range(8, 18)]
        # up to the samples on both sides: it may have begun and ended there
        assert (gone["start_seconds"], gone["end_seconds"]) == (3.54, 9.0)
        assert item.runs[0].start == 4 * RATE
        assert after.tracks == ()
        left = [without_dismissed(row.predictions.detections, row, dismissed(after)) for row in before.samples]
        assert [bool(items) for items in left] == [12 <= n / 2 < 15 and n != 27 for n in range(40)]
        assert summary(after).endswith("; 1 box dismissed")

    def test_rejected_in_words_is_dismissed(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.decide("detected-2", "rejected")
        after = brought_back(hand, before)
        assert {row["label"] for row in dismissed(after)} == {LABELS[1]}
        # missed at 13.5 s: two stretches
        spans = [(row["start_seconds"], row["end_seconds"]) for row in dismissed(after)]
        assert spans == [(11.54, 13.5), (13.54, 15.0)]

    def test_a_box_that_was_moved_is_drawn_where_it_was_moved_and_no_further(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.move_box("detected-1", 6 * RATE, (300.0, 200.0, 360.5, 260.25))
        after = brought_back(hand, before)
        (gone,), (drawn,) = dismissed(after), after.tracks
        assert (gone["start_seconds"], gone["end_seconds"]) == (5.5, 6.5)
        assert (drawn["start_seconds"], drawn["end_seconds"]) == (5.5, 6.5)
        moved = [[*moving(5.5)], [300.0, 200.0, 360.5, 260.25], [*moving(6.5)]]
        assert drawn["boxes"] == [
            {"pts": pts, "time_seconds": pts / 1000, "box": box}
            for pts, box in zip((5500, 6000, 6500), moved, strict=True)
        ]
        assert [row["box"] for row in gone["boxes"]] == [[*moving(at)] for at in (5.5, 6.0, 6.5)]
        assert decisions(after)["s1"] == "accepted"

    def test_a_track_that_was_ended_earlier_is_dismissed_from_there(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.end_track("detected-2", 13 * RATE)
        after = brought_back(hand, before)
        spans = sorted((row["start_seconds"], row["end_seconds"]) for row in dismissed(after))
        assert spans[-1][1] == 15.0
        assert all(start >= 12.96 for start, _ in spans)
        # up to the last frame that it was left in it is covered, if not by the detector's box, then by the drawn one
        assert all(row["end_seconds"] == 13.0 for row in after.tracks)
        (first, *_) = (row for row in before.samples if row.time_seconds == 12.5)
        assert len(without_dismissed(first.predictions.detections, first, dismissed(after))) == 2

    @settings(max_examples=40, deadline=None)
    @given(shape=shapes())
    def test_every_frame_is_as_a_person_left_it(self, to: str, shape: list[tuple[dict[int, Box], int]]) -> None:
        before = on_the_grid()
        item, frames = by_key(before, to)["detected-1"], shown_of(before, to).frames
        hand = opened(before, to)
        hand.replace_track("detected-1", shape)
        after = brought_back(hand, before)
        left = [Run(tuple(Key(frame, box) for frame, box in sorted(boxes.items())), end) for boxes, end in shape]
        for frame in range(frames.count):
            at, was, now = frames.seconds(frame), box_at(item.runs, frame), box_at(left, frame)
            drawn = [row for row in after.tracks if row["start_seconds"] <= at < row["end_seconds"]]
            gone = any(row["start_seconds"] <= at < row["end_seconds"] for row in dismissed(after))
            if now is None and was is None:
                # between two samples nobody knows where a thing ends
                assert not drawn or 3.88 <= at < 9.12
            elif now is None:
                assert gone
                assert not drawn
            elif drawn:
                here = [box_between(row["boxes"], round(at * 1000)) for row in drawn]
                assert any(box == pytest.approx(now, abs=0.05) for box in here)
            else:
                assert was == pytest.approx(now, abs=0.05)
                assert not gone

    def test_a_new_track(self, to: str) -> None:
        before = film(10.0)
        hand = opened(before, to)
        hand.add_track("ADDED", {30: (10, 20, 110, 120), 50: (30, 20, 130, 120.5)}, 60)
        after = brought_back(hand, before)
        (drawn,) = after.tracks
        assert drawn["label"] == "ADDED"
        assert (drawn["start_seconds"], drawn["end_seconds"]) == (11.18, 12.4)
        assert [row["time_seconds"] for row in drawn["boxes"]][:2] == [11.2, 12.0]
        assert [row["pts"] for row in drawn["boxes"]][:2] == [11200, 12000]
        assert [row["box"] for row in drawn["boxes"]][:2] == [[10, 20, 110, 120], [30, 20, 130, 120.5]]
        assert dismissed(after) == ()
        again = brought_back(opened(after, to), after)
        assert again.tracks == after.tracks

    def test_another_label_is_another_thing(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.relabel("detected-1", LABELS[1])
        after = brought_back(hand, before)
        assert [row["label"] for row in dismissed(after)] == [LABELS[0]]
        assert [row["label"] for row in after.tracks] == [LABELS[1]]
        assert [row["box"] for row in after.tracks[0]["boxes"]] == [[*moving(n / 2)] for n in range(8, 18)]

    def test_what_was_dismissed_can_be_taken_back(self, to: str) -> None:
        before = film()
        hand = opened(before, to)
        hand.delete("detected-1")
        once = brought_back(hand, before)
        hand = opened(once, to)
        hand.decide("dismissed-1", "accepted")
        twice = brought_back(hand, once)
        assert (dismissed(twice), twice.tracks) == ((), ())
        assert by_key(twice, to).keys() == by_key(before, to).keys()

    def test_what_a_person_has_drawn_can_be_moved_and_deleted(self, to: str) -> None:
        scanned = film()
        before = reviewed(scanned, scanned.segments, reviewer="Ada", at=AT, tool="a test", tracks=[DRAWN])
        item = by_key(before, to)["drawn-1"]
        hand = opened(before, to)
        hand.move_box("drawn-1", item.runs[0].keys[1].frame, (20.0, 20.0, 70.0, 70.0))
        after = brought_back(hand, before)
        (drawn,) = after.tracks
        assert (drawn["start_seconds"], drawn["end_seconds"], drawn["label"]) == (1.013, 3.251, "TATTOO")
        assert drawn["boxes"][0] == DRAWN["boxes"][0]
        assert [20.0, 20.0, 70.0, 70.0] in [row["box"] for row in drawn["boxes"]]
        hand = opened(before, to)
        hand.delete("drawn-1")
        after = brought_back(hand, before)
        assert (after.tracks, dismissed(after)) == ((), ())

    def test_a_scans_track_that_was_deleted_is_dismissed(self, to: str) -> None:
        before = dataclasses.replace(film(), tracks=(DRAWN,))
        hand = opened(before, to)
        hand.delete("drawn-1")
        after = brought_back(hand, before)
        assert (after.tracks, dismissed(after)) == ((), (DRAWN,))


def test_a_copy_of_a_track_is_one_more(to: str) -> None:
    before = film()
    hand = opened(before, to)
    if isinstance(hand, InCvat):
        hand.root.append(ET.fromstring(ET.tostring(hand.track("detected-1"))))
        after = brought_back(hand, before)
        assert len(after.tracks) == 1
        assert dismissed(after) == ()
    else:
        hand.add_track(LABELS[0], {100: moving(4.0)}, 110)
        assert len(brought_back(hand, before).tracks) == 1


def test_keyframes_that_change_nothing_are_no_change(to: str) -> None:
    """CVAT writes every frame between two keyframes; people press the key for a keyframe."""
    before = film()
    hand = opened(before, to)
    item = by_key(before, to)["detected-1"]
    box = item.runs[0].box(107)
    if isinstance(hand, InCvat):
        track = hand.track("detected-1")
        extra = ET.fromstring(ET.tostring(track[0]))
        extra.set("frame", "107")
        for name, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True):
            extra.set(name, f"{value:.2f}")
        between = ET.fromstring(ET.tostring(extra))
        between.set("frame", "120")
        between.set("keyframe", "0")
        track.insert(1, extra)
        track.insert(2, between)
    else:
        (row,) = [row for row in hand.results if row["id"] == "detected-1"]  # type: ignore[attr-defined]
        row["value"]["sequence"].insert(1, hand._key(107, box))  # type: ignore[attr-defined]
    after = brought_back(hand, before)
    assert (after.tracks, dismissed(after)) == ((), ())


def test_shapes_differ_where_they_do(to: str) -> None:
    before = film()
    (first, *_) = shown_of(before, to).tracks
    assert differing(first.runs, first.runs) == []
    assert differing(first.runs, ()) == [(first.runs[0].start, first.runs[-1].end)]


def test_the_command(to: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    before, edited, output = tmp_path / "film.json", tmp_path / "edited", tmp_path / "reviewed.json"
    film().write(before)
    command = [sys.executable, "-m", "vidmod"]
    made = subprocess.run([*command, "export", str(before), "--to", to], capture_output=True, check=True)
    hand = HANDS[to](made.stdout)
    hand.delete("s1")
    hand.delete("detected-1")
    hand.add_segment("nsfw", 0, 50)
    edited.write_bytes(hand.save())
    arguments = ["import", str(edited), "--timeline", str(before), "--reviewer", "Grace", "--note", "done"]
    said = subprocess.run([*command, *arguments, "-o", str(output)], capture_output=True, text=True, check=True)
    assert said.stderr == "2 accepted, 1 rejected, 0 changed, 1 added; 1 box dismissed\n"
    assert said.stdout == ""
    after = Timeline.read(output)
    assert after.review is not None
    assert (after.review["reviewer"], after.review["note"]) == ("Grace", "done")
    assert after.review["tool"] == ("CVAT" if to == "cvat" else "Label Studio")
    arguments[1] = "-"
    piped = subprocess.run([*command, *arguments, "--quiet"], input=hand.save(), capture_output=True, check=True)
    assert piped.stderr == b""
    document = json.loads(piped.stdout)
    assert document["segments"] == json.loads(output.read_text())["segments"]
    arguments[1] = str(edited)
    again = subprocess.run([*command, *arguments, "-o", str(edited)], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "is the file to import" in again.stderr
