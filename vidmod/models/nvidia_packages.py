"""The packages of the GPU path: which are here, whether they can be loaded, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Iterator

from vidmod.models import nvidia

# Each in a process of its own: these libraries are large, and a broken one ends the process that loads it.
_PROGRAMS = {
    "cuda-bindings": "from cuda.bindings import nvrtc; print('NVRTC', '.'.join(map(str, nvrtc.nvrtcVersion()[1:])))",
    "tensorrt": "import tensorrt; print(tensorrt.__version__)",
    "onnxruntime-gpu": (
        "import contextlib, ctypes, io, pathlib, onnxruntime\n"
        "with contextlib.redirect_stdout(io.StringIO()): onnxruntime.preload_dlls()\n"
        "folder = pathlib.Path(onnxruntime.__file__).parent / 'capi'\n"
        "for name in ('shared', 'cuda'): ctypes.CDLL(str(folder / f'libonnxruntime_providers_{name}.so'))\n"
        "print('for CUDA', onnxruntime.cuda_version)"
    ),
}
_TIMEOUT_SECONDS = 10.0
_TENSORRT_LIBRARIES = "libnvinfer.so and libnvonnxparser.so, 10.16 or newer"


def states() -> Iterator[tuple[str, str]]:
    """What of the GPU path is here, a name and a sentence each; what is missing with what to do about it."""
    running = _started()
    try:
        machine = nvidia.look()
        yield "NVIDIA driver", _driver(machine)
        for number, gpu in enumerate(machine.gpus):
            yield f"GPU cuda:{number}", str(gpu)
        for name, state in (("cuda-bindings", _bindings), ("tensorrt", _tensorrt), ("onnxruntime-gpu", _onnxruntime)):
            loaded, text = _ended(running[name]) if name in running else (False, "")
            yield name, state(loaded, text)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def _driver(machine: nvidia.Machine) -> str:
    trouble = machine.trouble()
    if trouble:
        return f"not usable: {trouble}. See https://www.nvidia.com/drivers."
    return f"{machine.driver or 'version unknown'}, for CUDA {machine.cuda[0]}.{machine.cuda[1]}"


def _bindings(loaded: bool, text: str) -> str:
    version = _version("cuda-bindings")
    if not version:
        return "not installed. Run: pip install 'vidmod[cuda]'"
    if not loaded:
        return f"{version}, but NVRTC cannot be loaded ({text}). Run: pip install 'vidmod[cuda]'"
    return f"{version}, {text}"


def _tensorrt(loaded: bool, text: str) -> str:
    found = next((version for name in ("tensorrt-cu13", "tensorrt") if (version := _version(name))), "")
    if loaded:
        return f"{text}, its libraries can be loaded"
    if not found and importlib.util.find_spec("tensorrt") is None:
        return "not installed. Run: pip install 'vidmod[tensorrt]'"
    return f"{found or 'installed'}, but cannot be loaded ({text}). It needs {_TENSORRT_LIBRARIES}, for CUDA 13."


def _onnxruntime(loaded: bool, text: str) -> str:
    version = _version("onnxruntime-gpu")
    other = _version("onnxruntime")
    if not version:
        first = "pip uninstall onnxruntime; " if other else ""
        return f"not installed. Run: {first}pip install 'vidmod[cuda]'"
    if other:
        return (
            f"{version}, and onnxruntime as well: two packages with one module, of which one has written over the "
            "other. Run: pip uninstall onnxruntime onnxruntime-gpu; pip install 'vidmod[cuda]'"
        )
    if not loaded:
        return f"{version}, but its CUDA cannot be loaded ({text})"
    return f"{version}, {text}"


def _started() -> dict[str, subprocess.Popen[str]]:
    return {
        name: subprocess.Popen(
            # Nothing of the working directory is imported.
            [sys.executable, "-P", "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, program in _PROGRAMS.items()
        if _has_module(name)
    }


def _has_module(name: str) -> bool:
    module = {"cuda-bindings": "cuda", "onnxruntime-gpu": "onnxruntime"}.get(name, name)
    return importlib.util.find_spec(module) is not None and (name == "tensorrt" or bool(_version(name)))


def _ended(process: subprocess.Popen[str]) -> tuple[bool, str]:
    """Whether it went well, and the last line of what it said."""
    try:
        out, err = process.communicate(timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"not within {_TIMEOUT_SECONDS:g} s"
    said = (out if process.returncode == 0 else err).strip().splitlines()
    if process.returncode < 0:
        return False, f"it ended with signal {-process.returncode}"
    return process.returncode == 0, said[-1] if said else "it does not say why"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
