"""The TensorRT runtime over a make-believe GPU and TensorRT, which compute with ONNX Runtime. No GPU ran this."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.networks import write_classifier, write_detector
from tests.nvidia import fake_cuda, fake_tensorrt
from tests.nvidia.cuda_parts import CALLS, AsynchronousError, CUresult
from tests.nvidia.fake_cuda import FakeCuda
from tests.nvidia.fake_tensorrt import VERSIONS
from tests.nvidia.plans import SMALL, plan_of
from tests.nvidia.tensorrt_running import Running
from vidmod.errors import InferenceError, RuntimeUnavailableError, UsageError
from vidmod.models import RUNTIMES, Model, find
from vidmod.models.manifest import Batch
from vidmod.models.runtimes import SessionRequest, onnx, select, tensorrt_cuda
from vidmod.models.runtimes.tensorrt_cuda import TensorRtSession, bucket_sizes, session_of
from vidmod.models.weights import locate


class Rig:
    """A make-believe GPU with TensorRT, and a small network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, request: SessionRequest) -> None:
        self._monkeypatch = monkeypatch
        self.request = request
        self.install()

    def install(self, cuda: FakeCuda | None = None, version: str = VERSIONS[-1]) -> None:
        self.cuda = fake_cuda.install(self._monkeypatch, cuda)
        self.trt: Running = fake_tensorrt.install(self._monkeypatch, self.cuda, version)

    def open(self, **changes: Any) -> TensorRtSession:
        plan = plan_of(self.request, **{"version": self.trt.version, **changes})
        return session_of(plan, self.request, "fp16")

    def images(self, count: int, seed: int = 0) -> NDArray[np.uint8]:
        spec = self.request.input
        shape = (count, spec.height, spec.width, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

    def expected(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        session = onnx.open_session(replace(self.request, device="cpu", precision="fp32"))
        return session.infer(images)

    def all_is_freed(self) -> bool:
        """Nothing is left, nothing was used wrongly."""
        assert self.cuda.problems == []
        assert (self.cuda.live, self.trt.live) == ({}, {})
        return True


def request_of(path: Path, batch: Batch = SMALL) -> SessionRequest:
    manifest = find(str(path))
    weights = path.parent / str(manifest.weights.path)
    return SessionRequest(weights, manifest.input, manifest.output, "cuda:0", "auto", manifest.name, batch)


@pytest.fixture(autouse=True)
def compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_cuda, "_compiled", {})


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(monkeypatch, request_of(write_classifier(tmp_path)))
    yield rig
    assert rig.all_is_freed()


class TestNumbers:
    @pytest.mark.parametrize("seed", [None, *range(6)])
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("write", [write_classifier, write_detector])
    def test_any_number_of_images(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write: Any, version: str, seed: int | None
    ) -> None:
        """Whenever the GPU does its work: both layouts, fewer than a batch, several batches, a second round."""
        rig = Rig(monkeypatch, request_of(write(tmp_path)))
        rig.install(FakeCuda(seed=seed), version)
        with rig.open() as session:
            for count in (1, 3, 8, 9, 30, 45, 2):
                images = rig.images(count, seed=count)
                assert session.infer(images) == pytest.approx(rig.expected(images), abs=1e-5)
            assert session.infer(rig.images(0)).shape[0] == 0
        assert rig.all_is_freed()

    @pytest.mark.parametrize("name", ["open_nsfw", "nudenet"])
    def test_the_shipped_networks(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        manifest = find(name)
        weights = locate(manifest)
        if weights is None:
            pytest.skip(f"the weights of {name} are not here: vidmod models pull {name}")
        request = SessionRequest(weights.path, manifest.input, manifest.output, "auto", "auto", name, Batch(1, 2, 2))
        rig = Rig(monkeypatch, request)
        changes = {"outputs": [[manifest.output.name, [-1, *OUTPUTS[name]], "float32"]]}
        images = rig.images(3)
        with rig.open(**changes) as session:
            assert session.infer(images) == pytest.approx(rig.expected(images), rel=1e-4, abs=1e-4)
        assert rig.all_is_freed()

    def test_images_may_be_a_view(self, rig: Rig) -> None:
        images = rig.images(8)[::-1, :, ::-1]
        with rig.open() as session:
            assert session.infer(images) == pytest.approx(rig.expected(np.ascontiguousarray(images)), abs=1e-5)

    def test_outputs_are_the_callers(self, rig: Rig) -> None:
        with rig.open() as session:
            first = session.infer(rig.images(2, 1))
            kept = first.copy()
            session.infer(rig.images(2, 2))
        assert np.array_equal(first, kept)

    def test_wrong_images_are_refused(self, rig: Rig) -> None:
        with rig.open() as session:
            for images in (np.zeros((1, 8, 9, 3), np.uint8), np.zeros((1, 8, 8, 3), np.float32), np.zeros(3, np.uint8)):
                with pytest.raises(InferenceError, match="where uint8 of"):
                    session.infer(images)  # type: ignore[arg-type]


OUTPUTS = {"open_nsfw": (2,), "nudenet": (22, 2100)}


class TestBatches:
    @pytest.mark.parametrize(
        ("profile", "sizes"),
        [
            ((1, 8, 64), (1, 2, 4, 8, 16, 32, 64)),
            ((1, 1, 1), (1,)),
            ((3, 5, 12), (3, 4, 5, 8, 12)),
            ((8, 8, 8), (8,)),
        ],
    )
    def test_bucket_sizes(self, profile: tuple[int, int, int], sizes: tuple[int, ...]) -> None:
        assert bucket_sizes(*profile) == sizes

    def test_batches_are_filled_up_to_a_bucket(self, rig: Rig) -> None:
        rig.request = replace(rig.request, batch=Batch(2, 5, 12))
        with rig.open() as session:
            ran = {}
            for count in (1, 2, 3, 5, 6, 9, 12, 13, 30):
                del rig.trt.fed[:]
                session.infer(rig.images(count))
                ran[count] = tuple(len(batch) for batch in rig.trt.fed)
        assert ran == {
            1: (2,),
            2: (2,),
            3: (4,),
            5: (5,),
            6: (8,),
            9: (12,),
            12: (12,),
            13: (12, 2),
            30: (12, 12, 8),
        }

    def test_what_fills_a_batch_is_black(self, rig: Rig) -> None:
        """Not what an earlier batch left there."""
        with rig.open() as session:
            session.infer(np.full((8, 8, 8, 3), 255, np.uint8))
            session.infer(rig.images(3))
        assert rig.trt.fed[-1].shape[0] == 4
        assert not rig.trt.fed[-1][3:].any()
        assert rig.trt.fed[-1][:3].any()

    def test_the_next_is_uploaded_before_the_present_one_is_computed(self, rig: Rig) -> None:
        """Of 32 images in batches of 8, nothing waits for the GPU before two batches are on their way."""
        with rig.open() as session:
            before = len(rig.cuda.calls)
            session.infer(rig.images(32))
            names = [
                name
                for name in rig.cuda.calls[before:]
                if name in ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuEventSynchronize")
            ]
        up, down, wait = "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuEventSynchronize"
        assert names == [up, down, up, down, wait, up, down, wait, up, down, wait, wait]


class TestGraphs:
    def test_a_size_is_captured_once_and_launched_from_then_on(self, rig: Rig) -> None:
        with rig.open() as session:
            captured = rig.cuda.calls.count("cuStreamBeginCapture")
            assert captured == 1  # of the best batch, while it was opened
            for _ in range(3):
                session.infer(rig.images(4))
            assert rig.cuda.launched_graphs == 3
            session.infer(rig.images(8))
            session.infer(rig.images(8))
            assert rig.cuda.launched_graphs == 4
            assert rig.cuda.calls.count("cuStreamBeginCapture") == 2
            assert session.info.note == ""

    def test_two_slots_have_graphs_of_their_own(self, rig: Rig) -> None:
        with rig.open() as session:
            for _ in range(2):
                session.infer(rig.images(32))
            assert rig.cuda.calls.count("cuStreamBeginCapture") == 3
            assert rig.cuda.launched_graphs == 2 + 4

    @pytest.mark.parametrize("name", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
    def test_without_a_graph_it_runs_and_says_so(self, rig: Rig, name: str) -> None:
        rig.cuda.fail(name, result=CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        images = rig.images(4)
        with rig.open() as session:
            for _ in range(2):
                assert session.infer(images) == pytest.approx(rig.expected(images), abs=1e-5)
            assert rig.cuda.launched_graphs == 0
            assert session.info.note.startswith(f"Batches of 4 run without a CUDA graph ({name} failed")

    def test_what_cannot_be_captured_runs_without(self, rig: Rig) -> None:
        """TensorRT refuses within the capture: the first run went well, the second is the capture."""
        rig.trt.refuse["execute_async_v3"] = 1
        images = rig.images(4)
        with rig.open() as session:
            assert session.infer(images) == pytest.approx(rig.expected(images), abs=1e-5)
            assert "TensorRT: make-believe: the kernel could not be launched" in session.info.note

    def test_each_graph_has_its_context(self, rig: Rig) -> None:
        with rig.open() as session:
            session.infer(rig.images(8))
            session.infer(rig.images(2))
            assert rig.trt.live["execution context"] == 3
            assert len(rig.trt.activations) == 1


class TestOpening:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_info(self, rig: Rig, version: str) -> None:
        rig.install(version=version)
        with rig.open() as session:
            assert (session.info.runtime, session.info.version) == ("tensorrt", version)
            assert (session.info.device, session.info.precision) == ("cuda:0", "fp16")

    def test_the_kernel_is_compiled_once(self, rig: Rig) -> None:
        for _ in range(3):
            rig.open().close()
        assert rig.cuda.calls.count("nvrtcCompileProgram") == 1

    def test_a_plan_of_another_version_is_refused(self, rig: Rig) -> None:
        with pytest.raises(RuntimeUnavailableError) as caught:
            rig.open(version="10.0.1")
        text = str(caught.value)
        assert "engine of redness cannot be used on cuda:0: It cannot be deserialised (TensorRT: " in text
        assert "Serialized engine is of version 10.0.1" in text
        assert text.endswith("Try: vidmod engines build redness")

    def test_a_plan_that_is_none_is_refused(self, rig: Rig) -> None:
        for plan in (b"", b"not a plan", plan_of(rig.request)[:11]):
            with pytest.raises(RuntimeUnavailableError, match=r"Magic tag does not match|deserialised"):
                session_of(plan, rig.request, "fp16")

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"profiles": {"pixels": [[1, 3, 8, 9]] * 3}}, "is due"),
            ({"inputs": [["pixels", [-1, 3, 8, 8], "float16"]]}, "'pixels' is not float32"),
            ({"inputs": [["image", [-1, 3, 8, 8], "float32"]]}, "no input named 'pixels'; it has image, probability"),
            ({"outputs": [["score", [-1, 1], "float32"]]}, "no output named 'probability'"),
            ({"outputs": [["probability", [-1, 1], "float32"], ["more", [1], "float32"]]}, "more than one input"),
            ({"outputs": [["probability", [1, 1], "float32"]]}, r"output is \(1, 1\) for a batch of 8"),
        ],
    )
    def test_a_plan_of_another_network_is_refused(self, rig: Rig, changes: dict[str, Any], expected: str) -> None:
        with pytest.raises(RuntimeUnavailableError, match=expected):
            rig.open(**changes)

    @pytest.mark.parametrize("method", ["create_execution_context", "set_optimization_profile_async",
                                        "set_input_shape", "set_tensor_address", "execute_async_v3"])  # fmt: skip
    def test_what_tensorrt_refuses_is_told(self, rig: Rig, method: str) -> None:
        rig.trt.refuse[method] = 0
        with pytest.raises(RuntimeUnavailableError, match=r"TensorRT: make-believe"):
            rig.open()

    def test_precisions_and_devices(self, rig: Rig) -> None:
        plan = plan_of(rig.request)
        with pytest.raises(UsageError, match="Use one of auto, fp16, fp32"):
            session_of(plan, rig.request, "bf16")
        with pytest.raises(RuntimeUnavailableError, match="NVIDIA GPUs only"):
            session_of(plan, replace(rig.request, device="cpu"), "fp16")
        with pytest.raises(RuntimeUnavailableError, match="no cuda:1 here"):
            session_of(plan, replace(rig.request, device="cuda:1"), "fp16")
        for wanted, got in (("auto", "fp16"), ("fp32", "fp32")):
            with session_of(plan, replace(rig.request, device="auto"), wanted) as session:
                assert session.info.precision == got

    def test_the_second_gpu(self, rig: Rig) -> None:
        rig.install(FakeCuda(devices=2))
        rig.request = replace(rig.request, device="cuda:1")
        images = rig.images(5)
        with rig.open() as session:
            assert session.info.device == "cuda:1"
            rig.request = replace(rig.request, device="cuda:0")
            with rig.open() as other:
                assert np.array_equal(other.infer(images), session.infer(images))
        assert rig.cuda.stack == []


class TestFailures:
    def scenario(self, rig: Rig) -> int:
        """Opens, uses and closes a session; how many calls were made before it was closed."""
        with rig.open() as session:
            session.infer(rig.images(20))
            session.infer(rig.images(3))
            return len(rig.cuda.calls)

    def test_every_call_may_fail(self, rig: Rig) -> None:
        """Nothing leaks, nothing is used wrongly, and the error is ours; a lost graph or a failed freeing is none."""
        used = self.scenario(rig)
        whole = rig.cuda.calls
        optional = ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate")
        for number in range(len(whole)):
            tensorrt_cuda._compiled.clear()
            rig.install()
            rig.cuda.fail_at(number)
            error: Exception | None = None
            try:
                self.scenario(rig)
            except (RuntimeUnavailableError, InferenceError) as exc:
                error = exc
            name = rig.cuda.calls[number]
            assert name == whole[number]
            assert rig.all_is_freed(), name
            assert (error is None) == (CALLS[name].frees or name in optional or number >= used), name
            assert error is None or name in str(error)

    def test_every_call_may_fail_with_its_error_alive(self, rig: Rig) -> None:
        """An error's traceback keeps the frames: TensorRT's objects must not outlive CUDA's context in them."""
        for method in ("create_execution_context", "set_input_shape", "set_tensor_address", "execute_async_v3"):
            rig.install()
            rig.trt.refuse[method] = 0
            with pytest.raises(RuntimeUnavailableError) as caught:
                rig.open()
            assert caught.value.__traceback__ is not None
            assert rig.all_is_freed()

    def test_a_failure_does_not_spoil_the_next_call(self, rig: Rig) -> None:
        images = rig.images(30)
        with rig.open() as session:
            wanted = rig.expected(images)
            for name in ("cuMemcpyHtoDAsync", "cuLaunchKernel", "cuGraphLaunch", "cuMemcpyDtoHAsync"):
                for after in range(4):
                    session.infer(images)
                    rig.cuda.fail(name, after=after)
                    with pytest.raises(InferenceError, match=name):
                        session.infer(images)
                    assert not any(stream.queue for stream in rig.cuda.streams.values())
                    assert session.infer(images) == pytest.approx(wanted, abs=1e-5)

    def test_a_failed_execution_is_an_inference_error(self, rig: Rig) -> None:
        with rig.open() as session:
            rig.trt.refuse["execute_async_v3"] = 0
            with pytest.raises(InferenceError, match=r"A batch of 8 cannot be run \(TensorRT: make-believe"):
                session.infer(rig.images(8))

    @pytest.mark.parametrize("method", ["create_execution_context", "set_input_shape", "set_tensor_address"])
    def test_a_size_that_was_refused_once_is_tried_again(self, rig: Rig, method: str) -> None:
        images = rig.images(8)
        with rig.open() as session:
            rig.trt.refuse[method] = 0
            with pytest.raises(InferenceError, match="TensorRT: make-believe"):
                session.infer(images)
            assert session.infer(images) == pytest.approx(rig.expected(images), abs=1e-5)

    def test_an_interrupt_while_the_gpu_works(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is closed then is waited for first: the GPU must not work in what was freed."""

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        with rig.open() as session:
            session.infer(rig.images(4))
            monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuEventSynchronize", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.infer(rig.images(4))
            assert any(stream.queue for stream in rig.cuda.streams.values())

    def test_a_gpu_that_fails_while_it_works(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        session = rig.open()

        def broken(*_: Any) -> None:
            raise AsynchronousError("out of bounds")

        monkeypatch.setattr(rig.cuda.kernels, "launch", broken, raising=False)
        with pytest.raises(InferenceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            session.infer(rig.images(4))
        with pytest.raises(InferenceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            session.infer(rig.images(4))
        session.close()
        assert rig.cuda.problems == ["normalise: out of bounds"]
        rig.cuda.problems.clear()

    def test_closing(self, rig: Rig) -> None:
        session = rig.open()
        session.infer(rig.images(4))
        session.close()
        session.close()
        with pytest.raises(InferenceError, match="closed"):
            session.infer(rig.images(4))

    def test_tensorrts_objects_are_freed_before_cudas(self, rig: Rig) -> None:
        session = rig.open()
        before = len(rig.cuda.calls)
        session.close()
        kinds = [name for name in rig.cuda.calls[before:] if CALLS[name].frees]
        assert kinds[0] == "cuGraphExecDestroy"
        assert kinds[-2:] == ["cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"]
        assert rig.trt.live == {}

    def test_another_thread(self, rig: Rig) -> None:
        images, found = rig.images(9), []
        with rig.open() as session:
            thread = threading.Thread(target=lambda: found.append(session.infer(images)))
            thread.start()
            thread.join()
        assert found[0] == pytest.approx(rig.expected(images), abs=1e-5)

    def test_a_session_for_each_thread(self, rig: Rig) -> None:
        wanted = {count: rig.expected(rig.images(count)) for count in (3, 10, 17)}
        found: dict[int, NDArray[np.float32]] = {}

        def work(count: int) -> None:
            with rig.open() as session:
                found[count] = session.infer(rig.images(count))

        # One after another: it is the contexts that are each thread's own.
        for count in wanted:
            thread = threading.Thread(target=work, args=(count,))
            thread.start()
            thread.join()
        assert all(found[count] == pytest.approx(wanted[count], abs=1e-5) for count in wanted)


class TestMissing:
    def test_not_installed(self, tmp_path: Path) -> None:
        """What `--runtime tensorrt` says on a machine without it."""
        if RUNTIMES["tensorrt"].installed:
            pytest.skip("TensorRT is installed here")
        with pytest.raises(RuntimeUnavailableError) as caught:
            Model.load(find(str(write_classifier(tmp_path))), runtime="tensorrt")
        text = str(caught.value)
        for part in ("not installed", "vidmod[tensorrt]", "tensorrt-cu13", "TensorRT 10 or 11", "driver 580", "GPU"):
            assert part in text

    @pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
    def test_without_its_libraries(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
        class Broken:
            def find_spec(self, name: str, *_: Any) -> None:
                if name == "tensorrt":
                    raise error("libnvinfer.so.11: cannot open shared object file")

        monkeypatch.delitem(sys.modules, "tensorrt")
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        with pytest.raises(RuntimeUnavailableError, match=r"libnvinfer.so.11.*vidmod\[tensorrt\]"):
            rig.open()
        assert tensorrt_cuda.devices() == []

    @pytest.mark.parametrize("version", ["9.3.0", "12.0.1"])
    def test_another_version(self, rig: Rig, version: str) -> None:
        rig.install(version=version)
        with pytest.raises(RuntimeUnavailableError, match=rf"This is TensorRT {version}.*TensorRT 10 or 11"):
            rig.open()

    def test_without_a_gpu(self, rig: Rig) -> None:
        rig.install(FakeCuda(devices=0))
        with pytest.raises(RuntimeUnavailableError, match=r"TensorRT 11.4.0.106 is here, but: CUDA cannot be started"):
            rig.open()
        assert tensorrt_cuda.devices() == []

    def test_devices(self, rig: Rig) -> None:
        rig.install(FakeCuda(devices=2))
        assert tensorrt_cuda.devices() == ["cuda:0", "cuda:1"]

    def test_auto_never_takes_it(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is installed and has a GPU, and nothing else is: an engine has to be built and asked for."""
        assert RUNTIMES["tensorrt"].installed
        original = importlib.util.find_spec
        monkeypatch.setattr(
            "importlib.util.find_spec",
            lambda name, package=None: None if name in ("openvino", "onnxruntime") else original(name, package),
        )
        for device in ("auto", "cpu", "cuda:0"):
            with pytest.raises(RuntimeUnavailableError):
                select("auto", device)
        assert select("tensorrt", "cuda:0").devices() == ["cuda:0"]


class TestTheCache:
    @pytest.fixture
    def found(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """What the cache was asked for; it has a plan for TensorRT 11 only."""
        asked: list[tuple[Any, ...]] = []

        def find_plan(request: SessionRequest, facts: Any, precision: str, version: str) -> bytes:
            asked.append((request.name, facts.name, precision, version))
            if version != VERSIONS[-1]:
                raise RuntimeUnavailableError("There is no engine. Run: vidmod engines build redness")
            return plan_of(request, version=version)

        monkeypatch.setattr(tensorrt_cuda, "find_plan", find_plan)
        return asked

    def test_the_plan_is_asked_for(self, rig: Rig, found: list[tuple[Any, ...]]) -> None:
        images = rig.images(5)
        session = RUNTIMES["tensorrt"].open(rig.request)
        assert session.infer(images) == pytest.approx(rig.expected(images), abs=1e-5)
        session.close()
        assert found == [("redness", "Make-believe 0", "fp16", VERSIONS[-1])]

    def test_without_one_it_is_an_error(self, rig: Rig, found: list[tuple[Any, ...]]) -> None:
        rig.install(version=VERSIONS[0])
        with pytest.raises(RuntimeUnavailableError, match="Run: vidmod engines build redness"):
            RUNTIMES["tensorrt"].open(replace(rig.request, precision="fp32"))
        assert found == [("redness", "Make-believe 0", "fp32", VERSIONS[0])]

    def test_a_model_runs_on_it(self, rig: Rig, found: list[tuple[Any, ...]], tmp_path: Path) -> None:
        manifest = find(str(tmp_path / "redness.toml"))
        with Model.load(manifest, runtime="tensorrt", device="cuda:0") as model:
            assert (model.info.runtime, model.info.precision) == ("tensorrt", "fp16")
            assert model.predict([]) == []
