"""Decoding only what is sampled gives the very pictures that decoding everything gives."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests import recipes
from tests.recipes import RATE, Video
from vidmod import sampling
from vidmod.errors import SourceError
from vidmod.feed import Feed
from vidmod.media import Frame, Ledger, NotSparseError, Reader, Shown, SparseReader, probe
from vidmod.models import find
from vidmod.sampling import Sampler

Sample = tuple[int, int, str]
HALF = Fraction(1, 2)
RANGES = [(None, None), (Fraction(3, 2), None), (Fraction(2), Fraction(4)), (None, Fraction(3)), (HALF, Fraction(5, 2))]


def seen(frame: Frame) -> Sample:
    return frame.pts, frame.end_pts, hashlib.md5(frame.image(32, 24).tobytes()).hexdigest()


def whole(path: Path, interval: Fraction = HALF, threads: int = 1, start: Fraction | None = None,
          end: Fraction | None = None) -> tuple[list[Sample], Ledger]:  # fmt: skip
    track = probe(path).tracks[0]
    sampler: Sampler[Frame] = sampling.create("uniform", interval, track.time_base)
    end_pts = None if end is None else -int(-end // track.time_base)
    with Reader(path, track, threads=threads, start=start) as reader:
        found = [seen(sample) for frame in reader.frames(end_pts) for sample in sampler.update(frame)]
        found += [seen(sample) for sample in sampler.finish()]
    return found, reader.ledger


def sparse(path: Path, interval: Fraction = HALF, threads: int = 1, start: Fraction | None = None,
           end: Fraction | None = None) -> tuple[list[Sample], Ledger]:  # fmt: skip
    track = probe(path).tracks[0]
    chooser: Sampler[Shown] = sampling.create("uniform", interval, track.time_base)
    with SparseReader(path, track, chooser, threads=threads, start=start, end=end) as reader:
        found = [seen(frame) for frame in reader.frames()]
    return found, reader.ledger


X264 = Video(count=150, gop=25, b_frames=3)
VIDEOS = {
    "short.mp4": Video(count=7, gop=5),
    "plain.mp4": X264,
    "plain.mkv": X264,
    "pyramid.mp4": Video(count=150, gop=50, b_frames=5, options={"x264-params": "b-pyramid=normal:scenecut=0"}),
    "open.mp4": Video(count=150, gop=25, b_frames=3, options={"x264-params": "open-gop=1:scenecut=0"}),
    "one_group.mp4": Video(count=150, gop=1000, b_frames=3),
    "keys.mp4": Video(count=60, gop=1),
    "vfr.mp4": Video(count=40, gop=7, b_frames=2, times=[n * n // 8 + n for n in range(40)]),
    "hevc.mp4": Video(codec="libx265", count=100, gop=25, b_frames=3, options={"x265-params": "log-level=0"}),
    "hevc_closed.mp4": Video(
        codec="libx265", count=100, gop=25, b_frames=3, options={"x265-params": "log-level=0:open-gop=0"}
    ),
    "stream.ts": X264,
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", VIDEOS)
def test_the_pictures_are_the_same(tmp_path: Path, name: str, threads: int) -> None:
    path = recipes.make(tmp_path / name, VIDEOS[name])
    for interval in (HALF, Fraction(1, 7)):
        for start, end in RANGES:
            expected, _ = whole(path, interval, threads, start, end)
            try:
                found, ledger = sparse(path, interval, threads, start, end)
            except NotSparseError:
                # After a seek into open groups, say. It may give up, but must have given no wrong picture.
                assert (start, end) != (None, None), "a clean stream is read sparsely"
                continue
            assert found == expected
            assert ledger.packets == ledger.frames + ledger.skipped


@pytest.mark.parametrize("name", ["plain.mp4", "plain.mkv", "stream.ts", "hevc_closed.mp4"])
def test_less_is_decoded(tmp_path: Path, name: str) -> None:
    _, ledger = sparse(recipes.make(tmp_path / name, VIDEOS[name]))
    assert ledger.skipped > 0.2 * ledger.packets
    assert (ledger.first_pts, ledger.end_pts) == tuple(
        getattr(whole(tmp_path / name)[1], field) for field in ("first_pts", "end_pts")
    )


def test_half_of_the_packets_of_a_stream_with_b_frames_are_left_out(tmp_path: Path) -> None:
    _, ledger = sparse(recipes.make(tmp_path / "a.mp4", X264))
    assert ledger.skipped > 0.4 * ledger.packets


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4", "mpeg2video"])
def test_other_codecs_are_read_whole(tmp_path: Path, codec: str) -> None:
    path = recipes.make(tmp_path / "a.mkv", Video(codec=codec, count=20))
    with pytest.raises(NotSparseError):
        sparse(path)


def feed_samples(path: Path, threads: int = 2) -> tuple[list[tuple[int, int, bytes]], Ledger]:
    with Feed(
        path, probe(path).tracks[0], [find("nudenet")], mode="uniform", interval=HALF, start=None, end=None,
        threads=threads, ahead=8,
    ) as feed:  # fmt: skip
        found = [(item.pts, item.end_pts, item.inputs[0].image.tobytes()) for item in feed]
    return found, feed.ledger


@pytest.mark.parametrize("damage", [recipes.zero_packets, recipes.scramble_packets])
@pytest.mark.parametrize("place", [0, 1, 13, 61, 62, 63, 64, 149])
def test_damage_is_found_or_was_not_looked_at(tmp_path: Path, damage: object, place: int) -> None:
    """A damaged file gives what a full decode gives, samples and account, or a picture that nobody wanted is hurt."""
    assert callable(damage)
    path = damage(recipes.make(tmp_path / "a.mp4", X264), [place])
    try:
        expected, account = whole(path)
    except SourceError:
        return
    found, ledger = feed_samples(path)
    assert [row[0] for row in found] == [row[0] for row in expected]
    if ledger.skipped == 0:
        assert (ledger.lost, ledger.damaged) == (account.lost, account.damaged)
    else:
        assert damage is recipes.scramble_packets, "a packet that is no packet is always seen"
        assert [row[0] for row in found] == [row[0] for row in feed_samples(path, threads=1)[0]]


@pytest.mark.parametrize("threads", [2, 4, 8])
def test_damage_reads_the_same_every_time(tmp_path: Path, threads: int) -> None:
    """While the decoder that met the damage is still at work, its packets are decoded by another."""
    video = Video(count=60, size=(320, 240), gop=60, b_frames=2)
    path = recipes.zero_packets(recipes.make(tmp_path / "a.mp4", video), [31])
    expected, account = whole(path)
    for _ in range(15):
        found, ledger = whole(path, threads=threads)
        assert found == expected
        assert ledger == account


def test_a_file_that_was_cut_off_is_read_whole(tmp_path: Path) -> None:
    path = recipes.make(tmp_path / "a.mp4", X264, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    _, ledger = feed_samples(path)
    assert ledger.truncated
    assert ledger.skipped == 0
    assert ledger.holes


def test_samples_given_before_the_damage_are_not_given_twice(tmp_path: Path) -> None:
    path = recipes.zero_packets(recipes.make(tmp_path / "a.mp4", X264), [110])
    found, ledger = feed_samples(path)
    times = [row[0] for row in found]
    assert times == sorted(set(times))
    assert ledger.lost == 1
    assert ledger.packets == 150
    assert len(times) == len(whole(path)[0])


def test_images_are_those_of_a_full_decode(tmp_path: Path) -> None:
    path = recipes.make(tmp_path / "a.mp4", X264)
    found, _ = feed_samples(path)
    for pts, _, data in found:
        number = recipes.number_of(np.frombuffer(data, np.uint8).reshape(320, 320, 3)[:240, :, 0])
        time_base = probe(path).tracks[0].time_base
        assert number == round(pts * time_base * RATE) % 256
