"""Building an engine: weights → ONNX as built → plan → parity with the golden outputs → the cache.

Nobody has run this with TensorRT and a GPU yet; see :mod:`vidmod.models.engines.compiling`.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vidmod.errors import InferenceError, OutputError, RuntimeUnavailableError, WeightsError
from vidmod.models.check import CheckResult, check_model, references
from vidmod.models.cuda.driver import Device
from vidmod.models.engines.cache import Cache, Entry
from vidmod.models.engines.compiling import Order, Step, compiled
from vidmod.models.engines.finding import network_key, plan_key
from vidmod.models.engines.key import Gpu, PlanKey, TimingKey, precision_of
from vidmod.models.manifest import Manifest
from vidmod.models.model import Model
from vidmod.models.runtimes import RUNTIMES, SessionRequest, select, tensorrt_cuda
from vidmod.models.weights import Weights, obtain

# Of the GPU's memory, for what layers need while they run; others may be using it.
_WORKSPACE_SHARE, _MAX_WORKSPACE = 4, 4 << 30
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """An engine that is in the cache.

    Attributes:
        seconds: How long TensorRT took.
        check: How its scores compare with the golden ones, when it was built.
        is_new: Whether it was built now.
    """

    key: PlanKey
    path: Path
    plan_bytes: int
    seconds: float
    check: str
    is_new: bool


class Builder:
    """Builds engines on one GPU.

    Args:
        device: `cuda:N`, or `auto` for the first GPU.
        notify: Told what is done, a line at a time.
        progress: Told of TensorRT's steps, by any thread. It must return soon.

    Raises:
        UsageError: No such device name.
        RuntimeUnavailableError: TensorRT or the GPU is not here.
    """

    def __init__(
        self, device: str = "auto", *, notify: Notify | None = None, progress: Callable[[Step], None] | None = None
    ) -> None:
        select("tensorrt", device)
        self._device = "cuda:0" if device == "auto" else device
        if self._device == "cpu":
            raise RuntimeUnavailableError("TensorRT runs on NVIDIA GPUs only. Use --device cuda:0.")
        self._tensorrt = tensorrt_cuda.library()
        if not hasattr(self._tensorrt, "Builder"):
            raise RuntimeUnavailableError(
                f"This TensorRT ({self._version}) runs engines and cannot build them. {RUNTIMES['tensorrt'].install}"
            )
        with self._gpu() as gpu:
            self._facts = gpu
        self._notify: Notify = notify or (lambda _: None)
        self._progress = progress
        self._cache = Cache()

    def build(
        self,
        manifest: Manifest,
        *,
        precision: str = "auto",
        weights: Mapping[str, Path] | None = None,
        force: bool = False,
    ) -> Built:
        """Build a model's engine, unless there is one for this GPU and this TensorRT.

        Of several processes that want the same engine, one builds it and the others wait for that.

        Args:
            precision: `fp16`, `fp32`, or `auto`, which is fp16.
            weights: Model name to a file that is to be used instead.
            force: Build it even if there is one.

        Raises:
            UsageError: There is no such precision.
            WeightsError: The weights cannot be had, or TensorRT cannot read them.
            InferenceError: TensorRT cannot build it, or its scores are not the golden ones: it is not kept.
            OutputError: It cannot be written.
        """
        half = precision_of(precision)
        found = obtain(manifest, weights, self._notify)
        request = SessionRequest(
            found.path, manifest.input, manifest.output, self._device, half, manifest.name, manifest.batch
        )
        network = self._network(request)
        digest = hashlib.sha256(network).hexdigest()
        key = plan_key(digest, manifest.batch, self._facts, half, self._version)
        there = None if force else self._cache.load(key, manifest.name)
        if there is not None:
            return _built(key, there, is_new=False)
        with self._cache.lock(key, manifest.name, self._waiting(manifest)):
            # Whoever had the lock before may have built it.
            there = None if force else self._cache.load(key, manifest.name)
            if there is not None:
                return _built(key, there, is_new=False)
            return self._build(manifest, found, request, key, network)

    @property
    def _version(self) -> str:
        return str(self._tensorrt.__version__)

    def _waiting(self, manifest: Manifest) -> Callable[[], None]:
        return lambda: self._notify(f"Another process is building the engine of {manifest.name}; waiting for it.")

    @contextlib.contextmanager
    def _gpu(self) -> Iterator[Gpu]:
        """The GPU, opened: its context is this thread's meanwhile."""
        with Device(int(self._device.removeprefix("cuda:"))) as device:
            yield device.facts

    def _network(self, request: SessionRequest) -> bytes:
        """The ONNX file that the engine is built of, from the cache if it was made before."""
        key = network_key(request, precision_of(request.precision))
        there = self._cache.load(key, request.name)
        if there is not None:
            return there.content
        try:
            from vidmod.models.engines.network import as_built
        except ImportError as exc:
            raise RuntimeUnavailableError(
                "Making a network ready for TensorRT needs the package onnx. Run: pip install 'vidmod[tensorrt]'"
            ) from exc
        source = request.weights.read_bytes()
        if hashlib.sha256(source).hexdigest() != key.source:
            raise WeightsError(f"{request.weights}: has just changed. Run the command again.")
        content = as_built(source, request.input, request.output.name, key.precision, str(request.weights))
        facts = {"model": request.name, "network": hashlib.sha256(content).hexdigest()}
        self._cache.store(key, request.name, facts, content)
        return content

    def _build(
        self, manifest: Manifest, weights: Weights, request: SessionRequest, key: PlanKey, network: bytes
    ) -> Built:
        previous = self._cache.look(key, manifest.name)
        if previous is not None and previous.state != "whole":
            self._notify(f"{previous.path}: {previous.why}; it is built anew.")
        self._notify(
            f"Building {manifest.name} in {key.precision} with TensorRT {key.tensorrt} for {key.device}. "
            "This can take minutes."
        )
        began = time.monotonic()
        plan = self._plan(network, request, key)
        seconds = time.monotonic() - began
        result = self._checked(manifest, weights, request, plan)
        facts = {
            "built_seconds": round(seconds, 1),
            "check": f"{result.inputs} inputs, scores within {result.worst:.4f}",
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "model": manifest.name,
        }
        path = self._cache.store(key, manifest.name, facts, plan)
        return _built(key, Entry(path, "whole", facts=facts, content=plan), is_new=True)

    def _plan(self, network: bytes, request: SessionRequest, key: PlanKey) -> bytes:
        timing_key = TimingKey(key.tensorrt, key.device, key.capability, key.multiprocessors, key.memory_bytes)
        timing = self._cache.load(timing_key, "timing")
        order = Order(
            network,
            str(request.weights),
            request.input,
            request.batch,
            timing=b"" if timing is None else timing.content,
            workspace_bytes=min(_MAX_WORKSPACE, key.memory_bytes // _WORKSPACE_SHARE),
        )
        with self._gpu():
            made = compiled(self._tensorrt, order, self._progress)
        try:
            if made.timing:
                self._cache.store(timing_key, "timing", {}, made.timing)
        except OutputError as exc:
            # It only makes the next build quicker.
            self._notify(str(exc))
        return made.plan

    def _checked(self, manifest: Manifest, weights: Weights, request: SessionRequest, plan: bytes) -> CheckResult:
        """The parity of a plan.

        Raises:
            InferenceError: It is not what it should be.
        """
        rows = references(manifest, {manifest.name: weights.path})
        try:
            with Model(manifest, weights, tensorrt_cuda.session_of(plan, request, request.precision)) as model:
                result = check_model(model, rows)
        except InferenceError as exc:
            raise InferenceError(f"The engine of {manifest.name} is wrong, and was not kept: {exc}") from exc
        if not result.passed:
            raise InferenceError(
                f"The engine of {manifest.name} is wrong: in {request.precision} its scores are up to "
                f"{result.worst:.3f} from what they should be, and {result.tolerance:.3f} is allowed. It was not kept. "
                "Try --precision fp32, or use --runtime onnxruntime."
            )
        return result


def _built(key: PlanKey, entry: Entry, *, is_new: bool) -> Built:
    facts = entry.facts or {}
    return Built(
        key,
        entry.path,
        len(entry.content),
        float(facts.get("built_seconds", 0)),
        str(facts.get("check", "")),
        is_new,
    )
