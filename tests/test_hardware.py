"""Decoding on an NVIDIA GPU, as far as it can be tried without one."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from av.codec.hwaccel import HWDeviceType, hwdevices_available
from av.video.frame import VideoFrame

from tests.nvidia import wheels
from vidmod.errors import RuntimeUnavailableError
from vidmod.media import Medium, hardware, hardware_trial
from vidmod.media.encoding import Look, NoEncoderError, nvenc_for
from vidmod.media.frame import Frame
from vidmod.media.reader import Reader
from vidmod.media.rewrite_job import Plan
from vidmod.media.rewriting import rewrite
from vidmod.media.source import open_container, probe

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "demo.mp4"
HAS_DRIVER = Path("/proc/driver/nvidia/version").exists()
without_driver = pytest.mark.skipif(HAS_DRIVER, reason="this machine has NVIDIA's driver")


def nv12(width: int = 64, height: int = 48) -> VideoFrame:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="nv12")


@pytest.mark.parametrize("width", [64, 50])
def test_a_plane_is_where_its_capsule_says(width: int) -> None:
    frame = nv12(width)
    for plane in frame.planes:
        found = hardware.plane_of(plane.__dlpack__(), plane.line_size)
        samples = ctypes.string_at(found.address, plane.buffer_size)
        assert (samples, found.line_size) == (bytes(plane), plane.line_size)


def test_a_plane_keeps_the_picture_it_is_of() -> None:
    frame = nv12()
    wanted = bytes(frame.planes[0])
    found = hardware.plane_of(frame.planes[0].__dlpack__(), frame.planes[0].line_size)
    del frame
    others = [nv12() for _ in range(8)]
    assert ctypes.string_at(found.address, len(wanted)) == wanted
    assert len(others) == 8


def test_a_picture_in_memory_is_not_on_a_gpu() -> None:
    frame = Frame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
    assert (frame.on_gpu, frame.is_on_gpu) == (None, False)
    assert hardware.planes_on_gpu(nv12()) == ()
    assert hardware.stored_format(nv12()) == "nv12"


def test_the_gpu_is_asked_for_by_its_number_and_keeps_the_pictures() -> None:
    asked = hardware.accelerator(1)
    assert (asked.device_id, asked.is_hw_owned) == (1, True)
    # FFmpeg's own context would not be the one that kernels work in.
    assert asked.options == {"primary_ctx": "1"}
    assert hardware.is_built_in() == ("cuda" in hwdevices_available())
    assert "cuda" in HWDeviceType.__members__


@without_driver
def test_what_a_gpu_does_not_decode_is_decoded_here() -> None:
    """The GPU may be full, or gone: the pictures are the same, and none says that it is on a GPU."""
    medium = Medium(str(SAMPLE))
    track = probe(medium).tracks[0]

    def first(source: Medium) -> tuple[int, bool, bytes]:
        with Reader(source, track) as reader:
            frame = next(reader.frames())
            return frame.pts, frame.is_on_gpu, frame.image(32, 32).tobytes()

    assert first(dataclasses.replace(medium, gpu=0)) == first(medium)
    assert first(medium)[1] is False


@without_driver
def test_the_trial_says_that_there_is_no_driver() -> None:
    with pytest.raises(RuntimeUnavailableError, match="libcuda"):
        list(hardware_trial.pairs(0))


def test_the_clip_of_the_trial_has_pictures_that_depend_on_others() -> None:
    packets, head = hardware_trial._coded()
    pictures = hardware_trial._decoded(packets, head, None)
    assert len(pictures) == 8
    assert [packet.is_keyframe for packet in packets].count(True) == 1
    # Not in the order in which they are shown: there are pictures between two that they are made of.
    assert [packet.pts for packet in packets] != sorted(packet.pts or 0 for packet in packets)
    means = [float(picture.to_ndarray(format="gray").mean()) for picture in pictures]
    assert len(set(means)) == 8


@without_driver
def test_where_nvenc_does_not_open_the_cpu_encodes_and_that_is_said(tmp_path: Path) -> None:
    medium = Medium(str(SAMPLE))
    plan = Plan(touched=(), full=True, gpu=0, preset="ultrafast")
    with (tmp_path / "out.mp4").open("w+b") as file:
        done = rewrite(medium, probe(medium).tracks[0], file, plan, lambda *_: None)
    assert (done.encoder, done.full, done.lost_pictures) == ("libx264", True, 0)
    assert done.reason is not None
    assert "h264_nvenc cannot be opened for it" in done.reason
    assert "the CPU has encoded it" in done.reason


def test_nvenc_is_asked_only_for_what_it_takes() -> None:
    with open_container(Medium(str(SAMPLE))) as container:
        look = Look.of(container.streams.video[0])
    assert nvenc_for(dataclasses.replace(look, profile="High")) == (
        "h264_nvenc",
        dataclasses.replace(look, profile=None),
    )
    for other, why in (
        ({"codec": "vp9"}, "no encoder for vp9"),
        ({"pixel_format": "yuv422p10le"}, "cannot encode yuv422p10le"),
        ({"interlaced": True}, "interlaced"),
    ):
        with pytest.raises(NoEncoderError, match=why):
            nvenc_for(dataclasses.replace(look, **other))


@without_driver
def test_an_enclosed_worker_opens_a_gpu_by_nvidias_own_package(tmp_path: Path) -> None:
    """Over a stand-in for the driver, which FFmpeg then finds to be none: so far the worker has come."""
    packages = wheels.unpacked("cuda-bindings==13.5.0", "cuda-pathfinder")
    libraries = wheels.cuda_libraries(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "vidmod", "scan", str(SAMPLE), "--decoder", "cuda", "--fresh"],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(map(str, (*packages, wheels.REPOSITORY))),
            "LD_LIBRARY_PATH": str(libraries),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2, result.stderr
    assert "cuda:0 cannot decode: FFmpeg cannot decode H.264 there" in result.stderr
    assert result.stderr.count("\n") == 1
