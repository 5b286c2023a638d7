"""Runs every kernel at awkward sizes; started by a test with a sanitiser in the process: python -m ... LIBRARY [short].

With `short` the image's memory is a byte too small, which the sanitiser has to find.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

from tests.nvidia.host_kernels import HostKernels
from vidmod.media.frame import Orientation
from vidmod.models.cuda.launching import Plan, Planes, normalised
from vidmod.models.cuda.scaling import Layout
from vidmod.models.manifest import InputSpec, Preparation, Step

SIZES = ((1, 1), (2, 2), (3, 1), (1, 6), (5, 7), (17, 31), (33, 6), (64, 50), (255, 33))
STEPS = (
    (Step("resize", 31, 33, "bilinear"), Step("crop", 17, 19), Step("jpeg", quality=75)),
    (Step("letterbox", 16, 24, "area"),),
    (Step("resize", 18, 9, "bicubic"), Step("jpeg", quality=10), Step("crop", 5, 3)),
    (Step("letterbox", 255, 33, "bicubic"),),
)


class Memory:
    """Memory of the process, so that the sanitiser knows where it ends."""

    def __init__(self, size: int) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.malloc.restype = ctypes.c_void_p
        self._libc.free.argtypes = [ctypes.c_void_p]
        self.address: int = self._libc.malloc(ctypes.c_size_t(size))
        self._size = size

    def filled(self, data: bytes) -> Memory:
        ctypes.memmove(self.address, data, self._size)
        return self

    def close(self) -> None:
        self._libc.free(self.address)


def prepare(kernels: HostKernels, layout: Layout, preparation: Preparation, missing: int) -> None:
    plan = Plan.of(layout, preparation)
    width, height = layout.chroma_size
    lines = layout.width * layout.sample_bytes, 2 * width * layout.sample_bytes
    sizes = lines[0] * layout.height, lines[1] * height
    random = np.random.default_rng(0)
    luma, chroma = (Memory(size).filled(random.bytes(size)) for size in sizes)
    tables = Memory(plan.tables.nbytes).filled(plan.tables.tobytes())
    scratch, image = Memory(plan.scratch_bytes), Memory(plan.image_bytes - missing)
    planes = Planes(luma.address, lines[0], chroma.address, lines[1])
    for launch in plan.launches(planes, tables.address, scratch.address, image.address):
        kernels.launch(launch.kernel, launch.grid, launch.block, launch.arguments)
    for memory in (luma, chroma, tables, scratch, image):
        memory.close()


def main(library: str, missing: int) -> None:
    kernels = HostKernels(Path(library))
    for place, (width, height) in enumerate(SIZES):
        for number, steps in enumerate(STEPS):
            size = next((step.width, step.height) for step in reversed(steps) if step.step != "jpeg")
            turned = Orientation(bool(number & 1), bool(place & 1), bool(place & 2))
            layout = Layout(width, height, 1 + number % 2, orientation=turned, interlaced=bool((place + number) & 1))
            prepare(kernels, layout, Preparation(steps, "bgr" if place & 1 else "rgb", *size), missing)
    spec = InputSpec("input", "NCHW", "rgb", 7, 5)
    images, output = Memory(3 * 7 * 5 * 3).filled(bytes(3 * 7 * 5 * 3)), Memory(4 * 3 * 7 * 5 * 3)
    launch = normalised(images.address, output.address, 3, spec)
    kernels.launch(launch.kernel, launch.grid, launch.block, launch.arguments)
    print("every kernel ran")


if __name__ == "__main__":
    main(sys.argv[1], int("short" in sys.argv[2:]))
