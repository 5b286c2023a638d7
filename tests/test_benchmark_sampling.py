from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("sampling_benchmark", BENCHMARKS / "sampling.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))  # it imports scan.py, as a script does
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def plan(bench: ModuleType) -> Any:
    rng = np.random.default_rng(3)
    return bench.make_plan(bench.Setting(128, 72, 2, True), bench.specs(1, rng), rng)


def test_events_are_what_was_asked_for_and_far_apart(bench: ModuleType, plan: Any) -> None:
    assert len(plan.events) == len(bench.LENGTHS) * len(bench.ENTRIES) * len(bench.KINDS)
    for event in plan.events:
        assert event.last - event.first == round(event.seconds * bench.FPS)
    for one, other in pairwise(plan.events):
        assert other.visible.start - one.visible.stop >= bench.APART_SECONDS * bench.FPS
    assert plan.events[-1].visible.stop < plan.frames


def test_the_truth_is_where_half_of_an_event_shows(plan: Any) -> None:
    for event in plan.events:
        shown = [n for n in range(event.first - 20, event.last + 20) if event.opacity(n) >= 0.5]
        assert (shown[0], shown[-1] + 1) == (event.first, event.last)
        assert event.full
        assert all(event.opacity(n) == 1 for n in event.full)
        assert all(event.opacity(n) > 0 for n in event.visible)


def test_what_is_cut_in_begins_with_a_shot_and_what_fades_in_holds_none(plan: Any) -> None:
    cuts = {shot.first for shot in plan.shots}
    for event in plan.events:
        if event.ramp:
            assert not cuts & set(event.visible)
        else:
            assert {event.first, event.last} == cuts & set(range(event.first - 9, event.last + 9))


class Ideal:
    """Models that see nothing but the events, and no fade of less than half."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan

    def __call__(self, _setting: Any, _frames: Any, looks: Iterable[tuple[int, str]]) -> dict[tuple[int, str], float]:
        events = self._plan.events
        return {(n, kind): max(e.opacity(n) * (e.kind == kind) > 0.5 for e in events) * 1.0 for n, kind in looks}


def test_a_film_is_built_and_read_back(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [bench.Setting(128, 72, 1, cuts) for cuts in (True, False)]
    wanted = [(0.25, "cut", "nsfw"), (1.0, "fade", "face")]
    plan = bench.make_plan(settings[0], wanted, np.random.default_rng(5))
    monkeypatch.setattr(bench, "Judge", lambda: Ideal(plan))
    bench.build({tmp_path / f"{setting}.mp4": setting for setting in settings}, wanted, 5)
    films = [bench.read_film(tmp_path / f"{setting}.mp4") for setting in settings]
    for film, setting in zip(films, settings, strict=True):
        assert film.setting == setting
        assert [checked.event for checked in film.events] == list(plan.events)
        assert all(checked.sure == 1 and checked.fires for checked in film.events)
        with av.open(str(film.path)) as source:
            assert sum(1 for _ in source.decode(video=0)) == plan.frames
    assert films[1].key_frames == -(-plan.frames // bench.FPS)
    pictures = list(bench.decode(films[1].path))
    event = plan.events[0]
    changes = [float(np.abs(pictures[n].astype(float) - pictures[n - 1]).mean()) for n in (event.first, event.last)]
    assert min(changes) > 10


def result(bench: ModuleType, wall: float, segments: list[tuple[str, float, float]]) -> Any:
    return bench.Result([wall], 10, 100, "complete", (), {"default": segments, "none": segments})


@pytest.fixture
def scored(bench: ModuleType, tmp_path: Path) -> Any:
    events = (
        bench.Checked(bench.Overlay(300, 330, 0, "nsfw", 0, 1.0), 1.0, (300, 330)),
        bench.Checked(bench.Overlay(600, 660, 14, "face", 0, 2.0), 1.0, (602, 658)),
        bench.Checked(bench.Overlay(900, 908, 0, "face", 0, 0.25), 0.5, None),
    )
    path = tmp_path / "film.mp4"
    path.write_bytes(b"0" * 1000)
    film = bench.Film(path, bench.Setting(64, 36, 2, True), 60.0, events, 0, 30)
    results = {
        bench.UNIFORM.title: [result(bench, 4.0, [("nsfw", 10.1, 11.0), ("face", 30.0, 30.2)])],
        bench.ADAPTIVE.title: [result(bench, 1.0, [("nsfw", 10.0, 11.0), ("face", 20.0, 22.0), ("nsfw", 20.0, 22.0)])],
    }
    return bench.score([film], results)


def test_what_was_found_is_held_against_the_truth(bench: ModuleType, scored: Any) -> None:
    uniform, adaptive = scored.outcomes[bench.UNIFORM.title], scored.outcomes[bench.ADAPTIVE.title]
    # The third event's own model is not sure of it.
    assert [row.found for row in uniform] == [True, False]
    assert [row.found for row in adaptive] == [True, True]
    assert bench.border_errors(uniform) == pytest.approx([3, 0])
    assert bench.within(bench.border_errors(uniform)) == 0.5
    assert bench.border_errors(adaptive[1:], of_model=True) == pytest.approx([2, 2])
    results = scored.results[bench.ADAPTIVE.title]
    assert bench.false_segments(scored.films[0], results[0]) == 1


def test_the_summary_says_what_is_met_missed_and_not_measured(bench: ModuleType, scored: Any) -> None:
    met = {line.wanted: line.met for line in bench.summary(scored)}
    assert [value for wanted, value in met.items() if wanted.startswith(bench.TIGHT.title)] == [None, None]
    default = [value for wanted, value in met.items() if "key frames" in wanted]
    assert default == [True, True, True]
    text = bench.report(scored, ["keyframes SKIPPED: no such mode"])
    assert "not measured" in text
    assert "MISSED" in text
    assert "- keyframes SKIPPED" in text


def test_a_mode_that_is_not_there_is_left_out_with_a_note(bench: ModuleType) -> None:
    modes = [bench.UNIFORM, bench.Mode("dreamt", {"sampling": "dreamt"})]
    scanners, notes = bench.open_scanners(modes)
    assert list(scanners) == [bench.UNIFORM.title]
    assert len(notes) == 1
    assert notes[0].startswith("dreamt SKIPPED")
