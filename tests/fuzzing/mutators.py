"""Ways to damage a file: its bytes, and the boxes, elements, packets and units that it consists of."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.hostile.containers import TS_SIZE, Atom, atoms, written

Random = random.Random
Mutator = Callable[[bytes, Random, bytes], bytes]

_NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFF,
            0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip


def _word(rng: Random) -> bytes:
    """A number at which programs go wrong, or any, in 32 bits."""
    value = rng.choice(_NUMBERS) if rng.random() < 0.8 else rng.getrandbits(32)
    return struct.pack(rng.choice("<>") + "I", value)


def put(data: bytes, place: int, new: bytes) -> bytes:
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
    return put(data, start, fill)


def set_word(data: bytes, rng: Random, _: bytes) -> bytes:
    return put(data, rng.randrange(max(1, len(data) - 3)), _word(rng))[: len(data)]


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
        box.body = put(box.body, place, _word(rng))[: len(box.body)]
    return written(tree)


def resize_box(data: bytes, rng: Random, _: bytes) -> bytes:
    """A box's size is wrong: 0, 1, negative, a little off, beyond what is around it."""
    places = list(_box_places(data, 0, len(data)))
    if not places:
        return data
    place, size = rng.choice(places)
    wrong = rng.choice((0, 1, 7, size - 1, size + 1, size + 8, size * 2, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    return put(data, place, struct.pack(">I", wrong & 0xFFFFFFFF))


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
        part.body = put(part.body, place, bytes([rng.getrandbits(8)]))
    return _joined(tree)


def resize_element(data: bytes, rng: Random, _: bytes) -> bytes:
    """An element's length is unknown, or wrong."""
    places = list(_length_places(elements(data), 0))
    if not places:
        return data
    place, width = rng.choice(places)
    value = rng.choice(((1 << 7 * width) - 1, 0, rng.getrandbits(7 * width)))
    return put(data, place, (1 << 7 * width | value).to_bytes(width, "big"))


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
        packets[place] = put(packet, at, new)[: len(packet)]
    return b"".join(packets)


def rename_pid(data: bytes, rng: Random, _: bytes) -> bytes:
    """From some place on, one PID is another."""
    packets = _packets(data)
    pids = sorted({packet[1:3] for packet in packets if len(packet) == TS_SIZE})
    if not pids:
        return data
    old, new, start = rng.choice(pids), rng.choice(pids), rng.randrange(len(packets))
    pairs = enumerate(packets)
    return b"".join(put(item, 1, new) if place >= start and item[1:3] == old else item for place, item in pairs)


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
        put(unit, head, bytes([unit[head] ^ 1 << rng.randrange(8)])),
        put(unit, 0, struct.pack(">I", len(unit) - head + rng.choice((-1, 1, 100)))) if head == 4 else unit[:-1],
        unit[: rng.randrange(head, len(unit) + 1)],
        put(unit, place, bytes([unit[place] ^ 1 << rng.randrange(8)])),
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
