"""Scans the films of the sampling benchmark by every mode, and holds what was found against the truth."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from sampling_events import FPS, Overlay, Setting, benchmark_policy
from sampling_films import SURE_SHARE, Checked, Film
from scan import tell

from vidmod.errors import UsageError
from vidmod.judging import judge
from vidmod.scanning import Scanner, ScanSettings
from vidmod.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of sampling."""

    title: str
    settings: Mapping[str, Any]


UNIFORM = Mode("uniform", {"sampling": "uniform"})
ADAPTIVE = Mode("adaptive", {"sampling": "adaptive"})
TIGHT = Mode("adaptive, max-gap 0.5", {"sampling": "adaptive", "max_gap": Fraction(1, 2)})
MODES = (UNIFORM, Mode("keyframes", {"sampling": "keyframes"}), ADAPTIVE, TIGHT)
EXTRA = {
    "uniform4": Mode("uniform, 4 fps", {"sampling": "uniform", "fps": Fraction(4)}),
    "all": Mode("all", {"sampling": "all"}),
}


Found = tuple[str, float, float]  # category, start and end in seconds


@dataclass(slots=True)
class Result:
    """What one mode said about one film.

    Attributes:
        walls: Seconds, one for each round.
        decoded: Packets that gave a picture, by the ledger; None if that does not tell.
        segments: Smoothing method (`default` or `none`) to what was found.
    """

    walls: list[float]
    samples: int
    decoded: int | None
    status: str
    notes: tuple[str, ...]
    segments: dict[str, list[Found]]

    @property
    def wall(self) -> float:
        """Seconds, the median of the rounds."""
        return statistics.median(self.walls)


def _result(timeline: Timeline, wall: float) -> Result:
    raw = judge(timeline, benchmark_policy(), "none")
    frames = [stream.ledger.get("frames") for stream in timeline.streams]
    return Result(
        walls=[wall],
        samples=timeline.sample_count,
        decoded=None if None in frames else sum(count for count in frames if count is not None),
        status=timeline.status,
        notes=timeline.notes,
        segments={
            name: [(s.category, s.start_seconds, s.end_seconds) for s in item.segments]
            for name, item in (("default", timeline), ("none", raw))
        },
    )


def open_scanners(modes: Iterable[Mode]) -> tuple[dict[str, Scanner], list[str]]:
    """A scanner for every mode that there is, and a note for every other."""
    scanners, notes = {}, []
    for mode in modes:
        try:
            scanners[mode.title] = Scanner(ScanSettings(policy=benchmark_policy(), **mode.settings))
        except UsageError as exc:
            notes.append(f"{mode.title} SKIPPED: {exc}")
    return scanners, notes


def scan_all(films: Sequence[Film], scanners: Mapping[str, Scanner], rounds: int) -> dict[str, list[Result]]:
    """Every film by every mode, one mode after the other, each time beginning with another."""
    results: dict[str, list[Result]] = {title: [] for title in scanners}
    titles, turn = list(scanners), 0
    for scanner in scanners.values():  # compiles the models and touches all code
        scanner.scan(films[0].path)
    for number in range(rounds):
        for index, item in enumerate(films):
            item.path.read_bytes()  # so that nobody waits for the disk
            for title in titles[turn % len(titles) :] + titles[: turn % len(titles)]:
                began = time.perf_counter()
                timeline = scanners[title].scan(item.path)
                wall = time.perf_counter() - began
                if number == 0:
                    results[title].append(_result(timeline, wall))
                else:
                    results[title][index].walls.append(wall)
                tell(f"round {number + 1}/{rounds}  {item.path.stem:40} {title:22} {wall:7.2f} s")
            turn += 1
    return results


Errors = tuple[float, float]  # frames that a start and an end are too late; below 0: too early


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event.

    Attributes:
        errors: Smoothing method to the errors of its borders, where it was found.
        model_errors: The same against the borders that the model draws when it sees every frame.
    """

    film: int
    setting: Setting
    event: Overlay
    errors: Mapping[str, Errors] = field(default_factory=dict)
    model_errors: Mapping[str, Errors] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """By the default smoothing."""
        return "default" in self.errors


def _against(first: int, last: int, hits: Sequence[Found]) -> Errors:
    return min(hit[1] for hit in hits) * FPS - first, max(hit[2] for hit in hits) * FPS - last


def outcome(index: int, item: Film, checked: Checked, result: Result) -> Outcome:
    """Hold one event against what was found: any segment of its category that overlaps it has found it."""
    event, errors, model_errors = checked.event, {}, {}
    for method, found in result.segments.items():
        hits = [s for s in found if s[0] == event.kind and s[1] * FPS < event.last and s[2] * FPS > event.first]
        if hits:
            errors[method] = _against(event.first, event.last, hits)
            model_errors[method] = _against(*(checked.fires or (event.first, event.last)), hits)
    return Outcome(index, item.setting, event, errors, model_errors)


def false_segments(item: Film, result: Result) -> int:
    """Segments that overlap nothing visible of their category."""
    return sum(
        not any(
            category == checked.event.kind
            and start * FPS < checked.event.visible.stop
            and end * FPS > checked.event.visible.start
            for checked in item.events
        )
        for category, start, end in result.segments["default"]
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """All results, scored.

    Attributes:
        outcomes: Mode to events; those that their own model is not sure of are left out.
    """

    films: Sequence[Film]
    results: Mapping[str, Sequence[Result]]
    outcomes: Mapping[str, Sequence[Outcome]]


def score(films: Sequence[Film], results: Mapping[str, Sequence[Result]]) -> Scored:
    """Hold all that was found against the truth."""
    outcomes = {
        title: [
            outcome(index, item, checked, rows[index])
            for index, item in enumerate(films)
            for checked in item.events
            if checked.sure >= SURE_SHARE
        ]
        for title, rows in results.items()
    }
    return Scored(films, results, outcomes)


def recall(rows: Sequence[Outcome]) -> float:
    """Share of the events that were found; NaN without any."""
    return statistics.mean(row.found for row in rows) if rows else math.nan


def border_errors(rows: Iterable[Outcome], method: str = "default", *, of_model: bool = False) -> list[float]:
    """Frames by which starts and ends of found events are off, all of them, without sign."""
    kept = (row.model_errors if of_model else row.errors for row in rows)
    return [abs(error) for errors in kept if method in errors for error in errors[method]]


def within(errors: Sequence[float], frames: float = 1.0) -> float:
    """Share of errors of at most so many frames; NaN without any. Segments are rounded to microseconds."""
    return statistics.mean(error <= frames + 0.001 for error in errors) if errors else math.nan
