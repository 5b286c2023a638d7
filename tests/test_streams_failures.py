"""One stream's scan when workers fail, or when it is stopped."""

from __future__ import annotations

import random

import pytest

from tests.scripted import SMALL, Script, fate_of, is_balanced, job_of, says, settle, states, video, whole_ledger
from tests.test_plans import FRAME, parts_of, steady
from vidmod.media import Ledger, Part
from vidmod.media.parts import Surveyed
from vidmod.streams import Errand, StreamJob
from vidmod.timeline import StreamScan


class TestFailures:
    PARTS = parts_of(steady(18))

    def run(self, table: dict[tuple[int, int], str], mode: str = "all") -> tuple[StreamScan, Ledger, StreamJob, Script]:
        job = job_of(mode)
        script = Script(job, self.PARTS, random.Random(3), fate=fate_of(table))
        return *script.run(), job, script

    def test_once_costs_nothing(self) -> None:
        expected = self.run({})[:2]
        scan, ledger, job, script = self.run({(1, 0): "dies"})
        assert (scan, ledger) == expected
        assert job.troubles == []
        again = [task for task in script.asked if task.part.number == 1][1:]
        assert sorted((task.part.first, task.part.count) for task in again) == [(150, 50), (200, 50), (250, 50)]

    def test_twice_is_a_hole(self) -> None:
        scan, ledger, job, _ = self.run({(1, 0): "dies", (1, 1): "dies"})
        assert states(scan) == [(0, 6, "analysed"), (6, 12, "undecodable"), (12, 18, "analysed")]
        assert (ledger.packets, ledger.frames, ledger.lost) == (450, 300, 150)
        assert sorted(job.troubles) == [
            f"{start} to {start + 2} s could not be decoded: killed" for start in (10, 6, 8)
        ]

    def test_an_error_that_was_told_is_not_tried_again(self) -> None:
        scan, ledger, job, script = self.run({(1, 0): "fails"})
        assert states(scan)[1] == (6, 12, "undecodable")
        assert ledger.lost == 150
        assert job.troubles == ["6 to 12 s could not be decoded: killed"]
        assert len(script.asked) == 3

    def test_two_pieces_of_three(self) -> None:
        job = job_of()
        script = Script(
            job, self.PARTS, random.Random(1), fate=lambda part, n: "dies" if part.first in (150, 200) else "fine"
        )
        # The part begins where its first piece does, so both of its attempts are lost.
        scan, ledger = script.run()
        assert states(scan) == [(0, 6, "analysed"), (6, 10, "undecodable"), (10, 18, "analysed")]
        assert (ledger.packets, ledger.frames, ledger.lost) == (450, 350, 100)
        assert len(scan.samples) == 350

    @pytest.mark.parametrize("mode", ["uniform", "keyframes"])
    def test_what_was_not_wanted_of_the_other_pieces_is_not_lost(self, mode: str) -> None:
        def fate(part: Part, attempt: int) -> str:
            return "dies" if part.first == 200 or (part.first, attempt) == (150, 0) else "fine"

        _, ledger = Script(job_of(mode), self.PARTS, random.Random(1), fate=fate).run()
        assert is_balanced(ledger)
        assert (ledger.packets, ledger.lost) == (450, 50)

    def test_pieces_that_were_decoded_whole_add_up(self) -> None:
        _, ledger, job, _ = self.run({(1, 0): "dies", (1, 1): "whole"})
        assert (ledger.packets, ledger.frames, ledger.damaged) == (450, 450, 3)
        assert is_balanced(ledger)
        assert job.troubles == []

    def test_a_piece_decoded_whole_does_not_hide_that_another_was_lost(self) -> None:
        fates = {(150, 0): "dies", (150, 1): "whole", (200, 1): "dies"}

        def fate(part: Part, attempt: int) -> str:
            return fates.get((part.first, attempt), "fine")

        scan, ledger = Script(job_of(), self.PARTS, random.Random(1), fate=fate).run()
        assert (8, 10, "undecodable") in states(scan)
        assert (ledger.packets, ledger.lost) == (450, 50)

    def test_a_part_in_one_piece_is_tried_again_as_it_is(self) -> None:
        parts = parts_of([[[(FRAME, True)] * 30], None])
        script = Script(job_of(), parts, random.Random(0), fate=lambda part, attempt: "fine" if attempt else "dies")
        _, ledger = script.run()
        assert [task.part.number for task in script.asked].count(0) == 2
        assert [task.part.number for task in script.asked].count(1) == 2
        assert (ledger.frames, ledger.lost) == (38, 1)

    def test_a_part_that_is_not_sound_is_lost_as_one(self) -> None:
        parts = parts_of([*steady(6), None, *steady(6)])
        scan, ledger = Script(job_of(), parts, random.Random(0), fate=fate_of({(1, 0): "fails"})).run()
        assert (ledger.packets, ledger.lost) == (309, 9)
        assert (6, 11, "undecodable") in states(scan)

    def test_giving_up(self) -> None:
        job = job_of()
        for part in self.PARTS:
            job.found(part)
        job.surveyed(Surveyed(packets=450))
        errand = job.next_errand()
        assert errand is not None
        job.abandon()
        assert not job.has_queued
        assert not job.advance()
        job.failed(errand, "too late", retry=False)
        assert job.advance()
        scan, ledger = job.result(video)
        assert states(scan) == [(0, 18, "undecodable")]
        assert (ledger.packets, ledger.lost) == (450, 450)
        assert len(job.troubles) == 3
        job.abandon()
        assert len(job.troubles) == 3

    def test_a_survey_that_failed(self) -> None:
        """What follows the parts that were found is unknown."""
        job = job_of(duration=18_000)
        job.found(self.PARTS[0])
        job.found(self.PARTS[1])
        job.survey_failed("it crashed")
        script = Script(job, [], random.Random(0))
        scan, ledger = script.run()
        assert states(scan) == [(0, 12, "analysed"), (12, 18, "undecodable")]
        assert ledger.truncated
        assert is_balanced(ledger)
        assert job.troubles == ["its packets could not be read to the end: it crashed"]

    def test_a_survey_that_found_nothing(self) -> None:
        job = job_of(duration=18_000)
        job.survey_failed("it crashed")
        assert job.advance()
        scan, ledger = job.result(video)
        assert states(scan) == [(0, 18, "undecodable")]
        assert ledger.truncated

    def test_a_file_that_was_cut_off(self) -> None:
        known = Surveyed(packets=450, truncated=True, declared_end=20_000)
        scan, ledger = Script(job_of(), self.PARTS, random.Random(0), known=known).run()
        assert states(scan) == [(0, 18, "analysed"), (18, 20, "undecodable")]
        assert ledger.truncated

    def test_read_errors_are_counted_once(self) -> None:
        known = Surveyed(packets=450, read_errors=2)
        assert Script(job_of(), self.PARTS, random.Random(0), known=known).run()[1].read_errors == 2


class TestStreamInOnePart:
    """One that cannot be cut: an AVI, a cover, an old codec."""

    PART = Part(number=0, first=0, count=-1, last=True, sound=False)

    def begin(self, duration: int | None) -> tuple[StreamJob, Errand]:
        job = job_of(duration=duration)
        job.found(self.PART)
        job.surveyed(Surveyed(packets=0))
        errand = job.next_errand()
        assert errand is not None
        return job, errand

    def lose(self, job: StreamJob, errand: Errand, given: int, judged_before: int) -> tuple[StreamScan, Ledger]:
        """The same worker dies after some pictures, of which the models have spoken sooner or later; twice."""
        job.failed(errand, "killed", retry=True)
        again = job.next_errand()
        assert again is not None
        for place in range(given):
            job.seen(again, place * FRAME, (place + 1) * FRAME)
        for place in range(judged_before):
            job.judged(again, place * FRAME, (place + 1) * FRAME, says(0.0))
        job.failed(again, "killed", retry=True)
        for place in range(judged_before, given):
            assert not job.advance()
            job.judged(again, place * FRAME, (place + 1) * FRAME, says(0.0))
        assert job.advance()
        return job.result(video)

    def test_its_account_is_the_worker_s(self) -> None:
        job, errand = self.begin(2000)
        job.seen(errand, 0, 1000)
        job.judged(errand, 0, 1000, says(0.1))
        assert not errand.is_done
        ledger = Ledger(packets=2, frames=1, lost=1)
        ledger.extend(0, 1000)
        ledger.add_hole(1000, 2000)
        errand.ledger, errand.answered = ledger, True
        job.looked(errand)
        assert job.advance()
        scan, found = job.result(video)
        assert states(scan) == [(0, 1, "analysed"), (1, 2, "undecodable")]
        assert found == ledger

    def test_lost_from_where_it_was_lost(self) -> None:
        scan, _ = self.lose(*self.begin(2000), given=10, judged_before=10)
        assert states(scan) == [(0, 0.4, "analysed"), (0.4, 2, "undecodable")]

    @pytest.mark.parametrize("judged_before", range(10))
    def test_however_late_the_models_are(self, judged_before: int) -> None:
        expected = self.lose(*self.begin(2000), given=10, judged_before=10)
        assert self.lose(*self.begin(2000), given=10, judged_before=judged_before) == expected

    def test_lost_without_a_claimed_end(self) -> None:
        """Nobody knows how much is missing, but something is."""
        scan, ledger = self.lose(*self.begin(None), given=10, judged_before=10)
        assert len(scan.samples) == 10
        assert ledger.lost or ledger.truncated or any(row.state != "analysed" for row in scan.coverage)

    def test_samples_without_an_account_are_covered(self) -> None:
        scan, _ = self.lose(*self.begin(None), given=10, judged_before=10)
        assert states(scan)[:1] == [(0, 0.4, "analysed")]


class TestStopping:
    PARTS = parts_of(steady(30))

    def surveyed(self) -> tuple[StreamJob, list[Errand]]:
        job = job_of(duration=30_000)
        for part in self.PARTS:
            job.found(part)
        job.surveyed(Surveyed(packets=750))
        errands = []
        while (errand := job.next_errand()) is not None:
            errands.append(errand)
        return job, errands

    def look(self, job: StreamJob, errand: Errand, *, ledger: Ledger | None = None) -> None:
        for item in errand.look.part.pictures():
            job.seen(errand, item.pts, item.end_pts)
            job.judged(errand, item.pts, item.end_pts, says(0.1))
        errand.answered, errand.picture, errand.ledger = True, SMALL, ledger
        job.looked(errand)

    def stopped(self) -> tuple[StreamJob, list[Errand]]:
        """Two parts were looked at, three are under way."""
        job, errands = self.surveyed()
        self.look(job, errands[0])
        self.look(job, errands[1])
        settle(job)
        job.stop()
        return job, errands

    def expected(self) -> tuple[StreamScan, Ledger]:
        job, errands = self.surveyed()
        for errand in reversed(errands[2:]):
            job.give_back(errand)
        self.look(job, errands[0])
        self.look(job, errands[1])
        settle(job)
        job.stop()
        assert job.advance()
        return job.result(video)

    def test_what_is_settled(self) -> None:
        job, errands = self.surveyed()
        assert not job.settle()
        self.look(job, errands[1])
        assert not job.settle()
        assert job.settled().samples == ()
        self.look(job, errands[0])
        settle(job)
        assert len(job.settled().samples) == 300

    def test_the_beginning_is_kept(self) -> None:
        scan, ledger = self.expected()
        assert len(scan.samples) == 300
        assert (ledger.packets, ledger.frames, ledger.skipped) == (750, 300, 450)
        assert states(scan) == [(0, 12, "analysed"), (12, 30, "unsampled")]

    def test_what_was_seen_behind_it_is_dropped(self) -> None:
        job, errands = self.surveyed()
        for errand in (errands[3], errands[0], errands[1]):
            self.look(job, errand)
        settle(job)
        job.stop()
        for errand in (errands[2], errands[4]):
            errand.answered = True
            job.looked(errand)
        scan, _ = job.result(video)
        assert len(scan.samples) == 300

    def test_who_is_still_at_work_changes_nothing(self) -> None:
        job, errands = self.stopped()
        assert not job.advance()
        for errand in errands[2:]:
            self.look(job, errand)
        assert job.advance()
        assert job.result(video) == self.expected()

    def test_who_decodes_the_whole_part_changes_nothing(self) -> None:
        job, errands = self.stopped()
        for errand in errands[2:]:
            self.look(job, errand, ledger=whole_ledger(errand.look.part))
        assert job.advance()
        assert job.result(video) == self.expected()

    @pytest.mark.parametrize("retry", [True, False])
    def test_who_fails_now_changes_nothing(self, retry: bool) -> None:
        job, errands = self.stopped()
        for errand in errands[2:]:
            job.failed(errand, "killed", retry=retry)
        assert not job.has_queued, "it would be tried again for nothing"
        assert job.advance()
        assert job.troubles == []
        assert job.result(video) == self.expected()

    def test_what_failed_before_behind_it_changes_nothing(self) -> None:
        job, errands = self.surveyed()
        job.failed(errands[4], "killed", retry=False)
        for errand in errands[:2]:
            self.look(job, errand)
        settle(job)
        job.stop()
        for errand in errands[2:4]:
            self.look(job, errand)
        assert job.advance()
        assert job.troubles == []
        assert job.result(video) == self.expected()

    def test_parts_that_are_found_later_are_not_looked_at(self) -> None:
        job = job_of()
        job.found(self.PARTS[0])
        job.stop()
        job.found(self.PARTS[1])
        assert not job.has_queued
        job.surveyed(Surveyed(packets=300, truncated=True, declared_end=99_000))
        assert job.advance()
        _, ledger = job.result(video)
        assert not ledger.truncated
        assert ledger.skipped == 300
