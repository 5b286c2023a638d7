from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.timelines import sample, stream, timeline
from tests.yardstick import yards
from vidmod.errors import PolicyError
from vidmod.judging import judge, verdict_of
from vidmod.policy import Category, Policy
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.smoothing import Smoothing

POLICY = """
schema = "vidmod.policy/1"
name = "mine"
[categories.nudity]
labels = ["FEMALE_BREAST_EXPOSED", "open_nsfw.nsfw"]
review = 0.4
block = 0.7
"""


class TestPolicy:
    def test_the_default_policy_is_valid_and_round_trips(self) -> None:
        policy = Policy.default()
        assert [category.name for category in policy.categories] == ["nsfw", "explicit"]
        assert Policy.from_document(policy.as_document(), "again") == policy

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("review = 0.4", "review = 1.4", "categories.nudity.review"),
            ("review = 0.4", "review = 0.9", "review (0.9) must not exceed block (0.7)"),
            ("review = 0.4", "revue = 0.4", "categories.nudity: "),
            ("block = 0.7", "", "block"),
            ('name = "mine"', 'name = "mine"\n[smoothing]\nmethod = "magic"', "smoothing.method"),
            ('name = "mine"', 'name = "mine"\n[smoothing]\nonset = 4.0', "smoothing"),
            ('name = "mine"', 'name = "mine"\n[smoothing]\nspeed = 4.0', "smoothing"),
            ("[categories.nudity]", "[[categories]]", "categories"),
            ("vidmod.policy/1", "vidmod.policy/9", "schema"),
            ('name = "mine"', "name = ", "is not TOML"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path: Path, old: str, new: str, expected: str) -> None:
        path = tmp_path / "policy.toml"
        path.write_text(POLICY.replace(old, new, 1), "utf-8")
        with pytest.raises(PolicyError) as caught:
            Policy.read(path)
        assert str(path) in str(caught.value)
        assert expected in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(PolicyError, match="no such policy file"):
            Policy.read(tmp_path / "none.toml")

    def test_labels_of_any_model_count(self) -> None:
        category = Category("c", ("a.X", "Y"), 0.5, 0.8)
        predictions = Predictions(
            scores=(Scores("a", {"X": 0.3, "Z": 1.0}), Scores("b", {"X": 0.9, "Y": 0.4})),
            detections=(Detection("d", "Y", 0.6, (0, 0, 1, 1)), Detection("d", "X", 0.99, (0, 0, 1, 1))),
        )
        assert category.label_scores(predictions) == {"X": 0.3, "Y": 0.6}
        assert category.best_label(predictions) == ("Y", 0.6)

    def test_an_own_model_is_judged_by_its_manifest(self) -> None:
        policy = Policy.default().with_models(
            {"redness": {"red": {"review": 0.6, "block": 0.9}}, "nudenet": {"FACE_MALE": {"review": 0.5, "block": 0.9}}}
        )
        added = policy.categories[2:]
        assert [(item.name, item.labels, item.review, item.block) for item in added] == [
            ("redness_red", ("redness.red",), 0.6, 0.9),
            ("nudenet_FACE_MALE", ("nudenet.FACE_MALE",), 0.5, 0.9),
        ]


class TestSegments:
    def test_a_stretch_becomes_one_segment(self) -> None:
        samples = [sample(t / 2, 0.95 if 10 <= t < 16 else 0.01) for t in range(40)]
        (found,) = judge(timeline(stream(samples)), Policy.default()).segments
        assert (found.id, found.category, found.verdict) == ("s1", "nsfw", "block")
        assert found.start_seconds == pytest.approx(5.0, abs=0.3)
        assert found.end_seconds == pytest.approx(7.75, abs=0.3)
        assert (found.peak, found.mean) == (0.95, 0.95)
        assert found.labels == {"nsfw": 0.95}

    def test_between_the_thresholds_a_person_looks(self) -> None:
        samples = [sample(t / 2, 0.5 if 10 <= t < 16 else 0.01) for t in range(40)]
        judged = judge(timeline(stream(samples)), Policy.default())
        assert [segment.verdict for segment in judged.segments] == ["review"]
        assert judged.verdict == "review"

    def test_detections_enter_as_the_best_of_each_sample(self) -> None:
        rows = [("FEMALE_BREAST_EXPOSED", 0.7), ("BUTTOCKS_EXPOSED", 0.5), ("FACE_FEMALE", 0.99)]
        samples = [sample(t / 2, 0.01, *(rows if 10 <= t < 14 else [])) for t in range(40)]
        (found,) = judge(timeline(stream(samples)), Policy.default()).segments
        assert found.category == "explicit"
        assert found.labels == {"FEMALE_BREAST_EXPOSED": 0.7, "BUTTOCKS_EXPOSED": 0.5}
        assert found.peak == 0.7

    def test_a_lone_peak_is_never_dropped_unseen(self) -> None:
        """Whatever the smoother makes of one sample, a reviewer gets to see it."""
        samples = [sample(t / 2, 0.85 if t == 20 else 0.001) for t in range(40)]
        severe = Smoothing(min_duration_on=5.0)
        keep = dataclasses.replace(Policy.default(), smoothing=severe)
        (found,) = judge(timeline(stream(samples)), keep).segments
        assert found.verdict == "review"
        assert (found.start_seconds, found.end_seconds) == (10.0, 10.04)
        drop = dataclasses.replace(keep, lone_peaks="ignore")
        assert judge(timeline(stream(samples)), drop).segments == ()

    def test_other_streams_are_judged_too(self) -> None:
        calm = stream([sample(t / 2, 0.01) for t in range(10)])
        cover = stream([sample(0.0, 0.99)], number=2, kind="cover")
        judged = judge(timeline(calm, cover), Policy.default())
        (found,) = judged.segments
        assert (found.stream, found.kind, found.verdict) == (2, "cover", "block")
        assert judged.verdict == "block"

    def test_min_duration_drops_short_segments(self) -> None:
        samples = [sample(t / 10, 0.6 if 50 <= t < 56 else 0.01) for t in range(200)]
        default = Policy.default()
        longer = dataclasses.replace(
            default, categories=tuple(dataclasses.replace(item, min_duration=2.0) for item in default.categories)
        )
        assert len(judge(timeline(stream(samples)), default).segments) == 1
        assert judge(timeline(stream(samples)), longer).segments == ()

    @pytest.mark.parametrize("method", ["hmm", "ema", "median", "none"])
    def test_every_method_finds_a_plain_stretch(self, method: str) -> None:
        samples = [sample(t / 2, 0.95 if 10 <= t < 20 else 0.01) for t in range(40)]
        policy = dataclasses.replace(Policy.default(), smoothing=Smoothing(method=method))
        (found,) = judge(timeline(stream(samples)), policy).segments
        assert found.start_seconds == pytest.approx(5.0, abs=1.0)
        assert found.end_seconds == pytest.approx(10.0, abs=1.0)

    def test_a_still_image_is_one_segment(self) -> None:
        (found,) = judge(timeline(stream([sample(0.0, 0.99)])), Policy.default()).segments
        assert (found.start_seconds, found.end_seconds) == (0.0, 0.04)


def test_nothing_unknown_passes() -> None:
    assert verdict_of([], "complete") == "pass"
    assert verdict_of([], "partial") == "review"
    assert verdict_of([], "unscannable") == "review"


def test_two_hours_are_judged_well_under_a_second() -> None:
    samples = [
        sample(t / 2, 0.9 if t % 700 < 20 else 0.02, *([("FEMALE_BREAST_EXPOSED", 0.5)] if t % 500 < 9 else []))
        for t in range(14_400)
    ]
    film = timeline(stream(samples))
    judged, took = yards(lambda: judge(film, Policy.default()))
    assert took < 20  # measured: 2
    assert len(judged.segments) > 20
