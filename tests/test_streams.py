"""One stream's scan, and one file's, as state machines: told by a script what workers and models said."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, settings
from hypothesis import given as _given
from hypothesis import strategies as st

from tests.test_plans import FRAME, MILLISECONDS, RATE, Film, parts_of, steady
from vidmod.containment import Limits
from vidmod.errors import SourceError
from vidmod.jobs import FileJob
from vidmod.media import Ledger, Part, Probe, VideoTrack
from vidmod.media.facts import TrackKind
from vidmod.media.parts import ANEW, ELSEWHERE, PICTURE, REFERENCE, Surveyed
from vidmod.messages import Failed, Found, LookDone, LookTask, Picture, Probed, ProbeTask, Seen, SurveyDone, SurveyTask
from vidmod.policy import Policy
from vidmod.predictions import Predictions, Scores
from vidmod.settings import ScanSettings
from vidmod.streams import Errand, StreamJob
from vidmod.timebase import Span
from vidmod.timeline import Json, StreamScan, Timeline

MODES = ("uniform", "adaptive", "keyframes", "all")
SMALL, LARGE = Picture((64, 48), "yuv420p", 0, False), Picture((128, 96), "yuv420p", 0, False)
# What `parts_of` makes of a part that is not sound: nine packets in five seconds, the fifth of them lost.
_FLAWED, _LENGTH = 9, 500
Judge = Callable[[int], float]


def given(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Hypothesis without its deadline, since other work on the machine is no failure, and the same every time."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return settings(deadline=None, max_examples=60, derandomize=True)(_given(*strategies)(test))

    return decorate


def track(*, index: int = 0, kind: TrackKind = "video", duration: int | None = None) -> VideoTrack:
    return VideoTrack(
        index=index,
        kind=kind,
        codec="h264",
        size=(64, 48),
        pixel_format="yuv420p",
        average_rate=Fraction(RATE),
        time_base=MILLISECONDS,
        start_pts=0,
        duration_pts=duration,
        shares_duration=False,
        frames=0,
    )


def facts(*tracks: VideoTrack, seconds: Fraction | None = None) -> Probe:
    return Probe("mp4", Fraction(0), seconds, tracks or (track(),), (), still=False)


def nsfw(predictions: Predictions) -> tuple[float, ...]:
    return (predictions.scores[0].labels["nsfw"] / 0.5,)


def says(score: float) -> Predictions:
    return Predictions(scores=(Scores("open_nsfw", {"nsfw": score}),))


def video(_: VideoTrack, picture: Picture | None) -> Json:
    return {"size": None if picture is None else picture.size}


def job_of(mode: str = "all", *, duration: int | None = None, **settings: Any) -> StreamJob:
    return StreamJob(
        track(duration=duration), facts(track(duration=duration)), ScanSettings(sampling=mode, **settings), nsfw, 10**6
    )


def flawed_ledger(part: Part) -> Ledger:
    """The account that a reader gives of such a part."""
    assert part.start_pts is not None
    ledger = Ledger(packets=_FLAWED, frames=_FLAWED - 1, lost=1)
    ledger.extend(part.start_pts, part.start_pts + _FLAWED * _LENGTH)
    ledger.add_hole(part.start_pts + 4 * _LENGTH, part.start_pts + 5 * _LENGTH)
    return ledger


def whole_ledger(part: Part) -> Ledger:
    """The account of a sound part, or a piece of one, that was decoded whole all the same."""
    shown = part.pictures()
    ledger = Ledger(packets=part.count, frames=len(shown), without_picture=part.count - len(shown), damaged=1)
    ledger.extend(shown[0].pts, shown[-1].end_pts)
    return ledger


@dataclass
class Reply:
    """What a truthful worker says of a task: pictures, an account if it decoded everything, or that it ended."""

    pictures: list[tuple[int, int]]
    ledger: Ledger | None = None
    end: str = "done"


def answer(part: Part, wanted: Sequence[int] | None, fate: str) -> Reply:
    if fate in ("dies", "fails"):
        return Reply([], end=fate)
    if not part.sound:
        assert part.start_pts is not None
        begin = part.start_pts
        times = [begin + place * _LENGTH for place in range(_FLAWED) if place != 4]
        return Reply([(pts, pts + _LENGTH) for pts in times], flawed_ledger(part))
    shown = part.pictures()
    if fate == "whole":
        return Reply([(item.pts, item.end_pts) for item in shown[::3]], whole_ledger(part))
    assert wanted is not None
    return Reply([(item.pts, item.end_pts) for item in shown if item.pts in wanted])


Fate = Callable[[Part, int], str]


class Script:
    """Plays the workers and the models for a stream, in an order that chance decides.

    Args:
        fate: How a look at a part ends, by its attempt: `fine`, `whole`, `dies`, `fails`.
        ahead: How many looks can be under way.
        shape: What a part's pictures look like.
    """

    def __init__(
        self,
        job: StreamJob,
        parts: Sequence[Part],
        chance: random.Random,
        *,
        fate: Fate = lambda part, attempt: "fine",
        ahead: int = 4,
        judge: Judge = lambda pts: 0.0,
        shape: Callable[[Part], Picture] = lambda part: SMALL,
        known: Surveyed | None = None,
    ) -> None:
        self.job = job
        self.parts = list(parts)
        self.chance = chance
        self.fate = fate
        self.ahead = ahead
        self.judge = judge
        self.shape = shape
        self.known = Surveyed(packets=sum(part.count for part in parts)) if known is None else known
        self.found = 0
        self.at_work: list[tuple[Errand, Reply]] = []
        self.waiting: list[tuple[Errand, int, int]] = []
        self.asked: list[LookTask] = []

    def run(self) -> tuple[StreamScan, Ledger]:
        for _ in range(10**6):
            moves = [self._find] * (not self.job.is_surveyed)
            moves += [self._take] * (self.job.has_queued and len(self.at_work) < self.ahead)
            moves += [self._work] * bool(self.at_work) * 3 + [self._judge] * bool(self.waiting) * 3
            if moves:
                # Asking too early is no harm.
                assert self.chance.random() < 0.9 or not self.job.advance()
                self.chance.choice(moves)()
            elif self.job.advance():
                return self.job.result(video)
        raise AssertionError("It does not end.")

    def _find(self) -> None:
        if self.found < len(self.parts):
            self.job.found(self.parts[self.found])
            self.found += 1
        else:
            self.job.surveyed(self.known)

    def _take(self) -> None:
        errand = self.job.next_errand()
        assert errand is not None
        if self.chance.random() < 0.1:
            self.job.give_back(errand)
            return
        task = self.job.task(errand)
        self.asked.append(task)
        self.at_work.append((errand, answer(task.part, task.wanted, self.fate(task.part, errand.attempt))))

    def _work(self) -> None:
        errand, reply = row = self.chance.choice(self.at_work)
        if reply.pictures:
            pts, end_pts = reply.pictures.pop(0)
            self.job.seen(errand, pts, end_pts)
            self.waiting.append((errand, pts, end_pts))
            return
        self.at_work.remove(row)
        if reply.end != "done":
            self.job.failed(errand, "killed", retry=reply.end == "dies")
            return
        errand.ledger, errand.picture, errand.answered = reply.ledger, self.shape(errand.look.part), True
        self._settle(errand)

    def _judge(self) -> None:
        errand, pts, end_pts = self.waiting.pop(self.chance.randrange(len(self.waiting)))
        self.job.judged(errand, pts, end_pts, says(self.judge(pts)))
        self._settle(errand)

    def _settle(self, errand: Errand) -> None:
        if errand.is_done:
            self.job.looked(errand)


def settle(job: StreamJob) -> None:
    """Settle as much as can be."""
    while job.settle():
        pass


def is_balanced(ledger: Ledger) -> bool:
    rest = ledger.frames + ledger.lost + ledger.hidden + ledger.without_picture + ledger.skipped
    return ledger.packets == rest


def states(scan: StreamScan) -> list[tuple[float, float, str]]:
    return [(row.start_seconds, row.end_seconds, row.state) for row in scan.coverage]


def is_gapless(scan: StreamScan) -> bool:
    return all(
        one.end_seconds == other.start_seconds for one, other in zip(scan.coverage, scan.coverage[1:], strict=False)
    )


FILM: Film = [
    *steady(18)[:2],
    None,
    *steady(12)[:1],
    [[(FRAME, place % 3 == 0) for place in range(length)] for length in (50, 30)],
]
ORDERS = st.integers(0, 10**9)
FATES = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 1)), st.sampled_from(["fine", "whole", "dies", "fails"]), max_size=6
)


def fate_of(table: dict[tuple[int, int], str]) -> Fate:
    return lambda part, attempt: table.get((part.number, attempt), "fine")


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


class TestFile:
    """The file around it, told by a script as well."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "film.mp4"
        path.write_bytes(b"any bytes")
        return path

    def open(self, path: Path, **settings: Any) -> FileJob:
        return FileJob(path, ScanSettings(**settings), [], Policy.default())

    def probe(self, job: FileJob, known: Probe) -> None:
        row = job.next_task()
        assert row is not None
        assert row == (ProbeTask(), None)
        assert job.heard(Probed(known), *row)

    def survey(self, job: FileJob, parts: Sequence[Part]) -> None:
        row = job.next_task()
        assert row is not None
        assert isinstance(row[0], SurveyTask)
        for part in parts:
            assert not job.heard(Found(part), *row)
        assert job.heard(SurveyDone(Surveyed(packets=9)), *row)

    def look(self, job: FileJob, row: tuple[Any, Any], judge: Judge = lambda pts: 0.0) -> None:
        task, errand = row
        for item in task.part.pictures():
            if item.pts in task.wanted:
                seen = Seen(slot=0, pts=item.pts, end_pts=item.end_pts, geometries=[])
                assert not job.heard(seen, task, errand)
                job.judged(errand, seen, says(judge(item.pts)))
        assert job.heard(LookDone(ledger=None, picture=SMALL), task, errand)

    def rows(self, job: FileJob) -> list[tuple[Any, Any]]:
        found = []
        while (row := job.next_task()) is not None:
            found.append(row)
        return found

    def result(self, job: FileJob) -> Timeline:
        assert job.is_done
        timeline = job.timeline([])
        assert timeline is not None
        job.close()
        provenance = {**timeline.provenance, "created": ""}
        return dataclasses.replace(timeline, provenance=provenance)

    def test_from_the_probe_to_the_timeline(self, path: Path) -> None:
        job = self.open(path, sampling="all")
        self.probe(job, facts(track(duration=12_000)))
        self.survey(job, parts_of(steady(12)))
        rows = self.rows(job)
        assert job.next_task() is None
        for row in reversed(rows):
            assert not job.is_done
            self.look(job, row)
            job.advance()
        found = self.result(job)
        assert (found.status, found.verdict, len(found.samples)) == ("complete", "pass", 300)
        assert found.source["sha256"] == hashlib.sha256(b"any bytes").hexdigest()

    def test_given_up_between_two_tasks(self, path: Path) -> None:
        """Nobody was at work, so nobody can fail: it ends all the same."""
        job = self.open(path)
        self.probe(job, facts(track(duration=12_000)))
        job.give_up("past its time limit")
        job.advance()
        assert job.is_done
        assert self.result(job).status != "complete"

    def test_given_up_while_it_is_surveyed(self, path: Path) -> None:
        job = self.open(path)
        self.probe(job, facts(track(duration=12_000)))
        row = job.next_task()
        assert row is not None
        job.heard(Found(parts_of(steady(12))[0]), *row)
        job.give_up("past its time limit")
        job.lost(*row, "given up before")
        job.advance()
        assert self.result(job).status == "unscannable"

    def test_given_up_when_one_stream_of_two_is_done(self, path: Path) -> None:
        job = self.open(path, sampling="keyframes")
        self.probe(job, facts(track(duration=6_000), track(index=1, duration=6_000)))
        self.survey(job, parts_of(steady(6)))
        for row in self.rows(job):
            self.look(job, row)
        job.advance()
        job.give_up("past its time limit")
        job.advance()
        found = self.result(job)
        assert found.status == "partial"
        assert [stream.stream for stream in found.streams] == [0, 1]

    def test_given_up_before_the_probe(self, path: Path) -> None:
        job = self.open(path)
        job.give_up("past its time limit")
        found = self.result(job)
        assert found.status == "unscannable"
        assert "past its time limit" in found.notes[0]

    def test_a_probe_is_tried_twice(self, path: Path) -> None:
        job = self.open(path)
        for _ in range(2):
            row = job.next_task()
            assert row is not None
            assert not job.is_done
            job.lost(*row, "killed by SIGKILL")
        found = self.result(job)
        assert found.status == "unscannable"
        assert "killed by SIGKILL" in found.notes[0]

    def test_a_survey_is_tried_twice(self, path: Path) -> None:
        """The system may have killed the worker for want of memory that another program took."""
        job = self.open(path, sampling="keyframes")
        parts = parts_of(steady(12))
        self.probe(job, facts(track(duration=12_000)))
        row = job.next_task()
        assert row is not None
        job.heard(Found(parts[0]), *row)
        job.lost(*row, "killed by SIGKILL")
        rows = self.rows(job)
        again = [row for row in rows if isinstance(row[0], SurveyTask)]
        assert len(again) == 1
        for part in parts:
            job.heard(Found(part), *again[0])
        job.heard(SurveyDone(Surveyed(packets=9)), *again[0])
        for item in [row for row in [*rows, *self.rows(job)] if isinstance(row[0], LookTask)]:
            self.look(job, item)
        job.advance()
        assert self.result(job).status == "complete"

    def test_too_many_failures(self, path: Path) -> None:
        job = self.open(path, sampling="all", limits=Limits(max_failures=2))
        self.probe(job, facts(track(duration=30_000)))
        self.survey(job, parts_of(steady(30)))
        rows = self.rows(job)
        for row in rows[:3]:
            assert not job.is_given_up
            job.lost(*row, "killed by SIGSEGV")
        assert job.is_given_up
        for row in rows[3:]:
            job.lost(*row, "given up before")
        job.advance()
        found = self.result(job)
        assert "Given up: more than 2 workers did not survive it." in found.notes
        assert (found.status, found.samples) == ("unscannable", ())

    def test_a_stream_without_an_end_that_was_lost_is_never_complete(self, path: Path) -> None:
        """An elementary stream, say: it claims no duration, and its only part killed two workers."""
        job = self.open(path, sampling="all")
        self.probe(job, facts(track(duration=None)))
        self.survey(job, [Part(number=0, first=0, count=-1, last=True, sound=False)])
        for _ in range(2):
            (row,) = self.rows(job)
            assert row[1] is not None
            seen = Seen(slot=0, pts=0, end_pts=40, geometries=[])
            job.heard(seen, *row)
            job.judged(row[1], seen, says(0.0))
            job.lost(*row, "killed by SIGSEGV")
        job.advance()
        found = self.result(job)
        assert len(found.samples) == 1
        assert (found.status, found.verdict) == ("partial", "review")

    @pytest.mark.parametrize(
        ("order", "together"),
        [
            ([0, 1, 2, 3, 4], False),
            ([1, 0, 2, 3, 4], False),
            ([4, 3, 2, 1, 0], False),
            ([2, 3, 0, 4, 1], False),
            ([0, 1, 2, 3, 4], True),
        ],
    )
    def test_stopping_does_not_depend_on_who_was_quicker(self, path: Path, order: list[int], together: bool) -> None:
        def judge(pts: int) -> float:
            return 0.99 if pts > 7000 else 0.0

        results = []
        for turn, at_once in ((range(5), False), (order, together)):
            job = self.open(path, sampling="keyframes", stop_at="block")
            self.probe(job, facts(track(duration=30_000)))
            self.survey(job, parts_of(steady(30, keys_every=1)))
            rows = self.rows(job)
            for place in turn:
                self.look(job, rows[place], judge)
                if not at_once:
                    job.advance()
            job.advance()
            results.append(self.result(job))
        assert results[0].verdict == "block"
        assert results[1] == results[0]

    def test_answers_to_other_questions(self, path: Path) -> None:
        job = self.open(path)
        row = job.next_task()
        assert row is not None
        part = parts_of(steady(6))[0]
        for reply in (
            Found(part),
            SurveyDone(Surveyed(packets=1)),
            LookDone(ledger=None, picture=None),
            Seen(slot=0, pts=0, end_pts=1, geometries=[]),
            Probed(dataclasses.replace(facts(), tracks=())),
        ):
            with pytest.raises(ValueError, match=r"does not answer|make no sense"):
                job.heard(reply, *row)
        job.heard(Failed("SourceError", "no such thing"), *row)
        assert self.result(job).status == "unscannable"

    def test_a_start_after_the_end(self, path: Path) -> None:
        job = self.open(path, start=Fraction(60))
        self.probe(job, facts(track(duration=12_000), seconds=Fraction(12)))
        assert job.is_done
        with pytest.raises(SourceError, match="before the start asked for"):
            job.timeline([])
        job.close()


def test_a_hole_is_a_span() -> None:
    """What the tests above rely on."""
    assert flawed_ledger(parts_of([None])[0]).holes == [Span(2000, 2500)]
