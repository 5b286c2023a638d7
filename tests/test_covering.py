"""What is covered, decided on values alone: samples, segments and tracks to rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from vidmod.policy import Category, Policy
from vidmod.predictions import Box, Detection, Predictions, Scores
from vidmod.redacting.covering import Covered, Rules, cover, still_tracked, still_visible
from vidmod.redacting.messages import Covering
from vidmod.targets import Targets
from vidmod.timebase import Span
from vidmod.timeline import Sample, Segment
from vidmod.tracking import Tracking

RATE, SIZE = 25, (640, 360)
BASE = Fraction(1, RATE)
LABEL = "FACE"
BOX: Box = (300.0, 100.0, 360.0, 180.0)
TARGETS = Targets((Category("faces", (LABEL,), 0.4, 0.4),), Policy.default())


def samples(count: int, seen: Sequence[int], box: Box = BOX) -> list[Sample]:
    """One for every picture; a face in some of them."""
    face = Detection("nudenet", LABEL, 0.9, box)
    return [
        Sample(number, number / RATE, 1 / RATE, Predictions((), (face,) if number in seen else ()))
        for number in range(count)
    ]


def segment(start: float, end: float, category: str = "faces") -> Segment:
    return Segment("s1", category, "block", "cover", start, end, 0.9, 0.9, {LABEL: 0.9})


def decide(looked: Sequence[Sample], **rules: Any) -> Covered:
    chosen = Rules(targets=TARGETS, tracking=Tracking(), **rules)
    return cover(looked, SIZE, BASE, Span(0.0, len(looked) / RATE), chosen)


def whole(covered: Covered) -> list[int]:
    return [row.pts for row in covered.rows if row.whole]


def boxed(covered: Covered) -> list[int]:
    return [row.pts for row in covered.rows if row.boxes]


class TestASegmentThatAReviewerLeft:
    """A face for two seconds, nothing for four, and a face for two: no track goes across."""

    SEEN = (*range(25, 75), *range(175, 225))
    SCANNED = segment(0.75, 9.25)

    def test_pictures_without_a_box_inside_of_it_are_covered_whole(self) -> None:
        covered = decide(samples(250, self.SEEN), truth=(self.SCANNED,), scanned=(self.SCANNED,))
        gap = [pts for pts in range(75, 175) if pts not in boxed(covered)]
        assert len(gap) > 2 * RATE
        assert whole(covered) == gap

    def test_where_a_scan_put_its_borders_close_looks_know_better(self) -> None:
        covered = decide(samples(250, range(25, 75)), truth=(segment(0.5, 3.3),), scanned=(segment(0.5, 3.3),))
        assert whole(covered) == []
        assert set(range(25, 75)) < set(boxed(covered))

    @pytest.mark.parametrize(
        ("start", "end", "expected"), [(0.25, 3.3, range(6, 25)), (0.5, 3.9, range(75, 98))], ids=["start", "end"]
    )
    def test_a_border_that_a_reviewer_moved_is_where_it_is(self, start: float, end: float, expected: range) -> None:
        covered = decide(samples(250, range(25, 75)), truth=(segment(start, end),), scanned=(segment(0.5, 3.3),))
        assert whole(covered) == [pts for pts in expected if pts not in boxed(covered)]
        assert len(whole(covered)) > RATE / 3

    def test_what_goes_on_beyond_a_border_that_a_reviewer_moved_is_not_covered(self) -> None:
        looked, scanned = samples(250, range(25, 175)), (segment(1.0, 7.0),)
        assert max(boxed(decide(looked, truth=(segment(1.0, 5.0),), scanned=scanned))) == 124
        assert max(boxed(decide(looked, truth=scanned, scanned=scanned))) > 174

    def test_what_a_classifier_blocks_ends_where_a_reviewer_ended_it(self) -> None:
        targets = Targets((Category("nsfw", ("net.nsfw",), 0.2, 0.8),), Policy.default())
        bad = Predictions(scores=(Scores("net", {"nsfw": 0.99}),))
        looked = [Sample(pts, pts / RATE, 1 / RATE, bad if 25 <= pts < 175 else Predictions()) for pts in range(250)]
        scanned = Segment("s1", "nsfw", "block", "cover", 1.0, 6.8, 0.99, 0.99, {"nsfw": 0.99})
        moved = dataclasses.replace(scanned, end_seconds=5.0)
        for truth, end in ((scanned, 175), (moved, 125)):
            rules = Rules(targets, Tracking(), truth=(truth,), scanned=(scanned,))
            assert whole(cover(looked, SIZE, BASE, Span(0.0, 10.0), rules)) == list(range(25, end))

    def test_a_border_of_the_scan_far_from_all_boxes_counts(self) -> None:
        covered = decide(samples(250, range(25, 75)), truth=(segment(1.0, 6.0),), scanned=(segment(1.0, 6.0),))
        assert set(range(100, 150)) <= set(whole(covered))

    def test_a_segment_of_a_category_with_the_label_counts_like_one_of_that_name(self) -> None:
        other = segment(0.75, 9.25, category="explicit")
        covered = decide(samples(250, self.SEEN), truth=(other,), scanned=(other,))
        assert whole(covered)

    def test_outside_of_it_nothing_is_covered_whole(self) -> None:
        covered = decide(samples(250, self.SEEN), truth=(segment(1.0, 3.0),), scanned=())
        assert whole(covered) == []
        assert max(boxed(covered)) < 100


class TestWhatStillShows:
    """A thing of which only some looks are sure enough, in a file whose cover lies elsewhere."""

    COVER = (200.0, 200.0, 260.0, 260.0)

    def seen(self, scores: Sequence[float], box: Box = BOX) -> list[Sample]:
        return [
            Sample(number, number / RATE, 1 / RATE, Predictions((), (Detection("nudenet", LABEL, score, box),)))
            for number, score in enumerate(scores)
        ]

    def rows(self, box: Box, count: int) -> list[Covering]:
        return [Covering(pts=pts, whole=False, boxes=[box]) for pts in range(count)]

    def test_it_is_covered_where_it_is_not_quite_as_sure_too(self) -> None:
        scores = [0.35] * 10 + [0.45] + [0.38] * 10
        samples, rows = self.seen(scores), self.rows(self.COVER, len(scores))
        rules = Rules(TARGETS, Tracking())
        assert [row.pts for row in still_visible(samples, rows, rules)] == [10]
        found = still_tracked(samples, rows, SIZE, BASE, rules)
        assert {row.pts for row in found} == set(range(len(scores)))
        for row in found:
            (box,) = row.boxes
            assert box[0] <= BOX[0]
            assert box[3] >= BOX[3]

    def test_covers_are_not_followed(self) -> None:
        samples = self.seen([0.9] * 20, self.COVER)
        rules = Rules(TARGETS, Tracking())
        assert still_tracked(samples, self.rows(self.COVER, 20), SIZE, BASE, rules) == ()
        whole = [Covering(pts=pts, whole=True, boxes=[]) for pts in range(20)]
        assert still_tracked(samples, whole, SIZE, BASE, rules) == ()

    def test_nor_is_what_a_reviewer_has_rejected(self) -> None:
        samples = self.seen([0.9] * 20)
        rules = Rules(TARGETS, Tracking(), truth=())
        assert still_tracked(samples, [], SIZE, BASE, rules) == ()


class TestABoxThatAReviewerDismissed:
    """Two faces for six seconds, side by side; one is not to be covered."""

    OTHER: Box = (100.0, 100.0, 160.0, 180.0)
    TRUTH = (segment(1.0, 7.0),)

    def looked(self, shift: float = 0.0) -> list[Sample]:
        near = (self.OTHER[0] + shift, self.OTHER[1], self.OTHER[2] + shift, self.OTHER[3])
        faces = (Detection("nudenet", LABEL, 0.9, BOX), Detection("nudenet", LABEL, 0.9, near))
        return [
            Sample(number, number / RATE, 1 / RATE, Predictions((), faces if 25 <= number < 175 else ()))
            for number in range(250)
        ]

    def dismissed(self, start: float, end: float, label: str = LABEL) -> tuple[dict[str, Any], ...]:
        rows = [{"pts": 0, "time_seconds": 0.0, "box": list(self.OTHER)}]
        return ({"id": "d1", "label": label, "start_seconds": start, "end_seconds": end, "boxes": rows},)

    def covered_at(self, covered: Covered, pts: int) -> set[bool]:
        """Whether the dismissed face lies under a box, and the other one."""
        row = next(row for row in covered.rows if row.pts == pts)
        assert not row.whole
        return {box[0] < 200 for box in row.boxes}

    def test_it_is_not_covered_and_the_other_is(self) -> None:
        covered = decide(self.looked(), truth=self.TRUTH, scanned=self.TRUTH, dismissed=self.dismissed(0.0, 10.0))
        assert all(self.covered_at(covered, pts) == {False} for pts in range(25, 175))

    def test_only_while_it_is_dismissed(self) -> None:
        covered = decide(self.looked(), truth=self.TRUTH, scanned=self.TRUTH, dismissed=self.dismissed(0.0, 3.0))
        assert self.covered_at(covered, 50) == {False}
        assert all(self.covered_at(covered, pts) == {False, True} for pts in range(75, 175))

    @pytest.mark.parametrize(("shift", "label"), [(40.0, LABEL), (0.0, "BELLY")], ids=["elsewhere", "another label"])
    def test_what_is_something_else_is_covered(self, shift: float, label: str) -> None:
        gone = self.dismissed(0.0, 10.0, label)
        covered = decide(self.looked(shift), truth=self.TRUTH, scanned=self.TRUTH, dismissed=gone)
        assert self.covered_at(covered, 100) == {False, True}

    def test_where_it_was_the_only_one_the_picture_is_not_covered_whole(self) -> None:
        looked = samples(250, range(25, 175), self.OTHER)
        covered = decide(looked, truth=self.TRUTH, scanned=self.TRUTH, dismissed=self.dismissed(0.0, 3.0))
        assert not [row for row in covered.rows if row.pts < 50]
        assert set(range(75, 175)) <= set(boxed(covered))

    def test_nothing_shows_of_it_in_a_second_look(self) -> None:
        rules = Rules(TARGETS, Tracking(), truth=self.TRUTH, scanned=self.TRUTH, dismissed=self.dismissed(0.0, 10.0))
        shown = still_visible(samples(250, range(25, 175), self.OTHER), [], rules)
        assert shown == []
