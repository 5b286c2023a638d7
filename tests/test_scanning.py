from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import vidmod
from samples.make_samples import make_sample
from samples.truths import truth_path
from tests.networks import write_classifier, write_detector
from tests.recipes import Video, make
from vidmod.errors import NotVideoError, SourceNotFoundError, SourceUnreadableError, UsageError
from vidmod.policy import Policy
from vidmod.scanning import Progress, Scanner, ScanSettings
from vidmod.timeline import Timeline

DEMO = Path(__file__).resolve().parent.parent / "samples" / "demo.mp4"


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    with Scanner(ScanSettings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def demo(scanner: Scanner) -> Timeline:
    return scanner.scan(DEMO)


def without_time(timeline: Timeline) -> Any:
    document = timeline.as_document()
    return {**document, "provenance": {**document["provenance"], "created": ""}}


class TestDemo:
    def test_the_known_stretches_are_found(self, demo: Timeline) -> None:
        truth = json.loads(truth_path(DEMO).read_text("utf-8"))
        wanted = [row for row in truth["segments"] if row["label"] == "nsfw"]
        assert len(wanted) == 3
        assert len(demo.segments) == 3
        for found, row in zip(demo.segments, wanted, strict=True):
            assert (found.category, found.verdict) == ("nsfw", "block")
            assert found.peak > 0.95
            # Two samples a second: half of what lies between two of them is the uncertainty.
            assert found.start_seconds == pytest.approx(row["start_seconds"], abs=0.3)
            assert found.end_seconds == pytest.approx(row["end_seconds"], abs=0.3)
        assert (demo.status, demo.verdict) == ("complete", "block")

    def test_the_face_is_found_where_it_is(self, demo: Timeline) -> None:
        truth = {row["pts"]: row["box"] for row in json.loads(truth_path(DEMO).read_text("utf-8"))["faces"]}
        faces = [(sample.pts, item) for sample in demo.samples for item in sample.predictions.detections]
        assert len(faces) >= 6
        for pts, item in faces:
            assert item.label == "FACE_FEMALE"
            middle = ((item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2)
            left, top, right, bottom = truth[pts]
            assert left <= middle[0] <= right
            assert top <= middle[1] <= bottom

    def test_samples_are_the_first_frame_the_grid_and_the_last(self, demo: Timeline) -> None:
        times = [sample.time_seconds for sample in demo.samples]
        assert (times[0], times[-1]) == (0.0, 35.96)
        # A picture that others refer to may serve for a grid point: an eighth of the interval away at most.
        grid = [place / 2 for place in range(72)]
        assert len(times) == len(grid) + 1
        assert np.abs(np.array(times[:-1]) - grid).max() <= 0.0625
        assert np.diff(times).max() <= 0.54
        assert [(span.start_seconds, span.end_seconds, span.state) for span in demo.coverage] == [
            (0.0, 36.0, "analysed")
        ]

    def test_the_source_and_provenance_are_named(self, demo: Timeline) -> None:
        assert demo.source["name"] == "demo.mp4"
        assert demo.source["size_bytes"] == DEMO.stat().st_size
        assert demo.source["video"]["width"] == 640
        assert demo.source["audio"][0]["codec"] == "aac"
        rows = demo.provenance["models"]
        assert [row["name"] for row in rows] == ["open_nsfw", "nudenet"]
        assert all(len(row["sha256"]) == 64 and row["runtime"] == "openvino" for row in rows)
        assert demo.provenance["policy"]["name"] == "default"

    def test_two_scans_give_the_same_timeline(self, scanner: Scanner, demo: Timeline) -> None:
        assert without_time(scanner.scan(DEMO)) == without_time(demo)
        with Scanner(ScanSettings(workers=1)) as single:
            assert without_time(single.scan(DEMO)) == without_time(demo)

    def test_judging_again_gives_the_same_segments(self, demo: Timeline) -> None:
        assert without_time(vidmod.judge(demo, Policy.default())) == without_time(demo)

    def test_onnxruntime_agrees(self, demo: Timeline) -> None:
        other = vidmod.scan(DEMO, runtime="onnxruntime")
        assert {row["runtime"] for row in other.provenance["models"]} == {"onnxruntime"}
        pairs = zip(other.samples, demo.samples, strict=True)
        differences = [
            abs(a.predictions.scores[0].labels["nsfw"] - b.predictions.scores[0].labels["nsfw"]) for a, b in pairs
        ]
        assert max(differences) < 0.05
        assert [segment.category for segment in other.segments] == ["nsfw"] * 3


class TestRanges:
    def test_only_the_part_asked_for_is_looked_at(self) -> None:
        part = vidmod.scan(DEMO, start=Fraction(10), end=Fraction(20))
        assert part.status == "partial"
        assert [segment.start_seconds for segment in part.segments] == pytest.approx([15.0], abs=0.3)
        assert part.samples[0].time_seconds == pytest.approx(10.0, abs=0.04)
        assert part.samples[-1].time_seconds < 20.0
        assert [span.state for span in part.coverage] == ["unsampled", "analysed", "unsampled"]
        assert part.coverage[0].start_seconds == 0.0
        assert part.coverage[1].start_seconds == pytest.approx(10.0, abs=0.05)
        assert part.coverage[1].end_seconds == pytest.approx(20.0, abs=0.05)
        assert part.coverage[-1].end_seconds == 36.0

    def test_a_calm_part_never_passes(self) -> None:
        part = vidmod.scan(DEMO, end=Fraction(3))
        assert part.segments == ()
        assert (part.status, part.verdict) == ("partial", "review")

    def test_stop_at_stops_soon_after(self) -> None:
        stopped = vidmod.scan(DEMO, stop_at="block")
        assert (stopped.status, stopped.verdict) == ("partial", "block")
        assert 7.0 < stopped.samples[-1].time_seconds < 16.0
        assert stopped.coverage[-1].state == "unsampled"
        assert stopped.coverage[-1].end_seconds == 36.0

    def test_every_frame(self) -> None:
        part = vidmod.scan(DEMO, sampling="all", start=Fraction(6), end=Fraction(9), models=("open_nsfw",))
        assert len(part.samples) == 75
        (found,) = part.segments
        assert (found.start_seconds, found.end_seconds) == (7.0, 7.8)

    def test_max_gap_adds_samples(self) -> None:
        part = vidmod.scan(DEMO, max_gap=Fraction(1, 5), end=Fraction(4), models=("open_nsfw",))
        times = [sample.time_seconds for sample in part.samples]
        assert np.diff(times).max() <= 0.24


class TestOtherVideos:
    @pytest.mark.parametrize("name", ["cuts", "offset", "vfr"])
    def test_truth_is_found(self, scanner: Scanner, tmp_path: Path, name: str) -> None:
        path = make_sample(name, tmp_path, width=320, height=180)
        truth = json.loads(truth_path(path).read_text("utf-8"))
        found = scanner.scan(path)
        assert found.status == "complete"
        assert found.source["start_seconds"] == pytest.approx(truth["start_seconds"], abs=1e-3)
        assert found.samples[0].time_seconds == pytest.approx(truth["start_seconds"], abs=1e-3)
        for row in truth["segments"]:
            if row["end_seconds"] - row["start_seconds"] < 0.55:
                continue  # at two samples a second shorter ones can lie between two samples
            hits = [
                segment
                for segment in found.segments
                if segment.start_seconds < row["end_seconds"] and segment.end_seconds > row["start_seconds"]
            ]
            assert len(hits) == 1
            assert hits[0].start_seconds == pytest.approx(row["start_seconds"], abs=0.35)
            assert hits[0].end_seconds == pytest.approx(row["end_seconds"], abs=0.35)

    def test_a_calm_video_passes(self, scanner: Scanner, tmp_path: Path) -> None:
        calm = scanner.scan(make_sample("calm", tmp_path, width=320, height=180, seconds=4))
        assert (calm.status, calm.verdict, calm.segments) == ("complete", "pass", ())

    def test_own_models_are_judged_by_their_manifests(self, tmp_path: Path) -> None:
        models = (str(write_classifier(tmp_path)), str(write_detector(tmp_path)))
        found = vidmod.scan(DEMO, models=models, end=Fraction(5))
        assert {segment.category for segment in found.segments} <= {"redness_red", "spot_BRIGHT"}
        assert "spot_BRIGHT" in {segment.category for segment in found.segments}


class TestBadInput:
    def test_a_missing_file(self, scanner: Scanner, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFoundError, match="Check the path"):
            scanner.scan(tmp_path / "none.mp4")

    def test_a_folder(self, scanner: Scanner, tmp_path: Path) -> None:
        with pytest.raises(NotVideoError, match="folder"):
            scanner.scan(tmp_path)

    def test_an_unreadable_file(self, scanner: Scanner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "secret.mp4"
        path.write_bytes(b"x")

        usual = os.open

        def refuse(target: Any, *rest: Any, **named: Any) -> int:
            if target == path:
                raise PermissionError(13, "Permission denied")
            return usual(target, *rest, **named)

        monkeypatch.setattr(os, "open", refuse)  # root may read everything, so modes prove nothing
        with pytest.raises(SourceUnreadableError, match=r"Permission denied.*Check its permissions"):
            scanner.scan(path)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"Dear reviewer, this is no film.\n" * 9, "is text"),
            (b"\x00\x00\x00\x18ftypisom" + bytes(500), "without its index"),
            (bytes(range(256)) * 40, "is not a video or image that vidmod reads"),
            (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n", "is text"),
        ],
    )
    def test_what_is_no_video_is_unscannable(
        self, scanner: Scanner, tmp_path: Path, content: bytes, expected: str
    ) -> None:
        path = tmp_path / "file.mp4"
        path.write_bytes(content)
        found = scanner.scan(path)
        assert (found.status, found.verdict, found.samples) == ("unscannable", "review", ())
        assert expected in found.notes[0]
        assert str(path) in found.notes[0]
        assert Timeline.from_document(found.as_document()) == found

    def test_an_empty_file(self, scanner: Scanner, tmp_path: Path) -> None:
        path = tmp_path / "empty.mp4"
        path.touch()
        found = scanner.scan(path)
        assert found.status == "unscannable"
        assert "empty (0 bytes)" in found.notes[0]

    def test_a_file_that_changes_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "growing.mp4"
        path.write_bytes(DEMO.read_bytes())

        def grow(_: Progress) -> None:
            with path.open("ab") as file:
                file.write(b"more")

        with Scanner(ScanSettings()) as opened, pytest.raises(SourceUnreadableError, match="changed while"):
            opened.scan(path, progress=grow)

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"sampling": "fast"}, "Use one of uniform, adaptive, keyframes, all"),
            ({"fps": Fraction(0)}, "Invalid fps"),
            ({"max_gap": Fraction(-1)}, "Invalid max-gap"),
            ({"workers": 0}, "Invalid workers"),
            ({"start": Fraction(5), "end": Fraction(5)}, "must lie after start"),
            ({"start": Fraction(-5)}, "Invalid start"),
            ({"stop_at": "pass"}, "Invalid stop-at"),
            ({"models": ()}, "Name at least one"),
            ({"models": ("magic",)}, "Invalid model"),
        ],
    )
    def test_wrong_settings(self, settings: dict[str, Any], expected: str) -> None:
        with pytest.raises(UsageError, match=expected):
            vidmod.scan(DEMO, **settings)


class TestThreads:
    def test_an_error_while_inferring_ends_the_reading(self, tmp_path: Path) -> None:
        def fail(_: Progress) -> None:
            raise RuntimeError("stop")

        with Scanner(ScanSettings()) as opened, pytest.raises(RuntimeError, match="stop"):
            opened.scan(DEMO, progress=fail)
        assert [thread.name for thread in threading.enumerate() if "demo" in thread.name] == []

    def test_progress_is_told(self, scanner: Scanner) -> None:
        seen: list[Progress] = []
        scanner.scan(DEMO, progress=seen.append)
        assert [state.position_seconds for state in seen] == sorted(state.position_seconds for state in seen)
        assert seen[-1].samples == 73
        assert seen[-1].duration_seconds == pytest.approx(36.0, abs=0.1)
        assert seen[-1].speed > 0


def test_spans_are_looked_at_picture_by_picture(tmp_path: Path) -> None:
    spans = ((Fraction(1), Fraction(2)), (Fraction(3), Fraction(7, 2)))
    video = make_sample("calm", tmp_path, width=160, height=90, fps=10, seconds=5)
    classifier = write_classifier(tmp_path)
    with Scanner(ScanSettings(models=(str(classifier),), sampling="all", spans=spans)) as scanner:
        timeline = scanner.scan(video)
    assert [sample.time_seconds for sample in timeline.samples] == pytest.approx(
        [*(1 + n / 10 for n in range(10)), *(3 + n / 10 for n in range(5))]
    )
    assert timeline.status == "partial"
    with pytest.raises(UsageError, match="sampling 'all'"):
        ScanSettings(spans=spans)


def test_it_says_when_the_earliest_stream_begins(tmp_path: Path) -> None:
    """Players call that 0; here the sound begins half a second before the pictures."""
    path = make(tmp_path / "film.ts", Video(times=range(12, 32)), sound_seconds=1.5)
    with Scanner(ScanSettings(models=(str(write_classifier(tmp_path)),))) as scanner:
        source = scanner.scan(path).source
    with av.open(str(path)) as container:
        assert container.start_time is not None
        assert source["container_start_seconds"] == pytest.approx(container.start_time / 1e6, abs=1e-6)
    assert source["start_seconds"] - source["container_start_seconds"] == pytest.approx(12 / 25, abs=0.03)
