"""Frames, links, names and shapes, by themselves."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.annotated import LABELS, TEXTS, film, looked, of_samples, shown_of
from vidmod.annotations import Frames, Key, Names, Run, clean
from vidmod.annotations.linking import link
from vidmod.annotations.shapes import box_at, differing, joined, part
from vidmod.predictions import Box, Detection
from vidmod.timeline import Timeline

RATES = st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(1, 4), Fraction(240)])
LEFT, RIGHT = (0.0, 0.0, 100.0, 100.0), (300.0, 0.0, 400.0, 100.0)


def moved(box: Box, by: float) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


class TestFrames:
    @given(rate=RATES, first=st.sampled_from([0.0, 10.0, -3.5]), frame=st.integers(0, 99_999))
    def test_there_and_back(self, rate: Fraction, first: float, frame: int) -> None:
        frames = Frames(first, first + 100_000 / float(rate), rate, 100_000)
        assert frames.at(frames.seconds(frame)) == frames.since(frames.seconds(frame)) == frame
        # as Matroska rounds
        if rate < 60:
            assert frames.at(round(frames.seconds(frame), 3)) == frames.since(round(frames.seconds(frame), 3)) == frame

    @given(rate=RATES, seconds=st.floats(allow_nan=False, allow_infinity=False))
    def test_whatever_the_time(self, rate: Fraction, seconds: float) -> None:
        frames = Frames(0.0, 10.0, rate, 40)
        assert 0 <= frames.at(seconds) < 40
        assert 0 <= frames.since(seconds) <= 40

    def test_a_frame_since_is_shown_then_or_later(self) -> None:
        frames = Frames(10.0, 14.0, Fraction(25), 100)
        assert [frames.since(10 + at) for at in (0.0, 0.001, 0.02, 0.04, 3.97, 9.0)] == [0, 0, 1, 1, 100, 100]
        assert [frames.ended(frame) for frame in (5, 99, 100, None)] == [5, 99, None, None]

    @pytest.mark.parametrize(
        ("rate", "expected"),
        [("30000/1001", Fraction(30000, 1001)), ("0/0", 25), ("1/0", 25), (None, 25), ("9" * 40 + "/1", 25)],
    )
    def test_a_rate_that_is_none_is_that_of_the_pictures(self, rate: str | None, expected: Fraction) -> None:
        assert Frames.of(film(average_rate=rate)).rate == expected

    def test_a_count_that_was_cut_short_is_not_taken_for_the_films(self) -> None:
        made = film()
        for ledger, count in (({"packets": 500}, 500), ({"packets": 503, "hidden": 4}, 499), ({"packets": 40}, 500)):
            (stream,) = made.streams
            counted = dataclasses.replace(made, streams=(dataclasses.replace(stream, ledger=ledger),))
            assert Frames.of(counted).count == count
            assert Frames.of(dataclasses.replace(counted, status="partial")).count == 500


class TestNames:
    @given(st.lists(TEXTS))
    def test_every_name_is_short_different_and_leads_back(self, texts: list[str]) -> None:
        names = Names(texts, ("segment",))
        shown = [names.shown(text) for text in texts]
        assert list(names) == list(dict.fromkeys(shown))
        assert len(set(shown)) == len(set(texts))
        for text, name in zip(texts, shown, strict=True):
            assert names.original(name) == text
            assert 1 <= len(name) <= 64
            assert name == clean(name)
            assert name != "segment"
            assert not name.startswith("$")

    def test_a_plain_name_stays(self) -> None:
        assert list(Names(["FACE_FEMALE", "Nacktheit äöü", "a", "a"])) == ["FACE_FEMALE", "Nacktheit äöü", "a"]
        assert Names(["x"]).original("y") is None


class TestShapes:
    SHAPE = (
        Run((Key(10, LEFT), Key(20, moved(LEFT, 10.0))), 25),
        Run((Key(30, RIGHT),), None),
    )

    def test_where_it_is(self) -> None:
        found = [box_at(self.SHAPE, frame) for frame in (9, 10, 15, 20, 24, 25, 29, 30, 10_000)]
        assert found == [None, LEFT, moved(LEFT, 5.0), moved(LEFT, 10.0), moved(LEFT, 10.0), None, None, RIGHT, RIGHT]

    def test_the_same_line_with_more_keyframes_is_the_same(self) -> None:
        other = (
            Run(
                (Key(10, LEFT), Key(13, moved(LEFT, 3.01)), Key(20, moved(LEFT, 10.0)), Key(24, moved(LEFT, 10.0))), 25
            ),
            Run((Key(30, RIGHT), Key(99, RIGHT)), None),
        )
        assert differing(self.SHAPE, other) == []

    def test_where_they_differ(self) -> None:
        def against(*runs: Run) -> list[tuple[int, int | None]]:
            return differing(self.SHAPE, runs)

        assert against(self.SHAPE[0]) == [(25, None)]
        assert against(self.SHAPE[1]) == [(10, 25)]
        assert against(Run(self.SHAPE[0].keys, 26), self.SHAPE[1]) == [(24, 26)]
        assert against(self.SHAPE[0], Run((Key(30, moved(RIGHT, 1.0)),), None)) == [(25, None)]

    def test_a_part_keeps_its_line_at_both_ends(self) -> None:
        (run,) = part(self.SHAPE, 12, 18)
        assert [(key.frame, key.box) for key in run.keys] == [(12, moved(LEFT, 2.0)), (18, moved(LEFT, 8.0))]
        assert run.end == 18
        first, second = part(self.SHAPE, 0, None)
        assert ([first, second], part(self.SHAPE, 25, 30)) == ([*self.SHAPE], [])

    def test_what_overlaps_is_not_joined(self) -> None:
        assert joined([self.SHAPE[1:], self.SHAPE[:1]]) == list(self.SHAPE)
        assert joined([self.SHAPE, self.SHAPE[:1]]) is None


class TestLinking:
    @staticmethod
    def linked(*rows: list[Box], step: float = 0.5) -> list[list[tuple[int, ...]]]:
        """The frames of the keyframes of every track's runs."""
        found = [[Detection("m", "L", 0.9, box) for box in boxes] for boxes in rows]
        made = of_samples([looked(number * step, 0.0) for number in range(len(rows))], 0.0, len(rows) * step)
        tracks = link(made.samples, found, 0.5, Frames.of(made))
        return [[tuple(key.frame for key in run.keys) for run in track.runs] for track in tracks]

    def test_two_things_side_by_side(self) -> None:
        assert self.linked([LEFT, RIGHT], [RIGHT, LEFT], step=1.0) == [[(0, 25)], [(0, 25)]]

    def test_the_nearest_goes_first(self) -> None:
        near, far = moved(LEFT, 10), moved(LEFT, 40)
        assert self.linked([LEFT], [far, near], [moved(near, 10)], step=0.4) == [[(0, 10, 20)], [(10,)]]

    def test_one_sample_may_miss_it_and_two_may_not(self) -> None:
        assert self.linked([LEFT], [], [LEFT], step=0.4) == [[(0,), (20,)]]
        assert self.linked([LEFT], [], [], [LEFT], step=0.4) == [[(0,)], [(30,)]]

    def test_samples_that_are_far_apart_are_not_linked(self) -> None:
        assert self.linked([LEFT], [LEFT], step=1.0) == [[(0, 25)]]
        assert self.linked([LEFT], [LEFT], step=2.0) == [[(0,)], [(50,)]]

    def test_what_is_elsewhere_is_another_thing(self) -> None:
        assert self.linked([LEFT], [RIGHT], step=0.4) == [[(0,)], [(10,)]]
        # it has left its place, by less than half of its size
        assert self.linked([LEFT], [(105.0, 0.0, 140.0, 35.0)], step=0.4) == [[(0,)], [(10,)]]
        assert len(self.linked([(0.0, 0.0, 10.0, 10.0)], [(6.0, 0.0, 16.0, 10.0)], step=0.4)) == 1

    def test_boxes_without_area(self) -> None:
        point = (5.0, 5.0, 5.0, 5.0)
        assert self.linked([point], [point], step=0.4) == [[(0, 10)]]


def test_labels_that_the_policy_does_not_speak_of_are_not_shown() -> None:
    rows = [looked(at / 2, 0.0, ("FACE_FEMALE", 0.9, LEFT), (LABELS[0], 0.9, RIGHT)) for at in range(4)]
    made = of_samples(rows, 0.0, 2.0)
    assert [item.label for item in shown_of(made, "cvat").tracks] == [LABELS[0]]
    without = dataclasses.replace(made, provenance={**made.provenance, "policy": {}})
    assert [item.label for item in shown_of(without, "cvat").tracks] == ["FACE_FEMALE", LABELS[0]]


def test_the_digest_tells_what_is_shown_apart() -> None:
    def digest(made: Timeline) -> str:
        return shown_of(made, "cvat").digest

    made = film()
    first, *rest = made.segments
    assert digest(made) == digest(dataclasses.replace(made, notes=("another",)))
    changed = [dataclasses.replace(first, end_seconds=8.1), dataclasses.replace(first, verdict="review")]
    assert len({digest(made), *(digest(dataclasses.replace(made, segments=(row, *rest))) for row in changed)}) == 3
