from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import sampling_films
from sampling_drawing import decode
from sampling_events import ENTRIES, FPS, KINDS, LENGTHS, Overlay, Plan, Setting
from sampling_films import APART_SECONDS, Checked, Film, build, make_plan, read_film, specs
from sampling_measuring import (
    ADAPTIVE,
    TIGHT,
    UNIFORM,
    Mode,
    Result,
    Scored,
    border_errors,
    false_segments,
    open_scanners,
    score,
    within,
)
from sampling_tables import report, summary


@pytest.fixture
def plan() -> Plan:
    rng = np.random.default_rng(3)
    return make_plan(Setting(128, 72, 2, True), specs(1, rng), rng)


def test_events_are_what_was_asked_for_and_far_apart(plan: Plan) -> None:
    assert len(plan.events) == len(LENGTHS) * len(ENTRIES) * len(KINDS)
    for event in plan.events:
        assert event.last - event.first == round(event.seconds * FPS)
    for one, other in pairwise(plan.events):
        assert other.visible.start - one.visible.stop >= APART_SECONDS * FPS
    assert plan.events[-1].visible.stop < plan.frames


def test_the_truth_is_where_half_of_an_event_shows(plan: Plan) -> None:
    for event in plan.events:
        shown = [n for n in range(event.first - 20, event.last + 20) if event.opacity(n) >= 0.5]
        assert (shown[0], shown[-1] + 1) == (event.first, event.last)
        assert event.full
        assert all(event.opacity(n) == 1 for n in event.full)
        assert all(event.opacity(n) > 0 for n in event.visible)


def test_what_is_cut_in_begins_with_a_shot_and_what_fades_in_holds_none(plan: Plan) -> None:
    cuts = {shot.first for shot in plan.shots}
    for event in plan.events:
        if event.ramp:
            assert not cuts & set(event.visible)
        else:
            assert {event.first, event.last} == cuts & set(range(event.first - 9, event.last + 9))


class Ideal:
    """Models that see nothing but the events, and no fade of less than half."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, _setting: Any, _frames: Any, looks: Iterable[tuple[int, str]]) -> dict[tuple[int, str], float]:
        events = self._plan.events
        return {(n, kind): max(e.opacity(n) * (e.kind == kind) > 0.5 for e in events) * 1.0 for n, kind in looks}


def test_a_film_is_built_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [Setting(128, 72, 1, cuts) for cuts in (True, False)]
    wanted = [(0.25, "cut", "nsfw"), (1.0, "fade", "face")]
    plan = make_plan(settings[0], wanted, np.random.default_rng([5]))
    monkeypatch.setattr(sampling_films, "Judge", lambda: Ideal(plan))
    build({tmp_path / f"{setting}.mp4": setting for setting in settings}, wanted, [5])
    films = [read_film(tmp_path / f"{setting}.mp4") for setting in settings]
    for film, setting in zip(films, settings, strict=True):
        assert film.setting == setting
        assert [checked.event for checked in film.events] == list(plan.events)
        assert all(checked.sure == 1 and checked.fires for checked in film.events)
        with av.open(str(film.path)) as source:
            assert sum(1 for _ in source.decode(video=0)) == plan.frames
    assert films[1].key_frames == -(-plan.frames // FPS)
    pictures = list(decode(films[1].path))
    event = plan.events[0]
    changes = [float(np.abs(pictures[n].astype(float) - pictures[n - 1]).mean()) for n in (event.first, event.last)]
    assert min(changes) > 10


def result(wall: float, segments: list[tuple[str, float, float]]) -> Result:
    return Result([wall], 10, 100, "complete", (), {"default": segments, "none": segments})


@pytest.fixture
def scored(tmp_path: Path) -> Scored:
    events = (
        Checked(Overlay(300, 330, 0, "nsfw", 0, 1.0), 1.0, (300, 330)),
        Checked(Overlay(600, 660, 14, "face", 0, 2.0), 1.0, (602, 658)),
        Checked(Overlay(900, 908, 0, "face", 0, 0.25), 0.5, None),
    )
    path = tmp_path / "film.mp4"
    path.write_bytes(b"0" * 1000)
    film = Film(path, Setting(64, 36, 2, True), 60.0, events, 0, 30)
    results = {
        UNIFORM.title: [result(4.0, [("nsfw", 10.1, 11.0), ("face", 30.0, 30.2)])],
        ADAPTIVE.title: [result(1.0, [("nsfw", 10.0, 11.0), ("face", 20.0, 22.0), ("nsfw", 20.0, 22.0)])],
    }
    return score([film], results)


def test_what_was_found_is_held_against_the_truth(scored: Scored) -> None:
    uniform, adaptive = scored.outcomes[UNIFORM.title], scored.outcomes[ADAPTIVE.title]
    # The third event's own model is not sure of it.
    assert [row.found for row in uniform] == [True, False]
    assert [row.found for row in adaptive] == [True, True]
    assert border_errors(uniform) == pytest.approx([3, 0])
    assert within(border_errors(uniform)) == 0.5
    assert border_errors(adaptive[1:], of_model=True) == pytest.approx([2, 2])
    results = scored.results[ADAPTIVE.title]
    assert false_segments(scored.films[0], results[0]) == 1


def test_the_summary_says_what_is_met_missed_and_not_measured(scored: Scored) -> None:
    met = {line.wanted: line.met for line in summary(scored)}
    assert [value for wanted, value in met.items() if wanted.startswith(TIGHT.title)] == [None, None]
    default = [value for wanted, value in met.items() if "key frames" in wanted]
    assert default == [True, True, True]
    text = report(scored, ["keyframes SKIPPED: no such mode"])
    assert "not measured" in text
    assert "MISSED" in text
    assert "- keyframes SKIPPED" in text


def test_a_mode_that_is_not_there_is_left_out_with_a_note() -> None:
    modes = [UNIFORM, Mode("dreamt", {"sampling": "dreamt"})]
    scanners, notes = open_scanners(modes)
    assert list(scanners) == [UNIFORM.title]
    assert len(notes) == 1
    assert notes[0].startswith("dreamt SKIPPED")
