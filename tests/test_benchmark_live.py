"""The measures of the live benchmark, on streams of which we know what is wrong with them: they must say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_faults import Fault, recovery, undisturbed
from live_measuring import Log, Shown, Watched, Watcher, flow, offsets, safety, slope
from live_sources import (
    FLASH_SECONDS,
    Box,
    Film,
    Plan,
    Planes,
    bars,
    decoded,
    entries,
    is_flash,
    made,
    read_bars,
    read_number,
    target_colour,
    variants,
)

from tests.rtmp import CONNECTED, EXTRADATA, GONE, PICTURE, RECORD, SOUND, Sent
from vidmod.media.live import TIME_BASE, PictureEncoder, Shape

SIZE, SECONDS = (320, 180), 8
# Of the clock, when the first frame is sent; and until it is played.
BEGAN, DELAY = 100.0, 1.25

Covered = Callable[[int, Box | None], tuple[Box, ...] | None]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return made(Plan(size=SIZE, seconds=SECONDS, entries=3, seed=5), tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def flashing(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return made(Plan(ident=3, size=SIZE, seconds=SECONDS, flashes=True), tmp_path_factory.mktemp("films"))


def row(kind: bytes, time: float, pts: int = 0, *, key: bool = False, data: bytes = b"") -> bytes:
    return RECORD.pack(kind, time, pts, pts, key, len(data)) + data


def played(
    film: Film,
    path: Path,
    covered: Covered,
    *,
    size: tuple[int, int] = SIZE,
    hidden: Collection[int] = (),
    late: float = 0.0,
) -> Watched:
    """What is measured of a film, coded as what leaves is.

    `covered` None covers all; the bars of frames in `hidden` are covered, and so much later is what comes after them.
    """
    rate = film.plan.fps
    encoder = PictureEncoder(Shape.like(size, Fraction(rate)))
    head = {"picture": {"codec": "h264", "extradata": encoder.parameter_sets.hex()}}
    rows = [row(CONNECTED, BEGAN, data=json.dumps(head).encode())]
    width, height = film.plan.size
    strip = film.plan.strip
    over = ((0.0, 0.0, float(width), float(strip)), (0.0, float(height - strip), float(width), float(height)))
    with av.open(str(film.path)) as source:
        for number, frame in enumerate(source.decode(video=0)):
            pts = round(number / rate / TIME_BASE)
            boxes = covered(number, film.boxes[number])
            if boxes is None:
                packets = encoder.cover(pts, key=number == 0)
            else:
                packets = encoder.picture(frame, (*boxes, *(over if number in hidden else ())), pts, key=number == 0)
            shown = number / rate + (late if hidden and number > max(hidden) else 0)
            rows += [
                row(PICTURE, BEGAN + shown + DELAY, round(shown * 1000), key=item.key, data=item.data)
                for item in packets
            ]
    path.write_bytes(b"".join(rows))
    with Watcher(path, [film]) as watcher:
        return watcher.catch_up()


def log(film: Film) -> Log:
    rate = film.plan.fps
    return Log(Sent(BEGAN + number / rate, film.plan.ident, number) for number in range(film.plan.frames))


def whole(film: Film) -> set[int]:
    """Frames in which all of the target is to be seen."""
    widest = max(box[2] - box[0] for box in film.boxes if box is not None)
    return {n for n, box in enumerate(film.boxes) if box is not None and box[2] - box[0] > widest * 0.6}


# -- numbers -------------------------------------------------------------------------------------------------


@given(st.integers(0, 15), st.integers(0, 65_535), st.sampled_from([320, 426, 640, 1920]))
def test_a_number_is_read_as_it_was_written(ident: int, number: int, width: int) -> None:
    assert read_bars(bars(ident, number, width, 12)) == (ident, number)


@given(
    st.integers(0, 15), st.integers(0, 65_535), st.integers(0, 28), st.integers(2, 4), st.sampled_from([16, 71, 235])
)
def test_a_number_that_is_covered_in_part_is_no_other_number(
    ident: int, number: int, first: int, count: int, level: int
) -> None:
    strip = np.array(bars(ident, number, 640, 12))
    strip[:, first * 20 : (first + count) * 20] = level
    assert read_bars(strip) in (None, (ident, number))


@pytest.mark.parametrize("level", [0, 16, 71, 128, 235])
def test_what_is_flat_is_no_number(level: int) -> None:
    assert read_bars(np.full((12, 320), level, np.uint8)) is None


# -- films ---------------------------------------------------------------------------------------------------


def test_the_targets_colour_is_where_the_truth_says_and_nowhere_else(film: Film) -> None:
    for number, planes in enumerate(decoded(film.path)):
        assert read_number(planes.luma) == (0, number)
        found = np.argwhere(target_colour(planes)) * 2
        box = film.boxes[number]
        assert len(found) == film.reds[number]
        if box is None:
            assert not len(found)
        elif number in whole(film):
            assert len(found) > 0.4 * (box[2] - box[0]) * (box[3] - box[1]) / 4
            low, high = found.min(axis=0), found.max(axis=0)
            assert box[0] - 8 <= low[1] <= high[1] <= box[2] + 8
            assert box[1] - 8 <= low[0] <= high[0] <= box[3] + 8


def test_the_target_enters_as_often_as_asked(film: Film) -> None:
    there = [box is not None for box in film.boxes]
    assert sum(now and not before for before, now in zip([False, *there], there, strict=False)) == 3
    assert len(entries(film.plan)) == 3


def test_variants_differ_from_the_film_and_from_each_other(film: Film) -> None:
    plans = (film.plan, *variants(film.plan))
    assert len({plan.ident for plan in plans}) == len(plans)
    assert len({(plan.size, plan.fps, plan.profile, plan.sample_rate) for plan in plans}) == len(plans)


def test_a_plan_that_cannot_be_repeated_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds that 8 divides"):
        Plan(seconds=10)


# -- what is covered -----------------------------------------------------------------------------------------


def test_what_is_not_covered_leaks_in_every_frame(film: Film, tmp_path: Path) -> None:
    watched = played(film, tmp_path / "played", lambda _number, _box: ())
    found = safety(watched.frames, log(film), [film])
    targets = {number for number, box in enumerate(film.boxes) if box is not None}
    assert found.frames == film.plan.frames
    assert found.targets == found.sent_targets == len(targets)
    assert found.clear_others == found.sent_others == film.plan.frames - len(targets)
    assert {frame.number for frame in found.leaks} == targets
    assert found.lowest < 0.3
    assert {frame.number for frame in found.leaks if frame.partly} == {n for n in targets if film.is_partly(n)}
    assert any(film.is_partly(number) for number in targets)
    assert not all(film.is_partly(number) for number in targets)


def test_what_is_covered_does_not_leak(film: Film, tmp_path: Path) -> None:
    watched = played(film, tmp_path / "played", lambda _number, box: () if box is None else (box,))
    found = safety(watched.frames, log(film), [film])
    assert found.targets == found.sent_targets
    assert found.leaks == ()
    assert found.lowest > 0.97


@pytest.mark.parametrize("side", [0, 1, 2, 3])
def test_an_eighth_that_is_not_covered_leaks(film: Film, tmp_path: Path, side: int) -> None:
    def most(_number: int, box: Box | None) -> tuple[Box, ...]:
        if box is None:
            return ()
        sides = list(box)
        sides[side] += (box[(side + 2) % 4] - sides[side]) / 8
        return ((sides[0], sides[1], sides[2], sides[3]),)

    watched = played(film, tmp_path / "played", most)
    assert {frame.number for frame in watched.frames if frame.leaks} >= whole(film)


def test_other_reds_are_not_the_target(film: Film) -> None:
    """Purple, as damage has it; and whatever the bars are."""
    planes = next(iter(decoded(film.path)))
    damaged = Planes(planes.luma, np.full_like(planes.u, 150), np.full_like(planes.v, 170))
    assert not target_colour(damaged).any()
    skin = Planes(planes.luma, np.full_like(planes.u, 113), np.full_like(planes.v, 150))
    strip = film.plan.strip // 2
    assert target_colour(skin)[strip:-strip].all()
    assert not target_colour(skin)[:strip].any()
    assert not target_colour(skin)[-strip:].any()


def test_a_single_frame_that_is_not_covered_is_found(film: Film, tmp_path: Path) -> None:
    chosen = sorted(whole(film))[7]
    watched = played(film, tmp_path / "played", lambda n, box: () if n == chosen else None if box is None else (box,))
    assert [frame.number for frame in watched.frames if frame.leaks] == [chosen]


def test_cover_is_told_from_what_cannot_be_told(film: Film, tmp_path: Path) -> None:
    watched = played(film, tmp_path / "played", lambda _number, _box: None)
    assert {frame.kind for frame in watched.frames} == {"cover"}
    assert not any(frame.leaks for frame in watched.frames)


def test_a_target_in_frames_that_nobody_knows_is_found_by_its_colour(film: Film, tmp_path: Path) -> None:
    watched = played(film, tmp_path / "played", lambda _number, _box: (), hidden=range(film.plan.frames))
    assert {frame.kind for frame in watched.frames} == {"unknown"}
    leaking = {number for number, frame in enumerate(watched.frames) if frame.leaks}
    assert whole(film) <= leaking <= {number for number, box in enumerate(film.boxes) if box is not None}


def test_frames_with_covered_bars_are_told_by_those_around_them(film: Film, tmp_path: Path) -> None:
    chosen = sorted(whole(film))[:20]
    hidden = range(chosen[0] - 5, chosen[-1] + 5)
    bare = played(film, tmp_path / "bare", lambda _number, _box: (), hidden=hidden)
    assert {frame.kind for frame in bare.frames} == {"clear"}
    assert [frame.number for frame in bare.frames] == list(range(film.plan.frames))
    assert {frame.number for frame in bare.frames if frame.leaks} >= set(chosen)
    covered = played(film, tmp_path / "covered", lambda _n, box: () if box is None else (box,), hidden=hidden)
    assert not any(frame.leaks for frame in covered.frames)
    assert [frame.has_target for frame in covered.frames] == [box is not None for box in film.boxes]


def test_frames_whose_neighbours_do_not_agree_are_not_told(film: Film, tmp_path: Path) -> None:
    """Something happened meanwhile."""
    hidden = range(60, 80)
    watched = played(film, tmp_path / "played", lambda _number, _box: (), hidden=hidden, late=0.5)
    assert [number for number, frame in enumerate(watched.frames) if frame.kind == "unknown"] == list(hidden)


def test_a_target_that_is_left_over_in_a_frame_without_it_is_found(film: Film, tmp_path: Path) -> None:
    """As after damage: the picture is an old one, and the truth of its number says nothing of it."""
    watched = played(film, tmp_path / "played", lambda _number, _box: ())
    chosen = sorted(whole(film))[0]
    without = Film(film.plan, film.path, tuple(None for _ in film.boxes), film.reds)
    with Watcher(tmp_path / "played", [film]) as watcher:
        watcher._films[0] = without
        frames = watcher.catch_up().frames
    assert not frames[chosen].has_target
    assert frames[chosen].leaks
    assert len(frames) == len(watched.frames)


@pytest.mark.parametrize("index", range(len(variants(Plan()))))
def test_another_film_is_told_where_it_lies_in_the_first_ones_size(film: Film, tmp_path: Path, index: int) -> None:
    plan = variants(film.plan)[index]
    other = made(plan, film.path.parent)
    bare = played(other, tmp_path / "bare", lambda _number, _box: ())
    assert sum(frame.kind == "clear" for frame in bare.frames) >= 0.99 * plan.frames
    leaking = {frame.number for frame in bare.frames if frame.leaks}
    assert leaking >= whole(other) & {frame.number for frame in bare.frames}
    covered = played(other, tmp_path / "covered", lambda _number, box: () if box is None else (_wider(box),))
    assert not any(frame.leaks for frame in covered.frames)


def _wider(box: Box) -> Box:
    """As with the command's margin: what is scaled is not black up to its last pixel."""
    x, y = 0.1 * (box[2] - box[0]), 0.1 * (box[3] - box[1])
    return box[0] - x, box[1] - y, box[2] + x, box[3] + y


# -- what comes, and when ------------------------------------------------------------------------------------


def test_frames_that_are_lost_or_covered_are_counted(film: Film, tmp_path: Path) -> None:
    watched = played(film, tmp_path / "played", lambda number, _box: None if 60 <= number < 90 else ())
    frames = [frame for number, frame in enumerate(watched.frames) if number not in (120, 121, 122)]
    found = flow(frames, log(film), BEGAN + 1, BEGAN + 6)
    assert (found.sent, found.clear, found.lost, found.covers) == (150, 117, 33, 30)
    assert found.fps == pytest.approx((150 - 3) / 5, abs=0.3)
    assert found.longest_gap == pytest.approx(4 / 30, abs=0.002)
    assert found.delays == pytest.approx([DELAY] * 117, abs=0.001)


def test_a_delay_is_of_the_last_time_that_a_frame_was_sent() -> None:
    found = Log([Sent(10.0, 0, 5), Sent(20.0, 0, 5), Sent(30.0, 0, 5), Sent(20.5, 1, 5)])
    assert found.when(Shown(21.0, 0.0, "clear", 0, 5)) == 20.0
    assert found.when(Shown(9.0, 0.0, "clear", 0, 5)) is None
    assert found.when(Shown(21.0, 0.0, "clear", 1, 5)) == 20.5
    assert found.when(Shown(21.0, 0.0, "cover")) is None
    assert found.first_after(20.2) == 20.5
    assert found.first_after(31.0) is None


def as_published(film: Film, path: Path, late: float) -> Watched:
    """A film as it is, with its sound so much later."""
    rows = []
    with av.open(str(film.path)) as source:
        pictures, sounds = source.streams.video[0], source.streams.audio[0]
        told = {
            kind: {"codec": codec, "extradata": bytes(stream.codec_context.extradata or b"").hex()}
            for kind, codec, stream in (("picture", "h264", pictures), ("sound", "aac", sounds))
        }
        rows.append(row(CONNECTED, 0.0, data=json.dumps(told).encode()))
        for packet in source.demux([pictures, sounds]):
            if packet.size and packet.pts is not None and packet.time_base is not None:
                is_sound = packet.stream_index == sounds.index
                pts = round((float(packet.pts * packet.time_base) + late * is_sound) * 1000)
                rows.append(row(SOUND if is_sound else PICTURE, 0.0, pts, data=bytes(packet)))
    path.write_bytes(b"".join(rows))
    with Watcher(path, [film]) as watcher:
        return watcher.catch_up()


@pytest.mark.parametrize("late", [0.0, 0.06, -0.1])
def test_tones_are_as_late_as_they_were_made(flashing: Film, tmp_path: Path, late: float) -> None:
    found = offsets(as_published(flashing, tmp_path / "played", late))
    assert len(found) == SECONDS // FLASH_SECONDS
    assert [offset for _, offset in found] == pytest.approx([late] * len(found), abs=0.006)
    assert [number for number in range(flashing.plan.frames) if is_flash(flashing.plan, number)] == pytest.approx(
        [round(time * flashing.plan.fps) for time, _ in found]
    )


def test_a_connection_that_ends_is_told(film: Film, tmp_path: Path) -> None:
    path = tmp_path / "played"
    played(film, path, lambda _number, _box: ())
    first = path.read_bytes()
    path.write_bytes(first + row(GONE, 7.0, data=b"gone") + row(GONE, 8.0, data=b"refused") + first)
    with Watcher(path, [film]) as watcher:
        watched = watcher.catch_up()
    assert len(watched.connected) == 2
    assert watched.gone == [(7.0, "gone")]
    assert {frame.connection for frame in watched.frames} == {0, 1}
    assert len(watched.frames) == 2 * film.plan.frames


def test_what_is_written_down_only_in_part_is_read_when_it_is_complete(film: Film, tmp_path: Path) -> None:
    path = tmp_path / "played"
    expected = len(played(film, path, lambda _number, _box: ()).frames)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with Watcher(path, [film]) as watcher:
        half = len(watcher.catch_up().frames)
        with path.open("ab") as file:
            file.write(data[len(data) // 2 :])
        assert 0 < half < expected
        assert len(watcher.catch_up().frames) == expected


def test_new_parameters_are_taken(film: Film, tmp_path: Path) -> None:
    path = tmp_path / "played"
    played(film, path, lambda _number, _box: ())
    encoder = PictureEncoder(Shape.like((160, 90), Fraction(30)))
    with path.open("ab") as file:
        file.write(row(EXTRADATA, 1.0, data=encoder.parameter_sets))
        file.writelines(row(PICTURE, 1.0, item.pts // 90, data=item.data) for item in encoder.cover(90_000, key=True))
    with Watcher(path, [film]) as watcher:
        assert watcher.catch_up().frames[-1].kind == "cover"


def test_a_slope_is_that_of_the_line() -> None:
    assert slope([10.0, 20.0, 30.0], [5.0, 7.0, 9.0]) == pytest.approx(0.2)
    assert slope([1.0], [5.0]) == 0


# -- faults --------------------------------------------------------------------------------------------------


def stream(gone: tuple[float, float], rate: int = 30, seconds: float = 20.0) -> Iterator[Shown]:
    """Frames that come a second after they were sent, covered while sent within a span."""
    for number in range(round(seconds * rate)):
        sent = number / rate
        is_gone = gone[0] <= sent < gone[1]
        yield Shown(
            sent + 1, sent, "cover" if is_gone else "clear", None if is_gone else 0, None if is_gone else number
        )


def logged(rate: int = 30, seconds: float = 20.0) -> Log:
    return Log(Sent(number / rate, 0, number) for number in range(round(seconds * rate)))


def test_recovery_is_until_what_was_sent_after_the_fault_is_to_be_seen() -> None:
    fault = Fault("analyst killed", 5.0, 6.0)
    # What is on its way when it ends is not counted, nor is a single frame.
    assert recovery(fault, list(stream((5.0, 8.0))), logged()) == pytest.approx(3.0, abs=0.05)
    assert recovery(fault, list(stream((5.0, 5.0))), logged()) == pytest.approx(1.0, abs=0.05)


def test_while_another_fault_lasts_nothing_recovers() -> None:
    first, second, later = Fault("x", 3.0, 4.0), Fault("y", 6.0, 9.0), Fault("z", 14.0, 15.0)
    everything = [first, second, later]
    assert undisturbed(first, 7.0, everything, logged()) == pytest.approx(4.0)
    assert undisturbed(first, 3.0, everything, logged()) == pytest.approx(2.0), "of which only a part is in its time"
    assert undisturbed(second, 2.0, everything, logged()) == 2.0
    assert undisturbed(later, None, everything, logged()) is None


def test_a_single_clear_frame_is_no_recovery() -> None:
    frames = list(stream((5.0, 9.0)))
    frames[200] = Shown(frames[200].time, frames[200].seconds, "clear", 0, 200)
    assert recovery(Fault("x", 5.0, 6.0), frames, logged()) == pytest.approx(4.0, abs=0.05)


def test_what_never_comes_back_has_no_recovery() -> None:
    assert recovery(Fault("x", 5.0, 6.0), list(stream((5.0, 20.0))), logged()) is None
