"""The numbers of JPEG: quantisation tables and the constants of the fast DCT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# ITU-T T.81, annex K.1, tables for luma and chroma, row by row.
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


def quantisers(quality: int) -> NDArray[np.int32]:
    """2×64: the steps for luma and for chroma at a quality of 1 to 100, as libjpeg scales them (jcparam.c)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = (np.array([_LUMA, _CHROMA], np.int32) * percent + 50) // 100
    return np.clip(scaled, 1, 255).astype(np.int32)
