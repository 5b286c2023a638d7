"""Films with known truth for the live filter: frames that carry their number, a target, flashes with beeps.

Every frame has its film's and its own number as black and white bars at its top and at its bottom, with a checksum. The
target is a face that the real NudeNet reports; it appears at once, or enters from a side, or rushes through, on a path
that a seed decides, and it is the only thing in the film that is red. Every two seconds there is a white frame, and a
tone that begins with it.

What a film is like is a :class:`Plan`; :func:`made` draws and encodes it once, and keeps it with the truth about it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray
from scan import ROOT

sys.path.append(str(ROOT))  # samples/ is no part of the installed package

from samples import faces, film

Bytes = NDArray[np.uint8]
Box = tuple[float, float, float, float]

# What the target is to the detector.
LABELS = ("FACE_FEMALE", "FACE_MALE")
# The bars: 4 bits that are always the same, 4 of the film, 16 of the frame, 8 of a checksum.
_BITS, _SYNC = 32, 0b1010
_DARK, _LIGHT = 30, 220
_MOST_DARK, _LEAST_LIGHT = 62, 150
_STRIPS = 15  # of the height, each
# In V (Cr): the background stays below the first, skin lies above the second, and in U (Cb) below the third. What is
# between is of neither; other reds, as damage has them, are seldom like skin.
BACKGROUND_V, TARGET_V, TARGET_U = 128, 138, 124
# Of these, whole frames and whole packets of AAC at 48 kHz are a second's multiple, and so are flashes.
UNIT_SECONDS = 8
FLASH_SECONDS, FIRST_FLASH_SECONDS = 2, 1
FLASH_LUMA = 225
_TONE_HERTZ, _TONE_SECONDS, _TONE_LEVEL = 1000.0, 0.1, 0.5
_AAC_SAMPLES = 1024
_VERSION = 5
# As many bits for a pixel as samples/film.py spends: 4.5 Mbit/s at 1080p30.
_BITS_PER_PIXEL = 4_500_000 / (1920 * 1080 * 30)
_LEAST_BITS = 400_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a film is like.

    Attributes:
        ident: Its number, 0 to 15, which its frames carry.
        size: Width and height, even.
        fps: Frames a second.
        seconds: How long, a multiple of 8.
        entries: How often the target enters.
        flashes: Whether there are flashes and beeps.
        sample_rate: Of the sound; 0 for none.
        profile: x264's: `high`, `main` with B-frames, `baseline`.
        seed: Another seed, another film.
    """

    ident: int = 0
    size: tuple[int, int] = (640, 360)
    fps: int = 30
    seconds: int = 64
    entries: int = 0
    flashes: bool = False
    sample_rate: int = 48_000
    profile: str = "high"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds % UNIT_SECONDS or self.frames >= 1 << 16 or not 0 <= self.ident < 16:
            raise ValueError(
                f"Invalid plan ({self}). Use seconds that 8 divides, at most 65,535 frames, ident 0 to 15."
            )

    @property
    def frames(self) -> int:
        """How many there are."""
        return self.seconds * self.fps

    @property
    def strip(self) -> int:
        """How high the bars at the top are, and those at the bottom, in pixels."""
        return strip_height(self.size[1])


class Entry(NamedTuple):
    """The target is there in frames [start, end), and goes from one middle to another; heights are of the head.

    All but frames as parts of the picture's width and height.
    """

    start: int
    end: int
    origin: tuple[float, float]
    target: tuple[float, float]
    height: float


@dataclass(frozen=True, slots=True)
class Film:
    """A film, and the truth about it.

    Attributes:
        boxes: Of what can be seen of the target in every frame, x1, y1, x2, y2 in pixels; None where it is not.
        reds: How many samples of colour in every frame of the encoded film are the target's.
    """

    plan: Plan
    path: Path
    boxes: tuple[Box | None, ...] = field(repr=False)
    reds: tuple[int, ...] = field(repr=False)

    def is_partly(self, number: int) -> bool:
        """Whether the target is cut off by a border in a frame."""
        box, (width, height), strip = self.boxes[number], self.plan.size, self.plan.strip
        return box is not None and (box[0] <= 0 or box[1] <= strip or box[2] >= width or box[3] >= height - strip)


def strip_height(height: int) -> int:
    """How high the bars of a picture are."""
    return max(8, height // _STRIPS // 2 * 2)


# -- numbers in pictures -------------------------------------------------------------------------------------


def _checksum(value: int) -> int:
    """CRC-8 of 20 bits, polynomial x^8 + x^2 + x + 1 (ITU-T I.432.1)."""
    rest = value << 8
    for bit in range(27, 7, -1):
        if rest >> bit & 1:
            rest ^= 0x107 << (bit - 8)
    return rest ^ 0x55


def bars(ident: int, number: int, width: int, height: int) -> Bytes:
    """Luma of a strip that carries a film's and a frame's number, uint8 [height, width]."""
    value = ident << 16 | number
    word = _SYNC << 28 | value << 8 | _checksum(value)
    levels = [_LIGHT if word >> (_BITS - 1 - bit) & 1 else _DARK for bit in range(_BITS)]
    edges = [round(width * bit / _BITS) for bit in range(_BITS + 1)]
    row = np.repeat(np.array(levels, np.uint8), np.diff(edges))
    return np.broadcast_to(row, (height, width))


def read_bars(strip: Bytes) -> tuple[int, int] | None:
    """Film and frame of a strip, uint8 [height, width]; None if it cannot be read."""
    height, width = strip.shape
    inside = strip[height // 4 : max(height // 4 + 1, height - height // 4)].mean(axis=0)
    word = 0
    for bit in range(_BITS):
        left, right = width * bit / _BITS, width * (bit + 1) / _BITS
        quarter = (right - left) / 4
        level = float(inside[round(left + quarter) : max(round(left + quarter) + 1, round(right - quarter))].mean())
        if _MOST_DARK < level < _LEAST_LIGHT:
            return None
        word = word << 1 | (level >= _LEAST_LIGHT)
    value = word >> 8 & 0xFFFFF
    if word >> 28 != _SYNC or word & 0xFF != _checksum(value):
        return None
    return value >> 16, value & 0xFFFF


def read_number(luma: Bytes) -> tuple[int, int] | None:
    """Film and frame of a picture's luma, from the strip at its bottom, or else at its top."""
    strip = strip_height(luma.shape[0])
    bottom = read_bars(luma[-strip:])
    return read_bars(luma[:strip]) if bottom is None else bottom


# -- where the target is -------------------------------------------------------------------------------------


def entries(plan: Plan) -> list[Entry]:
    """When and where the target is, as the seed has it: one entry in every part of the film."""
    if not plan.entries:
        return []
    rng = np.random.default_rng((plan.seed, plan.ident))
    length = plan.frames / plan.entries
    rows = []
    for turn in range(plan.entries):
        first = round(turn * length)
        start = first + round(length * rng.uniform(0.05, 0.3))
        end = first + round(length * rng.uniform(0.55, 0.8))
        height = float(rng.uniform(0.34, 0.5))
        rows.append(Entry(start, end, *_way(rng, turn, height), height))
    return rows


def _way(rng: np.random.Generator, turn: int, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """From where to where: every other time it appears at once, else it comes in from a side or from above."""

    def somewhere() -> tuple[float, float]:
        return float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.12 + height / 2, 0.88 - height / 2))

    here, there = somewhere(), somewhere()
    match turn % 6:
        case 1:
            return (-0.15, here[1]), there
        case 3:
            return (1.15, here[1]), there
        case 5:
            return (here[0], -height / 2), there
        case 4:
            return here, (1.2 if rng.random() < 0.5 else -0.2, there[1])
        case _:
            return here, there


def box_at(plan: Plan, entry: Entry, number: int) -> tuple[tuple[float, float], float, Box | None]:
    """The middle of the head and its height in pixels, and the box of what can be seen of it between the bars."""
    width, height = plan.size
    part = (number - entry.start) / max(1, entry.end - 1 - entry.start)
    x, y = (a + (b - a) * part for a, b in zip(entry.origin, entry.target, strict=True))
    middle, head = (x * width, y * height), entry.height * height
    x1, y1, x2, y2 = faces.head_box(faces.face_values(), middle, head)
    box = max(0.0, x1), max(float(plan.strip), y1), min(float(width), x2), min(float(height - plan.strip), y2)
    # Less than a pixel of it is nothing that one could tell.
    return middle, head, box if box[2] - box[0] >= 1 and box[3] - box[1] >= 1 else None


# -- drawing -------------------------------------------------------------------------------------------------


class Painter:
    """Draws the frames of a film as planes: uint8 [height * 3 / 2, width], yuv420p, BT.709, limited range."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._camera = film.Camera(*plan.size, plan.fps, plan.seed + 16 * plan.ident)
        self._tool = VideoReformatter()
        self._entries = entries(plan)

    def frame(self, number: int) -> tuple[Bytes, Box | None]:
        """Draw a frame; and where the target is in it."""
        width, height = self._plan.size
        planes = np.asarray(self._camera.frame(number).to_ndarray(), np.uint8)
        red = planes[height * 5 // 4 :]
        np.minimum(red, BACKGROUND_V, out=red)
        entry = next((row for row in self._entries if row.start <= number < row.end), None)
        box = None
        if entry is not None:
            middle, head, box = box_at(self._plan, entry, number)
            self._face(planes, middle, head, box)
        if self._plan.flashes and is_flash(self._plan, number):
            planes[:height] = 235
            planes[height:] = 128
            box = None
        strip = self._plan.strip
        for rows in (slice(0, strip), slice(height - strip, height)):
            planes[rows] = bars(self._plan.ident, number, width, strip)
        for plane in planes[height:].reshape(2, height // 2, width // 2):
            plane[: strip // 2] = plane[-(strip // 2) :] = 128
        return planes, box

    def _face(self, planes: Bytes, middle: tuple[float, float], head: float, box: Box | None) -> None:
        """Draw the face, only on the part of the picture around it; what lies outside of its box gets no red."""
        width, height = self._plan.size
        reach = head / 2
        top, bottom = _even(middle[1] + faces.TOP * reach, height), _even(middle[1] + faces.BOTTOM * reach, height, 2)
        left, right = _even(middle[0] + faces.LEFT * reach, width), _even(middle[0] + faces.RIGHT * reach, width, 2)
        if right - left < 4 or bottom - top < 4:
            return
        luma = planes[:height]
        colours = planes[height:].reshape(2, height // 2, width // 2)
        part = [luma[top:bottom, left:right], *(c[top // 2 : bottom // 2, left // 2 : right // 2] for c in colours)]
        picture = self._rgb(part)
        faces.draw_face(picture, (middle[0] - left, middle[1] - top), head)
        drawn = self._planes(picture)
        red = np.minimum(drawn[2], BACKGROUND_V)
        if box is not None:
            inside = (
                slice(math.ceil(box[1] / 2) - top // 2, int(box[3] / 2) - top // 2),
                slice(math.ceil(box[0] / 2) - left // 2, int(box[2] / 2) - left // 2),
            )
            red[inside] = drawn[2][inside]
        for to, new in zip(part, (drawn[0], drawn[1], red), strict=True):
            to[:] = new

    def _rgb(self, part: list[Bytes]) -> Bytes:
        height, width = part[0].shape
        stored = np.concatenate([plane.ravel() for plane in part]).reshape(height * 3 // 2, width)
        source = av.VideoFrame.from_ndarray(stored, format="yuv420p")
        tags: dict[str, Any] = {"src_colorspace": Colorspace.ITU709, "src_color_range": ColorRange.MPEG, "threads": 1}
        found = self._tool.reformat(source, format="rgb24", dst_color_range=ColorRange.JPEG, **tags)
        return np.array(found.to_ndarray())

    def _planes(self, picture: Bytes) -> list[Bytes]:
        height, width = picture.shape[:2]
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        tags: dict[str, Any] = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG, "threads": 1}
        stored = np.asarray(self._tool.reformat(source, format="yuv420p", **tags).to_ndarray(), np.uint8)
        return [stored[:height], *stored[height:].reshape(2, height // 2, width // 2)]


def _even(value: float, most: int, up: int = 0) -> int:
    return max(0, min(most, int(value // 2) * 2 + up))


def is_flash(plan: Plan, number: int) -> bool:
    """Whether a frame is white."""
    return number % (FLASH_SECONDS * plan.fps) == FIRST_FLASH_SECONDS * plan.fps


def samples(plan: Plan, first: int, count: int) -> NDArray[np.float32]:
    """The sound from a sample on: silence, and a tone from every flash on."""
    at = np.arange(first, first + count) / plan.sample_rate
    since = (at - FIRST_FLASH_SECONDS) % FLASH_SECONDS
    tone = np.sin(2 * np.pi * _TONE_HERTZ * since) * _TONE_LEVEL
    heard = plan.flashes & (since < _TONE_SECONDS) & (at >= FIRST_FLASH_SECONDS)
    return np.where(heard, tone, 0).astype(np.float32)


# -- encoding ------------------------------------------------------------------------------------------------


def made(plan: Plan, folder: Path) -> Film:
    """A film, drawn and encoded unless it was before, with its truth beside it."""
    name = hashlib.sha256(json.dumps([asdict(plan), _VERSION]).encode()).hexdigest()[:16]
    path = folder / f"live-{plan.size[0]}x{plan.size[1]}-{plan.fps}-{plan.seconds}s-{name}.mp4"
    truth = path.with_suffix(".truth.json")
    if not truth.exists():
        folder.mkdir(parents=True, exist_ok=True)
        boxes = _encode(plan, path)
        reds = [int(target_colour(planes).sum()) for planes in _checked(plan, path)]
        truth.write_text(json.dumps({"boxes": boxes, "reds": reds}), "utf-8")
    document = json.loads(truth.read_text("utf-8"))
    found = tuple(None if box is None else (box[0], box[1], box[2], box[3]) for box in document["boxes"])
    return Film(plan, path, found, tuple(document["reds"]))


def _encode(plan: Plan, path: Path) -> list[Box | None]:
    painter = Painter(plan)
    boxes: list[Box | None] = []
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        pictures = output.add_stream("libx264", rate=plan.fps)
        pictures.width, pictures.height = plan.size
        pictures.pix_fmt = "yuv420p"
        pictures.bit_rate = max(_LEAST_BITS, round(_BITS_PER_PIXEL * plan.size[0] * plan.size[1] * plan.fps))
        pictures.codec_context.colorspace = Colorspace.ITU709
        pictures.codec_context.color_range = ColorRange.MPEG
        params = f"keyint={2 * plan.fps}:scenecut=0:bframes={2 if plan.profile == 'main' else 0}"
        pictures.options = {"preset": "veryfast", "profile": plan.profile, "x264-params": params, "threads": "2"}
        sound = None
        if plan.sample_rate:
            sound = output.add_stream("aac", rate=plan.sample_rate)
            sound.codec_context.layout, sound.codec_context.format = "mono", "fltp"
            sound.codec_context.bit_rate = 96_000
        said = 0
        for number in range(plan.frames):
            planes, box = painter.frame(number)
            boxes.append(box)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, plan.fps)
            output.mux(pictures.encode(frame))
            while sound is not None and said < (number + 1) * plan.sample_rate // plan.fps:
                heard = av.AudioFrame.from_ndarray(samples(plan, said, _AAC_SAMPLES)[None], "fltp", "mono")
                heard.sample_rate, heard.pts, heard.time_base = plan.sample_rate, said, Fraction(1, plan.sample_rate)
                said += _AAC_SAMPLES
                # The first packet is of before the film begins: what the next one is laid over.
                output.mux([packet for packet in sound.encode(heard) if (packet.pts or 0) >= 0])
        output.mux(pictures.encode(None))
        if sound is not None:
            output.mux([packet for packet in sound.encode(None) if (packet.pts or 0) < said - _AAC_SAMPLES])
    return boxes


class Planes(NamedTuple):
    """A picture: luma uint8 [height, width], U (Cb) and V (Cr) uint8 [height / 2, width / 2]."""

    luma: Bytes
    u: Bytes
    v: Bytes


def decoded(path: Path) -> Iterator[Planes]:
    """The frames of a film."""
    with av.open(str(path)) as source:
        source.streams.video[0].thread_type = "AUTO"
        for frame in source.decode(video=0):
            yield planes_of(frame)


def planes_of(frame: av.VideoFrame) -> Planes:
    """The planes of a frame of yuv420p; no copies."""

    def plane(index: int, rows: int, columns: int) -> Bytes:
        found = frame.planes[index]
        stored: Bytes = np.frombuffer(cast(Any, found), np.uint8)
        return stored.reshape(-1, found.line_size)[:rows, :columns]

    height, width = frame.height, frame.width
    half = (height + 1) // 2, (width + 1) // 2
    return Planes(plane(0, height, width), plane(1, *half), plane(2, *half))


def target_colour(planes: Planes) -> NDArray[np.bool_]:
    """Where a picture has the target's colour, but for its bars, bool [height / 2, width / 2]."""
    found = (planes.v >= TARGET_V) & (planes.u <= TARGET_U)
    strip = strip_height(planes.luma.shape[0]) // 2
    found[:strip] = found[-strip:] = False
    return np.asarray(found)


def _checked(plan: Plan, path: Path) -> Iterator[Planes]:
    """The frames of the encoded film, whose numbers must be what they are."""
    for number, planes in enumerate(decoded(path)):
        if read_number(planes.luma) != (plan.ident, number):
            raise SystemExit(f"{path}: frame {number} cannot be told by its bars ({read_number(planes.luma)}).")
        yield planes


@functools.cache
def variants(plan: Plan) -> tuple[Plan, ...]:
    """Films that a source may be swapped for: another size, shape, rate, codec profile, sound, each with its target."""
    width, height = plan.size
    larger, smaller = _scaled(plan.size, 4, 3), _scaled(plan.size, 3, 4)
    narrow = (height * 4 // 3 // 4 * 4, height)
    kinds: tuple[dict[str, Any], ...] = (
        {"size": larger},
        {"size": smaller, "fps": 25},
        {"size": narrow, "fps": 15},
        {"profile": "main"},
        {"profile": "baseline", "sample_rate": 44_100},
        {"sample_rate": 0, "size": (width // 4 * 2, height // 4 * 2), "fps": 60 if plan.fps != 60 else 30},
    )
    return tuple(replace(plan, ident=number, **kind) for number, kind in enumerate(kinds, plan.ident + 1))


def _scaled(size: tuple[int, int], part: int, whole: int) -> tuple[int, int]:
    width, height = (side * part // whole // 4 * 4 for side in size)
    return width, height
