"""A make-believe GPU: takes the place of `cuda.bindings`, so that the code around it can be tested anywhere.

What it makes visible:

- Work on a stream is queued. It is done when something waits for it, and no sooner (`seed=None`), or at moments that
  nobody can foresee (`seed=N`): what relies on luck instead of an event or a synchronisation gives wrong numbers.
- New and freed memory is full of 0xFF: not a number, as float32. Memory is only touched where it is allocated.
- Asynchronous copies are of pinned memory alone.
- While a stream is captured, what would break the capture is refused, and the capture with it.
- Every handle is counted; what is used after its end, or ended in the wrong order, is in `problems`.
- `fail_at(n)` makes the nth call fail, `fail(name)` the next of that name.

The signatures, the shape of what is returned and the numbers of the errors are those of cuda-bindings 12 and 13, to
which `test_nvidia_names.py` holds them.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.machinery
import random
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.nvidia.cuda_parts import (
    CALLS,
    CUBIN,
    POISON,
    AsynchronousError,
    Call,
    CUdevice_attribute,
    CUevent_flags,
    CUresult,
    CUstream_flags,
    CUstreamCaptureMode,
    Event,
    Function,
    Handle,
    Kernels,
    Marker,
    Memory,
    PythonKernels,
    Stream,
    Work,
    nvrtcResult,
    parameters,
)


class FakeCuda:
    """One process's GPUs.

    Args:
        devices: How many there are.
        version: What the driver can do, as `cuDriverGetVersion` says it.
        seed: None: work waits until something waits for it; else it is done at moments drawn from this seed.
        kernels: What runs kernels; None for :class:`PythonKernels`.
        bindings: The version of cuda-bindings.
    """

    capability = (9, 0)

    def __init__(
        self,
        *,
        devices: int = 1,
        version: int = 13000,
        seed: int | None = None,
        kernels: Kernels | None = None,
        bindings: str = "13.5.0",
    ) -> None:
        self.devices = devices
        self.version = version
        self.bindings = bindings
        self.kernels: Kernels = kernels if kernels is not None else PythonKernels()
        self.calls: list[str] = []
        self.problems: list[str] = []
        self.log: list[str] = []  # what streams did, in the order in which they did it
        self.memory: list[Memory] = []
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.modules: dict[int, bytes] = {}
        self.functions: dict[int, Function] = {}
        self.programs: dict[int, tuple[bytes, list[bytes], bytes]] = {}
        self.retained = [0] * devices
        self.launched_graphs = 0
        self._random = None if seed is None else random.Random(seed)
        self._stacks = threading.local()
        self._initialised = False
        self._sticky: CUresult | None = None
        self._next = 0x1000
        self._fail_at: int | None = None
        self._fail_names: dict[str, tuple[int, CUresult]] = {}

    # What tests ask for

    def fail_at(self, number: int | None) -> None:
        """Make that call fail, counted from 0 over all that come from now on."""
        self._fail_at = None if number is None else len(self.calls) + number

    def fail(self, name: str, *, after: int = 0, result: CUresult = CUresult.CUDA_ERROR_UNKNOWN) -> None:
        """Make the next call of a function fail, or the one `after` so many that do not."""
        self._fail_names[name] = (after, result)

    @property
    def live(self) -> dict[str, int]:
        """How many handles of each kind are not freed; empty where all are."""
        counts = {
            "buffers": sum(item.live and not item.pinned for item in self.memory),
            "pinned": sum(item.live and item.pinned for item in self.memory),
            "streams": len(self.streams),
            "events": len(self.events),
            "graphs": len(self.graphs),
            "executables": len(self.executables),
            "modules": len(self.modules),
            "programs": len(self.programs),
            "contexts": sum(self.retained),
            "current contexts": len(self.stack),
        }
        return {kind: count for kind, count in counts.items() if count}

    @property
    def stack(self) -> list[int]:
        """The contexts that this thread has pushed, as numbers of devices."""
        if not hasattr(self._stacks, "value"):
            self._stacks.value = []
        stack: list[int] = self._stacks.value
        return stack

    def stream(self, handle: Any) -> Stream:
        """The stream of a handle: for what else queues work, such as a fake runtime."""
        return self.streams[int(handle)]

    @property
    def captures(self) -> bool:
        """Whether a stream is being captured."""
        return any(stream.capture is not None for stream in self.streams.values())

    def needs(self, owner: int) -> str:
        """What still needs something that is about to be freed."""
        if any(work.owner == owner for stream in self.streams.values() for work in stream.queue):
            return "work that is queued"
        works = (work for graph in (*self.graphs.values(), *self.executables.values()) for work in graph)
        return "a graph" if any(work.owner == owner for work in works) else ""

    def invalidate_captures(self) -> None:
        """What a forbidden call does."""
        for stream in self.streams.values():
            stream.invalidated |= stream.capture is not None

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """The GPU's memory at an address, which has to be allocated."""
        for item in self.memory:
            if item.holds(address, size):
                return item.array[address - item.address :][:size]
        raise AsynchronousError(f"{size} bytes at {address:#x} are not allocated")

    # What the modules call

    def invoke(self, name: str, *args: Any) -> tuple[Any, ...]:
        """One call of the driver or of NVRTC."""
        call, number = CALLS[name], len(self.calls)
        self.calls.append(name)
        nothing = (None,) * call.outputs
        failure = self._refusal(name, call, number)
        if failure is not None and not call.frees and not (call.waits and not self.captures):
            if name == "cuStreamEndCapture":  # it is over either way
                self.streams[int(args[0])].capture = None
            return (failure, *nothing)
        result = getattr(self, f"_{name}")(*args)
        if self._random is not None:
            self._work_at_random()
        if failure is not None:
            return (failure, *nothing)
        if self._sticky is not None and name.startswith("cu"):
            return (self._sticky, *nothing)
        if isinstance(result, (CUresult, nvrtcResult)):
            return (result, *nothing) if result else (result,)
        return (nvrtcResult(0) if name.startswith("nvrtc") else CUresult(0), result)

    def _refusal(self, name: str, call: Call, number: int) -> CUresult | nvrtcResult | None:
        is_driver = name.startswith("cu")
        unknown = CUresult.CUDA_ERROR_UNKNOWN if is_driver else nvrtcResult.NVRTC_ERROR_INTERNAL_ERROR
        if number == self._fail_at:
            return unknown
        if name in self._fail_names:
            after, result = self._fail_names.pop(name)
            if after == 0:
                return result if is_driver else unknown
            self._fail_names[name] = (after - 1, result)
        if not is_driver or name == "cuInit":
            return None
        if not self._initialised:
            self.problems.append(f"{name} before cuInit")
            return CUresult.CUDA_ERROR_NOT_INITIALIZED
        if call.context and (not self.stack or not self.retained[self.stack[-1]]):
            self.problems.append(f"{name} without a context")
            return CUresult.CUDA_ERROR_INVALID_CONTEXT
        if call.breaks_capture and self.captures:
            self.invalidate_captures()
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        return self._sticky

    def _handle(self, kind: str) -> Handle:
        self._next += 0x10
        return Handle(kind, self._next)

    def _known(self, table: dict[int, Any], handle: Any, what: str) -> bool:
        if int(handle) not in table:
            self.problems.append(f"{what} of {handle!r}, which is not there (any more)")
            return False
        if table is self.streams and self.streams[int(handle)].device != self.stack[-1]:
            self.problems.append(f"{what} of a stream of cuda:{self.streams[int(handle)].device} on another GPU")
            return False
        return True

    # Streams at work

    def _step(self, stream: Stream) -> None:
        work = stream.queue.popleft()
        try:
            if work.needs is not None:
                self._until(work.needs)
            if self._sticky is None:
                self.log.append(work.label)
                work.run()
        except AsynchronousError as exc:
            self.problems.append(f"{work.label}: {exc}")
            self._sticky = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS

    def _until(self, marker: Marker) -> None:
        while not marker.done and marker.stream.queue:
            self._step(marker.stream)
        marker.done = True

    def _drain(self, stream: Stream) -> None:
        while stream.queue:
            self._step(stream)

    def _work_at_random(self) -> None:
        assert self._random is not None
        for _ in range(self._random.randrange(4)):
            ready = [
                stream
                for stream in self.streams.values()
                if stream.queue and (stream.queue[0].needs is None or stream.queue[0].needs.done)
            ]
            if ready:
                self._step(self._random.choice(ready))

    # Devices and contexts

    def _cuInit(self, flags: int) -> CUresult:
        if not self.devices:
            return CUresult.CUDA_ERROR_NO_DEVICE
        self._initialised = True
        return CUresult(flags)

    def _cuDriverGetVersion(self) -> int:
        return self.version

    def _cuDeviceGetCount(self) -> int:
        return self.devices

    def _cuDeviceGet(self, ordinal: int) -> Handle | CUresult:
        return Handle("CUdevice", ordinal) if ordinal < self.devices else CUresult.CUDA_ERROR_INVALID_DEVICE

    def _cuDeviceGetName(self, length: int, device: Handle) -> bytes:
        return f"Make-believe {int(device)}".encode().ljust(length, b"\0")

    def _cuDeviceGetAttribute(self, attribute: CUdevice_attribute, device: Handle) -> int:
        return {16: 132, 75: self.capability[0], 76: self.capability[1]}[int(attribute)]

    def _cuDeviceTotalMem(self, device: Handle) -> int:
        return 80 << 30

    def _cuDevicePrimaryCtxRetain(self, device: Handle) -> Handle:
        self.retained[int(device)] += 1
        return Handle("CUcontext", 0xC000 + int(device))

    def _cuDevicePrimaryCtxRelease(self, device: Handle) -> CUresult:
        self.retained[int(device)] -= 1
        if not any(self.retained) and self._holds_anything():
            self.problems.append(f"the context was released before {self._holds_anything()}")
        return CUresult(0)

    def _holds_anything(self) -> dict[str, int]:
        return {kind: count for kind, count in self.live.items() if "context" not in kind and kind != "programs"}

    def _cuCtxPushCurrent(self, context: Handle) -> CUresult:
        self.stack.append(int(context) - 0xC000)
        return CUresult(0)

    def _cuCtxPopCurrent(self) -> Handle | CUresult:
        if not self.stack:
            self.problems.append("a context was popped that was not pushed")
            return CUresult.CUDA_ERROR_INVALID_CONTEXT
        return Handle("CUcontext", 0xC000 + self.stack.pop())

    def _cuCtxSetCurrent(self, context: Handle) -> CUresult:
        self.stack[-1:] = [int(context) - 0xC000]
        return CUresult(0)

    # Streams, events, graphs

    def _cuStreamCreate(self, flags: int) -> Handle | CUresult:
        if flags != CUstream_flags.CU_STREAM_NON_BLOCKING:
            self.problems.append("a stream that waits for the default stream")
        handle = self._handle("CUstream")
        self.streams[int(handle)] = Stream(handle, self.stack[-1])
        return handle

    def _cuStreamDestroy(self, stream: Any) -> CUresult:
        if not self._known(self.streams, stream, "destruction"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if self.streams[int(stream)].queue and self._sticky is None:
            self.problems.append("a stream was destroyed that was still at work")
        del self.streams[int(stream)]
        return CUresult(0)

    def _cuCtxSynchronize(self) -> CUresult:
        for stream in self.streams.values():
            self._drain(stream)
        return self._sticky or CUresult(0)

    def _cuStreamSynchronize(self, stream: Any) -> CUresult:
        if not self._known(self.streams, stream, "synchronisation"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        self._drain(self.streams[int(stream)])
        return self._sticky or CUresult(0)

    def _cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> CUresult:
        if not (self._known(self.streams, stream, "wait") and self._known(self.events, event, "wait")):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        target, marker = self.streams[int(stream)], self.events[int(event)].marker
        if target.capture is not None:
            self.invalidate_captures()
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_ISOLATION
        if marker is not None:
            target.put(Work("wait", lambda: None, marker))
        return CUresult(0)

    def _cuEventCreate(self, flags: int) -> Handle:
        handle = self._handle("CUevent")
        self.events[int(handle)] = Event(handle)
        return handle

    def _cuEventDestroy(self, event: Any) -> CUresult:
        if not self._known(self.events, event, "destruction"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        del self.events[int(event)]
        return CUresult(0)

    def _cuEventRecord(self, event: Any, stream: Any) -> CUresult:
        if not (self._known(self.streams, stream, "recording") and self._known(self.events, event, "recording")):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        target = self.streams[int(stream)]
        marker = self.events[int(event)].marker = Marker(target)
        target.put(Work("record", lambda: setattr(marker, "done", True)))
        return CUresult(0)

    def _cuEventSynchronize(self, event: Any) -> CUresult:
        if not self._known(self.events, event, "synchronisation"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        marker = self.events[int(event)].marker
        if marker is not None:
            self._until(marker)
        return self._sticky or CUresult(0)

    def _cuStreamBeginCapture(self, stream: Any, mode: CUstreamCaptureMode) -> CUresult:
        target = self.streams[int(stream)]
        if mode != CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL:
            self.problems.append("a capture that what another thread does can break")
        target.capture, target.invalidated = [], False
        return CUresult(0)

    def _cuStreamEndCapture(self, stream: Any) -> Handle | CUresult:
        target = self.streams[int(stream)]
        works, target.capture = target.capture, None
        if works is None:
            self.problems.append("the end of a capture that was not begun")
            return CUresult.CUDA_ERROR_INVALID_VALUE
        if target.invalidated:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
        handle = self._handle("CUgraph")
        self.graphs[int(handle)] = works
        return handle

    def _cuGraphInstantiate(self, graph: Any, flags: int) -> Handle | CUresult:
        if not self._known(self.graphs, graph, "instantiation"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        handle = self._handle("CUgraphExec")
        self.executables[int(handle)] = list(self.graphs[int(graph)])
        return handle

    def _cuGraphLaunch(self, executable: Any, stream: Any) -> CUresult:
        if not (self._known(self.executables, executable, "launch") and self._known(self.streams, stream, "launch")):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        self.launched_graphs += 1
        for work in self.executables[int(executable)]:
            self.streams[int(stream)].put(dataclasses.replace(work))
        return CUresult(0)

    def _cuGraphDestroy(self, graph: Any) -> CUresult:
        if not self._known(self.graphs, graph, "destruction"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        del self.graphs[int(graph)]
        return CUresult(0)

    def _cuGraphExecDestroy(self, executable: Any) -> CUresult:
        if not self._known(self.executables, executable, "destruction"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        del self.executables[int(executable)]
        return CUresult(0)

    # Memory

    def _allocate(self, size: int, *, pinned: bool) -> Memory | None:
        if size <= 0:
            return None
        self.memory.append(Memory.of(size, pinned=pinned))
        return self.memory[-1]

    def _free(self, address: Any, *, pinned: bool) -> CUresult:
        for item in self.memory:
            if item.live and item.address == int(address) and item.pinned is pinned:
                item.live = False
                item.array.fill(POISON)
                return CUresult(0)
        self.problems.append(f"{int(address):#x} was freed that is not allocated (any more)")
        return CUresult.CUDA_ERROR_INVALID_VALUE

    def _cuMemAlloc(self, size: int) -> Handle | CUresult:
        memory = self._allocate(size, pinned=False)
        return CUresult.CUDA_ERROR_INVALID_VALUE if memory is None else Handle("CUdeviceptr", memory.address)

    def _cuMemFree(self, address: Any) -> CUresult:
        return self._free(address, pinned=False)

    def _cuMemHostAlloc(self, size: int, flags: int) -> int | CUresult:
        memory = self._allocate(size, pinned=True)
        return CUresult.CUDA_ERROR_INVALID_VALUE if memory is None else memory.address

    def _cuMemFreeHost(self, address: int) -> CUresult:
        return self._free(address, pinned=True)

    def _copy(self, label: str, target: int, source: int, size: int, host: int, stream: Any) -> CUresult:
        if not self._known(self.streams, stream, label):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if not any(item.pinned and item.holds(host, size) for item in self.memory):
            self.problems.append(f"{label}: an asynchronous copy of memory that is not pinned")

        def copy() -> None:
            self.view(target, size)[:] = self.view(source, size)

        self.streams[int(stream)].put(Work(label, copy))
        return CUresult(0)

    def _cuMemcpyHtoDAsync(self, device: Any, host: int, size: int, stream: Any) -> CUresult:
        return self._copy("upload", int(device), host, size, host, stream)

    def _cuMemcpyDtoHAsync(self, host: int, device: Any, size: int, stream: Any) -> CUresult:
        return self._copy("download", host, int(device), size, host, stream)

    # Modules and kernels

    def _cuModuleLoadData(self, image: bytes) -> Handle | CUresult:
        if not image.startswith(CUBIN):
            return CUresult.CUDA_ERROR_INVALID_IMAGE
        handle = self._handle("CUmodule")
        self.modules[int(handle)] = image[len(CUBIN) :]
        return handle

    def _cuModuleUnload(self, module: Any) -> CUresult:
        if not self._known(self.modules, module, "unloading"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        del self.modules[int(module)]
        return CUresult(0)

    def _cuModuleGetFunction(self, module: Any, name: bytes) -> Handle | CUresult:
        if not self._known(self.modules, module, "a function"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        types = parameters(self.modules[int(module)].decode(), name.decode())
        if types is None:
            return CUresult.CUDA_ERROR_NOT_FOUND
        handle = self._handle("CUfunction")
        self.functions[int(handle)] = Function(handle, name.decode(), types, int(module))
        return handle

    def _cuLaunchKernel(self, function: Any, *rest: Any) -> CUresult:
        grid, block, (shared, stream, parameters, extra) = rest[:3], rest[3:6], rest[6:]
        kernel = self.functions[int(function)]
        if not self._known(self.streams, stream, "a launch"):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if shared or extra or not self._known(self.modules, Handle("CUmodule", kernel.module), "a launch"):
            return CUresult.CUDA_ERROR_INVALID_VALUE
        if min(grid) < 1 or min(block) < 1 or np.prod(block) > 1024 or max(grid[1:]) > 65535:
            self.problems.append(f"{kernel.name}: a grid of {grid} blocks of {block} threads")
            return CUresult.CUDA_ERROR_INVALID_VALUE
        values, types = parameters
        if types != kernel.types:
            self.problems.append(f"{kernel.name}: {types} were passed where {kernel.types} are wanted")
            return CUresult.CUDA_ERROR_INVALID_VALUE
        arguments = [kind(value) for kind, value in zip(types, values, strict=True)]

        def run() -> None:
            for argument in arguments:
                if isinstance(argument, ctypes.c_void_p) and argument.value is not None:
                    self.view(argument.value, 1)
            self.kernels.launch(kernel.name, grid, block, arguments)

        self.streams[int(stream)].put(Work(kernel.name, run))
        return CUresult(0)

    # NVRTC

    def _nvrtcCreateProgram(self, source: bytes, name: bytes, count: int, headers: Any, names: Any) -> Handle:
        handle = self._handle("nvrtcProgram")
        self.programs[int(handle)] = (source, [], b"")
        return handle

    def _nvrtcCompileProgram(self, program: Any, count: int, options: list[bytes]) -> nvrtcResult:
        source, _, _ = self.programs[int(program)]
        assert len(options) == count
        wanted = b"--gpu-architecture=sm_%d%d" % self.capability
        if wanted not in options:
            self.programs[int(program)] = (source, options, b"another GPU's code\0")
            return nvrtcResult.NVRTC_ERROR_INVALID_OPTION
        if b"__global__" not in source:
            self.programs[int(program)] = (source, options, b'line 1: error: expected a "__global__"\0')
            return nvrtcResult.NVRTC_ERROR_COMPILATION
        self.programs[int(program)] = (source, options, b"\0")
        return nvrtcResult(0)

    def _nvrtcGetProgramLogSize(self, program: Any) -> int:
        return len(self.programs[int(program)][2])

    def _nvrtcGetProgramLog(self, program: Any, log: bytearray) -> nvrtcResult:
        log[:] = self.programs[int(program)][2]
        return nvrtcResult(0)

    def _nvrtcGetCUBINSize(self, program: Any) -> int:
        return len(CUBIN) + len(self.programs[int(program)][0])

    def _nvrtcGetCUBIN(self, program: Any, cubin: bytearray) -> nvrtcResult:
        cubin[:] = CUBIN + self.programs[int(program)][0]
        return nvrtcResult(0)

    def _nvrtcDestroyProgram(self, program: Any) -> nvrtcResult:
        del self.programs[int(program)]
        return nvrtcResult(0)


def modules(fake: FakeCuda) -> dict[str, ModuleType]:
    """The modules that take the bindings' places, by name."""
    driver, nvrtc = _module("cuda.bindings.driver"), _module("cuda.bindings.nvrtc")
    for name in CALLS:
        owner = nvrtc if name.startswith("nvrtc") else driver
        setattr(owner, name, lambda *args, name=name: fake.invoke(name, *args))
    for kind in (CUresult, CUdevice_attribute, CUstream_flags, CUevent_flags, CUstreamCaptureMode):
        setattr(driver, kind.__name__, kind)
    driver.cuGetErrorName = lambda result: (CUresult(0), result.name.encode())  # type: ignore[attr-defined]
    driver.cuGetErrorString = lambda result: (  # type: ignore[attr-defined]
        CUresult(0),
        f"make-believe {result.name.lower()}".encode(),
    )
    nvrtc.nvrtcResult = nvrtcResult  # type: ignore[attr-defined]
    nvrtc.nvrtcGetErrorString = lambda result: (nvrtcResult(0), result.name.encode())  # type: ignore[attr-defined]
    package, bindings = _module("cuda"), _module("cuda.bindings")
    bindings.__version__ = fake.bindings  # type: ignore[attr-defined]
    bindings.driver, bindings.nvrtc = driver, nvrtc  # type: ignore[attr-defined]
    package.bindings = bindings  # type: ignore[attr-defined]
    return {module.__name__: module for module in (package, bindings, driver, nvrtc)}


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    return module


def install(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda | None = None) -> FakeCuda:
    """Put a make-believe GPU in the bindings' place, for one test."""
    fake = fake if fake is not None else FakeCuda()
    for name, module in modules(fake).items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake
