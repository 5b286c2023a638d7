"""What a live filter covers, by a policy and the command line."""

from __future__ import annotations

import pytest

from vidmod.errors import PolicyError, UsageError
from vidmod.live.filtering.rules import Rules
from vidmod.policy import Policy
from vidmod.predictions import Detection, Predictions, Scores

HEAD = (
    'schema = "vidmod.policy/1"\nname = "test"\n[categories.faces]\nlabels = ["net.FACE"]\nreview = 0.4\nblock = 0.6\n'
)


def rules(more: str = "", labels: tuple[str, ...] = (), hold: float = 2.0) -> Rules:
    return Rules.of(Policy.parse(HEAD + more, "test"), labels, hold)


def face(score: float) -> Predictions:
    return Predictions(detections=(Detection("net", "FACE", score, (0.0, 0.0, 9.0, 9.0)),))


def scored(score: float) -> Predictions:
    return Predictions(scores=(Scores("net", {"FACE": score}),))


def holds(found: Rules, predictions: Predictions) -> list[float]:
    return [row.hold_seconds for row in found.cover_all if row.is_met(predictions)]


def test_without_a_word_boxes_begin_at_review_and_everything_at_block() -> None:
    found = rules()
    assert found.targets.categories[0].review == 0.4
    assert holds(found, face(0.59)) == []
    assert holds(found, face(0.6)) == [2.0]


def test_a_category_says_what_live_does() -> None:
    found = rules("[categories.faces.live]\nboxes = 0.3\neverything = 0.9\nhold_seconds = 7\n")
    assert found.targets.categories[0].review == 0.3
    assert holds(found, face(0.89)) == []
    assert holds(found, face(0.9)) == [7.0]
    # A person is shown what the policy says, not what is covered to be on the safe side.
    assert not found.is_hit(face(0.35))
    assert found.is_hit(face(0.4))


def test_never_is_never() -> None:
    found = rules('[categories.faces.live]\neverything = "never"\n')
    assert holds(found, face(1.0)) == []
    assert found.targets.boxes(face(0.5))


def test_labels_are_covered_where_they_are() -> None:
    found = rules(labels=("FACE",))
    assert holds(found, face(1.0)) == []
    assert holds(found, scored(0.6)) == [2.0]


def test_it_comes_back_from_a_document() -> None:
    policy = Policy.parse(HEAD + "[categories.faces.live]\nboxes = 0.3\nhold_seconds = 0\n", "test")
    assert Policy.from_document(policy.as_document(), "again") == policy
    assert "live" not in Policy.default().as_document()["categories"]["nsfw"]


@pytest.mark.parametrize(
    "more",
    ["boxes = 0.7", "everything = 0.3", 'everything = "sometimes"', "hold_seconds = -1", "boxes = 0", "other = 1"],
)
def test_what_makes_no_sense_is_refused(more: str) -> None:
    with pytest.raises(PolicyError, match=r"categories\.faces|live"):
        rules(f"[categories.faces.live]\n{more}\n")


def test_nothing_to_cover_is_refused() -> None:
    with pytest.raises(UsageError, match="cover"):
        rules('action = "report"\n')
