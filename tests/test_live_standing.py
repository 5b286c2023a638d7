"""What a live filter says of itself, from what its processes say: totals, rates, both ends, why all is covered."""

from __future__ import annotations

from typing import Any

import pytest

from vidmod.live.counts import Counts
from vidmod.live.messages import Beat, Covering, ReaderSettings
from vidmod.live.processes.supervisor import Watched
from vidmod.live.settings import LiveSettings
from vidmod.live.telling.covers import Covers
from vidmod.live.telling.events import CoverOff, CoverOn
from vidmod.live.telling.standing import Standing
from vidmod.live.telling.state import Backlog, LiveState
from vidmod.live.telling.tally import Side, Tally


def beat(doing: str = "filtering", **counts: int) -> Beat:
    return Beat(doing, Counts(**counts))


class TestTally:
    def test_totals_never_go_down_when_a_process_is_replaced(self) -> None:
        tally = Tally()
        tally.hear("filter", 0, beat(decoded=10, shown=4))
        tally.hear("filter", 0, beat(decoded=20, shown=9))
        assert tally.total("filter.decoded", "filter.shown") == 29
        tally.hear("filter", 1, beat(decoded=0))
        assert tally.total("filter.decoded") == 20
        tally.hear("filter", 1, beat(decoded=5))
        tally.hear("publisher", 0, Beat("publishing", pictures=7))
        assert tally.total("filter.decoded") == 25
        tally.hear("filter", 4, beat(decoded=1))
        assert tally.total("filter.decoded") == 26
        assert tally.total("publisher.pictures") == 7
        assert tally.total("nobody.nothing") == 0

    def test_a_process_that_counts_backwards_is_not_believed(self) -> None:
        tally = Tally()
        for count in (10, -5, 3):
            tally.hear("filter", 0, beat(decoded=count))
        assert tally.total("filter.decoded") == 10

    def test_rates_are_of_the_last_seconds(self) -> None:
        tally = Tally()
        assert tally.rate("filter.decoded") == 0.0
        for step in range(200):  # 10 s of 30 a second, then 10 s of none
            tally.hear("filter", 0, beat(decoded=min(step, 100) * 3))
            tally.step(step / 10)
            if step == 100:
                assert tally.rate("filter.decoded") == pytest.approx(30, rel=0.02)
        assert tally.rate("filter.decoded") == 0.0
        assert tally.grown("filter.decoded") == 0
        assert len(tally._steps) < 30, "memory does not grow"


def test_a_side_comes_goes_and_comes_back() -> None:
    side = Side()
    assert side.gone_seconds(5.0) is None, "it was never there"
    assert [side.update(value, now) for value, now in ((False, 1.0), (True, 2.0), (True, 3.0))] == ["", "first", ""]
    assert side.update(False, 4.0) == "lost"
    assert side.gone_seconds(6.5) == 2.5
    assert side.update(True, 7.0) == "back"
    assert side.absence == 3.0
    assert side.gone_seconds(8.0) is None


class TestCovers:
    def test_each_reason_is_told_of_when_it_begins_and_when_it_is_over(self) -> None:
        covers = Covers()
        assert covers.update(("starting",), 0.0) == [CoverOn(reason="starting", at_seconds=0.0)]
        assert covers.update(("starting", "emergency"), 1.0) == [CoverOn(reason="emergency", at_seconds=1.0)]
        assert covers.update(("emergency",), 2.0) == []
        assert covers.update(("emergency",), 3.0) == [CoverOff(reason="starting", at_seconds=2.0, covered_seconds=2.0)]
        assert covers.update((), 4.0) == []
        assert covers.end(4.5) == [CoverOff(reason="emergency", at_seconds=4.0, covered_seconds=3.0)]
        assert covers.end(5.0) == []

    def test_what_flickers_is_one_cover(self) -> None:
        covers = Covers()
        events: list[CoverOn | CoverOff] = []
        for step in range(100):
            events += covers.update(("hit",) if step % 2 else (), step * 0.04)
        events += covers.end(4.0)
        assert [event.name for event in events] == ["cover_on", "cover_off"]


class Parts:
    """How a filter stands, and the processes that it is told of."""

    def __init__(self, **options: Any) -> None:
        self.watched = {
            role: Watched(role, lambda: ReaderSettings("", 1.0, 1))
            for role in ("reader", "filter", "analyst", "publisher")
        }
        for item in self.watched.values():
            item.restarts = 0
        settings = LiveSettings(source="rtmp://a/b", server="rtmp://c/d", **options)
        self.standing = Standing(settings, self.watched, began=100.0, started_time=1.7e9)

    def say(self, role: str, message: Beat) -> None:
        self.watched[role].current.beat = message
        self.standing.beat(role, message)

    def run(self, now: float, *, reason: str = "") -> None:
        """All is well."""
        self.say("reader", Beat("reading", connections=1))
        self.say("analyst", Beat("looking"))
        self.say("publisher", Beat("publishing", connections=1, pictures=50))
        self.say("filter", beat(decoded=60, looked=20, shown=40, boxed=8, filled=10))
        self.standing.covering(Covering(reason, 0))
        self.standing.step(now)

    def reasons(self, now: float, *, is_emergency: bool = False) -> tuple[str, ...]:
        return self.standing.cover_reasons(now, is_emergency=is_emergency)

    def state(self, now: float) -> LiveState:
        return self.standing.state(
            now, cover_reasons=self.reasons(now), hits={"explicit": 2}, hits_now=1, backlog=Backlog(), events_lost=0
        )


def test_a_snapshot_of_one_that_runs() -> None:
    parts = Parts()
    assert parts.reasons(100.0) == ("starting",)
    parts.run(101.0)
    parts.say("filter", beat(decoded=160, looked=70, shown=120, boxed=8, filled=10, damaged=2, late=3))
    parts.say("publisher", Beat("publishing", connections=3, pictures=150, dropped=4))
    assert parts.standing.step(103.0) == []
    state = parts.state(104.0)
    assert (state.phase, state.source_connected, state.server_connected) == ("running", True, True)
    assert (state.frames_in, state.frames_analysed, state.frames_out) == (160, 70, 150)
    assert (state.frames_covered, state.frames_masked) == (10, 8)
    assert dict(state.frames_dropped) == {"source": 5, "output": 4}
    assert (state.fps_in, state.fps_analysed, state.fps_out) == (50.0, 25.0, 50.0)
    assert state.covered_share == 0.0
    assert state.analysis_age_seconds == 1.0
    assert state.uptime_seconds == 4.0
    assert dict(state.reconnects) == {"source": 0, "server": 2}
    assert state.cover_reasons == ()
    assert (dict(state.hits), state.hits_now) == ({"explicit": 2}, 1)


def test_what_a_filter_says_of_itself_that_makes_no_sense_does_no_harm() -> None:
    parts = Parts()
    parts.run(101.0, reason="nonsense")
    for delay in (float("nan"), float("inf"), -1.0, 1e30):
        parts.say("filter", Beat("filtering", Counts(decoded=-5), delay=delay, level=-3, waiting=-9))
        state = parts.state(102.0)
        assert (state.delay_seconds, state.overload_level, state.frames_in) == (None, 0, 60)
        assert state.cover_reasons == ()
    parts.say("filter", Beat("filtering", Counts(found=2**63)))
    parts.standing.step(103.0)
    state = parts.state(103.0)
    assert state.frames_covered <= state.frames_out
    assert 0 <= state.covered_share <= 1


@pytest.mark.parametrize("reason", ["hit", "not_analysed", "source_changed", "overload"])
def test_why_all_is_covered_is_what_the_filter_says(reason: str) -> None:
    parts = Parts()
    parts.run(101.0, reason=reason)
    assert parts.reasons(101.0) == (reason,)
    assert parts.reasons(101.0, is_emergency=True) == ("emergency", reason)
    parts.standing.covering(Covering("", 0))
    assert parts.reasons(101.0) == ()


def test_without_who_looks_that_is_why() -> None:
    parts = Parts()
    parts.run(101.0, reason="not_analysed")
    parts.watched["analyst"].current.beat = None
    assert parts.reasons(102.0) == ("analysis_lost",)
    parts.say("analyst", Beat("loading"))
    assert parts.reasons(102.0) == ("analysis_lost",)


def test_without_a_filter_that_is_why() -> None:
    parts = Parts()
    parts.run(101.0)
    parts.watched["filter"].current.beat = None
    assert parts.reasons(102.0) == ("error",)


def test_a_source_that_is_gone_is_why_as_soon_as_what_had_come_has_left() -> None:
    parts = Parts(delay_seconds=2.0)
    parts.run(101.0)
    parts.say("reader", Beat("waiting", connections=1, trouble="It is gone."))
    assert parts.standing.step(102.0) == [("source", "lost")]
    assert parts.reasons(104.4) == ()
    assert parts.reasons(104.5) == ("source_lost",)
    parts.say("reader", Beat("reading", connections=2))
    assert parts.standing.step(105.0) == [("source", "back")]
    assert parts.standing.source.absence == 3.0
    assert parts.reasons(105.0) == ()


def test_a_file_that_has_ended_is_not_lost() -> None:
    parts = Parts()
    parts.run(101.0)
    parts.say("reader", Beat("ended", connections=1))
    parts.standing.step(102.0)
    assert parts.reasons(110.0) == ()


def test_nothing_has_left_that_came_so_it_starts() -> None:
    parts = Parts()
    parts.run(101.0)
    fresh = Parts()
    fresh.say("publisher", Beat("publishing", connections=1, pictures=5))
    fresh.say("filter", beat(decoded=5, filled=5))
    fresh.standing.covering(Covering("error", 0))
    fresh.standing.step(101.0)
    assert fresh.standing.phase == "running"
    assert fresh.reasons(101.0) == ("starting",)
    assert parts.reasons(101.0) == ()


def test_a_shadow_covers_nothing_for_what_it_sees() -> None:
    parts = Parts(shadow=True)
    parts.run(101.0, reason="hit")
    assert parts.reasons(101.0) == ()
    assert parts.reasons(101.0, is_emergency=True) == ("emergency",)
    parts.say("filter", beat(decoded=90, looked=90, shown=40, boxed=20, found=50, filled=10))
    assert (parts.state(102.0).frames_covered, parts.state(102.0).frames_masked) == (10, 0)
    assert parts.state(102.0).shadow
