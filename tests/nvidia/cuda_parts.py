"""What a make-believe GPU is made of: the bindings' numbers and calls, memory, streams and kernels."""

from __future__ import annotations

import ctypes
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

POISON = 0xFF
Triple = tuple[int, int, int]


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905
    CUDA_ERROR_UNKNOWN = 999


class nvrtcResult(IntEnum):
    NVRTC_SUCCESS = 0
    NVRTC_ERROR_OUT_OF_MEMORY = 1
    NVRTC_ERROR_INVALID_PROGRAM = 4
    NVRTC_ERROR_INVALID_OPTION = 5
    NVRTC_ERROR_COMPILATION = 6
    NVRTC_ERROR_INTERNAL_ERROR = 11


class CUdevice_attribute(IntEnum):
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76


class CUstream_flags(IntEnum):
    CU_STREAM_DEFAULT = 0
    CU_STREAM_NON_BLOCKING = 1


class CUevent_flags(IntEnum):
    CU_EVENT_DEFAULT = 0
    CU_EVENT_BLOCKING_SYNC = 1
    CU_EVENT_DISABLE_TIMING = 2


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class Kernels(Protocol):
    """What runs kernels: see `host_kernels.build`."""

    def launch(self, name: str, grid: Triple, block: Triple, arguments: Sequence[Any]) -> None: ...


class Handle:
    """A pointer of the driver's; `int()` gives its address."""

    def __init__(self, kind: str, address: int) -> None:
        self.kind = kind
        self._address = address

    def __int__(self) -> int:
        return self._address

    def __repr__(self) -> str:
        return f"<{self.kind} {self._address:#x}>"


@dataclass
class Memory:
    """An allocation: host memory that plays a GPU's, or pinned host memory."""

    array: NDArray[np.uint8]
    address: int
    pinned: bool
    live: bool = True

    @classmethod
    def of(cls, size: int, *, pinned: bool) -> Memory:
        array = np.full(size + 256, POISON, np.uint8)
        start = -array.ctypes.data % 256
        array = array[start : start + size]
        return cls(array, array.ctypes.data, pinned)

    def holds(self, address: int, size: int) -> bool:
        return self.live and self.address <= address and address + size <= self.address + len(self.array)


class Marker:
    """One recording of an event, at its place in a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.done = False


@dataclass
class Work:
    """What a stream has to do.

    Attributes:
        needs: A recording that it waits for.
        owner: What must not be freed before it is done, by its number.
    """

    label: str
    run: Callable[[], None]
    needs: Marker | None = None
    owner: int = 0


@dataclass
class Stream:
    handle: Handle
    device: int
    queue: deque[Work] = field(default_factory=deque)
    capture: list[Work] | None = None
    invalidated: bool = False

    def put(self, work: Work) -> None:
        if self.capture is not None:
            self.capture.append(work)
        else:
            self.queue.append(work)


@dataclass
class Event:
    handle: Handle
    marker: Marker | None = None


@dataclass
class Function:
    handle: Handle
    name: str
    types: tuple[Any, ...] | None
    module: int


class AsynchronousError(Exception):
    """What a GPU finds out while it works."""


@dataclass
class Call:
    """How a function of the bindings behaves besides what it does.

    Attributes:
        outputs: How many values are returned beside the result.
        context: Whether it needs a current context.
        breaks_capture: Whether it is refused while this thread captures.
        frees: Whether it ends a handle: it does so even where it then reports a failure.
        waits: Whether it waits for the GPU: so it does, too.
    """

    outputs: int = 0
    context: bool = True
    breaks_capture: bool = False
    frees: bool = False
    waits: bool = False


CALLS = {
    "cuInit": Call(context=False),
    "cuDriverGetVersion": Call(1, context=False),
    "cuDeviceGetCount": Call(1, context=False),
    "cuDeviceGet": Call(1, context=False),
    "cuDeviceGetName": Call(1, context=False),
    "cuDeviceGetAttribute": Call(1, context=False),
    "cuDeviceTotalMem": Call(1, context=False),
    "cuDevicePrimaryCtxRetain": Call(1, context=False),
    "cuDevicePrimaryCtxRelease": Call(context=False, frees=True),
    "cuCtxPushCurrent": Call(context=False),
    "cuCtxPopCurrent": Call(1, context=False, frees=True),
    "cuCtxSetCurrent": Call(context=False),
    "cuCtxSynchronize": Call(breaks_capture=True, waits=True),
    "cuStreamCreate": Call(1),
    "cuStreamDestroy": Call(frees=True),
    "cuStreamSynchronize": Call(breaks_capture=True, waits=True),
    "cuStreamWaitEvent": Call(),
    "cuStreamBeginCapture": Call(),
    "cuStreamEndCapture": Call(1),
    "cuEventCreate": Call(1),
    "cuEventDestroy": Call(frees=True),
    "cuEventRecord": Call(),
    "cuEventSynchronize": Call(breaks_capture=True, waits=True),
    "cuGraphInstantiate": Call(1),
    "cuGraphLaunch": Call(),
    "cuGraphDestroy": Call(frees=True),
    "cuGraphExecDestroy": Call(frees=True),
    "cuMemAlloc": Call(1, breaks_capture=True),
    "cuMemFree": Call(breaks_capture=True, frees=True),
    "cuMemHostAlloc": Call(1, breaks_capture=True),
    "cuMemFreeHost": Call(breaks_capture=True, frees=True),
    "cuMemcpyHtoDAsync": Call(),
    "cuMemcpyDtoHAsync": Call(),
    "cuModuleLoadData": Call(1, breaks_capture=True),
    "cuModuleUnload": Call(breaks_capture=True, frees=True),
    "cuModuleGetFunction": Call(1),
    "cuLaunchKernel": Call(),
    "nvrtcCreateProgram": Call(1, context=False),
    "nvrtcCompileProgram": Call(context=False),
    "nvrtcGetProgramLogSize": Call(1, context=False),
    "nvrtcGetProgramLog": Call(context=False),
    "nvrtcGetCUBINSize": Call(1, context=False),
    "nvrtcGetCUBIN": Call(context=False),
    "nvrtcDestroyProgram": Call(context=False, frees=True),
}
CUBIN = b"FAKECUBIN"
_TYPES = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "unsigned": ctypes.c_uint,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "long long": ctypes.c_longlong,
    "size_t": ctypes.c_size_t,
    "bool": ctypes.c_bool,
}


def parameters(source: str, name: str) -> tuple[Any, ...] | None:
    """The types that a kernel wants; None where the source has no such kernel."""
    source = re.sub(r"//[^\n]*|/\*.*?\*/", " ", source, flags=re.DOTALL)
    bounds = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    found = re.search(rf"__global__\s+{bounds}void\s+{bounds}{name}\s*\(([^)]*)\)", source)
    if found is None:
        return None
    return tuple(_type(parameter) for parameter in found[1].split(",") if parameter.strip())


def _type(parameter: str) -> Any:
    if "*" in parameter:
        return ctypes.c_void_p
    words = [word for word in parameter.split() if word != "const"]
    return _TYPES[" ".join(words[:-1])]


class PythonKernels:
    """Kernels in NumPy, for tests of what is around them."""

    def launch(self, name: str, grid: Triple, block: Triple, arguments: Sequence[Any]) -> None:
        values = [argument.value for argument in arguments]
        assert name == "normalise", f"{name} is not written in NumPy: use host_kernels"
        source, target, count, height, width, planar, *rest = values
        mean, scale = np.array(rest[:3], np.float32), np.array(rest[3:], np.float32)
        size = count * height * width * 3
        images = np.frombuffer((ctypes.c_uint8 * size).from_address(source), np.uint8)
        output = np.frombuffer((ctypes.c_float * size).from_address(target), np.float32)
        result = (images.reshape(count, height, width, 3).astype(np.float32) - mean) / scale
        output[:] = (result.transpose(0, 3, 1, 2) if planar else result).ravel()
