"""Model-ready images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a detector's input lies in the displayed picture.

    Attributes:
        scale: Displayed pixels per input pixel, horizontally and vertically; above 0.
        size: Displayed (width, height), to which boxes are clipped.

    Raises:
        ValueError: A number makes no sense.
    """

    scale: tuple[float, float]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (*self.scale, *self.size)):
            raise ValueError(f"Invalid geometry ({self.scale}, {self.size}).")


@dataclass(frozen=True, slots=True, repr=False)
class ModelInput:
    """One model-ready image.

    Attributes:
        image: height×width×3 uint8 in the manifest's channel order, full range.
        geometry: How to get back from it to the displayed picture.
    """

    image: Image
    geometry: Geometry

    def __repr__(self) -> str:
        return f"ModelInput(image={self.image.shape}, geometry={self.geometry})"
