"""One stream's scan as a state machine, told by a script what workers and models said."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st

from tests.scripted import (
    FATES,
    FILM,
    LARGE,
    MODES,
    ORDERS,
    SMALL,
    Script,
    fate_of,
    flawed_ledger,
    given,
    is_balanced,
    is_gapless,
    job_of,
    says,
    states,
    track,
    video,
)
from tests.test_plans import FRAME, parts_of, steady
from vidmod.media import Ledger, Part
from vidmod.media.parts import ANEW, ELSEWHERE, PICTURE, REFERENCE, Surveyed
from vidmod.messages import LookTask, Picture, SurveyTask
from vidmod.streams import Errand
from vidmod.timebase import Span
from vidmod.timeline import StreamScan


class TestAnyOrder:
    @pytest.mark.parametrize("mode", MODES)
    @given(ORDERS, st.integers(1, 8))
    def test_of_answers_gives_the_same(self, mode: str, seed: int, ahead: int) -> None:
        def judge(pts: int) -> float:
            return 0.9 if 5000 <= pts < 7000 or pts > 19_000 else 0.0

        parts = parts_of(FILM)
        first = Script(job_of(mode), parts, random.Random(0), ahead=1, judge=judge).run()
        again = Script(job_of(mode), parts, random.Random(seed), ahead=ahead, judge=judge).run()
        assert again == first
        scan, ledger = first
        assert ledger.packets == sum(part.count for part in parts)
        assert is_balanced(ledger)
        assert is_gapless(scan)

    @example("all", 1, {(4, 0): "dies", (4, 1): "whole"})
    @example("all", 2, {(4, 0): "dies", (4, 1): "whole"})
    @example("all", 3, {(4, 0): "dies", (4, 1): "whole"})
    @given(st.sampled_from(MODES), ORDERS, FATES)
    def test_of_failures_gives_the_same(self, mode: str, seed: int, table: dict[tuple[int, int], str]) -> None:
        parts = parts_of(FILM)
        jobs = [job_of(mode), job_of(mode)]
        first = Script(jobs[0], parts, random.Random(0), fate=fate_of(table), ahead=1).run()
        again = Script(jobs[1], parts, random.Random(seed), fate=fate_of(table)).run()
        assert again == first
        assert sorted(jobs[0].troubles) == sorted(jobs[1].troubles)

    @given(ORDERS, FATES)
    def test_of_failures_tells_them_in_the_same_order(self, seed: int, table: dict[tuple[int, int], str]) -> None:
        """They become notes of the timeline."""
        jobs = [job_of(), job_of()]
        Script(jobs[0], parts_of(FILM), random.Random(0), fate=fate_of(table), ahead=1).run()
        Script(jobs[1], parts_of(FILM), random.Random(seed), fate=fate_of(table)).run()
        assert jobs[0].troubles == jobs[1].troubles

    @example("all", 1, {(0, 0): "dies", (0, 1): "whole"})
    @given(st.sampled_from(MODES), ORDERS, FATES)
    def test_the_account_is_complete(self, mode: str, seed: int, table: dict[tuple[int, int], str]) -> None:
        parts = parts_of(FILM)
        scan, ledger = Script(job_of(mode), parts, random.Random(seed), fate=fate_of(table)).run()
        assert is_balanced(ledger)
        assert ledger.packets == sum(part.count for part in parts)
        assert is_gapless(scan)

    @given(ORDERS)
    def test_the_picture_is_the_first_part_s(self, seed: int) -> None:
        """The size may change; who was quicker does not decide which one is told."""
        parts = parts_of(steady(30))

        def shape(part: Part) -> Picture:
            return LARGE if part.number in (2, 3) else SMALL

        scan, ledger = Script(job_of(), parts, random.Random(seed), shape=shape).run()
        assert scan.video == {"size": SMALL.size}
        assert ledger.size_changes == 2

    @given(ORDERS)
    def test_the_size_of_pieces_is_counted_in_their_order(self, seed: int) -> None:
        """A part that was tried again in pieces: the first piece's size is the part's."""
        parts = parts_of(steady(12))

        def shape(part: Part) -> Picture:
            return LARGE if part.first >= 250 or part.first == 100 else SMALL

        fate = fate_of({(0, 0): "dies"})
        first = Script(job_of(), parts, random.Random(0), shape=shape, fate=fate, ahead=1).run()
        assert Script(job_of(), parts, random.Random(seed), shape=shape, fate=fate).run() == first


class TestWrongMessages:
    PARTS = parts_of(steady(12))

    def test_a_part_out_of_order(self) -> None:
        job = job_of()
        with pytest.raises(ValueError, match="out of order"):
            job.found(self.PARTS[1])
        job.found(self.PARTS[0])
        with pytest.raises(ValueError, match="out of order"):
            job.found(self.PARTS[0])

    def test_a_part_after_the_last(self) -> None:
        job = job_of()
        job.found(self.PARTS[0])
        job.surveyed(Surveyed(packets=150))
        with pytest.raises(ValueError, match="out of order"):
            job.found(self.PARTS[1])

    def test_a_second_survey(self) -> None:
        job = job_of()
        job.surveyed(Surveyed(packets=0))
        with pytest.raises(ValueError, match="second survey"):
            job.surveyed(Surveyed(packets=0))

    @pytest.mark.parametrize("pts", [-1, 1, 6000, 1 << 62])
    def test_a_picture_that_is_not_in_the_part(self, pts: int) -> None:
        job = job_of()
        job.found(self.PARTS[0])
        errand = job.next_errand()
        assert errand is not None
        with pytest.raises(ValueError, match="not in the part"):
            job.seen(errand, pts, pts + 1)

    def test_a_picture_out_of_the_range(self) -> None:
        job = job_of(end=Fraction(1))
        job.found(self.PARTS[0])
        errand = job.next_errand()
        assert errand is not None
        with pytest.raises(ValueError, match="not asked for"):
            job.seen(errand, 5000, 5000 + FRAME)


class TestRanges:
    PARTS = parts_of([*steady(18), None])

    def run(self, mode: str = "all", **settings: Any) -> tuple[StreamScan, Ledger, list[LookTask]]:
        job = job_of(mode, duration=23_000, **settings)
        script = Script(job, self.PARTS, random.Random(5))
        return *script.run(), script.asked

    @pytest.mark.parametrize("mode", MODES)
    def test_only_what_was_asked_for(self, mode: str) -> None:
        scan, ledger, asked = self.run(mode, start=Fraction(7), end=Fraction(9), max_gap=Fraction(1, 5))
        assert {task.part.number for task in asked} == {1}
        assert all(sample.pts + FRAME > 7000 and sample.pts < 9000 for sample in scan.samples)
        assert (ledger.packets, is_balanced(ledger), ledger.lost) == (459, True, 0)
        assert states(scan)[0][:1] + states(scan)[-1][1:] == (0, 23, "unsampled")
        assert all(row[0] >= 7 and row[1] <= 9.2 for row in states(scan) if row[2] == "analysed")

    def test_the_start(self) -> None:
        scan, _, asked = self.run(start=Fraction(13))
        assert sorted((task.part.number, task.start or Fraction(0)) for task in asked) == [
            (2, Fraction(13)),
            (3, Fraction(13)),
        ]
        assert scan.samples[0].pts == 13_000
        assert states(scan)[0] == (0, 13, "unsampled")

    def test_the_picture_at_the_start_is_the_one_that_is_shown_then(self) -> None:
        scan, _, _ = self.run(start=Fraction("7.01"))
        assert scan.samples[0].pts == 7000

    def test_the_last_picture_before_the_end_is_looked_at(self) -> None:
        scan, _, _ = self.run("uniform", end=Fraction("8.5"))
        assert scan.samples[-1].pts == 8480
        assert states(scan) == [(0, 8.52, "analysed"), (8.52, 23, "unsampled")]

    def test_the_survey_is_told_where_to_stop(self) -> None:
        assert job_of(end=Fraction(9)).survey_task().until == 9000
        assert job_of(start=Fraction(9)).survey_task() == SurveyTask(track=track(), until=None, max_packets=10**6)

    def test_an_end_on_a_cut_leaves_the_next_part_alone(self) -> None:
        _, _, asked = self.run(end=Fraction(6))
        assert {task.part.number for task in asked} == {0}


class TestQueue:
    PARTS = parts_of(steady(18))

    def test_what_was_given_back_comes_first(self) -> None:
        job = job_of()
        for part in self.PARTS:
            job.found(part)
        one, two = job.next_errand(), job.next_errand()
        assert one is not None
        assert two is not None
        for errand in (two, one):
            job.give_back(errand)
        again = [job.next_errand() for _ in range(4)]
        assert [None if errand is None else errand.look for errand in again[:2]] == [one.look, two.look]
        assert [None if errand is None else errand.key for errand in again[:2]] == [one.key, two.key]
        assert again[3] is None

    def is_done(self, errand: Errand) -> bool:
        return errand.is_done  # a call, since mypy holds a property for constant

    def test_pictures_that_were_not_judged_hold_it_up(self) -> None:
        job = job_of("keyframes")
        job.found(self.PARTS[0])
        job.surveyed(Surveyed(packets=150))
        errand = job.next_errand()
        assert errand is not None
        assert not job.advance()
        job.seen(errand, 0, FRAME)
        errand.answered = True
        assert not self.is_done(errand)
        assert not job.advance()
        job.judged(errand, 0, FRAME, says(0))
        assert self.is_done(errand)
        assert not job.advance()
        job.looked(errand)
        assert job.advance()

    def test_of_a_worker_that_failed_too(self) -> None:
        job = job_of("keyframes")
        job.found(self.PARTS[0])
        job.surveyed(Surveyed(packets=150))
        errand = job.next_errand()
        assert errand is not None
        job.seen(errand, 0, FRAME)
        job.failed(errand, "killed", retry=False)
        assert not job.advance()
        job.judged(errand, 0, FRAME, says(0))
        assert not errand.is_done
        assert job.advance()
        assert [sample.pts for sample in job.result(video)[0].samples] == [0]

    def test_keys_tell_looks_apart(self) -> None:
        keys = set()
        for mode in MODES:
            job = job_of(mode)
            for part in self.PARTS:
                job.found(part)
            while (errand := job.next_errand()) is not None:
                keys.add(errand.key)
        # Of this film adaptive wants at first what keyframes does, and the last picture.
        assert len(keys) == 3 * len(self.PARTS) + 1

    @pytest.mark.parametrize(
        ("mode", "interval"), [("uniform", 1000), ("keyframes", 500), ("adaptive", 500), ("all", 0)]
    )
    def test_the_task(self, mode: str, interval: int) -> None:
        job = job_of(mode, fps=Fraction(1))
        job.found(parts_of([None], start=300)[0])
        errand = job.next_errand()
        assert errand is not None
        task = job.task(errand)
        assert (task.mode, task.interval, task.wanted) == (mode, Fraction(interval), None)
        assert task.origin == (300 if mode == "uniform" else None)

    def test_packets_that_belong_to_two_parts_are_counted_once(self) -> None:
        """Leading pictures are decoded with the part before their entry, which has what they refer to."""
        key, leading = ANEW | REFERENCE | PICTURE, PICTURE
        parts = [
            Part(number=0, first=0, count=4, last=False, sound=True, start_pts=0, end_pts=300,
                 times=[0, 100, 300, 200], sizes=[9] * 4,
                 marks=[key, REFERENCE | PICTURE, REFERENCE | ELSEWHERE, leading]),
            Part(number=1, first=2, count=3, last=True, sound=True, start_pts=300, end_pts=500,
                 times=[300, 200, 400], sizes=[9] * 3,
                 marks=[key, ELSEWHERE, PICTURE]),
        ]  # fmt: skip
        scan, ledger = Script(job_of(), parts, random.Random(0)).run()
        assert [sample.pts for sample in scan.samples] == [0, 100, 200, 300, 400]
        assert (ledger.packets, ledger.frames) == (5, 5)
        assert states(scan) == [(0, 0.5, "analysed")]
        _, lost = Script(job_of(), parts, random.Random(0), fate=fate_of({(0, 0): "fails"})).run()
        assert (lost.packets, lost.frames, lost.lost) == (5, 2, 3)


def test_a_hole_is_a_span() -> None:
    """What the tests above rely on."""
    assert flawed_ledger(parts_of([None])[0]).holes == [Span(2000, 2500)]
