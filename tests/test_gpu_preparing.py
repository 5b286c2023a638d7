"""Decoding and preparing on a GPU, over a make-believe one whose kernels are the real ones, compiled for the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame

from tests.nvidia import fake_cuda, host_kernels
from tests.nvidia.fake_cuda import FakeCuda
from tests.nvidia.host_kernels import HostKernels
from tests.nvidia.pictures import frame_of, layout_of, noise, stored
from vidmod import reading
from vidmod.errors import InferenceError, RuntimeUnavailableError
from vidmod.media import Part, hardware_trial
from vidmod.media.frame import Frame, GpuPicture
from vidmod.media.hardware import GpuPlane
from vidmod.messages import (
    GpuSettings,
    LookDone,
    LookTask,
    ProbeTask,
    ReadingSettings,
    ReplyType,
    Seen,
    TrialTask,
    Tried,
    decode,
    encode,
)
from vidmod.models import find
from vidmod.models.cuda import trial
from vidmod.models.cuda.driver import Device
from vidmod.models.cuda.preparing import GpuPreparer, kernels_for
from vidmod.models.preprocessing import prepare

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "demo.mp4"
PREPARATIONS = [find(name).preparation for name in ("open_nsfw", "nudenet")]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    if not host_kernels.available():
        pytest.skip(f"{host_kernels.COMPILER} is not on this machine: the kernels cannot be compiled for the CPU")
    return host_kernels.build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, kernels: HostKernels) -> FakeCuda:
    return fake_cuda.install(monkeypatch, FakeCuda(kernels=kernels))


class Decoder:
    """Leaves pictures in the GPU's memory, on a stream of its own and with nobody waiting for it, as NVDEC does."""

    def __init__(self) -> None:
        self._device = Device(0)
        self._stream = self._device.stream()

    def keep(self, picture: VideoFrame) -> GpuPicture:
        layout, planes = layout_of(picture), []
        for samples in stored(picture):
            lines = np.ascontiguousarray(samples).reshape(len(samples), -1).view(np.uint8)
            pinned = self._device.pinned(lines.shape, "uint8")
            pinned[:] = lines
            buffer = self._device.buffer(lines.nbytes)
            self._stream.upload(buffer, pinned)
            planes.append(GpuPlane(buffer.address, lines.shape[1], buffer))
        shape = (layout.width, layout.height, layout.sample_bytes, layout.matrix, layout.full_range)
        return GpuPicture(tuple(planes), *shape, layout.interlaced, layout.orientation)

    def close(self) -> None:
        self._device.close()


@pytest.fixture
def decoder(gpu: FakeCuda) -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()
    assert gpu.live == {}
    assert gpu.problems == []


def same(preparer: GpuPreparer, decoder: Decoder, picture: VideoFrame) -> None:
    """The images are those that the CPU makes, to the bit, and so is the way back from them.

    Pictures that no decoder made do not say where their chroma lies; swscale takes it as JPEG has it.
    """
    for found, preparation in zip(preparer.prepare(decoder.keep(picture), "mjpeg"), PREPARATIONS, strict=True):
        wanted = prepare(frame_of(picture), preparation)
        assert np.array_equal(found.image, wanted.image)
        assert found.geometry == wanted.geometry


def test_a_picture_that_is_still_being_decoded_is_waited_for(gpu: FakeCuda, decoder: Decoder) -> None:
    with GpuPreparer(0, kernels_for(0), PREPARATIONS) as preparer:
        for size in ((640, 360), (360, 640), (1280, 720)):
            same(preparer, decoder, noise(*size))
        same(preparer, decoder, noise(320, 240, "yuv420p10le"))


def test_pictures_of_many_sizes_take_no_more_memory(gpu: FakeCuda, decoder: Decoder) -> None:
    with GpuPreparer(0, kernels_for(0), PREPARATIONS) as preparer:
        counts = []
        for number in range(12):
            same(preparer, decoder, noise(64 + 2 * number, 48))
            counts.append((gpu.live["buffers"] - 2 * (number + 1), gpu.live["pinned"] - 2 * (number + 1)))
    assert len(set(counts[4:])) == 1


def test_whatever_fails_nothing_stays_on_the_gpu(gpu: FakeCuda, decoder: Decoder) -> None:
    picture, code = decoder.keep(noise(64, 48)), kernels_for(0)
    before = gpu.live

    def prepared() -> None:
        with GpuPreparer(0, code, PREPARATIONS) as preparer:
            preparer.prepare(picture, "mjpeg")

    start = len(gpu.calls)
    prepared()
    failed = 0
    for number, name in enumerate(gpu.calls[start:]):
        gpu.fail_at(number)
        try:
            prepared()
        except (InferenceError, RuntimeUnavailableError):
            failed += 1
        gpu.fail_at(None)
        assert gpu.live == before, (number, name)
    # What fails while things are freed has no consequence.
    assert failed > 30


def on_the_gpu(monkeypatch: pytest.MonkeyPatch, decoder: Decoder) -> None:
    """Have every picture that is decoded from now on be kept by the GPU."""
    monkeypatch.setattr(GpuPicture, "of", lambda picture: decoder.keep(picture))
    monkeypatch.setattr(Frame, "is_on_gpu", property(lambda _: True))


class Pair:
    """Both ends of a worker's link, in one process: what is asked is given at once, what is said is kept."""

    def __init__(self, source: int, *tasks: Any) -> None:
        self.source = source
        self.tasks = [encode(task) for task in tasks]
        self.said: list[Any] = []
        self.images: list[bytes] = []
        self._slot = bytearray(sum(preparation.image_bytes for preparation in PREPARATIONS))

    def receive(self) -> Any:
        return self.tasks.pop(0) if self.tasks else None

    def send(self, payload: Any) -> None:
        reply = decode(payload, ReplyType)
        self.said.append(reply)
        if isinstance(reply, Seen):
            self.images.append(bytes(self._slot))

    def acquire(self) -> tuple[int, memoryview]:
        return 0, memoryview(self._slot)


def served(gpu: GpuSettings | None, *tasks: Any) -> Pair:
    settings = ReadingSettings(name="demo.mp4", max_pixels=1 << 20, max_streams=10, preparations=PREPARATIONS, gpu=gpu)
    source = os.open(SAMPLE, os.O_RDONLY)
    try:
        pair = Pair(source, *tasks)
        reading.serve(pair, encode(settings))  # type: ignore[arg-type]
        return pair
    finally:
        os.close(source)


def test_a_worker_that_decodes_on_a_gpu_gives_what_one_on_the_cpu_gives(
    gpu: FakeCuda, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = served(None, ProbeTask()).said[0].facts.tracks[0]
    whole = Part(number=0, first=0, count=-1, last=True, sound=False)
    look = LookTask(track=track, part=whole, wanted=None, mode="uniform", interval=Fraction(1) / track.time_base)
    here = served(None, look)
    on_the_gpu(monkeypatch, decoder)
    there = served(GpuSettings(number=0, kernels=kernels_for(0)), look)
    assert len(there.images) > 20
    assert there.images == here.images
    seen = [reply for reply in there.said if isinstance(reply, Seen)]
    assert all(reply.on_gpu for reply in seen)
    assert isinstance(there.said[-1], LookDone)


def test_the_trial_compares_what_both_have_decoded(
    gpu: FakeCuda, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets, head = hardware_trial._coded()
    pictures = hardware_trial._decoded(packets, head, None)
    frames = [frame_of(picture) for picture in pictures]
    monkeypatch.setattr(trial, "pairs", lambda number: zip(frames, frames, strict=True))
    on_the_gpu(monkeypatch, decoder)
    settings = GpuSettings(number=0, kernels=kernels_for(0))
    assert served(settings, TrialTask()).said == [Tried(mean=0.0, most=0.0)]
    # Another picture instead of each.
    turned = [*frames[1:], frames[0]]
    monkeypatch.setattr(trial, "pairs", lambda number: zip(frames, turned, strict=True))
    (apart,) = served(settings, TrialTask()).said
    assert apart.mean > 1
    assert apart.most > 10
