"""What the suffix of an output's name promises, and what it is refused for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidmod.errors import UsageError

# What is written, as FFmpeg's muxers and `vidmod.media.still` name it: what it is called, and its suffixes, the usual
# one first.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mp4": ("MP4", (".mp4", ".m4v")),
    "mov": ("QuickTime", (".mov", ".qt")),
    "3gp": ("3GP", (".3gp",)),
    "3g2": ("3G2", (".3g2",)),
    "matroska": ("Matroska", (".mkv",)),
    "webm": ("WebM", (".webm",)),
    "mpegts": ("MPEG-TS", (".ts", ".mts", ".m2ts", ".m2t")),
    "jpeg": ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    "png": ("PNG", (".png",)),
    "apng": ("animated PNG", (".png", ".apng")),
    "webp": ("WebP", (".webp",)),
    "bmp": ("BMP", (".bmp", ".dib")),
    "tiff": ("TIFF", (".tif", ".tiff")),
    "gif": ("GIF", (".gif",)),
    "avif": ("AVIF", (".avif",)),
}
# What is read but never written.
_OTHERS = frozenset(
    f".{name}"
    for names in (
        (
            "avi",
            "flv",
            "f4v",
            "wmv",
            "asf",
            "mpg",
            "mpeg",
            "vob",
            "ogv",
            "ogg",
            "ogm",
            "mxf",
            "rm",
            "rmvb",
            "dv",
            "ivf",
        ),
        ("wtv", "nut", "y4m", "h264", "264", "hevc", "265", "mp3", "m4a", "aac", "wav", "flac", "opus"),
        ("heic", "heif", "hif", "jxl", "jp2", "j2k", "ico", "psd", "svg", "dng", "nef", "cr2", "pdf"),
        ("srt", "json", "txt", "html"),
    )
    for name in names
)
_KNOWN = _OTHERS.union(*(suffixes for _, suffixes in FORMATS.values()))


# Formats whose files go by each other's names, and play so.
_FAMILIES = (("mp4", "mov", "3gp", "3g2"), ("matroska", "webm"))


def format_for(output: Path, names: Sequence[str], source: Path) -> str:
    """Which of the formats that a source can be written as the output's name asks for.

    Args:
        output: What is to be written.
        names: Of formats, the one to write by default first; empty if there is none.
        source: A QuickTime file that goes by .mp4 may go on so, and a Matroska that goes by .webm.

    Returns:
        The one with the output's suffix; the first for a suffix that says nothing.

    Raises:
        UsageError: The suffix is that of another format, or says nothing and there is no format by default.
    """
    suffix = output.suffix.lower()
    for name in names:
        if suffix in FORMATS.get(name, ("", ()))[1]:
            return name
    if names and names[0] and suffix not in _KNOWN:
        return names[0]
    if (
        names
        and suffix == source.suffix.lower()
        and any(names[0] in family and suffix in _all(family) for family in _FAMILIES)
    ):
        return names[0]
    rows = [FORMATS[name] for name in names if name in FORMATS]
    others = " or ".join(f"{suffixes[0]} ({called})" for called, suffixes in rows)
    raise UsageError(f"{output}: the source is written as another format than that. Name an output with {others}.")


def _all(names: Sequence[str]) -> list[str]:
    return [suffix for name in names for suffix in FORMATS[name][1]]
