"""A make-believe TensorRT, put together from the half that builds and the half that runs."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

import pytest

from tests.nvidia import tensorrt_running
from tests.nvidia.fake_cuda import FakeCuda
from tests.nvidia.tensorrt_running import Running

VERSIONS = ("10.16.1.11", "11.4.0.106")
_BUILDING = "tests.nvidia.tensorrt_building"


def module(cuda: FakeCuda, version: str = VERSIONS[-1]) -> tuple[ModuleType, Running]:
    """The module `tensorrt` of that version, and what its objects share.

    The half that builds is a module `tensorrt_building` with the same `parts(running)` as the half that runs.
    """
    running = Running(cuda, version)
    made = ModuleType("tensorrt")
    made.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    made.__version__ = version  # type: ignore[attr-defined]
    vars(made).update(tensorrt_running.parts(running))
    if importlib.util.find_spec(_BUILDING) is not None:
        vars(made).update(importlib.import_module(_BUILDING).parts(running))
    return made, running


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, version: str = VERSIONS[-1]) -> Running:
    """Put a make-believe TensorRT in the place of the real one, for one test."""
    made, running = module(cuda, version)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    return running
