"""NVIDIA's driver and GPUs as they are on this machine, and the packages that reach them.

Everything is asked in processes of their own: a process that has begun with CUDA cannot be forked, a library of the
driver can end a process, and what only looks should leave nothing behind.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The first driver for CUDA 13: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
CUDA_MAJOR = 13
MIN_DRIVER = 580
# Waking many GPUs up takes seconds where the driver does not stay loaded.
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        capability: Its compute capability: (9, 0) is 9.0.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.capability[0]}.{self.capability[1]}, {self.memory_gb} GB"

    @property
    def memory_gb(self) -> int:
        """Its memory in units of 10^9 bytes."""
        return round(self.memory_bytes / 1e9)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the driver says.

    Attributes:
        driver: Its version, such as 580.65.06; empty if it is not known.
        cuda: The newest CUDA that it is for, (13, 0); (0, 0) if it is not known.
        gpus: In CUDA's order, those that CUDA_VISIBLE_DEVICES hides left out.
        problem: Why there are no GPUs; empty if there are.
    """

    driver: str = ""
    cuda: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""

    def trouble(self, number: int = 0, cuda_major: int = CUDA_MAJOR) -> str:
        """Why a GPU cannot be used by software made for a major version of CUDA; empty if nothing is known against it.

        Args:
            number: The GPU's, from 0.
            cuda_major: Of that software.
        """
        wanted = f"an NVIDIA driver for CUDA {cuda_major}"
        if cuda_major == CUDA_MAJOR:
            wanted += f" ({MIN_DRIVER} or newer)"
        if self.cuda == (0, 0) and self.driver:
            return (
                f"driver {self.driver} is in the kernel, but {self.problem}. In a container, start it with --gpus all"
            )
        if self.cuda == (0, 0):
            return f"there is no NVIDIA driver here ({self.problem}). Install {wanted}"
        if self.cuda[0] < cuda_major:
            has = f"{self.driver or 'here'} is for CUDA {self.cuda[0]}.{self.cuda[1]}"
            return f"the NVIDIA driver {has}. Install {wanted}"
        if not self.gpus:
            return f"the NVIDIA driver has no GPU for it ({self.problem})"
        if number >= len(self.gpus):
            names = ", ".join(f"cuda:{index}" for index in range(len(self.gpus)))
            return f"there is no such GPU here, only {names}"
        return ""


@functools.cache
def look() -> Machine:
    """Ask the driver, once in the life of this process; it never fails."""
    return ask()


def ask() -> Machine:
    """Ask the driver; it never fails."""
    program = Path(__file__).with_name("nvidia_probe.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", program],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            return Machine(problem=f"asking the driver ended with status {done.returncode}")
        return _machine(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Machine(problem=f"the driver did not answer within {_TIMEOUT_SECONDS:g} s")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return Machine(problem=f"the driver could not be asked: {exc}")


def _machine(found: dict[str, Any]) -> Machine:
    gpus = tuple(
        Gpu(row["name"], (row["capability"][0], row["capability"][1]), row["multiprocessors"], row["memory_bytes"])
        for row in found["gpus"]
    )
    problem = found["problem"] if found["problem"] or gpus else "it finds none"
    return Machine(found["driver"], (found["cuda"] // 1000, found["cuda"] % 1000 // 10), gpus, problem)
