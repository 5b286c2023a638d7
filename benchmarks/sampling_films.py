"""Plans the films of the sampling benchmark and builds them, so that the models see the events and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import itertools
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from sampling_drawing import BITS_PER_PIXEL, DRAWN, SLOWER, Encoder, Painter, decode, encode
from sampling_events import (
    ENTRIES,
    FPS,
    KINDS,
    LENGTHS,
    MODEL_OF,
    POLICY,
    Bytes,
    Overlay,
    Plan,
    Setting,
    Shot,
    benchmark_policy,
)
from scan import ROOT, tell

from vidmod.policy import Category
from vidmod.scanning import Scanner, ScanSettings

sys.path.append(str(ROOT))  # samples/ is no part of the installed package

from samples import faces, film, patterns, scenes

FADE_SECONDS, APART_SECONDS, JITTER_SECONDS, LEAD_SECONDS = 0.5, 6.0, 0.8, 2.0
FILM_SECONDS = 240
# The long events cost the most film and are missed the least.
EVENTS_PER_CELL, FEWER_FROM_SECONDS = 3, 5.0
TEXTURED_SHARE = 0.6
SURE_SHARE = 0.9
TRIES = 5


@dataclass(frozen=True, slots=True)
class Checked:
    """An event, and what its model says about it in the encoded film.

    Attributes:
        sure: Share of its fully visible frames that its model scores at or above `block`.
        fires: First frame at or above `review`, and the one after the last; None without any.
    """

    event: Overlay
    sure: float
    fires: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Film:
    """A film that is ready to be scanned.

    Attributes:
        noise: Frames outside of events that a model takes for one, of those looked at.
    """

    path: Path
    setting: Setting
    seconds: float
    events: tuple[Checked, ...]
    noise: int
    key_frames: int


Spec = tuple[float, str, str]


def specs(per_cell: int, rng: np.random.Generator) -> list[Spec]:
    """Length, entry and kind of all events of a setting, in random order."""
    listed = [
        cell
        for cell in itertools.product(LENGTHS, ENTRIES, KINDS)
        for _ in range(max(1, per_cell - (cell[0] >= FEWER_FROM_SECONDS)))
    ]
    return [listed[index] for index in rng.permutation(len(listed))]


def make_plan(setting: Setting, wanted: Sequence[Spec], rng: np.random.Generator) -> Plan:
    """Place events, cuts and distractors at random."""
    events: list[Overlay] = []
    distractors: list[Overlay] = []
    at = round((LEAD_SECONDS + rng.uniform(0, 2)) * FPS)
    for seconds, entry, kind in wanted:
        length = round(seconds * FPS)
        ramp = 0 if entry == "cut" else min(round(FADE_SECONDS * FPS), length // 2) // 2 * 2
        first = at + ramp // 2
        events.append(Overlay(first, first + length, ramp, kind, int(rng.integers(1 << 16)), seconds))
        end = events[-1].visible.stop
        at = end + round((APART_SECONDS + rng.uniform(0, JITTER_SECONDS)) * FPS)
        if rng.random() < 0.7:
            distractors.append(_distractor((end + at) // 2 + int(rng.integers(-FPS, FPS)), rng))
    frames = at - round((APART_SECONDS - LEAD_SECONDS) * FPS)
    kept = [item for item in distractors if item.visible.stop < frames]
    return Plan(setting, frames, _shots(setting, frames, events, rng), tuple(events), tuple(kept))


def _distractor(at: int, rng: np.random.Generator) -> Overlay:
    kind = ("flash", "insert", "card")[int(rng.integers(3))]
    length = int(rng.integers(1, 4)) if kind == "flash" else int(rng.integers(8, 36))
    ramp = 6 if kind == "card" and rng.random() < 0.5 else 0
    return Overlay(at, at + max(length, ramp), ramp, kind, int(rng.integers(1 << 16)))


def _shots(setting: Setting, frames: int, events: Sequence[Overlay], rng: np.random.Generator) -> tuple[Shot, ...]:
    """Cuts at random, none within or near an event; what is cut in begins and ends with one, as in a film."""
    cuts = {0, *(edge for event in events if not event.ramp for edge in (event.first, event.last))}
    near = {n for event in events for n in range(event.visible.start - FPS // 3, event.visible.stop + FPS // 3)}
    at = 0
    while at < frames:
        if at not in near:
            cuts.add(at)
        at += round(float(np.clip(rng.lognormal(math.log(2.8), 0.6), 0.8, 9)) * FPS)
    return tuple(_shot(cut, setting, rng) for cut in sorted(cuts) if cut < frames)


def _shot(first: int, setting: Setting, rng: np.random.Generator) -> Shot:
    kinds = media_files(setting.media) if setting.media else []
    if not kinds:
        kinds = ["textured"] if rng.random() < TEXTURED_SHARE else list(scenes.CALM_KINDS)
    return Shot(first, kinds[int(rng.integers(len(kinds)))], int(rng.integers(1 << 16)))


def media_files(folder: str) -> list[str]:
    """The clips of a folder, by name."""
    return [str(path) for path in sorted(Path(folder).iterdir()) if path.suffix in (".mp4", ".mkv", ".webm", ".mov")]


Look = tuple[int, str]  # a frame and the kind of event that is looked for in it
Scores = dict[Look, float]


class Judge:
    """Says what the models see in single frames: they go into a strip, and all of the strip is scanned."""

    def __init__(self) -> None:
        self._scanners = {
            kind: Scanner(ScanSettings(models=(name,), policy=benchmark_policy(), sampling="all"))
            for kind, name in MODEL_OF.items()
        }

    def __call__(self, setting: Setting, frames: Iterable[tuple[int, Bytes]], looks: Iterable[Look]) -> Scores:
        """The best score for a kind of event in each of the frames looked at."""
        wanted = {kind: {number for number, other in looks if other == kind} for kind in KINDS}
        held: dict[str, list[int]] = {kind: [] for kind in KINDS}
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            strips = {kind: Path(folder) / f"{kind}.mp4" for kind in KINDS}
            encoders = {kind: stack.enter_context(Encoder(path, setting, strip=True)) for kind, path in strips.items()}
            for number, planes in frames:
                for kind in KINDS:
                    if number in wanted[kind]:
                        encoders[kind].add(planes)
                        held[kind].append(number)
            stack.close()
            return {
                (number, kind): value
                for kind in KINDS
                for number, value in zip(held[kind], self._scores(kind, strips[kind]), strict=True)
            }

    def _scores(self, kind: str, strip: Path) -> Iterator[float]:
        category = _category(kind)
        for sample in self._scanners[kind].scan(strip).samples:
            yield max(category.label_scores(sample.predictions).values(), default=0.0)


def _category(kind: str) -> Category:
    return next(item for item in benchmark_policy().categories if item.name == kind)


def _thresholds(kind: str) -> tuple[float, float]:
    return _category(kind).review, _category(kind).block


def _spread(frames: range, count: int) -> list[int]:
    """At most so many of the frames, the first and the last among them."""
    return sorted({frames[round(part)] for part in np.linspace(0, len(frames) - 1, min(count, len(frames)))})


def _proof_looks(plan: Plan) -> list[Look]:
    """A few frames of everything: what is drawn badly shows before a film is encoded."""
    ends = [shot.first for shot in plan.shots[1:]] + [plan.frames]
    numbers = {n for shot, end in zip(plan.shots, ends, strict=True) for n in _spread(range(shot.first, end), 4)}
    numbers |= {n for item in plan.distractors for n in _spread(item.full or item.visible, 2)}
    looks = [(n, kind) for n in numbers for kind in KINDS if not any(n in e.visible for e in plan.events)]
    return looks + [(n, kind) for event in plan.events for n in _spread(event.full, 6) for kind in KINDS]


def _film_looks(plan: Plan) -> list[Look]:
    """Two frames a second for everything; of events all frames for their own kind, if long every third."""
    looks = {(n, kind) for n in range(0, plan.frames, FPS // 2) for kind in KINDS}
    for event in plan.events:
        step = 3 if len(event.full) > FPS else 1
        inner = set(event.full[step:-step]) - set(event.full[::step])
        looks |= {(n, event.kind) for n in event.visible if n not in inner}
    return sorted(looks)


def _sure(event: Overlay, scores: Scores) -> float:
    """Share of the fully visible frames looked at in which an event is beyond doubt and no other kind is seen."""
    _, block = _thresholds(event.kind)
    full = [scores[n, event.kind] >= block for n in event.full if (n, event.kind) in scores]
    others = [
        scores[n, kind] < _thresholds(kind)[0]
        for n in event.visible
        for kind in KINDS
        if kind != event.kind and (n, kind) in scores
    ]
    return statistics.mean(full) if all(others) else 0.0


def _fires(event: Overlay, scores: Scores) -> tuple[int, int] | None:
    review, _ = _thresholds(event.kind)
    fired = [n for n in event.visible if scores.get((n, event.kind), 0.0) >= review]
    return (fired[0], fired[-1] + 1) if fired else None


def _noise(plan: Plan, scores: Scores) -> list[int]:
    """Frames outside of events that a model takes for one."""
    shown = {n for event in plan.events for n in event.visible}
    return sorted({n for (n, kind), score in scores.items() if n not in shown and score >= _thresholds(kind)[0]})


def _redraw(plan: Plan, scores: Scores, rng: np.random.Generator) -> Plan | None:
    """The plan with other looks for what went wrong; None if nothing did."""
    weak = {event for event in plan.events if _sure(event, scores) < SURE_SHARE}
    noise = _noise(plan, scores)
    if not weak and not noise:
        return None
    noisy = {plan.shot_at(n) for n in noise}
    # Without media: what was wrong with a clip is wrong with its next frames as well.
    plain = replace(plan.setting, media="")
    return replace(
        plan,
        events=tuple(replace(e, seed=int(rng.integers(1 << 16))) if e in weak else e for e in plan.events),
        shots=tuple(_shot(s.first, plain, rng) if i in noisy else s for i, s in enumerate(plan.shots)),
        distractors=tuple(d for d in plan.distractors if not set(d.visible) & set(noise)),
    )


def _proven(plan: Plan, judged: Judge, rng: np.random.Generator) -> Plan:
    """Redraw a plan until a few frames of everything are as they should be."""
    for _ in range(TRIES):
        looks, painter = _proof_looks(plan), Painter(plan)
        drawn = ((number, painter.frame(number)) for number in sorted({number for number, _ in looks}))
        better = _redraw(plan, judged(plan.setting, drawn, looks), rng)
        if better is None:
            break
        plan = better
    return plan


def build(paths: Mapping[Path, Setting], wanted: Sequence[Spec], seed: Sequence[int]) -> None:
    """Make the same film with several settings and write what is in each beside it.

    Args:
        paths: The .mp4 files to write; the truth goes into a .json of the same name.
        wanted: The events, in order.
        seed: The only source of chance.
    """
    rng = np.random.default_rng(seed)
    judged, plan = Judge(), make_plan(next(iter(paths.values())), wanted, rng)
    for turn in range(1, TRIES + 1):
        plan = _proven(plan, judged, rng)
        parts = {path.with_suffix(".part"): setting for path, setting in paths.items()}
        encode(parts, map(Painter(plan).frame, range(plan.frames)))
        looks = _film_looks(plan)
        seen = [judged(setting, enumerate(decode(part)), looks) for part, setting in parts.items()]
        # What is wrong in one of the films is drawn anew in all.
        better = next((other for scores in seen if (other := _redraw(plan, scores, rng)) is not None), None)
        if better is None or turn == TRIES:
            break
        plan = better
    for (path, setting), scores in zip(paths.items(), seen, strict=True):
        path.with_suffix(".part").replace(path)
        document = {
            **dataclasses.asdict(_described(path, setting, plan, scores)),
            "path": path.name,
            "encoded_times": turn,
            "shots": [dataclasses.asdict(shot) for shot in plan.shots],
            "distractors": [dataclasses.asdict(item) for item in plan.distractors],
        }
        path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _described(path: Path, setting: Setting, plan: Plan, scores: Scores) -> Film:
    events = tuple(Checked(event, _sure(event, scores), _fires(event, scores)) for event in plan.events)
    with av.open(str(path)) as source:
        keys = sum(packet.is_keyframe for packet in source.demux(video=0))
    return Film(path, setting, plan.frames / FPS, events, len(_noise(plan, scores)), keys)


def read_film(path: Path) -> Film:
    """A film that `build` made."""
    document = json.loads(path.with_suffix(".json").read_text("utf-8"))
    events = tuple(
        Checked(Overlay(**row["event"]), row["sure"], row["fires"] and tuple(row["fires"]))
        for row in document["events"]
    )
    setting = Setting(**document["setting"])
    return Film(path, setting, document["seconds"], events, document["noise"], document["key_frames"])


class Order(NamedTuple):
    """What `build` needs."""

    paths: dict[Path, Setting]
    wanted: list[Spec]
    seed: tuple[int, ...]


def _recipe() -> str:
    """The code that decides what is in a film."""
    drawing = (faces, film, patterns, scenes, Painter, Encoder)
    planning = (Overlay, make_plan, _shots, _distractor, _shot, _redraw, _sure, _noise, _proof_looks, _film_looks)
    numbers = (FPS, FADE_SECONDS, APART_SECONDS, JITTER_SECONDS, LEAD_SECONDS, BITS_PER_PIXEL, DRAWN, TEXTURED_SHARE)
    constants = json.dumps([*numbers, SLOWER, SURE_SHARE, POLICY])
    return constants + "".join(inspect.getsource(item) for item in (*drawing, *planning))


def orders(folder: Path, settings: Sequence[Setting], per_cell: int, seed: int) -> list[Order]:
    """One or more films, short enough each, for settings that differ only in what becomes of scene cuts."""
    groups: dict[Setting, list[Setting]] = defaultdict(list)
    for setting in settings:
        groups[replace(setting, scenecut=False)].append(setting)
    recipe, placed = _recipe(), []
    for shared, group in groups.items():
        number = (seed, shared.gop, int(bool(shared.media)))
        listed = specs(per_cell, np.random.default_rng(number))
        mean = sum(row[0] for row in listed) / len(listed) + APART_SECONDS + JITTER_SECONDS / 2
        parts = math.ceil(len(listed) * mean / FILM_SECONDS)
        for part in range(parts):
            wanted, seeds = listed[part::parts], (*number, part)
            text = json.dumps([[dataclasses.asdict(s) for s in group], wanted, seeds, recipe])
            digest = hashlib.sha256(text.encode()).hexdigest()[:10]
            paths = {folder / f"sampling-{setting}-{part}-{digest}.mp4": setting for setting in group}
            placed.append(Order(paths, wanted, seeds))
    return placed


def _is_built(order: Order) -> bool:
    return all(path.exists() and path.with_suffix(".json").exists() for path in order.paths)


def get_films(listed: Sequence[Order], jobs: int) -> list[Film]:
    """Build the films, or find them where an earlier run built them."""
    missing = [order for order in listed if not _is_built(order)]
    for folder in {path.parent for order in missing for path in order.paths}:
        folder.mkdir(parents=True, exist_ok=True)
        tell(f"Building {sum(len(order.paths) for order in missing)} films in {folder} …")
    if jobs == 1 or len(missing) < 2:
        for order in missing:
            build(*order)
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            for order, _ in zip(missing, pool.map(build, *zip(*missing, strict=True)), strict=True):
                tell(f"  {', '.join(path.name for path in order.paths)}")
    return [read_film(path) for order in listed for path in order.paths]
