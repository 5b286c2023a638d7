"""A long film that costs as much to decode as a real one, made by encoding a minute and repeating it.

Flat drawings decode far too fast to measure anything with. This one has texture at every scale, a moving
camera, things that move against the background, grain, and a cut every four seconds, at a film's bitrate.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from samples.plans import TICKS, Plan, Stretch, overlay
from samples.things import Pass, Shown
from samples.truths import truth, write_truth

if TYPE_CHECKING:
    from pathlib import Path

Bytes = NDArray[np.uint8]

SHOT_SECONDS = 4
GOP_SECONDS = 2
UNIT_SECONDS = 60
# Mean U and V of the shots: sea, wood, dusk, stone. Skin lies elsewhere, and open_nsfw looks for skin.
TINTS = ((146, 112), (118, 118), (140, 124), (128, 126), (124, 114))


def _texture(rng: np.random.Generator, width: int, height: int, mean: float, contrast: float) -> Bytes:
    """Detail at every scale, each half as strong as the one twice as large, as in photographs."""
    total = np.zeros((height, width), np.float32)
    cells, weight = 4, 1.0
    while cells < width // 2:
        grid = rng.standard_normal((max(2, cells * height // width), cells)).astype(np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * 0.62
    total *= contrast / float(total.std())
    # Two brightnesses with a ragged border give the hard edges that blurred noise lacks.
    total += np.where(total > 0.3 * contrast, 28, -12).astype(np.float32)
    return np.asarray(np.clip(total + mean, 16, 235), np.uint8)


def _frames(rng: np.random.Generator, width: int, height: int) -> Bytes:
    """Where something covers the background: a few upright boxes. Round ones look like limbs to NudeNet."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(4):
        left, top = int(rng.integers(0, width)), int(rng.integers(height // 4, height * 3 // 4))
        mask[top:, left : left + int(rng.integers(width // 30, width // 8))] = 255
    return mask


@dataclass(frozen=True)
class Shot:
    """What the camera sees for four seconds: a background, something in front of it, and how both move.

    Attributes:
        luma: uint8 [h * 1.25, w * 1.25], the background.
        front: The same size, what moves in front.
        mask: uint8 [h * 1.25, w * 1.25], 0 or 255, where the front covers.
        chroma: Mean U and V.
        pan: The camera's way over the background in a second, in parts of the width.
        drift: The front's way.
        zoom: How much the camera closes in, in a second.
    """

    luma: Bytes
    front: Bytes
    mask: Bytes
    chroma: tuple[int, int]
    pan: tuple[float, float]
    drift: tuple[float, float]
    zoom: float


def _shot(seed: int, number: int, width: int, height: int) -> Shot:
    """Make a shot from a seed."""
    rng = np.random.default_rng((seed, number))
    wide, high = width * 5 // 4, height * 5 // 4
    ways = rng.uniform(-0.03, 0.03, 4)
    if number % 2:  # a tripod for every other shot: about as much stands still as in a film
        ways[:2] = 0
    return Shot(
        luma=_texture(rng, wide, high, float(rng.uniform(80, 140)), 26),
        front=_texture(rng, wide, high, float(rng.uniform(60, 170)), 20),
        mask=_frames(rng, wide, high),
        chroma=TINTS[number % len(TINTS)],
        pan=(float(ways[0]), float(ways[1])),
        drift=(float(ways[2]) * 2, float(ways[3])),
        zoom=0.0 if number % 2 else float(rng.uniform(-0.01, 0.01)),
    )


class Camera:
    """Draws the frames of a film.

    Args:
        width: Pixels, even.
        height: Pixels, even.
        fps: Frames a second.
        seed: Another seed, another film.
    """

    def __init__(self, width: int, height: int, fps: int, seed: int) -> None:
        self._size, self._fps, self._seed = (width, height), fps, seed
        self._shot: tuple[int, Shot] | None = None
        rng = np.random.default_rng(seed)
        self._grain = rng.normal(12, 1.5, (height + 64, width + 64)).clip(0, 24).astype(np.uint8)

    def _see(self, plate: Bytes, way: tuple[float, float], zoom: float, *, sharp: bool = False) -> Bytes:
        """Look at a plate from the camera's place."""
        width, height = self._size
        scale = 1 + zoom
        left = (plate.shape[1] - width * scale) / 2 + way[0] * width
        top = (plate.shape[0] - height * scale) / 2 + way[1] * width
        move = np.array([[scale, 0, left], [0, scale, top]], np.float32)
        how = (cv2.INTER_NEAREST if sharp else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(plate, move, self._size, flags=how, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(seen, np.uint8)

    def frame(self, number: int) -> av.VideoFrame:
        """Draw a frame, yuv420p."""
        index, within = divmod(number, SHOT_SECONDS * self._fps)
        if self._shot is None or self._shot[0] != index:
            self._shot = (index, _shot(self._seed, index, *self._size))
        shot, time = self._shot[1], within / self._fps
        pan = (shot.pan[0] * time, shot.pan[1] * time)
        drift = (shot.drift[0] * time, shot.drift[1] * time)
        luma = self._see(shot.luma, pan, shot.zoom * time)
        mask = self._see(shot.mask, drift, 0.0, sharp=True)
        cv2.copyTo(self._see(shot.front, drift, 0.0), mask, luma)
        rng = np.random.default_rng((self._seed, number))
        top, left = (int(v) for v in rng.integers(0, 64, 2))
        width, height = self._size
        grain = self._grain[top : top + height, left : left + width]
        luma = np.asarray(cv2.subtract(cv2.add(luma, grain), np.full_like(luma, 12)), np.uint8)
        small = cv2.resize(luma, (width // 2, height // 2), interpolation=cv2.INTER_AREA).astype(np.int16)
        u, v = (
            (mean + (small - 110) // share).astype(np.uint8) for mean, share in zip(shot.chroma, (14, -18), strict=True)
        )
        planes = np.concatenate((luma.ravel(), u.ravel(), v.ravel())).reshape(height * 3 // 2, width)
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _minute(fps: int, frames: int, events: bool) -> Plan:
    """What happens in a unit: a face for 4 s from 20 s, a pattern for 2 s from 40 s."""
    if not events:
        return Plan(fps, frames)
    face = Pass(20 * fps, 24 * fps, (0.2, 0.5), (0.8, 0.45))
    return Plan(fps, frames, (), (Stretch(40 * fps, 42 * fps, 0),), (face,))


def _draw_on(
    frame: av.VideoFrame, plan: Plan, number: int, tool: VideoReformatter
) -> tuple[av.VideoFrame, list[Shown]]:
    """Lay the plan's things or patterns over a film frame; leave all other frames as they are."""
    events: tuple[Pass | Stretch, ...] = (*plan.passes, *plan.stretches)
    if not any(event.start <= number < event.end for event in events):
        return frame, []
    tags: dict[str, Any] = {"src_color_range": ColorRange.MPEG, "src_colorspace": Colorspace.ITU709, "threads": 1}
    rgb = tool.reformat(frame, format="rgb24", dst_color_range=ColorRange.JPEG, **tags).to_ndarray()
    picture, seen = overlay(plan, number, np.asarray(rgb, np.uint8))
    drawn = av.VideoFrame.from_ndarray(picture, format="rgb24")
    back = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG, "threads": 1}
    return tool.reformat(drawn, format="yuv420p", **back), seen


def _encode_unit(plan: Plan, size: tuple[int, int], bitrate: int, seed: int) -> tuple[io.BytesIO, list[list[Shown]]]:
    """Encode the part that is to be repeated. Returns the MP4 and what moves in every frame."""
    stored = io.BytesIO()
    shown: list[list[Shown]] = []
    camera, tool = Camera(*size, plan.fps, seed), VideoReformatter()
    with av.open(stored, "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream("libx264", rate=plan.fps)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", bitrate
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        # scenecut off: the cuts lie on key frames anyway, and every GOP is then as long as promised.
        stream.options = {
            "preset": "veryfast",
            # x264 gives the same bytes for the same number of threads, whatever the machine.
            "threads": "2",
            "x264-params": f"keyint={GOP_SECONDS * plan.fps}:scenecut=0:bframes=3:b-adapt=1:ref=3",
        }
        for number in range(plan.frames):
            frame, seen = _draw_on(camera.frame(number), plan, number, tool)
            shown.append(seen)
            frame.pts, frame.time_base = number * TICKS // plan.fps, Fraction(1, TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    stored.seek(0)
    return stored, shown


def _repeat(unit: io.BytesIO, path: Path, unit_frames: int, frames: int, fps: int) -> None:
    """Write a unit's packets over and over, each time later, until the film is as long as asked."""
    with av.open(unit, "r") as source, av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        track = source.streams.video[0]
        base = track.time_base or Fraction(1, fps)
        copy = output.add_stream_from_template(track)
        tick = int(1 / base) // fps  # a frame, in the unit's time base
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in source.demux(track)
            if packet.pts is not None and packet.dts is not None
        ]
        for turn in count():
            for data, pts, dts, key in packets:
                # The GOPs are closed, so a key frame at or after the end is a clean place to stop.
                if key and turn * unit_frames * tick + pts >= frames * tick:
                    return
                packet = av.Packet(data)
                packet.pts, packet.dts = pts + turn * unit_frames * tick, dts + turn * unit_frames * tick
                packet.duration, packet.time_base = tick, base
                packet.is_keyframe, packet.stream = key, copy
                output.mux(packet)


def make_long(
    path: Path,
    *,
    seconds: float,
    width: int = 1920,
    height: int = 1080,
    fps: int = 30,
    events: bool = True,
    bitrate: int = 4_500_000,
    seed: int = 4,
) -> Path:
    """Make a film of any length: H.264 in MP4, a key frame every 2 s.

    Args:
        path: The .mp4 file to write; the truth goes beside it.
        seconds: Length, rounded up to whole GOPs of 2 s.
        width: Pixels, even.
        height: Pixels, even.
        fps: Frames a second.
        events: Whether each minute holds a face (20 to 24 s) and a pattern (40 to 42 s); else it is calm.
        bitrate: Bits a second.
        seed: Another seed, another film. The default was checked against both models; others were not.

    Returns:
        `path`.
    """
    gop = GOP_SECONDS * fps
    frames = -(-round(seconds * fps) // gop) * gop
    unit_frames = min(UNIT_SECONDS * fps, frames)
    plan = _minute(fps, unit_frames, events)
    unit, shown = _encode_unit(plan, (width, height), bitrate, seed)
    _repeat(unit, path, unit_frames, frames, fps)
    turns = -(-frames // unit_frames)
    stretches = tuple(
        Stretch(s.start + turn * unit_frames, s.end + turn * unit_frames, s.index)
        for turn in range(turns)
        for s in plan.stretches
    )
    write_truth(path, truth(Plan(fps, frames, (), stretches), (shown * turns)[:frames], (width, height)))
    return path
