"""One file's scan as a state machine, told by a script what workers and models said."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.scripted import SMALL, Judge, facts, says, track
from tests.test_plans import parts_of, steady
from vidmod.containment import Limits
from vidmod.errors import SourceError
from vidmod.jobs import FileJob
from vidmod.media import Part, Probe
from vidmod.media.parts import Surveyed
from vidmod.messages import Failed, Found, LookDone, LookTask, Probed, ProbeTask, Seen, SurveyDone, SurveyTask
from vidmod.policy import Policy
from vidmod.settings import ScanSettings
from vidmod.timeline import Timeline


class TestFile:
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
