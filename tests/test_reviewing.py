"""What a person decides, kept beside what the machine found."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from tests.timelines import sample, stream, timeline
from vidmod import judge
from vidmod.errors import TimelineError
from vidmod.reviewing import decisions, dismissed, machine_segments, reviewed
from vidmod.timeline import Json, Segment, Timeline

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BREAST = ("FEMALE_BREAST_EXPOSED", 0.9)
BOX = {"pts": 2000, "time_seconds": 2.0, "box": [1.0, 2.0, 30.0, 40.5]}
TRACK: Json = {"id": "r1", "label": "ADDED", "start_seconds": 1.0, "end_seconds": 3.0, "boxes": [BOX]}


@pytest.fixture
def scanned() -> Timeline:
    """Two segments: one of a detector, one of a classifier."""
    rows = [sample(t / 2, 0.99 if t >= 20 else 0.01, *([BREAST] if 4 <= t < 10 else []), shown=0.5) for t in range(40)]
    found = judge(timeline(stream(rows)))
    assert [row.category for row in found.segments] == ["explicit", "nsfw"]
    return found


def decide(before: Timeline, *segments: Segment, **more: object) -> Timeline:
    return reviewed(before, segments, reviewer="Ada", at=AT, tool="a test", **more)  # type: ignore[arg-type]


def test_every_decision_has_its_name_and_the_machines_part_stays(scanned: Timeline) -> None:
    first, second = scanned.segments
    third = dataclasses.replace(first, id="added", start_seconds=15.0, end_seconds=16.0)
    after = decide(scanned, dataclasses.replace(second, end_seconds=12.25), third, notes={"s1": "a sculpture"})
    assert decisions(after) == {"s1": "rejected", "s2": "changed", "added": "added"}
    assert [row.id for row in after.segments] == ["s2", "added"]
    assert machine_segments(after) == scanned.segments
    assert after.review is not None
    assert after.review["machine"]["verdict"] == scanned.verdict
    assert after.review["decisions"][0] == {"segment": "s1", "decision": "rejected", "note": "a sculpture"}
    assert after.review["reviewer"] == "Ada"
    assert after.review["reviewed"] == "2026-11-21T12:00:00+00:00"


def test_a_second_review_starts_from_what_the_machine_found(scanned: Timeline) -> None:
    once = decide(scanned, scanned.segments[1])
    twice = decide(once, *scanned.segments)
    assert decisions(twice) == {"s1": "accepted", "s2": "accepted"}
    assert machine_segments(twice) == scanned.segments


def test_what_nobody_decided_stays_as_it_is(scanned: Timeline) -> None:
    after = decide(scanned, *scanned.segments, undecided=["s2"])
    assert decisions(after) == {"s1": "accepted"}
    assert after.segments == scanned.segments


def test_all_rejected_passes_only_if_all_was_looked_at(scanned: Timeline) -> None:
    assert decide(scanned).verdict == "pass"
    assert decide(dataclasses.replace(scanned, status="partial")).verdict == "review"


def test_it_survives_being_written_and_read(scanned: Timeline) -> None:
    after = decide(scanned, *scanned.segments, tracks=[TRACK], dismissed=[TRACK])
    again = Timeline.from_document(json.loads("".join(after.dumps())))
    assert again == after
    assert again.tracks == dismissed(again) == (TRACK,)


def test_judging_again_leaves_it_out(scanned: Timeline) -> None:
    after = decide(scanned, tracks=[TRACK])
    assert judge(after) == scanned


def test_segments_that_make_no_sense_are_refused(scanned: Timeline) -> None:
    first = scanned.segments[0]
    with pytest.raises(TimelineError, match="two have the id 's1'"):
        decide(scanned, first, first)
    with pytest.raises(TimelineError, match=r"'s1' ends at 2\.0 s"):
        decide(scanned, dataclasses.replace(first, start_seconds=2.0, end_seconds=2.0))
    with pytest.raises(TimelineError, match="'s2' is undecided"):
        decide(scanned, first, undecided=["s2"])
