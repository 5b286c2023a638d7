"""An NVIDIA GPU through the driver: memory, streams, graphs and kernels, by NVIDIA's `cuda-bindings` 12 or 13.

Nothing is imported before a :class:`Device` is opened. Opening says what is missing, as RuntimeUnavailableError; what
fails later is an InferenceError with the name that CUDA gives it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vidmod.closing import Closing
from vidmod.errors import InferenceError, RuntimeUnavailableError

# The oldest driver that runs programs of a version of CUDA (docs.nvidia.com/deploy/cuda-compatibility).
OLDEST_DRIVER = {12: 525, 13: 580}
_DRIVER_VERSION = Path("/sys/module/nvidia/version")
Argument: TypeAlias = "ctypes._SimpleCData[Any]"


def bindings() -> ModuleType:
    """NVIDIA's package, with its modules `driver` and `nvrtc`.

    Raises:
        RuntimeUnavailableError: It is not installed.
    """
    try:
        from cuda import bindings as package
        from cuda.bindings import driver, nvrtc  # noqa: F401 - they become attributes of the package
    except ImportError as exc:
        raise RuntimeUnavailableError(
            f"NVIDIA's cuda-bindings cannot be imported ({exc}). Run pip install 'vidmod[tensorrt]' or 'vidmod[cuda]'. "
            f"A GPU with driver {OLDEST_DRIVER[13]} or newer is needed, too."
        ) from exc
    module: ModuleType = package
    return module


def device_count() -> int:
    """How many GPUs CUDA sees: 0 where there is no driver, GPU or package."""
    try:
        return _started(bindings())[0]
    except RuntimeUnavailableError:
        return 0


def _started(package: ModuleType) -> tuple[int, int]:
    """How many GPUs there are, and what `cuDriverGetVersion` says."""
    driver: Any = package.driver
    try:
        _checked(driver, driver.cuInit(0), "cuInit")
        count = _checked(driver, driver.cuDeviceGetCount(), "cuDeviceGetCount")
        version = _checked(driver, driver.cuDriverGetVersion(), "cuDriverGetVersion")
    except (InferenceError, RuntimeError) as exc:  # cuda-bindings: a RuntimeError where libcuda.so.1 is not found
        raise RuntimeUnavailableError(
            f"CUDA cannot be started ({_first_line(exc)}). It needs an NVIDIA GPU and NVIDIA's driver, "
            f"{OLDEST_DRIVER[13]} or newer for CUDA 13: `nvidia-smi` shows both. Use --device cpu without one."
        ) from exc
    return int(count), int(version)


def _require(package: ModuleType, number: int) -> int:
    """What `cuDriverGetVersion` says, where this GPU is there and the driver is new enough."""
    count, version = _started(package)
    if number >= count:
        seen = ", ".join(f"cuda:{index}" for index in range(count)) or "no GPU"
        raise RuntimeUnavailableError(
            f"There is no cuda:{number} here: CUDA sees {seen}. Use one that is there, or cpu."
        )
    wanted = int(package.__version__.partition(".")[0])
    if version // 1000 < wanted:
        raise RuntimeUnavailableError(
            f"NVIDIA's driver ({_driver_version(version)}) is too old for CUDA {wanted}: "
            f"install {OLDEST_DRIVER.get(wanted, OLDEST_DRIVER[13])} or newer."
        )
    return version


def _checked(driver: ModuleType, answer: tuple[Any, ...], call: str) -> Any:
    """What a call of the driver returned beside its result.

    Raises:
        InferenceError: The result is not success.
    """
    result, *values = answer
    if int(result) != 0:
        _, text = driver.cuGetErrorString(result)
        raise InferenceError(f"{call} failed: {result.name} ({_text(text)}).")
    return values[0] if values else None


def _text(value: bytes | None) -> str:
    return "no description" if value is None else bytes(value).rstrip(b"\0 \n").decode("utf-8", "replace")


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a GPU is.

    Attributes:
        capability: Compute capability, major and minor.
        driver: The version of NVIDIA's driver, such as 580.95.05; `CUDA 13.0` where it does not say it.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    driver: str


class Device(Closing):
    """One GPU, with its primary context: what PyAV, ONNX Runtime and TensorRT work in as well.

    It belongs to the thread that opened it, and the context is that thread's current one until `close`. All that was
    made here and was not closed is freed with it, last made first.

    Args:
        number: From 0, as `cuda:0`.

    Raises:
        RuntimeUnavailableError: There is no package, no driver, one that is too old, or no such GPU.
    """

    def __init__(self, number: int = 0) -> None:
        package = bindings()
        version = _require(package, number)
        self.number = number
        self.driver: Any = package.driver
        self.nvrtc: Any = package.nvrtc
        self._owned: list[_Owned] = []
        self._retained: Any = None
        self._context: Any = None
        self._is_pushed = False
        try:
            device = self.call("cuDeviceGet", number)
            self.facts = self._facts(device, version)
            self._context = self.call("cuDevicePrimaryCtxRetain", device)
            self._retained = device
            self.call("cuCtxPushCurrent", self._context)
            self._is_pushed = True
        except InferenceError as exc:
            self._release()
            raise RuntimeUnavailableError(f"cuda:{number} cannot be used: {exc} `nvidia-smi` shows its state.") from exc

    def call(self, name: str, *args: Any) -> Any:
        """One function of the driver's: every result is checked here.

        Raises:
            InferenceError: It failed.
        """
        try:
            answer = getattr(self.driver, name)(*args)
        except RuntimeError as exc:  # cuda-bindings: the driver has no such function
            raise InferenceError(f"{name} failed: {_first_line(exc)}.") from exc
        return _checked(self.driver, answer, name)

    def _facts(self, device: Any, version: int) -> DeviceFacts:
        kinds = self.driver.CUdevice_attribute

        def attribute(name: str) -> int:
            return int(self.call("cuDeviceGetAttribute", getattr(kinds, name), device))

        return DeviceFacts(
            name=bytes(self.call("cuDeviceGetName", 256, device)).partition(b"\0")[0].decode("utf-8", "replace"),
            capability=(
                attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR"),
                attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR"),
            ),
            multiprocessors=attribute("CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT"),
            memory_bytes=int(self.call("cuDeviceTotalMem", device)),
            driver=_driver_version(version),
        )

    def use(self) -> None:
        """Make its context this thread's current one: where a thread has several GPUs, before each use.

        Raises:
            InferenceError: It is closed.
        """
        if self._context is None:
            raise InferenceError(f"cuda:{self.number} is closed.")
        self.call("cuCtxSetCurrent", self._context)

    def settle(self) -> None:
        """Wait until no stream has anything to do, or can do any more: what failed before is not told again."""
        _without_error(self.use)
        for thing in tuple(self._owned):
            if isinstance(thing, Stream):
                _without_error(thing.synchronize)

    def wait(self) -> None:
        """Wait until all is done that anyone has queued in this context: a decoder's streams are its own.

        Raises:
            InferenceError: Some of it failed.
        """
        self.call("cuCtxSynchronize")

    def own(self, thing: _Owned) -> None:
        """Close something with the device, before all that was made earlier."""
        self._owned.append(thing)

    def disown(self, thing: _Owned) -> None:
        """It is closed already."""
        self._owned = [other for other in self._owned if other is not thing]

    def stream(self) -> Stream:
        """A stream that does not wait for the default stream."""
        return Stream(self)

    def event(self) -> Event:
        """An event that can be recorded again and again."""
        return Event(self)

    def buffer(self, size_bytes: int) -> Buffer:
        """Memory of the GPU's, of arbitrary content, aligned to 256 bytes."""
        return Buffer(self, size_bytes)

    def pinned(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Page-locked host memory, of arbitrary content: what a stream copies while the program goes on.

        It is freed with the device: no view of it may be used after that.
        """
        return _Pinned(self, shape, np.dtype(dtype)).array

    def module(self, code: bytes) -> Module:
        """Load what `compile` made."""
        return Module(self, code)

    def compile(self, source: str, options: Sequence[str] = ()) -> bytes:
        """Compile CUDA C++ for this GPU.

        Args:
            options: NVRTC's, besides the architecture.

        Raises:
            RuntimeUnavailableError: NVRTC is not installed.
            InferenceError: The source cannot be compiled; the message is the compiler's.
        """
        major, minor = self.facts.capability
        program = self._compiler("nvrtcCreateProgram", source.encode(), b"vidmod.cu", 0, [], [])
        try:
            wanted = [f"--gpu-architecture=sm_{major}{minor}".encode(), *(option.encode() for option in options)]
            self._compiler("nvrtcCompileProgram", program, len(wanted), wanted, program=program)
            code = bytearray(self._compiler("nvrtcGetCUBINSize", program))
            self._compiler("nvrtcGetCUBIN", program, code)
        finally:
            self.nvrtc.nvrtcDestroyProgram(program)
        return bytes(code)

    def _compiler(self, name: str, *args: Any, program: Any = None) -> Any:
        try:
            result, *values = getattr(self.nvrtc, name)(*args)
        except RuntimeError as exc:  # cuda-bindings: libnvrtc.so is not found
            raise RuntimeUnavailableError(
                f"NVRTC, which compiles vidmod's kernels, is not here ({_first_line(exc)}). "
                "Run: pip install 'vidmod[tensorrt]' or 'vidmod[cuda]'"
            ) from exc
        if int(result) != 0:
            log = "" if program is None else self._compiler_log(program)
            raise InferenceError(f"{name} failed: {result.name}. {log}".rstrip())
        return values[0] if values else None

    def _compiler_log(self, program: Any) -> str:
        log = bytearray(self._compiler("nvrtcGetProgramLogSize", program))
        self._compiler("nvrtcGetProgramLog", program, log)
        return _text(bytes(log))

    def close(self) -> None:
        """Wait for the streams, and free everything in order; more than once is fine."""
        if self._context is None:
            return
        try:
            self.settle()
            for thing in reversed(tuple(self._owned)):
                thing.close()
        finally:
            self._release()

    def _release(self) -> None:
        if self._is_pushed:
            self._is_pushed = False
            _without_error(self.call, "cuCtxPopCurrent")
        self._context, retained, self._retained = None, self._retained, None
        if retained is not None:
            _without_error(self.call, "cuDevicePrimaryCtxRelease", retained)


def _driver_version(cuda: int) -> str:
    try:
        return _DRIVER_VERSION.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"


def _without_error(call: Callable[..., Any], *args: Any) -> None:
    """Go on after a failure: what is being freed is given up either way, and the first error is the one to tell."""
    try:
        call(*args)
    except InferenceError:
        return


class _Owned(Closing):
    """Something of a device's, which is freed once: by `close`, or with the device."""

    def __init__(self, device: Device, free: str, handle: Any) -> None:
        self.device = device
        self._free = free
        self._handle = handle
        device.own(self)

    @property
    def handle(self) -> int:
        """The driver's, as a number.

        Raises:
            InferenceError: It is closed.
        """
        if self._handle is None:
            raise InferenceError(f"A {type(self).__name__.lower().strip('_')} was used after it was closed.")
        return int(self._handle)

    def close(self) -> None:
        """Free it; more than once is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self.device.disown(self)
            _without_error(self.device.call, self._free, handle)


class Buffer(_Owned):
    """Memory of the GPU's."""

    def __init__(self, device: Device, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(device, "cuMemFree", device.call("cuMemAlloc", size_bytes))

    @property
    def address(self) -> int:
        """Where it begins."""
        return self.handle


class _Pinned(_Owned):
    """Page-locked memory, as an array."""

    def __init__(self, device: Device, shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = int(np.prod(shape)) * dtype.itemsize
        super().__init__(device, "cuMemFreeHost", device.call("cuMemHostAlloc", size, 0))
        memory = memoryview((ctypes.c_uint8 * size).from_address(self.handle))
        self.array: NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)


class Module(_Owned):
    """Compiled kernels."""

    def __init__(self, device: Device, code: bytes) -> None:
        super().__init__(device, "cuModuleUnload", device.call("cuModuleLoadData", code))

    def kernel(self, name: str) -> Kernel:
        """A kernel by its name; it is declared `extern "C"`."""
        return Kernel(self.device.call("cuModuleGetFunction", self.handle, name.encode()), name)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function that runs on the GPU, as long as its module is loaded."""

    function: Any
    name: str


class Event(_Owned):
    """A place in a stream, for other streams and the program to wait for."""

    def __init__(self, device: Device) -> None:
        flags = device.driver.CUevent_flags
        # A thread that waits sleeps, instead of keeping a core busy that could decode.
        chosen = int(flags.CU_EVENT_DISABLE_TIMING) | int(flags.CU_EVENT_BLOCKING_SYNC)
        super().__init__(device, "cuEventDestroy", device.call("cuEventCreate", chosen))

    def synchronize(self) -> None:
        """Wait until the stream has come to where it was recorded last."""
        self.device.call("cuEventSynchronize", self.handle)


class Graph(_Owned):
    """Work that was captured: launched at once, with the addresses that it was captured with."""

    def __init__(self, device: Device, graph: Any) -> None:
        try:
            executable = device.call("cuGraphInstantiate", graph, 0)
        finally:
            _without_error(device.call, "cuGraphDestroy", graph)
        super().__init__(device, "cuGraphExecDestroy", executable)

    def launch(self, stream: Stream) -> None:
        """Queue the work."""
        self.device.call("cuGraphLaunch", self.handle, stream.handle)


class Stream(_Owned):
    """A queue of work: done in order, while the program goes on."""

    def __init__(self, device: Device) -> None:
        flag = int(device.driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        super().__init__(device, "cuStreamDestroy", device.call("cuStreamCreate", flag))

    def upload(self, buffer: Buffer, array: NDArray[Any], offset: int = 0) -> None:
        """Copy a pinned array, which must stay as it is until then, to `offset` bytes into a buffer."""
        size = _span(buffer, array, offset)
        self.device.call("cuMemcpyHtoDAsync", buffer.address + offset, array.ctypes.data, size, self.handle)

    def download(self, array: NDArray[Any], buffer: Buffer, offset: int = 0) -> None:
        """Copy what is `offset` bytes into a buffer to a pinned array, whose content is known after `synchronize`."""
        size = _span(buffer, array, offset)
        self.device.call("cuMemcpyDtoHAsync", array.ctypes.data, buffer.address + offset, size, self.handle)

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Argument]
    ) -> None:
        """Run a kernel.

        Args:
            grid: Blocks in x, y and z.
            block: Threads of a block in x, y and z.
            arguments: As the kernel declares them: c_int for int, c_float for float, c_void_p for a pointer.
        """
        values = (tuple(argument.value for argument in arguments), tuple(type(argument) for argument in arguments))
        self.device.call("cuLaunchKernel", kernel.function, *grid, *block, 0, self.handle, values, 0)

    def record(self, event: Event | None = None) -> Event:
        """Mark this place: with an event that is used again, or with a new one, which is freed with the device."""
        event = self.device.event() if event is None else event
        self.device.call("cuEventRecord", event.handle, self.handle)
        return event

    def wait(self, event: Event) -> None:
        """Let what is queued from now on wait for where an event was recorded last."""
        self.device.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until all is done."""
        self.device.call("cuStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Queue work into a graph instead of onto the GPU.

        Raises:
            InferenceError: It cannot be captured. The stream is as before.
        """
        mode = self.device.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self.device.call("cuStreamBeginCapture", self.handle, mode)
        try:
            work()
        except BaseException:
            _without_error(self._abandon)
            raise
        return Graph(self.device, self.device.call("cuStreamEndCapture", self.handle))

    def _abandon(self) -> None:
        graph = self.device.call("cuStreamEndCapture", self.handle)
        self.device.call("cuGraphDestroy", graph)


def _span(buffer: Buffer, array: NDArray[Any], offset: int) -> int:
    if not array.flags.c_contiguous or offset < 0 or offset + array.nbytes > buffer.size_bytes:
        raise InferenceError(
            f"An array of {array.nbytes} bytes does not fit {offset} bytes into a buffer of {buffer.size_bytes}."
        )
    return array.nbytes
