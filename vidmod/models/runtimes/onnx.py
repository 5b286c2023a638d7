"""ONNX Runtime, on the CPU or on an NVIDIA GPU through CUDA.

The same code runs on both: buffers that live on the device are bound to the network's input and output, filled, run and
read. Nobody has run it on a GPU yet; on the CPU its tests do.

ONNX Runtime goes on with the CPU where CUDA cannot start, and says so only in a log. Here that is an error, or, where
`auto` had the choice, in the session's `note`.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vidmod.errors import InferenceError, RuntimeUnavailableError, WeightsError, choose
from vidmod.models import nvidia
from vidmod.models.manifest import InputSpec
from vidmod.models.runtimes import SessionInfo, SessionRequest

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_FATAL_ONLY = 4
_INSTALL = "Run: pip uninstall onnxruntime onnxruntime-gpu; pip install 'vidmod[cuda]'"
_CUDA_OPTIONS = {
    # Trying every algorithm takes long at the start, and may choose another one in every run: so would scores differ.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Its 10 bits of mantissa are not what fp32 stands for.
    "use_tf32": "0",
}
# The arithmetic of shapes, which ONNX Runtime leaves on the CPU on purpose: a few integers.
_SHAPE_OPERATORS = {
    "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
    "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze",
    "Where",
}  # fmt: skip

# What it logs before there is a session; what matters of it is in the errors.
ort.set_default_logger_severity(_FATAL_ONLY)


def devices() -> list[str]:
    """`cpu`, and `cuda:0`, `cuda:1` … where ONNX Runtime was built for CUDA and the driver has such GPUs."""
    return ["cpu", *(f"cuda:{number}" for number in range(_usable_gpus()))]


def _usable_gpus() -> int:
    if _CUDA not in ort.get_available_providers():
        return 0
    machine = nvidia.look()
    return 0 if machine.trouble(0, _cuda_major()) else len(machine.gpus)


def open_session(request: SessionRequest) -> OnnxRuntimeSession:
    """Load a network.

    Raises:
        RuntimeUnavailableError: CUDA is wanted and not there, or cannot run all of the network.
        WeightsError: The network cannot be read or has no such input or output.
    """
    choose("precision for ONNX Runtime", request.precision, ("auto", "fp32"))
    device, note = request.device, ""
    if device == "auto":
        device, note = _automatic()
    try:
        session = _loaded(request, device)
    except RuntimeUnavailableError as exc:
        if request.device != "auto":
            raise
        device, note = "cpu", _ran_on_cpu(str(exc))
        session = _loaded(request, device)
    try:
        _check_names(session, request)
        return OnnxRuntimeSession(session, request, device, note or _partly_on_cpu(session, device))
    except RuntimeError as exc:  # the device's memory
        raise RuntimeUnavailableError(f"ONNX Runtime has no room on {device} ({_first_line(exc)}).") from exc


def _automatic() -> tuple[str, str]:
    """The first GPU if there is one, else the CPU; and why not, if that is what this ONNX Runtime was installed for."""
    if _CUDA not in ort.get_available_providers():
        return "cpu", ""
    trouble = nvidia.look().trouble(0, _cuda_major())
    return ("cpu", _ran_on_cpu(f"CUDA was not used: {trouble}.")) if trouble else ("cuda:0", "")


def _ran_on_cpu(reason: str) -> str:
    return f"ONNX Runtime ran on the CPU. {reason}"


def _loaded(request: SessionRequest, device: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if device == "cpu":
        return _created(request, options, [_CPU])
    _check_device(device)
    options.use_deterministic_compute = True
    missing = _preload()
    chosen = {"device_id": device.removeprefix("cuda:"), **_CUDA_OPTIONS}
    try:
        session = _created(request, options, [(_CUDA, chosen), _CPU])
    except WeightsError as exc:
        # ONNX Runtime has one kind of error for both.
        if not re.search("cuda|cudnn|cublas", str(exc.__cause__), re.IGNORECASE):
            raise
        raise _not_started(device, _first_line(exc.__cause__)) from exc
    if session.get_providers()[0] != _CUDA:
        raise _not_started(device, f"{', '.join(missing)} cannot be loaded" if missing else _load_problem())
    if request.device != "auto" and (left := _left_to_cpu(session)):
        raise RuntimeUnavailableError(
            f"{request.name}: ONNX Runtime would run {', '.join(left)} of it on the CPU, not on {device}. "
            "Use --device auto to allow that, or --device cpu."
        )
    return session


def _created(
    request: SessionRequest, options: ort.SessionOptions, providers: list[str | tuple[str, dict[str, str]]]
) -> ort.InferenceSession:
    try:
        # With a fallback it would print to standard output, and go on with the CPU.
        return ort.InferenceSession(str(request.weights), options, providers, enable_fallback=0)
    except Exception as exc:  # its errors share no base class
        raise WeightsError(f"{request.weights}: ONNX Runtime cannot use this network ({_first_line(exc)}).") from exc


def _check_device(device: str) -> None:
    if _CUDA not in ort.get_available_providers():
        raise RuntimeUnavailableError(
            f"This ONNX Runtime has no CUDA, so {device} cannot be used. {_INSTALL}  or use --device cpu."
        )
    trouble = nvidia.look().trouble(int(device.removeprefix("cuda:")), _cuda_major())
    if trouble:
        raise RuntimeUnavailableError(f"{device} cannot be used: {trouble}. Or use --device cpu.")


def _not_started(device: str, reason: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f"ONNX Runtime could not start CUDA on {device}: {reason}. "
        "CUDA's libraries come with: pip install 'vidmod[cuda]'. Or use --device cpu."
    )


def _preload() -> list[str]:
    """Load CUDA's libraries from NVIDIA's packages, where ONNX Runtime would not look; those that are missing."""
    if not hasattr(ort, "preload_dlls"):
        return []
    said = io.StringIO()
    # It prints what it misses.
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return re.findall(r"^Failed to load (\S+?):", said.getvalue(), re.MULTILINE)


def _load_problem() -> str:
    """Why ONNX Runtime's own library for CUDA cannot be loaded, which it does not say itself."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
            ctypes.CDLL(str(folder / name))
    except OSError as exc:
        return _first_line(exc)
    return "it does not say why"


def _cuda_major() -> int:
    """Of the CUDA that this ONNX Runtime was built for."""
    major = str(getattr(ort, "cuda_version", "")).partition(".")[0]
    return int(major) if major.isdigit() else nvidia.CUDA_MAJOR


def _left_to_cpu(session: ort.InferenceSession) -> list[str]:
    """Operators that were placed on the CPU, the arithmetic of shapes aside; none where it cannot be told."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    left = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == _CPU
        for node in part.get_nodes()
    }
    return sorted(left - _SHAPE_OPERATORS)


def _partly_on_cpu(session: ort.InferenceSession, device: str) -> str:
    left = _left_to_cpu(session) if device != "cpu" else []
    return f"ONNX Runtime ran {', '.join(left)} on the CPU and the rest on {device}." if left else ""


def _first_line(exc: BaseException | None) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)


def _check_names(session: ort.InferenceSession, request: SessionRequest) -> None:
    for kind, name, present in (
        ("input", request.input.name, [node.name for node in session.get_inputs()]),
        ("output", request.output.name, [node.name for node in session.get_outputs()]),
    ):
        if name not in present:
            raise WeightsError(f"{request.weights}: has no {kind} named {name!r}; it has {', '.join(present)}.")


class OnnxRuntimeSession:
    """A loaded network; see :class:`vidmod.models.runtimes.Session`."""

    def __init__(self, session: ort.InferenceSession, request: SessionRequest, device: str, note: str = "") -> None:
        self.info = SessionInfo("onnxruntime", ort.__version__, device, "fp32", note)
        self._session: ort.InferenceSession | None = session
        self._request = request
        self._bound: _Bound | None = None

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a batch."""
        if self._session is None:
            raise InferenceError("This session is closed.")
        try:
            if self._bound is None or self._bound.count != len(images):
                # The old buffers first: there may be no room for both.
                self._bound = None
                self._bound = _Bound(self._session, self._request, self.info.device, len(images))
            return self._bound.run(images)
        except Exception as exc:  # its errors share no base class
            raise InferenceError(f"ONNX Runtime failed on a batch of {len(images)} ({exc}).") from exc

    def close(self) -> None:
        """Release the buffers and the network."""
        self._bound = None
        self._session = None


class _Bound:
    """A network's buffers for batches of one size, on the device that the network is on.

    The input's is kept; the output's, of which only the network knows the shape, is taken from ONNX Runtime's own pool.
    """

    def __init__(self, session: ort.InferenceSession, request: SessionRequest, device: str, count: int) -> None:
        spec = self._spec = request.input
        self.count = count
        planar = spec.layout == "NCHW"
        shape = (count, 3, spec.height, spec.width) if planar else (count, spec.height, spec.width, 3)
        # Pageable memory: ONNX Runtime's Python interface gives no page-locked memory for its CUDA provider.
        self._host = np.empty(shape, np.float32)
        self._pixels = self._host.transpose(0, 2, 3, 1) if planar else self._host
        kind, _, number = device.partition(":")
        self._session = session
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, kind, int(number or 0))
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(spec.name, self._input)
        self._binding.bind_output(request.output.name, kind, int(number or 0))

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        _normalise(images, self._spec, self._pixels)
        self._input.update_inplace(self._host)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        (output,) = self._binding.get_outputs()
        return np.asarray(output.numpy()).astype(np.float32, copy=False)


def _normalise(images: NDArray[np.uint8], spec: InputSpec, out: NDArray[np.float32]) -> None:
    """(value - mean) / scale for each channel of N×H×W×3."""
    if images.shape != out.shape:
        raise ValueError(f"pictures of {images.shape[1:]} where {out.shape[1:]} are wanted")
    np.subtract(images, np.asarray(spec.mean, np.float32), out=out, dtype=np.float32)
    np.divide(out, np.asarray(spec.scale, np.float32), out=out)
