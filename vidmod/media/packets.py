"""What a packet's first bytes and a file's index say, before anything is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from vidmod.media.source import open_container

# DivX fills the place of a frame that travelled in the packet before with an empty VOP.
_MPEG4_PLACEHOLDER_BYTES = 20
_MPEG4_VOP = b"\0\0\1\xb6"


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


def hidden_positions(path: Path, container: InputContainer, index: int) -> frozenset[int]:
    """Where in an MP4 the packets are that its edit list keeps from being shown.

    FFmpeg marks those that are needed for decoding and leaves the others out of its index, so the
    index is held against the one without edits.
    """
    if not container.format.name.startswith("mov"):
        return frozenset()
    stream = container.streams[index]
    shown, marked = _positions(stream)
    if len(shown) == stream.frames and not marked:
        return frozenset()
    with open_container(path, edit_lists=False) as unedited:
        every, _ = _positions(unedited.streams[index])
    return frozenset(every - shown)


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
