"""What is said of NVIDIA's driver, GPUs and packages, with drivers that tests make up; no GPU is needed or used."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nvidia.drivers import build_driver
from vidmod import inventory
from vidmod.media import hardware
from vidmod.models import nvidia, nvidia_packages
from vidmod.models.nvidia import Gpu, Machine

TWO = (Gpu("Imaginary 1000", (9, 0), 132, 16 << 30), Gpu("Imaginary 2000", (9, 1), 132, 17 << 30))


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides a driver that may be here: a file by its name that is no library."""
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        (tmp_path / name).write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


class TestMachine:
    def test_its_gpus_are_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(build_driver(tmp_path)))
        machine = nvidia.ask()
        assert machine == Machine("580.65.06", (13, 0), TWO)
        assert str(machine.gpus[1]) == "Imaginary 2000, compute capability 9.1, 18 GB"
        assert machine.trouble(0) == machine.trouble(1) == machine.trouble(0, 12) == ""
        assert machine.trouble(2) == "there is no such GPU here, only cuda:0, cuda:1"

    def test_an_old_driver_is_told_from_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = build_driver(tmp_path, cuda=12080, version="570.86.15")
        monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
        machine = nvidia.ask()
        assert machine.trouble() == (
            "the NVIDIA driver 570.86.15 is for CUDA 12.8. Install an NVIDIA driver for CUDA 13 (580 or newer)"
        )
        # An ONNX Runtime for CUDA 12 can use it.
        assert machine.trouble(1, 12) == ""

    def test_a_driver_without_a_gpu_says_why(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(build_driver(tmp_path, init="return 100")))
        machine = nvidia.ask()
        assert machine.gpus == ()
        assert machine.trouble() == (
            "the NVIDIA driver has no GPU for it (cuInit says: no CUDA-capable device (100))"
        )  # fmt: skip
        monkeypatch.setenv("LD_LIBRARY_PATH", str(build_driver(tmp_path / "none", count=0)))
        assert nvidia.ask().trouble() == "the NVIDIA driver has no GPU for it (it finds none)"

    def test_no_driver(self, no_driver: None) -> None:
        machine = nvidia.ask()
        assert (machine.cuda, machine.gpus) == ((0, 0), ())
        if not machine.driver:  # its kernel module may be here all the same
            assert machine.trouble().startswith(
                "there is no NVIDIA driver here (libcuda.so.1 cannot be loaded). Install"
            )

    def test_a_kernel_module_without_its_library(self) -> None:
        machine = Machine("580.65.06", problem="libcuda.so.1 cannot be loaded")
        assert machine.trouble() == (
            "driver 580.65.06 is in the kernel, but libcuda.so.1 cannot be loaded. "
            "In a container, start it with --gpus all"
        )

    @pytest.mark.parametrize(
        ("init", "problem"),
        [("abort()", "ended with status -6"), ("_exit(0)", "could not be asked"), ("sleep(60)", "did not answer")],
    )
    def test_a_driver_that_breaks_its_process_is_survived(
        self, init: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nvidia, "_TIMEOUT_SECONDS", 3.0)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(build_driver(tmp_path, init=init)))
        machine = nvidia.ask()
        assert machine.gpus == ()
        assert problem in machine.problem
        assert problem in machine.trouble()

    def test_it_is_looked_at_in_another_process(self, tmp_path: Path) -> None:
        code = (
            "from pathlib import Path; from vidmod.models import nvidia; assert nvidia.look().gpus; "
            "assert 'libcuda' not in Path('/proc/self/maps').read_text(); print(nvidia.look() is nvidia.look())"
        )
        environment = {**os.environ, "LD_LIBRARY_PATH": str(build_driver(tmp_path))}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )  # fmt: skip
        assert done.stdout == "True\n"


class TestPackages:
    """As `vidmod doctor` tells of them."""

    @pytest.fixture
    def packages(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """Makes believe that only these packages are installed, with their modules."""
        here: dict[str, str] = {}

        def version(name: str) -> str:
            if name not in here:
                raise importlib.metadata.PackageNotFoundError(name)
            return here[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: "json" if here else None)
        monkeypatch.setattr(nvidia, "look", lambda: Machine("580.65.06", (13, 0), TWO))
        return here

    @pytest.fixture
    def programs(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        programs = dict.fromkeys(nvidia_packages._PROGRAMS, "print('1.2')")
        monkeypatch.setattr(nvidia_packages, "_PROGRAMS", programs)
        return programs

    def test_what_is_missing_is_named_with_its_extra(self, packages: dict[str, str]) -> None:
        states = dict(nvidia_packages.states())
        assert states["NVIDIA driver"] == "580.65.06, for CUDA 13.0"
        assert states["GPU cuda:0"].startswith("Imaginary 1000")
        assert states["cuda-bindings"] == "not installed. Run: pip install 'vidmod[cuda]'"
        assert states["tensorrt"] == "not installed. Run: pip install 'vidmod[tensorrt]'"
        assert states["onnxruntime-gpu"] == "not installed. Run: pip install 'vidmod[cuda]'"
        packages["onnxruntime"] = "1.31.1"
        assert dict(nvidia_packages.states())["onnxruntime-gpu"].startswith(
            "not installed. Run: pip uninstall onnxrunt"
        )

    def test_what_is_here_is_loaded_to_be_sure(self, packages: dict[str, str], programs: dict[str, str]) -> None:
        packages |= {"cuda-bindings": "13.5.0", "tensorrt-cu13": "11.4.0.106", "onnxruntime-gpu": "1.31.1"}
        states = dict(nvidia_packages.states())
        assert states["cuda-bindings"] == "13.5.0, 1.2"
        assert states["tensorrt"] == "1.2, its libraries can be loaded"
        assert states["onnxruntime-gpu"] == "1.31.1, 1.2"
        programs["cuda-bindings"] = "import sys; sys.exit('no NVRTC')"
        programs["tensorrt"] = "raise ImportError('libnvinfer.so.11: cannot open')"
        programs["onnxruntime-gpu"] = "import os; os.abort()"
        states = dict(nvidia_packages.states())
        assert (
            states["cuda-bindings"] == "13.5.0, but NVRTC cannot be loaded (no NVRTC). Run: pip install 'vidmod[cuda]'"
        )
        assert "11.4.0.106, but cannot be loaded (ImportError: libnvinfer.so.11: cannot open)" in states["tensorrt"]
        assert "libnvonnxparser.so" in states["tensorrt"]
        assert states["onnxruntime-gpu"] == "1.31.1, but its CUDA cannot be loaded (it ended with signal 6)"

    def test_both_onnxruntimes_are_one_too_many(self, packages: dict[str, str], programs: dict[str, str]) -> None:
        packages |= {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
        state = dict(nvidia_packages.states())["onnxruntime-gpu"]
        assert "two packages with one module" in state
        assert "Run: pip uninstall onnxruntime onnxruntime-gpu; pip install 'vidmod[cuda]'" in state

    def test_a_package_that_hangs_is_not_waited_for(
        self, packages: dict[str, str], programs: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nvidia_packages, "_TIMEOUT_SECONDS", 1.0)
        packages["tensorrt-cu13"] = "11.4.0.106"
        programs["tensorrt"] = "import time; time.sleep(60)"
        assert "not within 1 s" in dict(nvidia_packages.states())["tensorrt"]


def test_doctor_tells_what_nobody_has_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    monkeypatch.setattr(nvidia, "look", lambda: Machine(problem="libcuda.so.1 cannot be loaded"))
    monkeypatch.setattr(hardware, "is_built_in", lambda: False)
    Console(width=80).print(inventory.doctor_table())
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    words = " ".join(said.split())
    assert "never run by vidmod's makers on a GPU" in words
    assert "NVIDIA driver for CUDA 13 (580 or newer)" in words
    assert "built without it" in words


def test_doctor_survives_a_runtime_that_is_half_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name, installed = "broken", True

        def devices(self) -> list[str]:
            raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(inventory, "RUNTIMES", {"broken": Broken()})
    assert dict(inventory._facts())["runtime broken"] == (
        "cannot be used: libnvinfer.so.11: cannot open shared object file"
    )
