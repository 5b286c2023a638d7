"""What runs networks: one small Protocol, one table, imported when it is chosen."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vidmod.errors import RuntimeUnavailableError, UsageError, choose
from vidmod.models.manifest import Batch, InputSpec, OutputSpec

Precision = Literal["fp32", "bf16", "fp16"]


# OpenVINO's own telemetry would report every use to an analytics service; without this module it is silent.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a session really runs on, for the summary and the provenance."""

    runtime: str
    version: str
    device: str
    precision: Precision


class Session(Protocol):
    """A network that is ready to run. It belongs to the thread that opened it."""

    info: SessionInfo

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run N×H×W×3 uint8 images of the manifest's size and channel order; any N >= 1.

        Returns:
            The manifest's output, float32, with N first; it may be overwritten by the next call.

        Raises:
            InferenceError: The network failed.
        """

    def close(self) -> None:
        """Release what the session holds; more than once is fine."""


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What is wanted: a network, where it is to run and how precisely.

    Attributes:
        name: The model's, for messages.
        batch: The sizes of batches that will come.
    """

    weights: Path
    input: InputSpec
    output: OutputSpec
    device: str = "auto"
    precision: str = "auto"
    name: str = "a network"
    batch: Batch = field(default_factory=Batch)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One row of the table.

    Attributes:
        module: Has `open_session(SessionRequest) -> Session` and `devices() -> list[str]`.
        requires: The distribution's module, looked for before `module` is imported.
        install: What to install where it is missing.
    """

    name: str
    module: str
    requires: str
    install: str

    @property
    def installed(self) -> bool:
        """Whether what it needs is there; nothing is imported."""
        return all(importlib.util.find_spec(name) is not None for name in (self.requires, self.module))

    def open(self, request: SessionRequest) -> Session:
        """Compile the network.

        Raises:
            RuntimeUnavailableError: The runtime or the device is not here.
            WeightsError: The network cannot be read.
        """
        opener: Callable[[SessionRequest], Session] = self._load().open_session
        return opener(request)

    def devices(self) -> list[str]:
        """The devices that it can run on here, such as `cpu` or `cuda:0`."""
        found: list[str] = self._load().devices()
        return found

    def _load(self) -> _RuntimeModule:
        if not self.installed:
            raise RuntimeUnavailableError(f"The {self.name} runtime is not installed. {self.install}")
        return importlib.import_module(self.module)


class _RuntimeModule(Protocol):
    def open_session(self, request: SessionRequest) -> Session: ...

    def devices(self) -> list[str]: ...


# In the order in which `auto` tries them.
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("openvino", "vidmod.models.runtimes.openvino_cpu", "openvino", "Run: pip install openvino"),
        Runtime("onnxruntime", "vidmod.models.runtimes.onnx", "onnxruntime", "Run: pip install onnxruntime"),
        Runtime("tensorrt", "vidmod.models.runtimes.tensorrt_cuda", "tensorrt", "It is not in this release of vidmod."),
    )
}


def select(name: str, device: str) -> Runtime:
    """The runtime of that name; for `auto` the fastest installed one that has the device.

    Raises:
        UsageError: No such runtime or device name.
        RuntimeUnavailableError: It is not installed.
    """
    choose("runtime", name, ("auto", *RUNTIMES))
    if device not in ("auto", "cpu") and not (device.startswith("cuda:") and device[5:].isdigit()):
        raise UsageError(f"Invalid device ({device!r}). Use auto, cpu, or cuda:N (cuda:0 is the first GPU).")
    if name != "auto":
        return RUNTIMES[name]
    wanted = ("onnxruntime",) if device.startswith("cuda") else tuple(RUNTIMES)
    for candidate in wanted:
        if RUNTIMES[candidate].installed:
            return RUNTIMES[candidate]
    raise RuntimeUnavailableError("No runtime is installed. Run: pip install openvino onnxruntime")
