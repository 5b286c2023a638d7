"""How a decoded picture lies in memory: planes, components, bits, chroma grid, range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vidmod.errors import UsageError, choose

__all__ = ["FORMATS", "KINDS", "Component", "Format", "Plane", "PlaneLayout"]

Plane = npt.NDArray[np.uint8 | np.uint16]

# One string for each plane, one letter for each sample that lies side by side in it: luma or grey (Y), chroma (C),
# red, green or blue (R; their order does not matter here), alpha (A), a byte without meaning (X).
KINDS: Final = {
    "gray": ("Y",),
    "ya": ("YA",),
    "yuv": ("Y", "C", "C"),
    "yuva": ("Y", "C", "C", "A"),
    "nv": ("Y", "CC"),
    "gbr": ("R", "R", "R"),
    "gbra": ("R", "R", "R", "A"),
    "rgb": ("RRR",),
    "rgba": ("RRRA",),
    "argb": ("ARRR",),
    "rgb0": ("RRRX",),
    "0rgb": ("XRRR",),
}
_BITS: Final = (8, 9, 10, 12, 14, 16)
_LARGEST_SIDE: Final = 65_535


class Format(NamedTuple):
    """What FFmpeg's libavutil/pixdesc.c says of a pixel format.

    Attributes:
        kind: A key of `KINDS`.
        bits: Per sample.
        x_shift: Log2 of how many luma samples share a chroma sample, horizontally.
        y_shift: The same vertically.
        padding: Zero bits below the sample in its word: p010le keeps 10 bits at the top of 16.
        full_range: Full range by its name, whatever a frame is tagged with.
    """

    kind: str
    bits: int = 8
    x_shift: int = 0
    y_shift: int = 0
    padding: int = 0
    full_range: bool = False


# Big-endian, palette, bit-packed and packed YUV formats are left out on purpose: a caller converts those.
FORMATS: Final = {
    "yuv410p": Format("yuv", 8, 2, 2),
    "yuv411p": Format("yuv", 8, 2, 0),
    "yuv420p": Format("yuv", 8, 1, 1),
    "yuv422p": Format("yuv", 8, 1, 0),
    "yuv440p": Format("yuv", 8, 0, 1),
    "yuv444p": Format("yuv", 8),
    "yuvj411p": Format("yuv", 8, 2, 0, full_range=True),
    "yuvj420p": Format("yuv", 8, 1, 1, full_range=True),
    "yuvj422p": Format("yuv", 8, 1, 0, full_range=True),
    "yuvj440p": Format("yuv", 8, 0, 1, full_range=True),
    "yuvj444p": Format("yuv", 8, full_range=True),
    "yuv420p9le": Format("yuv", 9, 1, 1),
    "yuv422p9le": Format("yuv", 9, 1, 0),
    "yuv444p9le": Format("yuv", 9),
    "yuv420p10le": Format("yuv", 10, 1, 1),
    "yuv422p10le": Format("yuv", 10, 1, 0),
    "yuv440p10le": Format("yuv", 10, 0, 1),
    "yuv444p10le": Format("yuv", 10),
    "yuv420p12le": Format("yuv", 12, 1, 1),
    "yuv422p12le": Format("yuv", 12, 1, 0),
    "yuv440p12le": Format("yuv", 12, 0, 1),
    "yuv444p12le": Format("yuv", 12),
    "yuv420p14le": Format("yuv", 14, 1, 1),
    "yuv422p14le": Format("yuv", 14, 1, 0),
    "yuv444p14le": Format("yuv", 14),
    "yuv420p16le": Format("yuv", 16, 1, 1),
    "yuv422p16le": Format("yuv", 16, 1, 0),
    "yuv444p16le": Format("yuv", 16),
    "yuva420p": Format("yuva", 8, 1, 1),
    "yuva422p": Format("yuva", 8, 1, 0),
    "yuva444p": Format("yuva", 8),
    "yuva420p10le": Format("yuva", 10, 1, 1),
    "yuva422p10le": Format("yuva", 10, 1, 0),
    "yuva444p10le": Format("yuva", 10),
    "yuva422p12le": Format("yuva", 12, 1, 0),
    "yuva444p12le": Format("yuva", 12),
    "nv12": Format("nv", 8, 1, 1),
    "nv21": Format("nv", 8, 1, 1),
    "nv16": Format("nv", 8, 1, 0),
    "nv24": Format("nv", 8),
    "p010le": Format("nv", 10, 1, 1, padding=6),
    "p012le": Format("nv", 12, 1, 1, padding=4),
    "p016le": Format("nv", 16, 1, 1),
    "p210le": Format("nv", 10, 1, 0, padding=6),
    "p410le": Format("nv", 10, padding=6),
    "gray": Format("gray", 8),
    "gray9le": Format("gray", 9),
    "gray10le": Format("gray", 10),
    "gray12le": Format("gray", 12),
    "gray14le": Format("gray", 14),
    "gray16le": Format("gray", 16),
    "ya8": Format("ya", 8),
    "ya16le": Format("ya", 16),
    "gbrp": Format("gbr", 8),
    "gbrp9le": Format("gbr", 9),
    "gbrp10le": Format("gbr", 10),
    "gbrp12le": Format("gbr", 12),
    "gbrp14le": Format("gbr", 14),
    "gbrp16le": Format("gbr", 16),
    "gbrap": Format("gbra", 8),
    "gbrap10le": Format("gbra", 10),
    "gbrap12le": Format("gbra", 12),
    "gbrap16le": Format("gbra", 16),
    "rgb24": Format("rgb", 8),
    "bgr24": Format("rgb", 8),
    "rgb48le": Format("rgb", 16),
    "bgr48le": Format("rgb", 16),
    "rgba": Format("rgba", 8),
    "bgra": Format("rgba", 8),
    "rgba64le": Format("rgba", 16),
    "bgra64le": Format("rgba", 16),
    "argb": Format("argb", 8),
    "abgr": Format("argb", 8),
    "rgb0": Format("rgb0", 8),
    "bgr0": Format("rgb0", 8),
    "0rgb": Format("0rgb", 8),
    "0bgr": Format("0rgb", 8),
}


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a picture: luma, one of the chromas, one of the colours, alpha.

    Attributes:
        role: A letter of `KINDS`.
        plane: Index of its plane.
        channel: Its place among the samples that lie side by side.
        x_shift: Log2 of the picture's pixels for each sample, horizontally.
        y_shift: The same vertically.
        black: The sample of black, without the padding; for chroma the neutral one, for alpha the opaque one.
        white: The sample of white, likewise.
        bits: Per sample.
        padding: Zero bits below the sample in its word.
    """

    role: str
    plane: int
    channel: int
    x_shift: int
    y_shift: int
    black: int
    white: int
    bits: int
    padding: int

    def gray(self, level: float) -> int:
        """The stored word of a grey, from black (0) to white (1)."""
        return (self.black + round(level * (self.white - self.black))) << self.padding


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """How one picture lies in memory.

    Attributes:
        kind: A key of `KINDS`.
        width: Pixels, as stored (before rotation), from 1 to 65535.
        height: Pixels.
        bits: Per sample: 8, 9, 10, 12, 14 or 16; above 8 in little-endian words of 16.
        x_shift: Log2 of how many luma samples share a chroma sample, horizontally: 0, 1 or 2.
        y_shift: The same vertically.
        padding: Zero bits below the sample in its word.
        full_range: Whether luma goes from 0 to the largest value. Otherwise black is 16 and white 235 at 8 bits
            (ITU-T H.273, VideoFullRangeFlag). RGB is always full here.

    Raises:
        UsageError: A field is out of its range; the message names it.
    """

    kind: str
    width: int
    height: int
    bits: int = 8
    x_shift: int = 0
    y_shift: int = 0
    padding: int = 0
    full_range: bool = False

    def __post_init__(self) -> None:
        choose("kind", self.kind, KINDS)
        if self.bits not in _BITS:
            raise UsageError(f"Invalid bits ({self.bits!r}). Use one of {', '.join(map(str, _BITS))}.")
        _check_integer("width", self.width, 1, _LARGEST_SIDE)
        _check_integer("height", self.height, 1, _LARGEST_SIDE)
        _check_integer("x_shift", self.x_shift, 0, 2 if self.has_chroma else 0)
        _check_integer("y_shift", self.y_shift, 0, 2 if self.has_chroma else 0)
        _check_integer("padding", self.padding, 0, 16 - self.bits if self.bits > 8 else 0)

    @classmethod
    def of(cls, name: str, width: int, height: int, *, full_range: bool) -> PlaneLayout:
        """The layout of an FFmpeg pixel format.

        Args:
            name: The format's name in FFmpeg, such as ``yuv420p10le``.
            width: Pixels, as stored.
            height: Pixels.
            full_range: What the frame is tagged with (AVCOL_RANGE_JPEG). Formats that are full by their name
                (``yuvj…``) stay so. FFmpeg takes untagged grey for full and untagged YUV for limited.

        Raises:
            UsageError: The format is not in `FORMATS`: convert the picture to one that is.
        """
        known = FORMATS.get(name)
        if known is None:
            raise UsageError(f"Invalid pixel format ({name!r}). Nothing is drawn on it; convert to yuv444p or rgb24.")
        return cls(width=width, height=height, **{**known._asdict(), "full_range": known.full_range or full_range})

    @property
    def has_chroma(self) -> bool:
        """Whether some components are chroma, and may be smaller than the picture."""
        return any("C" in letters for letters in KINDS[self.kind])

    @property
    def cell(self) -> tuple[int, int]:
        """(width, height) in pixels of what shares one chroma sample: what drawing is rounded to."""
        return 1 << self.x_shift, 1 << self.y_shift

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The box of the whole picture."""
        return 0.0, 0.0, float(self.width), float(self.height)

    @property
    def dtype(self) -> np.dtype[np.uint8 | np.uint16]:
        """The type of all planes."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(rows, columns, samples side by side) of every plane."""
        return [self._shape(letters) for letters in KINDS[self.kind]]

    @property
    def components(self) -> list[Component]:
        """All components, plane by plane."""
        return [
            self._component(role, plane, channel)
            for plane, letters in enumerate(KINDS[self.kind])
            for channel, role in enumerate(letters)
        ]

    def arrays(self, buffers: Sequence[memoryview], line_sizes: Sequence[int]) -> list[Plane]:
        """View a frame's buffers as planes: nothing is copied, row padding is left out.

        Args:
            buffers: One for each plane, of bytes; writable if it is to be drawn on.
            line_sizes: Bytes from one row to the next, for each plane.

        Returns:
            One rows×columns array for each plane; rows×columns×samples where samples lie side by side.

        Raises:
            UsageError: The buffers are too few or too small, or a row is shorter than the picture (or runs
                backward, as in frames that FFmpeg's vflip made).
        """
        if not len(buffers) == len(line_sizes) == len(self.shapes):
            raise UsageError(f"Invalid planes ({len(buffers)}). A {self.kind} picture has {len(self.shapes)}.")
        return [self._array(*item) for item in zip(buffers, line_sizes, self.shapes, strict=True)]

    def views(self, planes: Sequence[Plane]) -> list[tuple[Component, Plane]]:
        """Every component with a rows×columns view of its samples.

        Args:
            planes: As `arrays` returns them; samples side by side may also lie in one row: rows×(columns·samples).

        Raises:
            UsageError: The planes are not those of this layout.
        """
        if len(planes) != len(self.shapes):
            raise UsageError(f"Invalid planes ({len(planes)}). A {self.kind} picture has {len(self.shapes)}.")
        solid = [self._solid(plane, shape) for plane, shape in zip(planes, self.shapes, strict=True)]
        return [(component, solid[component.plane][..., component.channel]) for component in self.components]

    def _shape(self, letters: str) -> tuple[int, int, int]:
        x_shift, y_shift = (self.x_shift, self.y_shift) if "C" in letters else (0, 0)
        return -(-self.height >> y_shift), -(-self.width >> x_shift), len(letters)

    def _component(self, role: str, plane: int, channel: int) -> Component:
        x_shift, y_shift = (self.x_shift, self.y_shift) if role == "C" else (0, 0)
        return Component(role, plane, channel, x_shift, y_shift, *self._levels(role), self.bits, self.padding)

    def _levels(self, role: str) -> tuple[int, int]:
        """The samples of black and of white."""
        largest, scale = (1 << self.bits) - 1, 1 << (self.bits - 8)
        if role == "C":
            return 128 * scale, 128 * scale
        if role in "AX":
            return largest, largest
        return (16 * scale, 235 * scale) if role == "Y" and not self.full_range else (0, largest)

    def _array(self, buffer: memoryview, line_size: int, shape: tuple[int, int, int]) -> Plane:
        rows, columns, samples = shape
        row_bytes = columns * samples * self.dtype.itemsize
        data = np.frombuffer(buffer, np.uint8)
        if line_size < row_bytes or data.size < line_size * (rows - 1) + row_bytes:
            raise UsageError(
                f"Invalid plane ({data.size} bytes in rows of {line_size}). It has {rows} rows of {row_bytes} or more."
            )
        lines = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (line_size, 1))
        words: Plane = lines.view(self.dtype)
        return words if samples == 1 else words.reshape(shape, copy=False)

    def _solid(self, plane: Plane, shape: tuple[int, int, int]) -> Plane:
        rows, columns, samples = shape
        allowed = {shape, (rows, columns * samples)}
        if plane.dtype != self.dtype or plane.shape not in allowed:
            raise UsageError(
                f"Invalid plane ({plane.dtype} {'x'.join(map(str, plane.shape))}). "
                f"Use {self.dtype} {' or '.join('x'.join(map(str, item)) for item in sorted(allowed))}."
            )
        return plane.reshape(shape, copy=False)


def _check_integer(field: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"Invalid {field} ({value!r}). Use an integer from {low} to {high}.")
