"""A cartoon face that NudeNet takes for a face, drawn where we say, so that its box is known."""

from __future__ import annotations

import base64
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from samples.patterns import to_pixels

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]

# What can be changed in the drawing: (lowest, highest, first guess). Lengths are in half head heights, the
# origin is the middle of the head, y points down. Colours are 0 to 1.
LOOKS: dict[str, tuple[float, float, float]] = {
    "head_width": (0.60, 0.90, 0.74),
    "jaw": (0.0, 0.5, 0.25),
    "skin_r": (0.5, 1.0, 0.88),
    "skin_g": (0.3, 0.85, 0.68),
    "skin_b": (0.2, 0.8, 0.56),
    "light_x": (-0.5, 0.5, -0.2),
    "light_y": (-0.5, 0.5, -0.2),
    "rim": (0.0, 0.6, 0.3),
    "hair_r": (0.0, 0.8, 0.25),
    "hair_g": (0.0, 0.6, 0.16),
    "hair_b": (0.0, 0.5, 0.10),
    "hair_line": (-0.95, -0.45, -0.62),
    "hair_width": (0.75, 1.25, 0.92),
    "hair_top": (1.0, 1.4, 1.12),
    "hair_length": (-0.4, 1.3, 0.4),
    "parting": (-0.6, 0.6, 0.2),
    "strands": (0.0, 0.3, 0.12),
    "eye_x": (0.2, 0.48, 0.33),
    "eye_y": (-0.3, 0.15, -0.08),
    "eye_width": (0.08, 0.24, 0.15),
    "eye_height": (0.03, 0.14, 0.07),
    "iris": (0.02, 0.12, 0.06),
    "iris_light": (0.0, 0.5, 0.15),
    "lash": (0.0, 1.0, 0.6),
    "socket": (0.0, 0.5, 0.2),
    "brow_y": (0.1, 0.32, 0.19),
    "brow_width": (0.1, 0.3, 0.2),
    "brow_height": (0.01, 0.08, 0.035),
    "brow_dark": (0.0, 1.0, 0.7),
    "brow_tilt": (-0.3, 0.3, 0.05),
    "nose_y": (0.1, 0.42, 0.27),
    "nose_width": (0.06, 0.24, 0.14),
    "nose_side": (0.0, 0.5, 0.15),
    "nose_light": (0.0, 0.4, 0.12),
    "nostril": (0.0, 1.0, 0.5),
    "mouth_y": (0.42, 0.72, 0.56),
    "mouth_width": (0.14, 0.42, 0.27),
    "mouth_height": (0.03, 0.16, 0.075),
    "mouth_curve": (-0.12, 0.2, 0.06),
    "lip_r": (0.3, 1.0, 0.72),
    "lip_g": (0.1, 0.7, 0.32),
    "lip_b": (0.1, 0.7, 0.32),
    "teeth": (0.0, 1.0, 0.2),
    "chin_shade": (0.0, 0.5, 0.15),
    "blush": (0.0, 0.5, 0.15),
    "neck_width": (0.2, 0.55, 0.36),
    "neck_shade": (0.0, 0.6, 0.3),
    "shirt_r": (0.0, 1.0, 0.25),
    "shirt_g": (0.0, 1.0, 0.35),
    "shirt_b": (0.0, 1.0, 0.5),
    "outline": (0.0, 0.8, 0.2),
}
FIRST_GUESS = np.array([(start - low) / (high - low) for low, high, start in LOOKS.values()], np.float32)

LEFT, RIGHT, TOP, BOTTOM = -1.5, 1.5, -1.5, 1.9  # what the drawing covers, in half head heights


class _Canvas:
    """An RGBA picture painted in half head heights, with soft edges about a pixel wide."""

    def __init__(self, unit: float) -> None:
        width, height = round((RIGHT - LEFT) * unit), round((BOTTOM - TOP) * unit)
        self.x = np.broadcast_to(np.linspace(LEFT, RIGHT, width, dtype=np.float32)[None, :], (height, width))
        self.y = np.broadcast_to(np.linspace(TOP, BOTTOM, height, dtype=np.float32)[:, None], (height, width))
        self.unit = unit
        self.colour = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, *, soft: float = 0.0, bend: float = 0.0, tilt: float = 0.0
    ) -> Floats:
        """Coverage of an ellipse; `soft` widens its edge, `bend` and `tilt` lift its right and both ends."""
        dx = self.x - x
        dy = self.y - y + bend * (dx / rx) ** 2 + tilt * dx
        radius = np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2)
        edge = max(soft, 1.0 / (self.unit * min(rx, ry)))
        return np.asarray(np.clip((1 - radius) / edge + 0.5, 0, 1), np.float32)

    def paint(self, mask: Floats, colour: Floats | tuple[float, float, float], strength: float = 1.0) -> None:
        """Cover what is there."""
        cover = (mask * np.float32(strength))[:, :, None]
        self.colour += cover * (np.asarray(colour, np.float32) - self.colour)
        self.alpha = np.maximum(self.alpha, cover[:, :, 0])

    def tint(self, mask: Floats, strength: float) -> None:
        """Darken (or lighten, where negative) what is there."""
        self.colour *= 1 - mask[:, :, None] * np.float32(strength)


def _colour(look: dict[str, float], name: str) -> Floats:
    return np.array([look[f"{name}_{channel}"] for channel in "rgb"], np.float32)


def _draw_body(canvas: _Canvas, look: dict[str, float]) -> None:
    """Hair behind the head, shoulders, neck."""
    hair, width = _colour(look, "hair"), look["hair_width"]
    back = canvas.ellipse(0, -0.25, width, look["hair_top"] - 0.25)
    fall = canvas.ellipse(0, look["hair_length"] / 2 - 0.2, width, look["hair_length"] / 2 + 0.75)
    canvas.paint(np.maximum(back, fall), hair * 0.75)
    canvas.paint(canvas.ellipse(0, 2.1, 1.35, 0.85), _colour(look, "shirt"))
    neck = np.clip((look["neck_width"] - np.abs(canvas.x)) * canvas.unit + 0.5, 0, 1)
    neck *= (canvas.y > 0.5) & (canvas.y < 1.35)
    canvas.paint(neck.astype(np.float32), _colour(look, "skin") * (1 - look["neck_shade"]))


def _draw_head(canvas: _Canvas, look: dict[str, float]) -> Floats:
    """The head, shaded as a lit ball, and the hair in front of it. Returns the head's coverage."""
    taper = 1 - look["jaw"] * np.clip(canvas.y, 0, 1) ** 2
    radius = np.sqrt((canvas.x / (look["head_width"] * taper)) ** 2 + canvas.y**2)
    head = np.clip((1 - radius) * canvas.unit * look["head_width"] + 0.5, 0, 1).astype(np.float32)
    canvas.paint(head, _colour(look, "skin"))
    inside = np.clip(radius, 0, 1)
    light = look["light_x"] * canvas.x + look["light_y"] * canvas.y - look["rim"] * inside**3
    canvas.colour *= (1 + head * light)[:, :, None]
    canvas.tint(head * np.clip((radius - 0.93) / 0.07, 0, 1), look["outline"])
    line = look["hair_line"] + 0.5 * (canvas.x - look["parting"]) ** 2
    fringe = head * np.clip((line - canvas.y) * canvas.unit / 2 + 0.5, 0, 1)
    streaks = 1 + look["strands"] * np.sin(canvas.x * 23 + 3 * canvas.y) * np.cos(canvas.x * 9)
    canvas.paint(fringe.astype(np.float32), np.array(_colour(look, "hair") * streaks[:, :, None]))
    return head


def _draw_eyes(canvas: _Canvas, look: dict[str, float], side: int) -> None:
    """One eye and its brow."""
    x, y, width, height = side * look["eye_x"], look["eye_y"], look["eye_width"], look["eye_height"]
    canvas.tint(canvas.ellipse(x, y - 0.02, width * 1.7, height * 2.8, soft=1.0), look["socket"])
    white = canvas.ellipse(x, y, width, height)
    canvas.paint(white, (0.93, 0.92, 0.90))
    iris = canvas.ellipse(x, y, look["iris"], look["iris"]) * white
    shade = look["iris_light"]
    canvas.paint(iris, (shade, shade * 0.8, shade * 0.6))
    canvas.paint(canvas.ellipse(x, y, look["iris"] * 0.5, look["iris"] * 0.5) * white, (0.03, 0.03, 0.03))
    lash = canvas.ellipse(x, y - height * 0.9, width * 1.1, height * 0.45, bend=-height * 0.5)
    canvas.paint(lash, (0.08, 0.05, 0.04), look["lash"])
    brow = canvas.ellipse(
        x,
        y - look["brow_y"],
        look["brow_width"],
        look["brow_height"],
        soft=0.5,
        bend=-0.03,
        tilt=side * -look["brow_tilt"],
    )
    canvas.paint(brow, _colour(look, "hair") * 0.6, look["brow_dark"])


def _draw_nose_and_mouth(canvas: _Canvas, look: dict[str, float]) -> None:
    """The nose as light and shade; lips, teeth, chin and cheeks."""
    y, width = look["nose_y"], look["nose_width"]
    canvas.tint(canvas.ellipse(0, y / 2, 0.07, y / 2 + 0.2, soft=1.0), -look["nose_light"])
    for side in (-1, 1):
        canvas.tint(canvas.ellipse(side * width * 0.9, y - 0.08, 0.08, 0.3, soft=1.0), look["nose_side"])
        nostril = canvas.ellipse(side * width * 0.55, y, width * 0.35, 0.035, soft=0.6)
        canvas.paint(nostril, (0.2, 0.08, 0.06), look["nostril"])
        canvas.paint(canvas.ellipse(side * 0.42, 0.28, 0.22, 0.18, soft=1.0), (0.9, 0.35, 0.33), look["blush"])
    mouth_y, mouth_width, lips = look["mouth_y"], look["mouth_width"], look["mouth_height"]
    bend = look["mouth_curve"]
    canvas.paint(canvas.ellipse(0, mouth_y, mouth_width, lips, bend=bend, soft=0.25), _colour(look, "lip"))
    slit = canvas.ellipse(0, mouth_y, mouth_width * 0.92, lips * 0.32, bend=bend)
    teeth = look["teeth"]
    canvas.paint(slit, (0.25 + 0.65 * teeth, 0.05 + 0.83 * teeth, 0.06 + 0.8 * teeth))
    canvas.tint(canvas.ellipse(0, mouth_y + lips * 2.1, mouth_width, 0.06, soft=1.0), look["chin_shade"])


def as_look(values: Floats) -> dict[str, float]:
    """Turn values of 0 to 1 into the drawing's named lengths and colours."""
    return {
        name: low + float(value) * (high - low)
        for (name, (low, high, _)), value in zip(LOOKS.items(), values, strict=True)
    }


def sprite(values: Floats, unit: float) -> tuple[Floats, Floats]:
    """Draw the face.

    Args:
        values: float32 [len(LOOKS)], 0 to 1.
        unit: Pixels in half a head height.

    Returns:
        float32 [h, w, 3] colours of 0 to 255 times alpha, and float32 [h, w] alpha of 0 to 1.
    """
    canvas, look = _Canvas(unit), as_look(values)
    _draw_body(canvas, look)
    _draw_head(canvas, look)
    for side in (-1, 1):
        _draw_eyes(canvas, look, side)
    _draw_nose_and_mouth(canvas, look)
    return np.clip(canvas.colour, 0, 1) * 255 * canvas.alpha[:, :, None], canvas.alpha


def head_box(values: Floats, centre: tuple[float, float], height: float) -> Box:
    """Box of the face in a drawing: from ear to ear and from the hair line to the chin, as annotators do.

    Args:
        values: The same as for `sprite`.
        centre: Middle of the head, pixels.
        height: Height of the head, pixels.

    Returns:
        x1, y1, x2, y2 in pixels, not clipped to the frame.
    """
    look, half = as_look(values), height / 2
    reach = look["head_width"] * half
    return (centre[0] - reach, centre[1] + look["hair_line"] * half, centre[0] + reach, centre[1] + half)


def stamp(frame: Image, drawing: tuple[Floats, Floats], centre: tuple[float, float], height: float) -> None:
    """Lay a drawing over a frame, in place, at a position finer than a pixel.

    Args:
        frame: uint8 [h, w, 3], RGB.
        drawing: What `sprite` returned.
        centre: Middle of the head, pixels.
        height: Height of the head, pixels.
    """
    colours, alpha = drawing
    scale = height / 2 * (BOTTOM - TOP) / alpha.shape[0]
    left, top = centre[0] + LEFT * height / 2, centre[1] + TOP * height / 2
    # Pixel centres lie at half coordinates on both sides.
    move = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]], np.float32)
    size = (frame.shape[1], frame.shape[0])
    cover = cv2.warpAffine(alpha, move, size, flags=cv2.INTER_LINEAR)
    paint = cv2.warpAffine(colours, move, size, flags=cv2.INTER_LINEAR)
    mixed = frame * (1 - cover[:, :, None]) + paint
    frame[:] = to_pixels(mixed)


# What evolve.py found (--target face, seed 1: score 0.85, overlap 0.94 over 512 stages) with 0.4 of the first
# guess mixed in and friendlier colours: 0.83 and 0.87, and nicer to look at. A byte for each of LOOKS, base64.
_FACE = "r1vikYF2artAMynLRVzJjjKVakp3pE+vcGhqvbKMnMQqUmB/d2R4pFVmFCNMjKEza4BB"


def face_values() -> Floats:
    """The found look, float32 [len(LOOKS)], 0 to 1."""
    return np.frombuffer(base64.b64decode(_FACE), np.uint8).astype(np.float32) / np.float32(255)


@lru_cache(maxsize=4)
def _found_sprite(unit: int) -> tuple[Floats, Floats]:
    return sprite(face_values(), unit)


def draw_face(frame: Image, centre: tuple[float, float], height: float) -> Box | None:
    """Draw the face that NudeNet knows, in place.

    Args:
        frame: uint8 [h, w, 3], RGB.
        centre: Middle of the head, pixels; may lie outside.
        height: Height of the head, pixels.

    Returns:
        The face's box x1, y1, x2, y2 in pixels, clipped to the frame; None where nothing of it is inside.
    """
    # The nearest power of two above keeps the drawing sharp without drawing it anew for every size.
    unit = 1 << max(4, int(np.ceil(np.log2(height / 2))))
    stamp(frame, _found_sprite(unit), centre, height)
    x1, y1, x2, y2 = head_box(face_values(), centre, height)
    clipped = (max(0.0, x1), max(0.0, y1), min(float(frame.shape[1]), x2), min(float(frame.shape[0]), y2))
    return clipped if clipped[0] < clipped[2] and clipped[1] < clipped[3] else None
