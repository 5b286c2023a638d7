"""Decoding what comes from a network, and encoding what leaves, picture by picture."""

from __future__ import annotations

import ctypes
import gc
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidmod.media.frame import UPRIGHT, orientation_of
from vidmod.media.live import UNSAID_COLOURS, PictureDecoder, PictureEncoder, Shape
from vidmod.media.muxer import display_matrix
from vidmod.media.network import NetworkReader, NetworkWriter
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


WIDE, PQ = Fraction(64, 45), (9, 16, 9)


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
def test_what_leaves_says_how_it_is_to_be_shown(suffix: str, tmp_path: Path) -> None:
    shape = Shape.like((96, 64), Fraction(RATE), aspect=WIDE, colours=PQ)
    encoder = PictureEncoder(shape)
    path = tmp_path / f"out.{suffix}"
    with NetworkWriter(str(path), shape, None) as writer:
        for number in range(30):
            for item in encoder.cover(number * 3600):
                writer.write(item.data, item.pts, is_sound=False, key=item.key)
    with av.open(str(path), "r") as source:
        frame = next(source.decode(video=0))
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == PQ
        assert source.streams.video[0].codec_context.sample_aspect_ratio == WIDE
    with NetworkReader(str(path)) as reader:
        assert (reader.facts.aspect, reader.facts.colours) == (WIDE, PQ)


@pytest.mark.parametrize(
    ("aspect", "colours"),
    [
        (Fraction(1000), (0, 0, 0)),
        (Fraction(-1), (3, 3, 3)),
        (Fraction(1, 1000), (1 << 30, -1, 255)),
        (Fraction(0), (99, 99, 8)),
    ],
)
def test_what_makes_no_sense_is_not_said(aspect: Fraction, colours: tuple[int, int, int]) -> None:
    shape = Shape.like(SIZE, Fraction(RATE), aspect=aspect, colours=colours)
    assert (shape.aspect, shape.colours) == (Fraction(1), UNSAID_COLOURS)
    PictureEncoder(shape)


def test_covers_and_pictures_of_two_encoders_are_one_stream() -> None:
    shape = Shape.like(SIZE, Fraction(RATE), aspect=WIDE, colours=(1, 1, 1))
    first, second = PictureEncoder(shape), PictureEncoder(shape, hurried=True)
    assert (
        first.parameter_sets == second.parameter_sets != PictureEncoder(Shape.like(SIZE, Fraction(RATE))).parameter_sets
    )


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("is_full", [False, True])
def test_what_leaves_is_in_limited_range(pixels: str, is_full: bool) -> None:
    is_full = is_full or pixels == "yuvj420p"
    frame = av.VideoFrame.from_ndarray(np.full((*SIZE[::-1], 3), 128, np.uint8), "rgb24").reformat(
        format=pixels, dst_color_range="JPEG" if is_full else "MPEG"
    )
    frame.color_range = 2 if is_full else 1
    encoder = PictureEncoder(Shape.like(SIZE, Fraction(RATE), 4_000_000))
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = encoder.parameter_sets
    pictures = []
    for packet in [packet_of(item.data) for item in encoder.picture(frame, (), 0)] + [None]:
        pictures += decoder.decode(packet)
    (shown,) = pictures
    assert shown.color_range != 2
    luma = shown.to_ndarray()[: SIZE[1]]
    assert luma.mean() == pytest.approx(16 + 128 / 255 * 219, abs=2)


def test_no_frame_waits_for_a_full_collection() -> None:
    """With each, all of its pixels would."""

    def count() -> int:
        return sum(isinstance(item, av.VideoFrame) for item in gc.get_objects())

    shape = Shape.like(SIZE, Fraction(RATE))
    gc.collect()
    gc.disable()
    try:
        before = count()
        for _ in range(5):
            encoder = PictureEncoder(shape)
            frame = av.VideoFrame(*SIZE, "yuv420p")
            assert orientation_of(frame) == UPRIGHT
            assert display_matrix(frame) is None
            encoder.picture(frame, ((10.0, 10.0, 60.0, 60.0),), 0)
            encoder.cover(3600)
            del encoder, frame
        assert count() == before
    finally:
        gc.enable()
