"""Draws the films of the sampling benchmark, and encodes and decodes them."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from sampling_events import FPS, Bytes, Overlay, Plan, Setting, Shot
from scan import ROOT

sys.path.append(str(ROOT))  # samples/ is no part of the installed package

from samples import faces, film, patterns, scenes

# As many bits for a pixel as samples/film.py spends: 4.5 Mbit/s at 1080p30.
BITS_PER_PIXEL = 4_500_000 / (1920 * 1080 * 30)
DRAWN = (320, 180)  # what is smooth is drawn small and enlarged
SLOWER = 3  # so much slower than in samples/film.py the camera moves, and so much longer its shots may be


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
