from __future__ import annotations

import json
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # samples/ is no part of the installed package

from samples.make_samples import make_long, make_sample, truth_path  # noqa: E402
from samples.patterns import PATTERN_COUNT, explicit_pattern  # noqa: E402
from samples.plans import PLANS, TICKS, overlay, paint  # noqa: E402
from samples.things import Pass, Post, Shown, draw_things  # noqa: E402

SMALL: dict[str, int] = {"width": 64, "height": 36, "fps": 10}


def read_truth(video: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads(truth_path(video).read_text(encoding="utf-8"))
    return truth


def read_frames(video: Path) -> list[tuple[Fraction, float]]:
    """Time and mean difference from grey-blue calm, one for each frame."""
    with av.open(str(video), "r") as source:
        return [
            (frame.pts * frame.time_base, float(frame.to_ndarray(format="gray").std()))
            for frame in source.decode(video=0)
            if frame.pts is not None and frame.time_base is not None
        ]


@pytest.mark.parametrize("name", ["cuts", "vfr", "offset"])
def test_frames_and_truth_agree(tmp_path: Path, name: str) -> None:
    video = make_sample(name, tmp_path, **SMALL)
    plan, truth = PLANS[name](SMALL["fps"], 0), read_truth(video)
    ticks = plan.ticks()
    assert [time for time, _ in read_frames(video)] == [Fraction(tick, TICKS) for tick in ticks[:-1]]
    assert truth["frames"] == plan.frames
    assert truth["start_seconds"] == (10 if name == "offset" else 0)
    found = [(s["start_seconds"], s["end_seconds"]) for s in truth["segments"]]
    spans = [(s.start, s.end) for s in plan.stretches]
    assert found == [tuple(pytest.approx(ticks[edge] / TICKS) for edge in span) for span in spans]


def test_the_cuts_last_as_long_as_promised(tmp_path: Path) -> None:
    truth = read_truth(make_sample("cuts", tmp_path, **SMALL))
    lengths = [s["end_seconds"] - s["start_seconds"] for s in truth["segments"]]
    assert lengths == pytest.approx([0.3, 0.5, 1, 2, 5])


def test_a_pattern_shows_where_the_truth_says_and_nowhere_else(tmp_path: Path) -> None:
    video = make_sample("cuts", tmp_path, **SMALL)
    truth = read_truth(video)
    with av.open(str(video), "r") as source:
        frames = [(f.time, f.to_ndarray(format="rgb24").astype(float)) for f in source.decode(video=0)]
    changes = [
        round(time or 0.0, 3) for (_, before), (time, after) in pairwise(frames) if np.abs(after - before).mean() > 25
    ]
    edges = [round(s[edge], 3) for s in truth["segments"] for edge in ("start_seconds", "end_seconds")]
    assert set(edges) <= set(changes)


def test_a_fade_counts_from_half() -> None:
    plan = PLANS["fades"](10, 0)
    for stretch in plan.stretches:
        alphas = [stretch.alpha(n) for n in range(stretch.start - 1, stretch.end + 1)]
        assert alphas[0] == alphas[-1] == 0
        assert max(alphas) == 1
        assert alphas == alphas[::-1]


def test_a_face_leaves_and_comes_back(tmp_path: Path) -> None:
    truth = read_truth(make_sample("face", tmp_path, **SMALL))
    assert [s["category"] for s in truth["segments"]] == ["face", "face"]
    boxes = np.array([face["box"] for face in truth["faces"]])
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= (SMALL["width"], SMALL["height"])).all()


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (make_sample("cuts", tmp_path / part, **SMALL) for part in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert truth_path(first).read_bytes() == truth_path(second).read_bytes()


def test_long_repeats_its_minute_without_a_seam(tmp_path: Path) -> None:
    video = make_long(tmp_path / "long.mp4", seconds=63, width=64, height=36, fps=5, bitrate=50_000)
    times = [time for time, _ in read_frames(video)]
    assert times == [Fraction(n, 5) for n in range(64 * 5)]  # whole GOPs of 2 s
    truth = read_truth(video)
    with av.open(str(video), "r") as source:
        assert truth["time_base"] == str(source.streams.video[0].time_base)
    assert truth["duration_seconds"] == 64
    assert [(s["start_seconds"], s["end_seconds"]) for s in truth["segments"]] == [(20, 24), (40, 42)]


COVERED = ("crossing", "leaving", "entering", "scaling", "fast", "behind", "pattern")


def shown(name: str, *, width: int = 320, height: int = 180, fps: int = 25) -> list[list[Shown]]:
    """What is drawn of a plan in every frame, without its background."""
    plan = PLANS[name](fps, 0)
    grey = np.full((height, width, 3), 128, np.uint8)
    return [overlay(plan, number, grey.copy())[1] for number in range(plan.frames)]


def area(box: Any) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


class TestFilmsForCovering:
    @pytest.mark.parametrize("name", COVERED)
    def test_every_box_is_in_the_truth_and_in_the_picture(self, tmp_path: Path, name: str) -> None:
        truth = read_truth(make_sample(name, tmp_path, **SMALL))
        rows = truth["patterns"] if name == "pattern" else truth["faces"]
        assert rows
        assert {row["label"] for row in rows} == {"FEMALE_BREAST_EXPOSED" if name == "pattern" else "FACE_FEMALE"}
        expected = shown(name, **SMALL)
        assert len(rows) == sum(map(len, expected))
        boxes = np.array([row["box"] for row in rows])
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= (SMALL["width"], SMALL["height"])).all()

    @pytest.mark.parametrize("name", COVERED)
    def test_the_background_moves(self, name: str) -> None:
        plan = PLANS[name](25, 0)
        before, after = (paint(plan, number, number / 25, 64, 36)[0].astype(float) for number in (0, 10))
        assert np.abs(before - after).mean() > 1

    def test_two_cross(self) -> None:
        pairs = [
            {one.thing: one.box for one in seen} for seen in shown("crossing") if {0, 1} <= {one.thing for one in seen}
        ]
        order = [np.sign(pair[1][0] - pair[0][0]) for pair in pairs]
        assert order[0] == 1
        assert order[-1] == -1
        assert any(pair[0][2] > pair[1][0] and pair[1][2] > pair[0][0] for pair in pairs)

    @pytest.mark.parametrize(("name", "place"), [("leaving", -1), ("entering", 0)])
    def test_all_sides_are_left_and_entered(self, name: str, place: int) -> None:
        frames = [{one.thing: one.box for one in seen} for seen in shown(name)]
        touched = set()
        for thing in range(5):
            box = [seen[thing] for seen in frames if thing in seen][place]
            sides = (box[0] == 0, box[1] == 0, box[2] == 320, box[3] == 180)
            assert any(sides)
            touched.add(sides)
        assert len(touched) == 5

    def test_what_is_fast_moves_by_its_own_size_from_frame_to_frame(self) -> None:
        frames = [{one.thing: one.box for one in seen} for seen in shown("fast")]
        moved = [
            (after[2][0] - before[2][0]) / (after[2][2] - after[2][0])
            for before, after in pairwise(frames)
            if 2 in before and 2 in after and before[2][0] > 0 and after[2][2] < 320
        ]
        assert max(moved) > 0.7

    def test_what_scales_becomes_four_times_as_high(self) -> None:
        heights = [one.box[3] - one.box[1] for seen in shown("scaling") for one in seen]
        assert max(heights) > 3 * min(heights)

    def test_what_is_behind_something_shows_beside_it_or_not_at_all(self) -> None:
        frames = shown("behind")
        there = [bool(seen) for seen in frames]
        assert any(not now for now in there[50:80])  # behind the wall
        for number, seen in enumerate(frames):
            for post in PLANS["behind"](25, 0).posts:
                if post.is_there(number):
                    left, top, right, bottom = post.sides(number, 320, 180)
                    for one in seen:
                        x1, y1, x2, y2 = one.box
                        assert not (left <= x1 and x2 <= right and top <= y1 and y2 <= bottom)


class TestWhatIsHidden:
    """A face behind a post from 120 to 140 of 320 pixels; its own width is some 66."""

    POST = Post(120 / 320, 140 / 320)

    def box_at(self, x: float) -> Any:
        face = Pass(0, 1, (x / 320, 0.5), (x / 320, 0.5), (0.5, 0.5))
        _, seen = draw_things(np.full((180, 320, 3), 128, np.uint8), 0, (face,), (self.POST,))
        return seen[0].box if seen else None

    def test_beside_it_all_shows(self) -> None:
        x1, _, x2, _ = self.box_at(60)
        assert x2 - x1 == pytest.approx(self.box_at(250)[2] - self.box_at(250)[0])
        assert x1 < 60 < x2 < 120

    def test_a_part_behind_it_does_not_count(self) -> None:
        assert self.box_at(95)[2] == 120
        assert self.box_at(165)[0] == 140

    def test_around_it_both_parts_count(self) -> None:
        x1, _, x2, _ = self.box_at(130)
        assert x1 < 120
        assert x2 > 140

    def test_a_sliver_on_the_other_side_does_not_count(self) -> None:
        assert self.box_at(110)[2] == 120
        assert self.box_at(150)[0] == 140

    def test_the_post_is_what_one_sees(self) -> None:
        face = Pass(0, 1, (130 / 320, 0.5), (130 / 320, 0.5), (0.5, 0.5))
        frame, _ = draw_things(np.full((180, 320, 3), 128, np.uint8), 0, (face,), (self.POST,))
        bare, _ = draw_things(np.full((180, 320, 3), 128, np.uint8), 0, (), (self.POST,))
        assert np.array_equal(frame[:, 120:140], bare[:, 120:140])
        assert not np.array_equal(frame[:, :120], bare[:, :120])

    def test_one_that_moves_takes_what_it_hides_along(self) -> None:
        moving = Post(0.0, 0.1, start=10, drift=0.01)
        assert not moving.is_there(9)
        assert moving.sides(10, 320, 180) == (0, 0, 32, 180)
        assert moving.sides(60, 320, 180) == (160, 0, 192, 180)


def test_an_unknown_sample_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cuts"):
        make_sample("nothing", tmp_path)


def test_the_patterns_differ() -> None:
    pictures = [explicit_pattern(32, 32, index).astype(float) for index in range(PATTERN_COUNT)]
    assert len(pictures) >= 2
    assert np.abs(pictures[0] - pictures[1]).mean() > 10


def test_the_demo_is_small_and_its_truth_fits() -> None:
    video = ROOT / "samples" / "demo.mp4"
    truth = read_truth(video)
    assert video.stat().st_size < 1_000_000
    frames = read_frames(video)
    assert len(frames) == truth["frames"]
    assert {s["category"] for s in truth["segments"]} == {"explicit", "face"}
    for segment in truth["segments"]:
        assert 0 <= segment["start_seconds"] < segment["end_seconds"] <= truth["duration_seconds"]
    times = {round(float(time), 6) for time, _ in frames}
    assert {face["time_seconds"] for face in truth["faces"]} <= times
    with av.open(str(video), "r") as source:
        assert [stream.codec_context.name for stream in source.streams] == ["h264", "aac"]
