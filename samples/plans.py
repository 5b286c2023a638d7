"""What is shown when: the plans behind the sample videos, and the truth that follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from samples.patterns import explicit_pattern, to_pixels
from samples.scenes import CALM_KINDS, calm_scene
from samples.things import Pass, Post, Shown, draw_things

Image = NDArray[np.uint8]

TICKS = 90_000  # a second in every sample's time base: whole for 24, 25, 30, 50 and 60 frames/s


@dataclass(frozen=True)
class Stretch:
    """A pattern over the whole frame.

    Attributes:
        start: First frame.
        end: Frame after the last.
        index: Which pattern.
        fade: Frames of fading in, and again of fading out, inside [start, end).
    """

    start: int
    end: int
    index: int = 0
    fade: int = 0

    def alpha(self, number: int) -> float:
        """How much of the pattern shows in a frame, 0 to 1."""
        if not self.start <= number < self.end:
            return 0.0
        steps = min(number - self.start, self.end - 1 - number) + 1
        return min(1.0, steps / (self.fade + 1))


@dataclass(frozen=True)
class Plan:
    """A whole sample video, in frames.

    Attributes:
        fps: Nominal frames a second.
        frames: Number of frames.
        scenes: First frame, kind and seed of every calm scene, in order.
        stretches: Patterns, in order, not overlapping.
        passes: What moves, the later the further in front.
        start_ticks: Presentation time of the first frame.
        durations: Ticks that frames last, repeated over and over; none means 1 / fps for all.
        tone: Whether there is a quiet tone to hear.
        posts: What things pass behind.
    """

    fps: int
    frames: int
    scenes: tuple[tuple[int, str, int], ...] = ((0, "hills", 0),)
    stretches: tuple[Stretch, ...] = ()
    passes: tuple[Pass, ...] = ()
    start_ticks: int = 0
    durations: tuple[int, ...] = field(default=())
    tone: bool = False
    posts: tuple[Post, ...] = ()

    def ticks(self) -> list[int]:
        """Presentation time of every frame, and one more: where the last one ends."""
        durations = self.durations or (TICKS // self.fps,)
        times = [self.start_ticks]
        for number in range(self.frames):
            times.append(times[-1] + durations[number % len(durations)])
        return times


def overlay(plan: Plan, number: int, frame: Image) -> tuple[Image, list[Shown]]:
    """Lay what a plan shows in a frame over a background.

    Args:
        plan: The plan.
        number: Which frame.
        frame: uint8 [height, width, 3] RGB; may be drawn on.

    Returns:
        The picture, and what moves in it, each with the box of what can be seen of it.
    """
    height, width = frame.shape[:2]
    frame, seen = draw_things(frame, number, plan.passes, plan.posts)
    for stretch in plan.stretches:
        if alpha := stretch.alpha(number):
            # A slow zoom and drift: no two frames are alike, as in a film.
            part = (number - stretch.start) / (stretch.end - stretch.start)
            shift = (math.sin(3 * part), math.cos(2 * part) - 0.5)
            over = explicit_pattern(width, height, stretch.index, zoom=1.05 + 0.2 * part, shift=shift)
            mixed = frame * np.float32(1 - alpha) + over * np.float32(alpha)
            frame = to_pixels(mixed)
    return frame, seen


def paint(plan: Plan, number: int, seconds: float, width: int, height: int) -> tuple[Image, list[Shown]]:
    """Draw one frame of a plan.

    Args:
        plan: The plan.
        number: Which frame.
        seconds: Its time since the start of the video; the calm scenes move by it.
        width: Pixels.
        height: Pixels.

    Returns:
        uint8 [height, width, 3] RGB, and what moves in it, as for `overlay`.
    """
    _, kind, seed = next(scene for scene in reversed(plan.scenes) if scene[0] <= number)
    return overlay(plan, number, calm_scene(width, height, seconds, kind=kind, seed=seed))


# --- the plans ------------------------------------------------------------------------------------------


def _tour(frames: int, every: int) -> tuple[tuple[int, str, int], ...]:
    """One calm scene after the other."""
    return tuple(
        (start, CALM_KINDS[turn % len(CALM_KINDS)], turn) for turn, start in enumerate(range(0, frames, every))
    )


def demo(fps: int, _seconds: float) -> Plan:
    """36 s with sound: patterns of 0.8, 2.4 and 5 s, and a face that crosses."""
    stretches = (
        Stretch(7 * fps, 7 * fps + round(0.8 * fps), 0),
        Stretch(15 * fps, 15 * fps + round(2.4 * fps), 1),
        Stretch(28 * fps, 33 * fps, 0),
    )
    face = Pass(21 * fps, 26 * fps, (-0.15, 0.45), (1.15, 0.5), (0.42, 0.5))
    scenes = ((0, "title", 0), (4, "hills", 0), (11, "clouds", 1), (20, "gradient", 0), (27, "shapes", 2))
    begins = tuple((start * fps, kind, seed) for start, kind, seed in scenes)
    return Plan(fps, 36 * fps, begins, stretches, (face,), tone=True)


def cuts(fps: int, _seconds: float) -> Plan:
    """Patterns of 0.3, 0.5, 1, 2 and 5 s, cut in hard, with 3 s between."""
    stretches, at = [], 3 * fps
    for turn, length in enumerate((0.3, 0.5, 1.0, 2.0, 5.0)):
        end = at + max(1, round(length * fps))
        stretches.append(Stretch(at, end, turn))
        at = end + 3 * fps
    return Plan(fps, at, _tour(at, 4 * fps), tuple(stretches))


def fades(fps: int, _seconds: float) -> Plan:
    """Patterns that fade in and out over 0.4, 1 and 2 s; the truth is where at least half shows."""
    stretches, at = [], 3 * fps
    for turn, fade in enumerate((0.4, 1.0, 2.0)):
        end = at + round((2 + 2 * fade) * fps)
        stretches.append(Stretch(at, end, turn, round(fade * fps)))
        at = end + 3 * fps
    # Over the dark shapes open_nsfw wants three quarters of a pattern; over sky, about half.
    scenes = tuple((start, ("hills", "clouds")[turn % 2], 0) for turn, start in enumerate(range(0, at, 5 * fps)))
    return Plan(fps, at, scenes, tuple(stretches))


def face(fps: int, _seconds: float) -> Plan:
    """A face that crosses, leaves, comes back the other way, and grows."""
    passes = (
        Pass(1 * fps, 6 * fps, (-0.2, 0.5), (1.2, 0.45)),
        Pass(8 * fps, 12 * fps, (1.2, 0.5), (0.4, 0.55)),
        Pass(12 * fps, 16 * fps, (0.4, 0.55), (0.5, 0.5), (0.45, 0.6)),
    )
    return Plan(fps, 18 * fps, ((0, "gradient", 0), (7 * fps, "hills", 1)), (), passes)


def chase(fps: int, _seconds: float) -> Plan:
    """A face that passes behind a column, rushes by, turns back, leaves downward, and shrinks away."""
    passes = (
        Pass(1 * fps, 5 * fps, (0.1, 0.5), (0.9, 0.5)),
        Pass(6 * fps, 6 * fps + round(0.8 * fps), (-0.2, 0.4), (1.2, 0.55)),
        Pass(8 * fps, 9 * fps, (1.2, 0.5), (0.25, 0.5)),
        Pass(9 * fps, 11 * fps, (0.25, 0.5), (0.25, 1.3)),
        Pass(12 * fps, 15 * fps, (0.7, 0.5), (0.3, 0.4), (0.6, 0.3)),
    )
    return Plan(
        fps, 16 * fps, ((0, "hills", 1), (12 * fps, "gradient", 0)), (), passes, posts=(Post(0.46, 0.52, colour=None),)
    )


def crossing(fps: int, _seconds: float) -> Plan:
    """Two faces that pass each other, on a line and then across, over a background that pans."""
    passes = (
        Pass(fps // 2, 5 * fps, (-0.2, 0.5), (1.2, 0.52)),
        Pass(fps // 2, 5 * fps, (1.15, 0.55), (-0.2, 0.48), (0.4, 0.36), thing=1),
        Pass(6 * fps, 9 * fps, (0.3, -0.3), (0.65, 1.35), (0.35, 0.5), thing=2),
        Pass(6 * fps, 9 * fps, (1.1, 0.4), (-0.15, 0.6), (0.3, 0.3), thing=3),
    )
    return Plan(fps, 10 * fps, _pans(1, 10 * fps, 10 * fps), (), passes)


def leaving(fps: int, _seconds: float) -> Plan:
    """Faces that are there from a cut on and leave: left, right, upward, downward, by a corner."""
    ways = ((-0.2, 0.5), (1.3, 0.4), (0.4, -0.35), (0.6, 1.35), (1.25, 1.35))
    lasts = (1.6, 0.8, 1.2, 1.0, 1.4)
    passes = tuple(
        Pass(turn * 3 * fps, round((turn * 3 + length) * fps), (0.5, 0.5), way, (0.45, 0.4), thing=turn)
        for turn, (way, length) in enumerate(zip(ways, lasts, strict=True))
    )
    return Plan(fps, 15 * fps, _pans(0, 15 * fps, 3 * fps), (), passes)


def entering(fps: int, _seconds: float) -> Plan:
    """Faces that come in from all sides and are gone at a cut."""
    ways = ((-0.2, 0.5), (1.3, 0.4), (0.4, -0.35), (0.6, 1.35), (-0.25, -0.35))
    lasts = (1.6, 0.8, 1.2, 1.0, 1.4)
    passes = tuple(
        Pass(round((turn * 3 + 3 - length) * fps), (turn + 1) * 3 * fps, way, (0.5, 0.5), (0.4, 0.45), thing=turn)
        for turn, (way, length) in enumerate(zip(ways, lasts, strict=True))
    )
    return Plan(fps, 15 * fps, _pans(2, 15 * fps, 3 * fps), (), passes)


def scaling(fps: int, _seconds: float) -> Plan:
    """A face that comes close, shrinks at once, wanders off small, rushes at the camera and falls back."""
    passes = (
        Pass(1 * fps, 5 * fps, (0.3, 0.5), (0.5, 0.55), (0.2, 0.9)),
        Pass(5 * fps, 6 * fps, (0.5, 0.55), (0.6, 0.45), (0.9, 0.3)),
        Pass(6 * fps, 8 * fps, (0.6, 0.45), (0.35, 0.4), (0.3, 0.25)),
        Pass(8 * fps, 9 * fps, (0.35, 0.4), (0.5, 0.5), (0.25, 1.0)),
        Pass(9 * fps, round(9.8 * fps), (0.5, 0.5), (0.65, 0.5), (1.0, 0.25)),
    )
    return Plan(fps, 11 * fps, _pans(4, 11 * fps, 11 * fps), (), passes)


def fast(fps: int, _seconds: float) -> Plan:
    """A face that rushes by in 0.6, 0.4 and 0.3 s, falls through, and darts from side to side."""

    def at(seconds: float) -> int:
        return round(seconds * fps)

    darts = ((0.2, 0.4), (0.8, 0.45), (0.25, 0.6), (0.7, 0.35), (0.3, 0.4), (0.75, 0.6))
    passes = (
        Pass(at(1), at(1.6), (-0.2, 0.45), (1.2, 0.55)),
        Pass(at(2.5), at(2.9), (1.2, 0.5), (-0.2, 0.4), (0.4, 0.4), thing=1),
        Pass(at(4), at(4.32), (-0.2, 0.6), (1.2, 0.4), (0.5, 0.5), thing=2),
        Pass(at(5.5), at(6.1), (0.3, -0.35), (0.7, 1.4), thing=3),
        *(
            Pass(at(7 + 0.4 * turn), at(7.4 + 0.4 * turn), *way, (0.4, 0.4), thing=4)
            for turn, way in enumerate(pairwise(darts))
        ),
    )
    return Plan(fps, 10 * fps, _pans(5, 10 * fps, 10 * fps), (), passes)


def behind(fps: int, _seconds: float) -> Plan:
    """A face that passes behind posts and a wall, slowly and quickly, rises behind a bar, and is passed by a post."""
    passes = (
        Pass(fps // 2, 5 * fps, (-0.15, 0.5), (1.15, 0.5)),
        Pass(6 * fps, 8 * fps, (1.15, 0.45), (-0.15, 0.5), (0.5, 0.5), thing=1),
        Pass(9 * fps, 11 * fps, (0.5, 1.3), (0.45, 0.3), (0.5, 0.45), thing=2),
        Pass(11 * fps, 12 * fps, (0.45, 0.3), (0.45, 0.3), (0.45, 0.45), thing=2),
        Pass(13 * fps, 16 * fps, (0.5, 0.45), (0.55, 0.5), (0.5, 0.5), thing=3),
    )
    posts = (
        Post(0.27, 0.33, end=round(8.5 * fps)),
        Post(0.52, 0.76, end=round(8.5 * fps), colour=(70, 84, 92)),
        Post(0.0, 1.0, 0.6, 0.72, start=round(8.5 * fps), end=round(12.5 * fps), colour=(88, 80, 70)),
        Post(0.0, 0.12, start=13 * fps, drift=0.4 / fps),
    )
    cuts = ((0, 0), (round(8.5 * fps), 1), (round(12.5 * fps), 2))
    return Plan(fps, 17 * fps, tuple((start, "pan", seed) for start, seed in cuts), (), passes, posts=posts)


def pattern(fps: int, _seconds: float) -> Plan:
    """A disc of colours that NudeNet reports: crosses, leaves, comes back behind a post, grows, rises, rushes by."""
    label = "FEMALE_BREAST_EXPOSED"
    passes = (
        Pass(1 * fps, 5 * fps, (-0.15, 0.5), (1.15, 0.45), (0.5, 0.5), label=label),
        Pass(6 * fps, 9 * fps, (1.15, 0.5), (0.35, 0.55), (0.5, 0.5), label=label),
        Pass(9 * fps, 11 * fps, (0.35, 0.55), (0.5, 0.5), (0.5, 0.58), label=label),
        Pass(11 * fps, 12 * fps, (0.5, 0.5), (0.55, -0.4), (0.58, 0.55), label=label),
        Pass(13 * fps, round(13.8 * fps), (-0.15, 0.4), (1.15, 0.55), (0.55, 0.55), thing=1, label=label),
    )
    posts = (Post(0.6, 0.67, start=round(5.5 * fps), end=round(11.5 * fps)),)
    return Plan(fps, 15 * fps, _pans(7, 15 * fps, 15 * fps), (), passes, posts=posts)


def _pans(seed: int, frames: int, every: int) -> tuple[tuple[int, str, int], ...]:
    """One textured scene after the other."""
    return tuple((start, "pan", seed + turn) for turn, start in enumerate(range(0, frames, every)))


def vfr(fps: int, seconds: float) -> Plan:
    """The cuts, with frames that last 1, 2, 1, 3 and 1 ticks of 1 / fps."""
    unit = TICKS // fps
    return replace(cuts(fps, seconds), durations=tuple(unit * times for times in (1, 2, 1, 3, 1)))


def offset(fps: int, seconds: float) -> Plan:
    """The cuts, in a file whose first frame is at 10 s."""
    return replace(cuts(fps, seconds), start_ticks=10 * TICKS)


def calm(fps: int, seconds: float) -> Plan:
    """Nothing at all, for as long as asked."""
    frames = max(1, round(seconds * fps))
    return Plan(fps, frames, _tour(frames, 6 * fps))


PLANS: dict[str, Callable[[int, float], Plan]] = {
    "demo": demo,
    "cuts": cuts,
    "fades": fades,
    "face": face,
    "chase": chase,
    "crossing": crossing,
    "leaving": leaving,
    "entering": entering,
    "scaling": scaling,
    "fast": fast,
    "behind": behind,
    "pattern": pattern,
    "vfr": vfr,
    "offset": offset,
    "calm": calm,
}
