"""What is cut is gone, to the picture and the packet; what remains is where it has to be, with its sound."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.recipes import RATE, SAMPLE_RATE, Video, make, number_in, picture
from tests.test_rewriting import (
    Content,
    Sent,
    ffmpeg,
    idr_every,
    make_open_hevc,
    needs_ffmpeg,
    numbered,
    read,
    run,
    x264,
    x265,
)
from vidmod.cuts import Cuts, Widening, reach
from vidmod.errors import OutputError, UsageError
from vidmod.media import Medium
from vidmod.media.cut_groups import Fate, GroupCutter
from vidmod.media.groups import Group, NotApartError
from vidmod.media.rewriting import Plan, Rewritten, rewrite
from vidmod.media.source import open_container, probe
from vidmod.timebase import Span

COUNT, GOP = 100, 20
PYRAMID = x264("scenecut=0:b-pyramid=normal:b-adapt=0", "medium")
# A packet of AAC, and the next one, in which it is still heard.
AAC = Fraction(2 * 1024, SAMPLE_RATE)
Ranges = Sequence[tuple[int, int]]


def film(codec: str = "libx264", **settings: Any) -> Video:
    return Video(codec, **({"count": COUNT, "gop": GOP} | settings))


def made(path: Path, recipe: Video) -> Path:
    return make(path, recipe, sound_seconds=0 if path.suffix == ".webm" else recipe.count / RATE)


def shown(path: Path) -> list[int]:
    """The numbers that a file's pictures carry."""
    with av.open(str(path)) as container:
        return [number_in(frame) for frame in container.decode(video=0)]


def ends(source: Content) -> list[int]:
    """When each picture is shown, and when the last one ends."""
    last = max(source.packets[0], key=lambda item: item.pts or 0)
    return [*sorted(source.frames), (last.pts or 0) + (last.duration or 1)]


def plan_of(source: Content, cuts: Ranges, **settings: Any) -> Plan:
    """To cut from one picture up to another, counted as they are shown."""
    times = ends(source)
    return Plan((), cuts=tuple(Span(times[first], times[last]) for first, last in cuts), **settings)


def outside(cuts: Ranges, count: int = COUNT) -> list[int]:
    return [number for number in range(count) if not any(first <= number < last for first, last in cuts)]


def assert_what_remains(path: Path, source: Content, output: Path, cuts: Ranges, result: Rewritten) -> Content:
    """Exactly the pictures and packets outside of the cuts, each at its time less what was cut before it."""
    written, times = read(output), ends(source)
    remain = outside(cuts, len(times) - 1)
    numbers = shown(path)
    assert shown(output) == [numbers[place] for place in remain]
    gone = sorted(
        {(times[place], times[place + 1]) for place in range(len(times) - 1)}
        - {(times[place], times[place + 1]) for place in remain}
    )
    now = {
        times[place]: times[place] - sum(end - start for start, end in gone if end <= times[place]) for place in remain
    }
    assert sorted(written.frames) == [*now.values()]
    assert result.cut_pictures == len(gone)
    assert_in_order(written.packets[0])
    if not result.full:
        assert_copied(source, written, now, result)
    base = source.context["time_base"]
    assert_sound(path, output, [(start * base, end * base) for start, end in gone], result)
    assert_plays(output)
    return written


def assert_in_order(packets: Sequence[Sent]) -> None:
    known = [item.dts for item in packets if item.dts is not None]
    assert all(before < after for before, after in pairwise(known))
    assert all(item.pts is not None and (item.dts is None or item.dts <= item.pts) for item in packets)


def assert_copied(source: Content, written: Content, now: dict[int, int], result: Rewritten) -> None:
    ours = {item.pts: item for item in written.packets[0]}
    copied = 0
    for item in source.packets[0]:
        assert item.pts is not None
        if item.pts in now and not any(span.start <= item.pts < span.end for span in result.spans):
            mine = ours[now[item.pts]]
            assert (mine.data, mine.key) == (item.data, item.key)
            assert written.digests[now[item.pts]] == source.digests[item.pts]
            if mine.dts is not None and item.dts is not None:
                assert item.dts - mine.dts == item.pts - now[item.pts]
            copied += 1
    assert copied == result.copied_packets
    assert copied + result.pictures == len(now)


def sound_of(path: Path) -> list[tuple[Fraction, bytes]]:
    with open_container(path) as container:
        if not container.streams.audio:
            return []
        base = container.streams.audio[0].time_base or Fraction(1)
        return [(item.pts * base, bytes(item)) for item in container.demux(audio=0) if item.pts is not None]


def assert_sound(path: Path, output: Path, gone: list[tuple[Fraction, Fraction]], result: Rewritten) -> None:
    """Every packet that is not heard in a cut, as it was, as much earlier as the pictures are."""
    before, expected = sound_of(path), []
    for time, data in before:
        if not any(time < end and start < time + AAC for start, end in gone) and is_between(time, result.cuts):
            expected.append((time - sum(end - start for start, end in gone if end <= time), data))
    after = sound_of(output)
    assert [data for _, data in after] == [data for _, data in expected]
    assert all(abs(mine - time) <= Fraction(1, 1000) for (mine, _), (time, _) in zip(after, expected, strict=True))
    assert result.cut_packets == len(before) - len(after)


def is_between(time: Fraction, cuts: Cuts) -> bool:
    """Whether there are pictures before and after it, if the first or the last ones are cut."""
    return (cuts.begin is None or time >= cuts.begin) and (cuts.end is None or time < cuts.end)


def assert_plays(path: Path) -> None:
    """Another FFmpeg decodes it, and has nothing to say."""
    if not shutil.which("ffmpeg"):
        return
    for command in (
        ["ffmpeg", "-v", "warning", "-xerror", "-i", str(path), "-map", "0", "-f", "null", "-"],
        ["ffprobe", "-v", "warning", "-show_packets", "-show_frames", "-of", "json", str(path)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stderr, done.returncode) == ("", 0), command


FORMATS = [
    ("mp4", film(b_frames=0)),
    ("mp4", film(b_frames=2)),
    ("mp4", film(b_frames=3, options=PYRAMID)),
    ("mov", film(b_frames=2, pixel_format="yuv420p10le")),
    ("mkv", film(b_frames=0)),
    ("mkv", film(b_frames=3, options=PYRAMID)),
    ("ts", film(b_frames=3, options=PYRAMID)),
    ("mp4", film("libx265", b_frames=3, options=x265("b-pyramid=1:b-adapt=0"))),
    ("webm", film("libvpx-vp9")),
    ("webm", film("libvpx")),
    ("webm", film("libsvtav1")),
    ("mp4", film("libsvtav1")),
]
CUTS: dict[str, Ranges] = {
    "in the middle": [(30, 75)],
    "at the start": [(0, 33)],
    "at the end": [(85, 100)],
    "whole groups": [(20, 60)],
    "whole groups at the start": [(0, 40)],
    "several": [(1, 2), (38, 43), (50, 52), (99, 100)],
    "adjacent": [(25, 30), (30, 31), (31, 48)],
    "within a group": [(45, 46), (47, 50), (55, 56)],
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize(
    ("suffix", "recipe"), FORMATS, ids=[f"{row[0]}-{row[1].codec}-{row[1].b_frames}" for row in FORMATS]
)
def test_exactly_what_is_cut_is_gone(tmp_path: Path, suffix: str, recipe: Video, name: str) -> None:
    path, output, cuts = made(tmp_path / f"source.{suffix}", recipe), tmp_path / f"out.{suffix}", CUTS[name]
    source = read(path)
    result = run(path, output, plan_of(source, cuts))
    assert not result.full, result.reason
    written = assert_what_remains(path, source, output, cuts, result)
    assert {key: written.context[key] for key in ("start", "time_base", "format")} == {
        key: source.context[key] for key in ("start", "time_base", "format")
    }
    cut_groups = {number // GOP for first, last in cuts for number in range(first, last)}
    whole = {
        group
        for group in cut_groups
        if not outside(cuts) or not set(outside(cuts)) & {*range(group * GOP, group * GOP + GOP)}
    }
    assert result.copied_packets == COUNT - GOP * len(cut_groups)
    assert result.pictures == len(outside(cuts)) - result.copied_packets
    assert result.groups == len(cut_groups - whole)


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx265"), ("webm", "libvpx-vp9")])
def test_all_of_it_encoded(tmp_path: Path, suffix: str, codec: str, name: str) -> None:
    options = x265("b-pyramid=0") if codec == "libx265" else {}
    path = made(tmp_path / f"source.{suffix}", film(codec, b_frames=2, options=options))
    source, output = read(path), tmp_path / f"out.{suffix}"
    result = run(path, output, plan_of(source, CUTS[name], full=True))
    assert (result.full, result.reason, result.copied_packets) == (True, "asked for", 0)
    assert_what_remains(path, source, output, CUTS[name], result)


def test_whole_groups_need_no_encoder(tmp_path: Path) -> None:
    # Of HEVC in Matroska no single group can be encoded again, but any can go.
    path = made(tmp_path / "source.mkv", film("libx265", options=x265("b-pyramid=0")))
    source = read(path)
    result = run(path, tmp_path / "out.mkv", plan_of(source, [(20, 60)]))
    assert (result.full, result.encoder) == (False, None)
    assert_what_remains(path, source, tmp_path / "out.mkv", [(20, 60)], result)
    result = run(path, tmp_path / "out.mkv", plan_of(source, [(20, 61)]))
    assert result.reason == "matroska has no place for a second set of HEVC parameters"
    assert_what_remains(path, source, tmp_path / "out.mkv", [(20, 61)], result)


def test_what_has_no_groups_is_encoded_whole(tmp_path: Path) -> None:
    for suffix, recipe in (("avi", film("mpeg4")), ("mkv", film("mpeg2video"))):
        path, output = make(tmp_path / f"source.{suffix}", recipe), tmp_path / "out.any"
        plan = Plan((), cuts=(Span(10, 30),) if suffix == "avi" else (Span(400, 1200),))
        result = run(path, output, plan)
        assert result.full
        assert "is not a codec of which single groups" in (result.reason or "")
        assert shown(output) == outside([(10, 30)])
        times = sorted(read(output).frames)
        assert len({after - before for before, after in pairwise(times)}) == 1


@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_nothing_is_left(tmp_path: Path, suffix: str, full: bool) -> None:
    path = made(tmp_path / f"source.{suffix}", film(b_frames=2))
    plan = plan_of(read(path), [(0, 50), (50, COUNT)], full=full)
    with pytest.raises(OutputError, match="nothing is left"):
        rewrite(Medium.of(path), probe(path).tracks[0], io.BytesIO(), plan, lambda *_: None)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9")])
def test_a_picture_goes_that_is_shown_within_a_cut_for_any_time(tmp_path: Path, suffix: str, codec: str) -> None:
    path, output = made(tmp_path / f"source.{suffix}", film(codec)), tmp_path / f"out.{suffix}"
    source = read(path)
    times = ends(source)
    for span, cuts in (
        (Span(times[50] + 1, times[50] + 2), [(50, 51)]),
        (Span(times[50] + 1, times[51]), [(50, 51)]),
        (Span(times[51] - 1, times[51] + 1), [(50, 52)]),
        (Span(times[0] - 5, times[0] + 1), [(0, 1)]),
        (Span(times[99] + 1, times[99] + 9999), [(99, 100)]),
    ):
        run(path, output, Plan((), cuts=(span,)))
        assert shown(output) == outside(cuts)
        assert sorted(read(output).frames) == times[: COUNT - len(_numbers(cuts))]
    with pytest.raises(UsageError, match="Use one of them"):
        Plan((Span(0, 1),), cuts=(Span(0, 1),))


def _numbers(cuts: Ranges) -> list[int]:
    return [number for first, last in cuts for number in range(first, last)]


def test_nothing_to_cut_is_a_copy(tmp_path: Path) -> None:
    path = made(tmp_path / "source.mp4", film(b_frames=2))
    run(path, tmp_path / "out.mp4", Plan(()))
    source, output = read(path), read(tmp_path / "out.mp4")
    assert (source.packets, source.digests, source.context) == (output.packets, output.digests, output.context)


UNEVEN = [
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
    "cuts", [[(3, 14)], [(0, 7)], [(6, 8), (10, 20)], [(20, 26)], [(23, 30)], [(12, 13), (27, 28)]]
)
@pytest.mark.parametrize(
    ("suffix", "codec", "b_frames"),
    [
        ("mp4", "libx264", 0),
        ("mp4", "libx264", 2),
        ("mkv", "libx264", 2),
        ("mp4", "libx265", 2),
        ("mkv", "libvpx-vp9", 0),
    ],
)
def test_variable_frame_rate_that_starts_late(
    tmp_path: Path, suffix: str, codec: str, b_frames: int, cuts: Ranges
) -> None:
    options = x265("b-pyramid=0") if codec == "libx265" else {}
    recipe = film(codec, gop=10, count=30, b_frames=b_frames, times=[time + 50 for time in UNEVEN], options=options)
    path, output = make(tmp_path / f"source.{suffix}", recipe, sound_seconds=6), tmp_path / f"out.{suffix}"
    source = read(path)
    result = run(path, output, plan_of(source, cuts))
    assert not result.full or result.reason == "decoding times would not rise across a cut"
    assert_what_remains(path, source, output, cuts, result)


def test_decoding_times_that_would_collide(tmp_path: Path) -> None:
    # The picture before the second group was shown for long, so its key frame is decoded long before it is shown:
    # moved to where pictures follow each other quickly, that is before the last one that remains.
    times = [*range(10), 10, 11, 12, 13, 14, 15, 16, 17, 18, 58, *range(59, 69)]
    path = make(tmp_path / "source.mp4", film(gop=10, count=30, b_frames=2, times=times))
    source = read(path)
    result = run(path, tmp_path / "out.mp4", plan_of(source, [(10, 20)]))
    assert result.reason == "decoding times would not rise across a cut"
    assert_what_remains(path, source, tmp_path / "out.mp4", [(10, 20)], result)


def test_decoding_times_before_time_0(tmp_path: Path) -> None:
    times = [*range(19), 58, *range(59, 69)]
    path, output = make(tmp_path / "source.ts", film(gop=10, count=30, b_frames=2, times=times)), tmp_path / "out.ts"
    source = read(path)
    result = run(path, output, plan_of(source, [(0, 20)]))
    assert result.reason == "decoding would begin before time 0"
    assert_what_remains(path, source, output, [(0, 20)], result)


OPEN = {"x264-params": "scenecut=0:open-gop=1:b-adapt=0", "forced-idr": "1"}


@pytest.mark.parametrize("cuts", [[(35, 50)], [(0, 10), (55, 60)], [(30, 60)], [(29, 31)]])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_open_groups(tmp_path: Path, suffix: str, cuts: Ranges) -> None:
    recipe = film(gop=8, b_frames=3, options=OPEN, count=90, frames=idr_every(30, picture))
    path, output = made(tmp_path / f"source.{suffix}", recipe), tmp_path / f"out.{suffix}"
    source = read(path)
    result = run(path, output, plan_of(source, cuts))
    assert not result.full, result.reason
    assert_what_remains(path, source, output, cuts, result)
    # Key frames that others lead on the screen are no boundary: all that is not copied is from one IDR to the next.
    assert result.copied_packets % 30 == 0


def test_open_groups_of_hevc(tmp_path: Path) -> None:
    path, output = make_open_hevc(tmp_path / "source.mp4", 3), tmp_path / "out.mp4"
    source = read(path)
    result = run(path, output, plan_of(source, [(40, 45)]))
    assert (result.full, result.copied_packets, result.pictures) == (False, 60, 25)
    frames, originals = list(read(output).frames.values()), list(source.frames.values())
    assert [_nearest(frame, originals) for frame in frames] == outside([(40, 45)], 90)
    assert_plays(output)
    # What has two sample descriptions by now can be cut again, whichever of them goes.
    for cuts in ([(0, 30)], [(30, 55)], [(25, 55)]):
        again = run(output, tmp_path / "again.mp4", plan_of(read(output), cuts))
        assert not again.full, again.reason
        kept = [frames[place] for place in outside(cuts, 85)]
        found = list(read(tmp_path / "again.mp4").frames.values())
        assert [_nearest(frame, frames) for frame in found] == outside(cuts, 85)
        assert len(found) == len(kept)
        assert_plays(tmp_path / "again.mp4")


def test_a_sample_description_that_goes_with_its_first_packet(tmp_path: Path) -> None:
    path, drawn, output = make_open_hevc(tmp_path / "source.mp4", 4), tmp_path / "drawn.mp4", tmp_path / "out.mp4"
    # Two groups from one encoder: only the first one's packets say which description holds.
    result = run(path, drawn, Plan(numbered(read(path), 40, 70)))
    assert (result.full, result.groups) == (False, 2)
    source = read(drawn)
    result = run(drawn, output, plan_of(source, [(30, 60)]))
    assert (result.full, result.encoder) == (False, None)
    frames = list(source.digests.values())
    assert [*read(output).digests.values()] == [frames[place] for place in outside([(30, 60)], 120)]
    assert_plays(output)


def _nearest(frame: NDArray[Any], frames: Sequence[NDArray[Any]]) -> int:
    return int(np.argmin([np.abs(frame.astype(int) - other).mean() for other in frames]))


def test_a_film_of_one_group_is_encoded_whole(tmp_path: Path) -> None:
    path = made(tmp_path / "source.mp4", film(gop=COUNT, b_frames=2))
    source = read(path)
    result = run(path, tmp_path / "out.mp4", plan_of(source, [(30, 60)]))
    assert result.reason == "every group of pictures is touched"
    assert_what_remains(path, source, tmp_path / "out.mp4", [(30, 60)], result)


def test_a_damaged_group_may_go_but_not_be_encoded(tmp_path: Path) -> None:
    def damage(packet: Any, place: int) -> None:
        if place == 50:
            packet.update(bytes(packet)[:4] + bytes(packet.size - 4))

    path = make(tmp_path / "source.mp4", film(patch=damage))
    unit = 512
    gone = run(path, tmp_path / "out.mp4", Plan((), cuts=(Span(35 * unit, 61 * unit),)))
    assert (gone.full, gone.pictures) == (False, 15 + 19)
    assert shown(tmp_path / "out.mp4") == outside([(35, 61)])
    part = run(path, tmp_path / "out.mp4", Plan((), cuts=(Span(45 * unit, 61 * unit),)))
    assert part.reason == "a packet is damaged"


@needs_ffmpeg
def test_pictures_that_are_never_shown(tmp_path: Path) -> None:
    options = (
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "good",
        "-cpu-used",
        "5",
        "-auto-alt-ref",
        "1",
        "-lag-in-frames",
        "16",
    )
    path, output = tmp_path / "alt.webm", tmp_path / "out.webm"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x96:r=30000/1001:d=4", "-b:v", "300k", "-g", "30", *options, path)
    source = read(path)
    frames, cuts = list(source.frames.values()), [(10, 15), (40, 55)]
    result = run(path, output, plan_of(source, cuts))
    assert not result.full, result.reason
    found = [_nearest(frame, frames) for frame in read(output).frames.values()]
    assert found == outside(cuts, len(frames))
    assert_plays(output)


# Sound ------------------------------------------------------------------------------------------

QUIET, LOUD, CLICK = 440, 3000, 9000
SECONDS = 10


def scene_sound(loud: Sequence[tuple[float, float]], gap: float = 0) -> NDArray[np.float32]:
    """A quiet tone and a click at every full second; within some spans a loud tone instead."""
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    samples = 0.1 * np.sin(2 * np.pi * QUIET * time)
    samples += np.where((time >= 1) & (time % 1 < 0.004), 0.6 * np.sin(2 * np.pi * CLICK * time), 0)
    for start, end in loud:
        within = (time >= start) & (time < end)
        samples[within] = 0.9 * np.sin(2 * np.pi * LOUD * time[within])
    return samples.astype(np.float32)


def heard(path: Path) -> NDArray[np.float64]:
    """What a player plays, from time 0 on; silence where there is nothing."""
    samples = np.zeros((SECONDS + 2) * SAMPLE_RATE)
    with av.open(str(path)) as container:
        origin = container.streams.video[0].start_time or 0
        begin = origin * (container.streams.video[0].time_base or 0)
        for frame in container.decode(audio=0):
            assert isinstance(frame, AudioFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            planes = frame.to_ndarray()
            if not frame.format.is_planar:
                planes = planes.reshape(-1, frame.layout.nb_channels).T
            data = planes[0].astype(np.float64)
            if planes.dtype.kind == "i":
                data /= 1 << (8 * planes.dtype.itemsize - 1)
            at = round(float(frame.pts * frame.time_base - begin) * SAMPLE_RATE)
            data = data[max(0, -at) :]
            samples[max(0, at) : max(0, at) + len(data)] = data
    return samples


def strength(samples: NDArray[np.float64], frequency: int, width: int = 240) -> NDArray[np.float64]:
    """The amplitude of a tone around every sample."""
    wave = np.exp(-2j * np.pi * frequency * np.arange(len(samples)) / SAMPLE_RATE) * samples
    window = np.hanning(width)
    return 2 * np.abs(np.convolve(wave, window / window.sum(), "same"))


def clicks(samples: NDArray[np.float64]) -> list[float]:
    """When they are heard, in seconds."""
    level = strength(samples, CLICK)
    rows = np.flatnonzero(level > 0.15)
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > SAMPLE_RATE // 10) + 1)
    return [float(group[np.argmax(level[group])]) / SAMPLE_RATE for group in groups if len(group)]


def moved(times: Sequence[float], cuts: Cuts) -> list[float]:
    """When what is heard then and not cut is heard now."""
    exact = [Fraction(time) for time in times]
    return [float(cuts.shifted(time)) for time in exact if not cuts.removes(time, time)]


SOUNDS: list[tuple[str, str, dict[str, str], Fraction]] = [
    ("mp4", "aac", {}, Fraction(1024, SAMPLE_RATE)),
    ("mkv", "aac", {}, Fraction(1024, SAMPLE_RATE)),
    ("ts", "aac", {}, Fraction(1024, SAMPLE_RATE)),
    ("mkv", "libopus", {}, Fraction(1, 50)),
    ("mp4", "libopus", {}, Fraction(1, 50)),
    ("mkv", "libopus", {"frame_duration": "60"}, Fraction(3, 50)),
    ("mkv", "libmp3lame", {}, Fraction(1152, SAMPLE_RATE)),
    ("mkv", "ac3", {}, Fraction(1536, SAMPLE_RATE)),
    ("mkv", "flac", {}, Fraction(4608, SAMPLE_RATE)),
    ("mov", "pcm_s16le", {}, Fraction(1024, SAMPLE_RATE)),
    ("mov", "pcm_mulaw", {}, Fraction(1024, SAMPLE_RATE)),
]


@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
@pytest.mark.parametrize(
    ("suffix", "codec", "options", "packet"), SOUNDS, ids=[f"{row[0]}-{row[1]}{len(row[2])}" for row in SOUNDS]
)
def test_nothing_of_a_cut_is_heard_and_what_remains_is_in_step(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str], packet: Fraction, full: bool
) -> None:
    # The second cut begins where packets of 1024, 1152 and 1536 samples end, so that only their overlap is within it.
    loud = [(1.4, 2.6), (4.8, 6.24), (8.36, 8.4)]
    path, output = tmp_path / f"source.{suffix}", tmp_path / f"out.{suffix}"
    recipe = film(count=SECONDS * RATE, b_frames=2)
    make(path, recipe, samples=scene_sound(loud), sound_codec=codec, sound_options=options)
    source = read(path)
    cuts = [(round(start * RATE), round(end * RATE)) for start, end in loud]
    result = run(path, output, plan_of(source, cuts, full=full))
    assert shown(output) == [number % 256 for number in outside(cuts, SECONDS * RATE)]
    before, after = heard(path), heard(output)
    assert strength(before, LOUD).max() > 0.55
    usual = strength(before[: SAMPLE_RATE * 13 // 10], LOUD).max()
    assert strength(after, LOUD).max() < usual + 0.02
    # Each click that remains is heard where the picture that went with it is shown.
    expected = moved(clicks(before), result.cuts)
    found = clicks(after)
    assert len(found) == len(expected) == 6
    assert max(abs(mine - time) for mine, time in zip(found, expected, strict=True)) < 0.001 < packet
    # No more is missing than the packets at the borders of a cut.
    silent = np.convolve(np.abs(after[: int(expected[-1] * SAMPLE_RATE)]) < 1e-5, np.ones(48), "valid") >= 48
    overlap = {"libmp3lame": 11, "libopus": 4}.get(codec, 3)
    assert silent[SAMPLE_RATE // 10 :].sum() / SAMPLE_RATE < float(packet) * overlap * len(cuts)
    assert_plays(output)


def test_what_only_an_overlap_holds_would_be_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its rule for overlaps the test above fails, so it can be believed."""
    monkeypatch.setattr("vidmod.media.others.reach", lambda *_: (Fraction(0), Fraction(0)))
    path, output = tmp_path / "source.mp4", tmp_path / "out.mp4"
    make(path, film(count=SECONDS * RATE), samples=scene_sound([(4.8, 6.24)]))
    run(path, output, plan_of(read(path), [(120, 156)]))
    assert strength(heard(output), LOUD).max() > 0.5


def test_many_cuts_add_up_to_no_drift(tmp_path: Path) -> None:
    # Frames of 1/30 s are no whole number of milliseconds, nor cuts of one frame one of 1024 samples.
    for suffix in ("mp4", "mkv"):
        path, output = tmp_path / f"source.{suffix}", tmp_path / f"out.{suffix}"
        recipe = film(count=SECONDS * RATE, gop=25)
        make(path, recipe, samples=scene_sound([]))
        source = read(path)
        cuts = [(first, first + 1) for first in range(12, SECONDS * RATE - 10, 25)]
        result = run(path, output, plan_of(source, cuts))
        found, expected = clicks(heard(output)), moved(clicks(heard(path)), result.cuts)
        assert expected[-1] == pytest.approx(SECONDS - 1 - 9 / RATE, abs=0.005)
        assert max(abs(mine - time) for mine, time in zip(found, expected, strict=True)) < 0.001


def test_sound_goes_on_no_longer_than_a_last_picture_that_is_cut(tmp_path: Path) -> None:
    path, output = tmp_path / "source.mp4", tmp_path / "out.mp4"
    make(path, film(count=50), sound_seconds=6)
    result = run(path, output, plan_of(read(path), [(40, 50)]))
    assert result.cuts.end == Fraction(40, RATE)
    assert max(time for time, _ in sound_of(output)) < Fraction(40, RATE)
    # A player would have shown the last picture until the end of the sound, so nothing of that may remain.
    result = run(path, output, plan_of(read(path), [(30, 40)]))
    assert result.cuts.end is None
    assert max(time for time, _ in sound_of(output)) > Fraction(5)


@pytest.mark.parametrize("full", [False, True], ids=["part", "whole"])
def test_sound_that_does_not_say_when_it_is_heard_is_left_out(tmp_path: Path, full: bool) -> None:
    plain, path, output = (tmp_path / name for name in ("plain.mkv", "source.mkv", "out.mkv"))
    make(plain, film(), sound_seconds=4)
    with av.open(str(plain)) as source, av.open(str(path), "w") as squeezed:
        streams = [squeezed.add_stream_from_template(item) for item in source.streams]
        for number, packet in enumerate(source.demux()):
            if packet.size:
                if packet.stream_index == 1:
                    packet.pts = packet.dts = number
                packet.stream = streams[packet.stream_index]
                squeezed.mux(packet)
    source_content = read(path)
    plan = plan_of(source_content, [(30, 75)], full=full)
    result = run(path, output, plan)
    assert [(item.index, item.why) for item in result.dropped] == [
        (1, "its packets do not say when they are heard, so that it cannot be cut")
    ]
    assert shown(output) == outside([(30, 75)])
    assert run(path, output, Plan(plan.cuts)).dropped == ()


def durations(path: Path) -> dict[str, float]:
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_type,start_time,duration:format=duration"]
    found = json.loads(subprocess.run([*command, "-of", "json", str(path)], capture_output=True, check=True).stdout)
    rows = {
        f"{row['codec_type']} {key}": float(row[key]) for row in found["streams"] for key in ("start_time", "duration")
    }
    return rows | {"format": float(found["format"]["duration"])}


@needs_ffmpeg
@pytest.mark.parametrize("name", ["in the middle", "at the start", "whole groups at the start", "at the end"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_an_mp4_says_how_long_it_is(tmp_path: Path, name: str, b_frames: int) -> None:
    path, output = made(tmp_path / "source.mp4", film(b_frames=b_frames)), tmp_path / "out.mp4"
    run(path, output, plan_of(read(path), CUTS[name]))
    before, after = durations(path), durations(output)
    remain = len(outside(CUTS[name])) / RATE
    assert before["video duration"] == pytest.approx(COUNT / RATE)
    assert after["video start_time"] == before["video start_time"] == 0
    assert after["video duration"] == pytest.approx(remain)
    # The first packet that remains begins within one packet of the first picture.
    assert 0 <= after["audio start_time"] < 1024 / SAMPLE_RATE
    assert after["audio start_time"] + after["audio duration"] == pytest.approx(remain, abs=0.07)
    assert after["format"] == pytest.approx(remain, abs=0.05)


SUBTITLES = "".join(
    f"{number + 1}\n00:00:{number:02d},100 --> 00:00:{number:02d},900\nline {number}\n\n" for number in range(4)
)


@needs_ffmpeg
def test_subtitles_that_are_kept_move_along(tmp_path: Path) -> None:
    plain = made(tmp_path / "plain.mkv", film())
    (tmp_path / "lines.srt").write_text(SUBTITLES, "utf-8")
    path, output = tmp_path / "source.mkv", tmp_path / "out.mkv"
    ffmpeg("-i", plain, "-i", tmp_path / "lines.srt", "-map", "0", "-map", "1", "-c", "copy", path)
    source = read(path)
    run(path, output, plan_of(source, [(20, 45)], keep=frozenset({"subtitles", "data"})))
    with open_container(output) as container:
        lines = [(item.pts, bytes(item)) for item in container.demux(container.streams.subtitles[0]) if item.size]
    assert lines == [(1100, b"line 2"), (2100, b"line 3")]


# Values -----------------------------------------------------------------------------------------


class TestCuts:
    CUTS = Cuts.of([(200, 300), (50, 75), (75, 100)], Fraction(1, 25))

    def test_spans_are_joined(self) -> None:
        assert self.CUTS.spans == ((Fraction(2), Fraction(4)), (Fraction(8), Fraction(12)))
        assert self.CUTS.length == 6
        assert self.CUTS.in_pts(Fraction(1, 25)) == ([(50, 100), (200, 300)], None, None)
        assert not Cuts()

    @pytest.mark.parametrize(
        ("start", "end", "removed"),
        [
            (0, 2, False),
            (0, 3, True),
            (4, 8, False),
            (3, 3, True),
            (2, 2, True),
            (4, 4, False),
            (11, 20, True),
            (12, 20, False),
        ],
    )
    def test_what_is_removed(self, start: int, end: int, removed: bool) -> None:
        assert self.CUTS.removes(Fraction(start), Fraction(end)) == removed
        wider = Cuts(self.CUTS.spans, Fraction(1), Fraction(15))
        assert wider.removes(Fraction(start), Fraction(end)) == (removed or not 1 <= start < 15)

    @pytest.mark.parametrize(
        ("time", "now"), [(0, 0), (2, 2), (3, 2), (4, 2), (5, 3), (8, 6), (10, 6), (12, 6), (20, 14)]
    )
    def test_what_comes_after_moves_forward(self, time: int, now: int) -> None:
        assert self.CUTS.shifted(Fraction(time)) == now
        assert self.CUTS.shifted_pts(time * 48_000, Fraction(1, 48_000)) == now * 48_000
        if not self.CUTS.removes(Fraction(time), Fraction(time)):
            assert self.CUTS.restored(Fraction(now)) == time

    @pytest.mark.parametrize("spans", [[(1, 1)], [(2, 1)], [(0, 2), (2, 3)], [(4, 5), (0, 1)]])
    def test_spans_that_make_no_sense(self, spans: list[tuple[int, int]]) -> None:
        with pytest.raises(ValueError, match="must rise"):
            Cuts(tuple((Fraction(start), Fraction(end)) for start, end in spans))

    def test_a_time_base_that_does_not_fit_is_rounded_once(self) -> None:
        cuts = Cuts.of([(number * 10, number * 10 + 1) for number in range(300)], Fraction(1001, 30_000))
        exact = 300 * Fraction(1001, 30_000)
        assert abs(200_000 - cuts.shifted_pts(200_000, Fraction(1, 1000)) - exact * 1000) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("codec", "profile", "before", "after"),
    [
        ("pcm_s16le", None, 0, 0),
        ("flac", None, 0, 0),
        ("aac", "LC", 0, 1),
        ("opus", None, 1, 1),
        ("vorbis", None, 0, 2),
        ("aac", "HE-AAC", 1, 3),
        ("another", None, 2, 2),
    ],
)
def test_how_far_a_packet_reaches(codec: str, profile: str | None, before: int, after: int) -> None:
    length = Fraction(1, 25)
    assert reach(codec, profile, length) == (before * length, after * length)
    assert reach(codec, profile, length / 20)[0] == before * Fraction(1, 50)


pictures = st.lists(st.integers(1, 50), min_size=1, max_size=60)
asked = st.lists(st.tuples(st.integers(-20, 1500), st.integers(1, 200)), max_size=6)


@given(pictures, asked)
def test_widened_cuts_hold_whole_pictures(lengths: list[int], spans: list[tuple[int, int]]) -> None:
    times = [int(time) for time in np.cumsum([0, *lengths])]
    wanted = Plan((), cuts=tuple(Span(start, start + length) for start, length in spans)).removed()
    widening = Widening(wanted, Fraction(1, 90))
    removed = [widening.removes(start, end) for start, end in pairwise(times)]
    cuts = widening.cuts()
    assert (widening.removed, widening.kept) == (sum(removed), len(removed) - sum(removed))
    for gone, (start, end) in zip(removed, pairwise(times), strict=True):
        assert gone == any(first < end and start < last for first, last in wanted)
        assert gone == cuts.removes(Fraction(start, 90), Fraction(end, 90))
        if not gone:
            # A picture that remains is shown for as long as before.
            assert cuts.shifted(Fraction(end, 90)) - cuts.shifted(Fraction(start, 90)) == Fraction(end - start, 90)
    # There is nothing before the first picture, and nothing moves there.
    assert all(
        cuts.shifted(Fraction(max(0, first), 90)) == cuts.shifted(Fraction(last, 90))
        for first, last in wanted
        if last > 0
    )
    assert cuts.begin == (0 if removed[0] or any(first < 0 for first, _ in wanted) else None)
    assert (cuts.end is not None) == removed[-1]


def groups_of(lengths: list[int], gop: int, depth: int, delay: int) -> list[Group]:
    """Groups of pictures that are decoded by the rule of x264, or a fixed time earlier than they are shown."""
    times = [int(time) for time in np.cumsum([0, *lengths])]
    shown_at, rows = times[:-1], []
    for first in range(0, len(shown_at), gop):
        count = min(gop, len(shown_at) - first)
        slots = [
            shown_at[place] - delay if delay else (shown_at[place - depth] if place >= depth else place - depth)
            for place in range(first, first + count)
        ]
        part = tuple(shown_at[first : first + count])
        rows.append(Group(first, count, part[0], times[first + count], count, depth, None, 0, part, tuple(slots)))
    return rows


@example([1, 3, 1, 1], [(4, 1)], 4, 1, False)
@given(pictures, asked, st.integers(1, 9), st.integers(0, 2), st.booleans())
def test_decoding_times_rise_and_never_pass(
    lengths: list[int], spans: list[tuple[int, int]], gop: int, depth: int, fixed: bool
) -> None:
    groups = groups_of(lengths, gop, depth, max(lengths) * depth if fixed else 0)
    cutter = GroupCutter(Plan((), cuts=tuple(Span(at, at + length) for at, length in spans)).removed(), Fraction(1, 90))
    fates = [cutter.fate(group) for group in groups]
    try:
        cutter.settle()
    except NotApartError:
        return
    moves = {move.first: move.shift for move in cutter.moves}
    shift: int | None = 0
    slots: list[int] = []
    for group, fate in zip(groups, fates, strict=True):
        shift = moves.get(group.first, shift)
        if fate is Fate.ENCODED:
            remainder = cutter.remainders[group.first]
            now = [time for time, _ in remainder.shown.values()]
            mine = [slot for slot in remainder.slots if slot is not None]
            assert all(slot <= now[max(0, place - depth)] for place, slot in enumerate(mine))
            slots += mine
        elif fate is Fate.COPIED:
            assert shift is not None
            assert shift == group.start_pts - cutter.cuts.shifted_pts(group.start_pts, Fraction(1, 90))
            slots += [slot - shift for slot in group.slots if slot is not None]
    assert all(before < after for before, after in pairwise(slots))


@given(st.integers(1, 90), asked, st.integers(1, 9), st.integers(0, 2))
def test_at_a_constant_rate_groups_are_always_apart(
    count: int, spans: list[tuple[int, int]], gop: int, depth: int
) -> None:
    groups = groups_of([40] * count, gop, depth, 40 * depth)
    cutter = GroupCutter(Plan((), cuts=tuple(Span(at, at + length) for at, length in spans)).removed(), Fraction(1, 90))
    for group in groups:
        cutter.fate(group)
    cutter.settle()
