"""Files that name other files and addresses, as text and inside of containers, and files of odd names."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.containers import (
    Atom,
    atom,
    atoms,
    descend,
    element,
    encoded,
    full,
    jpeg,
    mkv,
    mkv_block,
    mkv_cluster,
    mkv_info,
    number,
    words,
    written,
)
from tests.hostile.trap import SIBLING, Bait
from tests.recipes import Video, make, pixels


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
