"""TensorRT 10 and 11 on NVIDIA GPUs: plans that `vidmod engines build` compiled for the GPU that is here.

Nobody has run this on a GPU yet. What it calls is in the bindings of TensorRT 10.16 and 11.4 and of cuda-bindings 12
and 13, and the tests run it over make-believe ones, which compute plans with ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidmod.closing import Closing
from vidmod.errors import InferenceError, RuntimeUnavailableError, choose
from vidmod.models.cuda import launching
from vidmod.models.cuda.driver import Buffer, Device, Event, Graph, Kernel, Stream, device_count
from vidmod.models.engines import find_plan
from vidmod.models.runtimes import RUNTIMES, Precision, SessionInfo, SessionRequest

VERSIONS = ("10", "11")
_SLOTS = 2
_compiled: dict[tuple[int, int], bytes] = {}


def library() -> ModuleType:
    """TensorRT's module.

    Raises:
        RuntimeUnavailableError: It is not installed, lacks its libraries, or is another version than 10 or 11.
    """
    try:
        import tensorrt
    except (ImportError, OSError, RuntimeError) as exc:
        raise RuntimeUnavailableError(f"TensorRT cannot be imported ({exc}). {RUNTIMES['tensorrt'].install}") from exc
    module: ModuleType = tensorrt
    version = str(module.__version__)
    if version.partition(".")[0] not in VERSIONS:
        raise RuntimeUnavailableError(f"This is TensorRT {version}. {RUNTIMES['tensorrt'].install}")
    return module


def devices() -> list[str]:
    """`cuda:N` for every GPU, where TensorRT and the driver are here."""
    try:
        library()
    except RuntimeUnavailableError:
        return []
    return [f"cuda:{number}" for number in range(device_count())]


def open_session(request: SessionRequest) -> TensorRtSession:
    """Load the plan that was built for a network and this GPU.

    Raises:
        UsageError: The precision is none of auto (fp16), fp16, fp32.
        RuntimeUnavailableError: TensorRT, the driver or the GPU is not here, or no plan was built.
    """
    precision, library_, device = _opened(request, request.precision)
    try:
        plan = find_plan(request, device.facts, precision, str(library_.__version__))
    except BaseException:
        device.close()
        raise
    return TensorRtSession(library_, device, plan, request, precision)


def session_of(plan: bytes, request: SessionRequest, precision: str) -> TensorRtSession:
    """Load a plan that is not in the cache (yet).

    Raises:
        UsageError, RuntimeUnavailableError: As `open_session`.
    """
    checked, library_, device = _opened(request, precision)
    return TensorRtSession(library_, device, plan, request, checked)


def _opened(request: SessionRequest, wanted: str) -> tuple[Precision, ModuleType, Device]:
    choose("precision for TensorRT", wanted, ("auto", "fp16", "fp32"))
    if request.device == "cpu":
        raise RuntimeUnavailableError("TensorRT runs on NVIDIA GPUs only. Use --device cuda:0, or another --runtime.")
    module = library()
    number = 0 if request.device == "auto" else int(request.device.removeprefix("cuda:"))
    try:
        device = Device(number)
    except RuntimeUnavailableError as exc:
        raise RuntimeUnavailableError(f"TensorRT {module.__version__} is here, but: {exc}") from exc
    return "fp32" if wanted == "fp32" else "fp16", module, device


def bucket_sizes(smallest: int, best: int, largest: int) -> tuple[int, ...]:
    """The batch sizes that are run: powers of two, and those of the profile. Others are filled up to the next one.

    Each size has a CUDA graph of its own, so there are to be few.
    """
    powers = {1 << exponent for exponent in range(largest.bit_length())}
    return tuple(sorted(size for size in powers | {smallest, best, largest} if smallest <= size <= largest))


class TensorRtSession(Closing):
    """A loaded plan; see :class:`vidmod.models.runtimes.Session`.

    Images go to the GPU as uint8 and are normalised there. Of a call with more images than the profile's largest
    batch, a part is uploaded while the one before is computed and the one before that is downloaded.

    Args:
        device: Closed with the session, also where the session cannot be opened.

    Raises:
        RuntimeUnavailableError: The plan cannot be run here.
    """

    def __init__(
        self, library_: ModuleType, device: Device, plan: bytes, request: SessionRequest, precision: Precision
    ) -> None:
        self.info = SessionInfo("tensorrt", str(library_.__version__), f"cuda:{device.number}", precision)
        self._device = device
        self._is_open = True
        self._engine: _Engine | None = None
        self._slots: list[_Slot] = []
        try:
            self._uploads, self._computes, self._downloads = (device.stream() for _ in range(3))
            self._engine = engine = _Engine(library_, device, self._computes, plan, request)
            self._sizes = bucket_sizes(*engine.batches)
            self._kernel = _normalise_kernel(device)
            self._slots = [_Slot(device, engine, self._sizes[-1]) for _ in range(_SLOTS)]
            # The first run of a size loads kernels and captures its graph: better now than with the first picture.
            height, width = request.input.height, request.input.width
            self.infer(np.zeros((engine.batches[1], height, width, 3), np.uint8))
        except InferenceError as exc:
            self.close()
            raise RuntimeUnavailableError(
                f"The TensorRT engine of {request.name} cannot be used on cuda:{device.number}: {exc} "
                f"Try: vidmod engines build {request.name}"
            ) from exc
        except BaseException:
            self.close()
            raise

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run any number of images."""
        engine = self._engine
        if not self._is_open or engine is None:
            raise InferenceError("This session is closed.")
        wanted = (engine.input.height, engine.input.width, 3)
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise InferenceError(
                f"{images.dtype} images of {images.shape[1:]} were given where uint8 of {wanted} are due."
            )
        self._device.use()
        output = np.empty((len(images), *engine.output_shape), np.float32)
        try:
            self._run(engine, images, output)
        except InferenceError:
            # Nothing of this call may go on while the next one uses the slots.
            self._device.settle()
            raise
        return output

    def _run(self, engine: _Engine, images: NDArray[np.uint8], output: NDArray[np.float32]) -> None:
        largest = self._sizes[-1]
        pending: deque[tuple[_Slot, NDArray[np.float32]]] = deque()
        for start in range(0, len(images), largest):
            if len(pending) == _SLOTS:
                _collect(*pending.popleft())
            slot = self._slots[start // largest % _SLOTS]
            self._begin(engine, slot, images[start : start + largest])
            pending.append((slot, output[start : start + largest]))
        for item in pending:
            _collect(*item)

    def _begin(self, engine: _Engine, slot: _Slot, images: NDArray[np.uint8]) -> None:
        """Queue one batch. Its slot is free: what it held before was collected, so all streams are done with it."""
        count = len(images)
        size = next(size for size in self._sizes if size >= count)
        slot.images[:count] = images
        slot.images[count:size] = 0
        self._uploads.upload(slot.pixels, slot.images[:size])
        launch = launching.normalised(slot.pixels.address, slot.input.address, size, engine.input)
        self._uploads.launch(self._kernel, launch.grid, launch.block, launch.arguments)
        self._computes.wait(self._uploads.record(slot.uploaded))
        self._compute(engine, slot, size)
        self._downloads.wait(self._computes.record(slot.computed))
        self._downloads.download(slot.results[:count], slot.output)
        self._downloads.record(slot.downloaded)

    def _compute(self, engine: _Engine, slot: _Slot, size: int) -> None:
        problem = slot.program(engine, size).run(engine)
        if problem:
            note = f"{self.info.note} Batches of {size} run without a CUDA graph ({problem})."
            self.info = dataclasses.replace(self.info, note=note.lstrip())

    def close(self) -> None:
        """Free everything in order: graphs, execution contexts, the engine, then all of the GPU's."""
        self._is_open = False
        self._device.settle()
        for slot in self._slots:
            slot.close()
        self._slots = []
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self._device.close()


def _collect(slot: _Slot, output: NDArray[np.float32]) -> None:
    slot.downloaded.synchronize()
    output[:] = slot.results[: len(output)]


class _Engine:
    """A deserialised plan. TensorRT frees its objects with the last reference: nothing else may hold one."""

    def __init__(
        self, library_: ModuleType, device: Device, stream: Stream, plan: bytes, request: SessionRequest
    ) -> None:
        self.trt: Any = library_
        self.stream = stream
        self.input = request.input
        self.output = request.output.name
        self.log = _logger(library_)
        self.runtime: Any = None
        self.engine: Any = None
        try:
            self.runtime = self.trt.Runtime(self.log)
            self.engine = self.runtime.deserialize_cuda_engine(plan)
            if self.engine is None:
                raise self.failure("It cannot be deserialised")
            self._check_tensors()
            self.batches = self._batches()
            # Shared by all execution contexts: they run one after another, on one stream.
            size = int(self.engine.device_memory_size_v2)
            self.activations = device.buffer(max(size, 1))
            self.output_shape = self._output_shape()
        except BaseException:
            self.close()
            raise

    def failure(self, what: str) -> InferenceError:
        """An error with what TensorRT said last."""
        said, self.log.last = self.log.last, ""
        return InferenceError(f"{what} (TensorRT: {said})." if said else f"{what}.")

    def _check_tensors(self) -> None:
        modes, kinds = self.trt.TensorIOMode, self.trt.DataType
        found = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        for name, mode in ((self.input.name, modes.INPUT), (self.output, modes.OUTPUT)):
            if name not in found or self.engine.get_tensor_mode(name) != mode:
                raise InferenceError(f"It has no {mode.name.lower()} named {name!r}; it has {', '.join(found)}.")
            if self.engine.get_tensor_dtype(name) != kinds.FLOAT:
                raise InferenceError(f"Its tensor {name!r} is not float32.")
        if len(found) != 2:
            raise InferenceError(f"It has more than one input and one output: {', '.join(found)}.")

    def _batches(self) -> tuple[int, int, int]:
        """The profile: smallest, best and largest batch."""
        shapes = [tuple(shape) for shape in self.engine.get_tensor_profile_shape(self.input.name, 0)]
        wanted = self.shape(1)[1:]
        if len(shapes) != 3 or any(shape[1:] != wanted for shape in shapes):
            raise InferenceError(f"Its input is {shapes} where {wanted} is due.")
        smallest, best, largest = (int(shape[0]) for shape in shapes)
        return smallest, best, largest

    def shape(self, count: int) -> tuple[int, ...]:
        """The input's, for a batch."""
        height, width = self.input.height, self.input.width
        return (count, 3, height, width) if self.input.layout == "NCHW" else (count, height, width, 3)

    def _output_shape(self) -> tuple[int, ...]:
        """The output's, of one image."""
        program = _Program(self.batches[2])
        try:
            program.open(self)
            shape = tuple(int(side) for side in program.context.get_tensor_shape(self.output))
        finally:
            program.close()
        if shape[:1] != (self.batches[2],) or min(shape) < 1:
            raise InferenceError(f"Its output is {shape} for a batch of {self.batches[2]}.")
        return shape[1:]

    def close(self) -> None:
        """Let go of the engine, then of the runtime."""
        self.engine = None
        self.runtime = None


class _Program:
    """One batch size in one slot: an execution context, and the graph that was captured with it.

    A graph holds the addresses and the shapes that it was captured with, and a context what it was last told: a graph
    is to have a context of its own, with memory for activations that all share (NVIDIA's developer guide, "CUDA
    graphs").
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._graph: Graph | None = None
        self._is_new = True
        self.context: Any = None

    def open(self, engine: _Engine) -> None:
        """Make the context and tell it the batch."""
        self.context = engine.engine.create_execution_context(
            engine.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if self.context is None:
            raise engine.failure("No execution context can be made")
        self.context.set_device_memory(engine.activations.address, engine.activations.size_bytes)
        if not self.context.set_optimization_profile_async(0, engine.stream.handle):
            raise engine.failure("Its optimisation profile is refused")
        # Copies may be under way for that, and the context may be freed soon.
        engine.stream.synchronize()
        if not self.context.set_input_shape(engine.input.name, engine.shape(self._size)):
            raise engine.failure(f"A batch of {self._size} is refused")

    def prepare(self, engine: _Engine, slot: _Slot) -> None:
        """Make the context and bind a slot's memory."""
        self.open(engine)
        for name, buffer in ((engine.input.name, slot.input), (engine.output, slot.output)):
            if not self.context.set_tensor_address(name, buffer.address):
                raise engine.failure(f"The memory for {name!r} is refused")

    def run(self, engine: _Engine) -> str:
        """Queue the batch.

        Returns:
            Why there is no graph, the first time that there is none; else nothing.
        """
        if self._graph is not None:
            self._graph.launch(engine.stream)
            return ""
        self._enqueue(engine)
        if not self._is_new:
            return ""
        self._is_new = False
        try:
            self._graph = engine.stream.capture(lambda: self._enqueue(engine))
        except InferenceError as exc:
            return str(exc).rstrip(".")
        return ""

    def _enqueue(self, engine: _Engine) -> None:
        if not self.context.execute_async_v3(engine.stream.handle):
            raise engine.failure(f"A batch of {self._size} cannot be run")

    def close(self) -> None:
        """Free the graph, then the context."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self.context = None


class _Slot:
    """The memory of one batch on its way."""

    def __init__(self, device: Device, engine: _Engine, largest: int) -> None:
        spec, floats = engine.input, np.dtype(np.float32).itemsize
        pixels = largest * spec.height * spec.width * 3
        results = (largest, *engine.output_shape)
        self.images: NDArray[np.uint8] = device.pinned((largest, spec.height, spec.width, 3), np.uint8)
        self.results: NDArray[np.float32] = device.pinned(results, np.float32)
        self.pixels: Buffer = device.buffer(pixels)
        self.input: Buffer = device.buffer(pixels * floats)
        self.output: Buffer = device.buffer(int(np.prod(results)) * floats)
        self.uploaded: Event = device.event()
        self.computed: Event = device.event()
        self.downloaded: Event = device.event()
        self.programs: dict[int, _Program] = {}

    def program(self, engine: _Engine, size: int) -> _Program:
        """What runs a batch size here; made when it is wanted first."""
        if size not in self.programs:
            program = _Program(size)
            try:
                program.prepare(engine, self)
            except BaseException:
                program.close()
                raise
            self.programs[size] = program
        return self.programs[size]

    def close(self) -> None:
        """Free what TensorRT has of it; the rest is freed with the device."""
        for program in self.programs.values():
            program.close()
        self.programs = {}


def _logger(library_: ModuleType) -> Any:
    """What TensorRT tells its errors to: the last one is kept."""

    class Log(library_.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library_.ILogger.Severity.ERROR, library_.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(msg.split()).rstrip(".")

    return Log()


def _normalise_kernel(device: Device) -> Kernel:
    if device.facts.capability not in _compiled:
        _compiled[device.facts.capability] = device.compile(launching.source())
    return device.module(_compiled[device.facts.capability]).kernel("normalise")
