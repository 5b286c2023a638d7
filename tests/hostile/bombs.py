"""Small files that cost much: counts that lie, sizes that lie, nesting, and what inflates."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.hostile.containers import (
    HALF,
    MATROSKA,
    UNKNOWN,
    WHOLE,
    atom,
    element,
    full,
    jpeg,
    mkv,
    mkv_block,
    mkv_cluster,
    mkv_track,
    mp4,
    number,
    ts_packet,
    ts_tables,
    words,
)


@dataclass(frozen=True)
class Bomb:
    """A small file that costs much.

    Attributes:
        make: Its bytes.
    """

    name: str
    suffix: str
    make: Callable[[], bytes]

    def write(self, folder: Path) -> Path:
        """Write it, and return where."""
        path = folder / (self.name.replace(" ", "-") + self.suffix)
        path.write_bytes(self.make())
        return path


class _Bits:
    """Writes numbers bit by bit, as H.264's headers have them."""

    def __init__(self) -> None:
        self._bits = ""

    def plain(self, value: int, width: int) -> Self:
        self._bits += f"{value:0{width}b}"
        return self

    def golomb(self, *values: int) -> Self:
        for value in values:
            text = f"{value + 1:b}"
            self._bits += "0" * (len(text) - 1) + text
        return self

    def __bytes__(self) -> bytes:
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


def h264_stream(width: int, height: int, pictures: int) -> bytes:
    """Parameter sets of that size, and pictures whose slices hold next to nothing."""
    size = (width // 16 - 1, height // 16 - 1)
    sps = bytes(_Bits().plain(66, 8).plain(0, 8).plain(62, 8).golomb(0, 0, 2, 1).plain(0, 1).golomb(*size).plain(12, 4))
    pps = bytes(_Bits().golomb(0, 0).plain(0, 2).golomb(0, 0, 0).plain(0, 3).golomb(0, 0, 0).plain(0, 3))
    # One I slice for all macroblocks: its header, then noise.
    slices = [bytes(_Bits().golomb(0, 7, 0).plain(0, 4).golomb(n).plain(0, 2).golomb(0)) for n in range(pictures)]
    units = [b"\x67" + sps, b"\x68" + pps, *(b"\x65" + data + b"\x5a" * 40 for data in slices)]
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    """A PNG's header and the chunks given."""
    rows = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        words(len(data)) + name + data + words(zlib.crc32(name + data)) for name, data in rows
    )


def deflated_zeros(size: int) -> bytes:
    """So many zeros, compressed a thousandfold."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join(parts) + packer.flush()


def _gif(width: int, height: int, frames: int, frame_size: tuple[int, int] = (1, 1)) -> bytes:
    picture = b"\x21\xf9\4\0\1\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, *frame_size, 0) + b"\2\2\x44\1\0"
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + picture * frames + b";"
    )


def _apng(frames: int) -> bytes:
    """An APNG of pictures of one pixel."""
    data = zlib.compress(b"\0\0\0\0")
    chunks = [(b"acTL", words(frames, 0)), (b"fcTL", words(0, 1, 1, 0, 0) + b"\0\1\0\x19\0\0"), (b"IDAT", data)]
    for place in range(1, frames):
        chunks.append((b"fcTL", words(2 * place - 1, 1, 1, 0, 0) + b"\0\1\0\x19\0\0"))
        chunks.append((b"fdAT", words(2 * place) + data))
    return png(1, 1, *chunks)


def _webp(kind: bytes, data: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def _huge_jpeg(width: int, height: int) -> bytes:
    data = bytearray(jpeg())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _tiff(width: int, height: int) -> bytes:
    """One strip of uncompressed gray that is not there."""
    rows = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1),
            (278, 4, height), (279, 4, 4096))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in rows)
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(rows)) + entries + bytes(4)).ljust(200, b"\0") + bytes(4096)


def _nested(name: bytes, depth: int, core: bytes = b"") -> bytes:
    """Boxes in boxes; built from the inside, so linear in time."""
    heads = [struct.pack(">I", len(core) + 8 * (depth - place)) + name for place in range(depth)]
    return b"".join(heads) + core


def _nested_elements(code: int, depth: int, core: bytes = b"") -> bytes:
    head = code.to_bytes((code.bit_length() + 7) // 8, "big")
    size = len(head) + 8
    return (
        b"".join(head + struct.pack(">Q", 1 << 56 | len(core) + size * (depth - place - 1)) for place in range(depth))
        + core
    )


def _fragments(samples: int, sample_size: int, count: int = 1) -> bytes:
    """Fragments that claim many samples and say of none where it is."""
    track = full(b"trex", words(1, 1, 1, 1, 0))
    movie = mp4(
        tables={b"stts": words(0), b"stsc": words(0), b"stsz": words(0, 0), b"stco": words(0)},
        before=atom(b"mvex", track),
    )
    header = full(b"tfhd", words(1, 1, sample_size), flags=0x020018)
    fragment = atom(b"moof", full(b"mfhd", words(1)), atom(b"traf", header, full(b"trun", words(samples, 0), flags=1)))
    return movie + (fragment + atom(b"mdat", jpeg())) * count


def _packed_movie(size: int, claimed: int) -> bytes:
    """QuickTime's compressed index, which inflates to zeros."""
    packed = atom(b"cmov", atom(b"dcom", b"zlib"), atom(b"cmvd", words(claimed), deflated_zeros(size)))
    return atom(b"ftyp", b"qt  ", words(512), b"qt  ") + atom(b"mdat", jpeg()) + atom(b"moov", packed)


def _mkv_packed(size: int, blocks: int) -> bytes:
    """Matroska blocks (and the codec's header) that inflate."""
    packing = element(0x6D80, element(0x6240, number(0x5031, 0), number(0x5032, 3), number(0x5033, 0),
                                      element(0x5034, number(0x4254, 0))))  # fmt: skip
    data = deflated_zeros(size)
    track = mkv_track(1, packing, element(0x63A2, data))
    return mkv(mkv_cluster(*(mkv_block(1, place, data) for place in range(blocks))), tracks=track)


def _mkv_times(*times: int, scale: int = 1_000_000) -> bytes:
    """A cluster for each time, with a picture."""
    info = element(0x1549A966, number(0x2AD7B1, scale), element(0x4D80, b"x"), element(0x5741, b"x"),
                   element(0x4489, struct.pack(">d", 1e300)))  # fmt: skip
    return mkv(*(mkv_cluster(mkv_block(1, 0, jpeg()), time=time) for time in times), info=info)


def _mkv_tags(count: int) -> bytes:
    rows = (element(0x67C8, element(0x45A3, b"T%d" % n), element(0x4487, b"x" * 20)) for n in range(count))
    return mkv(element(0x1254C367, element(0x7373, element(0x63C0), *rows)), mkv_cluster(mkv_block(1, 0, jpeg())))


def _mp4_tags(count: int) -> bytes:
    rows = b"".join(
        atom(b"----", full(b"mean", b"x"), full(b"name", b"k%d" % n), atom(b"data", words(1, 0), b"v" * 20))
        for n in range(count)
    )
    meta = full(b"meta", full(b"hdlr", words(0), b"mdirappl", bytes(9)), atom(b"ilst", rows))
    return mp4(before=atom(b"udta", meta))


def _ts_pids(count: int) -> bytes:
    """A new stream with every packet, and no table that says which there are."""
    head = b"\0\0\1\xe0\0\0\x80\x80\5\x21\0\1\0\1"
    return b"".join(
        ts_packet(0x20 + place % 8000, head + h264_stream(64, 48, 1)[:150]) for place in range(count)
    )  # fmt: skip


def _same_bytes(count: int, step: int = 1) -> bytes:
    """As many pictures as there are numbers in a table, all of the same bytes."""
    tables = {b"stts": (1, count, step), b"stsz": (len(jpeg()), count), b"stco": (count, *[32] * count)}
    return mp4(tables={name: words(*values) for name, values in tables.items()}, duration=count)


def _large(count: int, table: bytes, entry: bytes) -> bytes:
    """A table that is as long as it claims."""
    return mp4(tables={table: words(count) + entry * count})


def _counted(name: bytes, *head: int, size: bytes = b"") -> bytes:
    """A table that claims more than it has."""
    return mp4(tables={name: words(*head) + size})


def _all_counts(count: int) -> bytes:
    """Every table agrees that there are so many samples, in one chunk; 1.3 KB cost 2 GB and 9 s."""
    return mp4(tables={b"stts": words(1, count, 1), b"stsc": words(1, 1, count, 1), b"stsz": words(1, count),
                       b"stco": words(1, 32)}, duration=count)  # fmt: skip


def _avc(width: int, height: int) -> bytes:
    """An MP4 whose H.264 header claims a size that the boxes deny."""
    units = h264_stream(width, height, 1).split(b"\0\0\0\1")[1:]
    sps, pps, picture = units
    config = b"\1" + sps[1:4] + b"\xff\xe1" + struct.pack(">H", len(sps)) + sps
    config += b"\1" + struct.pack(">H", len(pps)) + pps
    sample = words(len(picture)) + picture
    return mp4(sample, codec=b"avc1", config=atom(b"avcC", config))


def _huge_picture(width: int, height: int) -> bytes:
    """A PNG that is whole: one colour, compressed a thousandfold."""
    return png(width, height, (b"IDAT", deflated_zeros(height * (width * 3 + 1) + (1 << 20))))


_PIXEL = (b"IDAT", zlib.compress(bytes(4)))

BOMBS = (
    Bomb("stsz count all agree", ".mp4", lambda: _all_counts(50_000_000)),
    Bomb("stsz count all agree most", ".mp4", lambda: _all_counts(HALF - 1)),
    Bomb("stsz count", ".mp4", lambda: _counted(b"stsz", 1, HALF)),
    Bomb("stsz count without sizes", ".mp4", lambda: _counted(b"stsz", 0, WHOLE)),
    Bomb("stts count", ".mp4", lambda: _counted(b"stts", HALF)),
    Bomb("stts run", ".mp4", lambda: _counted(b"stts", 1, HALF, 1)),
    Bomb("stts runs", ".mp4", lambda: _large(1000, b"stts", words(HALF - 1, 1))),
    Bomb("ctts count", ".mp4", lambda: _counted(b"ctts", HALF)),
    Bomb("ctts run", ".mp4", lambda: _counted(b"ctts", 1, HALF, 1)),
    Bomb("ctts runs", ".mp4", lambda: _large(1000, b"ctts", words(HALF - 1, 1))),
    Bomb("stsc count", ".mp4", lambda: _counted(b"stsc", HALF)),
    Bomb("stsc run", ".mp4", lambda: _counted(b"stsc", 1, 1, HALF, 1)),
    Bomb("stco count", ".mp4", lambda: _counted(b"stco", HALF)),
    Bomb("stss count", ".mp4", lambda: _counted(b"stss", HALF)),
    Bomb("elst count", ".mp4", lambda: mp4(edits=words(HALF, 4, 0, 1 << 16))),
    Bomb("elst repeats", ".mp4", lambda: mp4(edits=words(100_000) + words(4, 0, 1 << 16) * 100_000)),
    Bomb("same bytes", ".mp4", lambda: _same_bytes(50_000)),
    Bomb("trun count", ".mp4", lambda: _fragments(50_000_000, 1)),
    Bomb("trun count without size", ".mp4", lambda: _fragments(HALF, 0)),
    Bomb("truns", ".mp4", lambda: _fragments(1_000_000, 1, 100)),
    Bomb("h264 size", ".h264", lambda: h264_stream(16384, 16384, 4)),
    Bomb("h264 size in ts", ".ts", lambda: ts_tables(1, 1) + ts_packet(
        0x400, b"\0\0\1\xe0\0\0\x80\x80\5\x21\0\1\0\1" + h264_stream(16384, 16384, 2)[:170])),
    Bomb("h264 size in mp4", ".mp4", lambda: _avc(16384, 16384)),
    Bomb("png size", ".png", lambda: png(60000, 60000, _PIXEL)),
    Bomb("png size within pixels", ".png", lambda: png(16000, 16000, _PIXEL)),
    Bomb("png huge", ".png", lambda: _huge_picture(12000, 12000)),
    Bomb("gif size", ".gif", lambda: _gif(65535, 65535, 2)),
    Bomb("gif frame size", ".gif", lambda: _gif(1, 1, 2, (65535, 65535))),
    Bomb("webp size", ".webp", lambda: _webp(b"VP8 ", b"\x30\1\0\x9d\1\x2a\xff\x3f\xff\x3f" + bytes(100))),
    Bomb("webp lossless size", ".webp", lambda: _webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(100))),
    Bomb("webp canvas", ".webp", lambda: _webp(b"VP8X", bytes(4) + b"\xff" * 6)),
    Bomb("jpeg size", ".jpg", lambda: _huge_jpeg(65500, 65500)),
    Bomb("jpeg size within pixels", ".jpg", lambda: _huge_jpeg(16000, 16000)),
    Bomb("tiff size", ".tiff", lambda: _tiff(60000, 60000)),
    Bomb("tiff size within pixels", ".tiff", lambda: _tiff(16000, 16000)),
    Bomb("mkv tracks", ".mkv", lambda: mkv(*(mkv_cluster(mkv_block(1, n, jpeg())) for n in range(4)),
                                           tracks=b"".join(mkv_track(n) for n in range(1, 801)))),
    Bomb("mp4 tracks", ".mp4", lambda: mp4(tracks=800)),
    Bomb("mp4 tracks within limit", ".mp4", lambda: mp4(tracks=190)),
    Bomb("ts streams", ".ts", lambda: ts_tables(20, 30)),
    Bomb("ts pids", ".ts", lambda: _ts_pids(8000)),
    Bomb("ts pids after table", ".ts", lambda: ts_tables(1, 1) + _ts_pids(8000)),
    Bomb("nested moov", ".mp4", lambda: mp4() + _nested(b"moov", 100_000)),
    Bomb("nested trak", ".mp4", lambda: atom(b"ftyp", b"isom", words(0)) + atom(b"moov", _nested(b"trak", 100_000))),
    Bomb("nested udta", ".mp4", lambda: mp4(before=_nested(b"udta", 100_000))),
    Bomb("nested meta", ".mp4", lambda: mp4(before=_nested(b"meta\0\0\0\0", 50_000))),
    Bomb("nested tags", ".mkv", lambda: mkv(element(0x1254C367, element(0x7373, _nested_elements(0x67C8, 50_000))))),
    Bomb("nested chapters", ".mkv", lambda: mkv(element(0x1043A770, element(0x45B9, _nested_elements(0xB6, 50_000))))),
    Bomb("nested segments", ".mkv", lambda: MATROSKA + element(0x18538067, size=UNKNOWN) * 50_000),
    Bomb("nested clusters", ".mkv", lambda: mkv(element(0x1F43B675, number(0xE7, 0), size=UNKNOWN) * 50_000)),
    Bomb("nested groups", ".mkv", lambda: mkv(element(0x1F43B675, element(0xA0, size=UNKNOWN) * 50_000, size=UNKNOWN))),
    Bomb("box size zero", ".mp4", lambda: atom(b"ftyp", b"isom", words(0)) + atom(b"moov", mp4(), size=0)),
    Bomb("box sizes zero", ".mp4", lambda: mp4() + atom(b"free", size=0) * 100_000),
    Bomb("box size one", ".mp4", lambda: mp4() + (words(1) + b"moov" + b"\x7f" + b"\xff" * 7) * 1000),
    Bomb("box size negative", ".mp4", lambda: mp4() + (words(1) + b"trak" + b"\xff" * 8) * 1000),
    Bomb("box size itself", ".mp4", lambda: mp4(before=(words(1) + b"trak" + bytes(8)) * 1000)),
    Bomb("box size seven", ".mp4", lambda: mp4(before=atom(b"trak", size=7) * 1000)),
    Bomb("box mdat far", ".mp4", lambda: words(1) + b"mdat" + b"\x7f" + b"\xff" * 7 + mp4()),
    Bomb("gif frames", ".gif", lambda: _gif(1, 1, 100_000)),
    Bomb("apng frames", ".png", lambda: _apng(30_000)),
    Bomb("mkv far times", ".mkv", lambda: _mkv_times(0, (1 << 62) - 1, (1 << 63) - 1, (1 << 64) - 1)),
    Bomb("mkv far times scaled", ".mkv", lambda: _mkv_times(0, 40, 1 << 40, 1 << 41, scale=(1 << 62) - 1)),
    Bomb("mkv fine times", ".mkv", lambda: _mkv_times(0, 1, 2, 3, scale=1)),
    Bomb("mp4 far end", ".mp4", lambda: mp4(tables={b"stts": words(2, 3, 1, 1, HALF - 1)}, timescale=1)),
    Bomb("mp4 far pictures", ".mp4", lambda: mp4(tables={b"stts": words(1, 4, HALF - 1)}, timescale=1)),
    Bomb("mp4 far fragment", ".mp4", lambda: _far_fragment()),
    Bomb("mp4 negative times", ".mp4", lambda: mp4(tables={b"stts": words(1, 4, -1)})),
    Bomb("mp4 negative offsets", ".mp4", lambda: mp4(tables={b"ctts": words(1, 4, HALF)})),
    Bomb("mp4 one time", ".mp4", lambda: mp4(tables={b"stts": words(1, 4, 0)})),
    Bomb("mp4 many at one time", ".mp4", lambda: _same_bytes(20_000, 0)),
    Bomb("mkv one time", ".mkv", lambda: mkv(mkv_cluster(*(mkv_block(1, 0, jpeg()) for _ in range(3000))))),
    Bomb("mkv times to and fro", ".mkv", lambda: mkv(*(mkv_cluster(mkv_block(1, 0, jpeg()), time=n % 2 * 10**9)
                                                       for n in range(2000)))),
    Bomb("packed movie", ".mov", lambda: _packed_movie(1 << 30, 1 << 30)),
    Bomb("packed movie claims", ".mov", lambda: _packed_movie(1 << 20, HALF - 1)),
    Bomb("mkv packed", ".mkv", lambda: _mkv_packed(9 << 20, 50)),
    Bomb("mkv packed most", ".mkv", lambda: _mkv_packed(1 << 30, 2)),
    Bomb("png profile", ".png", lambda: png(64, 48, (b"iCCP", b"x\0\0" + deflated_zeros(1 << 30)), _PIXEL)),
    Bomb("png text", ".png", lambda: png(64, 48, *[(b"zTXt", b"x\0\0" + deflated_zeros(1 << 28))] * 4, _PIXEL)),
    Bomb("mkv tags", ".mkv", lambda: _mkv_tags(100_000)),
    Bomb("mp4 tags", ".mp4", lambda: _mp4_tags(100_000)),
)  # fmt: skip


def _far_fragment() -> bytes:
    """A fragment whose time is the last one that 64 bits hold."""
    movie, _, _ = _fragments(1, 1).partition(b"moof")
    time = full(b"tfdt", b"\x7f" + b"\xff" * 7, version=1)
    header = full(b"tfhd", words(1, 1, len(jpeg())), flags=0x020018)
    run = full(b"trun", words(1, 8), flags=1)
    moof = atom(b"moof", full(b"mfhd", words(1)), atom(b"traf", header, time, run))
    return movie[:-4] + moof + atom(b"mdat", jpeg())
