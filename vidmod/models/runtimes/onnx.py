"""ONNX Runtime, on the CPU or on an NVIDIA GPU through CUDA."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vidmod.errors import InferenceError, RuntimeUnavailableError, WeightsError, choose
from vidmod.models.manifest import InputSpec
from vidmod.models.runtimes import SessionInfo, SessionRequest

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_FATAL_ONLY = 4


def devices() -> list[str]:
    """`cpu`, and `cuda:0` where ONNX Runtime was built for CUDA."""
    return ["cpu", *(["cuda:0"] if _CUDA in ort.get_available_providers() else [])]


def open_session(request: SessionRequest) -> OnnxRuntimeSession:
    """Load a network.

    Raises:
        RuntimeUnavailableError: CUDA is wanted and not there: ONNX Runtime would go on with the
            CPU and not say so.
        WeightsError: The network cannot be read or has no such input or output.
    """
    choose("precision for ONNX Runtime", request.precision, ("auto", "fp32"))
    device = _device(request.device)
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    providers: list[str | tuple[str, dict[str, str]]] = [_CPU]
    if device != "cpu":
        providers = [(_CUDA, {"device_id": device.removeprefix("cuda:")}), _CPU]
    try:
        session = ort.InferenceSession(str(request.weights), options, providers)
    except Exception as exc:  # its errors share no base class
        detail = str(exc).strip().splitlines()[0]
        raise WeightsError(f"{request.weights}: ONNX Runtime cannot use this network ({detail}).") from exc
    if device != "cpu" and _CUDA not in session.get_providers():
        raise RuntimeUnavailableError(
            f"ONNX Runtime could not start on {device}. Check the driver and CUDA, or use --device cpu."
        )
    _check_names(session, request)
    return OnnxRuntimeSession(session, request, device)


def _device(wanted: str) -> str:
    available = devices()
    if wanted == "auto":
        return available[-1]
    if wanted.partition(":")[0] not in {name.partition(":")[0] for name in available}:
        raise RuntimeUnavailableError(
            f"This ONNX Runtime has no CUDA, so {wanted} cannot be used. "
            "Run: pip uninstall onnxruntime; pip install 'vidmod[cuda]'  or use --device cpu."
        )
    return wanted


def _check_names(session: ort.InferenceSession, request: SessionRequest) -> None:
    for kind, name, present in (
        ("input", request.input.name, [node.name for node in session.get_inputs()]),
        ("output", request.output.name, [node.name for node in session.get_outputs()]),
    ):
        if name not in present:
            raise WeightsError(f"{request.weights}: has no {kind} named {name!r}; it has {', '.join(present)}.")


class OnnxRuntimeSession:
    """A loaded network; see :class:`vidmod.models.runtimes.Session`."""

    def __init__(self, session: ort.InferenceSession, request: SessionRequest, device: str) -> None:
        self.info = SessionInfo("onnxruntime", ort.__version__, device, "fp32")
        self._session: ort.InferenceSession | None = session
        self._input = request.input
        self._output = request.output.name

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a batch."""
        if self._session is None:
            raise InferenceError("This session is closed.")
        try:
            (output,) = self._session.run([self._output], {self._input.name: _normalised(images, self._input)})
        except Exception as exc:  # its errors share no base class
            raise InferenceError(f"ONNX Runtime failed on a batch of {len(images)} ({exc}).") from exc
        return np.asarray(output).astype(np.float32, copy=False)

    def close(self) -> None:
        """Release the network."""
        self._session = None


def _normalised(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    values = images.astype(np.float32)
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.scale, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if spec.layout == "NCHW" else values
