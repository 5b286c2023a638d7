"""Run in a process of its own: every call of `driver.py`, over the real cuda-bindings and `libraries.c`."""

from __future__ import annotations

import ctypes
import json
import sys

import numpy as np

from vidmod.errors import InferenceError
from vidmod.models.cuda.driver import Argument, Device, device_count

_SOURCE = 'extern "C" __global__ void add(const unsigned char *from, float *to, int count, float offset) {}'


def main() -> None:
    """Prints what came of it, as JSON."""
    answer: dict[str, object] = {"count": device_count()}
    with Device() as device:
        facts = device.facts
        answer |= {"name": facts.name, "capability": facts.capability, "memory": facts.memory_bytes}
        device.use()
        source, target = device.buffer(150), device.buffer(4 * 150)
        stream = device.stream()
        images, result = device.pinned((3, 50), np.uint8), device.pinned((3, 50), np.float32)
        images[:] = np.arange(150, dtype=np.uint8).reshape(3, 50)
        kernel = device.module(device.compile(_SOURCE)).kernel("add")
        stream.upload(source, images)
        device.wait()
        for offset in (2.5, 0.25):
            arguments: list[Argument] = [
                *(ctypes.c_void_p(item.address) for item in (source, target)),
                ctypes.c_int(150),
                ctypes.c_float(offset),
            ]
            graph = stream.capture(lambda kept=arguments: stream.launch(kernel, (3, 1, 1), (64, 1, 1), kept))  # type: ignore[misc]
            graph.launch(stream)
            event = stream.record()
            stream.wait(event)
            stream.download(result, target)
            event.synchronize()
            stream.synchronize()
            answer[f"sum {offset}"] = float(result.sum())
        answer |= {"errors": [_error(lambda: device.compile("int")), _error(lambda: kernel_of(device))]}
    answer["live"] = ctypes.CDLL("libcuda.so.1").stand_in_live()
    json.dump(answer, sys.stdout)


def kernel_of(device: Device) -> None:
    """A kernel that there is not."""
    device.module(device.compile(_SOURCE)).kernel("subtract")


def _error(call: object) -> str:
    try:
        call()  # type: ignore[operator]
    except InferenceError as exc:
        return str(exc)
    return "none"


if __name__ == "__main__":
    main()
