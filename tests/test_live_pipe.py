"""The pipe, faster than time: packets of real pictures in, packets out, decoded and looked at."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from vidmod.live.gate import Gate
from vidmod.live.pipe import Leaving, PictureSource, Pipe, PipeSettings
from vidmod.live.rules import CoverAll, Rules
from vidmod.live.sound import SoundLine
from vidmod.media.live import AAC_SAMPLES, TIME_BASE, PictureEncoder, Shape, silent_packet
from vidmod.policy import Category, Policy
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.targets import Targets
from vidmod.tracking import Tracking

RATE, SIZE, DELAY = 30, (320, 180), 1.0
SHAPE = Shape.like(SIZE, Fraction(RATE))
FACE, NSFW = Category("faces", ("FACE",), 0.4, 0.4), Category("nsfw", ("net.nsfw",), 0.2, 0.8)
BRIGHT, DARK = 200, 90


def make_gate(size: tuple[int, int]) -> Gate:
    return Gate(
        Rules(Targets((FACE,), Policy.default()), (CoverAll(NSFW, NSFW.block, 0.5),), (FACE, NSFW)),
        Tracking(),
        size=size,
        time_base=TIME_BASE,
        max_gap_seconds=0.3,
    )


def coded(count: int, size: tuple[int, int] = SIZE, rate: int = RATE) -> tuple[PictureSource, list[bytes]]:
    """Pictures of one brightness, with a bright square that goes to the right."""
    encoder = PictureEncoder(Shape.like(size, Fraction(rate)))
    packets = []
    for number in range(count):
        luma = np.full((size[1], size[0]), DARK, np.uint8)
        x = 10 + 2 * number % (size[0] - 60)
        luma[60:100, x : x + 40] = BRIGHT
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, values in zip(frame.planes, (luma, None, None), strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
            rows[:, : plane.width] = 128 if values is None else values
        packets += [item.data for item in encoder.picture(frame, (), round(number / rate / TIME_BASE))]
    return PictureSource("h264", encoder.parameter_sets, TIME_BASE), packets


def face(number: int) -> Predictions:
    x = 10 + 2 * number % (SIZE[0] - 60)
    return Predictions(detections=(Detection("net", "FACE", 0.9, (float(x), 60.0, x + 40.0, 100.0)),))


class Viewer:
    """Decodes what leaves."""

    def __init__(self, pipe: Pipe) -> None:
        self._context = av.CodecContext.create("h264", "r")
        self._context.extradata = pipe.parameter_sets
        self.pictures: dict[int, np.ndarray] = {}
        self.sounds: list[Leaving] = []
        self.times: list[tuple[float, float]] = []

    def take(self, rows: list[Leaving], now: float) -> None:
        for row in rows:
            if row.kind == "sound":
                self.sounds.append(row)
                continue
            packet = av.Packet(row.data)
            packet.pts = packet.dts = row.pts
            packet.time_base = TIME_BASE
            for frame in self._context.decode(packet):
                assert frame.pts is not None
                self.pictures[frame.pts] = frame.to_ndarray(format="gray")
                self.times.append((now, float(frame.pts * TIME_BASE)))

    def is_cover(self, pts: int) -> bool:
        return bool(np.ptp(self.pictures[pts]) < 12 and self.pictures[pts].max() < 80)

    def has_square(self, pts: int) -> bool:
        return bool(self.pictures[pts].max() > 150)


@pytest.fixture
def pipe() -> Pipe:
    sound = SoundLine(silent_packet(48000, "stereo"), AAC_SAMPLES / 48000, 100.0)
    return Pipe(PipeSettings(delay_seconds=DELAY), make_gate, (), SHAPE, sound, 100.0)


def run(
    pipe: Pipe, count: int, *, until: float, looks: object = face, every: int = 3, late: int = 4, start: float = 100.0
) -> Viewer:
    """A source that begins at `start`, and looks at every third picture that take four pictures' time."""
    source, packets = coded(count)
    viewer, asked = Viewer(pipe), {}
    pipe.begin(source)
    for step in range(round((until - start) * RATE)):
        now = start + step / RATE
        if step < count:
            pts = round(step / RATE / TIME_BASE)
            pipe.picture(packets[step], pts, pts, key=step % 60 == 0, now=now)
        if step == count:
            pipe.lose()
        if step % every == 0 and (wanted := pipe.wanted_look()) is not None:
            asked[step + late] = (wanted.pts, step)
        if step in asked and callable(looks):
            pts, number = asked[step]
            pipe.looked(pts, looks(number), 0.0)
        viewer.take(pipe.leave(now), now)
    return viewer


def test_every_picture_leaves_once_a_delay_later_with_its_boxes(pipe: Pipe) -> None:
    viewer = run(pipe, 120, until=104.9)
    counts = pipe.counts
    assert (counts.decoded, counts.late, counts.damaged) == (120, 0, 0)
    assert counts.shown + counts.unseen == 117  # the last ones are still to leave
    assert counts.unseen <= 4
    shown = [pts for pts in viewer.pictures if not viewer.is_cover(pts)]
    assert len(shown) == counts.shown
    assert not any(viewer.has_square(pts) for pts in shown)
    gaps = np.diff(np.array(sorted(viewer.pictures))) * float(TIME_BASE)
    assert np.allclose(gaps, 1 / RATE, atol=2e-3)
    assert all(abs(now - time) < 2 / RATE for now, time in viewer.times)


def test_without_looks_nothing_shows(pipe: Pipe) -> None:
    viewer = run(pipe, 60, until=103.0, looks=None)
    assert pipe.counts.shown == 0
    assert all(viewer.is_cover(pts) for pts in viewer.pictures)
    assert len(viewer.pictures) >= 85


def test_a_hit_covers_all_and_silences(pipe: Pipe) -> None:
    bad = Predictions(scores=(Scores("net", {"nsfw": 0.9}),))
    viewer = run(pipe, 120, until=104.9, looks=lambda number: bad if number == 60 else Predictions())
    assert 15 <= pipe.counts.found <= 25
    clear = [pts for pts in viewer.pictures if viewer.has_square(pts)]
    assert len(clear) == pipe.counts.shown
    assert pipe.counts.shown > 60


def test_a_source_that_is_lost_is_replaced_at_the_same_rate_and_comes_back(pipe: Pipe) -> None:
    first = run(pipe, 30, until=104.0, looks=lambda _: Predictions())
    filled = pipe.counts.filled
    assert filled > 30
    second = run(pipe, 60, until=107.0, start=104.0, looks=lambda _: Predictions())
    times = sorted([*first.pictures, *second.pictures])
    assert len(times) == len(set(times))
    assert max(np.diff(np.array(times))) * float(TIME_BASE) < 0.5
    assert sum(second.has_square(pts) for pts in second.pictures) > 50


def test_another_size_is_covered_until_it_was_looked_at_and_fits_in(pipe: Pipe) -> None:
    run(pipe, 30, until=101.0, looks=lambda _: Predictions())
    source, packets = coded(60, (640, 480), 30)
    viewer, asked = Viewer(pipe), {}
    pipe.begin(source)
    for step in range(90):
        now = 101.0 + step / RATE
        if step < 60:
            pts = round(step / RATE / TIME_BASE)
            pipe.picture(packets[step], pts, pts, key=step == 0, now=now)
        if step % 3 == 0 and (wanted := pipe.wanted_look()) is not None:
            asked[step + 3] = wanted.pts
        if step in asked:
            pipe.looked(asked[step], Predictions(), 0.0)
        viewer.take(pipe.leave(now), now)
    late = [pts for pts in viewer.pictures if viewer.has_square(pts)]
    assert late
    picture = viewer.pictures[late[-1]]
    assert picture.shape == (180, 320)
    assert picture[:, :35].max() < 30  # the sides stay black
    assert picture[90, 160] == pytest.approx(DARK, abs=12)


def test_by_command_all_is_covered(pipe: Pipe) -> None:
    pipe.hold(float("inf"))
    viewer = run(pipe, 60, until=103.0, looks=lambda _: Predictions())
    assert all(viewer.is_cover(pts) for pts in viewer.pictures)
    assert pipe.counts.held >= 55


def test_damaged_packets_show_nothing_and_stop_nothing(pipe: Pipe) -> None:
    source, packets = coded(90)
    viewer, asked = Viewer(pipe), {}
    pipe.begin(source)
    for step in range(120):
        now = 100.0 + step / RATE
        if step < 90:
            pts = round(step / RATE / TIME_BASE)
            data = b"\0\0\0\1\x41" + bytes(200) if step % 7 == 3 else packets[step]
            pipe.picture(data, pts, pts, key=step % 60 == 0, now=now)
        if step % 3 == 0 and (wanted := pipe.wanted_look()) is not None:
            asked[step + 3] = wanted.pts
        if step in asked:
            pipe.looked(asked[step], Predictions(), 0.0)
        viewer.take(pipe.leave(now), now)
    assert len(viewer.pictures) > 60


def test_sound_leaves_without_a_hole(pipe: Pipe) -> None:
    source, packets = coded(60)
    pipe.begin(source)
    length, sounds = AAC_SAMPLES / 48000, []
    for step in range(100):
        now = 100.0 + step / RATE
        if step < 60:
            pts = round(step / RATE / TIME_BASE)
            pipe.picture(packets[step], pts, pts, key=step == 0, now=now)
            for number in range(int(step / RATE / length), int((step + 1) / RATE / length)):
                pipe.sound(b"sound %d" % number, number * length, now)
        sounds += [row for row in pipe.leave(now) if row.kind == "sound"]
    gaps = np.diff(np.array([row.pts for row in sounds])) * float(TIME_BASE)
    assert gaps.min() >= length / 2 - 1e-3
    assert gaps.max() <= length * 1.5 + 1e-3
    assert not any(row.data.startswith(b"sound") for row in sounds)  # nobody has looked at the pictures
