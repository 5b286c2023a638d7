"""Damage, tricks and refusals; and real files that break tools."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import os
import socket
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from av.packet import Packet

from tests.recipes import (
    Video,
    box,
    cut,
    joined,
    make,
    make_sound,
    make_with_cover,
    number_in,
    patch_bytes,
    places,
    scramble_packets,
    set_edit,
    zero_packets,
)
from tests.test_media import assert_sound, in_parts, numbers, read
from vidmod.errors import (
    NotVideoError,
    SourceError,
    SourceNotFoundError,
    SourceUnreadableError,
    UndecodableError,
)
from vidmod.media.packets import holds_picture
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.timebase import Span, union

FRAME = 512  # length of a picture in the time base of the MP4 files made here


# Corrupt packets ------------------------------------------------------------------------------


DAMAGED = [[0], [12], [33, 35], [38], [37, 39], [5, 22], [20, 21], list(range(0, 40, 3))]
CODECS = [
    Video("libx264", 40),
    Video("libx264", 40, b_frames=2),
    Video("libx265", 40, b_frames=2),
    Video("mpeg4", 40, b_frames=2),
    Video("mpeg2video", 40, b_frames=2),
    Video("libvpx-vp9", 40),
    Video("libsvtav1", 40),
]


@pytest.mark.parametrize("damage", [zero_packets, scramble_packets])
@pytest.mark.parametrize("video", CODECS, ids=lambda video: f"{video.codec}-{video.b_frames}")
def test_damage_is_accounted_for(tmp_path: Path, video: Video, damage: Callable[[Path, list[int]], Path]) -> None:
    """Also where every part is decoded by itself."""
    whole = make(tmp_path / "whole.mp4", video).read_bytes()
    path = tmp_path / "damaged.mp4"
    for packets in DAMAGED:
        path.write_bytes(whole)
        damage(path, packets)
        rows, ledger = read(path)
        assert ledger.packets == 40
        assert ledger.packets == ledger.frames + ledger.lost + ledger.hidden + ledger.without_picture
        parted, ledgers = in_parts(path)
        assert sum(item.packets for item in ledgers) == 40
        assert sum(item.frames + item.lost for item in ledgers) == ledger.frames + ledger.lost
        assert len(parted) >= len(rows)


def test_a_hole_is_where_the_lost_picture_was(tmp_path: Path) -> None:
    for lost in ([12], [5, 22], [38], [39], [19, 28, 29]):
        rows, ledger = read(zero_packets(make(tmp_path / "a.mp4", Video(count=40)), lost))
        assert numbers(rows)[: lost[0]] == list(range(lost[0]))
        assert [pts for _, pts, _ in rows] == [n * FRAME for n in range(40) if n not in lost]
        assert ledger.holes == union(Span(n * FRAME, (n + 1) * FRAME) for n in lost)
        assert (ledger.packets, ledger.frames, ledger.lost) == (40, 40 - len(lost), len(lost))
        assert_sound(rows, ledger)


def test_a_lost_key_frame_takes_its_group_with_it(tmp_path: Path) -> None:
    rows, ledger = read(zero_packets(make(tmp_path / "a.mp4"), [0]))
    assert numbers(rows) == list(range(10, 20))
    assert ledger.holes == [Span(0, 10 * FRAME)]
    assert (ledger.first_pts, ledger.lost) == (0, 10)


def test_a_loss_just_before_the_wanted_end_is_a_hole(tmp_path: Path) -> None:
    path = zero_packets(make(tmp_path / "a.mp4", Video(count=40)), [17])
    rows, ledger = read(path, end=18 * FRAME)
    assert [pts for _, pts, _ in rows] == [n * FRAME for n in range(17)]
    assert ledger.holes == [Span(17 * FRAME, 18 * FRAME)]
    assert (ledger.packets, ledger.lost) == (ledger.frames + 1, 1)
    rows, ledger = read(path, end=15 * FRAME)
    assert (ledger.holes, ledger.lost) == ([], 0)


def test_a_reader_that_is_stopped_settles_its_account(tmp_path: Path) -> None:
    path = zero_packets(make(tmp_path / "a.mp4", Video(count=40)), [3])
    with Reader(path, probe(path).tracks[0]) as reader:
        frames = reader.frames()
        assert [next(frames).pts for _ in range(6)][-1] == 6 * FRAME
        frames.close()
    assert reader.ledger.holes == [Span(3 * FRAME, 4 * FRAME)]


def test_a_loss_before_the_wanted_start_is_no_loss(tmp_path: Path) -> None:
    path = zero_packets(make(tmp_path / "a.mp4"), [3])
    time_base = probe(path).tracks[0].time_base
    rows, ledger = read(path, start=5 * FRAME * time_base)
    assert [pts for _, pts, _ in rows] == [n * FRAME for n in range(5, 20)]
    assert (ledger.lost, ledger.holes) == (0, [])
    assert ledger.packets == ledger.frames


def test_a_loss_after_a_clock_was_set_back_is_where_it_was_shown(tmp_path: Path) -> None:
    def spoil(packet: Packet[Any], place: int) -> None:
        if place == 5:
            data = bytes(packet)
            packet.update(data[:5] + b"\xff" * (len(data) - 5))

    late = make(tmp_path / "a.ts", Video(count=10, times=range(250, 260)))
    early = make(tmp_path / "b.ts", Video(count=20, first=10, patch=spoil))
    rows, ledger = read(joined(tmp_path / "c.ts", late, early))
    start = rows[0][1]
    assert ledger.lost == 1
    assert ledger.holes == [Span(start + 15 * 3600, start + 16 * 3600)]
    assert (ledger.first_pts, ledger.end_pts) == (start, start + 30 * 3600)


def test_losses_in_avi_are_placed_by_decoding_time(tmp_path: Path) -> None:
    path = make(tmp_path / "a.avi", Video("mjpeg", pixel_format="yuvj420p"))
    found = places(path)
    patch_bytes(path, (found[7][0] + 8, bytes(found[7][1] - 8)))
    rows, ledger = read(path)
    assert (ledger.frames, ledger.lost) == (19, 1)
    assert ledger.holes == [Span(7, 8)]
    assert_sound(rows, ledger)


def test_reading_through_a_large_file_gives_signs_of_life(tmp_path: Path) -> None:
    path = make(tmp_path / "a.ts", Video(count=20))
    packet = b"\x47\x1f\xff\x10" + bytes(184)  # PID 0x1FFF: nothing, to fill up
    path.write_bytes(path.read_bytes() + packet * 120_000)
    signs: list[None] = []
    assert probe(path, lambda: signs.append(None)).unlisted == ()
    assert len(signs) == 3, "one for each ten megabytes"


# Cut off --------------------------------------------------------------------------------------


def test_an_mp4_without_its_index_is_refused_in_words(tmp_path: Path) -> None:
    path = cut(make(tmp_path / "a.mp4"), -400)
    path = cut(path, box(path, b"moov") - 8) if b"moov" in path.read_bytes() else path
    with pytest.raises(UndecodableError, match="without its index"):
        probe(path)


def test_an_mp4_that_is_cut_off_after_its_index_is_truncated(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Video(b_frames=2), options={"movflags": "faststart"})
    position, _ = places(path)[12]
    rows, ledger = read(cut(path, position))
    assert 8 <= len(rows) <= 12
    assert ledger.truncated
    assert ledger.end_pts == 20 * FRAME
    assert ledger.holes[-1].end == 20 * FRAME
    assert_sound(rows, ledger)


def test_the_last_picture_alone_cut_off_is_seen(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", options={"movflags": "faststart"})
    rows, ledger = read(cut(path, places(path)[19][0]))
    assert numbers(rows) == list(range(19))
    assert ledger.truncated
    assert ledger.holes == [Span(19 * FRAME, 20 * FRAME)]


@pytest.mark.parametrize("sound_seconds", [0, 0.8])
def test_a_matroska_that_is_cut_off_is_truncated(tmp_path: Path, sound_seconds: float) -> None:
    path = make(tmp_path / "a.mkv", Video(count=40), sound_seconds=sound_seconds)
    rows, ledger = read(cut(path, path.stat().st_size // 2))
    assert 0 < len(rows) < 40
    assert numbers(rows) == list(range(len(rows)))
    assert ledger.truncated
    assert (ledger.holes[-1].end, ledger.end_pts) == (1600, 1600)


def test_two_pictures_missing_from_a_matroska_are_seen(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", Video(count=40))
    rows, ledger = read(cut(path, places(path)[38][0]))
    assert numbers(rows) == list(range(38))
    assert ledger.truncated
    assert ledger.holes == [Span(1520, 1600)]


def test_a_short_last_picture_that_is_cut_off_is_seen(tmp_path: Path) -> None:
    """The index tells, where the claimed duration is too little longer to say anything."""
    video = Video(count=4, times=[0, 10, 20, 21])
    path = make(tmp_path / "a.mp4", video, options={"movflags": "faststart"})
    assert not read(path)[1].truncated
    rows, ledger = read(cut(path, places(path)[3][0]))
    assert numbers(rows) == [0, 1, 2]
    assert ledger.truncated
    assert ledger.holes == [Span(21 * FRAME, 22 * FRAME)]


def test_a_fragmented_mp4_that_is_cut_off_keeps_what_is_there(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Video(count=40), options={"movflags": "frag_keyframe+empty_moov"})
    rows, ledger = read(cut(path, path.stat().st_size // 2))
    assert 0 < len(rows) < 40
    assert numbers(rows) == list(range(len(rows)))
    assert ledger.truncated
    assert ledger.holes[-1].end == ledger.end_pts
    assert_sound(rows, ledger)


# No picture at all ----------------------------------------------------------------------------


def test_a_file_of_which_no_frame_decodes_is_all_hole(tmp_path: Path) -> None:
    rows, ledger = read(zero_packets(make(tmp_path / "a.mp4"), range(20)))
    assert rows == []
    assert (ledger.packets, ledger.lost) == (20, 20)
    assert ledger.holes == [Span(0, 20 * FRAME)]


def test_an_unknown_codec_is_a_source_error(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4")
    patch_bytes(path, (box(path, b"avc1", path.read_bytes().count(b"avc1") - 1) - 4, b"zzzz"))
    track = probe(path).tracks[0]
    with pytest.raises(SourceUnreadableError, match=r"a\.mp4: stream 0 .*codec"), Reader(path, track) as reader:
        list(reader.frames())


def test_a_file_that_became_another_is_a_source_error(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", Video(), Video("mpeg4"))
    track = probe(path).tracks[1]
    make_sound(tmp_path / "b.wav").replace(path)
    with pytest.raises(SourceUnreadableError, match="changed"):
        Reader(path, track)


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    empty, text, noise = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "noise.mp4"
    empty.touch()
    text.write_text("Dear reader,\nthis is a létter.\n" * 20, encoding="utf-8")
    noise.write_bytes(bytes(range(256)) * 40)
    for path, kind, words in (
        (tmp_path / "none.mp4", SourceNotFoundError, "no such file"),
        (tmp_path / "a\0b.mp4", SourceNotFoundError, "no such file"),
        (tmp_path, NotVideoError, "is a folder"),
        (empty, NotVideoError, "is empty"),
        (text, NotVideoError, "is text"),
        (noise, NotVideoError, "is not a video"),
    ):
        with pytest.raises(kind, match=words) as caught:
            probe(path)
        assert str(caught.value).startswith(str(path))


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(NotVideoError, match="pipe"):
        probe(pipe)


def test_a_file_that_becomes_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, file = tmp_path / "pipe.mp4", make(tmp_path / "a.mp4")
    os.mkfifo(pipe)
    before = file.stat()
    monkeypatch.setattr(Path, "stat", lambda _: before)
    with pytest.raises(NotVideoError, match="pipe"):
        probe(pipe)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = make(tmp_path / "a.mp4")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SourceUnreadableError, match=r"cannot be read \(Permission denied\)"):
        probe(path)


def test_odd_names_open(tmp_path: Path) -> None:
    for name in ("http:x.mp4", "concat:a|b.mp4", "a b%d ü.mp4", "-.mp4", "a\nb.mp4", "subfile,,a.mp4"):
        path = tmp_path / name
        make(tmp_path / "a.mp4", Video(count=2)).replace(path)
        assert numbers(read(path)[0]) == [0, 1]
    path = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.mp4"))
    make(tmp_path / "a.mp4", Video(count=2)).replace(path)
    with contextlib.suppress(SourceError):
        assert numbers(read(path)[0]) == [0, 1]


# Playlists and other files that name files ----------------------------------------------------


class _Server(http.server.ThreadingHTTPServer):
    """Counts who connects."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        self.connections = 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return False


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}/a.ts\n#EXTINF:10,\n{file}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{file}'\nfile '{url}/a.mp4'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{url}/</BaseURL>'
    "</Period></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ffconcat", "sdp", "mpd"])
def test_a_text_that_names_other_files_opens_none_of_them(tmp_path: Path, kind: str, suffix: str) -> None:
    secret = make(tmp_path / "secret.mp4", Video(count=2))
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = server.server_address[1]
        path = tmp_path / f"list.{suffix}"
        text = PLAYLISTS[kind].format(url=f"http://127.0.0.1:{port}", file=secret.name, port=port)
        path.write_text(text, encoding="utf-8")
        try:
            with pytest.raises(NotVideoError, match=r"is a playlist|is text"):
                probe(path)
        finally:
            server.shutdown()
            thread.join()
    assert server.connections == 0


def test_the_server_of_these_tests_counts() -> None:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as connection:
            connection.recv(1)
        server.shutdown()
        thread.join()
    assert server.connections == 1


# Hostile headers ------------------------------------------------------------------------------


def _at(path: Path, name: bytes, offset: int, new: bytes) -> Path:
    return patch_bytes(path, (box(path, name) + offset, new))


HOSTILE = {
    "time base 0": (b"mdhd", 12, bytes(4)),
    "time base 1": (b"mdhd", 12, b"\0\0\0\1"),
    "time base huge": (b"mdhd", 12, b"\x7f\xff\xff\xff"),
    "media duration huge": (b"mdhd", 16, b"\xff\xff\xff\xfe"),
    "movie duration huge": (b"mvhd", 16, b"\xff\xff\xff\xfe"),
    "picture duration 0": (b"stts", 12, bytes(4)),
    "picture duration huge": (b"stts", 12, b"\x7f\xff\xff\xff"),
    "picture duration negative": (b"stts", 12, b"\xff\xff\xff\xf0"),
    "no sizes": (b"stsz", 8, bytes(4)),
    "size huge": (b"stsz", 12, b"\x7f\xff\xff\xff"),
    "size zero": (b"stsz", 12, bytes(4)),
    "width huge": (b"avc1", 24, b"\xff\xff\xff\xff"),
    "chunk far away": (b"stco", 8, b"\x7f\xff\xff\xff"),
    "offset negative": (b"ctts", 12, b"\x80\0\0\0"),
    "edit far away": (b"elst", 12, b"\x7f\xff\xff\xff"),
    "edit before": (b"elst", 12, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_ends_in_an_account_or_a_source_error(tmp_path: Path, name: str) -> None:
    path = _at(make(tmp_path / "a.mp4", Video(b_frames=2)), *HOSTILE[name])
    try:
        track = probe(path).tracks[0]
        rows, ledger = read(path, track)
    except SourceError:
        return
    assert_sound(rows, ledger)
    assert 1 <= track.frame_duration_pts <= max(Fraction(1), 60 / track.time_base)


def test_every_byte_of_the_index_may_be_wrong(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", Video(count=4, b_frames=1)).read_bytes()
    start = whole.index(b"moov")
    path = tmp_path / "a.mp4"
    for position in range(start, len(whole), 11):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            rows, ledger = read(path)
        except SourceError:
            continue
        assert ledger.packets == ledger.frames + ledger.lost + ledger.hidden + ledger.without_picture
        assert all(pts < end for _, pts, end in rows)


def test_packets_that_show_nothing() -> None:
    def shows(codec: str, data: bytes) -> bool:
        return holds_picture(codec, Packet(data))

    assert [shows("vp8", bytes([head, 1])) for head in (0x10, 0x00)] == [True, False]
    hidden, shown = bytes([0b10000000, 1, 2]), bytes([0b10000010, 1, 2])
    assert [shows("vp9", data) for data in (hidden, shown, bytes([0b10001000]))] == [False, True, True]
    marker = 0b11000001
    index = bytes([marker, 3, 3, marker])
    assert shows("vp9", hidden + shown + index)
    assert not shows("vp9", hidden + hidden + index)
    assert not shows("mpeg4", b"\0\0\1\xb6\x50")
    assert shows("mpeg4", b"\xff\xff\xff\xff\xff")
    assert shows("h264", b"\0")


# Real files -----------------------------------------------------------------------------------

MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"
real = pytest.mark.skipif(not MEDIA.is_dir(), reason="the real media are not at ../shared/media of the repository")

# name: frames, lost, hidden, without a picture; of the first stream
ODD = {
    "sample_rotate_and_reflect.mp4": (30, 0, 0, 0),
    "nasa_13013_rotated.mp4": (17, 0, 0, 0),
    "dolbyVision-hdr.MOV": (4, 0, 1, 0),
    "h265_with_metadata_track.mp4": (3, 0, 0, 0),
    "iibbibb_editlist_videoonly.mp4": (12, 0, 1, 0),
    "sample_with_invalid_nalu.mp4": (29, 1, 0, 0),
    "corrupted.mp4": (49, 1, 0, 0),
    "sample_empty_track.mp4": (30, 0, 0, 0),
    "water_180_mvhevc_5frames.mov": (5, 0, 0, 0),
    "sample_fragmented_uuid.mp4": (0, 30, 0, 0),
    "sample_with_chapters.mp4": (30, 0, 0, 0),
    "sample-with-large-length.avi": (58, 0, 0, 0),
    "sample_with_pgs_subtitles.mkv": (30, 0, 0, 0),
    "bear-vp9-odd-dimensions.webm": (30, 0, 0, 0),
    "roadtrip-vp92-10bit.webm": (72, 0, 0, 8),
    "sample_h262_mpeg_audio.ps": (3, 0, 0, 0),
    "metadata.mp4": (1, 0, 0, 0),
    "MOV00006.3gp": (222, 0, 0, 0),
    "chroma1.mp4": (132, 0, 0, 0),
    "h264_10bits.mp4": (30, 0, 0, 0),
    "bt709_full_range.mp4": (30, 0, 0, 0),
}


@real
@pytest.mark.parametrize("name", ODD)
def test_real_odd_files(name: str) -> None:
    path = MEDIA / "odd" / name
    rows, ledger = read(path)
    assert (ledger.frames, ledger.lost, ledger.hidden, ledger.without_picture) == ODD[name]
    assert not ledger.truncated
    assert_sound(rows, ledger)


@real
def test_every_real_odd_file_is_named() -> None:
    assert {path.name for path in (MEDIA / "odd").iterdir()} == set(ODD)


@real
def test_real_files_have_the_tracks_that_are_known_of_them() -> None:
    def kinds(name: str) -> list[str]:
        return [track.kind for track in probe(MEDIA / name).tracks]

    assert kinds("odd/metadata.mp4") == ["video", "cover"]
    assert kinds("odd/water_180_mvhevc_5frames.mov") == ["video", "view"]
    assert kinds("clips/nasa_13013.mp4") == ["video", "video"]
    assert kinds("odd/sample_empty_track.mp4") == ["video", "video"]


@real
@pytest.mark.parametrize(
    ("name", "rotation", "mirrored", "size"),
    [
        ("dolbyVision-hdr.MOV", -90, False, (720, 1280)),
        ("nasa_13013_rotated.mp4", 90, False, (270, 480)),
        ("bear-vp9-odd-dimensions.webm", 0, False, (161, 121)),
    ],
)
def test_real_orientations(name: str, rotation: int, mirrored: bool, size: tuple[int, int]) -> None:
    path = MEDIA / "odd" / name
    with Reader(path, probe(path).tracks[0]) as reader:
        frame = next(reader.frames())
        assert (frame.orientation.rotation, frame.orientation.mirrored, frame.size) == (rotation, mirrored, size)
        assert frame.image(30, 20).shape == (20, 30, 3)


@real
def test_the_hidden_picture_of_a_real_file_can_be_read() -> None:
    for name in ("iibbibb_editlist_videoonly.mp4", "dolbyVision-hdr.MOV"):
        path = MEDIA / "odd" / name
        track = dataclasses.replace(probe(path).tracks[0], kind="hidden", frames=1)
        with Reader(path, track) as reader:
            assert len(list(reader.frames())) == 1
        assert (reader.ledger.frames, reader.ledger.lost) == (1, 0)


@real
def test_the_second_eye_of_a_real_file_can_be_read() -> None:
    path = MEDIA / "odd" / "water_180_mvhevc_5frames.mov"
    tracks = probe(path).tracks
    pictures = []
    for track in tracks:
        with Reader(path, track) as reader:
            pictures.append([frame.image(64, 64) for frame in reader.frames()])
    assert [len(row) for row in pictures] == [5, 5]
    assert all((one != other).any() for one, other in zip(*pictures, strict=True))


def test_cover_art_and_edits_do_not_mix(tmp_path: Path) -> None:
    path = make_with_cover(tmp_path / "a.mp4")
    assert [number_in(frame.picture) for frame in Reader(path, probe(path).tracks[1]).frames()] == [200]
    path = set_edit(make(tmp_path / "b.mp4"), 400, 0)
    assert read(path)[1].hidden == 10
