"""Pictures as a hardware decoder leaves them, and kernels run on them in this process's memory."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from tests.nvidia.host_kernels import HostKernels
from vidmod.media.frame import Frame, Scaler, colour_matrix, colour_range, orientation_of
from vidmod.models.cuda.launching import Plan, Planes
from vidmod.models.cuda.scaling import LEFT, Layout, Siting
from vidmod.models.cuda.twin import Plane
from vidmod.models.images import Image

BASE = Fraction(1, 25)


def frame_of(picture: VideoFrame) -> Frame:
    return Frame(0, 1, BASE, picture, Scaler())


def noise(width: int, height: int, name: str = "yuv420p", *, seed: int = 0, matrix: int = 5) -> VideoFrame:
    """A picture of noise, limited range."""
    random = np.random.default_rng((seed, width, height))
    picture = VideoFrame(width, height, name)
    for plane in picture.planes:
        samples = random.integers(0, 256, plane.buffer_size, np.uint8)
        if name.endswith("10le"):
            samples = random.integers(0, 1024, plane.buffer_size // 2).astype("<u2").view(np.uint8)
        plane.update(samples.tobytes())
    picture.colorspace, picture.color_range = matrix, ColorRange.MPEG
    return picture


def filtered(picture: VideoFrame, *filters: tuple[str, str]) -> VideoFrame:
    """A picture through FFmpeg's filters."""
    graph = Graph()
    graph.threads = 1
    last = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=BASE)
    for name, options in (*filters, ("buffersink", "")):
        added = graph.add(name, options) if options else graph.add(name)
        last.link_to(added)
        last = added
    graph.configure()
    graph.vpush(picture)
    found = graph.vpull()
    assert isinstance(found, VideoFrame)
    return found


def stored(picture: VideoFrame) -> tuple[Plane, Plane]:
    """A 4:2:0 picture's planes as NVDEC has them (NV12 or P010): luma, and chroma in pairs."""
    width, height = -(-picture.width // 2), -(-picture.height // 2)
    luma = _samples(picture, 0, picture.width, picture.height)
    return luma, np.stack([_samples(picture, number, width, height) for number in (1, 2)], axis=-1)


def _samples(picture: VideoFrame, number: int, width: int, height: int) -> Plane:
    plane, deep = picture.planes[number], picture.format.name == "yuv420p10le"
    lines = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * height].reshape(height, -1)
    if not deep:
        return lines[:, :width]
    # Values lie in the high bits.
    return np.ascontiguousarray(lines[:, : 2 * width]).view("<u2") << np.uint16(6)


def layout_of(picture: VideoFrame, siting: Siting = LEFT) -> Layout:
    """What decoding code tells of a picture."""
    return Layout(
        picture.width,
        picture.height,
        2 if picture.format.name == "yuv420p10le" else 1,
        int(colour_matrix(picture)),
        colour_range(picture) == ColorRange.JPEG,
        orientation_of(picture),
        siting,
        picture.interlaced_frame,
    )


def launched(kernels: HostKernels, plan: Plan, luma: Plane, chroma: Plane, *, padding: int = 6) -> Image:
    """What the kernels make of a picture, its lines `padding` bytes apart, memory full of rubbish before."""
    lines = [
        _padded(np.ascontiguousarray(plane).reshape(len(plane), -1).view(np.uint8), padding) for plane in (luma, chroma)
    ]
    tables = plan.tables.copy()
    scratch, image = np.full(plan.scratch_bytes, 0xA5, np.uint8), np.full(plan.image_bytes, 0xA5, np.uint8)
    planes = Planes(*(number for plane in lines for number in (plane.ctypes.data, plane.strides[0])))
    for launch in plan.launches(planes, tables.ctypes.data, scratch.ctypes.data, image.ctypes.data):
        kernels.launch(launch.kernel, launch.grid, launch.block, launch.arguments)
    assert np.array_equal(tables, plan.tables)
    return image.reshape(plan.preparation.height, plan.preparation.width, 3)


def _padded(lines: NDArray[np.uint8], padding: int) -> NDArray[np.uint8]:
    """The same lines further apart, but for the last one, which nothing follows."""
    rows, size = lines.shape
    memory = np.full(rows * (size + padding) - padding, 0x5A, np.uint8)
    apart = np.lib.stride_tricks.as_strided(memory, lines.shape, (size + padding, 1))
    apart[:] = lines
    return apart
