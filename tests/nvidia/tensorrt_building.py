"""The half of a make-believe TensorRT that builds plans: it reads the network, and packs it for the half that runs.

It has the names of TensorRT 10.16 or 11.4, as the version says, and no others: what the code needs beside them fails.
It is as strict as TensorRT where that is known: the parser takes a Range of floating-point numbers only of constants, a
network with a batch of any size wants a profile, a strongly typed one wants types that fit, and objects are freed while
the GPU's context is there.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tests.nvidia.tensorrt_running import DataType, ILogger, Running, Severity, Shape, pack

_STRONGLY_TYPED = 1
_TIMING = b"FAKETIMING1"


class MemoryPoolType(IntEnum):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    TACTIC_SHARED_MEMORY = 5


# What each version knows, of what matters here.
FLAGS = {
    "10": {"FP16": 0, "INT8": 1, "DEBUG": 2, "TF32": 6},
    "11": {"DEBUG": 2, "TF32": 6},
}
CREATION = {
    "10": {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": _STRONGLY_TYPED},
    "11": {"STRONGLY_TYPED": 0},
}


@dataclass
class Build:
    """What one plan was built with."""

    creation_flags: int = 0
    cleared_flags: set[str] = field(default_factory=set)
    pool_limits: dict[int, int] = field(default_factory=dict)
    optimization_level: int | None = None
    profiles: list[dict[str, list[Shape]]] = field(default_factory=list)
    network: bytes = b""
    timing: bytes = b""
    knew: bool = False


@dataclass
class Building:
    """What a test says to the half that builds, and what that has done.

    Attributes:
        builds: Of every plan.
        scale: What is wrong with the numbers of the plans: their outputs are multiplied by it.
        steps: Of the phase that is told.
        alive: Objects that are not freed yet.
        threads: From which the progress was told.
    """

    builds: list[Build] = field(default_factory=list)
    scale: float = 1.0
    steps: int = 5
    alive: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)
    threads: set[int] = field(default_factory=set)


def building(running: Running) -> Building:
    """The half that builds, of what a test's make-believe TensorRT shares."""
    found: Building = vars(running).setdefault("building", Building())
    return found


class _Object:
    """An object of TensorRT's: made and freed while a context is there."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.made = building(running)
        self.made.alive.add(self)
        self._context("made")

    def _context(self, deed: str) -> None:
        if not any(self.running.cuda.retained):
            self.running.cuda.problems.append(f"a {type(self).__name__} was {deed} without a context of CUDA's")

    def __del__(self) -> None:
        self._context("freed")


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.tensor_type
        self.name = value.name
        self.dtype = DataType.FLOAT if kind.elem_type == TensorProto.FLOAT else DataType.HALF
        self.shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)


class Network(_Object):
    def __init__(self, running: Running, flags: int) -> None:
        super().__init__(running)
        self.flags = flags
        self.content = b""
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []

    def _read(self, content: bytes, model: onnx.ModelProto) -> None:
        self.content = content
        self._inputs = [Tensor(value) for value in model.graph.input]
        self._outputs = [Tensor(value) for value in model.graph.output]

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self._outputs[index]


class ParserError:
    def __init__(self, description: str, operator: str = "", name: str = "") -> None:
        self._said = (description, operator, name)

    def desc(self) -> str:
        return self._said[0]

    def node_operator(self) -> str:
        return self._said[1]

    def node_name(self) -> str:
        return self._said[2]


class OnnxParser(_Object):
    def __init__(self, running: Running, network: Network, logger: ILogger) -> None:
        super().__init__(running)
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            read = onnx.load_model_from_string(model)
            shape_inference.infer_shapes(read, check_type=True, strict_mode=True)
        except Exception as exc:  # noqa: BLE001
            self._errors.append(ParserError(str(exc)))
            return False
        if self.running.refuses("parse"):
            self._errors += [ParserError("make-believe: not today", "Conv", "first"), ParserError("and not tomorrow")]
        constants = {tensor.name: tensor for tensor in read.graph.initializer}
        for node in read.graph.node:
            if node.op_type == "Range" and not all(name in constants for name in node.input):
                self._errors.append(ParserError("a Range of what is not constant", node.op_type, node.name))
        if not self._errors:
            self._network._read(bytes(model), read)
        return not self._errors


class Profile(_Object):
    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.shapes: dict[str, list[Shape]] = {}

    # In the bindings the arguments are called min, opt and max.
    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:  # noqa: A002
        shapes = [tuple(min), tuple(opt), tuple(max)]
        if self.running.refuses("set_shape") or not all(a <= b <= c for a, b, c in zip(*shapes, strict=True)):
            raise RuntimeError("Shape provided for min is inconsistent with other shapes.")
        self.shapes[input] = shapes


class TimingCache(_Object):
    def __init__(self, running: Running, content: bytes) -> None:
        super().__init__(running)
        self.known: set[str] = set()
        self.version = running.version
        if content:
            stored = json.loads(content[len(_TIMING) :])
            self.known, self.version = set(stored["known"]), stored["version"]

    def serialize(self) -> HostMemory:
        return HostMemory(_TIMING + json.dumps({"known": sorted(self.known), "version": self.version}).encode())


class HostMemory(bytearray):
    """What the bindings give as IHostMemory: a buffer."""

    @property
    def nbytes(self) -> int:
        return len(self)


class Config(_Object):
    def __init__(self, running: Running, flags: type[IntEnum], logger: ILogger) -> None:
        super().__init__(running)
        self.build = Build()
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self._flags = flags
        self._logger = logger
        self._timing: TimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.build.pool_limits[MemoryPoolType(pool)] = pool_size

    def clear_flag(self, flag: IntEnum) -> None:
        self.build.cleared_flags.add(self._flags(flag).name)

    def add_optimization_profile(self, profile: Profile) -> int:
        if self.running.refuses("add_optimization_profile"):
            self._logger.log(Severity.ERROR, "make-believe: no such profile")
            return -1
        self.build.profiles.append(dict(profile.shapes))
        return len(self.build.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None:
        content = bytes(serialized_timing_cache)
        if content and not content.startswith(_TIMING):
            self._logger.log(Severity.ERROR, "make-believe: no timing cache")
            return None
        return TimingCache(self.running, content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if self.running.refuses("set_timing_cache") or (cache.version != self.running.version and not ignore_mismatch):
            return False
        self._timing = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._timing


class IProgressMonitor:
    """The base of what is told of steps."""

    def __init__(self) -> None:
        self.is_initialised = True


class Builder(_Object):
    def __init__(self, running: Running, logger: ILogger) -> None:
        super().__init__(running)
        self.logger = logger
        self._flags = IntEnum("BuilderFlag", FLAGS[_major(running)])  # type: ignore[misc]

    def create_network(self, flags: int = 0) -> Network:
        return Network(self.running, flags)

    def create_builder_config(self) -> Config:
        return Config(self.running, self._flags, self.logger)

    def create_optimization_profile(self) -> Profile:
        return Profile(self.running)

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
        build = config.build
        build.creation_flags, build.network = network.flags, network.content
        build.optimization_level = config.builder_optimization_level
        self._time(network, config)
        self.made.builds.append(build)
        problem = self._problem(network, config)
        if problem is None and not self._stepped(config.progress_monitor):
            problem = "the build was cancelled"
        if problem is not None:
            self.logger.log(Severity.WARNING, "make-believe: a warning is no reason")
            self.logger.log(Severity.ERROR, f"IBuilder::buildSerializedNetwork: {problem}")
            return None
        return HostMemory(self._plan(network, build))

    def _problem(self, network: Network, config: Config) -> str | None:
        if self.running.refuses("build_serialized_network"):
            return "make-believe: out of memory"
        if self.running.version.startswith("10") and not network.flags & 1 << _STRONGLY_TYPED:
            return "make-believe: a weakly typed network would choose its own precision"
        (profile,) = config.build.profiles or [{}]
        dynamic = [network.get_input(index) for index in range(network.num_inputs)]
        missing = [tensor.name for tensor in dynamic if -1 in tensor.shape and tensor.name not in profile]
        return f"no profile for {missing}" if missing else None

    def _time(self, network: Network, config: Config) -> None:
        cache = config.get_timing_cache()
        if cache is not None:
            digest = hashlib.sha256(network.content).hexdigest()
            config.build.knew = digest in cache.known
            cache.known.add(digest)

    def _stepped(self, monitor: Any) -> bool:
        """Tell of a phase, and of one within it, from a thread of our own, as TensorRT does."""
        if monitor is None:
            return True
        assert monitor.is_initialised
        went_on: list[bool] = []

        def tell() -> None:
            self.made.threads.add(threading.get_ident())
            monitor.phase_start("Building Engine", None, self.made.steps)
            monitor.phase_start("Tactics", "Building Engine", 2)
            for step in range(self.made.steps):
                went_on.append(monitor.step_complete("Tactics", step % 2))
                went_on.append(monitor.step_complete("Building Engine", step))
                if not all(went_on):
                    break
            monitor.phase_finish("Tactics")
            monitor.phase_finish("Building Engine")

        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
        return all(went_on)

    def _plan(self, network: Network, build: Build) -> bytes:
        model = onnx.load_model_from_string(network.content)
        if self.made.scale != 1.0:
            _multiply(model, self.made.scale)
        ends = ([network.get_input(0)], [network.get_output(index) for index in range(network.num_outputs)])
        inputs, outputs = ([[end.name, [-1, *end.shape[1:]], "float32"] for end in side] for side in ends)
        (profile,) = build.profiles
        header = {"version": self.running.version, "profiles": profile, "inputs": inputs, "outputs": outputs}
        return pack(header, bytes(model.SerializeToString()))


def _multiply(model: onnx.ModelProto, scale: float) -> None:
    """Have a network give other numbers."""
    output = model.graph.output[0].name
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == output:
                node.output[place] = "before"
        for place, name in enumerate(node.input):
            if name == output:
                node.input[place] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "scale_of_what_is_wrong"))
    model.graph.node.append(helper.make_node("Mul", ["before", "scale_of_what_is_wrong"], [output]))


def _major(running: Running) -> str:
    """Whose names there are: those of the newest version that is known, for another."""
    major = running.version.partition(".")[0]
    return major if major in FLAGS else "11"


def parts(running: Running) -> dict[str, Any]:
    """The names that the module `tensorrt` has of this half."""
    major = _major(running)
    return {
        "Builder": lambda logger: Builder(running, logger),
        "BuilderFlag": IntEnum("BuilderFlag", FLAGS[major]),
        "IProgressMonitor": IProgressMonitor,
        "MemoryPoolType": MemoryPoolType,
        "NetworkDefinitionCreationFlag": IntEnum("NetworkDefinitionCreationFlag", CREATION[major]),
        "OnnxParser": lambda network, logger: OnnxParser(running, network, logger),
    }
