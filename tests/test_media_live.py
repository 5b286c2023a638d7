"""Decoding what comes from a network, packet by packet."""

from __future__ import annotations

import ctypes
import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from vidmod.media.live import PictureDecoder
from vidmod.media.packets import packet_of

RATE, SIZE, COUNT = 25, (320, 240), 60


@pytest.mark.parametrize("length", [1, 7, 1000, 70_000])
def test_a_packet_is_followed_by_zeros(length: int) -> None:
    data = np.random.default_rng(length).integers(1, 255, length, np.uint8).tobytes()
    for _ in range(20):
        packet = packet_of(data)
        assert bytes(packet) == data
        place = np.frombuffer(memoryview(packet), np.uint8).ctypes.data
        assert ctypes.string_at(place + length, 64) == bytes(64)


def test_nothing_is_a_packet_of_nothing() -> None:
    assert packet_of(b"").size == 0


def film(codec: str, options: dict[str, str]) -> io.BytesIO:
    """A transport stream of something that moves, over noise."""
    target = io.BytesIO()
    noise = np.random.default_rng(1).integers(60, 190, (SIZE[1] * 3 // 2, SIZE[0]), np.uint8)
    with av.open(target, "w", format="mpegts") as output:
        stream: Any = output.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", 400_000
        stream.codec_context.gop_size = 20
        for number in range(COUNT):
            plane = noise.copy()
            plane[40 : 40 + SIZE[1] // 3, 3 * number : 3 * number + 80] = 235
            frame = av.VideoFrame.from_ndarray(plane, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    target.seek(0)
    return target


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "0"}),
        ("libx264", {"bf": "3"}),
        ("libx265", {"bf": "3", "x265-params": "log-level=error"}),
        ("mpeg2video", {"bf": "0"}),
        ("mpeg2video", {"bf": "2"}),
        ("mpeg4", {"bf": "0"}),
        ("mpeg4", {"bf": "2"}),
    ],
)
def test_pictures_come_whole_and_in_the_order_in_which_they_are_shown(codec: str, options: dict[str, str]) -> None:
    times = []
    with av.open(film(codec, options), "r") as source:
        stream = source.streams.video[0]
        context = stream.codec_context
        base = stream.time_base or Fraction(1, 90_000)
        decoder = PictureDecoder(context.codec.name, bytes(context.extradata or b""), base, max_pixels=1 << 20)
        for packet in source.demux(stream):
            if packet.size:
                # As it comes through a wire, among other things in memory.
                times += [frame.pts for frame in decoder.decode(bytes(packet), packet.pts, packet.dts)]
    assert len(times) >= COUNT - 4
    assert np.diff([float(time * base) for time in times]) == pytest.approx(1 / RATE, abs=1e-3)
