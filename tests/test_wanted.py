"""What is wanted of a redaction, decided on values alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.timelines import sample, stream, timeline
from vidmod import Policy, RedactSettings, Timeline, judge
from vidmod.models import find
from vidmod.redacting.wanted import Wanted
from vidmod.timeline import Segment

MANIFESTS = [find("open_nsfw"), find("nudenet")]
BREAST = ("FEMALE_BREAST_EXPOSED", 0.9)


@pytest.fixture
def scanned() -> Timeline:
    """A detector's segment, then a classifier's."""
    rows = [sample(t / 2, 0.99 if t >= 20 else 0.01, *([BREAST] if 4 <= t < 10 else []), shown=0.5) for t in range(40)]
    found = judge(timeline(stream(rows)))
    models = [{"name": item.name} for item in MANIFESTS]
    return dataclasses.replace(found, provenance={**found.provenance, "models": models})


def models(given: Timeline | None, **settings: Any) -> set[str]:
    """Of which anything matters to a close look."""
    wanted = Wanted(Path("film.mp4"), RedactSettings(**settings), Policy.default(), MANIFESTS, given)
    return {
        item.name
        for item in MANIFESTS
        for targets in wanted.looked_for()
        if targets.wants(item.name, item.output.report)
    }


def test_a_close_look_is_for_what_a_reviewer_left(scanned: Timeline) -> None:
    detected, classified = scanned.segments
    assert models(scanned) == {"open_nsfw", "nudenet"}
    assert models(dataclasses.replace(scanned, segments=(detected,))) == {"nudenet"}
    assert models(dataclasses.replace(scanned, segments=(classified,))) == {"open_nsfw"}
    assert models(dataclasses.replace(scanned, segments=())) == set()


def test_a_segment_is_known_by_its_labels_too(scanned: Timeline) -> None:
    by_hand = Segment("r1", "mine", "block", "cover", 1.0, 2.0, 1.0, 1.0, {BREAST[0]: 1.0})
    assert models(dataclasses.replace(scanned, segments=(by_hand,))) == {"nudenet"}
    unlabelled = dataclasses.replace(by_hand, labels={})
    assert models(dataclasses.replace(scanned, segments=(unlabelled,))) == set()


def test_without_a_timeline_it_is_for_all(scanned: Timeline) -> None:
    assert models(None) == {"open_nsfw", "nudenet"}
    assert models(None, labels=["FACE_FEMALE"]) == {"nudenet"}


def test_what_a_timeline_does_not_judge_is_looked_for_beside_it(scanned: Timeline) -> None:
    given = dataclasses.replace(scanned, segments=scanned.segments[1:])
    assert models(given, labels=["nsfw", "FACE_FEMALE"]) == {"open_nsfw", "nudenet"}


def test_a_reviewers_own_category_is_covered_unless_its_action_says_otherwise(scanned: Timeline) -> None:
    mine = Segment("r1", "mine", "block", "cover", 1.0, 2.0, 1.0, 1.0, {})
    others = [dataclasses.replace(mine, id="r2", action="report"), dataclasses.replace(mine, id="r3", stream=1)]
    given = dataclasses.replace(scanned, segments=(mine, *others))
    wanted = Wanted(Path("film.mp4"), RedactSettings(), Policy.default(), MANIFESTS, given)
    assert wanted.accepted() == [mine]
    assert [(span.start, span.end) for span in wanted.slated(given)] == [(1.0, 2.0)]
