"""Only what is touched changes: every other packet and picture is the source's, bit for bit."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests.recipes import Video, make, make_with_cover, set_matrix
from vidmod.errors import OutputError, UsageError
from vidmod.media import Medium, rewrite_apart
from vidmod.media.muxer import KEEPABLE
from vidmod.media.rewriting import Plan, Rewritten, rewrite
from vidmod.media.source import open_container, probe
from vidmod.timebase import Span

SIZE = (160, 96)
COUNT, GOP = 60, 20


def scene(size: tuple[int, int] = SIZE, pixel_format: str = "yuv420p") -> Callable[[int], VideoFrame]:
    """Something bright that moves and has detail."""

    def frame(number: int) -> VideoFrame:
        width, height = size
        x, y = np.arange(width)[None, :], np.arange(height)[:, None]
        wave = 128 + 50 * np.sin((x + 3 * number) / 9) + 20 * np.cos((y - number) / 5)
        noise = np.random.default_rng(number).normal(0, 2, (height, width))
        gray = np.clip(wave + noise, 60, 235).astype(np.uint8)
        image = np.stack([gray, np.roll(gray, 7, 1), np.roll(gray, 7, 0)], axis=2)
        return VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixel_format)

    return frame


def video(codec: str = "libx264", **settings: Any) -> Video:
    pixel_format, size = settings.get("pixel_format", "yuv420p"), settings.get("size", SIZE)
    merged = {"count": COUNT, "gop": GOP, "size": size, "frames": scene(size, pixel_format)} | settings
    return Video(codec, **merged)


def box(frame: VideoFrame, pts: int) -> None:
    """Black out the upper half."""
    plane = frame.planes[0]
    rows: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows[: frame.height // 2] = 0


@dataclass(frozen=True)
class Sent:
    """A packet as a demuxer gives it."""

    pts: int | None
    dts: int | None
    duration: int | None
    key: bool
    data: bytes


@dataclass(frozen=True)
class Content:
    """All of a file: packets of every stream, pictures by time."""

    packets: list[list[Sent]]
    frames: dict[int, NDArray[Any]]
    digests: dict[int, str]
    context: dict[str, Any]


def read(path: Path) -> Content:
    packets: list[list[Sent]] = []
    with open_container(path) as container:
        packets += [[] for _ in container.streams]
        for packet in container.demux():
            if packet.size:
                row = Sent(packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
                packets[packet.stream_index].append(row)
    frames: dict[int, NDArray[Any]] = {}
    rotation = 0
    with open_container(path) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            assert isinstance(frame, VideoFrame)
            assert frame.pts is not None
            assert not frame.is_corrupt
            assert frame.pts not in frames
            frames[frame.pts] = frame.to_ndarray()
            rotation = frame.rotation
        context = stream.codec_context
        facts = {
            "rotation": rotation,
            "aspect": stream.sample_aspect_ratio,
            "colours": (context.color_range, context.color_primaries, context.color_trc, context.colorspace),
            "format": context.pix_fmt,
            "size": (context.width, context.height),
            "time_base": stream.time_base,
            "profile": context.profile,
            "start": stream.start_time,
            "duration": stream.duration,
            "languages": [item.metadata.get("language") for item in container.streams if item.type == "audio"],
        }
    digests = {pts: hashlib.sha256(frame.tobytes()).hexdigest() for pts, frame in frames.items()}
    return Content(packets, frames, digests, facts)


def run(path: Path, output: Path, plan: Plan, draw: Callable[[VideoFrame, int], None] = box) -> Rewritten:
    with output.open("w+b") as file:
        return rewrite(Medium.of(path), probe(path).tracks[0], file, plan, draw)


def numbered(content: Content, *numbers: int) -> tuple[Span, ...]:
    """The times of some pictures, counted as they are shown."""
    times = [*sorted(content.frames)]
    ends = [*times[1:], times[-1] + 1]
    return tuple(Span(times[number], ends[number]) for number in numbers)


def luma(frame: NDArray[Any], content: Content) -> NDArray[Any]:
    """The rows that `box` blackens, without those at its edge."""
    height = content.context["size"][1]
    return frame[: height // 2 - 4] if frame.ndim == 2 else frame[0][: height // 2 - 4]


def assert_same_elsewhere(source: Content, output: Content, plan: Plan, result: Rewritten) -> None:
    """What was promised: copied packets and pictures are the source's, touched ones are black, times are kept."""
    assert not result.full, result.reason

    def outside(pts: int) -> bool:
        return not any(span.start <= pts < span.end for span in result.spans)

    assert all(item.pts is not None for item in source.packets[0])
    before, after = ([item for item in rows.packets[0] if outside(item.pts or 0)] for rows in (source, output))
    assert before == after
    assert result.copied_packets == len(after)
    inside = [[item for item in rows.packets[0] if not outside(item.pts or 0)] for rows in (source, output)]
    assert len(inside[0]) == len(inside[1]) == result.pictures
    assert [item.dts for item in inside[0]] == [item.dts for item in inside[1]]
    if result.format not in ("mp4", "mov"):  # in these a duration is the time to the next packet's decoding
        for rows in inside:
            rows.sort(key=lambda item: item.pts or 0)
    assert [item.duration for item in inside[0]] == [item.duration for item in inside[1]]
    assert_pictures(source, output, plan, outside)
    assert source.packets[1:] == output.packets[1:]
    assert source.context == output.context


def assert_pictures(source: Content, output: Content, plan: Plan, outside: Callable[[int], bool]) -> None:
    assert [*source.frames] == [*output.frames]
    touched = 0
    depth = 4 if "10" in str(source.context["format"]) else 1
    for pts, frame in output.frames.items():
        if any(span.start <= pts < span.end for span in plan.touched):
            touched += 1
            assert luma(source.frames[pts], source).mean() > 80 * depth
            assert luma(frame, output).mean() < 25 * depth, pts
        elif outside(pts):
            assert source.digests[pts] == output.digests[pts], pts
        else:
            difference = np.abs(frame.astype(int) - source.frames[pts].astype(int))
            assert 0 < difference.mean() < 3 * depth, pts
    assert touched == len(plan.touched)


def cli_messages(path: Path) -> str:
    """What another version of FFmpeg says on decoding all of a file."""
    command = ["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-map", "0", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


def assert_plays(path: Path) -> None:
    if shutil.which("ffmpeg"):
        assert cli_messages(path) == ""


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="Debian's ffmpeg is not installed")


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def x264(parameters: str = "scenecut=0", preset: str = "veryfast") -> dict[str, str]:
    return {"preset": preset, "x264-params": parameters}


def x265(parameters: str) -> dict[str, str]:
    base = "log-level=none:scenecut=0:pools=none:frame-threads=1:open-gop=0"
    return {"preset": "ultrafast", "x265-params": f"{base}:{parameters}"}


APART = [
    ("mp4", video(b_frames=0)),
    ("mp4", video(b_frames=2)),
    ("mp4", video(b_frames=3, options=x264("scenecut=0:b-pyramid=normal:b-adapt=0", "medium"))),
    ("mp4", video(b_frames=2, pixel_format="yuv420p10le")),
    ("mp4", video(b_frames=2, pixel_format="yuv444p")),
    ("mp4", video(b_frames=0, options=x264() | {"profile": "baseline"})),
    ("mov", video(b_frames=2)),
    ("mkv", video(b_frames=0)),
    ("mkv", video(b_frames=3, options=x264("scenecut=0:b-pyramid=normal:b-adapt=0", "medium"))),
    ("ts", video(b_frames=2)),
    ("mp4", video("libx265", b_frames=0, options=x265("b-pyramid=0"))),
    ("mp4", video("libx265", b_frames=3, options=x265("b-pyramid=1:b-adapt=0"))),
    ("mp4", video("libx265", b_frames=2, pixel_format="yuv420p10le", options=x265("b-pyramid=0"))),
    ("webm", video("libvpx-vp9")),
    ("mkv", video("libvpx-vp9")),
    ("mp4", video("libvpx-vp9")),
    ("webm", video("libvpx")),
    ("webm", video("libsvtav1")),
    ("mp4", video("libsvtav1")),
    ("mp4", video("libsvtav1", pixel_format="yuv420p10le")),
]
SOUNDLESS = ("webm",)


def ids(rows: list[tuple[str, Video]]) -> list[str]:
    return [f"{suffix}-{item.codec}-{item.pixel_format}-{item.b_frames}" for suffix, item in rows]


def made(tmp_path: Path, suffix: str, recipe: Video) -> Path:
    return make(tmp_path / f"source.{suffix}", recipe, sound_seconds=0 if suffix in SOUNDLESS else 2.4)


@pytest.mark.parametrize(("suffix", "recipe"), APART, ids=ids(APART))
def test_only_the_group_that_is_touched_changes(tmp_path: Path, suffix: str, recipe: Video) -> None:
    path = made(tmp_path, suffix, recipe)
    source = read(path)
    plan = Plan(numbered(source, 25, 26))
    result = run(path, tmp_path / f"out.{suffix}", plan)
    assert_same_elsewhere(source, read(tmp_path / f"out.{suffix}"), plan, result)
    assert (result.groups, result.pictures, result.drawn) == (1, GOP, 2)
    assert_plays(tmp_path / f"out.{suffix}")


TOUCHED = [
    ("first", (0, 1), 1, GOP),
    ("last", (59,), 1, GOP),
    ("adjacent", (19, 20), 2, 2 * GOP),
    ("apart", (3, 45), 2, 2 * GOP),
    ("between", (20, 39), 1, GOP),
]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "libx265")])
@pytest.mark.parametrize(
    ("numbers", "groups", "pictures"), [row[1:] for row in TOUCHED], ids=[row[0] for row in TOUCHED]
)
def test_wherever_the_touched_group_is(
    tmp_path: Path, suffix: str, codec: str, numbers: tuple[int, ...], groups: int, pictures: int
) -> None:
    options = x264() if codec == "libx264" else x265("b-pyramid=0")
    path = made(tmp_path, suffix, video(codec, b_frames=2, options=options))
    source = read(path)
    plan = Plan(numbered(source, *numbers))
    result = run(path, tmp_path / f"out.{suffix}", plan)
    assert_same_elsewhere(source, read(tmp_path / f"out.{suffix}"), plan, result)
    assert (result.groups, result.drawn) == (groups, len(numbers))
    # What comes before them in their group is copied, if it is long enough.
    assert len(numbers) <= result.pictures <= pictures
    assert_plays(tmp_path / f"out.{suffix}")


@pytest.mark.parametrize(("suffix", "recipe"), APART, ids=ids(APART))
def test_what_comes_before_in_the_same_group_is_copied(tmp_path: Path, suffix: str, recipe: Video) -> None:
    path = made(tmp_path, suffix, recipe)
    source = read(path)
    plan = Plan(numbered(source, 35, 37))
    result = run(path, tmp_path / f"out.{suffix}", plan)
    assert_same_elsewhere(source, read(tmp_path / f"out.{suffix}"), plan, result)
    assert (result.groups, result.drawn) == (1, 2)
    # With what is hidden between pictures (VP9, AV1), nobody knows where to part.
    hidden = recipe.codec.startswith(("libvpx", "libsvt"))
    assert result.pictures <= (GOP if hidden else 5 + recipe.b_frames)
    assert_plays(tmp_path / f"out.{suffix}")


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mp4", "libx265"), ("webm", "libvpx-vp9")])
def test_groups_are_encoded_side_by_side(tmp_path: Path, suffix: str, codec: str) -> None:
    options = {"libx264": x264(), "libx265": x265("b-pyramid=0")}.get(codec, {})
    path = made(tmp_path, suffix, video(codec, b_frames=2, options=options, count=240, gop=24))
    source = read(path)
    plan = Plan(numbered(source, 5, 6, 60, 110, 150, 200, 201), threads=3)
    meeting = threading.Barrier(3)
    met: set[int] = set()

    def draw(frame: VideoFrame, pts: int) -> None:
        box(frame, pts)
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            meeting.wait(30)  # nobody gets past it alone

    result = run(path, tmp_path / f"out.{suffix}", plan, draw)
    assert_same_elsewhere(source, read(tmp_path / f"out.{suffix}"), plan, result)
    assert (result.groups, result.drawn) == (5, 7)
    assert 3 * 24 < result.pictures <= 5 * 24
    assert_plays(tmp_path / f"out.{suffix}")


def test_a_group_that_fails_beside_others_fails_as_it_does_alone(tmp_path: Path) -> None:
    path = made(tmp_path, "mp4", video(b_frames=2, count=240, gop=24))

    def draw(_frame: VideoFrame, pts: int) -> None:
        if pts > 100:
            raise OutputError("Invalid picture.")

    before = threading.active_count()
    with pytest.raises(OutputError, match="Invalid picture"):
        run(path, tmp_path / "out.mp4", Plan(numbered(read(path), 5, 60, 110, 150, 200), threads=3), draw)
    assert threading.active_count() == before


def test_a_long_group_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite_apart, "_MAX_HELD_PICTURES", 10)
    path = made(tmp_path, "mp4", video(b_frames=2))
    source = read(path)
    plan = Plan(numbered(source, 3, 45), threads=2)
    result = run(path, tmp_path / "out.mp4", plan)
    assert_same_elsewhere(source, read(tmp_path / "out.mp4"), plan, result)
    assert (result.groups, result.pictures, result.drawn) == (2, 2 * GOP, 2)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "libx265"), ("webm", "libvpx-vp9")]
)
def test_nothing_touched_is_a_copy(tmp_path: Path, suffix: str, codec: str) -> None:
    path = made(tmp_path, suffix, video(codec, b_frames=2))
    source = read(path)
    result = run(path, tmp_path / f"out.{suffix}", Plan(()))
    output = read(tmp_path / f"out.{suffix}")
    assert (source.packets, source.digests, source.context) == (output.packets, output.digests, output.context)
    assert (result.full, result.encoder, result.copied_packets, result.spans) == (False, None, COUNT, ())


def test_a_fragmented_file(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    path = make(tmp_path / "source.mp4", video(b_frames=2), sound_seconds=2.4, options=options)
    source = read(path)
    plan = Plan(numbered(source, 25))
    result = run(path, tmp_path / "out.mp4", plan)
    assert_same_elsewhere(source, read(tmp_path / "out.mp4"), plan, result)


def test_hevc_has_one_sample_description_for_each_encoder(tmp_path: Path) -> None:
    path = made(tmp_path, "mp4", video("libx265", options=x265("b-pyramid=0")))
    run(path, tmp_path / "out.mp4", Plan(numbered(read(path), 25)))
    counts = [
        int.from_bytes(data[place + 8 : place + 12], "big")
        for data in (path.read_bytes(), (tmp_path / "out.mp4").read_bytes())
        for place in (data.index(b"stsd"),)
    ]
    assert counts == [1, 2]


def test_groups_of_one_picture(tmp_path: Path) -> None:
    path = made(tmp_path, "mp4", video(gop=1))
    source = read(path)
    plan = Plan(numbered(source, *range(10, 50)))
    result = run(path, tmp_path / "out.mp4", plan)
    assert_same_elsewhere(source, read(tmp_path / "out.mp4"), plan, result)
    assert result.groups == 40


def test_a_picture_is_touched_while_it_is_shown(tmp_path: Path) -> None:
    # The span begins after the picture does, and ends before the next one.
    path = made(tmp_path, "mp4", video())
    source = read(path)
    shown = numbered(source, 30)[0]
    seen: list[int] = []
    run(path, tmp_path / "out.mp4", Plan((Span(shown.start + 1, shown.start + 2),)), lambda _, pts: seen.append(pts))
    assert seen == [shown.start]


def idr_every(interval: int, base: Callable[[int], VideoFrame]) -> Callable[[int], VideoFrame]:
    def frame(number: int) -> VideoFrame:
        made_frame = base(number)
        if number % interval == 0:
            made_frame.pict_type = av.video.frame.PictureType.I
        return made_frame

    return frame


OPEN = [
    ("mp4", "libx264", {"x264-params": "scenecut=0:open-gop=1:b-adapt=0", "forced-idr": "1"}),
    ("mkv", "libx264", {"x264-params": "scenecut=0:open-gop=1:b-adapt=0", "forced-idr": "1"}),
]


@pytest.mark.parametrize(("suffix", "codec", "options"), OPEN, ids=[f"{row[0]}-{row[1]}" for row in OPEN])
def test_an_open_group_is_no_boundary(tmp_path: Path, suffix: str, codec: str, options: dict[str, str]) -> None:
    recipe = video(codec, gop=8, b_frames=3, options=options, frames=idr_every(30, scene()))
    path = made(tmp_path, suffix, recipe)
    source = read(path)
    assert sum(item.key for item in source.packets[0]) > 4
    plan = Plan(numbered(source, 40))
    result = run(path, tmp_path / f"out.{suffix}", plan)
    assert_same_elsewhere(source, read(tmp_path / f"out.{suffix}"), plan, result)
    assert result.groups == 1
    assert 19 < result.pictures < 30
    assert_plays(tmp_path / f"out.{suffix}")


def make_open_hevc(path: Path, parts: int = 2, each: int = 30) -> Path:
    """IDR pictures where each part begins, and CRA pictures with leading ones in between."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx265", rate=25)
        contexts = [stream.codec_context, *(av.CodecContext.create("libx265", "w") for _ in range(parts - 1))]
        for part, context in enumerate(contexts):
            assert isinstance(context, av.VideoCodecContext)
            context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
            context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
            context.gop_size, context.max_b_frames = 8, 3
            context.flags |= stream.codec_context.flags
            context.options = x265("open-gop=1:b-adapt=0")
            frames = [scene()(number) for number in range(part * each, (part + 1) * each)]
            for place, frame in enumerate(frames):
                frame.pts = part * each + place
            for item in (*frames, None):
                for packet in context.encode(item):
                    packet.stream = stream
                    output.mux(packet)
    return path


def test_an_open_group_of_hevc_is_no_boundary(tmp_path: Path) -> None:
    path = make_open_hevc(tmp_path / "source.mp4", 3)
    source = read(path)
    kinds = [item.data[4] >> 1 & 63 for item in source.packets[0]]
    assert kinds.count(20) == 3
    assert kinds.count(21) >= 6
    assert {8, 9} <= {*kinds}  # leading pictures that refer to what was before
    plan = Plan(numbered(source, 40))
    result = run(path, tmp_path / "out.mp4", plan)
    assert_same_elsewhere(source, read(tmp_path / "out.mp4"), plan, result)
    assert result.groups == 1
    assert 19 < result.pictures < 30
    assert_plays(tmp_path / "out.mp4")
    # What was written has two sample descriptions; it can be written again.
    again = replace(plan, touched=numbered(source, 5))
    second = run(tmp_path / "out.mp4", tmp_path / "again.mp4", again)
    assert_same_elsewhere(read(tmp_path / "out.mp4"), read(tmp_path / "again.mp4"), again, second)
    assert_plays(tmp_path / "again.mp4")


@pytest.mark.parametrize(("suffix", "codec", "options"), [*OPEN, ("mp4", "libx265", x265("open-gop=1:b-adapt=0"))])
def test_without_an_idr_picture_all_is_encoded_from_there_on(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str]
) -> None:
    path = made(tmp_path, suffix, video(codec, gop=8, b_frames=3, options=options))
    source = read(path)
    result = run(path, tmp_path / f"out.{suffix}", plan := Plan(numbered(source, 40)))
    assert_same_elsewhere(source, read(tmp_path / f"out.{suffix}"), plan, result)
    assert 20 <= result.pictures <= 24
    result = run(path, tmp_path / f"out.{suffix}", plan := Plan(numbered(source, 3)))
    assert (result.full, result.reason) == (True, "every group of pictures is touched")
    assert_whole(source, read(tmp_path / f"out.{suffix}"), plan)


TIMES = [
    0,
    1,
    2,
    5,
    6,
    7,
    8,
    20,
    21,
    22,
    30,
    31,
    32,
    33,
    34,
    40,
    41,
    42,
    43,
    44,
    45,
    46,
    47,
    48,
    49,
    60,
    61,
    62,
    64,
    66,
]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "libx265"), ("mkv", "libvpx-vp9")]
)
def test_variable_frame_rate_that_starts_late(tmp_path: Path, suffix: str, codec: str) -> None:
    options = x265("b-pyramid=0") if codec == "libx265" else {}
    recipe = video(codec, gop=10, count=30, b_frames=2, times=[time + 250 for time in TIMES], options=options)
    path = made(tmp_path, suffix, recipe)
    source = read(path)
    assert min(source.frames) * source.context["time_base"] >= 10
    for plan, name in ((Plan(numbered(source, 14)), "part"), (Plan(numbered(source, 14), full=True), "whole")):
        result = run(path, tmp_path / f"{name}.{suffix}", plan)
        output = read(tmp_path / f"{name}.{suffix}")
        if name == "part":
            assert_same_elsewhere(source, output, plan, result)
        else:
            # Of an MP4's durations the whole is the time from the first to the last packet's decoding.
            assert_whole(source, output, plan, ("duration",) if suffix == "mp4" else (), durations=suffix != "mp4")
        assert_plays(tmp_path / f"{name}.{suffix}")


def assert_whole(
    source: Content, output: Content, plan: Plan, leave: tuple[str, ...] = (), *, durations: bool = True
) -> None:
    """All pictures at their times, in their format, and the sound as it was."""
    assert [*source.frames] == [*output.frames]
    assert_pictures(source, output, plan, lambda pts: False)
    if durations:
        assert [item.duration for item in by_time(source)] == [item.duration for item in by_time(output)]
    # Where Matroska has no duration, the demuxer's guess depends on what lies around.
    assert [undated(rows) for rows in source.packets[1:]] == [undated(rows) for rows in output.packets[1:]]
    facts = [{key: value for key, value in item.context.items() if key not in leave} for item in (source, output)]
    assert facts[0] == facts[1]


def undated(rows: list[Sent]) -> list[Sent]:
    return [replace(item, duration=None) for item in rows]


def by_time(content: Content) -> list[Sent]:
    return sorted(content.packets[0], key=lambda item: item.pts or 0)


WHOLE = [
    ("mp4", video(b_frames=2)),
    ("mp4", video(b_frames=2, pixel_format="yuv422p10le")),
    ("mp4", video(b_frames=0, options=x264() | {"profile": "baseline"})),
    ("mov", video(b_frames=2)),
    ("mkv", video(b_frames=2)),
    ("ts", video(b_frames=2)),
    ("mp4", video("libx265", b_frames=2)),
    ("mkv", video("libx265", b_frames=2, pixel_format="yuv420p10le")),
    ("webm", video("libvpx-vp9")),
    ("webm", video("libvpx")),
    ("webm", video("libsvtav1")),
    ("mp4", video("libsvtav1", pixel_format="yuv420p10le")),
    ("mkv", video("mpeg2video", b_frames=2)),
    ("mp4", video("mpeg4")),
]


@pytest.mark.parametrize(("suffix", "recipe"), WHOLE, ids=ids(WHOLE))
def test_all_of_it_encoded(tmp_path: Path, suffix: str, recipe: Video) -> None:
    path = made(tmp_path, suffix, recipe)
    source = read(path)
    result = run(path, tmp_path / f"out.{suffix}", plan := Plan(numbered(source, 25, 26), full=True))
    assert (result.full, result.reason, result.pictures, result.drawn) == (True, "asked for", COUNT, 2)
    assert result.spans == (Span(min(source.frames), max(source.frames) + (by_time(source)[-1].duration or 0)),)
    assert_whole(source, read(tmp_path / f"out.{suffix}"), plan)
    assert_plays(tmp_path / f"out.{suffix}")


def looks(stream: VideoStream) -> None:
    context = stream.codec_context
    context.sample_aspect_ratio = Fraction(4, 3)
    context.color_range, context.color_primaries, context.color_trc, context.colorspace = 1, 9, 16, 9


LOOKS = [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "libx265"), ("mp4", "libsvtav1")]


@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
@pytest.mark.parametrize(("suffix", "codec"), LOOKS)
def test_shape_and_colours_are_kept(tmp_path: Path, suffix: str, codec: str, full: bool) -> None:
    options = x265("b-pyramid=0") if codec == "libx265" else {}
    path = made(tmp_path, suffix, video(codec, setup=looks, options=options))
    if suffix == "mp4":
        set_matrix(path, 0, 1, -1, 0)
    source = read(path)
    assert source.context["aspect"] == Fraction(4, 3) or codec == "libsvtav1"
    assert source.context["colours"] == (1, 9, 16, 9)
    assert source.context["rotation"] == (-90 if suffix == "mp4" else 0)
    plan = Plan(numbered(source, 25), full=full)
    result = run(path, tmp_path / f"out.{suffix}", plan)
    output = read(tmp_path / f"out.{suffix}")
    if full:
        assert_whole(source, output, plan)
    else:
        assert_same_elsewhere(source, output, plan, result)


def reason_of(path: Path, output: Path, *numbers: int) -> tuple[Rewritten, Content, Content, Plan]:
    source = read(path)
    plan = Plan(numbered(source, *numbers))
    result = run(path, output, plan)
    assert result.full
    return result, source, read(output), plan


def test_avi_becomes_mp4(tmp_path: Path) -> None:
    path = make(tmp_path / "source.avi", video("mpeg4"))
    with open_container(path) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times
    result = run(path, tmp_path / "out.mp4", Plan((Span(10, 12),)))
    assert result.full
    assert result.reason is not None
    assert "mpeg4 is not a codec of which single groups" in result.reason
    assert (result.format, result.format_reason) == ("mp4", "avi is written as MP4")
    output = read(tmp_path / "out.mp4")
    assert len(output.frames) == COUNT
    assert [luma(frame, output).mean() < 25 for frame in output.frames.values()] == [
        number in (10, 11) for number in range(COUNT)
    ]


def test_hevc_in_matroska_is_encoded_whole(tmp_path: Path) -> None:
    path = made(tmp_path, "mkv", video("libx265", options=x265("b-pyramid=0")))
    result, source, output, plan = reason_of(path, tmp_path / "out.mkv", 25)
    assert result.reason == "matroska has no place for a second set of HEVC parameters"
    assert_whole(source, output, plan)


def test_a_damaged_packet_in_the_touched_group_only(tmp_path: Path) -> None:
    def damage(packet: Packet[Any], place: int) -> None:
        if place == 30:
            packet.update(bytes(packet)[:4] + bytes(packet.size - 4))

    path = made(tmp_path, "mp4", video(patch=damage))
    with open_container(path) as container:
        base = container.streams.video[0].duration or 0
    part = run(path, tmp_path / "part.mp4", Plan((Span(0, 1),)))
    assert (part.full, part.copied_packets) == (False, COUNT - GOP)
    whole = run(path, tmp_path / "whole.mp4", Plan((Span(base // 2, base // 2 + 1),)))
    assert (whole.full, whole.reason) == (True, "a packet is damaged")


def test_interlaced_video_is_encoded_whole(tmp_path: Path) -> None:
    path = made(tmp_path, "mp4", video(options={"preset": "veryfast", "x264-params": "scenecut=0:tff=1"}))
    result, _, output, _ = reason_of(path, tmp_path / "out.mp4", 25)
    assert result.reason == "it is interlaced"
    assert len(output.frames) == COUNT


def test_parameter_sets_that_change_under_way(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "source.ts"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        other = av.CodecContext.create("libx264", "w")
        assert isinstance(other, av.VideoCodecContext)
        for part, context in enumerate((stream.codec_context, other)):
            context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
            context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
            context.gop_size, context.max_b_frames, context.thread_count = 10, 0, 1
            context.options = x264(f"scenecut=0:ref={1 + part}:cabac={part}")
            frames = [scene()(number) for number in range(part * 30, part * 30 + 30)]
            for place, frame in enumerate(frames):
                frame.pts = part * 30 + place
            for item in (*frames, None):
                for packet in context.encode(item):
                    packet.stream = stream
                    output.mux(packet)
    result, _, content, _ = reason_of(tmp_path / "source.ts", tmp_path / "out.ts", 25)
    assert result.reason == "its parameter sets change under way"
    assert len(content.frames) == 60


def test_what_is_not_asked_for_is_dropped(tmp_path: Path) -> None:
    path = make_with_cover(tmp_path / "source.mp4")
    result = run(path, tmp_path / "out.mp4", Plan(()))
    why = "cover art, in which nothing would be covered"
    assert [(item.index, item.type, item.why) for item in result.dropped] == [(1, "video", why)]
    with open_container(tmp_path / "out.mp4") as container:
        assert len(container.streams) == 1
    # Not even where all that can be kept is.
    result = run(path, tmp_path / "kept.mp4", Plan((), keep=frozenset(KEEPABLE)))
    assert [(item.index, item.why) for item in result.dropped] == [(1, why)]
    with pytest.raises(UsageError, match="Use one of subtitles, chapters"):
        Plan((), keep=frozenset({"covers"}))


@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
def test_tags_stay_behind_but_for_languages(tmp_path: Path, full: bool) -> None:
    plain = made(tmp_path, "mp4", video())
    path = tmp_path / "tagged.mp4"
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(plain)) as source, av.open(str(path), "w", container_options=options) as output:
        streams = [output.add_stream_from_template(item) for item in source.streams]
        output.metadata.update({"location": "+48.8577+002.295/", "title": "at home", "com.apple.quicktime.make": "Y"})
        streams[1].metadata["language"] = "fra"
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                output.mux(packet)
    source_content = read(path)
    assert source_content.context["languages"] == ["fra"]
    assert b"+48.8577" in path.read_bytes()
    plan = Plan(numbered(source_content, 25), full=full)
    run(path, tmp_path / "out.mp4", plan)
    written = (tmp_path / "out.mp4").read_bytes()
    assert b"+48.8577" not in written
    assert b"at home" not in written
    assert b"quicktime.make" not in written
    assert read(tmp_path / "out.mp4").context["languages"] == ["fra"]
    run(path, tmp_path / "kept.mp4", replace(plan, keep=frozenset({"metadata"})))
    assert b"at home" in (tmp_path / "kept.mp4").read_bytes()


def make_rich(folder: Path, suffix: str) -> Path:
    """A film with everything that is left out of a copy unless it is asked for."""
    rows = [("00:00:00,500 --> 00:00:01,500", "Hello"), ("00:00:02,100 --> 00:00:02,900", "Untold")]
    (folder / "said.srt").write_text("".join(f"{n}\n{at}\n{text}\n\n" for n, (at, text) in enumerate(rows, 1)))
    lines = [";FFMETADATA1", "title=At home", "location=+48.8577+002.295/"]
    for title, start, end in (("First", 0, 2000), ("Second", 2000, 4000)):
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}", f"title={title}"]
    (folder / "tags.txt").write_text("\n".join(lines) + "\n")
    path = folder / f"rich.{suffix}"
    attach = ("-attach", folder / "said.srt", "-metadata:s:t", "mimetype=text/plain") if suffix == "mkv" else ()
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=160x96:r=25:d=4", "-f", "lavfi", "-i", "sine=d=4")
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map_metadata", "3", "-map_chapters", "3")
    codecs = ("-c:v", "libx264", "-g", "25", "-c:a", "aac", "-c:s", "srt" if suffix == "mkv" else "mov_text")
    ffmpeg(*inputs, "-i", folder / "said.srt", "-i", folder / "tags.txt", *maps, *codecs, *attach, path)
    return path


def told(path: Path) -> dict[str, Any]:
    """What a file says beside pictures and sound."""
    with av.open(str(path)) as container:
        said = [
            (round(float((item.pts or 0) * item.time_base), 3), bytes(item))
            for item in container.demux(*container.streams.subtitles)
            if item.size
        ]
        return {
            "kinds": sorted({item.type for item in container.streams} - {"video", "audio", "data"}),
            "said": [(at, text) for at, text in said if b"Hello" in text or b"Untold" in text],
            "chapters": [
                (
                    float(row["start"] * (row["time_base"] or 0)),
                    float(row["end"] * (row["time_base"] or 0)),
                    row["metadata"].get("title"),
                )
                for row in container.chapters()
            ],
            "title": container.metadata.get("title"),
            "place": container.metadata.get("location", container.metadata.get("LOCATION", ""))[:5],
            "attached": [item.data for item in container.streams if isinstance(item, av.stream.AttachmentStream)],
        }


@needs_ffmpeg
@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_what_is_kept_is_what_was_asked_for(tmp_path: Path, suffix: str, full: bool) -> None:
    path, out = make_rich(tmp_path, suffix), tmp_path / f"out.{suffix}"
    source = told(path)
    assert (len(source["said"]), len(source["chapters"]), source["title"]) == (2, 2, "At home")
    assert source["place"] == "+48.8"
    plan = Plan(numbered(read(path), 30), full=full)
    result = run(path, out, plan)
    nothing: dict[str, Any] = {"kinds": [], "said": [], "chapters": [], "title": None, "place": "", "attached": []}
    assert told(out) == nothing
    for secret in (b"Hello", b"Untold", b"At home", b"+48.8", b"Second"):
        assert secret not in out.read_bytes()
    rest = {"mkv": {"attachment"}}.get(suffix, {"data"})  # QuickTime has a text track for chapters
    assert {row.type for row in result.dropped} == {"metadata", "chapters", "subtitle"} | rest
    assert all("--keep" in row.why for row in result.dropped)
    run(path, out, replace(plan, keep=frozenset({"subtitles"})))
    assert told(out) == nothing | {"kinds": ["subtitle"], "said": source["said"]}
    run(path, out, replace(plan, keep=frozenset({"chapters"})))
    assert told(out) == nothing | {"chapters": source["chapters"]}
    run(path, out, replace(plan, keep=frozenset(KEEPABLE)))
    assert told(out) == source
    assert (suffix == "mkv") == bool(source["attached"])


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_subtitles_of_what_is_muted_are_left_out(tmp_path: Path, suffix: str) -> None:
    path, out = make_rich(tmp_path, suffix), tmp_path / f"out.{suffix}"
    base = probe(path).tracks[0].time_base
    span = Span(round(2 / base), round(3 / base))
    result = run(path, out, Plan((), keep=frozenset({"subtitles"}), muted=(span,)))
    assert result.hidden_subtitles == 1
    assert [at for at, _ in told(out)["said"]] == [at for at, _ in told(path)["said"][:1]]
    assert b"Untold" not in out.read_bytes()


def test_the_same_input_gives_the_same_file(tmp_path: Path) -> None:
    # Of a copy: x264 itself, with AVX-512 and mbtree, differs in one run of some ten.
    path = made(tmp_path, "mkv", video(b_frames=2))
    for name in ("a", "b"):
        run(path, tmp_path / f"{name}.mkv", Plan(()))
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 8000:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
def test_a_full_disk_is_an_output_error(tmp_path: Path, suffix: str, full: bool) -> None:
    path = made(tmp_path, suffix, video())
    plan = Plan(numbered(read(path), 25), full=full)
    with pytest.raises(OutputError, match="No space left"):
        rewrite(Medium.of(path), probe(path).tracks[0], FullDisk(), plan, box)


def test_what_draws_may_fail(tmp_path: Path) -> None:
    def fail(frame: VideoFrame, pts: int) -> None:
        raise ZeroDivisionError(pts)

    path = made(tmp_path, "mp4", video())
    with pytest.raises(ZeroDivisionError):
        run(path, tmp_path / "out.mp4", Plan(numbered(read(path), 25)), fail)


def test_an_open_descriptor_is_read_through(tmp_path: Path) -> None:
    path = made(tmp_path, "mp4", video(b_frames=2))
    source = read(path)
    plan = Plan(numbered(source, 25))
    with path.open("rb") as file, (tmp_path / "out.mp4").open("w+b") as output:
        medium = Medium("upload", file.fileno())
        result = rewrite(medium, probe(medium).tracks[0], output, plan, box)
    assert_same_elsewhere(source, read(tmp_path / "out.mp4"), plan, result)


def test_only_a_video_is_rewritten(tmp_path: Path) -> None:
    path = make_with_cover(tmp_path / "source.mp4")
    cover = next(track for track in probe(path).tracks if track.kind == "cover")
    with pytest.raises(UsageError, match="cover"):
        rewrite(Medium.of(path), cover, io.BytesIO(), Plan(()), box)


@pytest.mark.parametrize("settings", [{"crf": 99.0}, {"crf": -1.0}, {"preset": "quick"}])
def test_settings_that_make_no_sense(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = made(tmp_path, "mp4", video())
    with pytest.raises(UsageError, match="Use "):
        run(path, tmp_path / "out.mp4", Plan((Span(0, 1),), **settings))


def test_quality_is_what_was_asked_for(tmp_path: Path) -> None:
    path = made(tmp_path, "mp4", video(b_frames=2))
    spans = numbered(read(path), 25)
    sizes = []
    for crf in (10.0, None, 40.0):
        run(path, tmp_path / "out.mp4", Plan(spans, crf=crf))
        sizes.append((tmp_path / "out.mp4").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


@needs_ffmpeg
def test_a_shape_that_only_matroska_says(tmp_path: Path) -> None:
    for codec, suffix in (("libvpx-vp9", "webm"), ("libx264", "mkv")):
        plain = made(tmp_path, suffix, video(codec))
        path = tmp_path / f"wide.{suffix}"
        ffmpeg("-i", plain, "-c", "copy", "-an", "-aspect", "4:1", path)
        source = read(path)
        assert source.context["aspect"] == Fraction(12, 5)
        result = run(path, tmp_path / "out.any", plan := Plan(numbered(source, 25)))
        output = read(tmp_path / "out.any")
        assert output.context["aspect"] == Fraction(12, 5)
        assert (result.format, result.full) == (("mp4", False) if suffix == "webm" else ("matroska", True))
        if suffix == "webm":
            assert result.format_reason == "Matroska's sample aspect cannot be written, so it is MP4 now"
            assert_same_elsewhere(dated(source), dated(output), plan, result)


def dated(content: Content) -> Content:
    """Without what Matroska does not say."""
    return replace(content, context=content.context | {"duration": None})


GOOD = ("-deadline", "good", "-cpu-used", "5", "-auto-alt-ref", "1", "-lag-in-frames", "16")
CLOSED = ("-x265-params", "open-gop=0:log-level=none", "-preset", "ultrafast")
# A start that milliseconds cannot say.
QUICKTIME = ("-video_track_timescale", "30000", "-movie_timescale", "30000", "-output_ts_offset", "0.033367")
OTHERS = [
    ("alt.webm", ("-c:v", "libvpx-vp9", *GOOD)),
    ("alt8.webm", ("-c:v", "libvpx", *GOOD)),
    ("full.mp4", ("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuvj420p")),
    ("late.mov", ("-c:v", "libx264", "-bf", "2", *QUICKTIME)),
    ("tagged.mp4", ("-c:v", "libx265", "-tag:v", "hvc1", *CLOSED)),
    ("jpeg.mp4", ("-c:v", "mjpeg", "-q:v", "3")),
]


@needs_ffmpeg
@pytest.mark.parametrize(("name", "options"), OTHERS, ids=[row[0] for row in OTHERS])
def test_what_another_ffmpeg_made(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path, out = tmp_path / name, tmp_path / f"out_{name}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x96:r=30000/1001:d=3", "-b:v", "300k", "-g", "30", *options, path)
    source = read(path)
    plan = Plan(numbered(source, 40))
    result = run(path, out, plan)
    assert_same_elsewhere(source, read(out), plan, result)
    assert result.copied_packets >= 59
    assert_plays(out)
