"""A program of its own: asks NVIDIA's driver what it has, and prints that as JSON. See :mod:`vidmod.models.nvidia`.

It imports nothing but the standard library: it runs in a bare interpreter, before anything else is started.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from pathlib import Path
from typing import Any

_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16


class _CallError(Exception):
    """A call of the driver failed."""


def main() -> None:
    """Print the driver's version, the CUDA version that it is for, its GPUs, and what is wrong."""
    found: dict[str, Any] = {"driver": _driver_version(), "cuda": 0, "gpus": [], "problem": ""}
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        found["problem"] = "libcuda.so.1 cannot be loaded"
    else:
        try:
            _ask(cuda, found)
        except _CallError as exc:
            found["problem"] = str(exc)
    sys.stdout.write(json.dumps(found))


def _ask(cuda: ctypes.CDLL, found: dict[str, Any]) -> None:
    version, count = ctypes.c_int(), ctypes.c_int()
    # It needs no GPU, and says what an old driver is too old for.
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    found["cuda"] = version.value
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    found["gpus"] = [_gpu(cuda, number) for number in range(count.value)]


def _gpu(cuda: ctypes.CDLL, number: int) -> dict[str, Any]:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), number)
    _call(cuda, "cuDeviceGetName", name, len(name), device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return {
        "name": name.value.decode("utf-8", "replace"),
        "capability": [_attribute(cuda, device, _MAJOR), _attribute(cuda, device, _MINOR)],
        "multiprocessors": _attribute(cuda, device, _MULTIPROCESSORS),
        "memory_bytes": memory.value,
    }


def _attribute(cuda: ctypes.CDLL, device: ctypes.c_int, which: int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), which, device)
    return value.value


def _call(cuda: ctypes.CDLL, name: str, *arguments: Any) -> None:
    status = getattr(cuda, name)(*arguments)
    if status != 0:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(status, ctypes.byref(text))
        said = "unknown error" if text.value is None else text.value.decode("utf-8", "replace")
        raise _CallError(f"{name} says: {said} ({status})")


def _driver_version() -> str:
    """Such as 580.65.06; empty if there is no driver, or it does not say."""
    try:
        management = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return _kernel_module_version()
    text = ctypes.create_string_buffer(96)
    if management.nvmlInit_v2() != 0:
        return _kernel_module_version()
    status = management.nvmlSystemGetDriverVersion(text, len(text))
    management.nvmlShutdown()
    return text.value.decode("ascii", "replace") if status == 0 else _kernel_module_version()


def _kernel_module_version() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text("ascii", errors="replace")
    except OSError:
        return ""
    match = re.search(r"(\d{3,}\.\d+(?:\.\d+)?)", text)
    return "" if match is None else match.group(1)


if __name__ == "__main__":
    main()
