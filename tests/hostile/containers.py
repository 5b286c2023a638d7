"""MP4, Matroska and MPEG-TS byte by byte: boxes, elements, packets."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.recipes import pixels

HALF = 1 << 31
WHOLE = (1 << 32) - 1


def atom(name: bytes, *content: bytes, size: int | None = None) -> bytes:
    """An MP4 box; `size` is what it claims, if not the truth."""
    data = b"".join(content)
    return struct.pack(">I", len(data) + 8 if size is None else size) + name + data


def full(name: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    """An MP4 box with version and flags."""
    return atom(name, struct.pack(">I", version << 24 | flags), *content)


def words(*values: int) -> bytes:
    """Numbers of 32 bits, big-endian; negative ones as they come."""
    return b"".join(struct.pack(">I", value & WHOLE) for value in values)


def element(number: int, *content: bytes, size: bytes | None = None) -> bytes:
    """An EBML element; `size` replaces the eight bytes of its length."""
    data = b"".join(content)
    length = struct.pack(">Q", 1 << 56 | len(data)) if size is None else size
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + length + data


def number(element_number: int, value: int, width: int = 8) -> bytes:
    """An EBML element that holds an unsigned number."""
    return element(element_number, value.to_bytes(width, "big"))


UNKNOWN = b"\x01\xff\xff\xff\xff\xff\xff\xff"

MATROSKA = element(0x1A45DFA3, number(0x4286, 1), number(0x42F7, 1), number(0x42F2, 4), number(0x42F3, 8),
                   element(0x4282, b"matroska"), number(0x4287, 4), number(0x4285, 2))  # fmt: skip


def mkv_info(*more: bytes) -> bytes:
    return element(0x1549A966, number(0x2AD7B1, 1_000_000), element(0x4D80, b"x"), element(0x5741, b"x"), *more)


def mkv_track(place: int, *more: bytes, codec: bytes = b"V_MJPEG") -> bytes:
    """A TrackEntry of a picture stream."""
    return element(0xAE, number(0xD7, place), number(0x73C5, place), number(0x83, 1), element(0x86, codec),
                   element(0xE0, number(0xB0, 64), number(0xBA, 48)), *more)  # fmt: skip


def mkv_block(place: int, time: int, data: bytes) -> bytes:
    """A SimpleBlock that is a key frame."""
    return element(0xA3, struct.pack(">HhB", 1 << 14 | place, time, 0x80), data)


def mkv(*parts: bytes, tracks: bytes | None = None, info: bytes | None = None) -> bytes:
    """A Matroska file of MJPEG: header, information, tracks, and what is given."""
    tracks = mkv_track(1) if tracks is None else tracks
    return MATROSKA + element(
        0x18538067, mkv_info() if info is None else info, element(0x1654AE6B, tracks), *parts, size=UNKNOWN
    )


def mkv_cluster(*blocks: bytes, time: int = 0) -> bytes:
    return element(0x1F43B675, number(0xE7, time), *blocks)


def jpeg(value: int = 5, size: tuple[int, int] = (64, 48)) -> bytes:
    return encoded(".jpg", pixels(value, *size))


def encoded(suffix: str, picture: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(suffix, picture)
    assert done
    return data.tobytes()


def mp4(sample: bytes = b"", *, tables: dict[bytes, bytes] | None = None, size: tuple[int, int] = (64, 48),
        codec: bytes = b"jpeg", config: bytes = b"", tracks: int = 1, before: bytes = b"", after: bytes = b"",
        edits: bytes = b"", timescale: int = 25, duration: int = 4) -> bytes:  # fmt: skip
    """A small MP4 of four JPEG pictures, in which any table of the index can be replaced.

    Args:
        sample: The picture; one of 64×48 if empty.
        tables: Name of a box of the sample table to its content after version and flags.
        before: Boxes in front of the tracks.
        after: Boxes after the movie's index.
        edits: The content of an edit list.
        duration: Of the media, in `timescale`.
    """
    sample = sample or jpeg()
    head = atom(b"ftyp", b"isom", words(512), b"isom")
    data = atom(b"mdat", sample)
    first = len(head) + 8
    entry = atom(codec, bytes(6), struct.pack(">H", 1), bytes(16), struct.pack(">HH", *size),
                 words(0x480000, 0x480000, 0), struct.pack(">H", 1), bytes(32), b"\0\x18\xff\xff", config)  # fmt: skip
    found = {
        b"stsd": words(1) + entry,
        b"stts": words(1, 4, 1),
        b"stsc": words(1, 1, 1, 1),
        b"stsz": words(len(sample), 4),
        b"stco": words(4, first, first, first, first),
        **(tables or {}),
    }
    table = atom(b"stbl", *(full(name, content) for name, content in found.items()))
    information = atom(b"minf", full(b"vmhd", bytes(8), flags=1),
                       atom(b"dinf", full(b"dref", words(1), full(b"url ", flags=1))), table)  # fmt: skip
    media = atom(b"mdia", full(b"mdhd", words(0, 0, timescale, duration), b"\x55\xc4\0\0"),
                 full(b"hdlr", words(0), b"vide", bytes(13)), information)  # fmt: skip
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    header = full(b"tkhd", words(0, 0, 1, 0, duration), bytes(16), matrix,
                  words(size[0] << 16, size[1] << 16), flags=3)  # fmt: skip
    edited = atom(b"edts", full(b"elst", edits)) if edits else b""
    movie = full(b"mvhd", words(0, 0, timescale, duration, 1 << 16, 1 << 24), bytes(8), matrix, bytes(24), words(2))
    return head + data + atom(b"moov", movie, before, atom(b"trak", header, edited, media) * tracks) + after


_PARENTS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"mvex", b"moof", b"traf", b"mfra", b"udta")
)


@dataclass
class Atom:
    """A box of an MP4 that can be changed.

    Attributes:
        name: Empty for bytes that are no box.
        parts: The boxes in it; None for a box of data.
    """

    name: bytes
    body: bytes = b""
    parts: list[Atom] | None = None

    def __bytes__(self) -> bytes:
        content = self.body if self.parts is None else written(self.parts)
        return atom(self.name, content) if self.name else content


def atoms(data: bytes) -> list[Atom]:
    """The boxes of a file; what makes no sense is kept as it is."""
    found = []
    while len(data) >= 8:
        size, name = struct.unpack_from(">I4s", data)
        if not 8 <= size <= len(data):
            break
        body = data[8:size]
        found.append(Atom(name, b"", atoms(body)) if name in _PARENTS else Atom(name, body))
        data = data[size:]
    return [*found, Atom(b"", data)] if data else found


def written(tree: Iterable[Atom]) -> bytes:
    return b"".join(bytes(part) for part in tree)


def descend(tree: Sequence[Atom], *names: bytes) -> Atom:
    """The first box of these names, each in the one before."""
    for part in tree:
        if part.name == names[0]:
            return descend(part.parts or [], *names[1:]) if len(names) > 1 else part
    raise ValueError(f"no box {names[0]!r}")


TS_SIZE = 188


def ts_crc(data: bytes) -> bytes:
    """MPEG's CRC-32: not reflected, not inverted."""
    crc = WHOLE
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & HALF else 0)) & WHOLE
    return words(crc)


def ts_packet(pid: int, payload: bytes, *, start: bool = True, counter: int = 0) -> bytes:
    """One packet, stuffed with an adaptation field where the payload is short."""
    payload = payload[:184]
    head = struct.pack(">BHB", 0x47, start << 14 | pid, (0x30 if len(payload) < 184 else 0x10) | counter & 15)
    room = 184 - len(payload)
    stuffing = b"" if room == 0 else b"\0" if room == 1 else bytes([room - 1, 0]) + b"\xff" * (room - 2)
    return head + stuffing + payload


def ts_section(table: int, name: int, content: bytes) -> bytes:
    head = struct.pack(">BHHBBB", table, 0xB000 | len(content) + 9, name, 0xC1, 0, 0) + content
    return b"\0" + head + ts_crc(head)


def ts_tables(programs: int, streams: int) -> bytes:
    """A PAT with so many programs, each a PMT with so many H.264 streams of their own."""
    maps = {0x100 + place: place + 1 for place in range(programs)}
    data = ts_packet(
        0, ts_section(0, 1, b"".join(struct.pack(">HH", name, 0xE000 | pid) for pid, name in maps.items()))
    )
    for place, (pid, name) in enumerate(maps.items()):
        first = 0x400 + place * streams
        rows = b"".join(struct.pack(">BHH", 0x1B, 0xE000 | first + row, 0xF000) for row in range(streams))
        data += ts_packet(pid, ts_section(2, name, struct.pack(">HH", 0xE000 | first, 0xF000) + rows))
    return data


# Longer than FFmpeg looks before it settles which streams there are.
TS_PADDING = ts_packet(0x1FFF, b"\xff" * 184, start=False) * (6_000_000 // TS_SIZE)
