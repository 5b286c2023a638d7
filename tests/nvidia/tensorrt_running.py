"""The half of a make-believe TensorRT that runs plans: ONNX Runtime computes what a GPU would.

A plan is `PREFIX`, the length of a JSON header (4 bytes, little-endian), the header, and an ONNX network. The header
says "version" (TensorRT's), "profiles" (input: [min, best, max] shapes), "inputs" and "outputs" ([[name, shape with -1
for the batch, "float32"]]).
"""

from __future__ import annotations

import json
from dataclasses import InitVar, dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.nvidia.cuda_parts import POISON, AsynchronousError, Work
from tests.nvidia.fake_cuda import FakeCuda

PREFIX = b"FAKEPLAN1"
ACTIVATIONS = 4096
Shape = tuple[int, ...]


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def log(self, severity: IntEnum, msg: str) -> None:
        raise NotImplementedError


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


def pack(header: dict[str, Any], network: bytes) -> bytes:
    """A plan."""
    text = json.dumps(header).encode()
    return PREFIX + len(text).to_bytes(4, "little") + text + network


def unpack(plan: bytes) -> tuple[dict[str, Any], bytes]:
    """A plan's header and network.

    Raises:
        ValueError: It is no plan, or cut off.
    """
    start = len(PREFIX) + 4
    if not plan.startswith(PREFIX) or len(plan) < start:
        raise ValueError("Magic tag does not match")
    end = start + int.from_bytes(plan[len(PREFIX) : start], "little")
    return json.loads(plan[start:end]), plan[end:]


@dataclass
class Running:
    """What the objects of one make-believe TensorRT share.

    Attributes:
        refuse: Names of methods to how many of their next calls succeed before one fails.
        fed: The inputs of the batches that were run, in the order in which the GPU ran them.
    """

    cuda: FakeCuda
    version: str
    refuse: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    fed: list[NDArray[np.float32]] = field(default_factory=list)
    made: int = 0
    activations: dict[int, int] = field(default_factory=dict)

    def refuses(self, name: str) -> bool:
        """Whether this call fails."""
        if name not in self.refuse:
            return False
        self.refuse[name] -= 1
        if self.refuse[name] >= 0:
            return False
        del self.refuse[name]
        return True


class _Counted:
    """An object of TensorRT's: freed with its last reference, which has to be while the GPU's context is there."""

    kind = ""

    def __init__(self, running: Running) -> None:
        self._running = running
        running.made += 1
        self.number = running.made
        running.live[self.kind] = running.live.get(self.kind, 0) + 1
        if not any(running.cuda.retained):
            running.cuda.problems.append(f"a {self.kind} without a context of CUDA's")

    def __del__(self) -> None:
        live = self._running.live
        live[self.kind] -= 1
        if not live[self.kind]:
            del live[self.kind]
        if not any(self._running.cuda.retained):
            self._running.cuda.problems.append(f"a {self.kind} was freed after CUDA's context")
        if self._running.cuda.needs(self.number):
            self._running.cuda.problems.append(
                f"a {self.kind} was freed before {self._running.cuda.needs(self.number)}"
            )


class Runtime(_Counted):
    kind = "runtime"

    def __init__(self, running: Running, logger: ILogger) -> None:
        super().__init__(running)
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        problem = "make-believe refusal" if self._running.refuses("deserialize_cuda_engine") else None
        try:
            header, network = unpack(serialized_engine)
            if header["version"] != self._running.version:
                problem = f"Serialized engine is of version {header['version']}, current is {self._running.version}"
        except ValueError as exc:
            problem = str(exc)
        if problem is not None:
            self.logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: {problem}")
            return None
        return Engine(self._running, self, header, network)


class Engine(_Counted):
    kind = "engine"

    def __init__(self, running: Running, runtime: Runtime, header: dict[str, Any], network: bytes) -> None:
        super().__init__(running)
        self.runtime = runtime  # as the bindings' keep-alive does
        self.header = header
        self.tensors = [*header["inputs"], *header["outputs"]]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = ort.InferenceSession(network, options, ["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return ACTIVATIONS

    def get_tensor_name(self, index: int) -> str:
        name: str = self.tensors[index][0]
        return name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        inputs = {tensor[0] for tensor in self.header["inputs"]}
        known = {tensor[0] for tensor in self.tensors}
        return TensorIOMode(1 + (name not in inputs)) if name in known else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {tensor[0]: tensor[2] for tensor in self.tensors}
        return {"float32": DataType.FLOAT, "float16": DataType.HALF}[kinds[name]]

    def get_tensor_shape(self, name: str) -> Shape:
        return next(tuple(tensor[1]) for tensor in self.tensors if tensor[0] == name)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        assert profile_index == 0
        return [tuple(shape) for shape in self.header["profiles"][name]]

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> Context | None:
        if self._running.refuses("create_execution_context"):
            self.runtime.logger.log(Severity.ERROR, "make-believe: out of memory")
            return None
        return Context(self._running, self, strategy)


class Context(_Counted):
    kind = "execution context"

    def __init__(self, running: Running, engine: Engine, strategy: ExecutionContextAllocationStrategy) -> None:
        super().__init__(running)
        self.engine = engine
        self._strategy = strategy
        self._profile: int | None = None
        self._memory: tuple[int, int] | None = None
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._is_warm = False

    def _complain(self, message: str) -> bool:
        self.engine.runtime.logger.log(Severity.ERROR, message)
        return False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        assert memory % 256 == 0
        assert size >= self.engine.device_memory_size_v2
        self._memory = (memory, size)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._running.refuses("set_optimization_profile_async"):
            return self._complain("make-believe: the profile is taken")
        self._running.cuda.stream(stream_handle).put(Work("profile", lambda: None, owner=self.number))
        self._profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        if self._running.refuses("set_input_shape"):
            return self._complain("make-believe: this shape is not for you")
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return self._complain(f"set_input_shape: {shape} is not within the profile, {low} to {high}")
        self._is_warm = self._is_warm and self._shapes.get(name) == tuple(shape)
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> Shape:
        shape = self.engine.get_tensor_shape(name)
        batch = next(iter(self._shapes.values()))[0] if self._shapes else -1
        return self._shapes.get(name) or tuple(batch if side == -1 else side for side in shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._running.refuses("set_tensor_address"):
            return self._complain("make-believe: a bad address")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not stream_handle:
            return self._complain("the default stream")
        stream = self._running.cuda.stream(stream_handle)
        if self._running.refuses("execute_async_v3"):
            self._running.cuda.invalidate_captures()
            return self._complain("make-believe: the kernel could not be launched")
        unbound = {tensor[0] for tensor in self.engine.tensors} - set(self._addresses)
        without = {tensor[0] for tensor in self.engine.header["inputs"]} - set(self._shapes)
        if self._profile != 0 or unbound or without:
            return self._complain(f"profile {self._profile}; no address: {unbound}; no shape: {without}")
        if self._strategy == ExecutionContextAllocationStrategy.USER_MANAGED and self._memory is None:
            return self._complain("no device memory was set")
        if stream.capture is not None and not self._is_warm:
            self._running.cuda.invalidate_captures()
            return self._complain("a capture before a first run with these shapes")
        self._is_warm = True
        self._claim(stream_handle)
        stream.put(self._work())
        return True

    def _claim(self, stream: int) -> None:
        """Contexts may share memory for activations on one stream only."""
        if self._memory is not None and self._running.activations.setdefault(self._memory[0], stream) != stream:
            self._running.cuda.problems.append("two streams work in the same activations")

    def _work(self) -> Work:
        shapes = {tensor[0]: self.get_tensor_shape(tensor[0]) for tensor in self.engine.tensors}
        batch = _Batch(self._running, self.engine, shapes, dict(self._addresses), self._memory)
        return Work("execute", batch.run, owner=self.number)


@dataclass
class _Batch:
    """What a stream or a graph has of a context: its shapes and addresses, and no hold on it."""

    running: Running
    engine: InitVar[Engine]
    shapes: dict[str, Shape]
    addresses: dict[str, int]
    memory: tuple[int, int] | None

    def __post_init__(self, engine: Engine) -> None:
        self._session = engine.session
        self._inputs = [tensor[0] for tensor in engine.header["inputs"]]
        self._outputs = [tensor[0] for tensor in engine.header["outputs"]]

    def run(self) -> None:
        view, shapes, addresses = self.running.cuda.view, self.shapes, self.addresses
        if self.memory is not None:
            view(*self.memory)[:] = POISON
        feeds = {
            name: view(addresses[name], 4 * int(np.prod(shapes[name]))).view(np.float32).reshape(shapes[name])
            for name in self._inputs
        }
        self.running.fed.append(next(iter(feeds.values())).copy())
        for name, found in zip(self._outputs, self._session.run(self._outputs, feeds), strict=True):
            values = np.ascontiguousarray(found, np.float32)
            if values.shape != shapes[name]:
                raise AsynchronousError(f"{name} is {values.shape}, not {shapes[name]}")
            view(addresses[name], values.nbytes)[:] = values.reshape(-1).view(np.uint8)


def parts(running: Running) -> dict[str, Any]:
    """The names that the module `tensorrt` has of this half."""
    return {
        "ILogger": ILogger,
        "Severity": Severity,
        "TensorIOMode": TensorIOMode,
        "DataType": DataType,
        "ExecutionContextAllocationStrategy": ExecutionContextAllocationStrategy,
        "Runtime": lambda logger: Runtime(running, logger),
    }
