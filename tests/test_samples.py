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
from samples.plans import PLANS, TICKS  # noqa: E402

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
