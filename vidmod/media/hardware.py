"""Pictures that an NVIDIA GPU decodes, and keeps: NVDEC through FFmpeg.

FFmpeg parses the stream as ever, in the same enclosed process; the GPU gets what is inside the pictures. What NVDEC
cannot decode (H.264 with 10 bits or 4:2:2, say), FFmpeg's own decoder takes over, and such pictures lie in memory as
usual, so where a picture was decoded is told by the picture.

NVDEC says nothing of damage inside a picture: it conceals it.

Not run on a GPU so far by those who wrote it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame

# Formats in which NVDEC leaves pictures of 4:2:0, to bytes of a sample.
FORMATS = {"nv12": 1, "p010le": 2, "p016le": 2}
# What the decoder of the CPU would have said.
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p016le": "yuv420p12le"}


def is_built_in() -> bool:
    """Whether this FFmpeg can ask an NVIDIA GPU at all."""
    return "cuda" in hwdevices_available()


def accelerator(gpu: int) -> HWAccel:
    """What a container is opened with, so that GPU `gpu` decodes.

    The context is the GPU's primary one, which kernels that work on the pictures share.
    """
    return HWAccel("cuda", device=str(gpu), allow_software_fallback=True, is_hw_owned=True)


def stored_format(frame: VideoFrame) -> str:
    """FFmpeg's name of a picture's pixel format, the same wherever it was decoded."""
    if (kept := frame.sw_format) is None:
        return frame.format.name
    return _PLANAR.get(kept.name, kept.name)


@dataclass(frozen=True, slots=True, repr=False)
class GpuPlane:
    """One plane of a picture in a GPU's memory.

    Attributes:
        address: Of its first sample, on the device.
        line_size: Bytes from one row to the next.
        owner: Keeps the memory from being used for another picture.
    """

    address: int
    line_size: int
    owner: object


def planes_on_gpu(frame: VideoFrame) -> tuple[GpuPlane, ...]:
    """Luma, and chroma interleaved, of a picture that a GPU keeps; none for any other picture or format.

    What the decoder has still to do on the GPU must be waited for before they are read.
    """
    kept = frame.sw_format
    if kept is None or kept.name not in FORMATS:
        return ()
    return tuple(plane_of(plane.__dlpack__(), plane.line_size) for plane in frame.planes)


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Tensor(ctypes.Structure):
    """DLTensor of DLPack 0.8, as far as it is read here; see dmlc/dlpack, include/dlpack/dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("type", ctypes.c_uint32),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


def plane_of(capsule: object, line_size: int) -> GpuPlane:
    """Where a DLPack capsule says that its data is."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(pointer(capsule, b"dltensor"))
    return GpuPlane((tensor.data or 0) + tensor.byte_offset, line_size, capsule)
