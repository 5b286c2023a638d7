"""The recorder, as a process: what it leaves behind, whatever happens to it or its disk."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import pyrage
import pytest

from tests.recorders import (
    RATE,
    SAMPLE_RATE,
    SIZE,
    Output,
    Process,
    Recorder,
    frames,
    numbered,
    settings,
    sound_times,
)
from vidmod.errors import UsageError
from vidmod.live.messages import (
    Found,
    FromReader,
    Heard,
    Lost,
    Picture,
    ReaderSettings,
    Sight,
    Sound,
    Source,
)
from vidmod.live.recording.accounts import UNKNOWN_SHA256, predictions_of
from vidmod.live.recording.pieces import Piece
from vidmod.live.recording.sealing import Sealer, recipients_of
from vidmod.media.live import PictureEncoder, Shape
from vidmod.media.packets import packet_of
from vidmod.timeline import Timeline

NAME = re.compile(r"live-\d{8}T\d{6}Z(_\d+)?(\.unfinished)?\.(mkv|mkv\.age|timeline\.json)")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pieces(folder: Path, ending: str = ".mkv") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending))


def timeline_of(piece: Path) -> Timeline:
    return Timeline.read(piece.with_name(piece.name.removesuffix(".mkv") + ".timeline.json"))


def states(timeline: Timeline) -> list[tuple[float, float, str]]:
    return [(row.start_seconds, row.end_seconds, row.state) for row in timeline.coverage]


# What leaves -----------------------------------------------------------------------------------------------------


def test_it_records_pieces_that_follow_upon_each_other(tmp_path: Path) -> None:
    origin, began = time.monotonic(), time.time()
    output = Output(origin)
    packets = list(output.leave(0, 12 * RATE))
    with Recorder(settings(tmp_path, origin=origin)) as recorder:
        recorder.send("clean", output.begin)
        # Looks before their pictures, and looks after them.
        recorder.send("sights", *(output.sight(number) for number in range(0, 6 * RATE, 5)))
        recorder.drained()
        recorder.send("clean", *packets)
        recorder.send("sights", *(output.sight(number) for number in range(6 * RATE, 12 * RATE, 5)))
        recorder.until("recording", packets=len(packets))
        recorder.drained()
        assert recorder.finish().packets == len(packets)
        assert recorder.troubles == []
    assert all(NAME.fullmatch(name) for name in names(tmp_path))
    found = pieces(tmp_path)
    assert len(found) == 3
    # Each begins at 0 and goes on from the last picture of the one before.
    for place, piece in enumerate(found):
        assert frames(piece) == [(number * 40, place * 4 * RATE + number) for number in range(4 * RATE)]
        named = datetime.strptime(piece.name, "live-%Y%m%dT%H%M%SZ.mkv").replace(tzinfo=UTC).timestamp()
        assert -1.1 < named - (began + 4 * place) < 0.5
    # No packet of sound is lost or doubled, and all are where they were.
    heard = [4000 * place + pts for place, piece in enumerate(found) for pts in sound_times(piece)]
    assert len(heard) == sum(packet.is_sound for packet in packets)
    assert all(abs(at - number * 1024_000 / SAMPLE_RATE) <= 1 for number, at in enumerate(sorted(heard)))
    for piece in found:
        timeline = timeline_of(piece)
        assert timeline.source["name"] == piece.name
        assert timeline.source["size_bytes"] == piece.stat().st_size
        assert timeline.source["sha256"] == hashlib.sha256(piece.read_bytes()).hexdigest()
        # Looks of the piece beside it speak for its ends.
        last = piece == found[-1]
        assert states(timeline)[0] == (0.0, 3.84 if last else 4.0, "analysed")
        assert timeline.status == ("partial" if last else "complete")
        assert timeline.verdict == ("review" if last else "pass")
        assert [sample.pts for sample in timeline.samples] == list(range(0, 4000, 200))
        assert {sample.duration_seconds for sample in timeline.samples} == {0.04}
    assert states(timeline_of(found[-1]))[1:] == [(3.84, 4.0, "unsampled")]
    assert timeline_of(found[1]).provenance["sampling"]["stream_seconds"] == pytest.approx(4.0, abs=1e-4)


def test_a_timeline_says_what_was_seen_and_what_was_not_looked_at(tmp_path: Path) -> None:
    output = Output(time.monotonic(), sound=False)
    spot = Found("nudenet", "FEMALE_BREAST_EXPOSED", 0.9, (100.0, 50.0, 200.0, 250.0))
    size = (640, 480)
    with Recorder(settings(tmp_path, piece_seconds=60.0)) as recorder:
        recorder.send("clean", output.begin, *output.leave(0, 6 * RATE))
        for number in range(0, 6 * RATE, 5):
            found = (spot,) if 2 * RATE <= number < 3 * RATE else ()
            if not 4 * RATE < number < 5 * RATE:
                recorder.send("sights", output.sight(number, 0.01, *found, size=size))
        # Of pictures that never left, twice of the same, and what is no sight at all.
        recorder.send("sights", Sight(output.pts(7) + 1, size, [("open_nsfw", {"nsfw": 1.0})], []))
        recorder.send("sights", output.sight(5, 1.0, size=size))
        recorder.send("sights", output.sight(7, 1.5, size=size))
        bad = Found("nudenet", "FEMALE_BREAST_EXPOSED", 0.9, (float("nan"), 0.0, 1.0, 1.0))
        recorder.send("sights", output.sight(8, 0.01, bad, size=size))
        recorder.until("recording", packets=6 * RATE)
        recorder.drained()
        recorder.finish()
    (piece,) = pieces(tmp_path)
    timeline = timeline_of(piece)
    assert states(timeline) == [
        (0.0, 4.04, "analysed"),
        (4.04, 5.0, "unsampled"),
        (5.0, 5.84, "analysed"),
        (5.84, 6.0, "unsampled"),
    ]
    assert timeline.status == "partial"
    assert timeline.verdict == "block"
    (segment,) = timeline.segments
    assert segment.category == "explicit"
    assert 1.5 <= segment.start_seconds <= 2.0
    assert 2.8 <= segment.end_seconds <= 3.5
    boxes = {item.box for sample in timeline.samples for item in sample.predictions.detections}
    # 640x480 in 320x180: 240x180 in the middle.
    assert boxes == {(77.5, 18.75, 115.0, 93.75)}
    assert all("nsfw" not in row.labels or row.peak < 0.5 for row in timeline.segments)
    assert "covered in the recording" in timeline.notes[0]


def test_boxes_are_where_the_encoder_draws_them() -> None:
    for size, within in (((640, 480), (320, 180)), ((300, 500), (640, 360)), ((200, 100), (500, 300))):
        box = (size[0] * 0.25, size[1] * 0.4, size[0] * 0.5, size[1] * 0.8)
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, level in zip(frame.planes, (235, 128, 128), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        encoder = PictureEncoder(Shape(within, Fraction(25), 4_000_000))
        (packet,) = encoder.picture(frame, (box,), 0, key=True)
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = encoder.parameter_sets
        (shown,) = [*decoder.decode(packet_of(packet.data)), *decoder.decode(None)]
        sight = Sight(0, size, [], [Found("m", "X", 0.5, box)])
        x1, y1, x2, y2 = predictions_of(sight, within).detections[0].box
        picture = shown.to_ndarray(format="gray")
        inner = picture[round(y1) + 3 : round(y2) - 3, round(x1) + 3 : round(x2) - 3]
        assert inner.size > 100
        assert inner.max() < 150
        for outside in (picture[round(y1) - 4, round(x1) : round(x2)], picture[round(y1) : round(y2), round(x2) + 4]):
            assert outside.min() > 180


def test_after_a_gap_there_is_another_piece_whose_time_is_right(tmp_path: Path) -> None:
    output = Output(time.monotonic(), sound=False)
    with Recorder(settings(tmp_path, piece_seconds=60.0)) as recorder:
        recorder.send("clean", output.begin, *output.leave(0, 3 * RATE))
        # Another publisher: it begins with what it begins with, tells what was before, and goes on later.
        recorder.send("clean", output.begin, *output.leave(2 * RATE, 2 * RATE + 3), *output.leave(10 * RATE, 12 * RATE))
        recorder.until("recording", packets=5 * RATE)
        recorder.finish()
    first, second = pieces(tmp_path)
    assert frames(first) == [(number * 40, number) for number in range(3 * RATE)]
    assert frames(second) == [(number * 40, 10 * RATE + number) for number in range(2 * RATE)]
    began = [timeline_of(piece).provenance["sampling"]["stream_seconds"] for piece in (first, second)]
    assert began[1] - began[0] == pytest.approx(10.0, abs=1e-3)
    assert timeline_of(first).source["duration_seconds"] == 3.0


def test_killed_it_leaves_what_plays_and_the_next_one_says_so(tmp_path: Path) -> None:
    output = Output(time.monotonic())
    given = settings(tmp_path, piece_seconds=60.0)
    with Recorder(given) as recorder:
        packets = list(output.leave(0, 8 * RATE))
        recorder.send("sights", *(output.sight(number) for number in range(0, 8 * RATE, 5)))
        recorder.drained()
        recorder.send("clean", output.begin, *packets)
        recorder.until("recording", packets=len(packets))
        (part,) = pieces(tmp_path, ".mkv.part")
        document = part.with_name(part.name.removesuffix(".mkv.part") + ".timeline.json")
        end = time.monotonic() + 15
        while not document.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        told = Timeline.read(document)
        assert told.status == "partial"
        assert told.verdict == "review"
        assert told.source["sha256"] == UNKNOWN_SHA256
        assert len(told.samples) == 40
        more = list(output.leave(8 * RATE, 12 * RATE))
        recorder.send("clean", *more)
        recorder.until("recording", packets=len(packets) + len(more))
        # Nobody takes it away as long as it is written.
        assert list(Piece.abandoned(tmp_path, "live", ".mkv")) == []
        recorder.kill()
    assert [name for name in names(tmp_path) if name.endswith(".mkv.part")] == [part.name]
    shown = frames(part)
    assert shown == [(number * 40, number) for number in range(len(shown))]
    assert len(shown) > 10.5 * RATE
    with Recorder(given) as recorder:
        recorder.until("waiting")
        recorder.finish()
    (piece,) = pieces(tmp_path)
    assert names(tmp_path) == [piece.name, piece.name.removesuffix(".mkv") + ".timeline.json"]
    assert piece.name.endswith("Z.unfinished.mkv")
    assert frames(piece) == shown
    timeline = timeline_of(piece)
    assert timeline.source["name"] == piece.name
    assert timeline.source["sha256"] == hashlib.sha256(piece.read_bytes()).hexdigest()
    assert timeline.status == "partial"
    assert timeline.source["duration_seconds"] == pytest.approx(len(shown) / RATE, abs=0.001)
    assert states(timeline) == [
        (0.0, 7.84, "analysed"),
        (7.84, pytest.approx(len(shown) / RATE, abs=0.001), "unsampled"),
    ]
    assert any("cut off" in note for note in timeline.notes)
    assert not any("is being recorded" in note for note in timeline.notes)


def test_without_who_watches_it_closes_its_files(tmp_path: Path) -> None:
    output = Output(time.monotonic(), sound=False)
    with Recorder(settings(tmp_path)) as recorder:
        recorder.send("clean", output.begin, *output.leave(0, 2 * RATE))
        recorder.until("recording", packets=2 * RATE)
        recorder.process.terminate()  # of no concern to it
        recorder.until("recording")
        recorder.parent.close()
        recorder.process.wait(20)
    (piece,) = pieces(tmp_path)
    assert frames(piece) == [(number * 40, number) for number in range(2 * RATE)]
    assert timeline_of(piece).source["size_bytes"] == piece.stat().st_size


def test_files_that_may_not_grow_are_kept_and_others_begun(tmp_path: Path) -> None:
    output = Output(time.monotonic(), bits=2_000_000, noise=40)
    with Recorder(settings(tmp_path, piece_seconds=60.0), file_bytes=700_000) as recorder:
        recorder.send("clean", output.begin, *output.leave(0, 4 * RATE))
        recorder.until(trouble="File too large")
        end, number = time.monotonic() + 20, 4 * RATE
        while len(pieces(tmp_path, ".mkv")) < 2:
            assert time.monotonic() < end
            recorder.send("clean", *output.leave(number, number + RATE))
            number += RATE
            recorder.hear()
            time.sleep(0.5)
        recorder.finish()
    for piece in pieces(tmp_path):
        assert piece.name.endswith(".unfinished.mkv")
        shown = frames(piece)
        assert len(shown) > 10
        assert [at for at, _ in shown] == [(number - shown[0][1]) * 40 for _, number in shown]
        timeline = timeline_of(piece)
        assert timeline.source["sha256"] == hashlib.sha256(piece.read_bytes()).hexdigest()
        assert timeline.source["duration_seconds"] == pytest.approx(shown[-1][0] / 1000 + 0.04, abs=0.3)
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_a_full_disk_is_told_and_gone_on_with_when_there_is_room(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        filler = folder / "filler"
        filler.write_bytes(bytes((24 << 20) - 300_000))
        output = Output(time.monotonic(), bits=2_000_000, noise=40)
        with Recorder(settings(folder, piece_seconds=60.0)) as recorder:
            recorder.send("clean", output.begin, *output.leave(0, 4 * RATE))
            recorder.until(trouble="No space left on device")
            number = 4 * RATE
            recorder.send("clean", *output.leave(number, number + RATE))
            recorder.until("waiting", trouble="No space left on device")
            filler.unlink()
            end = time.monotonic() + 25
            while recorder.until().doing != "recording":
                assert time.monotonic() < end
                number += RATE
                recorder.send("clean", *output.leave(number, number + RATE))
                time.sleep(0.3)
            assert recorder.until(trouble="").trouble == ""
            recorder.finish()
        kept, new = pieces(folder)
        assert kept.name.endswith(".unfinished.mkv")
        assert not new.name.endswith(".unfinished.mkv")
        for piece in (kept, new):
            shown = frames(piece)
            assert len(shown) >= 10
            assert [at for at, _ in shown] == [(number - shown[0][1]) * 40 for _, number in shown]
            assert timeline_of(piece).source["size_bytes"] == piece.stat().st_size
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_vanishes_is_told_and_another_process_finds_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    folder.mkdir()
    output = Output(time.monotonic(), sound=False)
    with Recorder(settings(folder)) as recorder:
        recorder.send("clean", output.begin, *output.leave(0, RATE))
        recorder.until("recording", packets=RATE)
        shutil.rmtree(folder)
        # It may reach the folder that was there, and no other: who watches starts it anew.
        assert recorder.process.wait(20) == 0
        recorder.hear()
        assert "it is not there any more" in recorder.troubles[-1]
    folder.mkdir()
    with Recorder(settings(folder)) as recorder:
        recorder.send("clean", output.begin, *output.leave(2 * RATE, 4 * RATE))
        recorder.until("recording", packets=2 * RATE)
        recorder.finish()
    (piece,) = pieces(folder)
    assert frames(piece)[0][0] == 0


def test_reports_and_exports_are_made_of_a_recording(tmp_path: Path) -> None:
    output = Output(time.monotonic())
    with Recorder(settings(tmp_path, piece_seconds=60.0)) as recorder:
        recorder.send("clean", output.begin, *(packets := list(output.leave(0, 4 * RATE))))
        spot = Found("nudenet", "FEMALE_BREAST_EXPOSED", 0.9, (100.0, 50.0, 200.0, 100.0))
        for number in range(0, 4 * RATE, 5):
            recorder.send("sights", output.sight(number, 0.01, *((spot,) if number > 2 * RATE else ())))
        recorder.until("recording", packets=len(packets))
        recorder.drained()
        recorder.finish()
    (piece,) = pieces(tmp_path)
    document, page = piece.with_suffix(".timeline.json"), tmp_path / "page.html"
    vidmod = [sys.executable, "-m", "vidmod"]
    made = subprocess.run(
        [*vidmod, "report", str(document), "--video", str(piece), "-o", str(page)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    text = page.read_text("utf-8")
    assert "data:image/" in text
    assert "looked at the source" in text
    told = subprocess.run([*vidmod, "export", str(document), "--to", "csv"], capture_output=True, text=True, check=True)
    assert "explicit" in told.stdout


# What comes, sealed ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


def film(path: Path, seconds: int = 8) -> Path:
    """Numbered pictures, reordered, with sound."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"g": str(RATE), "bf": "2", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.max_b_frames = 2
        sound = output.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        for number in range(RATE * seconds):
            output.mux(stream.encode(numbered(number)))
        output.mux(stream.encode(None))
        for number in range(SAMPLE_RATE * seconds // 1024):
            frame = av.AudioFrame("fltp", "stereo", 1024)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts = SAMPLE_RATE, number * 1024
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def read(path: Path) -> list[FromReader]:
    """As a reader passes it on."""
    with av.open(str(path)) as source:
        pictures, sound = source.streams.video[0], source.streams.audio[0]
        assert pictures.time_base is not None
        rows: list[FromReader] = [
            Source(
                "h264",
                bytes(pictures.codec_context.extradata or b""),
                SIZE,
                (RATE, 1),
                (pictures.time_base.numerator, pictures.time_base.denominator),
                0,
                Sound("aac", SAMPLE_RATE, "stereo", bytes(sound.codec_context.extradata or b"")),
            )
        ]
        for packet in source.demux():
            if packet.size == 0:
                continue
            if packet.stream is pictures:
                rows.append(Picture(packet.pts, packet.dts, packet.is_keyframe, bytes(packet), 0.0))
            else:
                assert packet.pts is not None
                assert packet.time_base is not None
                rows.append(Heard(float(packet.pts * packet.time_base), bytes(packet), 0.0))
    return rows


def opened(path: Path, key: pyrage.x25519.Identity) -> io.BytesIO:
    """In clear, as far as it goes."""
    clear = io.BytesIO()
    with path.open("rb") as file:
        try:
            pyrage.decrypt_io(file, clear, [key])
        except OSError as exc:
            assert "truncated" in str(exc)  # noqa: PT017
            assert path.name.endswith((".part", ".unfinished.mkv.age"))
    clear.seek(0)
    return clear


@pytest.mark.parametrize("container", ["mp4", "ts", "flv"])
def test_what_comes_is_sealed_and_whole(tmp_path: Path, key: pyrage.x25519.Identity, container: str) -> None:
    packets = read(film(tmp_path / f"film.{container}"))
    folder = tmp_path / "sealed"
    folder.mkdir()
    given = settings(None, folder, recipients=[str(key.to_public())])
    with Recorder(given) as recorder:
        recorder.send("sealed", *packets)
        recorder.until("recording", packets=8 * RATE + 300)
        (part,) = pieces(folder, ".part")
        assert b"matroska" not in part.read_bytes()
        recorder.finish()
        assert recorder.troubles == []
    first, second = pieces(folder, ".age")
    assert all(NAME.fullmatch(name) for name in names(folder))
    shown = []
    for piece in (first, second):
        sealed = piece.read_bytes()
        assert sealed.startswith(b"age-encryption.org/v1\n")
        assert b"matroska" not in sealed
        rows = frames(opened(piece, key))
        assert rows[0][0] == 0
        assert [at for at, _ in rows] == [number * 40 for number in range(len(rows))]
        shown += [number for _, number in rows]
        assert len(sound_times(opened(piece, key))) > 150
    assert shown == list(range(8 * RATE))
    other = pyrage.x25519.Identity.generate()
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(first.read_bytes(), [other])


def test_killed_it_leaves_what_can_be_opened(tmp_path: Path, key: pyrage.x25519.Identity) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    packets = read(film(tmp_path / "film.mp4"))
    given = settings(None, folder, recipients=[str(key.to_public())], piece_seconds=60.0)
    with Recorder(given) as recorder:
        # As large as pictures usually are; a chunk of 64 KiB is sealed at a time.
        padding = b"\0\0\x20\x00\x06" + b"\x05" * 0x1FFF
        for row in packets:
            if isinstance(row, Picture):
                row.data = padding + row.data
        recorder.send("sealed", *packets)
        recorder.until("recording", packets=8 * RATE + 300)
        recorder.kill()
    (part,) = pieces(folder, ".part")
    shown = frames(opened(part, key))
    assert len(shown) > 6 * RATE
    with Recorder(given) as recorder:
        recorder.until("waiting")
        recorder.finish()
    (piece,) = pieces(folder, ".age")
    assert names(folder) == [piece.name]
    assert piece.name.endswith("Z.unfinished.mkv.age")
    assert frames(opened(piece, key)) == shown


def test_a_strangers_times_cost_no_more_than_pieces(tmp_path: Path, key: pyrage.x25519.Identity) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    packets = read(film(tmp_path / "film.mp4", 4))
    source = packets[0]
    assert isinstance(source, Source)
    given = settings(None, folder, recipients=[str(key.to_public())], piece_seconds=60.0)
    with Recorder(given) as recorder:
        recorder.send("sealed", *packets)
        # Back to 0, then no times, impossible ones, and pictures that are damaged.
        recorder.send("sealed", *packets[1:])
        key_picture = next(row for row in packets if isinstance(row, Picture) and row.key)
        recorder.send("sealed", Picture(None, None, True, key_picture.data, 0.0))
        recorder.send(
            "sealed", Picture((1 << 63) - 1, -(1 << 63), True, key_picture.data, 0.0), Heard(1e300, b"x", 0.0)
        )
        recorder.send(
            "sealed", Heard(float("nan"), b"", 0.0), Picture(0, 0, True, b"", 0.0), Picture(1, 1, False, b"\xff", 0.0)
        )
        recorder.send("sealed", Lost("It is gone."), Picture(5, 5, True, b"x", 0.0))
        recorder.send("sealed", msgspec_replaced(source, time_base=(1, 0)), *packets[1:3])
        recorder.send("sealed", source, *packets[1:])
        count = sum(isinstance(row, Picture) for row in packets)
        recorder.until("recording", packets=3 * count)
        recorder.finish()
    counts = []
    for piece in pieces(folder, ".age"):
        try:
            rows = frames(opened(piece, key))
        except av.error.FFmpegError:
            continue  # of what makes no sense
        numbers = [number for _, number in rows]
        if numbers == list(range(4 * RATE)):
            assert [at for at, _ in rows] == [number * 40 for number in numbers]
            counts.append(len(numbers))
    assert len(counts) == 3


def msgspec_replaced(source: Source, **more: object) -> Source:
    values = {name: getattr(source, name) for name in source.__struct_fields__}
    return Source(**{**values, **more})


def test_codecs_that_matroska_does_not_take_are_told(tmp_path: Path, key: pyrage.x25519.Identity) -> None:
    folder, clean = tmp_path / "sealed", tmp_path / "clean"
    folder.mkdir()
    clean.mkdir()
    packets = read(film(tmp_path / "film.mp4", 2))
    source = packets[0]
    assert isinstance(source, Source)
    output = Output(time.monotonic(), sound=False)
    with Recorder(settings(clean, folder, recipients=[str(key.to_public())])) as recorder:
        recorder.send("sealed", msgspec_replaced(source, codec="nonsense"), *packets[1:])
        recorder.until(trouble="The source is not recorded, which is nonsense")
        assert names(folder) == []
        recorder.send("sealed", msgspec_replaced(source, sound=Sound("sipr", 8000, "mono", b"")), *packets[1:])
        recorder.until("recording", trouble="without its sound, which is sipr")
        # The other recording does not care.
        recorder.send("clean", output.begin, *output.leave(0, 2 * RATE))
        recorder.until("recording", packets=4 * RATE)
        recorder.send("sealed", source, *packets[1:])
        recorder.until("recording", packets=6 * RATE + 50, trouble="")
        recorder.finish()
    silent, whole = pieces(folder, ".age")
    assert len(frames(opened(silent, key))) == 2 * RATE
    with av.open(opened(silent, key)) as found:
        assert not found.streams.audio
    assert len(sound_times(opened(whole, key))) > 80
    (piece,) = pieces(clean)
    assert len(frames(piece)) == 2 * RATE


def test_the_reader_passes_on_what_comes(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 3)
    with Process("reader", ReaderSettings(str(path), 5.0, 1 << 28), {"sealed": FromReader}) as reader:
        rows: list[object] = []
        end = time.monotonic() + 30
        while not rows or not isinstance(rows[-1], Lost):
            reader.hear()
            rows += reader.wires["sealed"].receive()
            assert time.monotonic() < end
            time.sleep(0.01)
    expected = read(path)
    assert isinstance(rows[0], Source)
    assert isinstance(expected[0], Source)
    assert rows[0].extradata == expected[0].extradata
    assert rows[0].sound == expected[0].sound
    for kind in (Picture, Heard):
        came = [msgspec.structs.replace(row, came=0.0) for row in rows if isinstance(row, kind)]
        assert came == [row for row in expected if isinstance(row, kind)]


# Sealing ---------------------------------------------------------------------------------------------------------


def test_a_recipient_that_is_none_is_refused() -> None:
    ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqyOfWEzHLWBLMhkJXLxaKkWBkfpPhxMiJgVUxVR0i4 me@here"
    known = str(pyrage.x25519.Identity.generate().to_public())
    assert len(recipients_of([known, ssh])) == 2
    with pytest.raises(UsageError, match="none"):
        recipients_of([])
    with pytest.raises(UsageError, match="age1nothing"):
        recipients_of([known, "age1nothing"])
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(UsageError, match="a secret key") as caught:
        recipients_of([secret])
    assert secret not in str(caught.value)


def test_age_itself_opens_what_is_sealed(tmp_path: Path, key: pyrage.x25519.Identity) -> None:
    if (age := shutil.which("age")) is None:
        pytest.skip("age is not installed (Debian: age)")
    (secret := tmp_path / "key").write_text(f"{key}\n", "utf-8")
    whole, path = os.urandom(300_000), tmp_path / "sealed.age"
    with path.open("wb", buffering=0) as file, Sealer(file, recipients_of([str(key.to_public())])) as sealer:
        for place in range(0, len(whole), 7001):
            sealer.write(whole[place : place + 7001])
    command = [age, "-d", "-i", str(secret), str(path)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == whole
    # Of one that was cut off, all whole chunks, and that it ends early.
    os.truncate(path, path.stat().st_size - 10_000)
    made = subprocess.run(command, capture_output=True)
    assert made.returncode != 0
    assert made.stdout == whole[: 4 * 65536]


def test_a_sealer_tells_whoever_writes_that_the_disk_is_full(key: pyrage.x25519.Identity) -> None:
    class Full:
        taken = 0

        def write(self, data: bytes) -> int:
            if self.taken > 200_000:
                raise OSError(28, "No space left on device")
            self.taken += len(data)
            return len(data)

    sealer = Sealer(Full(), [key.to_public()])
    with pytest.raises(OSError, match="No space left"):
        sealer.write(bytes(1_000_000))
    with pytest.raises(OSError, match="No space left"):
        sealer.close()
