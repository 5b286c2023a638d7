"""Files that mean harm, written byte by byte: they name other files, they explode, or they hide pictures.

Three lists, each of one kind:

- `REFERENCES` name files and addresses. Nothing that they name may be opened; a :class:`Trap` tells.
- `BOMBS` are small and cost much. Each has to end, within a limit of time and memory.
- `HIDINGS` show calm pictures and carry :func:`marker`, the harmless pattern that open_nsfw takes for
  explicit, where a player or a careless scanner does not look. It has to be found, or the account is
  not complete.

`python -m tests.hostile FOLDER` writes all of them.
"""

from __future__ import annotations

import ctypes
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from samples.patterns import explicit_pattern
from samples.scenes import calm_scene
from tests.recipes import RATE, Video, box, cut, make, patch_bytes, pixels, set_edit

HALF = 1 << 31
WHOLE = (1 << 32) - 1

# Boxes, elements, packets ---------------------------------------------------------------------


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


# Boxes of a written file ----------------------------------------------------------------------

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


# What references point at ---------------------------------------------------------------------


class _Openings:
    """Names of the files that any process opens in some folders, by inotify."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        in_open = 0x20
        for folder in folders:
            if self._libc.inotify_add_watch(self._fd, os.fsencode(folder), in_open) < 0:
                raise OSError(ctypes.get_errno(), f"inotify {folder}")

    def close(self) -> None:
        os.close(self._fd)

    def names(self) -> set[str]:
        """What was opened since this was asked last; the folders themselves do not count."""
        found: set[str] = set()
        in_isdir, in_overflow = 0x40000000, 0x4000
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                if mask & in_overflow:
                    raise OSError("inotify lost events")
                if not mask & in_isdir:
                    found.add(os.fsdecode(data[16 : 16 + length].rstrip(b"\0")))
                data = data[16 + length :]


@dataclass(frozen=True)
class Bait:
    """What nested references point at. Nobody should ever ask for any of it.

    Attributes:
        folder: Where the hostile file lies; `sibling` and the others lie beside it.
        secret: A file elsewhere.
        tcp: Somebody listens here.
        udp: A port that is free; a receiver of RTP would bind it.
    """

    folder: Path
    secret: Path
    tcp: int
    udp: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.tcp}"

    def text(self, template: str) -> str:
        """A template with `{url}`, `{tcp}`, `{udp}`, `{sibling}`, `{secret}` filled in."""
        return template.format(url=self.url, tcp=self.tcp, udp=self.udp, sibling=SIBLING, secret=self.secret)


SIBLING = "sibling.ts"


class Trap:
    """A listener on the loopback, files that nobody should open, and who came by.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.connections = 0
        self.bound = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # RTP wants an even port, and takes the next one for RTCP.
            while True:
                probe.bind(("127.0.0.1", 0))
                if probe.getsockname()[1] % 2 == 0:
                    break
                probe.close()
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp = probe.getsockname()[1]
            probe.close()
        inside, outside = folder / "in", folder / "out"
        inside.mkdir()
        outside.mkdir()
        self.bait = Bait(inside, outside / "secret.ts", self._listener.getsockname()[1], udp)
        whole = make(outside / "secret.ts", Video(count=4)).read_bytes()
        clip = make(outside / "secret.mp4", Video(count=4)).read_bytes()
        program = make(outside / "secret.mpg", Video("mpeg2video", count=4)).read_bytes()
        for name, data in (
            (SIBLING, whole), ("a", whole), ("b.mp4", clip), ("x.mp4", clip), ("sibling.mov", clip),
            ("job.sub", program), ("sibling.mxf", whole), ("frame001.jpg", jpeg(1)), ("frame002.jpg", jpeg(2)),
            ("frame1.jpg", jpeg(1)), ("frame2.jpg", jpeg(2)), ("key.bin", bytes(16)),
        ):  # fmt: skip
            (inside / name).write_bytes(data)
        self.siblings = {path.name for path in inside.iterdir()} | {path.name for path in outside.iterdir()}
        self._openings = _Openings(inside, outside)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._accept, self._look)]

    def __enter__(self) -> Self:
        self._listener.settimeout(0.05)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._openings.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            connection.close()

    def _look(self) -> None:
        """Whether anybody receives at the UDP port: the kernel's list of sockets tells."""
        wanted = f":{self.bait.udp:04X} "
        tables = [path for path in (Path("/proc/net/udp"), Path("/proc/net/udp6")) if path.exists()]
        while not self._stop.wait(0.02):
            self.bound |= any(wanted in table.read_text("ascii") for table in tables)

    def sprung(self) -> set[str]:
        """What was touched since this was asked last: names of files, `tcp`, `udp`."""
        touched = self._openings.names() & self.siblings
        touched |= {"tcp"} if self.connections else set()
        touched |= {"udp"} if self.bound else set()
        self.connections, self.bound = 0, False
        return touched


@dataclass(frozen=True)
class Reference:
    """A file that names others.

    Attributes:
        suffix: The one that it would have by right.
        write: Gets where to write and what to point at.
        bites: What plain FFmpeg touches on opening it, as :meth:`Trap.sprung` says; empty if it is not
            known to follow this one at all, and only others' players do.
        how: `path` or `object`: what plain FFmpeg is given (as an object, it forgets which protocols are
            allowed); then the options that it has to be given.
        complete: Whether it has pictures of its own, so that its scan may be complete.
    """

    name: str
    suffix: str
    write: Callable[[Path, Bait], object]
    bites: frozenset[str] = frozenset()
    how: str = "path"
    complete: bool = False


FALSE_SUFFIXES = (".mp4", ".mkv", ".ts", ".jpg", "")

_HLS = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:5\n{}#EXT-X-ENDLIST\n"
_HLS_TARGETS = {
    "http": "{url}/x.ts",
    "file": "file://{secret}",
    "absolute": "{secret}",
    "sibling": "{sibling}",
    "concat": "concat:{sibling}|{secret}",
    "crypto": "crypto:{sibling}",
    "data": "data:video/mp2t;base64,RwAAEA==",
    "subfile": "subfile,,start,0,end,0,,:{secret}",
    "tcp": "tcp://127.0.0.1:{tcp}",
    "async": "async:{secret}",
    "cache": "cache:{url}/x.ts",
}
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_DASH = (
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"><Period>'
    '<BaseURL>{base}</BaseURL><AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><SegmentList><Initialization sourceURL="x.mp4"/><SegmentURL media="x.mp4"/></SegmentList>'
    "</Representation></AdaptationSet></Period></MPD>"
)
# name: suffix, text
_TEXTS = {
    **{f"hls {name}": (".m3u8", _HLS.format(f"#EXTINF:5,\n{target}\n")) for name, target in _HLS_TARGETS.items()},
    "hls key": (".m3u8", _HLS.format('#EXT-X-KEY:METHOD=AES-128,URI="{url}/k"\n#EXTINF:5,\n{sibling}\n')),
    "hls key file": (".m3u8", _HLS.format('#EXT-X-KEY:METHOD=AES-128,URI="key.bin"\n#EXTINF:5,\n{sibling}\n')),
    "hls map": (".m3u8", _HLS.format('#EXT-X-MAP:URI="{url}/init.mp4"\n#EXTINF:5,\n{sibling}\n')),
    "hls map file": (".m3u8", _HLS.format('#EXT-X-MAP:URI="x.mp4"\n#EXTINF:5,\nx.mp4\n')),
    "hls master": (".m3u8", "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"{url}/a.m3u8\"\n"
                   "#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\n{url}/v.m3u8\n"),
    "m3u": (".m3u", "#EXTM3U\n#EXTINF:5,x\n{sibling}\n{url}/x.ts\n"),
    "m3u bare": (".m3u", "{sibling}\n{url}/x.ts\n"),
    "pls": (".pls", "[playlist]\nFile1={url}/x.ts\nFile2={sibling}\nNumberOfEntries=2\nVersion=2\n"),
    "dash": (".mpd", _XML + _DASH.format(base="{url}/")),
    "dash file": (".mpd", _XML + _DASH.format(base="./")),
    "ffconcat": (".ffconcat", "ffconcat version 1.0\nfile '{sibling}'\n"),
    "ffconcat http": (".ffconcat", "ffconcat version 1.0\nfile '{url}/x.ts'\n"),
    "ffconcat absolute": (".ffconcat", "ffconcat version 1.0\nfile '{secret}'\noption safe 0\n"),
    "ffconcat subfile": (".ffconcat", "ffconcat version 1.0\nfile 'subfile,,start,0,end,0,,:{sibling}'\n"),
    "sdp": (".sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {udp} RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n"),
    "rtsp": (".rtsp", "rtsptext\nrtsp://127.0.0.1:{tcp}/x\n"),
    "realtime": (".mov", "RTSPtext\r\nrtsp://127.0.0.1:{tcp}/x\r\n"),
    "xspf": (".xspf", _XML + '<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>'
             "{url}/x.ts</location></track><track><location>{sibling}</location></track></trackList></playlist>"),
    "asx": (".asx", '<asx version="3.0"><entry><ref href="{url}/x.wmv"/></entry><entry><ref href="{sibling}"/>'
            "</entry></asx>"),
    "smil": (".smil", '<smil><body><seq><video src="{url}/x.ts"/><video src="{sibling}"/></seq></body></smil>'),
    "ism": (".ism", _XML + '<SmoothStreamingMedia MajorVersion="2"><StreamIndex Type="video" Url="{url}/q"/>'
            "</SmoothStreamingMedia>"),
    "f4m": (".f4m", _XML + '<manifest xmlns="http://ns.adobe.com/f4m/1.0"><media url="{url}/x"/></manifest>'),
    "cpl": (".xml", _XML + '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:'
            "00000000-0000-0000-0000-000000000001</Id><ContentTitle>x</ContentTitle><EditRate>25 1</EditRate>"
            "<SegmentList/></CompositionPlaylist>"),
    "assetmap": (".xml", _XML + '<AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><AssetList><Asset>'
                 "<ChunkList><Chunk><Path>{sibling}</Path></Chunk></ChunkList></Asset></AssetList></AssetMap>"),
    "svg": (".svg", _XML + '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            'width="64" height="48"><image xlink:href="{url}/x.png" width="64" height="48"/>'
            '<image xlink:href="frame001.jpg" width="64" height="48"/></svg>'),
    "vobsub": (".idx", "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\nid: en, index: 0\n"
               "timestamp: 00:00:00:000, filepos: 000000000\n"),
    "avisynth": (".avs", 'DirectShowSource("{sibling}")\n'),
    "vapoursynth": (".vpy", 'open("{secret}").read()\nopen("{sibling}").read()\n'),
    "lavfi": (".lavfi", "movie={sibling}\n"),
    "ffmetadata": (".ffmeta", ";FFMETADATA1\ntitle={url}\n"),
    "qtl": (".qtl", _XML + '<?quicktime type="application/x-quicktime-media-link"?><embed src="{url}/x.mov"/>'),
    "url": (".url", "[InternetShortcut]\nURL={url}/x.mp4\n"),
    "subtitles": (".srt", "1\n00:00:00,000 --> 00:00:01,000\n<img src='{url}/x.png'>\n"),
}  # fmt: skip

# What FFmpeg 8.1 follows of these, as `test_the_corpus_bites` finds it; the rest is for other players.
_BITES = {
    "hls http": ({"tcp"}, "object"),
    "hls file": ({"secret.ts"}, "path"),
    "hls absolute": ({"secret.ts"}, "path"),
    "hls sibling": ({SIBLING}, "path"),
    "hls key": ({"tcp"}, "object"),
    "hls map": ({"tcp"}, "object"),
    "hls map file": ({"x.mp4"}, "path"),
    "hls master": ({"tcp"}, "object"),
    "ffconcat": ({SIBLING}, "path"),
    "sdp": ({"udp"}, "object"),
    "vobsub": ({"job.sub"}, "path"),
}


def _writes_text(template: str) -> Callable[[Path, Bait], object]:
    return lambda path, bait: path.write_text(bait.text(template), "utf-8")


def _mac_alias(name: str, path_name: str = "") -> bytes:
    """A `dref` entry of QuickTime that names a file, by its place beside this one and by its path."""
    # Where no levels of folders are given, the absolute path counts.
    levels = (0, 0) if path_name else (1, 1)
    path_name = path_name or name
    path = struct.pack(">HH", 2, len(path_name)) + path_name.encode() + b"\0" * (len(path_name) & 1)
    return full(b"alis", bytes(10), b"\4disk".ljust(28, b"\0"), bytes(12),
                bytes([len(name)]) + name.encode().ljust(63, b"\0"), bytes(16), struct.pack(">HH", *levels), bytes(16),
                path, b"\xff\xff\0\0")  # fmt: skip


def _elsewhere(path: Path, entry: bytes) -> Path:
    """An MP4 whose pictures lie in another file."""
    data = make(path.with_name("made.mp4"), Video(count=4)).read_bytes()
    path.with_name("made.mp4").unlink()
    tree = atoms(data)
    # Nothing is here: who shows a picture has followed the reference.
    media = descend(tree, b"mdat")
    media.body = bytes(len(media.body))
    descend(tree, b"moov", b"trak", b"mdia", b"minf", b"dinf").parts = [Atom(b"dref", words(0, 1) + entry)]
    path.write_bytes(written(tree))
    return path


def _dref(kind: str) -> Callable[[Path, Bait], object]:
    def write(path: Path, bait: Bait) -> None:
        entries = {
            "alias": _mac_alias("sibling.mov"),
            "alias absolute": _mac_alias("none.mp4", str(bait.secret.with_suffix(".mp4"))),
            "url": full(b"url ", b"sibling.mov\0"),
            "http": full(b"url ", f"{bait.url}/x.mp4\0".encode()),
            "urn": full(b"urn ", b"x\0", f"{bait.url}/x.mp4\0".encode()),
        }
        _elsewhere(path, entries[kind])

    return write


def _reference_movie(path: Path, bait: Bait) -> None:
    """QuickTime's reference movie: a list of addresses and nothing else."""
    links = [f"{bait.url}/x.mov\0".encode(), b"sibling.mov\0"]
    rows = [atom(b"rmda", full(b"rdrf", b"url ", words(len(link)), link)) for link in links]
    path.write_bytes(atom(b"ftyp", b"qt  ", words(512), b"qt  ") + atom(b"moov", atom(b"rmra", *rows)))


def _linked_segment(path: Path, bait: Bait) -> None:
    """A Matroska file that goes on in the next one, by name and by id."""
    info = mkv_info(element(0x73A4, bytes(range(16))), element(0x3EB923, bytes(16)), element(0x3E83BB, b"sibling.ts"),
                    element(0x3C83AB, bait.url.encode()))  # fmt: skip
    path.write_bytes(mkv(mkv_cluster(mkv_block(1, 0, jpeg())), info=info))


def _attachment(path: Path, bait: Bait) -> None:
    """A Matroska file with attached playlists and fonts."""
    rows = [
        element(0x61A7, element(0x466E, name), element(0x4660, kind), element(0x465C, data), number(0x46AE, place))
        for place, (name, kind, data) in enumerate(
            (
                (b"../sibling.ts", b"application/x-mpegURL", bait.text(_HLS.format("#EXTINF:5,\n{url}/x\n")).encode()),
                (b"/etc/x.ttf", b"font/ttf", bait.url.encode()),
                (b"cover.svg", b"image/svg+xml", bait.text(_TEXTS["svg"][1]).encode()),
            ),
            1,
        )
    ]
    path.write_bytes(mkv(element(0x1941A469, *rows), mkv_cluster(mkv_block(1, 0, jpeg()))))


def _mxf_locator(path: Path, bait: Bait) -> None:
    """An MXF file with a NetworkLocator among its header metadata."""
    made = path.with_name("made.mxf")
    data = make(made, Video("mpeg2video", count=4, pixel_format="yuv420p"), container="mxf").read_bytes()
    made.unlink()
    key = bytes.fromhex("060e2b34025301010d01010101013200")
    link = f"{bait.url}/sibling.mxf".encode("utf-16-be")
    rows = struct.pack(">HH", 0x3C0A, 16) + bytes(16) + struct.pack(">HH", 0x4001, len(link)) + link
    # In front of the first set of the preface, which every reader walks through.
    place = data.index(bytes.fromhex("060e2b34025301010d01010101012f00"))
    path.write_bytes(data[:place] + key + struct.pack(">BI", 0x84, len(rows)) + rows + data[place:])


def _writes_jpeg(path: Path, bait: Bait) -> None:
    path.write_bytes(jpeg())


REFERENCES = (
    *(
        Reference(name, suffix, _writes_text(text), frozenset(_BITES[name][0]) if name in _BITES else frozenset(),
                  _BITES[name][1] if name in _BITES else "path")
        for name, (suffix, text) in _TEXTS.items()
    ),
    Reference("dref alias", ".mov", _dref("alias"), frozenset({"sibling.mov"}), "path enable_drefs=1"),
    Reference("dref alias absolute", ".mov", _dref("alias absolute"), frozenset({"secret.mp4"}),
              "path enable_drefs=1 use_absolute_path=1"),
    Reference("dref url", ".mov", _dref("url")),
    Reference("dref http", ".mov", _dref("http")),
    Reference("dref urn", ".mov", _dref("urn")),
    Reference("reference movie", ".mov", _reference_movie),
    Reference("linked segment", ".mkv", _linked_segment, complete=True),
    Reference("attachments", ".mkv", _attachment, complete=True),
    Reference("mxf locator", ".mxf", _mxf_locator, complete=True),
)  # fmt: skip

# Names that FFmpeg's protocols, patterns or a shell could take for something else. Each file is a whole clip.
NAMES: tuple[str, ...] = (
    "concat:a|b.mp4", "http:", "http:x.mp4", "subfile,,start,0,end,0,,:x.mp4", "data:video,x", "crypto:x.mp4",
    "file:x.mp4", "pipe:0", "fd:0", "async:x.mp4", "cache:x.mp4", "tcp:x", "-", "-.mp4", "-i", "--help",
    "a\nb.mp4", " lead.mp4", "trail.mp4 ", "frame%03d.jpg", "frame%d.jpg", "%d.png", "%s%n.mp4", "frame*.jpg",
    "frame[0-9].jpg", "a;b.mp4", "$(x).mp4", "quote'\".mp4", "n" * 246 + ".mp4", "ü\u202e4pm.mp4",
    os.fsdecode(b"\xff\xfe.mp4"), "con.mp4", "x.mp4.m3u8", "x.sdp",
)  # fmt: skip


def write_named(folder: Path, name: str) -> Path:
    """A whole clip (a picture, where the name says so) of that name."""
    path = folder / name
    if name.endswith((".jpg", ".png")):
        path.write_bytes(encoded(path.suffix, pixels(7, 64, 48)))
    else:
        make(folder.parent / "named.mp4", Video(count=4)).replace(path)
    return path


_PLAIN = """
import sys, av
path, how, *options = sys.argv[1:]
options = dict(option.split("=") for option in options)
with av.open(path if how == "path" else open(path, "rb"), container_options=options, timeout=(4, 4)) as container:
    for number, packet in enumerate(container.demux()):
        if number > 8:
            break
"""


def open_plainly(path: Path, how: str = "path") -> None:
    """Open a file as a careless program does, in a process of its own: PyAV without any whitelist."""
    command = [sys.executable, "-c", _PLAIN, str(path), *how.split()]
    process = subprocess.Popen(
        command, cwd=path.parent, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# Bombs ----------------------------------------------------------------------------------------


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


# Hidden pictures ------------------------------------------------------------------------------

HIDING_SIZE = (96, 72)
# At two samples a second, enough that smoothing does not take it for a slip.
_SECONDS = 2
_COUNT = _SECONDS * RATE


def _drawn(picture: NDArray[np.uint8], pixel_format: str) -> VideoFrame:
    return VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)


def calm(**options: Any) -> Video:
    """Hills, in which open_nsfw sees nothing."""
    chosen = {"count": _COUNT, "size": HIDING_SIZE, "pixel_format": "yuv420p", **options}
    size, pixel_format = chosen["size"], chosen["pixel_format"]
    return Video(frames=lambda place: _drawn(calm_scene(size[0], size[1], place / RATE), pixel_format), **chosen)


def marker(**options: Any) -> Video:
    """The pattern that open_nsfw is sure about."""
    chosen = {"count": _COUNT, "size": HIDING_SIZE, "pixel_format": "yuv420p", **options}
    size, pixel_format = chosen["size"], chosen["pixel_format"]
    drawn = explicit_pattern(*size, zoom=1.1)
    return Video(frames=lambda _: _drawn(drawn, pixel_format), **chosen)


def both(**options: Any) -> Video:
    """Calm first, then the pattern."""
    chosen = {"count": 2 * _COUNT, "size": HIDING_SIZE, "pixel_format": "yuv420p", **options}
    size, pixel_format = chosen["size"], chosen["pixel_format"]
    drawn = explicit_pattern(*size, zoom=1.1)

    def draw(place: int) -> VideoFrame:
        return _drawn(calm_scene(size[0], size[1], place / RATE) if place < _COUNT else drawn, pixel_format)

    return Video(frames=draw, **chosen)


_LATER = list(range(_COUNT, 2 * _COUNT))
_LAST = list(range(2 * _COUNT, 3 * _COUNT))


@dataclass(frozen=True)
class Hiding:
    """A calm video that carries the pattern somewhere.

    Attributes:
        write: Writes it.
        found: Whether the pattern has to be found; else it is enough that the account is not complete.
    """

    name: str
    suffix: str
    write: Callable[[Path], object]
    found: bool = False


def _part(path: Path, suffix: str, *videos: Video, **more: Any) -> bytes:
    """The bytes of a clip of its own."""
    made = path.with_name("part" + suffix)
    data = make(made, *videos, **more).read_bytes()
    made.unlink()
    return data


def _joins(suffix: str, first: Sequence[Video], second: Sequence[Video], *, padding: bytes = b"",
           second_options: dict[str, str] | None = None, third: Sequence[Video] = ()
           ) -> Callable[[Path], object]:  # fmt: skip
    """One recording after another, as if it went on, and a third if one is given."""

    def write(path: Path) -> None:
        parts = [_part(path, suffix, *first), _part(path, suffix, *second, options=second_options)]
        parts += [_part(path, suffix, *third)] if third else []
        path.write_bytes(padding.join(parts))

    return write


def _sound_then_picture(pid: str, padding: bytes = b"") -> Callable[[Path], object]:
    """Sound under a PID that carries pictures later."""

    def write(path: Path) -> None:
        sound = _part(path, ".ts", calm(), sound_seconds=_SECONDS, sound_first=True)
        later = _part(path, ".ts", marker(times=_LATER), options={"mpegts_start_pid": pid})
        path.write_bytes(sound + padding + later)

    return write


def _only_sound_then_picture(path: Path) -> None:
    sound = _part(path, ".ts", calm(count=1), sound_seconds=_SECONDS, sound_first=True)
    # The only picture goes, and with it the PID's claim to be one.
    kept = [sound[at : at + TS_SIZE] for at in range(0, len(sound), TS_SIZE)]
    data = b"".join(packet for packet in kept if (packet[1] << 8 | packet[2]) & 0x1FFF != 0x101)
    path.write_bytes(data + TS_PADDING + _part(path, ".ts", marker(times=_LATER)))


def _edited(milliseconds: int, media_time: int) -> Callable[[Path], object]:
    return lambda path: set_edit(make(path, both()), milliseconds, media_time)


def _many_edits(*edits: tuple[int, int]) -> Callable[[Path], object]:
    """An edit list with these parts: length in ms, and from where (-1: nothing is shown)."""

    def write(path: Path) -> None:
        tree = atoms(_part(path, ".mp4", both()))
        rows = b"".join(words(length, start, 1 << 16) for length, start in edits)
        descend(tree, b"moov", b"trak", b"edts", b"elst").body = words(0, len(edits)) + rows
        path.write_bytes(written(tree))

    return write


def _disabled(path: Path) -> None:
    """A second track that is not enabled, not in the movie and not in the preview."""
    make(path, calm(), marker())
    patch_bytes(path, (box(path, b"tkhd", 1), bytes(4)))


def _disabled_matroska(path: Path) -> None:
    data = make(path, calm(), marker()).read_bytes()
    # FlagLacing is written for every track; what it says of pictures means nothing, so its place is free.
    place = data.index(b"\x9c\x81\x00", data.index(b"\x9c\x81\x00") + 1)
    path.write_bytes(data[:place] + b"\xb9\x81\x00" + data[place + 3 :])


def _unknown_handler(path: Path) -> None:
    """A second track that says it is no video."""
    make(path, calm(), marker())
    patch_bytes(path, (box(path, b"vide", 1) - 4, b"meta"))


def _cover(codec: str, pixel_format: str) -> Callable[[Path], object]:
    def mark(stream: VideoStream) -> None:
        stream.disposition = type(stream.disposition).attached_pic

    cover = marker(count=1, setup=mark, codec=codec, pixel_format=pixel_format)
    return lambda path: make(path, calm(), cover)


def _attached_picture(path: Path) -> None:
    """A Matroska attachment that players show as cover."""
    shown, hidden = _shown_and_hidden()
    row = element(0x61A7, element(0x466E, b"cover.jpg"), element(0x4660, b"image/jpeg"), element(0x465C, hidden),
                  number(0x46AE, 1))  # fmt: skip
    blocks = (mkv_block(1, 40 * place, shown) for place in range(_COUNT))
    path.write_bytes(mkv(element(0x1941A469, row), mkv_cluster(*blocks)))


def _shown_and_hidden() -> tuple[bytes, bytes]:
    pictures = (calm_scene(*HIDING_SIZE, 0), explicit_pattern(*HIDING_SIZE, zoom=1.1))
    shown, hidden = (encoded(".jpg", np.ascontiguousarray(picture[:, :, ::-1])) for picture in pictures)
    return shown, hidden


def _beyond(count: int) -> Callable[[Path], object]:
    """The pattern in a track after so many that are empty."""

    def write(path: Path) -> None:
        shown, hidden = _shown_and_hidden()
        tracks = mkv_track(1) + b"".join(mkv_track(2 + place, codec=b"S_TEXT/UTF8") for place in range(count))
        last = count + 2
        blocks = [mkv_block(1, 40 * place, shown) + _far_block(last, 40 * place, hidden) for place in range(_COUNT)]
        path.write_bytes(mkv(mkv_cluster(*blocks), tracks=tracks + mkv_track(last)))

    return write


def _block_of_no_track(path: Path) -> None:
    """FFmpeg throws away what follows such a block, up to the next cluster; other players do not."""
    shown, hidden = _shown_and_hidden()
    blocks = [mkv_block(1, 40 * place, shown if place < _COUNT else hidden) for place in range(2 * _COUNT)]
    blocks.insert(_COUNT, mkv_block(9, 40 * _COUNT, shown))
    path.write_bytes(mkv(mkv_cluster(*blocks)))


def _far_block(place: int, time: int, data: bytes) -> bytes:
    """A SimpleBlock whose track number needs three bytes."""
    return element(0xA3, (1 << 21 | place).to_bytes(3, "big") + struct.pack(">hB", time, 0x80), data)


def _after(first: Callable[[Path], bytes], padding: bytes = b"") -> Callable[[Path], object]:
    """A whole video after the end of something else."""
    return lambda path: path.write_bytes(first(path) + padding + _part(path, ".mp4", marker()))


def _calm_jpeg(_: Path) -> bytes:
    return encoded(".jpg", calm_scene(*HIDING_SIZE, 0)[:, :, ::-1])


def _calm_png(_: Path) -> bytes:
    return encoded(".png", calm_scene(*HIDING_SIZE, 0)[:, :, ::-1])


def _calm_gif(path: Path) -> bytes:
    return _part(path, ".gif", calm(codec="gif", pixel_format="rgb8", count=10))


def _calm_mp4(path: Path) -> bytes:
    return _part(path, ".mp4", calm())


def _zipped(path: Path) -> None:
    """An archive that stores a video, in front of which nothing else is."""
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.mp4", _part(path, ".mp4", marker()))
    path.write_bytes(data.getvalue())


def _video_then_zip(path: Path) -> None:
    _zipped(path)
    path.write_bytes(_part(path, ".mp4", marker()) + path.read_bytes())


def _fragmented(change: Callable[[list[Atom]], list[Atom]]) -> Callable[[Path], object]:
    """A fragmented MP4, one fragment a group of pictures, with its boxes changed."""

    def write(path: Path) -> None:
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        path.write_bytes(written(change(atoms(_part(path, ".mp4", both(), options=options)))))

    return write


def _pairs(tree: list[Atom]) -> list[int]:
    return [place for place, part in enumerate(tree) if part.name == b"moof"]


def _without_fragment(tree: list[Atom]) -> list[Atom]:
    place = _pairs(tree)[-2]
    return tree[:place] + tree[place + 2 :]


def _fragments_backward(tree: list[Atom]) -> list[Atom]:
    places = _pairs(tree)
    rest = [part for place in reversed(places) for part in tree[place : place + 2]]
    return tree[: places[0]] + rest + tree[places[-1] + 2 :]


def _fragment_points_back(tree: list[Atom]) -> list[Atom]:
    """The last fragments say that their pictures are those of the first one."""
    places = _pairs(tree)
    sizes = [len(bytes(part)) for part in tree]
    for place in places[len(places) // 2 :]:
        run = descend(tree[place].parts or [], b"traf", b"trun")
        back = sum(sizes[places[0] + 1 : place])
        run.body = run.body[:8] + words(8 - back) + run.body[12:]
    return tree


def _without_index(tree: list[Atom]) -> list[Atom]:
    """Fragments that players find by the index at the end are all there; the index names the calm ones only."""
    return [part for part in tree if part.name not in (b"mfra", b"sidx")]


def _other_description(path: Path) -> None:
    """A track with two sample descriptions; pictures of the second one are of another codec."""
    first, second = calm(), marker(codec="mpeg4")
    tree, other = atoms(_part(path, ".mp4", first)), atoms(_part(path, ".mp4", second))
    table = descend(tree, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    more = descend(other, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    parts, extra = ({part.name: part for part in item.parts or []} for item in (table, more))
    parts[b"stsd"].body = words(0, 2) + parts[b"stsd"].body[8:] + extra[b"stsd"].body[8:]
    sizes = [part.body[12:] for part in (parts[b"stsz"], extra[b"stsz"])]
    parts[b"stsz"].body = words(0, 0, 2 * _COUNT) + sizes[0] + sizes[1]
    delta = struct.unpack_from(">I", parts[b"stts"].body, 12)[0]
    parts[b"stts"].body = words(0, 1, 2 * _COUNT, delta)
    data = descend(other, b"mdat").body
    start = len(bytes(tree[0])) + len(bytes(tree[1])) if tree[1].name == b"free" else len(bytes(tree[0]))
    media = descend(tree, b"mdat")
    chunks = (start + 8, start + 8 + len(media.body))
    media.body += data
    parts[b"stsc"].body = words(0, 2, 1, _COUNT, 1, 2, _COUNT, 2)
    parts[b"stco"].body = words(0, 2, *chunks)
    table.parts = [part for name, part in parts.items() if name not in (b"ctts", b"stss")]
    for header, place, factor in ((b"mdhd", 16, 2),):
        body = descend(tree, b"moov", b"trak", b"mdia", header)
        body.body = (
            body.body[:place] + words(factor * struct.unpack_from(">I", body.body, place)[0]) + body.body[place + 4 :]
        )
    trak = descend(tree, b"moov", b"trak")
    trak.parts = [part for part in trak.parts or [] if part.name != b"edts"]
    path.write_bytes(written(tree))


def _garbage(size: int) -> bytes:
    return np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes().replace(b"\x47", b"\0")


def _late_flv(path: Path) -> None:
    """Sound for longer than a reader looks, then pictures."""
    tag = b"\x12" + (60_000).to_bytes(3, "big") + bytes(7) + b"\2\0\1x\5".ljust(60_000, b"\0") + words(60_011)
    data = bytearray(_part(path, ".flv", marker(codec="flv1"), sound_seconds=_SECONDS, sound_first=True))
    data[4] = 4  # the header says that there is sound, and no pictures
    end = 13
    path.write_bytes(bytes(data[:end]) + tag * 100 + bytes(data[end:]))


HIDINGS = (
    Hiding("nothing hidden", ".mp4", lambda path: make(path, both()), found=True),
    *(
        Hiding(f"codec change to {codec}", ".ts", _joins(".ts", [calm()], [marker(codec=codec, times=_LATER)],
               second_options={"mpegts_flags": "initial_discontinuity"}))
        for codec in ("mpeg2video", "libx265", "mpeg4")
    ),
    Hiding("late codec change", ".ts", _joins(".ts", [calm()], [marker(codec="mpeg2video", times=_LATER)],
                                              padding=TS_PADDING, third=[calm(times=_LAST)])),
    Hiding("sound becomes picture", ".ts", _sound_then_picture("256")),
    Hiding("sound becomes picture late", ".ts", _sound_then_picture("256", TS_PADDING)),
    Hiding("other sound becomes picture", ".ts", _sound_then_picture("257")),
    Hiding("only sound becomes picture", ".ts", _only_sound_then_picture),
    Hiding("second pid", ".ts", _joins(".ts", [calm()], [calm(times=_LATER), marker(times=_LATER)])),
    Hiding("late second pid", ".ts", _joins(".ts", [calm()], [calm(times=_LATER), marker(times=_LATER)],
                                            padding=TS_PADDING, third=[calm(times=_LAST)])),
    Hiding("late other pid", ".ts", _joins(".ts", [calm()], [marker(times=_LATER)], padding=TS_PADDING,
                                           third=[calm(times=_LAST)], second_options={"mpegts_start_pid": "300"})),
    Hiding("late second stream", ".mpg", _joins(
        ".mpg", [calm(codec="mpeg2video")], [calm(codec="mpeg2video"), marker(codec="mpeg2video")],
        padding=b"\0\0\1\xbe\x40\0".ljust(0x4006, b"\xff") * 400, third=[calm(codec="mpeg2video")])),
    Hiding("late pictures", ".flv", _late_flv),
    Hiding("garbage first", ".ts", lambda path: path.write_bytes(_garbage(100_001) + _part(path, ".ts", marker()))),
    Hiding("garbage between", ".ts", _joins(".ts", [calm()], [marker(times=_LATER)], padding=_garbage(100_001))),
    Hiding("time starts again", ".ts", _joins(".ts", [calm()], [marker()])),
    Hiding("time far ahead", ".ts", _joins(".ts", [calm()], [marker(times=[10**5 + n for n in range(_COUNT)])])),
    Hiding("size changes", ".ts", _joins(".ts", [calm()], [marker(times=_LATER, size=(160, 120))])),
    Hiding("size changes raw", ".h264", _joins(".h264", [calm()], [marker(size=(160, 120))])),
    Hiding("format changes", ".ts", _joins(".ts", [calm()], [marker(times=_LATER, pixel_format="yuv444p")])),
    Hiding("depth changes", ".ts", _joins(".ts", [calm()], [marker(times=_LATER, pixel_format="yuv420p10le")])),
    Hiding("edit hides the end", ".mp4", _edited(1000 * _SECONDS, 0), found=True),
    Hiding("edit hides all", ".mp4", _edited(1, 0), found=True),
    Hiding("edit of no length", ".mp4", _edited(0, 0)),
    Hiding("edit beyond the end", ".mp4", _edited(1000, 1 << 30)),
    Hiding("empty edit", ".mp4", _edited(4000, -1)),
    Hiding("empty edits", ".mp4", _many_edits((1000, -1), (1000, -1), (1000 * _SECONDS, 0), (1000, -1))),
    Hiding("edits repeat the calm", ".mp4", _many_edits(*[(1000, 0)] * 8)),
    Hiding("edits backward", ".mp4", _many_edits((1000, 512 * 25), (1000, 0))),
    Hiding("second track", ".mp4", lambda path: make(path, calm(), marker()), found=True),
    Hiding("second track disabled", ".mp4", _disabled, found=True),
    Hiding("second track disabled", ".mkv", _disabled_matroska, found=True),
    Hiding("second track is no video", ".mp4", _unknown_handler),
    Hiding("second track", ".avi", lambda path: make(path, calm(codec="mpeg4"), marker(codec="mpeg4")), found=True),
    Hiding("track beyond the limit", ".mkv", _beyond(250)),
    Hiding("block of no track", ".mkv", _block_of_no_track),
    Hiding("cover png", ".mp4", _cover("png", "rgb24"), found=True),
    Hiding("cover jpeg", ".mp4", _cover("mjpeg", "yuvj420p"), found=True),
    Hiding("attached picture", ".mkv", _attached_picture, found=True),
    Hiding("second description", ".mp4", _other_description),
    Hiding("jpeg then mp4", ".jpg", _after(_calm_jpeg)),
    Hiding("png then mp4", ".png", _after(_calm_png)),
    Hiding("gif then mp4", ".gif", _after(_calm_gif)),
    Hiding("mp4 then mp4", ".mp4", _after(_calm_mp4)),
    Hiding("mp4 then garbage then mp4", ".mp4", _after(_calm_mp4, b"\0\0\0\0" + _garbage(1000))),
    Hiding("zip of mp4", ".mp4", _zipped),
    Hiding("mp4 then zip", ".mp4", _video_then_zip, found=True),
    Hiding("mkv then mkv", ".mkv", _joins(".mkv", [calm()], [marker()])),
    Hiding("avi then avi", ".avi", _joins(".avi", [calm(codec="mpeg4")], [marker(codec="mpeg4")])),
    Hiding("flv then flv", ".flv", _joins(".flv", [calm(codec="flv1")], [marker(codec="flv1")])),
    Hiding("nut then nut", ".nut", _joins(".nut", [calm(codec="mpeg4")], [marker(codec="mpeg4")])),
    Hiding("fragment missing", ".mp4", _fragmented(_without_fragment)),
    Hiding("fragments backward", ".mp4", _fragmented(_fragments_backward)),
    Hiding("fragments point back", ".mp4", _fragmented(_fragment_points_back)),
    Hiding("fragments without index", ".mp4", _fragmented(_without_index), found=True),
    Hiding("cut after the calm", ".mp4",
           lambda path: cut(make(path, both(), options={"movflags": "faststart"}), -3000)),
)  # fmt: skip


def main() -> None:
    """Write all bombs, hidings and names."""
    folder = Path(sys.argv[1])
    for name in ("bombs", "hidings", "references", "names"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for bomb in BOMBS:
        bomb.write(folder / "bombs")
    for hiding in HIDINGS:
        hiding.write(folder / "hidings" / (hiding.name.replace(" ", "-") + hiding.suffix))
    for name in NAMES:
        write_named(folder / "names", name)
    with Trap(folder / "references") as trap:
        for reference in REFERENCES:
            reference.write(
                trap.bait.folder / ("job-" + reference.name.replace(" ", "-") + reference.suffix), trap.bait
            )


if __name__ == "__main__":
    main()
