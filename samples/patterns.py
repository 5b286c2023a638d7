"""Patterns that open_nsfw is sure about and nobody minds: blurred colour noise, found by evolve.py."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

GRID_SIDE = 14


def cubic_weights(size: int, count: int, start: float, span: float) -> Floats:
    """Weights that interpolate `count` grid values at `size` pixels (Keys, 1981, a = -0.5).

    Args:
        size: Number of pixels.
        count: Number of grid values, spread evenly over [0, 1].
        start: Where the first pixel begins, 0 to 1.
        span: How much of the grid the pixels show.

    Returns:
        float32 [size, count], each row sums to 1.
    """
    at = (start + span * (np.arange(size) + 0.5) / size) * count - 0.5
    first = np.floor(at).astype(np.int64)
    weights = np.zeros((size, count), np.float32)
    for tap in range(-1, 3):
        distance = np.abs(at - (first + tap))
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        column = np.clip(first + tap, 0, count - 1)
        np.add.at(weights, (np.arange(size), column), np.where(distance <= 1, near, far).astype(np.float32))
    return weights


def to_pixels(picture: NDArray[np.floating[Any]]) -> Image:
    """Round and clip a picture of 0 to 255 to uint8."""
    return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)


def enlarge(
    grid: Floats, width: int, height: int, *, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Floats:
    """Blow a small grid of colours up to a smooth picture.

    Args:
        grid: float32 [rows, columns, 3], 0 to 255.
        width: Pixels.
        height: Pixels.
        zoom: 1.0 shows the whole grid, 2.0 half of it in each direction.
        shift: Where the window lies in the room that the zoom leaves, -1 to 1 in x and y.

    Returns:
        float32 [height, width, 3], not clipped.
    """
    span = 1 / zoom
    left, top = ((1 - span) * (1 + part) / 2 for part in shift)
    across = cubic_weights(width, grid.shape[1], left, span)
    down = cubic_weights(height, grid.shape[0], top, span)
    rows = down @ grid.reshape(grid.shape[0], -1)
    spread = rows.reshape(height, grid.shape[1], 3).transpose(0, 2, 1) @ across.T
    return np.ascontiguousarray(spread.transpose(0, 2, 1))


# 14 x 14 colours each, rows from the top, one byte for each of R, G, B, in base64.
# evolve.py wrote them, each in two runs, and scored them under 1,024 shifts it had not seen:
#   0: --seed 2, 650 of 1500 steps; --seed 12 --start ... --rate 0.012 --steps 450: mean 0.998, lowest 0.927
#   1: --seed 1 --steps 1200; --seed 11 --start ... --rate 0.01 --steps 400: mean 0.996, lowest 0.819
# Shown as plans.py shows them, zoomed by 1.05 to 1.25 and not faded, they score above 0.99 in every sample.
_GRIDS = (
    (
        "KRfQfyKH2Y63ZtcGW8aXPTDrM4alFl32BYzOpnH5BfwHu0l7LI4kvGjq4W+4BM4Bkdg2Fpwyp23tMLgJpOb1HfYAqf+LSdwG0P"
        "RoUhaibdUT/SB1pcP/CXoE1IpoDJ4I2v0lEbwA7Z0jFG013olfN7pvMK8LS71NBDqdYAB8xdrHXPDvWskBKP3HA4gcBP7rwe8H"
        "GOeUuPQhd/WV+QEnDgh8HQS/R4IP+Z4seid+428thggX+IIwSn9fxgDaIeDA/qFfNx8ABBXQA5T2We3Q5cGZ3dJtV//HWv3HBd"
        "1CEv1ZAP9JRZQE/QMDTgAAAAHTdHXLI/9KXVNxoChZEPUhZTcYhFdAm4gAa/i+XmEAHP8tJaOEE6f/Kvl0Bft+xUpAd3v2FlSd"
        "Bptqv9SfpOZsBf16rf/xdgBBjkkBcv8AsaQa2j8DNAIbBfRfzQsdpIw7LN3IAK4/D/9o/QAAG/6AoQAAAAAA+wBG0vtPCf7vww"
        "YQkAIPd7f/jlvMLmIl2p5HT7hWIPf/81MVRQICAFTaAFsF6gAl/74PANm+R2rc0hEU8GQQ9BzCU58AAP41/R4IPQACAxTc/wUK"
        "73i9Z+6eJuXQqtdxPrwcyMs4Io0AABRQYtJR/wDSGRdcHIX//5Nrjv5iPPBPu/UATuoIogD5/AFtxxa9rRG9ptdAVg6YLEsJIt"
        "n45udMA/+P8vkQ/4Db8z7h+TfS/kjWffSOmf8PG4O4vs0eSnpMPPB77vT6bMYAAC8IdwdFoSessOqI9b658w/N92/3HFnp16rJ"
    ),
    (
        "/4nZsfe8s/hYz31CIUvYTNcv/61TiNqB4u7looU5W16NTP5CEMxdBIYFJHfaC/8UGNHuOO0H7fJ1KO9DiP69BqceJd81lEHLF2"
        "NGEqQAAF4IcmDqOcZ9OpQOCXKCYuplAK5YWfoAAJTs/LkSAIsA/v8WA7wD2MSNVo2Md0cCpOUEwVQ/4zcJGJLUDYpsAPrv/4Mf"
        "Zv/4/3JLI5uc+tCwDZVV+bMJfS//iv3+BNBTMP2DsTcH62B0KGRI+v9aAMKj+/95AP/+4npd/64A+zUBrSkrsK0+VwA3+YAXLt"
        "fykvAPxQGDfgBb9QUOoAC5PJoNCf9sDfr/6JbNNRUi4cpwOe3/Lhgj5DEABu7C+d+THP3axfp8O//VEvxAYoYEANUKO/7JqKaF"
        "+QkdolwGYtD1DGYE7AAAAFNN4wMpAPFXQf58YHoHQAAGFP9AO3czgf/xAMoyEFcL+yUBncjKBua/82lLTv/DQf9iu0htJQAAtg"
        "ABANhDBpphuT+Tq/qOELvcE6gbbQEG6yIBUakN6rb7tQ0AAgAAAAAH/6SKpF8GAGmmijSCzaFdmeYfJr3+nP/yG+J8/vr66QAD"
        "AQmvAY7+MNj6D9D595M1sy8WFwOCDQNayTUJj5YAvDcCkSY/viY/BnjAJfT0Z/8NAPpJ/80rJPW1tv8IF0Kf/nz3QHsw5u5ULQ"
        "v/fPwMAvrnzfVQPu8ApOqW8rp+Qfz36cIDAuD5qsmt+pkaiVygbisA/6i5dcWnl8iVVZ2cgup8fRyeA/0fUh8iE0+dVIuNAhT/"
    ),
)
PATTERN_COUNT = len(_GRIDS)


def pattern_grid(index: int) -> Floats:
    """One of the found grids, float32 [14, 14, 3], RGB of 0 to 255.

    Args:
        index: Taken modulo `PATTERN_COUNT`.
    """
    values = np.frombuffer(base64.b64decode(_GRIDS[index % PATTERN_COUNT]), np.uint8)
    return values.reshape(GRID_SIDE, GRID_SIDE, 3).astype(np.float32)


def explicit_pattern(
    width: int,
    height: int,
    index: int = 0,
    *,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Image:
    """Draw a harmless picture that open_nsfw scores like explicit media.

    Args:
        width: Pixels.
        height: Pixels.
        index: Which pattern, modulo `PATTERN_COUNT`.
        zoom: 1.0 to 1.35, the range the patterns were evolved for.
        shift: Where the zoomed window lies, -1 to 1 in x and y.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    picture = enlarge(pattern_grid(index), width, height, zoom=zoom, shift=shift)
    return to_pixels(picture)


# A disc that NudeNet takes for FEMALE_BREAST_EXPOSED, though it is colour noise: 10 x 10 colours, written as above.
DISC_SIDE = 10
_DISC = (
    "9lCU9VTTv7C0DLgeKbUFxZEA/RUH6Ao7zT1u9dJlA07ww+g2JgLuv/9nvw7jduagGFAuSZ1epwAByv8AAJv/Ph4ykn+uivcwkeZ8"
    "hfnXlVasIzH/Xo5aRkrgmzOzxDIA+Fi48p57ITT90ImyC8n/o4brROqEdY6kLM434SE1L2T+pXEFgpLUxjbUPZDl//wDuPSchP8Y"
    "ZotIXyD10/+inf7U5Of/8JZom9w90Z8CoO8SgfhTjv/qEG9b/uGFXgAM4OxN1Kzsse8Tp2cJoEMRef+TVckuAK46QBHLxag0MPLM"
    "5NH6/+8Z3TwAYgAC/v9YACC5ANwa9QMvKjeCtW7b3fqS9f015LQP+f8A2/3IqT3el7n0O2OBMqsTg/8E5KoT7wAA/tXw5LE6LQA/"
)


def disc_values() -> Floats:
    """The found disc's colours, float32 [300], 0 to 1."""
    return np.frombuffer(base64.b64decode(_DISC), np.uint8).astype(np.float32) / np.float32(255)


def disc_sprite(values: Floats, unit: int) -> tuple[Floats, Floats]:
    """Draw a disc of colours.

    Args:
        values: float32 [300], 0 to 1: 10 x 10 colours of the square around it, rows from the top.
        unit: Pixels in its radius.

    Returns:
        float32 [2 * unit, 2 * unit, 3] colours of 0 to 255 times alpha, and float32 [2 * unit, 2 * unit] alpha.
    """
    grid = (np.clip(values, 0, 1) * 255).reshape(DISC_SIDE, DISC_SIDE, 3).astype(np.float32)
    picture = np.clip(enlarge(grid, 2 * unit, 2 * unit), 0, 255)
    at = (np.arange(2 * unit, dtype=np.float32) + np.float32(0.5)) / np.float32(unit) - 1
    radius = np.hypot(at[None, :], at[:, None])
    alpha = np.clip((1 - radius) * unit + 0.5, 0, 1).astype(np.float32)
    return np.asarray(picture * alpha[:, :, None], np.float32), alpha


def stamp_disc(frame: Image, sprite: tuple[Floats, Floats], centre: tuple[float, float], height: float) -> None:
    """Lay a disc over a frame, in place, at a position finer than a pixel.

    Args:
        frame: uint8 [h, w, 3], RGB.
        sprite: What `disc_sprite` returned.
        centre: Its middle, pixels.
        height: Its height, pixels.
    """
    colours, alpha = sprite
    scale = height / alpha.shape[0]
    move = np.array(
        [[scale, 0, centre[0] - height / 2 + scale / 2 - 0.5], [0, scale, centre[1] - height / 2 + scale / 2 - 0.5]],
        np.float32,
    )
    size = (frame.shape[1], frame.shape[0])
    cover = cv2.warpAffine(alpha, move, size, flags=cv2.INTER_LINEAR)
    paint = cv2.warpAffine(colours, move, size, flags=cv2.INTER_LINEAR)
    frame[:] = to_pixels(frame * (1 - cover[:, :, None]) + paint)


@lru_cache(maxsize=4)
def _found_disc(unit: int) -> tuple[Floats, Floats]:
    return disc_sprite(disc_values(), unit)


def draw_disc(frame: Image, centre: tuple[float, float], height: float) -> tuple[float, float, float, float] | None:
    """Draw the disc that NudeNet reports, in place.

    Args:
        frame: uint8 [h, w, 3], RGB.
        centre: Its middle, pixels; may lie outside.
        height: Its height, pixels.

    Returns:
        Its box x1, y1, x2, y2 in pixels, clipped to the frame; None where nothing of it is inside.
    """
    unit = 1 << max(4, int(np.ceil(np.log2(height / 2))))
    stamp_disc(frame, _found_disc(unit), centre, height)
    (x, y), half = centre, height / 2
    clipped = (
        max(0.0, x - half),
        max(0.0, y - half),
        min(float(frame.shape[1]), x + half),
        min(float(frame.shape[0]), y + half),
    )
    return clipped if clipped[0] < clipped[2] and clipped[1] < clipped[3] else None
