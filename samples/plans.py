"""What is shown when: the plans behind the sample videos, and the truth that follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from samples.faces import Box, draw_face
from samples.patterns import explicit_pattern, to_pixels
from samples.scenes import CALM_KINDS, calm_scene

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
class FacePass:
    """A face that moves in a straight line at constant speed.

    Attributes:
        start: First frame.
        end: Frame after the last.
        origin: Middle of the head in the first frame, as parts of the frame's width and height.
        target: The same one frame after the last.
        size: Height of the head at both ends, as parts of the frame's height.
    """

    start: int
    end: int
    origin: tuple[float, float]
    target: tuple[float, float]
    size: tuple[float, float] = (0.45, 0.45)

    def at(self, number: int) -> tuple[float, float, float]:
        """Middle x, y and height of the head in a frame, as parts of the frame."""
        part = (number - self.start) / (self.end - self.start)
        way = zip((*self.origin, self.size[0]), (*self.target, self.size[1]), strict=True)
        x, y, size = (a + (b - a) * part for a, b in way)
        return x, y, size


@dataclass(frozen=True)
class Plan:
    """A whole sample video, in frames.

    Attributes:
        fps: Nominal frames a second.
        frames: Number of frames.
        scenes: First frame, kind and seed of every calm scene, in order.
        stretches: Patterns, in order, not overlapping.
        faces: Faces, in order, not overlapping.
        start_ticks: Presentation time of the first frame.
        durations: Ticks that frames last, repeated over and over; none means 1 / fps for all.
        tone: Whether there is a quiet tone to hear.
        columns: Left and right of what faces pass behind, as parts of the frame's width.
    """

    fps: int
    frames: int
    scenes: tuple[tuple[int, str, int], ...] = ((0, "hills", 0),)
    stretches: tuple[Stretch, ...] = ()
    faces: tuple[FacePass, ...] = ()
    start_ticks: int = 0
    durations: tuple[int, ...] = field(default=())
    tone: bool = False
    columns: tuple[tuple[float, float], ...] = ()

    def ticks(self) -> list[int]:
        """Presentation time of every frame, and one more: where the last one ends."""
        durations = self.durations or (TICKS // self.fps,)
        times = [self.start_ticks]
        for number in range(self.frames):
            times.append(times[-1] + durations[number % len(durations)])
        return times


def overlay(plan: Plan, number: int, frame: Image) -> tuple[Image, Box | None]:
    """Lay what a plan shows in a frame over a background.

    Args:
        plan: The plan.
        number: Which frame.
        frame: uint8 [height, width, 3] RGB; may be drawn on.

    Returns:
        The picture, and the box of the face in it, clipped to the frame, if there is one.
    """
    height, width = frame.shape[:2]
    box = None
    before = frame.copy() if plan.columns else frame
    for face in plan.faces:
        if face.start <= number < face.end:
            x, y, size = face.at(number)
            box = draw_face(frame, (x * width, y * height), size * height)
    for left, right in plan.columns:
        hidden = slice(round(left * width), round(right * width))
        frame[:, hidden] = before[:, hidden]
        box = _beside(box, hidden)
    for stretch in plan.stretches:
        if alpha := stretch.alpha(number):
            # A slow zoom and drift: no two frames are alike, as in a film.
            part = (number - stretch.start) / (stretch.end - stretch.start)
            shift = (math.sin(3 * part), math.cos(2 * part) - 0.5)
            over = explicit_pattern(width, height, stretch.index, zoom=1.05 + 0.2 * part, shift=shift)
            mixed = frame * np.float32(1 - alpha) + over * np.float32(alpha)
            frame = to_pixels(mixed)
    return frame, box


def _beside(box: Box | None, hidden: slice) -> Box | None:
    """The box of what of it can be seen beside hidden columns."""
    if box is None:
        return None
    x1, y1, x2, y2 = box
    # A sliver on the other side is nothing that one could tell.
    sliver = (x2 - x1) / 10
    if hidden.start - sliver <= x1 < hidden.stop:
        x1 = float(hidden.stop)
    if hidden.start < x2 <= hidden.stop + sliver:
        x2 = float(hidden.start)
    return (x1, y1, x2, y2) if x1 < x2 else None


def paint(plan: Plan, number: int, seconds: float, width: int, height: int) -> tuple[Image, Box | None]:
    """Draw one frame of a plan.

    Args:
        plan: The plan.
        number: Which frame.
        seconds: Its time since the start of the video; the calm scenes move by it.
        width: Pixels.
        height: Pixels.

    Returns:
        uint8 [height, width, 3] RGB, and the face's box, as for `overlay`.
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
    face = FacePass(21 * fps, 26 * fps, (-0.15, 0.45), (1.15, 0.5), (0.42, 0.5))
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
        FacePass(1 * fps, 6 * fps, (-0.2, 0.5), (1.2, 0.45)),
        FacePass(8 * fps, 12 * fps, (1.2, 0.5), (0.4, 0.55)),
        FacePass(12 * fps, 16 * fps, (0.4, 0.55), (0.5, 0.5), (0.45, 0.6)),
    )
    return Plan(fps, 18 * fps, ((0, "gradient", 0), (7 * fps, "hills", 1)), (), passes)


def chase(fps: int, _seconds: float) -> Plan:
    """A face that passes behind a column, rushes by, turns back, leaves downward, and shrinks away."""
    passes = (
        FacePass(1 * fps, 5 * fps, (0.1, 0.5), (0.9, 0.5)),
        FacePass(6 * fps, 6 * fps + round(0.8 * fps), (-0.2, 0.4), (1.2, 0.55)),
        FacePass(8 * fps, 9 * fps, (1.2, 0.5), (0.25, 0.5)),
        FacePass(9 * fps, 11 * fps, (0.25, 0.5), (0.25, 1.3)),
        FacePass(12 * fps, 15 * fps, (0.7, 0.5), (0.3, 0.4), (0.6, 0.3)),
    )
    return Plan(fps, 16 * fps, ((0, "hills", 1), (12 * fps, "gradient", 0)), (), passes, columns=((0.46, 0.52),))


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
    "vfr": vfr,
    "offset": offset,
    "calm": calm,
}
