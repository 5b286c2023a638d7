"""The CUDA kernels compiled for the CPU: the very same source, run one thread after the other."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidmod.models.cuda import launching

HOST = Path(__file__).parent / "host"
COMPILER = "g++"
Extent = tuple[int, int, int]


def available() -> bool:
    """Whether there is a compiler."""
    return shutil.which(COMPILER) is not None


def names() -> list[str]:
    """Of the kernels in the source."""
    return re.findall(r'extern "C" __global__ void (\w+)\(', launching.source())


def build(folder: Path) -> HostKernels:
    """Compile into `folder`."""
    return HostKernels(compiled(folder))


def compiled(folder: Path, *options: str) -> Path:
    """The library, made in `folder`.

    Args:
        options: For the compiler, besides those that make a library.
    """
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(_program(), "utf-8")
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]
    command = [COMPILER, "-std=c++17", "-O2", "-shared", "-fPIC", *strict, f"-I{HOST}", *options]
    subprocess.run([*command, str(source), "-o", str(library)], check=True, timeout=240)
    return library


def _program() -> str:
    cases = "\n".join(
        f'    if (!std::strcmp(name, "{name}")) return launched({name}, grid, block, values, sizes, count);'
        for name in names()
    )
    return f"""#include <cstring>
#include "stand_in.h"
{launching.source()}
extern "C" int launch(const char *name, const int *grid, const int *block, void *const *values, const int *sizes,
                      int count)
{{
{cases}
    return 0;
}}
"""


class HostKernels:
    """Kernels to launch on arrays in this process's memory."""

    def __init__(self, library: Path) -> None:
        self._launch = ctypes.CDLL(str(library)).launch

    def launch(self, name: str, grid: Extent, block: Extent, arguments: Sequence[Any]) -> None:
        """Run a kernel and return when it is done.

        Args:
            arguments: ctypes values, of the types of the kernel's parameters.

        Raises:
            ValueError: There is no such kernel, or the arguments do not fit it.
        """
        values = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(one) for one in arguments))
        sizes = (ctypes.c_int * len(arguments))(*(ctypes.sizeof(one) for one in arguments))
        extents = (ctypes.c_int * 3)(*grid), (ctypes.c_int * 3)(*block)
        if not self._launch(name.encode(), *extents, values, sizes, len(arguments)):
            raise ValueError(f"{name}: no such kernel, or not its arguments ({len(arguments)}).")
