"""What this FFmpeg can read and write."""

from __future__ import annotations

from typing import Literal

import av
from av.codec import codecs_available

_DECODERS = ("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg2video", "mpeg4", "h263", "prores", "mjpeg", "png")
_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "h264_nvenc", "hevc_nvenc", "aac", "png", "mjpeg")


def decoders() -> list[str]:
    """The decoders present of those that video is usually in."""
    return _present(_DECODERS, "r")


def encoders() -> list[str]:
    """The encoders present of those that redaction can use; hardware ones may still not open."""
    return _present(_ENCODERS, "w")


def _present(names: tuple[str, ...], mode: Literal["r", "w"]) -> list[str]:
    found = []
    for name in names:
        if name in codecs_available:
            try:
                av.Codec(name, mode)
            except ValueError:
                continue
            found.append(name)
    return found


def ffmpeg_versions() -> str:
    """The versions of the libraries in use."""
    return ", ".join(
        f"{name} {'.'.join(str(part) for part in version)}"
        for name, version in av.library_versions.items()
        if name in ("libavcodec", "libavformat", "libswscale")
    )
