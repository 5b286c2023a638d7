"""The driver's layer over a make-believe GPU: order, freeing, errors. No GPU ran any of this."""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nvidia import fake_cuda
from tests.nvidia.cuda_parts import CALLS, POISON, CUresult
from tests.nvidia.fake_cuda import FakeCuda
from vidmod.errors import InferenceError, RuntimeUnavailableError
from vidmod.models import cuda
from vidmod.models.cuda import driver
from vidmod.models.cuda.driver import Argument, Device, device_count

SOURCE = (Path(cuda.__file__).parent / "kernels.cu").read_text("utf-8")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch)


def everything(device: Device) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Uses all that there is: images are uploaded, normalised in a graph, and downloaded on another stream."""
    images = device.pinned((2, 4, 4, 3), np.uint8)
    images[:] = np.arange(images.size, dtype=np.uint8).reshape(images.shape)
    result = device.pinned(images.shape, np.float32)
    source, target = device.buffer(images.nbytes), device.buffer(result.nbytes)
    first, second = device.stream(), device.stream()
    kernel = device.module(device.compile(SOURCE)).kernel("normalise")
    arguments: list[Argument] = [
        ctypes.c_void_p(source.address),
        ctypes.c_void_p(target.address),
        *(ctypes.c_int(value) for value in (2, 4, 4, 0)),
        *(ctypes.c_float(value) for value in (1, 2, 3, 2, 2, 2)),
    ]
    first.upload(source, images)
    graph = first.capture(lambda: first.launch(kernel, (1, 1, 1), (256, 1, 1), arguments))
    graph.launch(first)
    second.wait(first.record())
    second.download(result, target)
    second.record(device.event()).synchronize()
    second.synchronize()
    graph.close()
    return result.copy()


class TestWork:
    @pytest.mark.parametrize("seed", [None, 1, 2, 3])
    def test_work_is_done_in_order(self, monkeypatch: pytest.MonkeyPatch, seed: int | None) -> None:
        gpu = fake_cuda.install(monkeypatch, FakeCuda(seed=seed))
        with Device() as device:
            found = everything(device)
        values = np.arange(96, dtype=np.float32).reshape(2, 4, 4, 3)
        assert np.array_equal(found, (values - np.array([1, 2, 3], np.float32)) / 2)
        assert gpu.live == {}
        assert gpu.problems == []

    def test_what_is_not_waited_for_is_not_there(self, gpu: FakeCuda) -> None:
        """That the make-believe GPU sees a forgotten wait, and the other tests are worth something."""
        with Device() as device:
            array = device.pinned(16, np.uint8)
            array[:] = 7
            buffer, first, second = device.buffer(16), device.stream(), device.stream()
            first.upload(buffer, array)
            found = device.pinned(16, np.uint8)
            second.download(found, buffer)
            second.synchronize()
            assert set(found) == {POISON}

    def test_offsets_are_bytes_and_nothing_passes_the_end(self, gpu: FakeCuda) -> None:
        with Device() as device:
            buffer, stream = device.buffer(16), device.stream()
            array = device.pinned(2, np.uint32)
            array[:] = 0x01020304, 5
            stream.upload(buffer, array, offset=8)
            back = device.pinned(1, np.uint32)
            stream.download(back, buffer, offset=12)
            stream.synchronize()
            assert back[0] == 5
            for offset in (9, -1):
                with pytest.raises(InferenceError, match="does not fit"):
                    stream.upload(buffer, array, offset=offset)
            with pytest.raises(InferenceError, match="does not fit"):
                stream.upload(buffer, device.pinned((4, 4), np.uint8)[:, :2])
        assert gpu.problems == []

    def test_facts_are_the_drivers(self, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(driver, "_DRIVER_VERSION", tmp_path / "version")
        with Device() as device:
            facts = device.facts
        assert (facts.name, facts.capability, facts.multiprocessors) == ("Make-believe 0", (9, 0), 132)
        assert (facts.memory_bytes, facts.driver) == (80 << 30, "CUDA 13.0")
        (tmp_path / "version").write_text("580.95.05\n", "ascii")
        with Device() as device:
            assert device.facts.driver == "580.95.05"


class TestFreeing:
    def test_the_order_is_the_reverse_of_making(self, gpu: FakeCuda) -> None:
        device = Device()
        device.stream()
        device.buffer(16)
        device.event()
        before = len(gpu.calls)
        device.close()
        device.close()
        assert [name for name in gpu.calls[before:] if name not in ("cuCtxSetCurrent", "cuStreamSynchronize")] == [
            "cuEventDestroy",
            "cuMemFree",
            "cuStreamDestroy",
            "cuCtxPopCurrent",
            "cuDevicePrimaryCtxRelease",
        ]
        assert gpu.problems == []

    def test_streams_are_waited_for(self, gpu: FakeCuda) -> None:
        device = Device()
        array, buffer, stream = device.pinned(16, np.uint8), device.buffer(16), device.stream()
        stream.upload(buffer, array)
        device.close()
        assert gpu.log == ["upload"]
        assert gpu.problems == []

    def test_things_are_closed_once_and_refuse_after(self, gpu: FakeCuda) -> None:
        with Device() as device:
            stream, buffer, event = device.stream(), device.buffer(16), device.event()
            for thing in (stream, buffer, event):
                thing.close()
                thing.close()
            for use in (lambda: buffer.address, stream.synchronize, lambda: stream.record(event)):
                with pytest.raises(InferenceError, match="after it was closed"):
                    use()
        with pytest.raises(InferenceError, match="cuda:0 is closed"):
            device.use()
        assert gpu.problems == []

    def test_two_of_a_thread_share_the_context(self, gpu: FakeCuda) -> None:
        first, second = Device(), Device()
        first.close()
        everything(second)
        second.close()
        assert gpu.live == {}
        assert gpu.problems == []

    def test_two_gpus_of_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = fake_cuda.install(monkeypatch, FakeCuda(devices=2))
        first, second = Device(0), Device(1)
        assert (second.facts.name, gpu.stack) == ("Make-believe 1", [0, 1])
        first.use()
        everything(first)
        first.close()
        second.use()
        everything(second)
        second.close()
        assert gpu.live == {}
        assert gpu.problems == []

    def test_another_thread_has_to_say_that_it_uses_it(self, gpu: FakeCuda) -> None:
        device = Device()
        errors: list[Exception] = []

        def work() -> None:
            try:
                device.buffer(16)
            except InferenceError as exc:
                errors.append(exc)
            device.use()
            device.buffer(16)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(errors) == 1
        assert gpu.problems == ["cuMemAlloc without a context"]
        device.close()
        assert gpu.live == {}


class TestFailures:
    def test_every_call_may_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = fake_cuda.install(monkeypatch)
        with Device() as device:
            everything(device)
            used = len(whole.calls)
        for number in range(len(whole.calls)):
            gpu = fake_cuda.install(monkeypatch)
            gpu.fail_at(number)
            error: Exception | None = None
            try:
                with Device() as device:
                    everything(device)
            except (RuntimeUnavailableError, InferenceError) as exc:
                error = exc
            name = gpu.calls[number]
            assert name == whole.calls[number]
            assert gpu.live == {}, name
            assert gpu.problems == [], name
            # What is given up is given up, whatever CUDA says of it.
            assert (error is None) == (number >= used or CALLS[name].frees), name
            assert error is None or name in str(error)

    def test_an_error_has_cudas_name_and_text(self, gpu: FakeCuda) -> None:
        with Device() as device:
            gpu.fail("cuMemAlloc", result=CUresult.CUDA_ERROR_OUT_OF_MEMORY)
            with pytest.raises(InferenceError) as caught:
                device.buffer(1 << 40)
        assert str(caught.value) == (
            "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (make-believe cuda_error_out_of_memory)."
        )

    def test_a_gpu_that_fails_while_it_works(self, gpu: FakeCuda) -> None:
        device = Device()
        array, buffer, stream = device.pinned(16, np.uint8), device.buffer(16), device.stream()
        stream.upload(buffer, array)
        buffer.close()
        with pytest.raises(InferenceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            stream.synchronize()
        device.close()
        assert gpu.live == {}

    def test_a_capture_that_breaks_leaves_the_stream_usable(self, gpu: FakeCuda) -> None:
        with Device() as device:
            stream = device.stream()
            with pytest.raises(InferenceError, match="STREAM_CAPTURE_UNSUPPORTED"):
                stream.capture(stream.synchronize)
            with pytest.raises(ZeroDivisionError):
                stream.capture(lambda: 1 // 0)  # type: ignore[arg-type]
            stream.synchronize()
            everything(device)
        assert gpu.live == {}
        assert gpu.problems == []

    def test_a_kernel_that_does_not_compile_says_why(self, gpu: FakeCuda) -> None:
        with Device() as device:
            with pytest.raises(
                InferenceError, match=r'NVRTC_ERROR_COMPILATION\. line 1: error: expected a "__global__"'
            ):
                device.compile("int x = ;")
            module = device.module(device.compile(SOURCE))
            with pytest.raises(InferenceError, match="cuModuleGetFunction failed: CUDA_ERROR_NOT_FOUND"):
                module.kernel("nothing")
        assert gpu.live == {}


class TestMissing:
    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cuda", None)
        with pytest.raises(RuntimeUnavailableError, match=r"cuda-bindings cannot be imported.*vidmod\[tensorrt\]"):
            Device()
        assert device_count() == 0

    def test_without_the_driver(self, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
        """As cuda-bindings 12.9 and 13.5 say it where there is no libcuda.so.1."""

        def missing(*_: Any) -> None:
            raise RuntimeError('"cuda" is an NVIDIA driver library and can only be found via system search.\nMore.')

        monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuInit", missing)
        with pytest.raises(RuntimeUnavailableError) as caught:
            Device()
        assert "via system search). It needs an NVIDIA GPU" in str(caught.value)
        assert "580 or newer" in str(caught.value)
        assert device_count() == 0

    def test_without_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cuda.install(monkeypatch, FakeCuda(devices=0))
        with pytest.raises(RuntimeUnavailableError, match="CUDA_ERROR_NO_DEVICE"):
            Device()
        assert device_count() == 0

    def test_another_gpu_than_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = fake_cuda.install(monkeypatch, FakeCuda(devices=2))
        assert device_count() == 2
        with pytest.raises(RuntimeUnavailableError, match=r"no cuda:2 here: CUDA sees cuda:0, cuda:1\."):
            Device(2)
        assert gpu.live == {}

    @pytest.mark.parametrize(
        ("bindings", "version", "oldest"), [("13.5.0", 12090, 580), ("13.0.1", 11080, 580), ("12.9.10", 11080, 525)]
    )
    def test_a_driver_that_is_too_old(
        self, monkeypatch: pytest.MonkeyPatch, bindings: str, version: int, oldest: int
    ) -> None:
        fake_cuda.install(monkeypatch, FakeCuda(bindings=bindings, version=version))
        with pytest.raises(
            RuntimeUnavailableError, match=f"too old for CUDA {bindings[:2]}: install {oldest} or newer"
        ):
            Device()

    def test_bindings_12_on_a_new_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = fake_cuda.install(monkeypatch, FakeCuda(bindings="12.9.10", version=13000))
        with Device() as device:
            everything(device)
        assert gpu.live == {}

    def test_without_nvrtc(self, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: Any) -> None:
            raise RuntimeError('Failure finding "libnvrtc.so.13": No such file: libnvrtc.so.13\n')

        monkeypatch.setattr(sys.modules["cuda.bindings.nvrtc"], "nvrtcCreateProgram", missing)
        with Device() as device, pytest.raises(RuntimeUnavailableError, match=r"NVRTC.*libnvrtc.so.13.*pip install"):
            device.compile(SOURCE)
        assert gpu.live == {}

    def test_a_function_that_the_driver_lacks(self, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: Any) -> None:
            raise RuntimeError("Function cuEventCreate not found")

        monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuEventCreate", missing)
        with (
            Device() as device,
            pytest.raises(InferenceError, match="cuEventCreate failed: Function cuEventCreate not"),
        ):
            device.event()
