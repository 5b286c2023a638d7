"""The same pictures decoded by a GPU and by the CPU, from a clip that is drawn and coded on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidmod.errors import RuntimeUnavailableError
from vidmod.media.frame import Frame, Scaler
from vidmod.media.hardware import accelerator, is_built_in

_SIZE = (640, 368)
_PICTURES = 8


def pairs(gpu: int) -> Iterator[tuple[Frame, Frame]]:
    """Each picture as the GPU has decoded it, and as the CPU has.

    Raises:
        RuntimeUnavailableError: The GPU does not decode them, or not all.
    """
    if not is_built_in():
        raise RuntimeUnavailableError("This PyAV's FFmpeg cannot ask an NVIDIA GPU to decode.")
    packets, head = _coded()
    there, here = _decoded(packets, head, gpu), _decoded(packets, head, None)
    if len(here) != len(there):
        raise RuntimeUnavailableError(f"It has decoded {len(there)} of {len(here)} pictures.")
    for number, (one, other) in enumerate(zip(there, here, strict=True)):
        if one.sw_format is None:
            raise RuntimeUnavailableError("H.264 was not decoded on the GPU: its decoder cannot be opened.")
        scaler = Scaler()
        yield (
            Frame(number, number + 1, Fraction(1, 25), one, scaler),
            Frame(number, number + 1, Fraction(1, 25), other, scaler),
        )


def _coded() -> tuple[list[Packet[Any]], bytes]:
    """A short H.264 clip: slopes and noise that move, with B pictures."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = *_SIZE, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"preset": "ultrafast", "crf": "12", "bf": "2", "threads": "1"}
    packets: list[Packet[Any]] = []
    for number in range(_PICTURES):
        frame = VideoFrame.from_ndarray(_drawn(number), "rgb24").reformat(format="yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    return [*packets, *encoder.encode(None)], bytes(encoder.extradata or b"")


def _drawn(number: int) -> NDArray[np.uint8]:
    width, height = _SIZE
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 255 / width, y * 255 / height, (x + y + 16 * number) % 256], axis=-1)
    noise = np.random.default_rng(number).integers(-24, 25, (height // 8, width // 8, 3))
    drawn: NDArray[np.uint8] = np.clip(slopes + np.kron(noise, np.ones((8, 8, 1))), 0, 255).astype(np.uint8)
    return drawn


def _decoded(packets: list[Packet[Any]], head: bytes, gpu: int | None) -> list[VideoFrame]:
    try:
        decoder = av.CodecContext.create("h264", "r", hwaccel=None if gpu is None else accelerator(gpu))
        decoder.extradata = head
        found = [frame for packet in packets for frame in decoder.decode(packet)]
        return cast("list[VideoFrame]", [*found, *decoder.decode(None)])
    except FFmpegError as exc:
        raise RuntimeUnavailableError(
            f"FFmpeg cannot decode H.264 there ({exc.strerror}). Are libcuda.so.1 and libnvcuvid.so.1 here?"
        ) from exc
