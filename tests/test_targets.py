from __future__ import annotations

import pytest

from vidmod.errors import UsageError
from vidmod.policy import Policy
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.targets import Targets
from vidmod.timebase import Span
from vidmod.timeline import Sample, StreamScan, Timeline

DEFAULT = Policy.default()


def sample(at: float, nsfw: float = 0.0, *found: tuple[str, float], seconds: float = 0.04) -> Sample:
    boxes = tuple(Detection("nudenet", label, score, (0.0, 0.0, 10.0, 10.0)) for label, score in found)
    return Sample(round(at * 1000), at, seconds, Predictions((Scores("open_nsfw", {"nsfw": nsfw}),), boxes))


def timeline(*samples: Sample) -> Timeline:
    stream = StreamScan(0, "video", {}, (), samples, {})
    return Timeline({}, "complete", "pass", (), (), (), (stream,), {})


class TestOfLabels:
    def test_a_label_of_the_policy_has_its_threshold(self) -> None:
        targets = Targets.of_labels(["BUTTOCKS_EXPOSED", "FACE_FEMALE"], DEFAULT)
        assert [(row.review, row.block) for row in targets.categories] == [(0.4, 0.6), (0.4, 0.4)]

    def test_none_is_refused(self) -> None:
        with pytest.raises(UsageError, match="Name at least one"):
            Targets.of_labels([], DEFAULT)

    def test_only_its_labels_are_covered(self) -> None:
        targets = Targets.of_labels(["FACE_FEMALE"], DEFAULT)
        found = sample(0, 0.0, ("FACE_FEMALE", 0.5), ("FEET_EXPOSED", 0.9), ("FACE_FEMALE", 0.1)).predictions
        assert [item.score for item in targets.boxes(found)] == [0.5]

    def test_a_weak_detection_is_given_but_not_certain(self) -> None:
        targets = Targets.of_labels(["FACE_FEMALE"], DEFAULT)
        (item,) = targets.boxes(sample(0, 0.0, ("FACE_FEMALE", 0.3)).predictions)
        assert not targets.is_box_certain(item)


class TestOfPolicy:
    def test_a_policy_that_covers_nothing_is_refused(self) -> None:
        text = 'schema = "vidmod.policy/1"\nname = "tell"\n[categories.faces]\nlabels = ["FACE_FEMALE"]\n'
        policy = Policy.parse(text + 'review = 0.4\nblock = 0.5\naction = "report"\n', "tell.toml")
        with pytest.raises(UsageError, match="cover"):
            Targets.of_policy(policy)

    def test_categories_of_another_action_are_left_alone(self) -> None:
        text = 'schema = "vidmod.policy/1"\nname = "both"\n'
        for name, label, action in (("faces", "FACE_FEMALE", "report"), ("feet", "FEET_EXPOSED", "cover")):
            text += f'[categories.{name}]\nlabels = ["{label}"]\nreview = 0.4\nblock = 0.5\naction = "{action}"\n'
        targets = Targets.of_policy(Policy.parse(text, "both.toml"))
        found = sample(0, 0.0, ("FACE_FEMALE", 0.9), ("FEET_EXPOSED", 0.9)).predictions
        assert [item.label for item in targets.boxes(found)] == ["FEET_EXPOSED"]


class TestWhole:
    def test_what_the_classifier_blocks(self) -> None:
        rows = [sample(n * 0.04, 0.95 if 25 <= n < 75 else 0.02) for n in range(100)]
        (span,) = Targets.of_policy(DEFAULT).whole(rows)
        assert span.start == pytest.approx(1.0, abs=0.02)
        assert span.end == pytest.approx(3.0, abs=0.02)

    def test_a_lone_sure_sample_is_covered(self) -> None:
        rows = [sample(n * 0.04, 0.9 if n == 50 else 0.02) for n in range(100)]
        assert Targets.of_policy(DEFAULT).whole(rows) == [Span(2.0, 2.04)]

    def test_detections_cover_no_whole_picture(self) -> None:
        rows = [sample(n * 0.04, 0.02, ("BUTTOCKS_EXPOSED", 0.9)) for n in range(100)]
        assert Targets.of_policy(DEFAULT).whole(rows) == []


class TestStretches:
    def test_from_the_sample_before_to_the_sample_after(self) -> None:
        found = timeline(sample(0), sample(2), sample(4, 0.0, ("BUTTOCKS_EXPOSED", 0.5)), sample(6), sample(8))
        assert Targets.of_policy(DEFAULT).stretches(found) == [Span(2.04, 6)]

    def test_half_a_second_where_samples_are_close(self) -> None:
        rows = [sample(n / 10, 0.9 if n == 50 else 0.0) for n in range(100)]
        (span,) = Targets.of_policy(DEFAULT).stretches(timeline(*rows))
        assert span.start == pytest.approx(4.5)
        assert span.end == pytest.approx(5.54)

    def test_nothing_where_nothing_was_found(self) -> None:
        assert Targets.of_policy(DEFAULT).stretches(timeline(sample(0), sample(2, 0.1))) == []
