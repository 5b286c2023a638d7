"""Pictures that show where things are, and not what: grey, and without any detail.

All that is kept of a picture is a grid of at most `GRID` brightnesses along its longer side, each the average of its
surroundings with the weights of a normal distribution whose standard deviation is one cell of the grid. Of a wave
that goes up and down f times along the longer side, exp(-2 (pi f / GRID)²) of the amplitude remains (the Fourier
transform of that distribution): a third at `GRID` / 4, 0.7 % at `GRID` / 2, beyond which a grid holds nothing. No
enlargement brings back what is not in it, as long as it adds no more than a resampling filter does.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

# Cells, and pixels, along the longer side.
GRID, SIDE = 32, 240
# ITU-R BT.709, 3: the share of red, green and blue in brightness.
_LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)

# Of JPEG: what coding adds would be all the detail there is.
_QUALITY = 90

Size = tuple[int, int]


def fitted(size: Size, side: int) -> Size:
    """(width, height) of the same shape, `side` along the longer side, and at least 1."""
    longer = max(size)
    width, height = (max(1, round(length * side / longer)) for length in size)
    return width, height


def blurred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What may be shown of a picture.

    Args:
        image: Height×width×3, RGB.

    Returns:
        Brightness, rows × columns of the grid, uint8.
    """
    height, width, _ = image.shape
    columns, rows = fitted((width, height), GRID)
    cell = max(width, height) / GRID
    grey = image.astype(np.float32) @ _LUMA
    grid = _weights(rows, height, cell) @ grey @ _weights(columns, width, cell).T
    return np.clip(np.rint(grid), 0, 255).astype(np.uint8)


def as_jpeg(grid: bytes, size: Size) -> tuple[bytes, Size]:
    """A grid as a picture to look at.

    Args:
        grid: Brightnesses, row by row, of a grid for a picture of that size; what follows them is ignored.
        size: Width and height of that picture, in any unit.

    Returns:
        A JPEG, and its width and height: `SIDE` along the longer side.
    """
    from PIL import Image  # only where pictures are shown, not where they are taken

    width, height = fitted(size, SIDE)
    columns, rows = fitted((width, height), GRID)
    image = Image.frombytes("L", (columns, rows), grid[: columns * rows])
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue(), (width, height)


def _weights(cells: int, length: int, deviation: float) -> NDArray[np.float32]:
    """Cells × pixels: with what weight each pixel counts for each cell; those of a cell add up to 1."""
    centres = (np.arange(cells) + 0.5) * length / cells
    distances = (np.arange(length) + 0.5)[None, :] - centres[:, None]
    weights = np.exp(-0.5 * (distances / deviation) ** 2)
    shares: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
