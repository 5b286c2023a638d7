"""Small media made by recipe: every picture carries its own number, so tests can tell which one came out.

A number is eight black or white blocks, two rows of four, that any codec at any size keeps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

RATE = 25
SIZE = (64, 48)
_COLUMNS, _ROWS = 4, 2
SAMPLE_RATE = 48_000


def pixels(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """H×W×3 picture of a number, modulo 256."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8).reshape(_ROWS, _COLUMNS)
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    gray = np.where(bits[rows][:, columns], 235, 20).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def number_of(gray: NDArray[Any]) -> int:
    """The number in an H×W picture."""
    height, width = gray.shape
    bits = [
        gray[int((row + 0.5) * height / _ROWS), int((column + 0.5) * width / _COLUMNS)] > 127
        for row in range(_ROWS)
        for column in range(_COLUMNS)
    ]
    return sum(int(bit) << place for place, bit in enumerate(bits))


def number_in(picture: VideoFrame) -> int:
    """The number that a decoded picture carries, as stored, whatever its size and format."""
    return number_of(picture.to_ndarray(format="gray"))


def picture(number: int, size: tuple[int, int] = SIZE, pixel_format: str = "yuv420p") -> VideoFrame:
    """A frame to encode."""
    frame = VideoFrame.from_ndarray(pixels(number, *size), "rgb24")
    return frame if pixel_format == "rgb24" else frame.reformat(format=pixel_format)


@dataclass(frozen=True)
class Video:
    """One picture stream: what is in it and how it is encoded.

    Attributes:
        first: Number of the first picture; the others count up.
        times: When each picture is shown, in 1/25 s; None for one after the other.
        setup: Called with the new stream, for what is not worth a field.
        patch: Called with every packet and its place in the file before it is written; False drops it.
    """

    codec: str = "libx264"
    count: int = 20
    size: tuple[int, int] = SIZE
    pixel_format: str = "yuv420p"
    gop: int = 10
    b_frames: int = 0
    first: int = 0
    times: Sequence[int] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    setup: Callable[[VideoStream], object] | None = None
    patch: Callable[[Packet[Any], int], bool | None] | None = None
    frames: Callable[[int], VideoFrame] | None = None


_OPTIONS = {
    "libx264": {"preset": "veryfast", "x264-params": "scenecut=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0:pools=1:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "11", "svtav1-params": "lp=1"},
}


def _add_video(output: OutputContainer, video: Video) -> VideoStream:
    stream = cast("VideoStream", output.add_stream(video.codec, rate=RATE))
    stream.width, stream.height = video.size
    stream.pix_fmt = video.pixel_format
    context = stream.codec_context
    context.gop_size = video.gop
    context.max_b_frames = video.b_frames
    context.thread_count = 1
    stream.options = {**_OPTIONS.get(video.codec, {}), **video.options}
    if video.setup is not None:
        video.setup(stream)
    return stream


def _packets(stream: VideoStream, video: Video) -> Iterator[Packet[Any]]:
    """Encode; packets in decoding order."""
    for index in range(video.count):
        number = video.first + index
        frame = picture(number, video.size, video.pixel_format) if video.frames is None else video.frames(number)
        frame.pts = index if video.times is None else video.times[index]
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _add_audio(output: OutputContainer, codec: str = "aac") -> AudioStream:
    return cast("AudioStream", output.add_stream(codec, rate=SAMPLE_RATE))


def _silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(-(-int(seconds * SAMPLE_RATE) // 1024) * 1024, np.float32)


def _sound(stream: AudioStream, samples: NDArray[np.float32]) -> Iterator[Packet[Any]]:
    for start in range(0, len(samples), 1024):
        frame = AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        yield from stream.encode(frame)
    yield from stream.encode(None)


def make(
    path: Path,
    *videos: Video,
    sound_seconds: float = 0,
    sound_first: bool = False,
    samples: NDArray[np.float32] | None = None,
    sound_codec: str = "aac",
    sound_options: Mapping[str, str] | None = None,
    container: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write the streams one after the other into a file of the suffix's format, and return its path.

    The sound is `sound_seconds` of silence, or `samples` at 48 kHz.
    """
    heard = _silence(sound_seconds) if samples is None else samples
    with av.open(str(path), "w", format=container, options=dict(options or {})) as output:
        sounds = [_add_audio(output, sound_codec)] if len(heard) and sound_first else []
        streams = [_add_video(output, video) for video in videos or (Video(),)]
        sounds += [_add_audio(output, sound_codec)] if len(heard) and not sound_first else []
        for sound in sounds:
            sound.options = dict(sound_options or {})
        for stream, video in zip(streams, videos or (Video(),), strict=True):
            for place, packet in enumerate(_packets(stream, video)):
                if video.patch is None or video.patch(packet, place) is not False:
                    output.mux(packet)
        for sound in sounds:
            output.mux(list(_sound(sound, heard)))
    return path


def make_sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        output.mux(list(_sound(_add_audio(output, "pcm_s16le"), _silence(0.2))))
    return path


def make_with_cover(path: Path) -> Path:
    """An MP4 whose cover art is a picture stream."""
    make(path, Video(), Video("png", count=1, first=200, pixel_format="rgb24", setup=_mark_as_cover))
    return path


def _mark_as_cover(stream: VideoStream) -> None:
    stream.disposition = av.stream.Disposition.attached_pic


def places(path: Path, stream: int = 0) -> list[tuple[int, int]]:
    """Position and size of every packet of an MP4, in decoding order."""
    with av.open(str(path)) as container:
        return [(packet.pos or 0, packet.size) for packet in container.demux(container.streams[stream]) if packet.size]


def patch_bytes(path: Path, *patches: tuple[int, bytes]) -> Path:
    """Overwrite bytes at positions."""
    data = bytearray(path.read_bytes())
    for position, new in patches:
        data[position : position + len(new)] = new
    path.write_bytes(data)
    return path


def zero_packets(path: Path, packets: Iterable[int]) -> Path:
    """Overwrite what follows the first four bytes (the length of a unit) of an MP4's packets."""
    found = places(path)
    return patch_bytes(path, *((found[n][0] + 4, bytes(max(0, found[n][1] - 4))) for n in packets))


def scramble_packets(path: Path, packets: Iterable[int]) -> Path:
    """Flip some bits of an MP4's packets."""
    found, data = places(path), bytearray(path.read_bytes())
    for n in packets:
        generator = np.random.default_rng(n)
        position, size = found[n]
        for _ in range(max(1, size // 8)):
            data[position + min(4, size - 1) + int(generator.integers(max(1, size - 4)))] ^= 1 << int(
                generator.integers(8)
            )
    path.write_bytes(data)
    return path


def box(path: Path, name: bytes, number: int = 0) -> int:
    """Where an MP4 box's content begins, after its name."""
    position = -1
    for _ in range(number + 1):
        position = path.read_bytes().index(name, position + 1)
    return position + 4


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write an MP4's display matrix; the four are -1, 0 or 1, or raw 16.16 values."""
    raw = [value << 16 if -2 < value < 2 else value for value in (a, b, c, d)]
    matrix = struct.pack(">9i", raw[0], raw[1], 0, raw[2], raw[3], 0, 0, 0, 1 << 30)
    return patch_bytes(path, (box(path, b"tkhd") + 40, matrix))


def set_edit(path: Path, milliseconds: int, media_time: int) -> Path:
    """Show only so much of an MP4's only track, from a time in its time base on."""
    return patch_bytes(path, (box(path, b"elst") + 8, struct.pack(">Ii", milliseconds, media_time)))


def cut(path: Path, size: int) -> Path:
    """Keep the first bytes of a file; a negative number leaves off the last ones."""
    path.write_bytes(path.read_bytes()[:size])
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
