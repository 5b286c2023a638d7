"""ONNX Runtime: the buffers that are bound, and what becomes of CUDA that is asked for and not there.

What runs on a GPU is run here on the CPU, where the buffers are: the calls are the same.
"""

from __future__ import annotations

import contextlib
import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import vidmod
from tests.networks import write_classifier, write_detector
from vidmod.errors import InferenceError, RuntimeUnavailableError, WeightsError
from vidmod.models import Manifest, find, nvidia
from vidmod.models.nvidia import Gpu, Machine
from vidmod.models.runtimes import SessionRequest
from vidmod.models.runtimes import onnx as runtime

DEMO = Path(vidmod.__file__).parent.parent / "samples" / "demo.mp4"
CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
GPUS = Machine("580.65.06", (13, 0), (Gpu("Imaginary", (9, 0), 132, 16 << 30),) * 2)
NO_DRIVER = Machine(problem="libcuda.so.1 cannot be loaded")


def request_of(manifest: Manifest, device: str = "cpu") -> SessionRequest:
    assert manifest.weights.path is not None
    return SessionRequest(manifest.weights.path, manifest.input, manifest.output, device, name=manifest.name)


def pictures(count: int, manifest: Manifest, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, manifest.input.height, manifest.input.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class TestBuffers:
    @pytest.mark.parametrize("write", [write_classifier, write_detector])
    def test_numbers_are_those_of_a_plain_run(self, write: Any, tmp_path: Path) -> None:
        manifest = find(str(write(tmp_path)))
        spec = manifest.input
        with contextlib.closing(runtime.open_session(request_of(manifest))) as session:
            plain = ort.InferenceSession(str(manifest.weights.path), providers=["CPUExecutionProvider"])
            # Sizes that come back, and pictures that differ, find what a buffer has kept.
            for seed, count in enumerate((4, 4, 1, 3, 4)):
                images = pictures(count, manifest, seed)
                values = (images.astype(np.float32) - np.array(spec.mean, np.float32)) / np.array(
                    spec.scale, np.float32
                )
                values = values.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else values
                wanted = plain.run([manifest.output.name], {spec.name: np.ascontiguousarray(values)})[0]
                found = session.infer(images)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, wanted)

    def test_they_are_kept_while_batches_are_of_one_size(self, tmp_path: Path) -> None:
        manifest = find(str(write_classifier(tmp_path)))
        with contextlib.closing(runtime.open_session(request_of(manifest))) as session:
            session.infer(pictures(4, manifest))
            bound = session._bound
            session.infer(pictures(4, manifest))
            assert session._bound is bound
            session.infer(pictures(2, manifest))
            assert session._bound is not bound

    def test_pictures_of_another_size_are_an_error(self, tmp_path: Path) -> None:
        manifest = find(str(write_classifier(tmp_path)))
        with contextlib.closing(runtime.open_session(request_of(manifest))) as session:
            # NumPy would spread one row over all.
            for shape in ((4, 1, 8, 3), (4, 9, 8, 3), (4, 8, 8, 1)):
                with pytest.raises(InferenceError, match="batch of 4"):
                    session.infer(np.zeros(shape, np.uint8))
        with pytest.raises(InferenceError, match="closed"):
            session.infer(pictures(1, manifest))

    def test_they_are_where_the_network_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a GPU all differs by the device's name and number, and by nothing else."""
        places: list[tuple[str, str, int]] = []
        make = ort.OrtValue.ortvalue_from_shape_and_type

        def made(shape: Any, kind: Any, device: str, number: int) -> Any:
            places.append(("input", device, number))
            return make(shape, kind, "cpu", 0)

        class Binding(ort.IOBinding):  # type: ignore[misc]
            def bind_output(self, name: str, device: str, number: int) -> None:
                places.append((name, device, number))
                super().bind_output(name, "cpu", 0)

        monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", made)
        monkeypatch.setattr(ort.InferenceSession, "io_binding", lambda session: Binding(session))
        manifest = find(str(write_classifier(tmp_path)))
        plain = runtime._loaded(request_of(manifest), "cpu")
        session = runtime.OnnxRuntimeSession(plain, request_of(manifest), "cuda:1")
        assert session.infer(pictures(2, manifest)).shape == (2, 1)
        assert places == [("input", "cuda", 1), ("probability", "cuda", 1)]
        assert session.info.device == "cuda:1"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that was built for CUDA, on a machine with two GPUs."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: CUDA)
    monkeypatch.setattr(nvidia, "look", lambda: GPUS)


class Started(ort.InferenceSession):  # type: ignore[misc]
    """A session that says that it is on CUDA, and is on the CPU."""

    asked: list[Any] = []  # noqa: RUF012
    left: tuple[str, ...] = ()

    def __init__(self, path: str, options: Any, providers: list[Any], **more: Any) -> None:
        self.asked.append((providers, more, options.use_deterministic_compute))
        super().__init__(path, options, ["CPUExecutionProvider"], **more)
        self.claims = [item if isinstance(item, str) else item[0] for item in providers]

    def get_providers(self) -> list[str]:
        return self.claims

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(name: str, *operators: str) -> Any:
            nodes = [SimpleNamespace(op_type=operator) for operator in operators]
            return SimpleNamespace(ep_name=name, get_nodes=lambda: nodes)

        return [part(self.claims[0], "Conv"), part("CPUExecutionProvider", "Shape", "Gather", *self.left)]


@pytest.fixture
def started(gpus: None, monkeypatch: pytest.MonkeyPatch) -> type[Started]:
    """As `gpus`, and CUDA starts."""
    monkeypatch.setattr(Started, "asked", [])
    monkeypatch.setattr(ort, "InferenceSession", Started)
    monkeypatch.setattr(ort, "cuda_version", "13.0")
    return Started


class TestDevices:
    def test_they_are_true(self, monkeypatch: pytest.MonkeyPatch, gpus: None) -> None:
        assert runtime.devices() == ["cpu", "cuda:0", "cuda:1"]
        monkeypatch.setattr(nvidia, "look", lambda: NO_DRIVER)
        assert runtime.devices() == ["cpu"]
        old = Machine("570.86.15", (12, 8), GPUS.gpus)
        monkeypatch.setattr(nvidia, "look", lambda: old)
        monkeypatch.setattr(ort, "cuda_version", "13.0")
        assert runtime.devices() == ["cpu"]
        monkeypatch.setattr(ort, "cuda_version", "12.8")
        assert runtime.devices() == ["cpu", "cuda:0", "cuda:1"]
        monkeypatch.setattr(ort, "get_available_providers", lambda: CUDA[1:])
        assert runtime.devices() == ["cpu"]

    def test_a_build_without_cuda_looks_for_no_gpu(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(ort, "get_available_providers", lambda: CUDA[1:])
        monkeypatch.setattr(nvidia, "look", lambda: pytest.fail("It asked the driver."))
        with contextlib.closing(runtime.open_session(request_of(find(str(write_classifier(tmp_path))), "auto"))) as it:
            assert (it.info.device, it.info.note) == ("cpu", "")


class TestCuda:
    @pytest.mark.parametrize("wanted", ["cuda:1", "auto"])
    def test_what_it_is_started_with(self, wanted: str, tmp_path: Path, started: type[Started]) -> None:
        with contextlib.closing(runtime.open_session(request_of(find(str(write_classifier(tmp_path))), wanted))) as it:
            device = "cuda:0" if wanted == "auto" else wanted
            assert (it.info.device, it.info.precision, it.info.note) == (device, "fp32", "")
        ((providers, more, deterministic),) = started.asked
        assert [name if isinstance(name, str) else name[0] for name in providers] == CUDA
        options = {"device_id": device[-1], "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
        assert providers[0][1] == options
        # A fallback would go on with the CPU, and print to standard output, where the timeline goes.
        assert more == {"enable_fallback": 0}
        assert deterministic

    def test_operators_left_to_the_cpu_are_not_passed_over(
        self, tmp_path: Path, started: type[Started], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Started, "left", ("TopK",))
        manifest = find(str(write_classifier(tmp_path)))
        with pytest.raises(RuntimeUnavailableError, match="would run TopK of it on the CPU, not on cuda:0"):
            runtime.open_session(request_of(manifest, "cuda:0"))
        with contextlib.closing(runtime.open_session(request_of(manifest, "auto"))) as session:
            assert session.info.device == "cuda:0"
            assert session.info.note == "ONNX Runtime ran TopK on the CPU and the rest on cuda:0."

    @pytest.mark.parametrize(
        ("machine", "message"),
        [
            (
                NO_DRIVER,
                r"cuda:1 cannot be used: there is no NVIDIA driver here .*\(580 or newer\)\. Or use --device cpu",
            ),
            (Machine("580.65.06", (13, 0), GPUS.gpus[:1]), "no such GPU here, only cuda:0. Or use --device cpu"),
        ],
    )
    def test_without_a_gpu_it_is_an_error(
        self, machine: Machine, message: str, tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nvidia, "look", lambda: machine)
        with pytest.raises(RuntimeUnavailableError, match=message):
            runtime.open_session(request_of(find(str(write_classifier(tmp_path))), "cuda:1"))

    @pytest.mark.filterwarnings("ignore:Specified provider")
    def test_one_that_goes_on_with_the_cpu_is_an_error(
        self, tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What ONNX Runtime does where its library for CUDA cannot be loaded; here there is none."""
        if "CUDAExecutionProvider" in ort.capi._pybind_state.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")

        def preload() -> None:
            print("Failed to load libcublas.so.13: libcublas.so.13: cannot open shared object file")
            print("Please follow https://onnxruntime.ai to install CUDA.")

        monkeypatch.setattr(ort, "preload_dlls", preload)
        manifest = find(str(write_classifier(tmp_path)))
        with pytest.raises(
            RuntimeUnavailableError, match=r"could not start CUDA on cuda:0: libcublas.so.13 cannot be loa"
        ):
            runtime.open_session(request_of(manifest, "cuda:0"))
        monkeypatch.setattr(ort, "preload_dlls", lambda: None)
        with pytest.raises(RuntimeUnavailableError, match=r"could not start CUDA on cuda:0: .*providers_cuda.so"):
            runtime.open_session(request_of(manifest, "cuda:0"))
        with contextlib.closing(runtime.open_session(request_of(manifest, "auto"))) as session:
            assert session.info.device == "cpu"
            assert session.info.note.startswith("ONNX Runtime ran on the CPU. ONNX Runtime could not start CUDA")
            assert session.infer(pictures(2, manifest)).shape == (2, 1)
        # The timeline goes to standard output.
        assert capsys.readouterr().out == ""

    def test_a_device_that_fails_is_told_from_weights_that_do(
        self, tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = find(str(write_classifier(tmp_path)))

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0\nmore")

        with monkeypatch.context() as patch:
            patch.setattr(ort, "InferenceSession", broken)
            with pytest.raises(
                RuntimeUnavailableError, match=r"could not start CUDA on cuda:0: CUDA failure 2: out of mem"
            ):
                runtime.open_session(request_of(manifest, "cuda:0"))
        assert manifest.weights.path is not None
        manifest.weights.path.write_bytes(b"no network")
        with pytest.raises(WeightsError, match="ONNX Runtime cannot use this network"):
            runtime.open_session(request_of(manifest, "auto"))

    def test_what_auto_could_not_take_is_in_the_summary_and_the_provenance(
        self, tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from rich.console import Console

        from vidmod import terminal

        monkeypatch.setattr(nvidia, "look", lambda: NO_DRIVER)
        model = str(write_classifier(tmp_path))
        timeline = vidmod.scan(DEMO, runtime="onnxruntime", models=(model,), fps=Fraction(1, 5))
        note = "ONNX Runtime ran on the CPU. CUDA was not used: there is no NVIDIA driver here"
        assert [text[: len(note)] for text in timeline.notes] == [note]
        assert timeline.status == "complete"
        (row,) = timeline.provenance["models"]
        assert (row["device"], row["note"]) == ("cpu", timeline.notes[0])
        assert json.loads("".join(timeline.dumps()))["notes"] == list(timeline.notes)
        Console(width=80).print(terminal.summary(timeline))
        assert note in " ".join(capsys.readouterr().out.split())


def test_what_the_network_is_made_of_is_known(tmp_path: Path) -> None:
    """ONNX Runtime says where each operator was placed; on the CPU that is all of them."""
    path = tmp_path / "top.onnx"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Add", ["s", "s"], ["y"])]
    graph = helper.make_graph(nodes, "top", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    assert runtime._left_to_cpu(ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])) == ["Sigmoid"]
