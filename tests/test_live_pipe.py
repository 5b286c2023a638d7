"""The pipe, faster than time: packets of real pictures in, packets out, decoded and looked at."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from vidmod.live.filtering.gate import Gate
from vidmod.live.filtering.overload import LEVELS
from vidmod.live.filtering.pipe import ArrivalNote, ChangeNote, CoverNote, Leaving, PictureSource, Pipe, PipeSettings
from vidmod.live.filtering.rules import CoverAll, Rules
from vidmod.live.filtering.sound import SoundLine
from vidmod.media.live import AAC_SAMPLES, TIME_BASE, PictureEncoder, Shape, silent_packet
from vidmod.media.packets import packet_of
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
            packet = packet_of(row.data)
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


def reordered(count: int) -> tuple[PictureSource, list[Any]]:
    """Pictures whose packets come in another order than they are shown, brighter one by one than any cover."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height = SIZE
    context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, RATE), Fraction(RATE)
    context.max_b_frames, context.gop_size = 3, 30
    context.options = {"preset": "veryfast", "x264-params": "b-adapt=0:bframes=3"}
    packets: list[Any] = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((SIZE[1] * 3 // 2, SIZE[0]), 90 + number, np.uint8), "yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    assert any(packet.pts != packet.dts for packet in packets)
    return PictureSource("h264", bytes(context.extradata or b"") or None, Fraction(1, RATE)), packets


def test_pictures_that_come_out_of_order_all_leave_in_order(pipe: Pipe) -> None:
    source, packets = reordered(90)
    viewer, asked = Viewer(pipe), {}
    pipe.begin(source)
    first = packets[0].dts
    for step in range(160):
        now = 100.0 + step / RATE
        for packet in packets:
            if packet.dts - first == step:
                pipe.picture(bytes(packet), packet.pts, packet.dts, key=packet.is_keyframe, now=now)
        if step % 3 == 0 and (wanted := pipe.wanted_look()) is not None:
            asked[step + 3] = wanted.pts
        if step in asked:
            pipe.looked(asked[step], Predictions(), 0.0)
        viewer.take(pipe.leave(now), now)
    # The last ones wait for what would follow them.
    assert pipe.counts.decoded >= 87
    assert pipe.counts.late == 0
    assert pipe.counts.shown > 75
    levels = [float(np.median(viewer.pictures[pts])) for pts in sorted(viewer.pictures)]
    shown = [level for level in levels if level > 85]
    assert len(shown) > 75
    assert all(before <= after + 1 for before, after in itertools.pairwise(shown))


def piped(**settings: object) -> Pipe:
    return Pipe(
        PipeSettings(delay_seconds=DELAY, **settings),  # type: ignore[arg-type]
        make_gate,
        (),
        SHAPE,
        None,
        100.0,
        is_hit=lambda predictions: bool(predictions.scores or predictions.detections),
    )


BAD = Predictions(scores=(Scores("net", {"nsfw": 0.9}),))


def test_blurred_there_is_no_detail_and_no_slate() -> None:
    pipe = piped(on_block="blur")
    viewer = run(pipe, 120, until=104.9, looks=lambda _: BAD)
    assert pipe.counts.found > 90
    blurred = [pts for pts in viewer.pictures if not viewer.is_cover(pts)]
    assert len(blurred) == pipe.counts.found
    # The square is 40 wide, and a cell 10: nothing has an edge.
    for pts in blurred:
        picture = viewer.pictures[pts].astype(int)
        assert np.abs(np.diff(picture, axis=1)).max() < (BRIGHT - DARK) / 4


def test_in_a_shadow_all_shows_and_is_counted() -> None:
    pipe = piped(shadow=True)
    viewer = run(pipe, 120, until=104.9, looks=lambda number: BAD if number == 60 else face(number))
    assert pipe.counts.found > 10
    assert pipe.counts.boxed > 50
    assert sum(viewer.has_square(pts) for pts in viewer.pictures) == 117


def test_an_order_covers_in_a_shadow_too() -> None:
    pipe = piped(shadow=True)
    pipe.hold(float("inf"))
    viewer = run(pipe, 60, until=103.0)
    assert pipe.counts.held >= 55
    assert not any(viewer.has_square(pts) for pts in viewer.pictures)


def test_it_notes_why_all_is_covered_and_what_came() -> None:
    pipe = piped()
    run(pipe, 90, until=104.9, looks=lambda number: BAD if number == 45 else Predictions())
    notes = pipe.take_notes()
    assert [note.size for note in notes if isinstance(note, ArrivalNote)] == [SIZE]
    told = [note.reason for note in notes if isinstance(note, CoverNote)]
    assert told[0] == "starting"
    assert "hit" in told
    assert told[-1] == "source_lost"
    assert all(before != after for before, after in itertools.pairwise(told))
    source, packets = coded(3, (640, 480))
    pipe.begin(source)
    for number, data in enumerate(packets):
        pipe.picture(data, number * 3000, number * 3000, key=number == 0, now=105.0 + number / RATE)
    pipe.leave(106.01)
    changed = pipe.take_notes()
    assert ChangeNote("size", "320x180", "640x480") in changed
    assert CoverNote("source_changed", round(106.0 / TIME_BASE)) in changed
    assert pipe.take_notes() == []


def test_what_was_seen_comes_with_a_blurred_picture_of_it() -> None:
    pipe = piped()
    source, packets = coded(40)
    pipe.begin(source)
    grids = []
    for step in range(40):
        now = 100.0 + step / RATE
        pipe.picture(packets[step], step * 3000, step * 3000, key=step == 0, now=now)
        wanted = pipe.wanted_look()
        assert wanted is not None
        note = pipe.looked(wanted.pts, face(step) if step >= 5 else Predictions(), now)
        assert note is not None
        grids.append(note.grid)
    assert grids[:5] == [None] * 5
    assert grids[5] is not None
    assert len(grids[5]) == 32 * 18
    # One a second is enough for people.
    assert sum(grid is not None for grid in grids) == 2


@pytest.mark.parametrize(("lag", "level"), [(0.0, 0), (0.06, 1), (0.1, 2), (0.2, 3)])
def test_late_it_gives_up_looks_effort_and_at_last_pictures(lag: float, level: int) -> None:
    pipe = piped()
    source, packets = coded(150)
    viewer = Viewer(pipe)
    pipe.begin(source)
    looks: list[int] = []
    for step in range(180):
        now = 100.0 + step / RATE
        if step < 150:
            pipe.picture(packets[step], step * 3000, step * 3000, key=step % 60 == 0, now=now)
        if (wanted := pipe.wanted_look()) is not None:
            looks.append(wanted.pts)
            pipe.looked(wanted.pts, Predictions(), now)
        # Whoever calls it is late: what was due then leaves now.
        if pipe.due <= now - lag:
            viewer.take(pipe.leave(now), now)
    assert pipe.level == level
    gaps = np.diff(np.array(looks[-6:])) * float(TIME_BASE)
    if level:
        assert 0.25 - 1.01 / RATE < gaps.min() <= gaps.max() <= 0.25
    else:
        assert gaps.max() < 0.05
    assert len(viewer.pictures) >= 140


def test_packets_that_waited_too_long_are_not_decoded() -> None:
    pipe = piped()
    source, packets = coded(90)
    pipe.begin(source)
    for step in range(90):
        now = 100.0 + step / RATE
        came = now - 0.9 if 30 <= step < 40 else now
        pipe.picture(packets[step], step * 3000, step * 3000, key=step in (0, 60), now=now, came=came)
    # From the first late one up to the next key picture.
    assert pipe.counts.decoded == 60
    assert pipe.counts.late == 10


@pytest.mark.parametrize("name", ["yuvj420p", "yuv422p10le", "gbrp", "nv12", "rgb8", "yuva444p", "gray", "ya16be"])
def test_pictures_of_every_kind_are_covered(name: str) -> None:
    encoder = PictureEncoder(SHAPE)
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = encoder.parameter_sets
    frame = av.VideoFrame.from_ndarray(np.full((180, 320, 3), 230, np.uint8), "rgb24").reformat(format=name)
    for number in range(3):
        rows = encoder.picture(frame, ((100.0, 60.0, 200.0, 120.0),), number * 3000, key=number == 0)
        for row in rows:
            for picture in decoder.decode(packet_of(row.data)):
                levels = picture.to_ndarray(format="gray")
                assert levels[62:118, 102:198].max() < 60
                assert levels[130:, :].min() > 180


def test_a_slow_source_has_key_pictures_as_often() -> None:
    pipe = piped()
    source, packets = coded(90)
    pipe.begin(source)
    keys: list[float] = []
    for step in range(180):  # of 30 a second every third comes: ten a second
        now = 100.0 + step / RATE
        if step % 3 == 0:
            number = step // 3
            pipe.picture(packets[number], step * 3000, step * 3000, key=number in (0, 60), now=now)
        keys += [float(row.pts * TIME_BASE) for row in pipe.leave(now) if row.key]
    gaps = np.diff(keys)
    assert len(gaps) >= 2
    # A picture of the source later, at most; counted by pictures it were six seconds.
    assert gaps.max() < 2.2


def test_the_encoder_of_overload_goes_with_it() -> None:
    pipe = piped()
    pipe._follow(LEVELS.index("effort"))
    hurried = pipe._encoder
    assert hurried is not pipe._usual
    pipe._follow(len(LEVELS) - 1)
    assert pipe._encoder is hurried
    pipe._follow(0)
    assert pipe._encoder is pipe._usual
    assert pipe._hurried is None
    assert pipe._wants_key
