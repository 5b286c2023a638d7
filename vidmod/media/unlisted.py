"""Video that a container carries and FFmpeg's list of streams does not.

For MPEG-TS, MPEG-PS and FLV that list is made at the start of the file. A stream that begins later, or a codec that
changes under way, gives no picture and no error; so the bytes are read for what they announce. In Matroska a block of a
track that was never declared ends the reading of its cluster without a word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from vidmod.media.appended import appended_files
from vidmod.media.facts import Medium
from vidmod.media.imagefiles import unseen_in_apng, unseen_in_tiff

_CHUNK_BYTES = 188 * 50_000
_TS_PACKET_BYTES = 188
_SYNC = 0x47
_PAT_PID = 0
# ISO/IEC 13818-1, table 2-22, and what is registered on top of it: types that carry pictures.
_VIDEO_TYPES = frozenset((0x01, 0x02, 0x10, 0x1B, 0x1E, 0x1F, 0x20, 0x21, 0x24, 0x25, 0x33, 0x42, 0xD1, 0xD2, 0xEA))
_FLV_VIDEO = 9
_FLV_TAG_BYTES = 11
_MAX_FLV_TAGS = 5_000_000
# RFC 8794 and RFC 9559: elements that hold what is looked for, and that are walked into.
_MASTERS = frozenset((0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675, 0xA0))
_TRACK_NUMBER, _TRACK_TYPE, _SIMPLE_BLOCK, _BLOCK = 0xD7, 0x83, 0xA3, 0xA1
_MAX_ELEMENTS = 20_000_000
_ELEMENT_BYTES, _WINDOW_BYTES = 32, 4096
_SIGN_OF_LIFE = 10_000


def unlisted_video(medium: Medium, container: InputContainer, alive: Callable[[], None]) -> list[str]:
    """In words, each video that the file announces and that nobody will decode; empty for other formats.

    Args:
        medium: The file.
        container: The same file, opened; its position is left where it is.
        alive: Called now and then: a large file takes its time.
    """
    if medium.descriptor is not None:
        return _unlisted(medium, container, medium.descriptor, alive)
    descriptor = os.open(Path(medium.name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _unlisted(medium, container, descriptor, alive)
    finally:
        os.close(descriptor)


def _unlisted(medium: Medium, container: InputContainer, descriptor: int, alive: Callable[[], None]) -> list[str]:
    found = appended_files(descriptor, container.format.name, alive)
    if len(container.streams) >= medium.max_streams:
        found.append(f"there may be more than the {medium.max_streams} streams that are looked for")
    readers = {
        "mpegts": _in_transport_stream,
        "mpeg": _in_program_stream,
        "flv": _in_flash,
        "live_flv": _in_flash,
        "matroska,webm": _in_matroska,
    }
    if container.format.name == "tiff_pipe":
        found += unseen_in_tiff(medium)
    if container.format.name == "apng":
        found += unseen_in_apng(medium)
    reader = readers.get(container.format.name)
    if reader is None:
        return found
    listed = [stream.id for stream in container.streams.video]
    return found + reader(descriptor, listed, alive)


def _chunks(descriptor: int, alive: Callable[[], None], overlap: int) -> Iterator[tuple[int, bytes]]:
    """The file piece by piece, each with where it begins; by position, since others read through the descriptor."""
    position = 0
    while len(data := os.pread(descriptor, _CHUNK_BYTES + overlap, position)) > overlap:
        yield position, data
        alive()
        position += _CHUNK_BYTES


def _in_transport_stream(descriptor: int, listed: Sequence[int], alive: Callable[[], None]) -> list[str]:
    found: dict[int, int] = {}
    kinds: dict[int, set[int]] = {}
    maps: set[int] = set()
    head = os.pread(descriptor, 4 * _TS_PACKET_BYTES, 0)
    offset = next((at for at in range(_TS_PACKET_BYTES) if head[at::_TS_PACKET_BYTES][:3] == b"GGG"), None)
    if offset is None:
        return []
    for position, data in _chunks(descriptor, alive, offset):
        usable = (len(data) - offset) // _TS_PACKET_BYTES * _TS_PACKET_BYTES
        rows: NDArray[np.uint8] = np.frombuffer(data, np.uint8, usable, offset).reshape(-1, _TS_PACKET_BYTES)
        pids = (rows[:, 1].astype(np.int32) & 0x1F) << 8 | rows[:, 2]
        begins = (rows[:, 0] == _SYNC) & (rows[:, 1] & 0x40 != 0) & (rows[:, 3] & 0x10 != 0)
        for place in np.flatnonzero(begins).tolist():
            pid, row = int(pids[place]), rows[place]
            start = 4 + (1 + int(row[4]) if row[3] & 0x20 else 0)
            payload = row[start:].tobytes()
            if payload[:3] == b"\0\0\1" and len(payload) > 3 and 0xE0 <= payload[3] <= 0xEF:
                found.setdefault(pid, position + offset + place * _TS_PACKET_BYTES)
            elif pid == _PAT_PID:
                maps.update(_programs(payload))
            elif pid in maps:
                for other, kind in _entries(payload):
                    kinds.setdefault(other, set()).add(kind)
    rows_of_text = [
        f"a video stream (PID {pid}) that begins at byte {at} is not in the list of streams"
        for pid, at in sorted(found.items())
        if pid not in listed
    ]
    for pid, types in sorted(kinds.items()):
        pictures = types & _VIDEO_TYPES
        if len(types) > 1 and pictures:
            rows_of_text.append(f"the stream of PID {pid} changes its kind ({', '.join(map(hex, sorted(types)))})")
    return rows_of_text


def _section(payload: bytes) -> bytes:
    """A table's section behind its pointer field, cut to its length, without its checksum."""
    start = 1 + payload[0] if payload else 0
    section = payload[start:]
    length = 3 + (int.from_bytes(section[1:3], "big") & 0x0FFF) if len(section) > 3 else 0
    return section[: max(0, length - 4)]


def _programs(payload: bytes) -> list[int]:
    """The PIDs of the program maps (ISO/IEC 13818-1, 2.4.4.3)."""
    section = _section(payload)
    rows = [section[at : at + 4] for at in range(8, len(section) - 3, 4)]
    return [int.from_bytes(row[2:], "big") & 0x1FFF for row in rows if int.from_bytes(row[:2], "big")]


def _entries(payload: bytes) -> Iterator[tuple[int, int]]:
    """PID and stream type of every stream of a program (2.4.4.8)."""
    section = _section(payload)
    at = 12 + (int.from_bytes(section[10:12], "big") & 0x0FFF) if len(section) >= 12 else len(section)
    while at + 5 <= len(section):
        yield int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF, section[at]
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0x0FFF)


def _in_program_stream(descriptor: int, listed: Sequence[int], alive: Callable[[], None]) -> list[str]:
    """Packs of a stream id from 0xE0 to 0xEF; no video codec's own start codes lie there."""
    found: dict[int, int] = {}
    for position, data in _chunks(descriptor, alive, 3):
        values: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        codes = (values[:-3] == 0) & (values[1:-2] == 0) & (values[2:-1] == 1) & (values[3:] >> 4 == 0xE)
        for place in np.flatnonzero(codes).tolist():
            found.setdefault(int(values[place + 3]), position + place)
    known = {number & 0xFF for number in listed}
    return [
        f"a video stream (id {number:#x}) that begins at byte {at} is not in the list of streams"
        for number, at in sorted(found.items())
        if number not in known
    ]


def _in_flash(descriptor: int, listed: Sequence[int], alive: Callable[[], None]) -> list[str]:
    """Video tags, by their codec (Adobe's FLV specification, E.4.3.1)."""
    codecs: dict[int, int] = {}
    position = int.from_bytes(os.pread(descriptor, 4, 5), "big") + 4
    for number in range(_MAX_FLV_TAGS):
        if number % _SIGN_OF_LIFE == 0:
            alive()
        head = os.pread(descriptor, _FLV_TAG_BYTES + 1, position)
        if len(head) <= _FLV_TAG_BYTES:
            break
        if head[0] & 0x1F == _FLV_VIDEO:
            flags = head[_FLV_TAG_BYTES]
            # Frame type 5 holds a command, no picture.
            if flags >> 4 & 7 != 5:
                codecs.setdefault(flags & 0x8F if flags & 0x80 else flags & 0xF, position)
        position += _FLV_TAG_BYTES + int.from_bytes(head[1:4], "big") + 4
    if codecs and not listed:
        return [f"a video stream that begins at byte {min(codecs.values())} is not in the list of streams"]
    plain = [codec for codec in codecs if not codec & 0x80]
    return ["the video changes its codec"] if len(plain) > 1 else []


def _in_matroska(descriptor: int, listed: Sequence[int], alive: Callable[[], None]) -> list[str]:
    """Video tracks that FFmpeg left out, and blocks of tracks that were not declared."""
    size = os.fstat(descriptor).st_size
    declared: set[int] = set()
    used: dict[int, int] = {}
    window, base = b"", 0
    position = pictures = 0
    for number in range(_MAX_ELEMENTS):
        if number % _SIGN_OF_LIFE == 0:
            alive()
        if position >= size:
            break
        if not base <= position <= base + len(window) - _ELEMENT_BYTES:
            window, base = os.pread(descriptor, _WINDOW_BYTES, position), position
        head = window[position - base : position - base + _ELEMENT_BYTES]
        name, name_bytes = _number(head, marked=True)
        length, length_bytes = _number(head[name_bytes:], marked=False)
        if not name_bytes or not length_bytes:
            break
        content = position + name_bytes + length_bytes
        if name in _MASTERS:
            # Walked into, whatever its length: that may be unknown.
            position = content
            continue
        data = head[name_bytes + length_bytes :]
        if name == _TRACK_NUMBER and length <= 8:
            declared.add(int.from_bytes(data[:length], "big"))
        elif name == _TRACK_TYPE and int.from_bytes(data[: min(length, 8)], "big") == 1:
            pictures += 1
        elif name in (_SIMPLE_BLOCK, _BLOCK):
            used.setdefault(_number(data, marked=False)[0], position)
        if length == (1 << 7 * length_bytes) - 1:
            break
        position = content + length
    missing = [f"{pictures - len(listed)} of {pictures} video tracks cannot be read"] if pictures > len(listed) else []
    return missing + [
        f"the blocks of a track ({track}) that is not declared, the first at byte {place}, cannot be read"
        for track, place in sorted(used.items())
        if track not in declared
    ]


def _number(data: bytes, *, marked: bool) -> tuple[int, int]:
    """A number of variable length (RFC 8794, 4), with its marker or without, and its bytes; 0 if there is none."""
    count = 9 - data[0].bit_length() if data and data[0] else 0
    if not count or len(data) < count:
        return 0, 0
    value = int.from_bytes(data[:count], "big")
    return (value if marked else value & ~(1 << 7 * count)), count
