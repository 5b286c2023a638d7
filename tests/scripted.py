"""Plays the workers and the models for one stream's scan, by a script."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import given as _given
from hypothesis import settings
from hypothesis import strategies as st

from tests.test_plans import FRAME, MILLISECONDS, RATE, Film, steady
from vidmod.media import Ledger, Part, Probe, VideoTrack
from vidmod.media.facts import TrackKind
from vidmod.media.parts import Surveyed
from vidmod.messages import LookTask, Picture
from vidmod.predictions import Predictions, Scores
from vidmod.settings import ScanSettings
from vidmod.streams import Errand, StreamJob
from vidmod.timeline import Json, StreamScan

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
