"""NAL units and headers: what has to be known of a bit stream so that two encoders can share it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from av.packet import Packet

# Ids of sequence parameter sets (ITU-T H.264, 7.4.2.1.1).
_H264_SETS = range(32)
_H264_SPS, _H264_PPS, _H264_SUBSET_SPS = 7, 8, 15
_HEVC_SETS = (32, 33, 34)
_OBU_SEQUENCE_HEADER, _OBU_FRAME_HEADER, _OBU_FRAME = 1, 3, 6


def units(data: bytes, length_size: int | None) -> Iterator[bytes]:
    """The NAL units of a packet, without lengths (of `length_size` bytes) or start codes (None)."""
    if length_size is None:
        yield from _between_start_codes(data)
        return
    position = 0
    while position + length_size < len(data):
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
        yield data[start:position]


def _between_start_codes(data: bytes) -> Iterator[bytes]:
    start = data.find(b"\0\0\1")
    while start >= 0:
        end = data.find(b"\0\0\1", start + 3)
        unit = data[start + 3 : end if end >= 0 else len(data)].rstrip(b"\0")
        if unit:
            yield unit
        start = end


def with_lengths(data: bytes, length_size: int) -> bytes:
    """Start codes (ITU-T H.264, annex B) replaced by lengths (ISO/IEC 14496-15, 5.3).

    Raises:
        OverflowError: A unit is too long for so few bytes.
    """
    return b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units(data, None))


class _Set(NamedTuple):
    """Which parameter set: its NAL unit type and its id."""

    kind: int
    number: int


class ParameterSets:
    """The H.264 or HEVC parameter sets of a stream, where they are and whether they ever change.

    A group of pictures can be replaced only if nobody after it needs a set that it brought along.

    Args:
        codec: `h264` or `hevc`.
        extradata: The stream's global header.
        length_size: Of the packets' NAL units; None for start codes.
    """

    def __init__(self, codec: str, extradata: bytes | None, length_size: int | None) -> None:
        self.codec = codec
        self.length_size = length_size
        self.flaw: str | None = None
        self._declared: dict[_Set, bytes] = {}
        self._carried: dict[_Set, bytes] = {}
        self._groups = 0
        self.declare(extradata)

    def declare(self, extradata: bytes | None) -> None:
        """Take in a global header: avcC, hvcC or start codes."""
        if not extradata:
            return
        if extradata[0] == 1:
            found = _in_avcc(extradata) if self.codec == "h264" else _in_hvcc(extradata)
        else:
            found = _between_start_codes(extradata)
        for unit in found:
            key = self._key(unit)
            if key is not None:
                if self.codec == "h264" and self._declared.get(key, unit) != unit:
                    self.flaw = "its parameter sets change under way"
                self._declared[key] = unit

    def note(self, packet: Packet[Any], *, begins_group: bool) -> None:
        """Look for parameter sets ahead of a packet's first picture."""
        found: dict[_Set, bytes] = {}
        for unit in units(bytes(packet), self.length_size):
            if self._is_picture(unit):
                break
            key = self._key(unit)
            if key is not None and self._declared.get(key) != unit:
                found[key] = unit
        self._groups += begins_group
        if self._groups <= 1 and begins_group:
            self._carried = found
        elif found != self._carried if begins_group else not found.items() <= self._carried.items():
            self.flaw = "its parameter sets change under way"
        if any(key in self._declared for key in found):
            # Which of the two is meant depends on what was read before.
            self.flaw = "its parameter sets change under way"

    def unused(self) -> int | None:
        """An id that no H.264 sequence or picture parameter set of the stream has."""
        used = {key.number for key in (*self._declared, *self._carried)}
        return next((number for number in _H264_SETS if number and number not in used), None)

    def _is_picture(self, unit: bytes) -> bool:
        return 1 <= unit[0] & 0x1F <= 5 if self.codec == "h264" else unit[0] >> 1 & 0x3F < 32

    def _key(self, unit: bytes) -> _Set | None:
        if self.codec == "hevc":
            kind = unit[0] >> 1 & 0x3F
            # VPS and PPS begin with their id; an SPS has it behind a profile of varying length, but few streams
            # have two.
            first = unit[2] >> 4 if kind == _HEVC_SETS[0] else _exponential_golomb(unit[2:]) if kind == 34 else 0
            return _Set(kind, first) if kind in _HEVC_SETS else None
        kind = unit[0] & 0x1F
        if kind in (_H264_SPS, _H264_SUBSET_SPS):
            return _Set(kind, _exponential_golomb(unit[4:]))
        return _Set(kind, _exponential_golomb(unit[1:])) if kind == _H264_PPS else None


def _exponential_golomb(data: bytes) -> int:
    """The first ue(v) of some bytes (ITU-T H.264, 9.1); ids are so small that no emulation prevention is near."""
    bits = "".join(f"{byte:08b}" for byte in data[:8])
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1] or "0", 2) - 1


def _in_avcc(data: bytes) -> Iterator[bytes]:
    """ISO/IEC 14496-15, 5.3.3.1.2."""
    position = 5
    for mask in (0x1F, 0xFF):
        count = data[position] & mask if position < len(data) else 0
        position += 1
        for _ in range(count):
            size = int.from_bytes(data[position : position + 2], "big")
            if size and position + 2 + size <= len(data):
                yield data[position + 2 : position + 2 + size]
            position += 2 + size


def _in_hvcc(data: bytes) -> Iterator[bytes]:
    """ISO/IEC 14496-15, 8.3.3.1.2."""
    position = 23
    for _ in range(data[22] if len(data) > 22 else 0):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            size = int.from_bytes(data[position : position + 2], "big")
            if size > 2 and position + 2 + size <= len(data):
                yield data[position + 2 : position + 2 + size]
            position += 2 + size
            if position >= len(data):
                return


def begins_anew(codec: str, packet: Packet[Any]) -> bool:
    """Whether a VP8, VP9, AV1 or MJPEG packet is a key frame by its own header, not only by the container's word."""
    if not packet.is_keyframe or not packet.size:
        return False
    data = bytes(packet)
    if codec == "vp8":
        return not data[0] & 1  # RFC 6386, 9.1
    if codec == "vp9":
        # VP9 spec, 6.2: marker, profile (one more bit in profile 3), show_existing_frame, frame_type.
        bits = f"{data[0]:08b}"
        header = bits[5:] if bits[2:4] == "11" else bits[4:]
        return header[:2] == "00"
    return _av1_begins_anew(data) if codec == "av1" else codec == "mjpeg"


def _av1_begins_anew(data: bytes) -> bool:
    """A sequence header, then a key frame that is shown (AV1 spec, 5.5, 5.9.2 and 7.6.2)."""
    declared = False
    for kind, body in _obus(data):
        declared = declared or kind == _OBU_SEQUENCE_HEADER
        if kind in (_OBU_FRAME_HEADER, _OBU_FRAME):
            # show_existing_frame 0, frame_type 0 (two bits), show_frame 1
            return declared and bool(body) and body[0] >> 4 == 1
    return False


def _obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of a temporal unit's open bitstream units (AV1 spec, 5.3)."""
    position = 0
    while position < len(data):
        head = data[position]
        position += 2 if head & 4 else 1
        size = len(data) - position
        if head & 2:
            size, position = _leb128(data, position)
        yield head >> 3 & 15, data[position : position + size]
        position += size


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number (AV1 spec, 4.10.5), and where what follows begins."""
    value = 0
    for place in range(8):
        byte = data[position] if position < len(data) else 0
        position += 1
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            break
    return value, position
