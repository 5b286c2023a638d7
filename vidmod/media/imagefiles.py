"""What the bytes of an image file say that its decoder does not: that it was cut off, and what else it holds.

FFmpeg's decoders of JPEG and GIF fill what is missing with grey and say nothing of it. Its TIFF decoder reads the first
picture alone, and gives a black one where it does not know the compression.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from vidmod.media.facts import Medium

# ITU-T T.81, table B.1: after 0xFF, a stuffed byte, a restart and a fill byte are part of the picture's data.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_LONE_MARKERS = (0x01, *range(0xD0, 0xD8))
_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B
# TIFF 6.0: where the data of a picture lies, in strips or tiles; pictures below a picture; and how long a value is.
_STRIPS, _TILES, _SUB_PICTURES, _COMPRESSION = (273, 279), (324, 325), 330, 259
# Those that FFmpeg decodes: none, CCITT, LZW, Deflate, PackBits.
_COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32773, 32946)
_TIFF_SIZES = {1: 1, 3: 2, 4: 4, 13: 4}
_MAX_PAGES, _MAX_VALUES = 10_000, 1_000_000
_NETSCAPE = b"\x21\xff\x0bNETSCAPE2.0\x03\x01"
_HEAD_BYTES = 1 << 16


def is_cut_off(medium: Medium, format_name: str) -> bool:
    """Whether an image ends before its picture does.

    Args:
        medium: The file; the descriptor's position is left where it is.
        format_name: FFmpeg's name of the demuxer; False for all but JPEG, GIF and TIFF, whose decoders do not tell.
    """
    check = {"jpeg_pipe": _jpeg_is_cut_off, "gif": _gif_is_cut_off, "gif_pipe": _gif_is_cut_off}.get(format_name)
    if check is not None:
        return check(_content(medium))
    return format_name == "tiff_pipe" and _tiff_is_cut_off(_content(medium))


def unseen_in_tiff(medium: Medium) -> list[str]:
    """In words, what of a TIFF is not decoded: pictures beside the first, and what FFmpeg cannot decompress."""
    pages = _tiff_pages(_content(medium))
    found = [f"{len(pages) - 1} further pictures of a TIFF"] if len(pages) > 1 else []
    if not is_known_tiff(medium):
        found.append("a TIFF's picture, whose compression is not decoded here")
    return found


def unseen_in_apng(medium: Medium) -> list[str]:
    """In words, the picture of an animated PNG that only viewers show that do not know animation."""
    for kind, _ in _png_chunks(_content(medium)):
        if kind == b"fcTL":
            break
        if kind == b"IDAT":
            return ["a picture that is no part of the PNG's animation"]
    return []


def is_known_tiff(medium: Medium) -> bool:
    """Whether FFmpeg decodes a TIFF's compression."""
    pages = _tiff_pages(_content(medium))
    return bool(pages) and all(kind in _COMPRESSIONS for kind in pages[0].get(_COMPRESSION, ()))


def is_animated_webp(medium: Medium) -> bool:
    """Whether a WebP says that it is one."""
    head = _content(medium, 32)
    return head[12:16] == b"VP8X" and bool(head[20:21]) and bool(head[20] & 2)


def gif_loops(medium: Medium) -> int:
    """How often an animated GIF is shown, as FFmpeg's muxer counts: 0 is for ever, -1 once."""
    head = _content(medium, _HEAD_BYTES)
    place = head.find(_NETSCAPE)
    data = head[place + len(_NETSCAPE) :][:2]
    return -1 if place < 0 or len(data) < 2 else int(struct.unpack("<H", data)[0])


def apng_plays(medium: Medium) -> int:
    """How often an animated PNG is shown; 0 is for ever."""
    head = _content(medium, _HEAD_BYTES)
    place = head.find(b"acTL")
    data = head[place + 8 : place + 12]
    return 1 if place < 0 or len(data) < 4 else min(int(struct.unpack(">I", data)[0]), 0xFFFF)


def _content(medium: Medium, size: int | None = None) -> bytes:
    """All of a file, or its first bytes."""
    if medium.descriptor is None:
        with Path(medium.name).open("rb") as file:
            return file.read() if size is None else file.read(size)
    rest = os.fstat(medium.descriptor).st_size if size is None else size
    parts: list[bytes] = []
    position = 0
    while rest > 0 and (part := os.pread(medium.descriptor, rest, position)):
        parts.append(part)
        position, rest = position + len(part), rest - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _jpeg_is_cut_off(data: bytes) -> bool:
    """Walk from marker to marker until the end of the first picture."""
    place = data.find(b"\xff\xd8") + 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.start() + 1], found.end()
        if marker == _EOI:
            return False
        if marker in _LONE_MARKERS or marker == _SOI:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        # Data that follows a scan's header has no length: the next marker ends it.
        place += max(2, length)
    return True


def _gif_is_cut_off(data: bytes) -> bool:
    return all(block != _GIF_TRAILER for block, _, _ in _gif_blocks(data))


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Every whole block: what introduces it, where its content begins, where the next one begins."""
    place = 13 + _gif_palette(data[10:11])
    while place < len(data):
        block, start = data[place], place + 1
        place = start
        if block == _GIF_EXTENSION:
            place += 1
        elif block == _GIF_IMAGE:
            place += 9 + _gif_palette(data[place + 8 : place + 9]) + 1
        else:
            if block == _GIF_TRAILER:
                yield block, start, start
            return
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
        if place > len(data):
            return
        yield block, start, place


def _gif_palette(flags: bytes) -> int:
    """Bytes of the palette that these flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _tiff_is_cut_off(data: bytes) -> bool:
    pages = _tiff_pages(data)
    if not pages:
        return True
    fields = pages[0]
    for offsets, counts in (_STRIPS, _TILES):
        places, sizes = fields.get(offsets, ()), fields.get(counts, ())
        if any(place + size > len(data) for place, size in zip(places, sizes, strict=False)):
            return True
    return False


def _tiff_pages(data: bytes) -> list[dict[int, tuple[int, ...]]]:
    """The fields that matter of every picture, as far as they can be read; of those below a picture, nothing."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return []
    pages: list[dict[int, tuple[int, ...]]] = []
    seen: set[int] = set()
    place = int(struct.unpack_from(order + "I", data, 4)[0])
    while place and place not in seen and len(pages) < _MAX_PAGES and place + 2 <= len(data):
        seen.add(place)
        count = int(struct.unpack_from(order + "H", data, place)[0])
        fields = dict(_tiff_fields(data, place + 2, count, order))
        pages += [fields, *({} for _ in fields.get(_SUB_PICTURES, ()))]
        place += 2 + 12 * count
        place = int(struct.unpack_from(order + "I", data, place)[0]) if place + 4 <= len(data) else 0
    return pages


def _tiff_fields(data: bytes, place: int, count: int, order: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    for at in range(place, min(place + 12 * count, len(data) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, at)
        size = _TIFF_SIZES.get(kind, 0)
        if tag not in (*_STRIPS, *_TILES, _SUB_PICTURES, _COMPRESSION) or not size or number > _MAX_VALUES:
            continue
        start = at + 8 if size * number <= 4 else int(struct.unpack_from(order + "I", data, at + 8)[0])
        if start + size * number <= len(data):
            letter = {1: "B", 2: "H", 4: "I"}[size]
            yield tag, struct.unpack_from(f"{order}{number}{letter}", data, start)


def attachments(medium: Medium, format_name: str) -> list[str]:
    """In words, what an image file holds beside its picture, as far as that can be told; each once, in order.

    Args:
        medium: The file; the descriptor's position is left where it is.
        format_name: FFmpeg's name of the demuxer.
    """
    walk = {
        "jpeg_pipe": _in_jpeg,
        "png_pipe": _in_png,
        "apng": _in_png,
        "webp_pipe": _in_webp,
        "gif": _in_gif,
        "gif_pipe": _in_gif,
        "tiff_pipe": _in_tiff,
    }.get(format_name)
    return [] if walk is None else list(dict.fromkeys(walk(_content(medium))))


_JPEG_SEGMENTS = (
    (0xE1, b"Exif\0", "EXIF"),
    (0xE1, b"http://ns.adobe.com/", "XMP"),
    (0xE2, b"ICC_PROFILE\0", "a colour profile (ICC)"),
    (0xE2, b"MPF\0", "a list of further pictures (MPF)"),
    (0xED, b"", "IPTC"),
    (0xFE, b"", "a comment"),
)
_JPEG_NEEDED = ((0xE0, b"JFIF"), (0xEE, b"Adobe"))


def _in_jpeg(data: bytes) -> Iterator[str]:
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.start() + 1], found.end()
        if marker == _EOI:
            yield from _behind(data, place)
            return
        if marker in _LONE_MARKERS or marker == _SOI:
            continue
        length = max(2, int.from_bytes(data[place : place + 2], "big"))
        head = data[place + 2 : place + 32]
        if (marker == 0xFE or 0xE0 <= marker <= 0xEF) and not any(
            marker == known and head.startswith(begins) for known, begins in _JPEG_NEEDED
        ):
            names = (name for known, begins, name in _JPEG_SEGMENTS if marker == known and head.startswith(begins))
            yield next(names, f"a segment of an application (APP{marker - 0xE0})")
        place += length


_PNG_CHUNKS = {
    b"eXIf": "EXIF",
    b"iCCP": "a colour profile (ICC)",
    b"tEXt": "text",
    b"zTXt": "text",
    b"iTXt": "text",
    b"tIME": "a date",
}


def _in_png(data: bytes) -> Iterator[str]:
    for kind, after in _png_chunks(data):
        if kind in _PNG_CHUNKS:
            yield _PNG_CHUNKS[kind]
        elif kind == b"IEND":
            yield from _behind(data, after)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """What each chunk is, and where the next one begins, up to the last."""
    place, kind = 8, b""
    while kind != b"IEND" and place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += 12 + length
        yield kind, place


_WEBP_CHUNKS = {b"EXIF": "EXIF", b"XMP ": "XMP", b"ICCP": "a colour profile (ICC)"}


def _in_webp(data: bytes) -> Iterator[str]:
    place, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while place + 8 <= min(end, len(data)):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind in _WEBP_CHUNKS:
            yield _WEBP_CHUNKS[kind]
        place += 8 + length + length % 2
    yield from _behind(data, end)


def _in_gif(data: bytes) -> Iterator[str]:
    for block, place, after in _gif_blocks(data):
        if block == _GIF_EXTENSION and data[place] == 0xFE:
            yield "a comment"
        elif block == _GIF_EXTENSION and data[place] == 0xFF and data[place + 2 : place + 13] != _NETSCAPE[3:14]:
            yield "XMP" if data[place + 2 : place + 10] == b"XMP Data" else "data of an application"
        elif block == _GIF_TRAILER:
            yield from _behind(data, after)


_TIFF_TAGS = {
    270: "text",
    271: "text",
    272: "text",
    285: "text",
    305: "text",
    306: "a date",
    315: "text",
    316: "text",
    700: "XMP",
    33432: "text",
    33723: "IPTC",
    34377: "data of an application",
    34665: "EXIF",
    34675: "a colour profile (ICC)",
    34853: "a place (GPS)",
}


def _in_tiff(data: bytes) -> Iterator[str]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return
    place = int(struct.unpack_from(order + "I", data, 4)[0])
    if place + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, place)
    for at in range(place + 2, min(place + 2 + 12 * count, len(data) - 1), 12):
        (tag,) = struct.unpack_from(order + "H", data, at)
        if tag in _TIFF_TAGS:
            yield _TIFF_TAGS[tag]


def _behind(data: bytes, end: int) -> Iterator[str]:
    """What follows the end of a picture, if it is more than padding."""
    if data[end:].strip(b"\0\r\n"):
        yield f"{len(data) - end} bytes behind the picture"
