"""What each way of sampling finds and what it costs: recall, borders and time on films with known truth.

    python benchmarks/sampling.py -o sampling.json
    python benchmarks/sampling.py --quick              to see that it works
    python benchmarks/sampling.py --rounds 3           for times that are to be told to others

Builds H.264 films (kept in --workdir): GOPs of 1, 2, 5 and 10 s, each with key frames on scene cuts and without.
In each, events of 0.25 to 5 s lie at random times at least 6 s apart: a harmless pattern that open_nsfw is sure
about, over the whole picture, or a drawn face that NudeNet is sure about, either cut in or faded in and out.
Between them are shots with cuts of their own, flashes, inserts and title cards that are no events.

Every event was scored by its model in the film as it is encoded, and drawn anew if the model was not sure of it
in nine of ten fully visible frames; a shot that a model takes for an event was drawn anew as well. So what is
missed here, sampling has missed.

Truth is exact to the frame: an event is [first, last) with at least half of its opacity. Each film is scanned by
one mode after the other, in another order for each film, by scanners that are warm.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import math
import multiprocessing
import operator
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray
from scan import ROOT, default_workdir, machine, table, tell, use_cores

from vidmod.errors import UsageError
from vidmod.judging import judge
from vidmod.policy import Category, Policy
from vidmod.scanning import Scanner, ScanSettings
from vidmod.timeline import Timeline

sys.path.append(str(ROOT))  # samples/ is no part of the installed package

from samples import faces, film, patterns, scenes

Bytes = NDArray[np.uint8]

FPS = 30
GOPS = (1, 2, 5, 10)
LENGTHS = (0.25, 0.5, 1.0, 2.0, 5.0)
ENTRIES = ("cut", "fade")
KINDS = ("nsfw", "face")
FADE_SECONDS, APART_SECONDS, JITTER_SECONDS, LEAD_SECONDS = 0.5, 6.0, 0.8, 2.0
FILM_SECONDS = 240
# The long events cost the most film and are missed the least.
EVENTS_PER_CELL, FEWER_FROM_SECONDS = 3, 5.0
# As many bits for a pixel as samples/film.py spends: 4.5 Mbit/s at 1080p30.
BITS_PER_PIXEL = 4_500_000 / (1920 * 1080 * 30)
DRAWN = (320, 180)  # what is smooth is drawn small and enlarged
TEXTURED_SHARE = 0.6
SLOWER = 3  # so much slower than in samples/film.py the camera moves, and so much longer its shots may be
SURE_SHARE = 0.9
TRIES = 5
# The shares of the films that a summary line speaks of.
SHORT_GOP_SECONDS, BORDERS_WANTED, RECALL_WANTED = 2, 0.99, 0.99

MODEL_OF = {"nsfw": "open_nsfw", "face": "nudenet"}
# The thresholds of the default policy's `nsfw` and `explicit`, so that lone samples fare as they do in earnest.
POLICY = {
    "schema": "vidmod.policy/1",
    "name": "benchmark",
    "categories": {
        "nsfw": {"labels": ["open_nsfw.nsfw"], "review": 0.2, "block": 0.8},
        "face": {"labels": ["nudenet.FACE_FEMALE", "nudenet.FACE_MALE"], "review": 0.4, "block": 0.6},
    },
}


# --- what is in a film ---


@dataclass(frozen=True, slots=True)
class Overlay:
    """Something laid over the film: an event, or something that is to be mistaken for one's border.

    Attributes:
        first: First frame with at least half of the opacity.
        last: The frame after the last such.
        ramp: Frames of a fade, even, half of them outside of [first, last); 0 for a cut.
        kind: One of `KINDS`, or `flash`, `insert` or `card`.
        seed: How it looks.
        seconds: For an event, the nominal length.
    """

    first: int
    last: int
    ramp: int
    kind: str
    seed: int
    seconds: float = 0.0

    @property
    def entry(self) -> str:
        """`cut` or `fade`."""
        return "fade" if self.ramp else "cut"

    @property
    def visible(self) -> range:
        """All frames that it changes."""
        return range(self.first - self.ramp // 2, self.last + self.ramp // 2)

    @property
    def full(self) -> range:
        """The frames that show it and nothing else."""
        return range(self.first + self.ramp // 2, self.last - self.ramp // 2)

    def opacity(self, number: int) -> float:
        """How much of it shows in a frame, 0 to 1; never exactly half."""
        shown = self.visible
        if number not in shown:
            return 0.0
        steps = min(number - shown.start, shown.stop - 1 - number) + 0.5
        return min(1.0, steps / self.ramp) if self.ramp else 1.0


@dataclass(frozen=True, slots=True)
class Shot:
    """A stretch of background from `first` to the next shot's.

    Attributes:
        kind: `textured`, one of `samples.scenes.CALM_KINDS`, or the path of a clip.
    """

    first: int
    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of film."""

    width: int
    height: int
    gop: int
    scenecut: bool
    media: str = ""

    def __str__(self) -> str:
        return f"gop{self.gop}-{'cuts' if self.scenecut else 'grid'}{'-media' if self.media else ''}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole film."""

    setting: Setting
    frames: int
    shots: tuple[Shot, ...]
    events: tuple[Overlay, ...]
    distractors: tuple[Overlay, ...]

    def shot_at(self, number: int) -> int:
        """Index of a frame's shot."""
        return max(index for index, shot in enumerate(self.shots) if shot.first <= number)


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


# --- drawing it ---


class Painter:
    """Draws the frames of a plan as planes: uint8 [height * 3 / 2, width], yuv420p, BT.709, limited range."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._size = (plan.setting.width, plan.setting.height)
        self._camera = film.Camera(*self._size, FPS * SLOWER, 4)
        self._tool = VideoReformatter()
        self._clips: dict[str, Iterator[Bytes]] = {}
        # What is drawn is smooth. Grain on it that is new in each frame makes x264 see cuts where there are none;
        # detail that stays in its place is what a cut changes.
        width, height = self._size
        coarse = np.random.default_rng(1).standard_normal((height // 3 + 64, width // 3 + 64)).astype(np.float32)
        detail = cv2.resize(coarse, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        self._detail = np.asarray(np.clip(detail * 5 + 12, 0, 24), np.uint8)

    def frame(self, number: int) -> Bytes:
        """Draw a frame."""
        shot = self._plan.shots[self._plan.shot_at(number)]
        planes = self._shot(shot, number)
        for item in (*self._plan.distractors, *self._plan.events):
            opacity = item.opacity(number)
            if opacity:
                over = self._over(item, number, planes)
                planes = np.asarray(cv2.addWeighted(planes, 1 - opacity, over, opacity, 0), np.uint8)
        return planes

    def _shot(self, shot: Shot, number: int) -> Bytes:
        within = number - shot.first
        if shot.kind == "textured":
            length = film.SHOT_SECONDS * FPS * SLOWER
            return np.asarray(self._camera.frame(shot.seed * length + within % length).to_ndarray(), np.uint8)
        if shot.kind in scenes.CALM_KINDS:
            picture = scenes.calm_scene(*DRAWN, within / FPS + shot.seed % 60, kind=shot.kind, seed=shot.seed % 97)
            return self._detailed(self._planes(picture), shot.seed)
        if shot.kind not in self._clips:
            self._clips[shot.kind] = self._clip(shot.kind)
        return next(self._clips[shot.kind])

    def _over(self, item: Overlay, number: int, planes: Bytes) -> Bytes:
        part = (number - item.visible.start) / len(item.visible)
        if item.kind == "flash":
            return np.concatenate(
                (np.full_like(planes[: self._size[1]], 230), np.full_like(planes[self._size[1] :], 128))
            )
        if item.kind == "nsfw":
            rng = np.random.default_rng(item.seed)
            index, phase = int(rng.integers(patterns.PATTERN_COUNT)), float(rng.uniform(0, 6))
            shift = (math.sin(3 * part + phase), math.cos(2 * part + phase))
            picture = patterns.explicit_pattern(*DRAWN, index, zoom=1.05 + 0.2 * part, shift=shift)
            return self._detailed(self._planes(picture), item.seed)
        if item.kind == "face":
            return self._with_face(item, part, planes)
        kind = "title" if item.kind == "card" else scenes.CALM_KINDS[1 + item.seed % (len(scenes.CALM_KINDS) - 1)]
        picture = scenes.calm_scene(*DRAWN, number / FPS, kind=kind, seed=item.seed % 97)
        return self._detailed(self._planes(picture), item.seed)

    def _with_face(self, item: Overlay, part: float, planes: Bytes) -> Bytes:
        """The face drifts a little; only the part of the picture around it is drawn on."""
        rng = np.random.default_rng(item.seed)
        width, height = self._size
        size = height * rng.uniform(0.42, 0.58)
        x = width * (rng.uniform(0.35, 0.65) + rng.uniform(-0.05, 0.05) * part)
        y = height * (rng.uniform(0.45, 0.55) + rng.uniform(-0.03, 0.03) * part)
        picture = self._rgb(planes)
        reach = size / 2
        top, bottom = max(0, int(y + faces.TOP * reach) - 2), min(height, int(y + faces.BOTTOM * reach) + 2)
        left, right = max(0, int(x + faces.LEFT * reach) - 2), min(width, int(x + faces.RIGHT * reach) + 2)
        faces.draw_face(picture[top:bottom, left:right], (x - left, y - top), size)
        return self._planes(picture)

    def _planes(self, picture: Bytes) -> Bytes:
        """From RGB of any size."""
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        tags: dict[str, Any] = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG, "threads": 1}
        return np.asarray(self._tool.reformat(source, *self._size, "yuv420p", **tags).to_ndarray(), np.uint8)

    def _rgb(self, planes: Bytes) -> Bytes:
        source = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        tags: dict[str, Any] = {"src_colorspace": Colorspace.ITU709, "src_color_range": ColorRange.MPEG, "threads": 1}
        return np.array(
            self._tool.reformat(source, format="rgb24", dst_color_range=ColorRange.JPEG, **tags).to_ndarray()
        )

    def _detailed(self, planes: Bytes, seed: int) -> Bytes:
        width, height = self._size
        top, left = (int(v) for v in np.random.default_rng(seed).integers(0, 192, 2))
        top, left = min(top, self._detail.shape[0] - height), min(left, self._detail.shape[1] - width)
        detail = self._detail[top : top + height, left : left + width]
        planes[:height] = cv2.subtract(cv2.add(planes[:height], detail), np.full_like(detail, 12))
        return planes

    def _clip(self, path: str) -> Iterator[Bytes]:
        """A clip's frames over and over, stretched to the film's size."""
        while True:
            with av.open(path) as source:
                for frame in source.decode(video=0):
                    yield np.asarray(self._tool.reformat(frame, *self._size, "yuv420p").to_ndarray(), np.uint8)


class Encoder:
    """Writes planes as H.264 in MP4, as a context manager.

    Args:
        path: The file to write.
        setting: Its size and key frames.
        strip: Whether the frames have nothing to do with each other and are to keep all detail.
    """

    def __init__(self, path: Path, setting: Setting, *, strip: bool = False) -> None:
        self._count = 0
        self._output = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        stream = self._output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = setting.width, setting.height, "yuv420p"
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        if strip:
            stream.options = {"preset": "ultrafast", "threads": "1", "crf": "16", "x264-params": "keyint=1"}
        else:
            stream.bit_rate = round(BITS_PER_PIXEL * setting.width * setting.height * FPS)
            # One thread, as there is a process for every core, and so that the bytes are always the same. The
            # preset looks ahead no further than its B-frames; the usual ten frames find cuts as other presets do.
            params = f"keyint={setting.gop * FPS}:scenecut={40 if setting.scenecut else 0}:rc-lookahead=10"
            stream.options = {"preset": "superfast", "threads": "1", "x264-params": params}
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is None:
            self._output.mux(self._stream.encode(None))
        self._output.close()

    def add(self, planes: Bytes) -> None:
        """Encode the next frame."""
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self._count, Fraction(1, FPS)
        self._count += 1
        self._output.mux(self._stream.encode(frame))


def encode(paths: Mapping[Path, Setting], frames: Iterable[Bytes]) -> None:
    """Write the same frames with several settings, so that each is drawn only once."""
    with contextlib.ExitStack() as stack:
        encoders = [stack.enter_context(Encoder(path, setting)) for path, setting in paths.items()]
        for planes in frames:
            for encoder in encoders:
                encoder.add(planes)


def decode(path: Path) -> Iterator[Bytes]:
    """The frames of a film."""
    with av.open(str(path)) as source:
        source.streams.video[0].thread_type = "AUTO"
        for frame in source.decode(video=0):
            yield np.asarray(frame.to_ndarray(), np.uint8)


# --- making sure that the models see the events and nothing else ---


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


def benchmark_policy() -> Policy:
    """Which scores count."""
    return Policy.from_document(POLICY, "the benchmark's policy")


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


# --- scanning it ---


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


# --- scoring it ---


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


# --- telling ---


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _share(rows: Sequence[Outcome]) -> str:
    return f"{_percent(recall(rows))} ({sum(row.found for row in rows)}/{len(rows)})" if rows else "-"


def _middle(errors: Sequence[float]) -> list[str]:
    if not errors:
        return ["-", "-"]
    return [f"{statistics.median(errors):.1f}", f"{np.percentile(errors, 90):.1f}"]


def _time(scored: Scored, title: str, chosen: Callable[[Setting], bool] = lambda _: True) -> float:
    pairs = zip(scored.films, scored.results[title], strict=True)
    return sum(result.wall for item, result in pairs if chosen(item.setting))


def _ratio(scored: Scored, title: str, chosen: Callable[[Setting], bool] = lambda _: True) -> float:
    uniform = _time(scored, UNIFORM.title, chosen) if UNIFORM.title in scored.results else math.nan
    return _time(scored, title, chosen) / uniform if uniform else math.nan


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _cost_row(scored: Scored, title: str, chosen: Callable[[Setting], bool]) -> list[str]:
    rows = [row for row in scored.outcomes[title] if chosen(row.setting)]
    pairs = [pair for pair in zip(scored.films, scored.results[title], strict=True) if chosen(pair[0].setting)]
    cuts = [row for row in rows if row.event.entry == "cut"]
    seconds, wall = sum(item.seconds for item, _ in pairs), sum(result.wall for _, result in pairs)
    decoded = [result.decoded for _, result in pairs]
    return [
        _share(rows),
        _percent(within(border_errors(cuts))),
        f"{sum(false_segments(*pair) for pair in pairs) / seconds * 3600:.1f}",
        f"{sum(result.samples for _, result in pairs)}",
        "-" if None in decoded else f"{sum(count for count in decoded if count is not None)}",
        f"{wall:.1f}",
        f"{seconds / wall:.1f}",
        _number(_ratio(scored, title, chosen), 3),
    ]


COST = [
    "recall %",
    "borders of cuts ≤ 1 frame %",
    "false/h",
    "samples",
    "decoded",
    "s",
    "times real time",
    "of uniform",
]


def _by_setting(scored: Scored) -> Iterator[list[str]]:
    for setting in dict.fromkeys(item.setting for item in scored.films):
        label = f"{setting.gop} s, {'cuts' if setting.scenecut else 'grid'}{', media' if setting.media else ''}"
        for title in scored.results:
            yield [label, title, *_cost_row(scored, title, functools.partial(operator.eq, setting))]
    for title in scored.results:
        yield ["all", title, *_cost_row(scored, title, lambda _: True)]


def _by_length(scored: Scored) -> Iterator[list[str]]:
    for title, rows in scored.outcomes.items():
        for entry in ("", *ENTRIES):
            kept = [row for row in rows if entry in ("", row.event.entry)]
            yield [title, entry or "both", *(_share([r for r in kept if r.event.seconds == s]) for s in LENGTHS)]


def _by_look(scored: Scored) -> Iterator[list[str]]:
    for title, rows in scored.outcomes.items():
        for entry, kind in itertools.product(ENTRIES, KINDS):
            kept = [row for row in rows if (row.event.entry, row.event.kind) == (entry, kind)]
            errors, raw = border_errors(kept), border_errors(kept, "none")
            own = border_errors(kept, of_model=True)
            yield [
                title,
                f"{entry}, {kind}",
                _share(kept),
                _percent(within(errors)),
                *_middle(errors),
                _percent(within(raw)),
                *_middle(raw),
                _percent(within(own)),
                _percent(within([max(0.0, e) for e in _beyond_fades(kept)])),
            ]


def _beyond_fades(rows: Iterable[Outcome]) -> list[float]:
    """Frames by which borders are off beyond half of their fade, within which a model may draw the line."""
    return [
        abs(error) - row.event.ramp / 2 for row in rows if "default" in row.errors for error in row.errors["default"]
    ]


LOOK = [
    "recall %",
    "≤ 1 frame %",
    "median",
    "p90",
    "raw ≤ 1 %",
    "raw median",
    "raw p90",
    "model's ≤ 1 %",
    "tolerated %",
]


class Line(NamedTuple):
    """A line of the summary; `met` is None where a mode is missing."""

    wanted: str
    measured: str
    met: bool | None

    def row(self) -> list[str]:
        """As a table's row."""
        return [self.wanted, self.measured, "not measured" if self.met is None else "met" if self.met else "MISSED"]


def summary(scored: Scored) -> list[Line]:
    """What is wanted of sampling, and whether it is so."""
    return [*_tight_lines(scored), *_default_lines(scored), *_border_lines(scored)]


def _tight_lines(scored: Scored) -> Iterator[Line]:
    wanted = f"{TIGHT.title}: recall at least uniform's", f"{TIGHT.title}: in ≤ 0.8 of uniform's time"
    if not {UNIFORM.title, TIGHT.title} <= set(scored.results):
        yield from (Line(text, "-", None) for text in wanted)
        return
    ours, theirs = scored.outcomes[TIGHT.title], scored.outcomes[UNIFORM.title]
    lost = sum(b.found and not a.found for a, b in zip(ours, theirs, strict=True))
    won = sum(a.found and not b.found for a, b in zip(ours, theirs, strict=True))
    text = f"{_share(ours)} against {_share(theirs)}; {won} found only by it, {lost} only by uniform"
    yield Line(wanted[0], text, recall(ours) >= recall(theirs))
    ratio = _ratio(scored, TIGHT.title)
    yield Line(wanted[1], f"{ratio:.3f}", ratio <= 0.8)


def _default_lines(scored: Scored) -> Iterator[Line]:
    where = f"{ADAPTIVE.title}, key frames at least every {SHORT_GOP_SECONDS} s"
    cases: dict[str, Callable[[Overlay], bool]] = {
        "events ≥ 2 s": lambda event: event.seconds >= 2,
        "events ≥ 1 s that begin with a cut": lambda event: event.seconds >= 1 and event.entry == "cut",
    }
    measured = {UNIFORM.title, ADAPTIVE.title} <= set(scored.results)
    rows = [row for row in scored.outcomes.get(ADAPTIVE.title, ()) if row.setting.gop <= SHORT_GOP_SECONDS]
    for text, chosen in cases.items():
        kept = [row for row in rows if chosen(row.event)]
        met = recall(kept) >= RECALL_WANTED if kept and measured else None
        yield Line(f"{where}: recall of {text} ≥ {RECALL_WANTED:.0%}", _share(kept), met)
    ratio = _ratio(scored, ADAPTIVE.title, lambda s: s.gop <= SHORT_GOP_SECONDS) if measured else math.nan
    met = None if math.isnan(ratio) else ratio <= 1 / 3
    yield Line(f"{where}: in ≤ 1/3 of uniform's time", _number(ratio, 3), met)


def _border_lines(scored: Scored) -> Iterator[Line]:
    for title, rows in scored.outcomes.items():
        cuts = border_errors(row for row in rows if row.event.entry == "cut")
        fades = _beyond_fades(row for row in rows if row.event.entry == "fade")
        raw = border_errors((row for row in rows if row.event.entry == "cut"), "none")
        own = border_errors((row for row in rows), of_model=True)
        text = (
            f"{_percent(within(cuts))} % of cuts' (unsmoothed {_percent(within(raw))} %), {_percent(within(fades))} % "
            f"of fades' beyond half a fade, {_percent(within(own))} % of all against the model's own"
        )
        met = within(cuts) >= BORDERS_WANTED if cuts else None
        yield Line(f"{title}: {BORDERS_WANTED:.0%} of the borders of found cut-in events within one frame", text, met)


def report(scored: Scored, notes: Sequence[str]) -> str:
    """Everything that was measured, as markdown."""
    films, first = scored.films, scored.films[0].setting
    dropped = [checked for item in films for checked in item.events if checked.sure < SURE_SHARE]
    events, seconds = sum(len(item.events) for item in films), sum(item.seconds for item in films)
    partial = {title: sum(row.status != "complete" for row in rows) for title, rows in scored.results.items()}
    parts = [
        f"{machine()}. {len(films)} films, {seconds / 60:.1f} min, {first.width}x{first.height}, {FPS} frames/s, "
        f"{sum(item.path.stat().st_size for item in films) * 8 / seconds / 1e6:.1f} Mbit/s, {events} events, "
        f"{len(dropped)} of them left out as no model is sure of them, {sum(item.noise for item in films)} frames "
        "outside of events that a model takes for one.",
        *(f"- {note}" for note in notes),
        *(f"- {title}: {count} scans are not complete" for title, count in partial.items() if count),
        "By GOP and whether scene cuts get a key frame (`cuts`) or not (`grid`).",
        table(["films", "mode", *COST], _by_setting(scored)),
        "Recall by length, %.",
        table(["mode", "entry", *(f"{length:g} s" for length in LENGTHS)], _by_length(scored)),
        "Borders of found events, in frames. `raw`: smoothing `none`. `model's`: against where the model itself begins "
        "and ends to fire when it sees every frame. `tolerated`: within one frame and half a fade, as a model need not "
        "draw the line at half of the opacity.",
        table(["mode", "events", *LOOK], _by_look(scored)),
        table(["wanted", "measured", ""], (line.row() for line in summary(scored))),
    ]
    return "\n\n".join(parts)


def save(path: Path, scored: Scored, notes: Sequence[str]) -> None:
    """Write every single figure as JSON."""
    document = {
        "machine": machine(),
        "notes": list(notes),
        "films": [
            {**dataclasses.asdict(item), "path": item.path.name, "events": [dataclasses.asdict(e) for e in item.events]}
            for item in scored.films
        ],
        "results": {title: [dataclasses.asdict(row) for row in rows] for title, rows in scored.results.items()},
        "outcomes": {title: [dataclasses.asdict(row) for row in rows] for title, rows in scored.outcomes.items()},
        "summary": [line._asdict() for line in summary(scored)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare recall, borders and time of the ways of sampling.")
    parser.add_argument("--quick", action="store_true", help="two films with few events")
    parser.add_argument("--size", default="1280x720", help="of the films (default: 1280x720)")
    parser.add_argument("--events", type=int, help=f"of each length, entry and kind (default: {EVENTS_PER_CELL})")
    parser.add_argument("--gops", type=int, nargs="+", default=GOPS, metavar="S", help="key frame distances, seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is timed (default: 1)")
    parser.add_argument("--also", choices=sorted(EXTRA), nargs="+", default=[], help="further modes")
    media = os.environ.get("VIDMOD_MEDIA", "")
    parser.add_argument("--media", default=media, help="a folder of clips: one more setting (default: $VIDMOD_MEDIA)")
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that build films")
    parser.add_argument("--build-only", action="store_true", help="make the films and stop")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    parser.add_argument("-o", "--output", type=Path, help="write every single figure here, as JSON")
    return parser


def _settings(args: argparse.Namespace) -> list[Setting]:
    width, height = (int(part) for part in args.size.split("x"))
    if args.quick:
        return [Setting(width, height, 2, True), Setting(width, height, 10, False)]
    listed = [Setting(width, height, gop, cuts) for gop in args.gops for cuts in (True, False)]
    return listed + ([Setting(width, height, 2, True, args.media)] if args.media else [])


def main() -> None:
    """Build the films, scan them by every mode, print the tables."""
    args = _parser().parse_args()
    use_cores(args.cores)
    per_cell = args.events or (1 if args.quick else EVENTS_PER_CELL)
    began = time.monotonic()
    films = get_films(orders(args.workdir, _settings(args), per_cell, args.seed), args.jobs)
    built = time.monotonic()
    tell(f"{len(films)} films ready after {built - began:.0f} s.")
    if args.build_only:
        return
    scanners, notes = open_scanners([*MODES, *(EXTRA[name] for name in args.also)])
    for note in notes:
        tell(note)
    scored = score(films, scan_all(films, scanners, args.rounds))
    for scanner in scanners.values():
        scanner.close()
    tell(f"Scanned for {time.monotonic() - built:.0f} s.")
    if args.output:
        save(args.output, scored, notes)
    print(report(scored, notes))


if __name__ == "__main__":
    main()
