"""From YCbCr to RGB as swscale does it: three integer arithmetics over one set of coefficients.

The exact conversion is that of ITU-T H.273, 8.3: R = Y' + 2(1 - Kr)·Cr and so on, with Y' stretched from 219 steps to
255 where the range is limited. swscale rounds on the way, and differently by the path that it takes; each is followed
here, because what the networks see must not depend on where it was computed:

- tables: an offset per chroma value in whole luma steps, then a table of luma;
- fine: 9 more bits until the end, for images of odd width;
- words: 16-bit products, what x86 has for BGR and for pictures that are not scaled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidmod.errors import UsageError

# By ITU-T H.273, table 4: 2(1 - Kr), 2(1 - Kb), 2Kb(1 - Kb)/Kg and 2Kr(1 - Kr)/Kg, times 255/224, 16 bits after the
# point, as swscale has them. 6 is the matrix of 5.
_MATRICES = {
    1: (117489, 138438, 13975, 34925),
    4: (104448, 132798, 24759, 53109),
    5: (104597, 132201, 25675, 53279),
    6: (104597, 132201, 25675, 53279),
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
}
# Steps of swscale's table of luma before 0. For limited range they lie 1.8 levels too low, there as here: 16 becomes
# -1.8, and 235 becomes 253.
_TABLE_START = 384
_LIMITED_START = 326


def colours(matrix: int, *, full_range: bool) -> NDArray[np.int32]:
    """The 13 numbers that `compose` converts with.

    For the tables: what is added, the gain of luma, and the offsets in luma steps of Cr in red, Cb in green, Cr in
    green and Cb in blue, 16 bits after the point. For the other two: black, 3 and 9 bits after the point; the gain of
    luma and the same four factors, 13 bits after the point.

    Args:
        matrix: By ITU-T H.273, table 4: 1, 4, 5, 6, 7 or 9.

    Raises:
        UsageError: Another matrix.
    """
    if matrix not in _MATRICES:
        raise UsageError(f"Invalid matrix ({matrix}). Use one of {', '.join(map(str, _MATRICES))} (ITU-T H.273).")
    red, blue, green_blue, green_red = _MATRICES[matrix]
    factors = [red, -green_blue, -green_red, blue]
    if full_range:
        gain, black = 1 << 16, 0
        factors = [_divided(factor * 224, 255) for factor in factors]
    else:
        gain, black = (255 << 16) // 219, 16 << 16
    base = (_TABLE_START if full_range else _LIMITED_START) * gain - (_TABLE_START << 16) - black
    steps = [_divided((factor << 16) + (1 << 15), gain) for factor in factors]
    short = [(factor + 4) >> 3 for factor in (gain, *factors)]
    return np.array([base, gain, *steps, black >> 13, black >> 7, *short], np.int32)


def _divided(value: int, divisor: int) -> int:
    """Division as C does it: towards zero."""
    return value // divisor if value >= 0 else -(-value // divisor)
