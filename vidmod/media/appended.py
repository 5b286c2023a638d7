"""A second file behind, or inside, the one that is read.

Demuxers stop where the first file ends, or never look outside of it; other players show the second.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_SIGNATURES = {
    "MP4": (
        b"ftypisom",
        b"ftypiso",
        b"ftypmp4",
        b"ftypavc1",
        b"ftypqt  ",
        b"ftypM4V",
        b"ftypMSNV",
        b"ftyp3gp",
        b"ftypdash",
    ),
    "Matroska": (b"\x42\x82\x88matroska", b"\x42\x82\x84webm"),
    "FLV": tuple(b"FLV\x01" + bytes([flags]) + b"\0\0\0\x09" for flags in (0, 1, 4, 5)),
    "NUT": (b"nut/multimedia container\0",),
    "AVI": (b"AVI LIST",),
    "ASF": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",),
}
# Formats whose end FFmpeg does not hold the file to; they are rare or small, so all of the file is searched.
_SEARCHED = ("gif", "png", "apng", "flv", "nut", "jpeg", "webp", "bmp", "tiff")
_CHUNK_BYTES = 1 << 22
_OVERLAP_BYTES = 64
# Nothing begins so early but the file itself.
_HEAD_BYTES = 64
_MAX_BOXES = 1_000_000


def appended_files(descriptor: int, format_name: str, alive: Callable[[], None]) -> list[str]:
    """In words, each further file that there seems to be.

    Args:
        descriptor: The file; its position is left where it is.
        format_name: FFmpeg's name of what is read.
        alive: Called now and then: a large file takes its time.
    """
    if format_name.startswith("mov"):
        return _behind_boxes(descriptor, alive)
    if format_name.removesuffix("_pipe").startswith(_SEARCHED):
        return _searched(descriptor, _HEAD_BYTES, alive)
    return []


def _searched(descriptor: int, start: int, alive: Callable[[], None]) -> list[str]:
    found: dict[str, int] = {}
    position = start
    while len(data := os.pread(descriptor, _CHUNK_BYTES + _OVERLAP_BYTES, position)) > 0:
        for name, signatures in _SIGNATURES.items():
            places = [place for signature in signatures if (place := data.find(signature)) >= 0]
            if places:
                found.setdefault(name, position + min(places))
        position += _CHUNK_BYTES
        alive()
    return [f"another file ({name}) seems to begin near byte {place}" for name, place in found.items()]


def _behind_boxes(descriptor: int, alive: Callable[[], None]) -> list[str]:
    """Walk the boxes of an MP4 (ISO/IEC 14496-12, 4.2): a second header, or what is no box any more."""
    size = os.fstat(descriptor).st_size
    position, kinds = 0, set()
    for _ in range(_MAX_BOXES):
        head = os.pread(descriptor, 16, position)
        if len(head) < 8:
            return []
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - position
        if kind in (b"ftyp", b"moov") and kind in kinds:
            return [f"another file (MP4) begins at byte {position}"]
        if length < 8 or not kind.isascii():
            return _searched(descriptor, position, alive)
        kinds.add(kind)
        position += length
        if position >= size:
            return []
    return ["it has more boxes than can be looked through"]
