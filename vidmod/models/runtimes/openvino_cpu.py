"""OpenVINO on the CPU, in bfloat16 where the CPU computes in it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from vidmod.errors import InferenceError, RuntimeUnavailableError, WeightsError, choose
from vidmod.models.runtimes import Precision, SessionInfo, SessionRequest

if TYPE_CHECKING:
    from vidmod.models.manifest import InputSpec


@functools.cache
def _core() -> ov.Core:
    return ov.Core()


def devices() -> list[str]:
    """Only the CPU: what OpenVINO does on Intel GPUs was never measured here."""
    return ["cpu"]


def open_session(request: SessionRequest) -> OpenVinoSession:
    """Read and compile a network; mean, scale and layout become part of it.

    Raises:
        RuntimeUnavailableError: Another device than the CPU is wanted, or a precision it lacks.
        WeightsError: The network cannot be read or has no such input or output.
    """
    if request.device not in ("auto", "cpu"):
        raise RuntimeUnavailableError(f"OpenVINO runs on the CPU here, not on {request.device}. Use --device cpu.")
    precision = _precision(request.precision)
    try:
        model = _with_preprocessing(_core().read_model(request.weights), request.input)
        output = model.output(request.output.name)
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # One request at a time on all cores; batches, not streams, keep them busy.
            "PERFORMANCE_HINT": "LATENCY",
            # Decoding threads share the cores: pinned inference threads would wait for them.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = _core().compile_model(model, "CPU", options)
    except RuntimeError as exc:
        detail = str(exc).strip().splitlines()[-1]
        raise WeightsError(f"{request.weights}: OpenVINO cannot use this network ({detail}).") from exc
    return OpenVinoSession(compiled, output.get_any_name(), precision)


def _precision(wanted: str) -> Precision:
    choose("precision for OpenVINO", wanted, ("auto", "fp32", "bf16"))
    has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "bf16" and not has_bf16:
        raise RuntimeUnavailableError("This CPU does not compute in bfloat16. Use --precision fp32 or auto.")
    return "bf16" if has_bf16 and wanted != "fp32" else "fp32"


def _with_preprocessing(model: ov.Model, spec: InputSpec) -> ov.Model:
    builder = ov.preprocess.PrePostProcessor(model)
    image = builder.input(spec.name)
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.preprocess().convert_element_type(ov.Type.f32).mean(list(spec.mean)).scale(list(spec.scale))
    image.model().set_layout(ov.Layout(spec.layout))
    built = builder.build()
    built.reshape({spec.name: ov.PartialShape([-1, spec.height, spec.width, 3])})
    return built


class OpenVinoSession:
    """A compiled network; see :class:`vidmod.models.runtimes.Session`."""

    def __init__(self, compiled: ov.CompiledModel, output: str, precision: Precision) -> None:
        version = ov.get_version().partition("-")[0]
        self.info = SessionInfo("openvino", version, "cpu", precision)
        self._request: ov.InferRequest | None = compiled.create_infer_request()
        self._output = output

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a batch."""
        if self._request is None:
            raise InferenceError("This session is closed.")
        try:
            self._request.infer({0: images}, share_inputs=True)
            return np.asarray(self._request.get_tensor(self._output).data, np.float32)
        except RuntimeError as exc:
            raise InferenceError(f"OpenVINO failed on a batch of {len(images)} ({exc}).") from exc

    def close(self) -> None:
        """Release the network."""
        self._request = None
