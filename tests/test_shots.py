"""The small pictures of a report: which, how blurred, and what becomes of them when a video is hostile."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests import timelines
from tests.footage import scan_of, segment, timeline_of, times
from tests.recipes import (
    Video,
    cut,
    make,
    make_with_cover,
    number_of,
    picture,
    scramble_packets,
    set_edit,
    set_matrix,
)
from tests.spectrum import detail
from vidmod.blurring import GRID, SIDE, blurred, fitted
from vidmod.containment import Limits
from vidmod.media.frame import Frame, Scaler
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.pages import thumbnails
from vidmod.pages.choosing import MOST_OF_A_SEGMENT, MOST_OF_ALL, choose
from vidmod.pages.thumbnails import Taker, Thumbnail, Wanted
from vidmod.timeline import Segment, Timeline

DEMO = Path(__file__).resolve().parent.parent / "samples" / "demo.mp4"
# Of all that varies in a clear picture, so much may be left of what goes up and down more often than half the grid.
MOST_LEFT = 1e-3


def take(path: Path, wanted: Sequence[Wanted], **options: Any) -> tuple[dict[Wanted, Thumbnail], list[str]]:
    limits = options.pop("limits", Limits())
    descriptor = os.open(path, os.O_RDONLY)
    try:
        taker = Taker(descriptor, path.name, limits, **options)
        return taker.take(wanted), taker.troubles
    finally:
        os.close(descriptor)


def all_of(path: Path, *, every: int = 1, stream: int = 0, **more: Any) -> list[Wanted]:
    shown, base = times(path, stream)
    return [Wanted(stream, more.get("kind", "video"), pts, base, more.get("hidden", 0)) for pts in shown[::every]]


def opened(found: Thumbnail) -> Image.Image:
    image = Image.open(io.BytesIO(found.data))
    image.load()
    return image


def numbers(found: dict[Wanted, Thumbnail]) -> list[int]:
    """The numbers in the pictures, by time."""
    rows = sorted(found.items(), key=lambda item: item[0].pts)
    return [number_of(np.asarray(opened(row).convert("L"))) for _, row in rows]


class TestBlurring:
    @pytest.mark.parametrize(("waves", "most"), [(2, 1.0), (GRID // 4, 0.30), (GRID // 2, 0.02), (GRID, 0.02)])
    def test_of_a_wave_so_much_is_left(self, waves: int, most: float) -> None:
        wave = 127 + 120 * np.cos(2 * np.pi * waves * (np.arange(SIDE) + 0.5) / SIDE)
        for rows in (np.tile(wave, (SIDE, 1)), np.tile(wave, (SIDE, 1)).T):
            image = np.repeat(rows.astype(np.uint8)[:, :, None], 3, axis=2)
            # Without the border, beyond which a picture does not go on.
            left = np.ptp(blurred(image)[4:-4, 4:-4].astype(float)) / np.ptp(rows)
            assert left <= most
            assert left > 0.5 or waves > 2

    def test_a_flat_picture_stays_as_bright(self) -> None:
        image = np.full((90, 160, 3), (200, 100, 50), np.uint8)
        assert set(blurred(image).flat) == {round(0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50)}

    @given(st.integers(1, 40_000), st.integers(1, 40_000))
    def test_the_longer_side_is_what_was_asked_for(self, width: int, height: int) -> None:
        size = fitted((width, height), SIDE)
        assert max(size) == SIDE
        assert min(size) >= 1
        assert abs(size[0] * height - size[1] * width) <= max(width, height) * SIDE // min(size) // 2 + max(
            width, height
        )

    @settings(deadline=None, max_examples=25)
    @given(st.integers(1, SIDE), st.integers(1, SIDE), st.integers(0, 255))
    def test_any_shape_has_a_grid_of_it(self, width: int, height: int, level: int) -> None:
        grid = blurred(np.full((height, width, 3), level, np.uint8))
        assert grid.shape[::-1] == fitted((width, height), GRID)
        assert set(grid.flat) <= {level}


class TestSpectrum:
    def frames(self, path: Path, wanted: Sequence[Wanted]) -> dict[int, NDArray[np.uint8]]:
        """What is really there."""
        due = {row.pts for row in wanted}
        with av.open(str(path)) as container:
            return {
                frame.pts: np.asarray(frame.to_ndarray(format="gray"), np.uint8)
                for frame in container.decode(video=0)
                if frame.pts is not None and frame.pts in due
            }

    def check(self, path: Path, wanted: Sequence[Wanted]) -> None:
        found, _ = take(path, wanted)
        clear, _ = take(path, wanted, clear=True)
        real = self.frames(path, wanted)
        assert set(found) == set(clear) == set(wanted)
        for row in wanted:
            image = opened(found[row])
            assert image.mode == "L", "one channel: there is no colour to find"
            grey = np.asarray(image, float)
            sharp = np.asarray(opened(clear[row]).convert("L"), float)
            frame = np.asarray(Image.fromarray(real[row.pts]).resize(image.size, Image.Resampling.BOX), float)
            # The measure sees detail where there is some, and the clear picture is the real one.
            assert np.abs(sharp - frame).mean() < 12
            assert detail(sharp, GRID / 2) > 0.3 * detail(frame, GRID / 2) > 0
            # What is left is what rounding and JPEG add.
            assert detail(grey, GRID / 2) < MOST_LEFT * detail(frame, 0)
            assert detail(grey, GRID) < MOST_LEFT / 2 * detail(frame, 0)
            if detail(frame, GRID / 2) > 0.03 * detail(frame, 0):
                assert detail(grey, GRID / 2) < 0.03 * detail(frame, GRID / 2)

    def test_no_detail_is_left_of_the_sample(self) -> None:
        self.check(DEMO, all_of(DEMO, every=90))

    def test_no_detail_is_left_of_noise(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(3)

        def noise(_: int) -> av.VideoFrame:
            pixels = generator.integers(0, 256, (270, 480, 3), np.uint8)
            return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")

        path = make(tmp_path / "noise.mp4", Video(count=4, size=(480, 270), options={"crf": "10"}, frames=noise))
        self.check(path, all_of(path))

    def test_no_detail_is_left_of_real_clips(self, shared_media: Path) -> None:
        for name in ("clips/bikes.mp4", "clips/bigbuckbunny.mp4", "clips/asl_walk.mkv"):
            path = shared_media / name
            self.check(path, all_of(path, every=40))

    def test_text_cannot_be_read(self) -> None:
        """Stripes as wide as the strokes of letters of a tenth of the picture's height become one grey."""
        image = np.zeros((180, 320, 3), np.uint8)
        image[:, np.arange(320) // 3 % 2 == 0] = 255
        inner = blurred(image)[2:-2, 2:-2].astype(int)
        assert np.ptp(inner) <= 4


class TestWhatLeavesTheWorker:
    def test_only_the_grid(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = make(tmp_path / "a.mp4", Video(count=12, size=(320, 180)))
        seen: list[bytes] = []
        whole = thumbnails._thumbnail

        def noted(data: memoryview, size: tuple[int, int], *, clear: bool) -> Thumbnail:
            seen.append(bytes(data))
            return whole(data, size, clear=clear)

        monkeypatch.setattr(thumbnails, "_thumbnail", noted)
        found, _ = take(path, all_of(path), workers=1)
        assert len(found) == len(seen) == 12
        cells = GRID * 18
        assert all(any(data[:cells]) for data in seen)
        assert not any(any(data[cells:]) for data in seen), "no byte of a clear picture has ever been here"


class TestTaking:
    @pytest.mark.parametrize(
        ("name", "video"),
        [
            ("a.mp4", Video(count=60)),
            ("a.mkv", Video(count=60, b_frames=2)),
            ("a.mp4", Video("libx265", count=40)),
            ("a.webm", Video("libvpx-vp9", count=40)),
            ("a.ts", Video(count=60)),
            ("a.avi", Video("mpeg4", count=40)),
            ("a.mp4", Video(count=30, times=[3 * n + n % 2 for n in range(30)])),
            ("a.mkv", Video(count=40, gop=1000)),
        ],
    )
    def test_the_pictures_are_those_of_their_times(self, tmp_path: Path, name: str, video: Video) -> None:
        path = make(tmp_path / name, video)
        wanted = all_of(path, every=3)
        found, troubles = take(path, wanted)
        assert troubles == []
        assert numbers(found) == list(range(0, video.count, 3))

    @pytest.mark.parametrize(
        ("name", "video"),
        [
            ("a.mp4", Video(count=500, gop=25)),
            ("a.mkv", Video(count=500, gop=25, b_frames=2)),
            ("a.ts", Video(count=500, gop=25)),
            ("a.mp4", Video("libx265", count=500, gop=25)),
            ("a.webm", Video("libvpx-vp9", count=500, gop=25)),
        ],
    )
    def test_far_apart_ones_need_no_decoding_of_what_is_between(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, video: Video
    ) -> None:
        monkeypatch.setattr(thumbnails, "_HANDLER", "tests.shot_handlers:only_sparsely")
        path = make(tmp_path / name, video)
        found, troubles = take(path, [row for row in all_of(path) if row.pts][::110], workers=2)
        assert troubles == []
        assert len(found) == 5
        assert np.diff(numbers(found)).tolist() == [110, 110, 110 - 256, 110]

    def test_of_several_streams(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mkv", Video(count=20), Video(count=20, first=100))
        found, troubles = take(path, [*all_of(path, every=5), *all_of(path, every=5, stream=1)])
        assert troubles == []
        for stream, first in ((0, 0), (1, 100)):
            own = {row: item for row, item in found.items() if row.stream == stream}
            assert numbers(own) == [first, first + 5, first + 10, first + 15]

    def test_of_cover_art(self, tmp_path: Path) -> None:
        path = make_with_cover(tmp_path / "a.mp4")
        found, troubles = take(path, [Wanted(1, "cover", 0, times(path, 1)[1])])
        assert troubles == []
        assert numbers(found) == [200]

    def test_of_what_an_edit_list_hides(self, tmp_path: Path) -> None:
        path = set_edit(make(tmp_path / "a.mp4", Video(count=30)), 400, 10 * 512)
        _, base = times(path)
        with av.open(str(path), container_options={"ignore_editlist": "1"}) as container:
            stored = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
        found, troubles = take(path, [Wanted(0, "hidden", stored[4], base, 20)])
        assert troubles == []
        assert numbers(found) == [4]

    @pytest.mark.parametrize(
        ("matrix", "size"),
        [((0, 1, -1, 0), (180, SIDE)), ((0, -1, 1, 0), (180, SIDE)), ((-1, 0, 0, -1), (SIDE, 180))],
    )
    @pytest.mark.parametrize("clear", [False, True])
    def test_they_are_turned_as_displayed(
        self, tmp_path: Path, matrix: tuple[int, int, int, int], size: tuple[int, int], clear: bool
    ) -> None:
        def corner(_: int) -> av.VideoFrame:
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:16, :16] = 255
            return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")

        path = set_matrix(make(tmp_path / "a.mp4", Video(count=1, frames=corner)), *matrix)
        found, _ = take(path, all_of(path), clear=clear)
        (image,) = (opened(row) for row in found.values())
        assert image.size == size
        pixels = np.asarray(image.convert("L"), float)
        bright = np.unravel_index(pixels.argmax(), pixels.shape)
        with av.open(str(path)) as container:
            truth = Frame(0, 1, Fraction(1), next(container.decode(video=0)), Scaler()).image(*size)[..., 0]
        quarter = (
            (slice(None, size[1] // 2), slice(size[1] // 2, None)),
            (
                slice(None, size[0] // 2),
                slice(size[0] // 2, None),
            ),
        )
        means = {(y, x): truth[quarter[0][y], quarter[1][x]].mean() for y in (0, 1) for x in (0, 1)}
        assert max(means, key=lambda place: means[place]) == (
            int(bright[0] >= size[1] // 2),
            int(bright[1] >= size[0] // 2),
        )

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "gif"])
    def test_of_a_still_image(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(picture(77, (160, 120)).to_ndarray(format="rgb24")).save(path)
        found, troubles = take(path, [Wanted(0, "video", 0, Fraction(1, 25))])
        assert troubles == []
        assert numbers(found) == [77]

    @pytest.mark.parametrize("size", [(2, 2), (16, 16), (2, 400), (1400, 2), (66, 34)])
    def test_of_any_shape(self, tmp_path: Path, size: tuple[int, int]) -> None:
        path = tmp_path / "a.png"
        Image.new("RGB", size, (10, 200, 30)).save(path)
        for clear in (False, True):
            found, troubles = take(path, [Wanted(0, "video", 0, Fraction(1, 25))], clear=clear)
            assert troubles == []
            (row,) = found.values()
            assert (row.width, row.height) == fitted(size, SIDE) == opened(row).size

    def test_of_real_files_they_are_what_a_reader_gives(self, shared_media: Path) -> None:
        looked = 0
        for path in sorted([*shared_media.glob("odd/*"), *shared_media.glob("clips/*")]):
            truth: dict[Wanted, NDArray[np.uint8]] = {}
            tracks = list(probe(path).tracks)
            for track in tracks:
                with Reader(path, track) as reader:
                    for number, frame in enumerate(reader.frames()):
                        if number % 17 == 3 or number == 0:
                            wanted = Wanted(track.index, track.kind, frame.pts, frame.time_base, track.frames)
                            truth[wanted] = frame.image(*fitted(frame.size, SIDE))
                if reader.ledger.hidden and track.kind == "video":
                    tracks.append(dataclasses.replace(track, kind="hidden", frames=reader.ledger.hidden))
            found, troubles = take(path, list(truth), clear=True)
            assert troubles == [], path.name
            assert found.keys() == truth.keys(), path.name
            for row, expected in truth.items():
                assert np.abs(np.asarray(opened(found[row]), float) - expected).mean() < 6, (path.name, row)
                looked += 1
        assert looked > 100


class TestTrouble:
    def test_what_is_not_there_is_left_out(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mp4", Video(count=20))
        shown, base = times(path)
        late, early = Wanted(0, "video", shown[-1] * 10, base), Wanted(0, "video", -shown[-1], base)
        impossible = Wanted(0, "video", 1 << 70, base)
        here = Wanted(0, "video", shown[3], base)
        found, _ = take(path, [late, here, early, impossible])
        assert list(found) == [here]
        elsewhere = Wanted(7, "video", 0, base)
        found, troubles = take(path, [elsewhere, here])
        assert list(found) == [here]
        assert troubles == ["a.mp4: has no stream 7 with pictures (video)."]

    def test_a_time_between_two_pictures_gives_the_one_that_is_shown(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mp4", Video(count=20))
        shown, base = times(path)
        found, _ = take(path, [Wanted(0, "video", shown[6] + 1, base)])
        assert numbers(found) == [6]

    def test_another_time_base_gives_the_same_times(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mp4", Video(count=20))
        found, _ = take(path, [Wanted(0, "video", 240, Fraction(1, 1000))])
        assert numbers(found) == [6]

    def test_of_a_file_that_was_cut_off_the_beginning_is_had(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mkv", Video(count=60))
        wanted = all_of(path, every=10)
        cut(path, path.stat().st_size // 2)
        found, _ = take(path, wanted)
        assert 0 < len(found) < len(wanted)
        assert numbers(found) == list(range(0, 60, 10))[: len(found)]

    def test_damage_costs_only_what_is_damaged(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mp4", Video(count=60))
        wanted = all_of(path, every=10)
        scramble_packets(path, range(20, 30))
        found, _ = take(path, wanted)
        kept = {row: item for row, item in found.items() if row != wanted[2]}
        assert numbers(kept) == [0, 10, 30, 40, 50]

    @pytest.mark.parametrize("content", [b"", b"no video\n", b"\0\0\0\x18ftypmp42" + bytes(200), bytes(4000)])
    def test_what_is_no_video_gives_nothing_and_says_why(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        found, troubles = take(path, [Wanted(0, "video", 0, Fraction(1, 25))])
        assert found == {}
        assert len(troubles) == 1
        assert troubles[0].startswith("a.mp4")

    def test_nothing_wanted_starts_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(thumbnails, "Pool", None)
        path = make(tmp_path / "a.mp4")
        assert take(path, []) == ({}, [])

    @pytest.mark.parametrize(
        ("handler", "says"),
        [
            ("dies_at_picture", "killed by signal 11"),
            ("says_nonsense", "makes no sense"),
            ("gives_what_nobody_asked_for", "makes no sense"),
            ("gives_one_again", "makes no sense"),
            ("gives_one_of_no_size", "makes no sense"),
            ("hangs", "past its deadline of 1 s"),
            ("ends", "ended before it was done"),
        ],
    )
    def test_a_worker_that_breaks_costs_what_it_was_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, says: str
    ) -> None:
        monkeypatch.setattr(thumbnails, "_HANDLER", f"tests.shot_handlers:{handler}")
        path = make(tmp_path / "a.mp4", Video(count=40, times=[200 * n for n in range(40)], gop=1))
        wanted = all_of(path, every=10)
        found, troubles = take(path, wanted, workers=1, limits=Limits(chunk_seconds=1))
        assert wanted[2] not in found
        assert set(wanted) - set(found) <= {wanted[2]}
        assert len(troubles) == 1
        assert says in troubles[0]

    def test_after_too_many_it_is_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(thumbnails, "_HANDLER", "tests.shot_handlers:always_dies")
        path = make(tmp_path / "a.mp4", Video(count=40, times=[200 * n for n in range(40)], gop=1))
        found, troubles = take(path, all_of(path), workers=2, limits=Limits(max_failures=3))
        assert found == {}
        assert troubles[-1] == "given up: more than 3 workers did not survive it"

    def test_after_its_time_it_is_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(thumbnails, "_HANDLER", "tests.shot_handlers:hangs_at_first")
        path = make(tmp_path / "a.mp4")
        found, troubles = take(path, all_of(path), limits=Limits(file_seconds=0.5))
        assert found == {}
        assert troubles == ["given up: past the time limit of 0.5 s"]

    def test_what_a_worker_says_can_be_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(thumbnails, "_HANDLER", "tests.shot_handlers:fails_with_escapes")
        path = make(tmp_path / "a.mp4")
        _, troubles = take(path, all_of(path))
        assert len(troubles) == 1
        assert troubles[0].isprintable()
        assert len(troubles[0]) <= 1000

    def test_too_large_a_picture_is_not_decoded(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mp4", Video(count=3, size=(320, 240)))
        found, _ = take(path, all_of(path), limits=Limits(max_pixels=100 * 100))
        assert found == {}


class TestChoosing:
    def timeline(self, segments: Sequence[Segment], count: int = 100, **more: Any) -> Timeline:
        rows = [timelines.sample(n / 2, 0.99 if n == 37 else 0.6, shown=0.5) for n in range(count)]
        made = timelines.timeline(timelines.stream(rows), *more.get("streams", ()))
        return dataclasses.replace(made, segments=tuple(segments))

    def times(self, timeline: Timeline, *, each: int = 6, most: int = 240) -> dict[str, list[float]]:
        chosen = choose(timeline, each=each, most=most)
        return {name: [row.sample.time_seconds for row in rows] for name, rows in chosen.items()}

    def test_the_worst_and_others_spread_over_it(self) -> None:
        (rows,) = self.times(self.timeline([segment(10.0, 40.0)])).values()
        assert len(rows) == 6
        assert 18.5 in rows
        assert rows == sorted(set(rows))
        assert all(10 <= time < 40 for time in rows)
        gaps = np.diff(rows)
        assert max(gaps) <= 2 * 30 / 6

    def test_a_short_one_has_all_that_were_looked_at(self) -> None:
        assert self.times(self.timeline([segment(10.0, 11.5)])) == {"s1": [10.0, 10.5, 11.0]}

    def test_one_between_two_samples_has_the_one_before(self) -> None:
        assert self.times(self.timeline([segment(10.1, 10.3)])) == {"s1": [10.0]}

    def test_only_of_its_own_labels_is_the_worst(self) -> None:
        rows = [timelines.sample(n / 2, 0.9, ("FACE", 0.99 if n == 7 else 0.3), shown=0.5) for n in range(10)]
        made = timelines.timeline(timelines.stream(rows))
        made = dataclasses.replace(made, segments=(segment(0, 5, labels=["FACE"]),))
        assert self.times(made, each=1) == {"s1": [3.5]}

    def test_without_a_score_they_are_spread(self) -> None:
        (rows,) = self.times(self.timeline([segment(0.0, 50.0, labels=[])])).values()
        assert len(rows) == 6

    def test_five_hundred_segments_share_what_there_is(self) -> None:
        many = [segment(n / 10, n / 10 + 5, name=f"s{n}", peak=n / 500) for n in range(500)]
        chosen = self.times(self.timeline(many), each=MOST_OF_A_SEGMENT, most=MOST_OF_ALL)
        assert set(chosen) == {f"s{n}" for n in range(500 - MOST_OF_ALL, 500)}, "the worst"
        assert all(len(rows) == 1 for rows in chosen.values())

    @settings(deadline=None, max_examples=40)
    @given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 240), st.integers(1, 40))
    def test_there_are_never_more_than_said(self, count: int, each: int, most: int, samples: int) -> None:
        many = [segment(n / 100, n / 100 + 7, name=f"s{n}") for n in range(count)]
        chosen = choose(self.timeline(many, samples), each=each, most=most)
        assert sum(map(len, chosen.values())) <= most
        assert all(1 <= len(rows) <= each for rows in chosen.values())
        assert len(chosen) == min(count, most)

    def test_of_the_stream_that_it_is_in(self) -> None:
        cover = timelines.stream([timelines.sample(0.0, 0.9)], 3, "cover")
        other = segment(0.0, 0.04, stream=3, kind="cover")
        made = self.timeline([other, segment(0, 1, name="s2", stream=9, kind="video")], streams=[cover])
        chosen = choose(made, each=6, most=240)
        assert [(row.stream, row.kind) for row in chosen["s1"]] == [(3, "cover")]
        assert "s2" not in chosen, "of a stream that is not there"

    def test_nothing_scanned_nothing_shown(self) -> None:
        made = dataclasses.replace(self.timeline([segment(0, 1)]), streams=())
        assert choose(made, each=6, most=240) == {}
        assert choose(self.timeline([]), each=6, most=240) == {}


def test_a_timeline_of_a_real_file_finds_its_pictures(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Video(count=50))
    made = timeline_of(path, [segment(0.4, 1.2)], scan_of(path, every=5))
    chosen = choose(made, each=6, most=240)
    base = Fraction(made.streams[0].video["time_base"])
    found, _ = take(path, [Wanted(row.stream, row.kind, row.sample.pts, base) for row in chosen["s1"]])
    assert numbers(found) == [10, 15, 20, 25]
