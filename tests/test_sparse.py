"""Cutting a stream into parts, and decoding only what is wanted of them, gives what decoding everything gives."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests import recipes
from tests.recipes import RATE, Video, zero_packets
from vidmod.media import Part
from vidmod.media.demuxer import Demuxer
from vidmod.media.facts import Medium
from vidmod.media.frame import Frame
from vidmod.media.parts import Surveyed
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.media.sparse import NotSparseError, SparseReader
from vidmod.media.survey import Survey

Sample = tuple[int, int, str]

LONG = 12 * RATE
X264 = Video(count=LONG, gop=25, b_frames=3)
X265 = {"x265-params": "log-level=0:keyint=25:min-keyint=25"}
VIDEOS = {
    "short.mp4": Video(count=7, gop=5),
    "plain.mp4": X264,
    "plain.mkv": X264,
    "pyramid.mp4": Video(count=LONG, gop=50, b_frames=5, options={"x264-params": "b-pyramid=normal:scenecut=0"}),
    "open.mp4": Video(count=LONG, gop=25, b_frames=3, options={"x264-params": "open-gop=1:scenecut=0"}),
    "one_group.mp4": Video(count=LONG, gop=1000, b_frames=3),
    "keys.mp4": Video(count=LONG, gop=1),
    "vfr.mp4": Video(count=40, gop=7, b_frames=2, times=[n * n // 8 + n for n in range(40)]),
    "hevc_open.mp4": Video(codec="libx265", count=LONG, gop=25, b_frames=3, options=X265),
    "hevc_open.mkv": Video(codec="libx265", count=LONG, gop=25, b_frames=3, options=X265),
    "hevc_closed.mp4": Video(
        codec="libx265", count=LONG, gop=25, b_frames=3, options={"x265-params": "log-level=0:open-gop=0"}
    ),
    "vp9.webm": Video(codec="libvpx-vp9", count=LONG, gop=25),
    "vp8.webm": Video(codec="libvpx", count=LONG, gop=25),
    "av1.mp4": Video(codec="libsvtav1", count=LONG, gop=25),
    "stream.ts": X264,
}


def seen(frame: Frame) -> Sample:
    return frame.pts, frame.end_pts, hashlib.md5(frame.image(32, 24).tobytes()).hexdigest()


def whole(path: Path) -> list[Sample]:
    with Reader(path, probe(path).tracks[0]) as reader:
        return [seen(frame) for frame in reader.frames()]


def surveyed(path: Path) -> tuple[list[Part], Surveyed]:
    *parts, last = Survey(path, probe(path).tracks[0]).run()
    assert isinstance(last, Surveyed)
    return [part for part in parts if isinstance(part, Part)], last


@pytest.fixture(scope="module", params=list(VIDEOS))
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make(tmp_path_factory.mktemp("sparse") / request.param, VIDEOS[request.param])


def test_parts_cover_the_stream(film: Path) -> None:
    parts, known = surveyed(film)
    frames = whole(film)
    assert all(part.sound for part in parts)
    shown = [picture for part in parts for picture in part.pictures()]
    assert [(picture.pts, picture.end_pts) for picture in shown] == [frame[:2] for frame in frames]
    assert known.ended
    assert not known.truncated
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]


def test_long_films_are_cut(film: Path) -> None:
    parts, _ = surveyed(film)
    cannot = ("short.mp4", "one_group.mp4", "open.mp4")
    assert len(parts) == (1 if film.name in cannot else 2)


def test_the_pictures_are_the_same(film: Path) -> None:
    """In whatever order the parts are decoded, and whatever is wanted of them."""
    expected = {frame[0]: frame for frame in whole(film)}
    parts, _ = surveyed(film)
    chance = random.Random(7)
    for share in (0.03, 0.2, 1.0):
        chance.shuffle(parts)
        with Demuxer(film, probe(film).tracks[0]) as demuxer:
            reader = SparseReader(demuxer)
            for part in parts:
                wanted = [picture.pts for picture in part.pictures() if chance.random() < share]
                found = [seen(frame) for frame in reader.frames(part, wanted)]
                assert found == [expected[pts] for pts in wanted]


def test_reading_through_a_descriptor_is_the_same(film: Path) -> None:
    with film.open("rb") as file:
        medium = Medium("a film", descriptor=file.fileno())
        parts = [item for item in Survey(medium, probe(medium).tracks[0]).run() if isinstance(item, Part)]
        assert parts == surveyed(film)[0]


def test_key_pictures_alone(film: Path) -> None:
    expected = {frame[0]: frame for frame in whole(film)}
    with Demuxer(film, probe(film).tracks[0]) as demuxer:
        reader = SparseReader(demuxer)
        for part in surveyed(film)[0]:
            keys = part.key_times()
            assert sum(1 for _ in part.needed(keys)) == len(keys)
            assert [seen(frame) for frame in reader.frames(part, keys)] == [expected[pts] for pts in keys]


@pytest.mark.parametrize("name", ["plain.mp4", "plain.mkv", "stream.ts", "hevc_closed.mp4"])
def test_less_is_decoded(tmp_path: Path, name: str) -> None:
    parts, _ = surveyed(recipes.make(tmp_path / name, VIDEOS[name]))
    needed = 0
    for part in parts:
        wanted = {picture.pts for place, picture in enumerate(part.pictures()) if place % 10 == 0}
        needed += sum(1 for _ in part.needed(wanted))
    assert needed < (0.9 if name.startswith("hevc") else 0.6) * LONG


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_codecs_whose_packets_say_too_little_are_one_part(tmp_path: Path, codec: str) -> None:
    parts, _ = surveyed(recipes.make(tmp_path / "a.mkv", Video(codec=codec, count=LONG)))
    assert [(part.count, part.sound, part.last) for part in parts] == [(-1, False, True)]


@pytest.mark.parametrize("damage", [recipes.zero_packets, recipes.scramble_packets])
@pytest.mark.parametrize("place", [0, 1, 13, 61, 62, 63, 64, 149, LONG - 1])
def test_damage_costs_its_part_only(tmp_path: Path, damage: object, place: int) -> None:
    assert callable(damage)
    path = damage(recipes.make(tmp_path / "a.mp4", X264), [place])
    parts, known = surveyed(path)
    assert sum(part.count for part in parts) == known.packets == LONG
    flawed = [part for part in parts if not part.sound]
    if damage is recipes.zero_packets:
        (part,) = flawed
        assert part.first <= place < part.first + part.count <= part.first + 50
    for part in parts:
        if part.sound:
            with Demuxer(path, probe(path).tracks[0]) as demuxer:
                wanted = [picture.pts for picture in part.pictures()]
                try:
                    found = [frame.pts for frame in SparseReader(demuxer).frames(part, wanted)]
                except NotSparseError:
                    assert part.first <= place < part.first + part.count
                else:
                    assert found == wanted


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = recipes.make(tmp_path / "a.mp4", X264, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    parts, known = surveyed(path)
    assert known.truncated
    assert known.declared_end == LONG * 512
    assert parts[-1].end_pts is not None
    assert parts[-1].end_pts < known.declared_end


def test_a_clock_that_is_set_back_ends_the_cutting(tmp_path: Path) -> None:
    path = recipes.joined(
        tmp_path / "c.ts",
        recipes.make(tmp_path / "a.ts", X264),
        recipes.make(tmp_path / "b.ts", X264),
    )
    parts, _ = surveyed(path)
    assert parts[0].sound
    assert not parts[-1].sound
    assert parts[-1].first + parts[-1].count == 2 * LONG


def test_packets_are_counted_up_to_a_limit(tmp_path: Path) -> None:
    path = recipes.make(tmp_path / "a.mp4", X264)
    items = list(Survey(path, probe(path).tracks[0], max_packets=100).run())
    known = items[-1]
    assert isinstance(known, Surveyed)
    assert (known.packets, known.ended, known.truncated) == (100, False, True)
    assert sum(part.count for part in items if isinstance(part, Part)) == 100


def test_a_damaged_part_is_tried_again_in_pieces(tmp_path: Path) -> None:
    path = recipes.make(tmp_path / "a.mp4", X264)
    part = surveyed(path)[0][0]
    pieces = part.pieces()
    assert len(pieces) > 1
    assert [picture for piece in pieces for picture in piece.pictures()] == part.pictures()
    expected = {frame[0]: frame for frame in whole(path)}
    with Demuxer(path, probe(path).tracks[0]) as demuxer:
        reader = SparseReader(demuxer)
        for piece in reversed(pieces):
            wanted = [picture.pts for picture in piece.pictures()]
            assert [seen(frame) for frame in reader.frames(piece, wanted)] == [expected[pts] for pts in wanted]


def test_zeros_in_the_stream_are_seen(tmp_path: Path) -> None:
    path = zero_packets(recipes.make(tmp_path / "a.mp4", X264), [110])
    parts, _ = surveyed(path)
    assert [part.sound for part in parts].count(False) == 1
