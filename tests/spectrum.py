"""How much detail a picture has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def detail(grey: NDArray[Any], limit: float) -> float:
    """The energy of all that goes up and down more often along the longer side than `limit`, without the mean."""
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    spectrum = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    rows, columns = (np.fft.fftfreq(length) * max(grey.shape) for length in grey.shape)
    return float(spectrum[np.hypot(*np.meshgrid(columns, rows)) > limit].sum())
