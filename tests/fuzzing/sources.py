"""Whole files to begin with: a clip of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.containers import encoded
from tests.recipes import Video, make, make_with_cover, pixels, set_edit

# Larger files of VIDMOD_MEDIA make every job slow and no better.
_MAX_SOURCE_BYTES = 200_000


@dataclass(frozen=True)
class Source:
    """A whole file, and the suffix that it has by right."""

    name: str
    suffix: str
    data: bytes


_SMALL: dict[str, Any] = {"count": 12, "gop": 5}
_WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "h264": (".mp4", lambda path: make(path, Video(b_frames=2, **_SMALL), sound_seconds=0.4)),
    "h264-front": (".mp4", lambda path: make(path, Video(**_SMALL), options={"movflags": "faststart"})),
    "h264-parts": (".mp4", lambda path: make(
        path, Video(**_SMALL), options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})),
    "h264-edit": (".mp4", lambda path: set_edit(make(path, Video(b_frames=1, **_SMALL)), 300, 1024)),
    "two-tracks": (".mp4", lambda path: make(path, Video(**_SMALL), Video("mpeg4", count=8))),
    "cover": (".mp4", lambda path: make_with_cover(path)),
    "hevc": (".mp4", lambda path: make(path, Video("libx265", **_SMALL))),
    "av1": (".mp4", lambda path: make(path, Video("libsvtav1", count=8, size=(96, 64)))),
    "mpeg4": (".mp4", lambda path: make(path, Video("mpeg4", b_frames=1, **_SMALL))),
    "mjpeg": (".mov", lambda path: make(path, Video("mjpeg", count=10, pixel_format="yuvj420p"))),
    "prores": (".mov", lambda path: make(path, Video("prores_ks", count=6, pixel_format="yuv422p10le"))),
    "h264-mkv": (".mkv", lambda path: make(path, Video(b_frames=2, **_SMALL), sound_seconds=0.4)),
    "ffv1": (".mkv", lambda path: make(path, Video("ffv1", count=10))),
    "hevc-mkv": (".mkv", lambda path: make(path, Video("libx265", **_SMALL))),
    "vp8": (".webm", lambda path: make(path, Video("libvpx", **_SMALL))),
    "vp9": (".webm", lambda path: make(path, Video("libvpx-vp9", **_SMALL))),
    "ts": (".ts", lambda path: make(path, Video(b_frames=2, **_SMALL), sound_seconds=0.4)),
    "ts-hevc": (".ts", lambda path: make(path, Video("libx265", **_SMALL))),
    "ts-mpeg2": (".ts", lambda path: make(path, Video("mpeg2video", b_frames=1, **_SMALL))),
    "ts-two": (".ts", lambda path: make(path, Video(**_SMALL), Video("mpeg2video", **_SMALL))),
    "ps": (".mpg", lambda path: make(path, Video("mpeg2video", **_SMALL))),
    "avi": (".avi", lambda path: make(path, Video("mpeg4", **_SMALL), sound_seconds=0.4)),
    "avi-mjpeg": (".avi", lambda path: make(path, Video("mjpeg", count=10, pixel_format="yuvj420p"))),
    "flv": (".flv", lambda path: make(path, Video("flv1", **_SMALL), sound_seconds=0.4)),
    "flv-h264": (".flv", lambda path: make(path, Video(**_SMALL))),
    "wmv": (".wmv", lambda path: make(path, Video("wmv2", **_SMALL))),
    "mxf": (".mxf", lambda path: make(path, Video("mpeg2video", **_SMALL))),
    "nut": (".nut", lambda path: make(path, Video("mpeg4", **_SMALL))),
    "ivf": (".ivf", lambda path: make(path, Video("libvpx", **_SMALL))),
    "raw-h264": (".h264", lambda path: make(path, Video(b_frames=1, **_SMALL))),
    "raw-hevc": (".hevc", lambda path: make(path, Video("libx265", **_SMALL))),
    "y4m": (".y4m", lambda path: make(path, Video("wrapped_avframe", count=4), container="yuv4mpegpipe")),
    "gif": (".gif", lambda path: make(path, Video("gif", count=8, pixel_format="rgb8"))),
    "apng": (".apng", lambda path: make(path, Video("apng", count=6, pixel_format="rgb24"), container="apng")),
    **{
        f"still-{suffix}": (f".{suffix}", lambda path: path.write_bytes(encoded(path.suffix, pixels(9, 160, 120))))
        for suffix in ("jpg", "png", "webp", "bmp", "tiff")
    },
}  # fmt: skip


def write_sources(folder: Path) -> list[Source]:
    """Make a clip of every kind, and add the small ones of the folder that VIDMOD_MEDIA names."""
    found = []
    for name, (suffix, write) in _WRITERS.items():
        path = folder / (name + suffix)
        write(path)
        found.append(Source(name, suffix, path.read_bytes()))
        path.unlink()
    media = os.environ.get("VIDMOD_MEDIA")
    real = sorted(Path(media).rglob("*")) if media else []
    found += [
        Source(path.stem, path.suffix, path.read_bytes())
        for path in real
        if path.is_file() and path.suffix != ".md" and path.stat().st_size <= _MAX_SOURCE_BYTES
    ]
    return found
