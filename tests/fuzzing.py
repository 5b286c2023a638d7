"""Damage that is made by rule and by chance, and what a scan may make of it.

Every mutation follows from a seed and a number, so that each can be made again:

    python -m tests.fuzzing --count 100000 --seed 1 --keep offending
    python -m tests.fuzzing --seed 1 --first 1234 --count 1
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import faulthandler
import importlib
import itertools
import json
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

import vidmod
from tests.hostile import TS_SIZE, Atom, atoms, encoded, written
from tests.networks import write_classifier
from tests.recipes import Video, make, make_with_cover, pixels, set_edit
from vidmod.errors import SourceError, VidmodError
from vidmod.timeline import StreamScan, Timeline

# A whole scan of any source here takes a tenth of a second.
FILE_SECONDS = 20.0
_GRACE_SECONDS = 2.0
# Larger files of VIDMOD_MEDIA make every job slow and no better.
_MAX_SOURCE_BYTES = 200_000
# By then everything is loaded that a scan loads once.
_WARM_JOBS = 200
_COLUMNS = 60

Random = random.Random
Mutator = Callable[[bytes, Random, bytes], bytes]


# Whole files to begin with --------------------------------------------------------------------


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


# Bytes ----------------------------------------------------------------------------------------

_NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFF,
            0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip


def _word(rng: Random) -> bytes:
    """A number at which programs go wrong, or any, in 32 bits."""
    value = rng.choice(_NUMBERS) if rng.random() < 0.8 else rng.getrandbits(32)
    return struct.pack(rng.choice("<>") + "I", value)


def _put(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def _stretch(data: bytes, rng: Random, longest: int = 512) -> tuple[int, int]:
    """Where to begin and where to end; short ones are as likely as long ones."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(2 ** rng.uniform(0, max(1, longest).bit_length())))


def flip_bits(data: bytes, rng: Random, _: bytes) -> bytes:
    changed = bytearray(data)
    for _number in range(int(2 ** rng.uniform(0, 6))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, rng: Random, _: bytes) -> bytes:
    start, end = _stretch(data, rng)
    fill = rng.choice((bytes(end - start), b"\xff" * (end - start), rng.randbytes(end - start)))
    return _put(data, start, fill)


def set_word(data: bytes, rng: Random, _: bytes) -> bytes:
    return _put(data, rng.randrange(max(1, len(data) - 3)), _word(rng))[: len(data)]


def truncate(data: bytes, rng: Random, _: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def insert(data: bytes, rng: Random, other: bytes) -> bytes:
    source = rng.choice((data, other, rng.randbytes(512)))
    start, end = _stretch(source, rng)
    place = rng.randrange(len(data) + 1)
    return data[:place] + source[start:end] + data[place:]


def remove(data: bytes, rng: Random, _: bytes) -> bytes:
    start, end = _stretch(data, rng)
    return data[:start] + data[end:]


def splice(data: bytes, rng: Random, other: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def append(data: bytes, rng: Random, other: bytes) -> bytes:
    return data + rng.choice((other, other[: rng.randrange(len(other) + 1)], rng.randbytes(rng.randrange(1, 4096))))


BYTES: tuple[Mutator, ...] = (flip_bits, overwrite, set_word, truncate, insert, remove, splice, append)


# Lists of things: boxes, elements, packets, units ---------------------------------------------


def _shuffled(parts: list[Any], rng: Random) -> list[Any]:
    """Drop, double, swap or move one or two of them."""
    parts = list(parts)
    if not parts:
        return parts
    place, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    step = rng.choice(("drop", "double", "swap", "move"))
    if step == "drop":
        del parts[place]
    elif step == "double":
        parts.insert(other, parts[place])
    elif step == "swap":
        parts[place], parts[other] = parts[other], parts[place]
    else:
        parts.insert(other, parts.pop(place))
    return parts


def _all_lists(tree: list[Atom]) -> list[list[Atom]]:
    """The list of boxes at the top, and those in every box that has some."""
    return [tree, *itertools.chain.from_iterable(_all_lists(part.parts) for part in tree if part.parts)]


def _leaves(tree: list[Atom]) -> list[Atom]:
    return [part for parts in _all_lists(tree) for part in parts if part.parts is None and part.name and part.body]


def move_boxes(data: bytes, rng: Random, _: bytes) -> bytes:
    """Boxes dropped, doubled, swapped, moved; those around them get the right size."""
    tree = atoms(data)
    chosen = rng.choice(_all_lists(tree))
    chosen[:] = _shuffled(chosen, rng)
    return written(tree)


def borrow_box(data: bytes, rng: Random, other: bytes) -> bytes:
    """A box of another file."""
    tree, foreign = atoms(data), atoms(other)
    boxes = [part for parts in _all_lists(foreign) for part in parts]
    chosen = rng.choice(_all_lists(tree))
    if boxes:
        chosen.insert(rng.randrange(len(chosen) + 1), rng.choice(boxes))
    return written(tree)


def rename_box(data: bytes, rng: Random, _: bytes) -> bytes:
    tree = atoms(data)
    boxes = [part for parts in _all_lists(tree) for part in parts if part.name]
    if boxes:
        box = rng.choice(boxes)
        names = [part.name for part in boxes]
        box.name = rng.choice((*names, b"uuid", b"free", b"cmov", b"moof", b"sidx", b"uuid"))
    return written(tree)


def change_table(data: bytes, rng: Random, _: bytes) -> bytes:
    """A number in a box other than the pictures: a count, a size, a time, a place."""
    tree = atoms(data)
    boxes = [part for part in _leaves(tree) if part.name != b"mdat"]
    for box in rng.choices(boxes, k=rng.randint(1, 3)) if boxes else ():
        place = 4 * rng.randrange(max(1, min(len(box.body) // 4, 1 + int(2 ** rng.uniform(0, 8)))))
        box.body = _put(box.body, place, _word(rng))[: len(box.body)]
    return written(tree)


def resize_box(data: bytes, rng: Random, _: bytes) -> bytes:
    """A box's size is wrong: 0, 1, negative, a little off, beyond what is around it."""
    places = list(_box_places(data, 0, len(data)))
    if not places:
        return data
    place, size = rng.choice(places)
    wrong = rng.choice((0, 1, 7, size - 1, size + 1, size + 8, size * 2, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    return _put(data, place, struct.pack(">I", wrong & 0xFFFFFFFF))


def _box_places(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for part in atoms(data[start:end]):
        size = len(bytes(part))
        if part.name:
            yield start, size
            if part.parts is not None:
                yield from _box_places(data, start + 8, start + size)
        start += size


BOXES: tuple[Mutator, ...] = (move_boxes, borrow_box, rename_box, change_table, change_table, resize_box)

# Of EBML: header, segment, seek, information, tracks, entry, picture, sound, encodings, cluster, group, cues, tags
_MASTERS = frozenset((
    0x1A45DFA3, 0x18538067, 0x114D9B74, 0x4DBB, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x6D80, 0x6240, 0x1F43B675,
    0xA0, 0x1C53BB6B, 0xBB, 0xB7, 0x1254C367, 0x7373, 0x63C0, 0x67C8,
))  # fmt: skip


@dataclass
class Element:
    """An EBML element: its id, then how its length was written, then data or elements."""

    code: bytes
    length: bytes
    body: bytes = b""
    parts: list[Element] | None = None

    def __bytes__(self) -> bytes:
        content = self.body if self.parts is None else b"".join(map(bytes, self.parts))
        length = self.length
        if length and set(length[1:]) | {length[0] | 0xFF} != {0xFF}:
            width = len(length)
            whole = 1 << 7 * width | len(content)
            length = whole.to_bytes(max(width, (whole.bit_length() + 7) // 8), "big")
        return self.code + length + content


def _vint(data: bytes, place: int, longest: int) -> int:
    """How many bytes the number has; 0 if it is none."""
    width = 9 - data[place].bit_length() if place < len(data) else 0
    return width if 0 < width <= longest and place + width <= len(data) else 0


def elements(data: bytes) -> list[Element]:
    """The elements of a file; what makes no sense is one without id and length."""
    found: list[Element] = []
    place = 0
    while place < len(data):
        code = _vint(data, place, 4)
        length = _vint(data, place + code, 8) if code else 0
        if not length:
            return [*found, Element(b"", b"", data[place:])]
        start = place + code + length
        mask = (1 << 7 * length) - 1
        size = int.from_bytes(data[place + code : start], "big") & mask
        end = len(data) if size == mask else start + size
        name = data[place : place + code]
        body = data[start : min(end, len(data))]
        held = elements(body) if int.from_bytes(name, "big") in _MASTERS else None
        found.append(Element(name, data[place + code : start], body, held))
        place = end
    return found


def _element_lists(tree: list[Element]) -> list[list[Element]]:
    return [tree, *itertools.chain.from_iterable(_element_lists(part.parts) for part in tree if part.parts)]


def _joined(tree: list[Element]) -> bytes:
    return b"".join(map(bytes, tree))


def move_elements(data: bytes, rng: Random, _: bytes) -> bytes:
    tree = elements(data)
    chosen = rng.choice(_element_lists(tree))
    chosen[:] = _shuffled(chosen, rng)
    return _joined(tree)


def change_element(data: bytes, rng: Random, _: bytes) -> bytes:
    """Another value, or another id, in an element that is not a block."""
    tree = elements(data)
    blocks = (b"\xa3", b"\xa1")
    found = [part for parts in _element_lists(tree) for part in parts if part.parts is None and part.code not in blocks]
    if not found:
        return data
    part = rng.choice(found)
    if rng.random() < 0.3:
        part.code = rng.choice(found).code
    else:
        part.body = rng.choice((_word(rng), bytes(8), b"\xff" * 8, part.body + bytes(1), part.body[1:]))
    return _joined(tree)


def change_block(data: bytes, rng: Random, _: bytes) -> bytes:
    """Track, time, flags or lacing of a block."""
    tree = elements(data)
    blocks = [part for parts in _element_lists(tree) for part in parts if part.code in (b"\xa3", b"\xa1") and part.body]
    for part in rng.choices(blocks, k=rng.randint(1, 3)) if blocks else ():
        place = rng.randrange(min(6, len(part.body)))
        part.body = _put(part.body, place, bytes([rng.getrandbits(8)]))
    return _joined(tree)


def resize_element(data: bytes, rng: Random, _: bytes) -> bytes:
    """An element's length is unknown, or wrong."""
    places = list(_length_places(elements(data), 0))
    if not places:
        return data
    place, width = rng.choice(places)
    value = rng.choice(((1 << 7 * width) - 1, 0, rng.getrandbits(7 * width)))
    return _put(data, place, (1 << 7 * width | value).to_bytes(width, "big"))


def _length_places(tree: list[Element], start: int) -> Iterator[tuple[int, int]]:
    for part in tree:
        head = len(part.code) + len(part.length)
        if part.length:
            yield start + len(part.code), len(part.length)
        if part.parts is not None:
            yield from _length_places(part.parts, start + head)
        start += head + len(part.body)


ELEMENTS: tuple[Mutator, ...] = (move_elements, change_element, change_block, resize_element)


def _packets(data: bytes) -> list[bytes]:
    return [data[place : place + TS_SIZE] for place in range(0, len(data), TS_SIZE)]


def move_packets(data: bytes, rng: Random, _: bytes) -> bytes:
    packets = _packets(data)
    for _number in range(int(2 ** rng.uniform(0, 4))):
        packets = _shuffled(packets, rng)
    return b"".join(packets)


def drop_packets(data: bytes, rng: Random, _: bytes) -> bytes:
    """A stretch that was not received."""
    packets = _packets(data)
    start, end = _stretch(bytes(len(packets)), rng, 16)
    return b"".join(packets[:start] + packets[end:])


def change_packet(data: bytes, rng: Random, _: bytes) -> bytes:
    """PID, flags, continuity, adaptation field or the first bytes of what it carries."""
    packets = _packets(data)
    pids = sorted({packet[1:3] for packet in packets if len(packet) == TS_SIZE})
    if not pids:
        return data
    for _number in range(rng.randint(1, 4)):
        place = rng.randrange(len(packets))
        packet = packets[place]
        new = rng.choice(pids) if rng.random() < 0.4 else bytes([rng.getrandbits(8)])
        at = 1 if len(new) == 2 else rng.choice((1, 3, 3, 4, 5, 6, 8, 12, 16))
        packets[place] = _put(packet, at, new)[: len(packet)]
    return b"".join(packets)


def rename_pid(data: bytes, rng: Random, _: bytes) -> bytes:
    """From some place on, one PID is another."""
    packets = _packets(data)
    pids = sorted({packet[1:3] for packet in packets if len(packet) == TS_SIZE})
    if not pids:
        return data
    old, new, start = rng.choice(pids), rng.choice(pids), rng.randrange(len(packets))
    pairs = enumerate(packets)
    return b"".join(_put(item, 1, new) if place >= start and item[1:3] == old else item for place, item in pairs)


PACKETS: tuple[Mutator, ...] = (move_packets, drop_packets, change_packet, rename_pid)


def _units(data: bytes) -> list[bytes]:
    """Units of H.264 and HEVC, each with its start code."""
    places = []
    place = data.find(b"\0\0\1")
    while place >= 0:
        places.append(place)
        place = data.find(b"\0\0\1", place + 3)
    return [data[start:end] for start, end in itertools.pairwise([0, *places, len(data)])]


def _sized_units(data: bytes) -> list[bytes]:
    """Units with their lengths in front, as MP4 and Matroska have them; the last is what is no unit."""
    found: list[bytes] = []
    place = 0
    while place + 5 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        if not 0 < size <= len(data) - place - 4 or data[place + 4] & 0x80:
            break
        found.append(data[place : place + 4 + size])
        place += 4 + size
    return [*found, data[place:]]


def _damaged_unit(unit: bytes, head: int, rng: Random) -> bytes:
    """Another type, another length, fewer bytes, other bits early on, where the headers are."""
    if len(unit) <= head:
        return unit
    place = min(len(unit) - 1, head + int(2 ** rng.uniform(0, 5)) - 1)
    return rng.choice((
        _put(unit, head, bytes([unit[head] ^ 1 << rng.randrange(8)])),
        _put(unit, 0, struct.pack(">I", len(unit) - head + rng.choice((-1, 1, 100)))) if head == 4 else unit[:-1],
        unit[: rng.randrange(head, len(unit) + 1)],
        _put(unit, place, bytes([unit[place] ^ 1 << rng.randrange(8)])),
    ))  # fmt: skip


def _change_units(units: list[bytes], head: int, rng: Random) -> list[bytes]:
    if rng.random() < 0.5:
        return _shuffled(units, rng)
    place = rng.randrange(len(units))
    units[place] = _damaged_unit(units[place], head, rng)
    return units


def change_units(data: bytes, rng: Random, _: bytes) -> bytes:
    return b"".join(_change_units(_units(data), 3, rng))


def change_units_in_box(data: bytes, rng: Random, _: bytes) -> bytes:
    """Units in an MP4's pictures; its index then points a little beside them, or not."""
    tree = atoms(data)
    boxes = [part for part in tree if part.name == b"mdat" and part.body]
    if boxes:
        box = rng.choice(boxes)
        size = len(box.body)
        box.body = b"".join(_change_units(_sized_units(box.body), 4, rng))
        if rng.random() < 0.7:
            box.body = box.body[:size].ljust(size, b"\0")
    return written(tree)


def change_units_in_block(data: bytes, rng: Random, _: bytes) -> bytes:
    tree = elements(data)
    blocks = [part for parts in _element_lists(tree) for part in parts if part.code == b"\xa3" and len(part.body) > 4]
    if blocks:
        part = rng.choice(blocks)
        part.body = part.body[:4] + b"".join(_change_units(_sized_units(part.body[4:]), 4, rng))
    return _joined(tree)


UNITS: tuple[Mutator, ...] = (change_units,)


def structured(data: bytes) -> tuple[Mutator, ...]:
    """The mutators that know this format."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return (*BOXES, change_units_in_box)
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return (*ELEMENTS, change_units_in_block)
    if data[:1] == b"\x47" and data[TS_SIZE : TS_SIZE + 1] in (b"\x47", b""):
        return (*PACKETS, change_units)
    return UNITS if data[:3] == b"\0\0\1" or data[:4] == b"\0\0\0\1" else ()


@dataclass(frozen=True)
class Mutation:
    """A damaged file.

    Attributes:
        number: Which one of its seed.
        steps: What was done to the source, in order.
    """

    number: int
    source: str
    suffix: str
    steps: tuple[str, ...]
    data: bytes

    @property
    def file_name(self) -> str:
        return f"{self.number:07d}-{self.source}{self.suffix}"


def mutate(sources: Sequence[Source], seed: int, number: int) -> Mutation:
    """Mutation `number` of `seed`: the same one whenever the sources are the same."""
    rng = Random(f"{seed}:{number}")
    source = rng.choice(sources)
    data = source.data
    steps: list[str] = []
    while len(steps) < 4 and (data == source.data or rng.random() < 0.35):
        other = rng.choice(sources).data
        known = structured(data)
        mutator = rng.choice(known if known and rng.random() < 0.7 else BYTES)
        data = mutator(data, rng, other)
        steps.append(mutator.__name__)
    if data == source.data:
        data = _put(data, 0, bytes([data[0] ^ 1]))
        steps.append("first byte")
    return Mutation(number, source.name, source.suffix, tuple(steps), data)


# What must hold -------------------------------------------------------------------------------


def problems(timeline: Timeline) -> list[str]:
    """What is wrong with a timeline, whatever the file was."""
    found = [f"stream {stream.stream} ({stream.kind}): {text}" for stream in timeline.streams for text in _gaps(stream)]
    if timeline.verdict == "pass" and timeline.status != "complete":
        found.append(f"the verdict is pass, the status {timeline.status}")
    if timeline.status == "complete":
        found += [
            f"complete, but stream {stream.stream} ({stream.kind}) {text}"
            for stream in timeline.streams
            for text in _missing(stream)
        ]
        if not timeline.samples:
            found.append("complete without a sample")
    if timeline.coverage:
        start = timeline.source["start_seconds"]
        extent = (start, start + timeline.source["duration_seconds"])
        told = (timeline.coverage[0].start_seconds, timeline.coverage[-1].end_seconds)
        scale = max(map(abs, told))
        if not all(_near(one, other, scale) for one, other in zip(extent, told, strict=True)):
            found.append(f"the source is {extent}, its coverage {told}")
    try:
        # Through the text, as a reader gets it; a timeline of strange numbers must survive that too.
        again = Timeline.from_document(json.loads(json.dumps(timeline.as_document(), allow_nan=False)))
        if again != timeline:
            found.append("is another one when it is read again")
    except (VidmodError, ValueError) as exc:
        found.append(f"is no valid document: {exc}")
    return found


def _near(one: float, other: float, scale: float) -> bool:
    """Seconds are rounded to microseconds, and large ones to what a float holds."""
    return abs(one - other) <= 2e-6 + 1e-12 * scale


def _gaps(stream: StreamScan) -> list[str]:
    spans = stream.coverage
    found = [f"span of no length at {span.start_seconds}" for span in spans if span.start_seconds >= span.end_seconds]
    found += [
        f"coverage from {one.end_seconds} to {other.start_seconds} is missing or double"
        for one, other in itertools.pairwise(spans)
        if not _near(one.end_seconds, other.start_seconds, abs(one.end_seconds))
    ]
    return found


def _missing(stream: StreamScan) -> list[str]:
    ledger = stream.ledger
    found = [f"has {name} {ledger[name]}" for name in ("lost", "unusable", "read_errors", "truncated") if ledger[name]]
    sound = sum(ledger.get(name, 0) for name in ("frames", "lost", "hidden", "without_picture", "skipped"))
    # Of the further views and of what edit lists hide, packets are counted in their own way (see Ledger).
    if stream.kind in ("video", "cover") and ledger["packets"] != sound:
        found.append(f"has {ledger['packets']} packets and knows of {sound}")
    found += [f"is {span.state} from {span.start_seconds}" for span in stream.coverage if span.state != "analysed"]
    return found


# Running ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offence:
    """An input, and what it broke."""

    mutation: Mutation
    texts: tuple[str, ...]


@dataclass
class Tally:
    """What became of all jobs.

    Attributes:
        outcomes: How often each status and verdict, or error, was the answer.
        grown_bytes: By how much this process grew after it was warm.
    """

    jobs: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    offences: list[Offence] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0
    grown_bytes: int = 0


def settings(model: Path, workers: int | None, **limits: Any) -> vidmod.ScanSettings:
    """Settings with a tiny model, and limits where vidmod has any."""
    values: dict[str, Any] = {"models": (str(model),), "workers": workers}
    if contained():
        values["limits"] = importlib.import_module("vidmod.containment").Limits(**limits)
    return vidmod.ScanSettings(**values)


def contained() -> bool:
    """Whether this vidmod parses media in limited processes."""
    return "limits" in {item.name for item in dataclasses.fields(vidmod.ScanSettings)}


class Run:
    """Scans mutations through one Scanner, and keeps account.

    Args:
        folder: Where inputs are while they are scanned; those that break something stay.
        watchdog: End the process where a job never ends; for the command, not for tests.
    """

    def __init__(self, sources: Sequence[Source], seed: int, folder: Path, *, watchdog: bool = False) -> None:
        self.tally = Tally()
        self._sources = sources
        self._seed = seed
        self._folder = folder
        self._watchdog = watchdog
        self._pending: dict[Path, tuple[Mutation, float]] = {}
        self._process = psutil.Process()
        self._warm_bytes = 0

    def run(
        self, scanner: vidmod.Scanner, numbers: Iterable[int], report: Callable[[Tally], None] | None = None
    ) -> Tally:
        """Scan these mutations."""
        began = time.monotonic()
        left = iter(numbers)
        ended = False
        while not ended:
            try:
                for path, result in _results(scanner, self._inputs(left)):
                    self._note(path, result)
                    self.tally.seconds = time.monotonic() - began
                    if report is not None:
                        report(self.tally)
                ended = True
            except Exception:  # noqa: BLE001 -- whatever it is, it is what is looked for
                # Which of those that were side by side it was is told by each on its own.
                for path in list(self._pending):
                    self._pending[path] = (self._pending[path][0], time.monotonic())
                    self._note(path, _alone(scanner, path))
        if self._warm_bytes:
            self.tally.grown_bytes = self._process.memory_info().rss - self._warm_bytes
        return self.tally

    def _inputs(self, numbers: Iterator[int]) -> Iterator[Path]:
        for number in numbers:
            mutation = mutate(self._sources, self._seed, number)
            path = self._folder / mutation.file_name
            path.write_bytes(mutation.data)
            self._pending[path] = (mutation, time.monotonic())
            if self._watchdog:
                faulthandler.dump_traceback_later(5 * FILE_SECONDS, exit=True)
            yield path

    def _note(self, path: Path, result: object) -> None:
        mutation, began = self._pending.pop(path)
        elapsed = time.monotonic() - began
        outcome, texts = _judged(result)
        # Side by side, an input that was taken in may have to wait for a worker.
        allowed = FILE_SECONDS + _GRACE_SECONDS if len(self._pending) == 0 else 2 * FILE_SECONDS + _GRACE_SECONDS
        if elapsed > allowed:
            texts.append(f"took {elapsed:.1f} s")
        self.tally.jobs += 1
        self.tally.outcomes[outcome] += 1
        self.tally.slowest = max(self.tally.slowest, (elapsed, path.name))
        if texts:
            self.tally.offences.append(Offence(mutation, tuple(texts)))
        else:
            path.unlink()
        if self.tally.jobs == _WARM_JOBS:
            self._warm_bytes = self._process.memory_info().rss


def _judged(result: object) -> tuple[str, list[str]]:
    """A name for the outcome, and what is wrong with it."""
    if isinstance(result, Timeline):
        return f"{result.status}, {result.verdict}", problems(result)
    if result is None:
        return "passed over", ["passed over, which nobody asked for"]
    name = type(result).__name__
    return name, [] if isinstance(result, SourceError) else [f"{name}: {result}"]


def _results(scanner: vidmod.Scanner, paths: Iterator[Path]) -> Iterator[tuple[Path, object]]:
    """Side by side where this vidmod can, else one after the other."""
    many = getattr(scanner, "scan_many", None)
    if many is not None:
        yield from many(paths)
        return
    for path in paths:
        yield path, _alone(scanner, path)


def _alone(scanner: vidmod.Scanner, path: Path) -> object:
    try:
        return scanner.scan(path)
    except Exception as exc:  # noqa: BLE001 -- an answer like any other; `_judged` tells good from bad
        return exc


def describe(tally: Tally) -> str:
    """The account in words."""
    rows = [f"{tally.jobs} jobs in {tally.seconds:.1f} s, slowest {tally.slowest[0]:.2f} s ({tally.slowest[1]}), "
            f"grown by {tally.grown_bytes / 1e6:.1f} MB"]  # fmt: skip
    rows += [f"  {count:7d} {outcome}" for outcome, count in tally.outcomes.most_common()]
    for offence in tally.offences:
        steps = ", ".join(offence.mutation.steps)
        rows.append(f"  {offence.mutation.file_name} ({steps}): {'; '.join(offence.texts)}")
    return "\n".join(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Scan damaged files and check what is said of them.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--keep", type=Path, help="where offending inputs stay, and the one that ends the process")
    return parser.parse_args()


def main() -> int:
    """Run; 1 if anything is wrong."""
    arguments = _arguments()
    # SVT-AV1 writes to standard error what nobody asked for.
    os.environ.setdefault("SVT_LOG", "0")
    with tempfile.TemporaryDirectory() as folder:
        keep = Path(folder, "jobs") if arguments.keep is None else arguments.keep
        keep.mkdir(parents=True, exist_ok=True)
        sources = write_sources(Path(folder))
        run = Run(sources, arguments.seed, keep, watchdog=True)
        shown = [0.0]

        def report(tally: Tally) -> None:
            if tally.seconds - shown[0] > 5:
                shown[0] = tally.seconds
                print(f"{tally.jobs} of {arguments.count}, {tally.jobs / tally.seconds:.0f}/s, "
                      f"{len(tally.offences)} offend"[:_COLUMNS], file=sys.stderr)  # fmt: skip

        chosen = settings(write_classifier(Path(folder)), arguments.workers, file_seconds=FILE_SECONDS)
        with vidmod.Scanner(chosen) as scanner:
            tally = run.run(scanner, range(arguments.first, arguments.first + arguments.count), report)
    print(describe(tally))
    return 1 if tally.offences else 0


if __name__ == "__main__":
    sys.exit(main())
