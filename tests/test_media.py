from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests.recipes import (
    RATE,
    SIZE,
    Video,
    joined,
    make,
    make_sound,
    make_with_cover,
    number_in,
    number_of,
    picture,
    pixels,
    set_edit,
    set_matrix,
)
from vidmod.coverage import account
from vidmod.errors import NotVideoError
from vidmod.media import Ledger, VideoTrack
from vidmod.media.clock import PresentationClock
from vidmod.media.frame import Frame, Orientation
from vidmod.media.parts import Part
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.media.survey import Survey
from vidmod.timebase import Span

FORMATS = [
    ("mp4", Video(b_frames=2)),
    ("mp4", Video(b_frames=2, pixel_format="yuv444p")),
    ("mp4", Video(b_frames=2, pixel_format="yuv422p10le")),
    ("mp4", Video("libx265", b_frames=3)),
    ("mp4", Video("libx265", b_frames=2, pixel_format="yuv420p10le")),
    ("mp4", Video("libsvtav1")),
    ("mov", Video(size=(62, 46))),
    ("mkv", Video(b_frames=4, size=(63, 47), pixel_format="yuv444p")),
    ("mkv", Video("mpeg2video", b_frames=2)),
    ("mkv", Video("libvpx-vp9", pixel_format="yuv444p")),
    ("mkv", Video("ffv1", pixel_format="yuv420p10le")),
    ("webm", Video("libvpx", size=(61, 45))),
    ("webm", Video("libvpx-vp9")),
    ("webm", Video("libsvtav1", pixel_format="yuv420p10le")),
    ("avi", Video("mpeg4")),
    ("avi", Video("mpeg4", b_frames=2)),
    ("avi", Video("mjpeg", pixel_format="yuvj420p")),
    ("flv", Video(b_frames=2)),
    ("flv", Video("flv1")),
    ("ts", Video(b_frames=2)),
    ("ts", Video("libx265", b_frames=2)),
    ("ts", Video("mpeg2video", b_frames=2, pixel_format="yuv422p")),
    ("mpg", Video("mpeg2video", b_frames=2)),
    ("vob", Video("mpeg2video")),
    ("gif", Video("gif", pixel_format="rgb8")),
    ("3gp", Video("h263", size=(176, 144))),
    ("3gp", Video("mpeg4")),
    ("h264", Video(b_frames=2)),
    ("apng", Video("apng", pixel_format="rgb24")),
]
SEEKABLE = [
    (suffix, video)
    for suffix, video in FORMATS
    if (suffix, video.codec) in {("mp4", "libx264"), ("mp4", "libx265"), ("gif", "gif"), ("h264", "libx264")}
    or suffix in {"mkv", "ts", "flv", "avi", "mpg"}
]


def ids(rows: list[tuple[str, Video]]) -> list[str]:
    return [f"{suffix}-{video.codec}-{video.pixel_format}-{video.b_frames}" for suffix, video in rows]


def read(
    path: Path, track: VideoTrack | int = 0, *, start: Fraction | None = None, end: int | None = None
) -> tuple[list[tuple[int, int, int]], Ledger]:
    """Number, pts and end of every frame."""
    chosen = probe(path).tracks[track] if isinstance(track, int) else track
    with Reader(path, chosen, start=start) as reader:
        rows = [(number_in(frame.picture), frame.pts, frame.end_pts) for frame in reader.frames(end)]
    return rows, reader.ledger


def in_parts(path: Path) -> tuple[list[tuple[int, int, int]], list[Ledger]]:
    """Number, pts and end of every frame, each part of the first track decoded by itself, the last part first."""
    track = probe(path).tracks[0]
    rows: list[tuple[int, int, int]] = []
    ledgers: list[Ledger] = []
    for part in reversed([item for item in Survey(path, track).run() if isinstance(item, Part)]):
        with Reader(path, track, part=None if part.count < 0 else part) as reader:
            found = [(number_in(frame.picture), frame.pts, frame.end_pts) for frame in reader.frames()]
        rows = found + rows
        ledgers.insert(0, reader.ledger)
    return rows, ledgers


def numbers(rows: list[tuple[int, int, int]]) -> list[int]:
    return [number for number, _, _ in rows]


def assert_sound(rows: list[tuple[int, int, int]], ledger: Ledger) -> None:
    """Times rise and touch, and every packet is accounted for."""
    assert all(pts < end for _, pts, end in rows)
    assert all(end == pts for (_, _, end), (_, pts, _) in pairwise(rows))
    assert ledger.packets == ledger.frames + ledger.lost + ledger.hidden + ledger.without_picture
    if rows:
        assert ledger.first_pts is not None
        assert ledger.end_pts is not None
        extent = Span(ledger.first_pts, ledger.end_pts)
        covered = account(extent, [Span(pts, end) for _, pts, end in rows], ledger.holes, 0, Fraction(1))
        assert (covered[0].start_seconds, covered[-1].end_seconds) == (extent.start, extent.end)
        assert all(a.end_seconds == b.start_seconds for a, b in pairwise(covered))


@pytest.mark.parametrize(("suffix", "video"), FORMATS, ids=ids(FORMATS))
def test_every_picture_comes_out_at_its_time(tmp_path: Path, suffix: str, video: Video) -> None:
    path = make(tmp_path / f"a.{suffix}", video)
    track = probe(path).tracks[0]
    rows, ledger = read(path)
    assert_sound(rows, ledger)
    assert numbers(rows) == list(range(video.count))
    start = rows[0][1]
    assert [(pts - start) * track.time_base for _, pts, _ in rows] == [Fraction(n, RATE) for n in range(video.count)]
    assert (rows[-1][2] - start) * track.time_base == Fraction(video.count, RATE)
    assert (ledger.packets, ledger.frames) == (video.count, video.count)
    assert (ledger.holes, ledger.truncated) == ([], False)
    assert (ledger.damaged, ledger.read_errors, ledger.backward_pts) == (0, 0, 0)
    assert suffix == "avi" or track.start_pts in (None, start)
    assert in_parts(path)[0] == rows


def test_h264_in_avi_with_b_frames_has_all_pictures_within_one_of_its_time(tmp_path: Path) -> None:
    """AVI stores no presentation times; the decoding times that it stores are guessed from."""
    rows, ledger = read(make(tmp_path / "a.avi", Video(b_frames=2)))
    assert_sound(rows, ledger)
    assert numbers(rows) == list(range(20))
    assert ledger.backward_pts > 0
    assert all(abs(pts - rows[0][1] - number) <= 2 for number, pts, _ in rows)


@pytest.mark.parametrize(("suffix", "video"), SEEKABLE, ids=ids(SEEKABLE))
def test_start_gives_what_a_full_decode_gives_from_there(tmp_path: Path, suffix: str, video: Video) -> None:
    path = make(tmp_path / f"a.{suffix}", dataclasses.replace(video, count=32, gop=8))
    time_base = probe(path).tracks[0].time_base
    full, _ = read(path)
    for place in (0, 1, 7, 8, 9, 17, 31):
        for pts in {full[place][1], (full[place][1] + full[place][2]) // 2}:
            rows, ledger = read(path, start=pts * time_base)
            assert rows == full[place:]
            assert (ledger.lost, ledger.holes) == (0, [])
            assert ledger.packets == ledger.frames


def test_start_beyond_the_end_gives_nothing(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "ts"):
        path = make(tmp_path / f"a.{suffix}")
        for start in (Fraction(100), Fraction(10**30)):
            rows, ledger = read(path, start=start)
            assert rows == []
            assert (ledger.first_pts, ledger.lost) == (None, 0)


def test_end_stops_before_the_first_picture_from_there_on(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Video(b_frames=2))
    full, _ = read(path)
    for place in (1, 7, 19):
        rows, ledger = read(path, end=full[place][1])
        assert rows == full[:place]
        assert ledger.end_pts == full[place][1]
        assert ledger.lost == 0
        assert ledger.packets == ledger.frames
    assert read(path, end=full[7][1] + 1)[0] == full[:8]


def test_variable_frame_rate_and_a_picture_shown_for_long(tmp_path: Path) -> None:
    times = [0, 1, 5, 6, 7, 250, 251, 256]
    for suffix in ("mp4", "mkv", "webm"):
        codec = "libvpx-vp9" if suffix == "webm" else "libx264"
        path = make(tmp_path / f"a.{suffix}", Video(codec, count=len(times), times=times))
        time_base = probe(path).tracks[0].time_base
        rows, ledger = read(path)
        assert_sound(rows, ledger)
        assert [pts * time_base for _, pts, _ in rows] == [Fraction(time, RATE) for time in times]
        assert not ledger.truncated


def test_a_start_time_other_than_zero_is_kept(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "ts"):
        path = make(tmp_path / f"a.{suffix}", Video(times=range(250, 270)), options={"avoid_negative_ts": "disabled"})
        facts = probe(path)
        rows, ledger = read(path)
        assert rows[0][1] * facts.tracks[0].time_base == 10
        assert facts.start_seconds == 10
        assert suffix == "ts" or facts.duration_seconds == Fraction(20, RATE)
        assert not ledger.truncated
        assert_sound(rows, ledger)


def test_audio_longer_than_video_is_not_called_truncated(tmp_path: Path) -> None:
    for suffix in ("mkv", "mp4", "flv", "ts", "mov"):
        for sound_first in (False, True):
            path = make(tmp_path / f"a.{suffix}", sound_seconds=3, sound_first=sound_first)
            rows, ledger = read(path)
            assert numbers(rows) == list(range(20))
            assert (ledger.truncated, ledger.holes) == (False, [])
            assert [sound.sample_rate for sound in probe(path).audio] == [48_000]


@pytest.mark.parametrize("suffix", ["flv", "mkv"])
def test_a_live_recording_without_duration_is_whole(tmp_path: Path, suffix: str) -> None:
    options = {"live": "1"} if suffix == "mkv" else {"flvflags": "no_duration_filesize"}
    path = make(tmp_path / f"a.{suffix}", sound_seconds=1, options=options)
    rows, ledger = read(path)
    assert numbers(rows) == list(range(20))
    assert_sound(rows, ledger)
    assert not ledger.truncated


def test_fragmented_mp4(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Video(b_frames=2), options={"movflags": "frag_keyframe+empty_moov"})
    rows, ledger = read(path)
    assert numbers(rows) == list(range(20))
    assert_sound(rows, ledger)
    assert (ledger.truncated, ledger.hidden, ledger.packets) == (False, 0, 20)


def test_the_first_of_two_tracks_and_the_second(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", Video(), Video("mpeg4", first=100, size=(96, 64)))
    tracks = probe(path).tracks
    assert [(track.kind, track.size) for track in tracks] == [("video", (64, 48)), ("video", (96, 64))]
    assert numbers(read(path, 0)[0]) == list(range(20))
    assert numbers(read(path, 1)[0]) == list(range(100, 120))


def test_cover_art_comes_after_the_video(tmp_path: Path) -> None:
    path = make_with_cover(tmp_path / "a.mp4")
    tracks = probe(path).tracks
    assert [track.kind for track in tracks] == ["video", "cover"]
    assert numbers(read(path)[0]) == list(range(20))
    rows, ledger = read(path, 1)
    assert numbers(rows) == [200]
    assert ledger.packets == ledger.frames == 1


def test_size_changes_are_met_and_counted(tmp_path: Path) -> None:
    small = make(tmp_path / "a.ts", Video(count=10))
    large = make(tmp_path / "b.ts", Video(count=10, first=10, size=(128, 96)))
    path = joined(tmp_path / "c.ts", small, large)
    with Reader(path, probe(path).tracks[0]) as reader:
        found = [(number_in(frame.picture), frame.size, frame.image(32, 24).shape) for frame in reader.frames()]
    assert [number for number, _, _ in found] == list(range(20))
    assert [size for _, size, _ in found] == [(64, 48)] * 10 + [(128, 96)] * 10
    assert {shape for _, _, shape in found} == {(24, 32, 3)}
    assert reader.ledger.size_changes == 1


def test_a_clock_that_is_set_back_goes_on(tmp_path: Path) -> None:
    late = make(tmp_path / "a.ts", Video(count=10, times=range(250, 260)))
    early = make(tmp_path / "b.ts", Video(count=10, first=10))
    path = joined(tmp_path / "c.ts", late, early)
    rows, ledger = read(path)
    assert numbers(rows) == list(range(20))
    assert_sound(rows, ledger)
    assert ledger.backward_pts == 1
    assert rows[-1][2] - rows[0][1] == 20 * 3600


def test_interlaced_pictures(tmp_path: Path) -> None:
    for suffix, codec in (("mp4", "libx264"), ("ts", "libx264"), ("mpg", "mpeg2video")):
        options = {"flags": "+ilme+ildct"}
        rows, ledger = read(make(tmp_path / f"a.{suffix}", Video(codec, options=options)))
        assert numbers(rows) == list(range(20))
        assert_sound(rows, ledger)


STILLS = [
    ("jpg", "mjpeg", "yuvj420p", "mjpeg"),
    ("png", "png", "rgb24", "image2pipe"),
    ("png", "png", "gray", "image2pipe"),
    ("png", "png", "pal8", "image2pipe"),
    ("webp", "libwebp", "yuv420p", "webp"),
    ("avif", "libsvtav1", "yuv420p", "avif"),
]


@pytest.mark.parametrize(("suffix", "codec", "pixel_format", "container"), STILLS)
def test_a_still_image_is_a_video_of_one_frame(
    tmp_path: Path, suffix: str, codec: str, pixel_format: str, container: str
) -> None:
    video = Video(codec, count=1, first=137, pixel_format=pixel_format, frames=lambda n: _still(n, pixel_format))
    path = make(tmp_path / f"a.{suffix}", video, container=container)
    facts = probe(path)
    rows, ledger = read(path)
    assert facts.still
    assert numbers(rows) == [137]
    assert (ledger.packets, ledger.frames, ledger.truncated) == (1, 1, False)
    assert_sound(rows, ledger)


def _still(number: int, pixel_format: str) -> VideoFrame:
    if pixel_format != "pal8":
        return picture(number, pixel_format=pixel_format)
    palette = np.full((256, 4), 255, np.uint8)
    palette[:, 1:] = np.arange(256)[:, None]
    indexes: Any = (pixels(number, *SIZE)[:, :, 0], palette)
    return VideoFrame.from_ndarray(indexes, "pal8")


# An edit list ---------------------------------------------------------------------------------


def test_what_an_edit_list_leaves_out_is_counted_and_can_be_read(tmp_path: Path) -> None:
    """Players that ignore edit lists show all of it; FFmpeg gives only some of the packets."""
    path = set_edit(make(tmp_path / "a.mp4", Video(count=40, b_frames=2)), 400, 1024 + 512 * 25)
    rows, ledger = read(path)
    assert numbers(rows) == list(range(25, 35))
    assert_sound(rows, ledger)
    assert (ledger.packets, ledger.hidden, ledger.lost, ledger.truncated) == (40, 30, 0, False)
    hidden = dataclasses.replace(probe(path).tracks[0], kind="hidden", frames=ledger.hidden)
    rows, ledger = read(path, hidden)
    assert numbers(rows) == [*range(25), *range(35, 40)]
    assert all(pts < end for _, pts, end in rows)
    assert (ledger.frames, ledger.hidden, ledger.lost) == (30, 30, 0)


# Orientation ----------------------------------------------------------------------------------

MATRICES = [
    # a, b, c, d; degrees counter-clockwise as FFmpeg says; mirrored; where the top left corner is seen
    ((1, 0, 0, 1), 0, False, "top left"),
    ((0, 1, -1, 0), -90, False, "top right"),
    ((-1, 0, 0, -1), 180, False, "bottom right"),
    ((0, -1, 1, 0), 90, False, "bottom left"),
    ((-1, 0, 0, 1), 0, True, "top right"),
    ((1, 0, 0, -1), 0, True, "bottom left"),
    ((0, 1, 1, 0), -90, True, "top left"),
    ((0, -1, -1, 0), 90, True, "bottom right"),
]


def _corner(number: int) -> VideoFrame:
    """White in the stored top left corner, mid grey right of it, black elsewhere."""
    image = np.full((48, 96, 3), 20, np.uint8)
    image[:24, :48] = 235
    image[:24, 48:] = 128
    return VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(("matrix", "rotation", "mirrored", "corner"), MATRICES)
def test_pixels_are_where_a_viewer_sees_them(
    tmp_path: Path, matrix: tuple[int, int, int, int], rotation: int, mirrored: bool, corner: str
) -> None:
    path = set_matrix(make(tmp_path / "a.mp4", Video(count=2, size=(96, 48), frames=_corner)), *matrix)
    with Reader(path, probe(path).tracks[0]) as reader:
        frame = next(reader.frames())
        image = frame.image(*frame.size)
        small = frame.image(8, 8)
    turned = matrix[0] == 0
    assert frame.size == ((48, 96) if turned else (96, 48))
    assert (frame.orientation.rotation, frame.orientation.mirrored) == (rotation, mirrored)
    assert image.shape == (frame.size[1], frame.size[0], 3)
    assert image.flags.c_contiguous
    for shown in (image, small):
        assert _brightest(shown) == corner
        assert _second(shown) == _neighbour(matrix)


def _quarters(image: NDArray[np.uint8]) -> dict[str, float]:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return {
        "top left": image[:height, :width].mean(),
        "top right": image[:height, width:].mean(),
        "bottom left": image[height:, :width].mean(),
        "bottom right": image[height:, width:].mean(),
    }


def _brightest(image: NDArray[np.uint8]) -> str:
    return max(_quarters(image).items(), key=lambda item: item[1])[0]


def _second(image: NDArray[np.uint8]) -> str:
    return sorted(_quarters(image).items(), key=lambda item: item[1])[-2][0]


def _neighbour(matrix: tuple[int, int, int, int]) -> str:
    """Where the stored top right quarter is seen: displayed (x, y) = (a·x + c·y, b·x + d·y)."""
    a, b, c, d = matrix
    x, y = a * 1 + c * -1, b * 1 + d * -1
    return ("top" if y < 0 else "bottom") + (" left" if x < 0 else " right")


def test_a_damaged_matrix_is_clamped(tmp_path: Path) -> None:
    smallest = -(1 << 31)
    for matrix in ((0, 0, 0, 0), (smallest, smallest, smallest, smallest), (smallest, 1, 2, 3)):
        path = set_matrix(make(tmp_path / "a.mp4"), *matrix)
        with Reader(path, probe(path).tracks[0]) as reader:
            frame = next(reader.frames())
            assert frame.orientation.rotation in (-90, 0, 90, 180)
            assert frame.image(16, 12).shape == (12, 16, 3)


@pytest.mark.parametrize("degrees", [-(1 << 31), -360, -270, -180, -90, -89, 0, 1, 90, 180, 270, 360, 1 << 31])
def test_degrees_become_quarters(degrees: int) -> None:
    expected = round(degrees / 90) * 90 % 360 if abs(degrees) <= 360 else 0
    assert Orientation.from_rotation(degrees).rotation % 360 == expected
    assert not Orientation.from_rotation(degrees).mirrored


# Colour ---------------------------------------------------------------------------------------

_KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}
_TAGS = {None: 2, "709": 1, "601": 5, "2020": 9}
_COLOURS = [(180, 90, 160), (60, 160, 100), (126, 128, 128), (16, 128, 128), (235, 128, 128), (100, 110, 200)]


def _expected(yuv: tuple[int, int, int], matrix: str, full: bool) -> NDArray[np.float64]:
    """ITU-T H.273, by hand."""
    kr, kb = _KR_KB[matrix]
    scale = np.array([1 / 255, 1 / 255, 1 / 255] if full else [1 / 219, 1 / 224, 1 / 224])
    y, cb, cr = (np.array(yuv) - np.array([0 if full else 16, 128, 128])) * scale
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    rgb: NDArray[np.float64] = np.clip(np.array([red, green, blue]) * 255, 0, 255)
    return rgb


def _flat(yuv: tuple[int, int, int], size: tuple[int, int], pixel_format: str = "yuv420p") -> VideoFrame:
    """A picture of one colour; deeper formats get the same colour in more bits."""
    frame = VideoFrame(*size, pixel_format)
    for plane, value in zip(frame.planes, yuv, strict=True):
        deep = "10" in pixel_format
        row = np.full(plane.buffer_size // (2 if deep else 1), value << 2 if deep else value, "<u2" if deep else "u1")
        plane.update(row.tobytes())
    return frame


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("tag", ["601", "709", "2020", None])
@pytest.mark.parametrize("height", [48, 720])
def test_colours_are_those_of_the_standard(pixel_format: str, full: bool, tag: str | None, height: int) -> None:
    matrix = tag or ("709" if height >= 720 else "601")
    for yuv in _COLOURS:
        frame = Frame.from_ndarray(np.zeros((4, 4, 3), np.uint8))
        flat = _flat(yuv, (64, height), pixel_format)
        flat.colorspace = _TAGS[tag]
        flat.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        image = dataclasses.replace(frame, picture=flat).image(8, 8)
        assert np.abs(image - _expected(yuv, matrix, full)).max() <= 3


def test_a_range_that_is_not_said_is_limited_but_for_full_formats() -> None:
    for pixel_format, full in (("yuv420p", False), ("yuvj420p", True)):
        flat = _flat((100, 128, 128), SIZE, pixel_format)
        flat.color_range = ColorRange.UNSPECIFIED
        frame = dataclasses.replace(Frame.from_ndarray(np.zeros((4, 4, 3), np.uint8)), picture=flat)
        assert np.abs(frame.image(8, 8) - _expected((100, 128, 128), "601", full)).max() <= 2


@pytest.mark.parametrize("tag", [("bt709", 1), ("smpte170m", 6), ("bt2020nc", 9)])
@pytest.mark.parametrize("full", [False, True])
def test_tags_in_a_file_are_heeded(tmp_path: Path, tag: tuple[str, int], full: bool) -> None:
    def setup(stream: VideoStream) -> None:
        stream.codec_context.colorspace = tag[1]
        stream.codec_context.color_range = ColorRange.JPEG if full else ColorRange.MPEG

    yuv = (120, 90, 170)
    path = make(
        tmp_path / "a.mp4",
        Video(
            count=2,
            pixel_format="yuv444p",
            options={"qp": "0"},
            setup=setup,
            frames=lambda n: _flat(yuv, SIZE, "yuv444p"),
        ),
    )
    with Reader(path, probe(path).tracks[0]) as reader:
        image = next(reader.frames()).image(8, 8)
    matrix = {1: "709", 6: "601", 9: "2020"}[tag[1]]
    assert np.abs(image - _expected(yuv, matrix, full)).max() <= 3


def test_gray_palette_and_rgb_pictures_keep_their_levels(tmp_path: Path) -> None:
    for pixel_format in ("rgb24", "gray", "pal8"):
        video = Video("png", count=1, first=90, pixel_format=pixel_format, frames=lambda n: _still(n, pixel_format))  # noqa: B023
        path = make(tmp_path / f"{pixel_format}.png", video, container="image2pipe")
        with Reader(path, probe(path).tracks[0]) as reader:
            image = next(reader.frames()).image(*SIZE)
        assert np.abs(image.astype(int) - pixels(90, *SIZE)).max() <= 2


def test_images_of_a_frame_are_apart_and_in_the_order_asked_for() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :, 0] = 200
    frame = Frame.from_ndarray(image)
    rgb, bgr = frame.image(32, 24), frame.image(32, 24, order="bgr", interpolation="area")
    kept = rgb.copy()
    other = dataclasses.replace(frame, picture=VideoFrame.from_ndarray(255 - image, "rgb24")).image(32, 24)
    assert (rgb == kept).all()
    assert rgb[0, 0].tolist() == [200, 0, 0]
    assert bgr[0, 0].tolist() == [0, 0, 200]
    assert other[0, 0].tolist() == [55, 255, 255]


# Small parts ----------------------------------------------------------------------------------


def test_close_is_idempotent_and_works_amid_reading(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4")
    before = _open_files()
    reader = Reader(path, probe(path).tracks[0])
    frames = reader.frames()
    assert number_in(next(frames).picture) == 0
    frames.close()
    reader.close()
    reader.close()
    assert _open_files() == before


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(NotVideoError, match="has sound but no video"):
        probe(make_sound(tmp_path / "a.wav"))


def test_clock() -> None:
    clock = PresentationClock(40, Fraction(1, 1000))
    assert [clock.tick(pts, None) for pts in (0, 40, None, 120, 119, 160)] == [0, 40, 80, 120, 121, 160]
    assert (clock.missing, clock.backward) == (1, 1)
    clock = PresentationClock(40, Fraction(1, 1000))
    assert [clock.tick(pts, None) for pts in (9000, 9040, 0, 40)] == [9000, 9040, 9080, 9120]
    assert clock.place(80, None, near=9120) == 9160
    assert clock.place(9040, None, near=9040) == 9040
    assert clock.place(None, None, near=0) is None


def test_clock_prefers_decoding_times_once_the_others_ran_backward_more_often() -> None:
    clock = PresentationClock(1, Fraction(1, 25))
    assert [clock.tick(pts, dts) for pts, dts in [(1, 0), (3, 1), (2, 2), (5, 3), (4, 4), (6, 5)]][-1] >= 5
    assert clock.place(40, 7, near=6) == 7


@pytest.mark.parametrize("rate", [None, Fraction(0), Fraction(-5), Fraction(1 << 31), Fraction(1, 1 << 31)])
def test_an_absurd_rate_is_not_believed(rate: Fraction | None) -> None:
    track = VideoTrack(0, "video", "h264", SIZE, None, rate, Fraction(1, 1000), None, None, False, 0)
    assert track.frame_duration_pts == 40
    assert dataclasses.replace(track, average_rate=Fraction(50)).frame_duration_pts == 20
    assert dataclasses.replace(track, time_base=Fraction(1), average_rate=Fraction(50)).frame_duration_pts == 1


def test_a_number_is_read_back() -> None:
    assert [number_of(pixels(n, 64, 48)[:, :, 0]) for n in (0, 1, 77, 255)] == [0, 1, 77, 255]
    assert av.VideoFrame.from_ndarray(pixels(5, 8, 8), "rgb24").width == 8
