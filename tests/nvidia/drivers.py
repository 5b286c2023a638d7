"""Drivers that are not there: libraries by the names of NVIDIA's, which answer what a test wants."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = r"""
#include <string.h>
#include <unistd.h>
#include <stdlib.h>
typedef int R;
R cuInit(unsigned flags) { (void)flags; %(init)s; return 0; }
R cuDriverGetVersion(int *version) { *version = %(cuda)d; return 0; }
R cuDeviceGetCount(int *count) { *count = %(count)d; return 0; }
R cuDeviceGet(int *device, int number) { *device = 40 + number; return 0; }
R cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, "Imaginary 1000", length); name[strlen(name) - 4] = '1' + device - 40; return 0; }
R cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)(16 + device - 40) << 30; return 0; }
R cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 9 : which == 76 ? device - 40 : which == 16 ? 132 : -1; return 0; }
R cuGetErrorString(R status, const char **text) { *text = status == 100 ? "no CUDA-capable device" : 0; return 0; }
"""
_MANAGEMENT = r"""
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "%s", length); return 0; }
"""


def build_driver(
    folder: Path, *, cuda: int = 13000, count: int = 2, init: str = "", version: str = "580.65.06"
) -> Path:
    """A folder with libcuda.so.1 and libnvidia-ml.so.1, for LD_LIBRARY_PATH.

    Args:
        cuda: What cuDriverGetVersion gives.
        count: GPUs: Imaginary 1000, Imaginary 2000 …, of compute capability 9.0, 9.1 … and with 16, 17 … GiB.
        init: C that cuInit begins with.
        version: The driver's.
    """
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on this machine, which builds the driver that is made up")
    folder.mkdir(parents=True, exist_ok=True)
    _compile(_SOURCE % {"cuda": cuda, "count": count, "init": init or "(void)0"}, folder / "libcuda.so.1")
    _compile(_MANAGEMENT % version, folder / "libnvidia-ml.so.1")
    return folder


def _compile(source: str, library: Path) -> None:
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
