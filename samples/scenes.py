"""Calm, drawn scenes for the time between: open_nsfw and NudeNet see nothing in them.

Every scene is a pure function of time, so any frame rate and any time base can be served.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from samples.patterns import enlarge, to_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Colour = tuple[float, float, float]


@lru_cache(maxsize=4)
def _axes(width: int, height: int) -> tuple[Floats, Floats]:
    """Pixel centres as x [1, width] and y [height, 1], both in frame heights."""
    x = (np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)) / np.float32(height)
    y = (np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)) / np.float32(height)
    return x, y


def _ramp(width: int, height: int, top: Colour, bottom: Colour) -> Floats:
    """A vertical gradient, float32 [height, width, 3]."""
    _, y = _axes(width, height)
    column = np.asarray(top, np.float32) * (1 - y) + np.asarray(bottom, np.float32) * y
    return np.repeat(column[:, None, :], width, axis=1)


def _cover(picture: Floats, mask: Floats, colour: Colour) -> None:
    """Paint a colour through a mask of 0 to 1, in place."""
    picture += mask[:, :, None] * (np.asarray(colour, np.float32) - picture)


@lru_cache(maxsize=8)
def _noise_grid(seed: int, cells: int) -> Floats:
    """Smooth random values, float32 [cells, cells, 3]."""
    return np.random.default_rng(seed).uniform(0, 1, (cells, cells, 3)).astype(np.float32)


def _gradient(width: int, height: int, seconds: float, seed: int) -> Floats:
    """A dusk sky that slowly changes, with a sun going down."""
    x, y = _axes(width, height)
    turn = 0.5 + 0.5 * np.sin(0.25 * seconds + seed)
    picture = _ramp(width, height, (30, 60 + 30 * turn, 110 + 40 * turn), (120, 170, 190 + 20 * turn))
    centre = (0.5 * width / height + 0.4 * np.sin(0.2 * seconds), 0.35 + 0.03 * seconds % 0.5)
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    _cover(picture, np.clip((0.10 - distance) * height / 2, 0, 1), (250, 245, 200))
    return picture


def _clouds(width: int, height: int, seconds: float, seed: int) -> Floats:
    """Value noise in three octaves, drifting over a blue sky at three speeds."""
    picture = _ramp(width, height, (52, 104, 176), (110, 160, 214))
    cover = np.zeros((height, width), np.float32)
    for octave, weight in enumerate((0.55, 0.3, 0.15)):
        drift = float(np.sin(0.05 * seconds * (1 + 0.3 * octave) + seed))
        grid = _noise_grid(seed * 7 + octave, 8 << octave)
        cover += weight * enlarge(grid, width, height, zoom=1.6, shift=(drift, 0.3 * drift))[:, :, 0]
    _cover(picture, np.clip((cover - 0.35) * 1.5, 0, 0.6), (205, 220, 238))
    return picture


def _bounce(start: float, speed: float, seconds: float, low: float, high: float) -> float:
    """Where something is that moves between two walls."""
    span = high - low
    way = (start + speed * seconds) % (2 * span)
    return low + (way if way < span else 2 * span - way)


def _shapes(width: int, height: int, seconds: float, seed: int) -> Floats:
    """Discs and squares that bounce off the frame."""
    x, y = _axes(width, height)
    aspect = width / height
    picture = _ramp(width, height, (28, 40, 56), (52, 78, 92))
    rng = np.random.default_rng(seed)
    palette = ((70, 160, 150), (90, 120, 200), (230, 200, 90), (120, 190, 110), (200, 210, 220))
    for number, colour in enumerate(palette):
        radius = 0.07 + 0.05 * rng.random()
        pace = rng.uniform(0.1, 0.3, 2) * rng.choice((-1, 1), 2)
        start = rng.uniform(0, 2, 2)
        cx = _bounce(start[0], pace[0], seconds, radius, aspect - radius)
        cy = _bounce(start[1], pace[1], seconds, radius, 1 - radius)
        square = np.maximum(np.abs(x - cx), np.abs(y - cy))
        distance = square if number % 2 else np.hypot(x - cx, y - cy)
        _cover(picture, np.clip((radius - distance) * height / 2, 0, 1), colour)
    return picture


def _hills(width: int, height: int, seconds: float, seed: int) -> Floats:
    """Four ridges that scroll at different speeds below a pale sky."""
    x, y = _axes(width, height)
    picture = _ramp(width, height, (130, 180, 215), (205, 222, 226))
    for layer in range(4):
        at = x + seconds * 0.05 * (1 + layer) + 3.7 * layer + seed
        ridge = (0.42 + 0.13 * layer) + 0.07 * np.sin(2.1 * at) + 0.035 * np.sin(5.3 * at + layer)
        ridge = ridge + 0.008 * np.sin(31 * at)
        shade = 1 - 0.22 * layer
        _cover(
            picture,
            np.clip((y - ridge) * height / 2 + 0.5, 0, 1),
            (95 * shade, 150 * shade, 120 * shade),
        )
    return picture


def _title(width: int, height: int, seconds: float, seed: int) -> Floats:
    """A title card with a line that grows below the words."""
    base = _ramp(width, height, (22, 34, 46), (34, 54, 66))
    picture = np.clip(base, 0, 255).astype(np.uint8)
    words = ("vidmod sample", "drawn, harmless", "known truth")
    for row, text in enumerate((words[0], words[1 + seed % 2])):
        size = height / (230 if row == 0 else 420)
        thick = max(1, round(size * 2))
        (across, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
        spot = ((width - across) // 2, round(height * (0.46 + 0.16 * row)))
        cv2.putText(picture, text, spot, cv2.FONT_HERSHEY_SIMPLEX, size, (225, 232, 235), thick, cv2.LINE_AA)
    grown = round(width * (0.1 + 0.5 * min(1.0, seconds % 8 / 4)))
    top = round(height * 0.70)
    picture[top : top + max(1, height // 120), (width - grown) // 2 : (width + grown) // 2] = (70, 160, 150)
    return picture.astype(np.float32)


@lru_cache(maxsize=4)
def _plate_of(width: int, height: int, seed: int) -> Floats:
    """A plate half as large again as the frame, with detail at every scale and hard edges, as a photograph has."""
    rng = np.random.default_rng((9, seed))
    wide, high = width * 3 // 2, height * 3 // 2
    total = np.zeros((high, wide), np.float32)
    cells, weight = 3, 1.0
    while cells < wide // 3:
        grid = rng.standard_normal((max(2, cells * high // wide), cells, 3)).astype(np.float32)
        total += np.float32(weight) * enlarge(grid, wide, high)[:, :, 0]
        cells, weight = cells * 2, weight * 0.6
    total *= np.float32(24) / total.std()
    total += np.where(total > 8, 26, -10).astype(np.float32)
    tint = np.asarray(((0.85, 1.0, 1.1), (0.95, 1.05, 0.9), (0.9, 0.95, 1.15))[seed % 3], np.float32)
    return np.asarray((np.float32(112) + total)[:, :, None] * tint, np.float32)


def _pan(width: int, height: int, seconds: float, seed: int) -> Floats:
    """A camera that pans over a textured plate, to and fro, and closes in a little."""
    plate = _plate_of(width, height, seed)
    scale = 1.0 - 0.06 * (0.5 + 0.5 * np.sin(0.7 * seconds))
    room_x, room_y = plate.shape[1] - width * scale, plate.shape[0] - height * scale
    left = room_x * (0.5 + 0.48 * np.sin(0.5 * seconds + seed))
    top = room_y * (0.5 + 0.48 * np.sin(0.37 * seconds + 2 * seed))
    move = np.array([[scale, 0, left], [0, scale, top]], np.float32)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(plate, move, (width, height), flags=how), np.float32)


_SCENES: dict[str, Callable[[int, int, float, int], Floats]] = {
    "title": _title,
    "hills": _hills,
    "clouds": _clouds,
    "shapes": _shapes,
    "gradient": _gradient,
}
# What longer samples go through, one after the other.
CALM_KINDS = tuple(_SCENES)
_SCENES["pan"] = _pan


def calm_scene(width: int, height: int, seconds: float, *, kind: str = "hills", seed: int = 0) -> Image:
    """Draw one moment of a harmless moving scene.

    Args:
        width: Pixels.
        height: Pixels.
        seconds: Time within the scene.
        kind: One of `CALM_KINDS`, or `pan`.
        seed: Another seed, another arrangement.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ValueError: `kind` is unknown.
    """
    if kind not in _SCENES:
        raise ValueError(f"Invalid kind ({kind!r}). Use one of {', '.join(_SCENES)}.")
    return to_pixels(_SCENES[kind](width, height, seconds, seed))
