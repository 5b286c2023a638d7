"""Which kernels make a network's input of a stored picture, and with which arguments.

::

    module = device.module(device.compile(source()))
    plan = Plan.of(Layout(1920, 1080, siting=siting_of("h264")), manifest.preparation)
    tables, scratch = device.buffer(plan.tables.nbytes), device.buffer(plan.scratch_bytes)
    image = device.buffer(plan.image_bytes)
    stream.upload(tables, plan.tables)                      # once for each plan
    for launch in plan.launches(planes, tables.address, scratch.address, image.address):
        stream.launch(module.kernel(launch.kernel), launch.grid, launch.block, launch.arguments)

Only numbers are made here, nothing touches a GPU. A plan belongs to one kind of picture and one manifest; its tables
are read only, its scratch memory belongs to one stream at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidmod.errors import UsageError
from vidmod.models.cuda.filters import Taps
from vidmod.models.cuda.jpeg import quantisers
from vidmod.models.cuda.scaling import Layout, Scaling, scaling
from vidmod.models.images import Geometry
from vidmod.models.manifest import InputSpec, Preparation
from vidmod.models.preprocessing import placed

Argument: TypeAlias = "ctypes._SimpleCData[Any]"
Extent = tuple[int, int, int]

KERNELS = ("normalise", "scale_rows", "compose", "jpeg_samples", "jpeg_blocks", "jpeg_colours")
_BLOCK = (32, 8, 1)
_LINE = (64, 1, 1)
_LONG = (256, 1, 1)
_MOST_BLOCKS = 65535
_ALIGNMENT = 256


def source() -> str:
    """The kernels' CUDA C++; it includes nothing, and is to be compiled without fast maths."""
    return Path(__file__).with_name("kernels.cu").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel to launch.

    Attributes:
        kernel: Its name.
        grid, block: Blocks, and threads in each, across, down and deep.
        arguments: Of the kernel's types, in its order.
    """

    kernel: str
    grid: Extent
    block: Extent
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Planes:
    """Where a stored picture lies in the GPU's memory: addresses, and bytes from one line to the next."""

    luma: int
    luma_line: int
    chroma: int
    chroma_line: int


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of an image that a crop leaves: its size, and where it begins."""

    width: int
    height: int
    left: int = 0
    top: int = 0

    def cropped(self, width: int, height: int) -> _Window:
        """The centre."""
        if width > self.width or height > self.height:
            raise UsageError(
                f"A crop to {width}x{height} needs more than the {self.width}x{self.height} that there is."
            )
        return _Window(width, height, self.left + (self.width - width) // 2, self.top + (self.height - height) // 2)


@dataclass(frozen=True, slots=True)
class _Recoding:
    """Through JPEG: the image's size, and what is kept of it."""

    width: int
    height: int
    kept: _Window
    quantisers: str


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """All that one kind of picture needs to become the input of one network.

    Attributes:
        geometry: How to get back from the image to the displayed picture.
        tables: uint8, what the kernels read besides the picture; to be in the GPU's memory.
        scratch_bytes: Memory that the kernels write on the way.
        image_bytes: Of the image: height×width×3 uint8, in the manifest's channel order.
    """

    layout: Layout
    preparation: Preparation
    geometry: Geometry
    tables: NDArray[np.uint8]
    scratch_bytes: int
    image_bytes: int
    _scaling: Scaling
    _window: _Window
    _recodings: tuple[_Recoding, ...]
    _tables_at: dict[str, int]
    _scratch_at: dict[str, int]

    def __repr__(self) -> str:
        return f"Plan({self.layout}, {self.preparation}, scratch_bytes={self.scratch_bytes})"

    @classmethod
    def of(cls, layout: Layout, preparation: Preparation) -> Plan:
        """Plan for pictures of a kind; takes some milliseconds, so keep it.

        Raises:
            UsageError: The picture's matrix is unknown, or a crop is larger than what it crops.
        """
        first = preparation.steps[0]
        geometry, size = placed(layout.displayed_size, first)
        scaled = scaling(layout, *layout.orientation.size(*size), first.interpolation, preparation.channels)
        window, recodings, steps = _stages(preparation)
        tables, tables_at = _packed({**_scaling_tables(scaled), **steps})
        scratch_bytes, scratch_at = _areas(_scratch(layout, scaled, window, recodings))
        size_bytes = preparation.image_bytes
        return cls(
            *(layout, preparation, geometry, tables, scratch_bytes, size_bytes),
            *(scaled, window, recodings, tables_at, scratch_at),
        )

    def launches(self, planes: Planes, tables: int, scratch: int, image: int) -> list[Launch]:
        """What makes `image` of a picture, in this order, on one stream.

        Args:
            planes: Of the picture.
            tables, scratch, image: Addresses of memory of `tables.nbytes`, `scratch_bytes` and `image_bytes`.
        """
        table = {name: tables + at for name, at in self._tables_at.items()}
        area = {name: scratch + at for name, at in self._scratch_at.items()}
        between = area.get("image", image)
        found = [*self._rows(planes, table, area), self._composed(table, area, between if self._recodings else image)]
        for recoding in self._recodings:
            to = image if recoding is self._recodings[-1] else between
            found += self._recoded(recoding, table, area, between, to)
        return found

    def _rows(self, planes: Planes, table: dict[str, int], area: dict[str, int]) -> Iterator[Launch]:
        scaled, layout = self._scaling, self.layout
        chroma = (planes.chroma, planes.chroma_line, 2, layout.chroma_size[1], scaled.chroma_across)
        luma = (planes.luma, planes.luma_line, 1, layout.height, scaled.luma_across)
        for name, (address, line, channels, rows, across) in (("luma", luma), ("chroma", chroma)):
            width = len(across.first)
            yield Launch(
                "scale_rows",
                _grid(width * channels, rows),
                _BLOCK,
                (
                    *(_address(address), ctypes.c_longlong(line)),
                    *_integers(layout.sample_bytes, channels, rows),
                    *(_address(area[name]), ctypes.c_int(width)),
                    *_taps(table, f"{name}_across", across),
                ),
            )

    def _composed(self, table: dict[str, int], area: dict[str, int], image: int) -> Launch:
        scaled, window, layout = self._scaling, self._window, self.layout
        turned = layout.orientation
        orientation = turned.transposed + 2 * turned.flip_x + 4 * turned.flip_y
        return Launch(
            "compose",
            _grid(window.width, window.height),
            _BLOCK,
            (
                *(_address(area["luma"]), _address(area["chroma"]), _address(image)),
                *_integers(layout.height, layout.chroma_size[1]),
                *_taps(table, "luma_down", scaled.luma_down),
                *_taps(table, "chroma_down", scaled.chroma_down),
                *(_address(table["blends"]), _address(table["colours"])),
                *_integers(scaled.row_step, scaled.chroma_shift, scaled.width, scaled.height),
                *_integers(window.width, window.height, window.left, window.top, orientation, self._bgr),
            ),
        )

    def _recoded(
        self, recoding: _Recoding, table: dict[str, int], area: dict[str, int], image: int, to: int
    ) -> Iterator[Launch]:
        planes, size, kept = area["planes"], (recoding.width, recoding.height), recoding.kept
        across, down, blocks = _jpeg_size(*size)
        yield Launch(
            "jpeg_samples",
            (*_grid(across * 8, down * 8)[:2], 3),
            _BLOCK,
            (_address(image), _address(planes), *_integers(*size, self._bgr)),
        )
        yield Launch(
            "jpeg_blocks",
            (-(-blocks // _LINE[0]), 1, 1),
            _LINE,
            (_address(planes), _address(table[recoding.quantisers]), *_integers(*size)),
        )
        yield Launch(
            "jpeg_colours",
            _grid(kept.width, kept.height),
            _BLOCK,
            (
                *(_address(planes), _address(to)),
                *_integers(*size, kept.left, kept.top, kept.width, kept.height, self._bgr),
            ),
        )

    @property
    def _bgr(self) -> int:
        return int(self.preparation.channels == "bgr")


def normalised(images: int, to: int, count: int, spec: InputSpec) -> Launch:
    """What makes a network's float32 input, at `to`, of `count` uint8 images."""
    return Launch(
        "normalise",
        (min(-(-count * spec.height * spec.width // _LONG[0]), _MOST_BLOCKS), 1, 1),
        _LONG,
        (
            *(_address(images), _address(to)),
            *_integers(count, spec.height, spec.width, spec.layout == "NCHW"),
            *map(ctypes.c_float, (*spec.mean, *spec.scale)),
        ),
    )


def _stages(preparation: Preparation) -> tuple[_Window, tuple[_Recoding, ...], dict[str, NDArray[np.int32]]]:
    """What is composed, how it is recoded, and the quantisation steps for that, by name."""
    first, *rest = preparation.steps
    windows, steps = [_Window(first.width, first.height)], {}
    for step in rest:
        if step.step == "crop":
            windows[-1] = windows[-1].cropped(step.width, step.height)
        else:
            steps[f"quantisers {len(windows)}"] = quantisers(step.quality)
            windows.append(_Window(windows[-1].width, windows[-1].height))
    recodings = [
        _Recoding(before.width, before.height, kept, name)
        for before, kept, name in zip(windows, windows[1:], steps, strict=False)
    ]
    return windows[0], tuple(recodings), steps


def _scaling_tables(scaled: Scaling) -> dict[str, NDArray[np.generic]]:
    tables: dict[str, NDArray[np.generic]] = {"blends": scaled.blends, "colours": scaled.colours}
    for name in ("luma_across", "chroma_across", "luma_down", "chroma_down"):
        taps: Taps = getattr(scaled, name)
        tables[f"{name} first"], tables[f"{name} weights"] = taps.first, taps.weights
    return tables


def _packed(tables: dict[str, NDArray[np.generic]]) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Tables one after the other, and where each begins."""
    total, places = _areas({name: table.nbytes for name, table in tables.items()})
    packed = np.zeros(total, np.uint8)
    for name, table in tables.items():
        data = np.frombuffer(table.tobytes(), np.uint8)
        packed[places[name] : places[name] + data.size] = data
    return packed, places


def _scratch(layout: Layout, scaled: Scaling, window: _Window, recodings: tuple[_Recoding, ...]) -> dict[str, int]:
    """Bytes of each area."""
    areas = {
        "luma": 2 * layout.height * len(scaled.luma_across.first),
        "chroma": 4 * layout.chroma_size[1] * len(scaled.chroma_across.first),
    }
    if recodings:
        areas["image"] = 3 * window.width * window.height
        areas["planes"] = max(64 * _jpeg_size(one.width, one.height)[2] for one in recodings)
    return areas


def _areas(sizes: dict[str, int]) -> tuple[int, dict[str, int]]:
    """The size of all of them, and where each begins."""
    total, places = 0, {}
    for name, size in sizes.items():
        places[name] = total
        total += -(-size // _ALIGNMENT) * _ALIGNMENT
    return total, places


def _jpeg_size(width: int, height: int) -> tuple[int, int, int]:
    """Blocks of luma across and down, and of all three planes."""
    across, down = -(-width // 8), -(-height // 8)
    return across, down, across * down + 2 * -(-width // 16) * -(-height // 16)


def _grid(width: int, height: int) -> Extent:
    return -(-width // _BLOCK[0]), -(-height // _BLOCK[1]), 1


def _taps(table: dict[str, int], name: str, taps: Taps) -> tuple[Argument, ...]:
    return _address(table[f"{name} first"]), _address(table[f"{name} weights"]), ctypes.c_int(taps.count)


def _address(value: int) -> Argument:
    return ctypes.c_void_p(value)


def _integers(*values: int) -> tuple[Argument, ...]:
    return tuple(ctypes.c_int(value) for value in values)
