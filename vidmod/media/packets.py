"""Packets of bytes, and what a packet's first bytes and a file's index say, before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from vidmod.media.facts import Medium
from vidmod.media.source import open_container

# DivX fills the place of a frame that travelled in the packet before with an empty VOP.
_MPEG4_PLACEHOLDER_BYTES = 20
# Cameras pad units with zeros, or end the last one with a start code of its own.
_MAX_PADDING_BYTES = 24
_MPEG4_VOP = b"\0\0\1\xb6"


def packet_of(data: bytes) -> Packet[Any]:
    """A packet with a copy of some bytes, without times.

    FFmpeg reads up to 64 bytes behind a packet, which must be zeros. PyAV's `Packet(data)` refers to `data` itself, and
    behind that is whatever else is in memory: sound packets then seem to be damaged, by chance.
    """
    packet: Packet[Any] = Packet(len(data))
    if data:
        packet.update(data)
    return packet


def holds_picture(codec: str, packet: Packet[Any]) -> bool:
    """Whether a packet is to give a picture; some codecs have packets that show nothing."""
    if codec in ("vp9", "libvpx-vp9"):
        return _vp9_packet_shows(bytes(packet))
    if codec.startswith(("vp8", "libvpx")):
        return bool(memoryview(packet)[0] & 0x10)  # RFC 6386, 9.1: show_frame
    if codec.startswith(("mpeg4", "msmpeg4")):
        return packet.size > _MPEG4_PLACEHOLDER_BYTES or not bytes(packet).startswith(_MPEG4_VOP)
    return True


def _vp9_packet_shows(data: bytes) -> bool:
    """Whether any frame of a packet is shown; a superframe holds several (VP9 spec, annex B)."""
    marker = data[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = data[-2 - count * width :]
    if marker >> 5 != 0b110 or len(index) != 2 + count * width or index[0] != marker:
        return _vp9_shows(data[0])
    position = 0
    for number in range(count):
        if position < len(data) and _vp9_shows(data[position]):
            return True
        position += int.from_bytes(index[1 + number * width : 1 + (number + 1) * width], "little")
    return False


def _vp9_shows(head: int) -> bool:
    """Read show_existing_frame and show_frame from the uncompressed header (VP9 spec, 6.2)."""
    bits = f"{head:08b}"
    if bits[:2] != "10":
        return True
    header = bits[5:] if bits[2:4] == "11" else bits[4:]
    show_existing, _key, show = header[0], header[1], header[2]
    return show_existing == "1" or show == "1"


def hidden_positions(source: Path | Medium, container: InputContainer, index: int) -> frozenset[int]:
    """Where in an MP4 the packets are that its edit list keeps from being shown.

    FFmpeg marks those that are needed for decoding and leaves the others out of its index, so the
    index is held against the one without edits.
    """
    if not container.format.name.startswith("mov"):
        return frozenset()
    stream = container.streams[index]
    if _is_shown_whole(stream):
        return frozenset()
    shown, _ = _positions(stream)
    medium = Medium.of(source)
    position = None if medium.descriptor is None else os.lseek(medium.descriptor, 0, os.SEEK_CUR)
    try:
        with open_container(medium, edit_lists=False) as unedited:
            every, _ = _positions(unedited.streams[index])
    finally:
        # Whoever reads through the same descriptor goes on where it was.
        if medium.descriptor is not None and position is not None:
            os.lseek(medium.descriptor, position, os.SEEK_SET)
    return frozenset(every - shown)


def _is_shown_whole(stream: Stream) -> bool:
    """Whether the index has every packet and hides none; without holding an hour's worth of positions."""
    count = 0
    before = -1
    for entry in stream.index_entries:
        # Packets out of order in the file may repeat a position: then they are counted one by one.
        if entry.is_discard or entry.pos <= before:
            return False
        before = entry.pos
        count += 1
    return count == stream.frames


def _positions(stream: Stream) -> tuple[set[int], int]:
    """The positions of the packets that are shown, and how many are marked as hidden."""
    entries = [(entry.pos, entry.is_discard) for entry in stream.index_entries]
    shown = {pos for pos, discard in entries if not discard}
    return shown, len(entries) - sum(not discard for _, discard in entries)


def cut_off(container: InputContainer, index: int, size: int) -> int:
    """How many packets an MP4's index places beyond the end of the file."""
    if not container.format.name.startswith("mov"):
        return 0
    return sum(entry.pos + entry.size > size for entry in container.streams[index].index_entries)


def nal_length_size(codec: str, extradata: bytes | None) -> int | None:
    """How many bytes hold a NAL unit's length, None where start codes part them (Annex B).

    See ISO/IEC 14496-15, 5.3.3.1 (avcC) and 8.3.3.1 (hvcC).
    """
    place = {"h264": 4, "hevc": 21}[codec]
    if not extradata or extradata[0] != 1 or len(extradata) <= place:
        return None
    return (extradata[place] & 3) + 1


def is_well_formed(codec: str, packet: Packet[Any], length_size: int | None) -> bool:
    """Whether a packet could be what an encoder wrote, as far as can be told without decoding it.

    With lengths, its NAL units fill it exactly, and none holds three zero bytes in a row, which
    emulation prevention rules out (ITU-T H.264, 7.4.1): so a stretch that was overwritten with
    zeros shows. With start codes, it begins with one. Every unit's header is one that exists.
    """
    data = bytes(packet)
    if length_size is None:
        return data.startswith((b"\0\0\1", b"\0\0\0\1")) and _has_valid_headers(codec, data, None)
    position, end = 0, len(data)
    while position + length_size < end:
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
        if position == start or data.find(b"\0\0\0", start, max(start, position - _MAX_PADDING_BYTES)) >= 0:
            return False
    return position == end and _has_valid_headers(codec, data, length_size)


def _has_valid_headers(codec: str, data: bytes, length_size: int | None) -> bool:
    """No forbidden bit, no reserved type, and a picture among the units."""
    kinds = []
    for start in _nal_starts(data, length_size):
        if data[start] & 0x80:
            return False
        if codec == "hevc" and not (start + 1 < len(data) and data[start + 1] & 7):
            return False  # nuh_temporal_id_plus1 is never 0 (ITU-T H.265, 7.4.2.2)
        kinds.append(data[start] & 0x1F if codec == "h264" else data[start] >> 1 & 0x3F)
    if codec == "h264":
        return all(1 <= kind <= 23 for kind in kinds) and any(1 <= kind <= 5 for kind in kinds)
    return all(kind <= 47 or kind >= 62 for kind in kinds) and any(kind <= 31 for kind in kinds)


class Unit(NamedTuple):
    """What the first picture unit of a packet says of it.

    Attributes:
        anew: Nothing from this packet on refers to anything before it.
        entry: Decoding can begin here, but for pictures marked `leading`.
        leading: Shown before the entry that precedes it in the file, and may refer to what was
            before that.
        reference: Other pictures may refer to it.
    """

    anew: bool
    entry: bool = False
    leading: bool = False
    reference: bool = True


def first_unit(codec: str, packet: Packet[Any], length_size: int | None) -> Unit:
    """Read the first picture's NAL unit type, and whether anything refers to it.

    `is_keyframe` also marks pictures from which decoding cannot begin. H.264: IDR pictures (type 5)
    and nal_ref_idc (7.4.1). HEVC: IDR and BLA pictures (16 to 20), CRA pictures (21) with their
    leading pictures (6 to 9); its mark of unreferenced pictures leaves out other layers.
    """
    data = bytes(packet)
    for start in _nal_starts(data, length_size):
        if codec == "h264":
            kind = data[start] & 0x1F
            if 1 <= kind <= 5:
                return Unit(anew=kind == 5, reference=bool(data[start] & 0x60))
        else:
            kind = data[start] >> 1 & 0x3F
            if kind < 32:
                return Unit(anew=16 <= kind <= 20, entry=kind == 21, leading=6 <= kind <= 9)
    return Unit(anew=False)


def _nal_starts(data: bytes, length_size: int | None) -> Iterator[int]:
    """Where the NAL units of a packet begin."""
    if length_size is not None:
        position = 0
        while position + length_size < len(data):
            yield position + length_size
            position += length_size + int.from_bytes(data[position : position + length_size], "big")
        return
    position = data.find(b"\0\0\1")
    while 0 <= position < len(data) - 3:
        yield position + 3
        position = data.find(b"\0\0\1", position + 3)
