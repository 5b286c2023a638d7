"""The code that nobody could run on a GPU calls what NVIDIA's real packages have, and the fakes have no more than that.

The packages are pulled and imported: cuda-bindings over a stand-in for the driver's library, over which all of
`driver.py` is run, and TensorRT's bindings over libraries that are empty.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from enum import EnumType
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vidmod
from tests.nvidia import cuda_parts, tensorrt_building, tensorrt_running, wheels
from tests.nvidia.fake_cuda import FakeCuda
from vidmod.models.engines import compiling
from vidmod.models.runtimes import tensorrt_cuda

MODELS = Path(vidmod.__file__).parent / "models"
DRIVER = MODELS / "cuda" / "driver.py"
CUDA_ENUMERATIONS = ("CUresult", "CUdevice_attribute", "CUstream_flags", "CUevent_flags", "CUstreamCaptureMode")
CUDA_NAME = re.compile(r"(cu|nvrtc)[A-Z]\w+|CU[a-z]\w+|CUDA?_\w+")
TENSORRT_FAKES = {
    "Runtime": tensorrt_running.Runtime,
    "ICudaEngine": tensorrt_running.Engine,
    "IExecutionContext": tensorrt_running.Context,
    "ILogger": tensorrt_running.ILogger,
    "Builder": tensorrt_building.Builder,
    "IBuilderConfig": tensorrt_building.Config,
    "INetworkDefinition": tensorrt_building.Network,
    "IOptimizationProfile": tensorrt_building.Profile,
    "ITimingCache": tensorrt_building.TimingCache,
    "OnnxParser": tensorrt_building.OnnxParser,
    "ParserError": tensorrt_building.ParserError,
}
TENSORRT_ENUMERATIONS = {
    "ILogger.Severity": tensorrt_running.Severity,
    "TensorIOMode": tensorrt_running.TensorIOMode,
    "DataType": tensorrt_running.DataType,
    "ExecutionContextAllocationStrategy": tensorrt_running.ExecutionContextAllocationStrategy,
    "MemoryPoolType": tensorrt_building.MemoryPoolType,
}
# What expressions of the code are in TensorRT: "" for the module itself, None for what is vidmod's own.
RECEIVERS: dict[str, dict[str, str | None]] = {
    "runtimes/tensorrt_cuda.py": {
        "tensorrt": "",
        "module": "",
        "library_": "",
        "self.trt": "",
        "engine.trt": "",
        "modes": "TensorIOMode",
        "kinds": "DataType",
        "self.runtime": "Runtime",
        "self.engine": "ICudaEngine",
        "engine.engine": "ICudaEngine",
        "self.context": "IExecutionContext",
        "program.context": "IExecutionContext",
        "engine": None,
        "self": None,
        "self._device": None,
        "super()": None,
    },
    "engines/compiling.py": {
        "trt": "",
        "self._trt": "",
        "self._builder": "Builder",
        "config": "IBuilderConfig",
        "network": "INetworkDefinition",
        "tensor": "ITensor",
        "profile": "IOptimizationProfile",
        "timing": "ITimingCache",
        "parser": "OnnxParser",
        "error": "ParserError",
        "self": None,
    },
}
# Of so many classes that nothing follows from them.
COMMON = {"name", "__init__", "__version__"}
MODULE_NAMES = {"tensorrt", "trt", "_trt", "library_"}


@pytest.fixture(scope="module")
def cuda_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.cuda_libraries(tmp_path_factory.mktemp("cuda"))


@cache
def real_cuda(version: str, libraries: Path) -> dict[str, Any]:
    packages = wheels.unpacked(f"cuda-bindings=={version}", "cuda-pathfinder")
    calls = [*cuda_parts.CALLS, "cuGetErrorString"]
    driver = [name for name in calls if name.startswith("cu")]
    nvrtc = [name for name in calls if name.startswith("nvrtc")]
    found = wheels.run("show_names", "cuda.bindings.driver", *driver, *CUDA_ENUMERATIONS,
                       packages=packages, libraries=libraries)  # fmt: skip
    more = wheels.run(
        "show_names", "cuda.bindings.nvrtc", *nvrtc, "nvrtcResult", packages=packages, libraries=libraries
    )
    return {**found, **more}


class TestCudaBindings:
    @pytest.fixture(params=wheels.CUDA_BINDINGS)
    def version(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def real(self, version: str, cuda_libraries: Path) -> dict[str, Any]:
        return real_cuda(version, cuda_libraries)

    def test_all_of_the_driver_runs_over_the_real_ones(self, version: str, cuda_libraries: Path) -> None:
        """Handles as numbers, kernels' parameters, buffers for texts: each is taken, and each result is read."""
        packages = wheels.unpacked(f"cuda-bindings=={version}", "cuda-pathfinder")
        found = wheels.run("use_bindings", packages=packages, libraries=cuda_libraries)
        total = sum(range(150))
        assert found == {
            "count": 1,
            "name": "Stand-in 0",
            "capability": [9, 0],
            "memory": 1 << 30,
            "sum 2.5": total + 150 * 2.5,
            "sum 0.25": total + 150 * 0.25,
            "errors": [
                "nvrtcCompileProgram failed: NVRTC_ERROR_COMPILATION. wrong",
                "cuModuleGetFunction failed: CUDA_ERROR_INVALID_VALUE (invalid argument).",
            ],
            "live": 0,
        }

    def test_without_libcuda_it_is_said(self, version: str, tmp_path: Path) -> None:
        packages = wheels.unpacked(f"cuda-bindings=={version}", "cuda-pathfinder")
        found = wheels.run("find_nothing", packages=packages, libraries=tmp_path)
        assert found["count"] == 0
        assert "CUDA cannot be started" in found["error"]
        assert "580 or newer" in found["error"]

    def test_the_fake_has_the_real_calls(self, real: dict[str, Any]) -> None:
        """All there, with as many parameters."""
        for name in cuda_parts.CALLS:
            assert real[name] is not None, name
            signature = real[name]["doc"].partition("\n")[0]
            assert signature.startswith(f"{name}("), name
            parameters = inspect.signature(getattr(FakeCuda, f"_{name}")).parameters.values()
            fixed = [item for item in parameters if item.kind is not inspect.Parameter.VAR_POSITIONAL]
            if len(fixed) == len(parameters):
                assert _count(signature) == len(fixed) - 1, signature
        assert _count(real["cuLaunchKernel"]["doc"].partition("\n")[0]) == 11

    def test_the_fake_has_the_real_numbers(self, real: dict[str, Any]) -> None:
        for name in (*CUDA_ENUMERATIONS, "nvrtcResult"):
            members = real[name]["members"]
            for member in getattr(cuda_parts, name):
                assert members.get(member.name) == int(member), member

    def test_the_code_uses_what_the_fake_has(self) -> None:
        known = {*cuda_parts.CALLS, *CUDA_ENUMERATIONS, "cuGetErrorString"}
        known |= {member for name in CUDA_ENUMERATIONS for member in getattr(cuda_parts, name).__members__}
        used = {name for name in _words(DRIVER) if CUDA_NAME.fullmatch(name)}
        assert used - known == set()
        assert len(used) > 40
        # And the fake has nothing that nobody calls.
        assert set(cuda_parts.CALLS) - used == set()

    def test_nobody_else_imports_them(self) -> None:
        for path in sorted(MODELS.parent.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert path == DRIVER or not any(re.match(r"cuda\b", name) for name in names), path


def _count(signature: str) -> int:
    """How many parameters: commas that are in no brackets of their own."""
    inner = signature[signature.index("(") + 1 : signature.rindex(")")]
    while re.search(r"[\[(][^\[\]()]*[\])]", inner):
        inner = re.sub(r"[\[(][^\[\]()]*[\])]", "", inner)
    return len([part for part in inner.split(",") if part.strip()])


def _words(path: Path) -> Iterator[str]:
    """Attributes, names and whole strings of a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _chains(path: Path) -> Iterator[tuple[str, str]]:
    """Every `receiver.attribute` of a module, the receiver as it is written."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node.value), node.attr


def _resolved(receiver: str, row: str) -> str | None:
    """What an expression is in TensorRT, None if it is nothing of it: `library_.ILogger` is `ILogger`."""
    receivers = RECEIVERS[row]
    if receiver in receivers:
        return receivers[receiver]
    for name, kind in receivers.items():
        rest = receiver.removeprefix(f"{name}.")
        if kind is not None and rest != receiver and rest.replace(".", "").isidentifier():
            return f"{kind}.{rest}".lstrip(".")
    return None


def _uses(row: str) -> set[str]:
    """The dotted names of TensorRT's that a module uses."""
    found = ((_resolved(receiver, row), name) for receiver, name in _chains(MODELS / row))
    return {f"{kind}.{name}".lstrip(".") for kind, name in found if kind is not None}


@pytest.fixture(scope="module")
def tensorrt_libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        version: wheels.tensorrt_libraries(tmp_path_factory.mktemp("tensorrt"), version) for version in wheels.TENSORRT
    }


class TestTensorRt:
    @pytest.fixture(params=wheels.TENSORRT)
    def version(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def real(self, version: str, libraries: dict[str, Path], *names: str) -> dict[str, Any]:
        packages = wheels.unpacked(f"tensorrt-cu13-bindings=={version}")
        found: dict[str, Any] = wheels.run(
            "show_names", "tensorrt_bindings", *names, packages=packages, libraries=libraries[version]
        )
        return found

    @pytest.mark.parametrize("row", RECEIVERS)
    def test_the_code_uses_what_there_is(self, version: str, tensorrt_libraries: dict[str, Path], row: str) -> None:
        used = sorted(_uses(row))
        assert len(used) > 10
        found = self.real(version, tensorrt_libraries, *used)
        assert [name for name, thing in found.items() if thing is None] == []

    @pytest.mark.parametrize("row", RECEIVERS)
    def test_no_receiver_is_forgotten(self, version: str, tensorrt_libraries: dict[str, Path], row: str) -> None:
        """What has the name of an attribute of TensorRT's is in the table, as TensorRT's or as vidmod's own."""
        found = self.real(version, tensorrt_libraries, *TENSORRT_FAKES)
        names = {name for thing in found.values() for name in thing["names"] if not name.startswith("_")} - COMMON
        receivers = {receiver for receiver, name in _chains(MODELS / row) if name in names}
        assert {item for item in receivers - set(RECEIVERS[row]) if _resolved(item, row) is None} == set()

    def test_every_module_that_uses_it_is_in_the_table(self) -> None:
        rows = {
            str(path.relative_to(MODELS))
            for path in MODELS.rglob("*.py")
            if any(receiver.rpartition(".")[2] in MODULE_NAMES for receiver, _ in _chains(path))
        }
        assert rows == set(RECEIVERS)

    def test_the_fake_has_the_real_methods(self, version: str, tensorrt_libraries: dict[str, Path]) -> None:
        """All there, with parameters of the same names."""
        methods = {
            f"{real}.{name}": member
            for real, fake in TENSORRT_FAKES.items()
            for name, member in vars(fake).items()
            if not name.startswith("_") and (callable(member) or isinstance(member, property))
        }
        found = self.real(version, tensorrt_libraries, *methods)
        assert len(methods) > 15
        for name, member in methods.items():
            assert found[name] is not None, name
            if not isinstance(member, (property, EnumType)):
                wanted = list(inspect.signature(member).parameters)[1:]
                short = name.rpartition(".")[2]
                overloads = re.findall(rf"{short}\(self: [\w.]+((?:, \w+: [^()]*?)*)\) ->", found[name]["doc"])
                overloads = [re.findall(r"(?:^|, )(\w+):", text) for text in overloads]
                assert wanted in overloads, (name, wanted, overloads)

    def test_the_fake_has_the_real_numbers(self, version: str, tensorrt_libraries: dict[str, Path]) -> None:
        found = self.real(version, tensorrt_libraries, *TENSORRT_ENUMERATIONS)
        for name, fake in TENSORRT_ENUMERATIONS.items():
            assert found[name] is not None, name
            for member in fake:
                assert found[name]["members"].get(member.name) == int(member), member

    def test_the_fake_has_the_flags_of_its_version(self, version: str, tensorrt_libraries: dict[str, Path]) -> None:
        names = {"BuilderFlag": tensorrt_building.FLAGS, "NetworkDefinitionCreationFlag": tensorrt_building.CREATION}
        found = self.real(version, tensorrt_libraries, *names)
        for name, fakes in names.items():
            members = found[name]["members"]
            for member, number in fakes[version.partition(".")[0]].items():
                assert members.get(member) == number, (name, member)
            gone = {member for fake in fakes.values() for member in fake} - set(fakes[version.partition(".")[0]])
            assert gone & set(members) == set()

    def test_what_tensorrt_calls_is_called_so(self, version: str, tensorrt_libraries: dict[str, Path]) -> None:
        """Steps and messages are told to methods of ours, by their names."""
        trt: Any = SimpleNamespace(
            ILogger=tensorrt_running.ILogger, IProgressMonitor=tensorrt_building.IProgressMonitor
        )
        for name, ours in (
            ("IProgressMonitor", compiling._monitor(trt, None)),
            ("ILogger", compiling._logger(trt, [])),
        ):
            methods = [item for item in vars(type(ours)) if not item.startswith("_")]
            found = self.real(version, tensorrt_libraries, *(f"{name}.{method}" for method in methods))
            for method in methods:
                thing = found[f"{name}.{method}"]
                assert thing is not None, method
                wanted = list(inspect.signature(getattr(ours, method)).parameters)
                assert re.findall(r"(?:, )(\w+):", thing["doc"].partition(") ->")[0]) == wanted

    def test_only_what_both_have_is_used(self, tensorrt_libraries: dict[str, Path]) -> None:
        """That the table's check sees what is gone: 11 has no weak typing, 10 has."""
        gone = "ICudaEngine.device_memory_size"
        old, new = (self.real(version, tensorrt_libraries, gone)[gone] for version in wheels.TENSORRT)
        assert old is not None
        assert new is None

    def test_both_are_taken(self) -> None:
        assert {version.partition(".")[0] for version in wheels.TENSORRT} == set(tensorrt_cuda.VERSIONS)
