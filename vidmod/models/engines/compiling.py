"""TensorRT: from an ONNX file to a plan.

Nobody has run this with TensorRT and a GPU yet. All that it calls is in the bindings of TensorRT 10.16 and 11.4, and
the tests run it over a make-believe TensorRT that has those names and no others. What differs between the two: only 10
knows weak typing, and has to be told that this network is strongly typed; 11 takes the flag and ignores it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from vidmod.errors import InferenceError, WeightsError
from vidmod.models.engines.finding import OPTIMISATION_LEVEL
from vidmod.models.manifest import Batch, InputSpec

# What is said of a builder that says a lot.
_MOST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Step:
    """How far a build is.

    Attributes:
        phase: As TensorRT calls it.
        done, total: Its steps.
    """

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built.

    Attributes:
        network: The ONNX file, with float32 input and output and a batch of any size.
        shown: What messages call it.
        batch: The profile.
        timing: What `Compiled.timing` was the last time, or nothing.
        workspace_bytes: GPU memory that a layer may use while it runs.
    """

    network: bytes
    shown: str
    input: InputSpec
    batch: Batch
    timing: bytes
    workspace_bytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, and a timing cache that makes the next build quicker; that is empty where TensorRT gave none."""

    plan: bytes
    timing: bytes


def compiled(trt: ModuleType, order: Order, progress: Callable[[Step], None] | None = None) -> Compiled:
    """Build a plan, in the context that is this thread's.

    Args:
        trt: The module `tensorrt`.
        progress: Told of every step, by any thread. What it raises ends the build and is raised here.

    Raises:
        WeightsError: TensorRT's parser does not take the network.
        InferenceError: It cannot be built.
    """
    try:
        return _Compilation(trt, order, progress).run()
    except BaseException as exc:  # noqa: BLE001 # it is raised below
        problem = exc
    # Tracebacks would keep TensorRT's objects for longer than the GPU's context is there.
    link: BaseException | None = problem
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    raise problem


class _Compilation:
    def __init__(self, trt: ModuleType, order: Order, progress: Callable[[Step], None] | None) -> None:
        self._trt = trt
        self._order = order
        self._said: list[str] = []
        self._logger = _logger(trt, self._said)
        self._monitor = _monitor(trt, progress)
        self._builder = trt.Builder(self._logger)

    def run(self) -> Compiled:
        network = self._parsed()
        config = self._config()
        self._add_profile(config)
        timing = self._timing(config)
        serialized = self._builder.build_serialized_network(network, config)
        if self._monitor.stopped_by is not None:
            raise self._monitor.stopped_by
        if serialized is None:
            raise InferenceError(f"{self._order.shown}: TensorRT cannot build it ({self._complaints()}).")
        return Compiled(bytes(serialized), b"" if timing is None else bytes(timing.serialize()))

    def _parsed(self) -> Any:
        trt = self._trt
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(self._order.network):
            errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
            detail = _joined(errors) or self._complaints()
            raise WeightsError(f"{self._order.shown}: TensorRT's parser does not take it ({detail}).")
        self._check_ends(network)
        return network

    def _check_ends(self, network: Any) -> None:
        """What a session relies on: one input and one output, both float32."""
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        ends = ([tensor.name for tensor in inputs], len(outputs), {tensor.dtype for tensor in [*inputs, *outputs]})
        if ends != ([self._order.input.name], 1, {self._trt.DataType.FLOAT}):
            raise WeightsError(f"{self._order.shown}: TensorRT reads it with other inputs or outputs ({ends}).")

    def _config(self) -> Any:
        trt, config = self._trt, self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._order.workspace_bytes)
        config.clear_flag(trt.BuilderFlag.TF32)
        config.builder_optimization_level = OPTIMISATION_LEVEL
        config.progress_monitor = self._monitor
        return config

    def _add_profile(self, config: Any) -> None:
        spec, batch = self._order.input, self._order.batch
        picture = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
        profile = self._builder.create_optimization_profile()
        try:
            profile.set_shape(spec.name, *((count, *picture) for count in (batch.min, batch.best, batch.max)))
            index = config.add_optimization_profile(profile)
        except (RuntimeError, ValueError) as exc:
            raise InferenceError(f"{self._order.shown}: TensorRT refuses its batches ({exc}).") from exc
        if index < 0:
            raise InferenceError(f"{self._order.shown}: TensorRT refuses its batches ({self._complaints()}).")

    def _timing(self, config: Any) -> Any:
        """A timing cache, filled from the last time if TensorRT takes that; None if there is to be none."""
        for content in dict.fromkeys((self._order.timing, b"")):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        return None

    def _complaints(self) -> str:
        return _joined(self._said) or "it does not say why"


def _joined(messages: Sequence[str]) -> str:
    more = [f"{len(messages) - _MOST_ERRORS} more"] if len(messages) > _MOST_ERRORS else []
    return "; ".join([*messages[:_MOST_ERRORS], *more])


def _parser_error(error: Any) -> str:
    """What the parser says, and of which node."""
    node = " ".join(filter(None, (error.node_operator(), error.node_name())))
    return f"{node}: {error.desc()}" if node else str(error.desc())


def _logger(trt: ModuleType, said: list[str]) -> Any:
    """TensorRT's messages: errors are kept, for the one message that vidmod gives."""
    worst = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in worst:
                said.append(" ".join(msg.split()))

    return Logger()


def _monitor(trt: ModuleType, progress: Callable[[Step], None] | None) -> Any:
    """What TensorRT tells of its steps, from any thread.

    An exception must not get into TensorRT, which would print it: it is kept, and the build asked to end.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped_by: BaseException | None = None
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            # Phases within phases are too many to be told.
            if parent_phase is None:
                self._totals[phase_name] = num_steps
                self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._totals:
                self._tell(phase_name, step + 1)
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            self._totals.pop(phase_name, None)

        def _tell(self, phase: str, done: int) -> None:
            try:
                if progress is not None and self.stopped_by is None:
                    progress(Step(phase, done, self._totals[phase]))
            except BaseException as exc:  # noqa: BLE001 # raised again where the build was started
                self.stopped_by = exc

    return Monitor()
