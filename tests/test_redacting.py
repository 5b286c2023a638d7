"""The redact job, with real workers and encoders and a small detector that finds whatever is bright."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import msgspec
import numpy as np
import pytest
from av.audio.stream import AudioStream
from rich.console import Console

from tests.networks import write_classifier, write_detector
from vidmod import terminal
from vidmod.cuts import Cuts
from vidmod.errors import NotVideoError, OutputError, TimelineError, UsageError
from vidmod.media import encoding, muxer
from vidmod.messages import Json
from vidmod.redacting import job, wanted
from vidmod.redacting.job import Redactor
from vidmod.redacting.messages import Covering, OtherPacket, Rewritten
from vidmod.redacting.result import Redaction
from vidmod.redacting.settings import KEEPABLE, PRESETS, RedactSettings
from vidmod.redacting.verifying import (
    CopyError,
    Sent,
    check_cuts,
    check_others,
    check_packets,
    check_silence,
    check_times,
    cuts_of,
    tolerance_of,
)
from vidmod.redaction import SILENT_PEAK
from vidmod.scanning import Scanner, ScanSettings
from vidmod.timeline import Segment, Timeline

RATE, COUNT, BRIGHT = 25, 150, range(60, 72)
TICK = Fraction(1, 512 * RATE)
# Where the detector sees what is bright: a quarter of its input, which is 5 times smaller than the film.
BOX = (slice(0, 160), slice(0, 160))


def make_film(path: Path, bright: range = BRIGHT, *, red: range = range(0), sound: bool = False) -> Path:
    """A dark film whose noise moves, with a white spot in some pictures, or all of it red; and noise to hear."""
    chance = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = RATE
        stream.options = {"x264-params": "scenecut=0"}
        heard = output.add_stream("aac", rate=48_000) if sound else None
        for number in range(COUNT):
            picture = np.empty((180, 320, 3), np.uint8)
            picture[:] = np.linspace(30, 60, 320)[None, :, None] + chance.integers(0, 9, (180, 320, 1), np.uint8)
            if number in bright:
                picture[20:60, 20:60] = 255
            if number in red:
                picture[:] = (200, 0, 0)
            if sound:  # and a mark that tells which picture it is
                picture[165:178, 2 * number : 2 * number + 16] = 0
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
        if heard is not None:
            noise = np.random.default_rng(1).normal(0, 0.1, (1, 48_000 * COUNT // RATE)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            output.mux([*heard.encode(frame), *heard.encode(None)])
    return path


def with_sound(source: Path, path: Path, *codecs: str) -> Path:
    """The same film with a tone in sound tracks of some codecs."""
    with av.open(str(source)) as film, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(film.streams.video[0])
        sounds = [cast("AudioStream", output.add_stream(codec, rate=48_000)) for codec in codecs]
        output.metadata["title"] = "At home"
        for packet in film.demux(0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
        for sound in sounds:
            for start in range(0, 48_000 * COUNT // RATE, 1000):
                tone = np.sin(np.arange(start, start + 1000) * 0.05).astype(np.float32) / 2
                frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
                output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return path


def loudest(path: Path, start: float, end: float, track: int = 0) -> float:
    """The peak of the frames of sound that lie in a span."""
    peak = 0.0
    with av.open(str(path)) as source:
        for frame in source.decode(audio=track):
            if frame.time is not None and start <= frame.time and frame.time + frame.samples / 48_000 <= end:
                peak = max(peak, float(np.abs(frame.to_ndarray()).max()))
    return peak


def pictures(path: Path) -> dict[Fraction, Any]:
    with av.open(str(path), "r") as source:
        found = {}
        for frame in source.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            found[frame.pts * frame.time_base] = frame.to_ndarray(format="gray")
        return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    return (str(write_classifier(folder)), str(write_detector(folder)))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4")


Redact = Callable[..., Redaction]


@pytest.fixture(scope="module")
def redact(models: tuple[str, ...]) -> Redact:
    def run(source: Path, output: Path, timeline: Timeline | None = None, **settings: Any) -> Redaction:
        scan = ScanSettings(models=models, **settings.pop("scan", {}))
        with Redactor(RedactSettings(scan=scan, **settings)) as redactor:
            return redactor.redact(source, output, timeline=timeline)

    return run


@pytest.fixture(scope="module")
def scanned(models: tuple[str, ...], film: Path) -> Timeline:
    with Scanner(ScanSettings(models=models)) as scanner:
        return scanner.scan(film)


class TestCovering:
    def test_what_was_found_is_black_and_the_rest_as_it_was(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        output = tmp_path / "safe.mp4"
        done = redact(film, output, labels=["BRIGHT"])
        before, after = pictures(film), pictures(output)
        assert list(before) == list(after)
        ((start, end),) = done.written.spans
        for number, (at, old) in enumerate(before.items()):
            if number in BRIGHT:
                assert after[at][BOX].max() <= 30
            if not start * TICK <= at < end * TICK:
                assert np.array_equal(old, after[at])
        assert done.written.full is None
        assert done.written.copied >= COUNT - 3 * RATE
        assert len(done.checks) == 4

    def test_a_classifier_has_the_whole_picture_covered(self, tmp_path: Path, redact: Redact) -> None:
        source = make_film(tmp_path / "red.mp4", range(0), red=range(60, 90))
        done = redact(source, tmp_path / "safe.mp4", labels=["red"])
        for number, new in enumerate(pictures(tmp_path / "safe.mp4").values()):
            assert (new.std() < 2) == (number in range(60, 90))
        assert done.covered_pictures == 30

    def test_a_slate_covers_the_whole_picture(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"], segments="slate")
        shown = list(pictures(tmp_path / "safe.mp4").values())
        assert all(shown[number].std() < 2 for number in BRIGHT)
        assert shown[10].std() > 2

    @pytest.mark.parametrize("style", ["mosaic", "blur"])
    def test_other_styles(self, film: Path, tmp_path: Path, redact: Redact, style: str) -> None:
        redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"], style=style)
        before, after = (list(pictures(path).values())[65] for path in (film, tmp_path / "safe.mp4"))
        assert after[BOX].max() < before[BOX].max() - 50

    def test_where_nothing_is_found_every_packet_is_copied(self, tmp_path: Path, redact: Redact) -> None:
        source = make_film(tmp_path / "calm.mp4", range(0))
        done = redact(source, tmp_path / "safe.mp4", labels=["BRIGHT"])
        assert (done.written.copied, done.written.encoded, done.covered_pictures) == (COUNT, 0, 0)

    def test_what_nobody_looked_at_is_covered(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        done = redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"], scan={"end": Fraction(4)})
        shown = list(pictures(tmp_path / "safe.mp4").values())
        assert all(picture.std() < 2 for picture in shown[100:])
        assert shown[90].std() > 2
        assert done.timeline.status == "partial"

    def test_the_document_says_what_was_done(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        document: Json = redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"]).as_document()
        assert document["schema"] == "vidmod.redaction/1"
        assert document["output"]["size_bytes"] == (tmp_path / "safe.mp4").stat().st_size
        assert document["written"]["copied_packets"] + document["written"]["encoded_pictures"] == COUNT
        (span,) = document["covered"]
        assert span["start_seconds"] <= BRIGHT.start / RATE
        assert span["end_seconds"] >= BRIGHT.stop / RATE
        json.dumps(document)


class TestATimelineThatAReviewerLeft:
    def test_what_was_rejected_is_not_covered(
        self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline
    ) -> None:
        corrected = dataclasses.replace(scanned, segments=())
        assert redact(film, tmp_path / "safe.mp4", corrected, labels=["BRIGHT"]).covered_pictures == 0

    def test_what_was_accepted_is_covered(self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline) -> None:
        segment = Segment("s1", "BRIGHT", "block", "cover", 2.4, 2.88, 1.0, 1.0, {"BRIGHT": 1.0})
        corrected = dataclasses.replace(scanned, segments=(segment,))
        redact(film, tmp_path / "safe.mp4", corrected, labels=["BRIGHT"])
        shown = list(pictures(tmp_path / "safe.mp4").values())
        assert all(shown[number][BOX].max() <= 30 for number in BRIGHT)

    def test_a_box_drawn_by_hand_is_covered(
        self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline
    ) -> None:
        base = Fraction(scanned.streams[0].video["time_base"])
        boxes = [
            {"pts": int(at / base), "time_seconds": at, "box": [left, 100, left + 40, 140]}
            for at, left in ((1, 100), (2, 200))
        ]
        track = {"id": "t1", "label": "hand", "start_seconds": 1.0, "end_seconds": 2.0, "boxes": boxes}
        corrected = dataclasses.replace(scanned, segments=(), tracks=(track,))
        done = redact(film, tmp_path / "safe.mp4", corrected, labels=["BRIGHT"])
        shown = list(pictures(tmp_path / "safe.mp4").values())
        assert done.covered_pictures == RATE
        assert shown[25][100:140, 100:140].max() <= 30
        assert shown[37][100:140, 150:186].max() <= 30
        assert shown[24][100:140, 100:140].min() > 20

    def test_a_label_that_it_does_not_judge_is_covered_where_its_samples_have_it(
        self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline
    ) -> None:
        policy = dict(scanned.provenance["policy"])
        policy["categories"] = {"other": {"labels": ["red"], "review": 0.5, "block": 0.5}}
        other = dataclasses.replace(scanned, segments=(), provenance={**scanned.provenance, "policy": policy})
        done = redact(film, tmp_path / "safe.mp4", other, labels=["BRIGHT", "red"])
        shown = list(pictures(tmp_path / "safe.mp4").values())
        assert all(shown[number][BOX].max() <= 30 for number in BRIGHT)
        assert [track["id"] for track in done.timeline.tracks] == ["t1"]

    def test_a_label_that_none_of_its_models_gives_is_refused(
        self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline
    ) -> None:
        with pytest.raises(TimelineError, match="knows nothing of GREEN"):
            redact(film, tmp_path / "safe.mp4", scanned, labels=["BRIGHT", "GREEN"])

    def test_what_its_coverage_leaves_out_is_covered(
        self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline
    ) -> None:
        (whole,) = scanned.coverage
        spans = ((0.4, 2.0), (3.0, 5.0))
        rows = tuple(dataclasses.replace(whole, start_seconds=start, end_seconds=end) for start, end in spans)
        corrected = dataclasses.replace(scanned, segments=(), coverage=rows)
        redact(film, tmp_path / "safe.mp4", corrected, labels=["BRIGHT"])
        slated = [picture.std() < 2 for picture in pictures(tmp_path / "safe.mp4").values()]
        wanted = [not (10 <= number < 50 or 75 <= number < 125) for number in range(COUNT)]
        assert slated == wanted

    def test_one_without_coverage_is_refused(
        self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline
    ) -> None:
        with pytest.raises(TimelineError, match="what was looked at"):
            redact(film, tmp_path / "safe.mp4", dataclasses.replace(scanned, coverage=()), labels=["BRIGHT"])

    def test_one_of_another_file_is_refused(self, tmp_path: Path, redact: Redact, scanned: Timeline) -> None:
        other = make_film(tmp_path / "other.mp4", range(5))
        with pytest.raises(TimelineError, match="another file"):
            redact(other, tmp_path / "safe.mp4", scanned, labels=["BRIGHT"])


class TestSound:
    def test_it_is_silent_while_anything_is_covered(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        source, output = with_sound(film, tmp_path / "film.mp4", "aac", "libmp3lame"), tmp_path / "safe.mp4"
        done = redact(source, output, labels=["BRIGHT"], audio="mute")
        ((start, end),) = [(span.start, span.end) for span in done.muted]
        assert done.muted == done.spans
        assert start <= BRIGHT.start / RATE < BRIGHT.stop / RATE <= end
        for track in (0, 1):
            assert loudest(output, float(start), float(end), track) <= SILENT_PEAK
            assert loudest(output, 0, start - 0.2, track) > 0.4
            assert loudest(output, end + 0.2, COUNT / RATE, track) > 0.4
        assert "2 sound streams decoded, silent for" in done.checks[-2]
        document = done.as_document()
        assert document["audio"]["mode"] == "mute"
        assert document["audio"]["muted"] == document["covered"]
        assert [(row["index"], row["way"]) for row in document["audio"]["tracks"]] == [(1, "spliced"), (2, "encoded")]
        assert any("stream 2 (audio) was encoded anew" in note for note in document["notes"])

    def test_it_is_kept_unless_that_was_asked_for(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        source, output = with_sound(film, tmp_path / "film.mp4", "aac"), tmp_path / "safe.mp4"
        document = redact(source, output, labels=["BRIGHT"]).as_document()
        assert document["audio"] == {"mode": "keep", "muted": [], "tracks": []}
        sent = []
        for path in (source, output):
            with av.open(str(path)) as container:
                sent.append([bytes(packet) for packet in container.demux(audio=0)])
        assert sent[0] == sent[1]

    def test_a_segment_is_muted_where_nothing_shows(
        self, film: Path, tmp_path: Path, redact: Redact, models: tuple[str, ...]
    ) -> None:
        source, output = with_sound(film, tmp_path / "film.mp4", "aac"), tmp_path / "safe.mp4"
        with Scanner(ScanSettings(models=models)) as scanner:
            timeline = scanner.scan(source)
        segment = Segment("s1", "BRIGHT", "block", "cover", 2.0, 4.0, 1.0, 1.0, {"BRIGHT": 1.0})
        corrected = dataclasses.replace(timeline, segments=(segment,))
        done = redact(source, output, corrected, labels=["BRIGHT"], audio="mute")
        assert done.muted[0].start <= 2.0
        assert done.muted[-1].end >= 4.0
        assert loudest(output, 2.0, 4.0) <= SILENT_PEAK
        assert loudest(output, 5.0, 6.0) > 0.4

    def test_where_nothing_is_found_nothing_is_muted(self, tmp_path: Path, redact: Redact) -> None:
        calm = make_film(tmp_path / "calm.mp4", range(0))
        source, output = with_sound(calm, tmp_path / "film.mp4", "aac"), tmp_path / "safe.mp4"
        done = redact(source, output, labels=["BRIGHT"], audio="mute")
        assert done.as_document()["audio"] == {"mode": "mute", "muted": [], "tracks": []}
        console = Console(width=80)
        with console.capture() as shown:
            console.print(terminal.redaction(done, "safe.mp4"))
        assert "nothing to mute: all sound copied" in shown.get()
        assert "found by pictures 0.5 s apart; --sampling all looks at every one" in shown.get()
        assert done.as_document()["sampling"]["max_gap_seconds"] == 0.5
        assert loudest(output, 0, COUNT / RATE) > 0.4

    def test_sound_that_is_still_heard_leaves_no_output(
        self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = with_sound(film, tmp_path / "film.mp4", "aac")
        real = wanted.Wanted.muted
        calls: list[Any] = []

        def later(*args: Any) -> Any:
            # What is written is muted elsewhere than where it is verified.
            calls.append(args)
            return [(0, 512)] if len(calls) == 1 else real(*args)

        monkeypatch.setattr(wanted.Wanted, "muted", later)
        with pytest.raises(OutputError, match="sound stream 1 is heard at"):
            redact(source, tmp_path / "safe.mp4", labels=["BRIGHT"], audio="mute")
        assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


class TestKeeping:
    def test_what_is_left_out_is_listed(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        source, output = with_sound(film, tmp_path / "film.mp4", "aac"), tmp_path / "safe.mp4"
        document = redact(source, output, labels=["BRIGHT"]).as_document()
        why = "title: not asked for (--keep metadata)"
        assert document["dropped"] == [{"index": None, "type": "metadata", "why": why}]
        assert f"metadata is left out: {why}" in document["notes"]
        assert b"At home" not in output.read_bytes()

    def test_what_is_asked_for_is_kept(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        source, output = with_sound(film, tmp_path / "film.mp4", "aac"), tmp_path / "safe.mp4"
        document = redact(source, output, labels=["BRIGHT"], keep=["metadata", "chapters"]).as_document()
        assert (document["kept"], document["dropped"]) == (["chapters", "metadata"], [])
        assert b"At home" in output.read_bytes()

    def test_what_can_be_kept_is_what_the_muxer_knows(self) -> None:
        assert KEEPABLE == muxer.KEEPABLE
        with pytest.raises(UsageError, match="Use one of subtitles, chapters, metadata, data, attachments"):
            RedactSettings(keep=("covers",))


class TestCutting:
    def test_what_was_found_is_gone_and_the_rest_as_it_was(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        output = tmp_path / "short.mp4"
        done = redact(film, output, labels=["BRIGHT"], segments="cut")
        ((start, end),) = done.cuts.spans
        first, last = int(start * RATE), int(end * RATE)
        assert first <= BRIGHT.start
        assert last >= BRIGHT.stop
        before, after = list(pictures(film).values()), pictures(output)
        assert list(after) == [Fraction(number, RATE) for number in range(COUNT - (last - first))]
        remain = before[:first] + before[last:]
        assert all(np.abs(old.astype(int) - new).mean() < 2 for old, new in zip(remain, after.values(), strict=True))
        same = [np.array_equal(old, new) for old, new in zip(remain, after.values(), strict=True)]
        assert sum(same) >= COUNT - 3 * RATE
        assert done.written.copied == COUNT - RATE * len({number // RATE for number in range(first, last)})
        assert done.written.cut_pictures == last - first
        assert len(done.checks) == 5
        document: Json = done.as_document()
        assert document["cut"] == [
            {"start_seconds": float(start), "end_seconds": float(end), "output_seconds": float(start)}
        ]
        assert (document["cut_seconds"], document["covered"]) == (pytest.approx(float(end - start)), [])

    def test_what_a_reviewer_left_is_cut_with_its_sound(
        self, tmp_path: Path, redact: Redact, models: tuple[str, ...]
    ) -> None:
        source, output = make_film(tmp_path / "film.mp4", range(0), sound=True), tmp_path / "short.mp4"
        with Scanner(ScanSettings(models=models)) as scanner:
            timeline = scanner.scan(source)
        rows = [(0.0, 0.5), (2.41, 2.87), (4.0, 5.2)]
        segments = [
            Segment(f"s{at}", "BRIGHT", "block", "cover", at, end, 1.0, 1.0, {"BRIGHT": 1.0}) for at, end in rows
        ]
        reviewed = dataclasses.replace(timeline, segments=tuple(segments))
        done = redact(source, output, reviewed, labels=["BRIGHT"], segments="cut")
        # To whole pictures, outward.
        whole = ((0, 13), (60, 72), (100, 130))
        assert done.cuts.spans == tuple((Fraction(first, RATE), Fraction(last, RATE)) for first, last in whole)
        assert len(pictures(output)) == COUNT - 13 - 12 - 30
        before, after = (list(pictures(path).values()) for path in (source, output))
        numbers = [number for number in range(COUNT) if not any(first <= number < last for first, last in whole)]
        found = [min(range(COUNT), key=lambda n: np.abs(before[n].astype(int) - new).mean()) for new in after]
        assert found == numbers
        assert [row["output_seconds"] for row in done.as_document()["cut"]] == [0.0, 1.88, 3.0]
        with av.open(str(output)) as container:
            sound = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.pts is not None]
        # In each cut no packet, in between one after the other.
        gaps = [(a, b) for a, b in pairwise(sound) if b - a > Fraction(1024, 48_000)]
        assert [round(float(b), 1) for _, b in gaps] == [1.9, 3.0]
        assert done.written.cut_packets > 40
        assert "packets of other streams equal the source's" in done.checks[3]

    def test_nothing_is_left(self, film: Path, tmp_path: Path, redact: Redact, scanned: Timeline) -> None:
        segment = Segment("s1", "BRIGHT", "block", "cover", 0.0, 6.0, 1.0, 1.0, {"BRIGHT": 1.0})
        corrected = dataclasses.replace(scanned, segments=(segment,), streams=_without_samples(scanned))
        with pytest.raises(OutputError, match="nothing is left"):
            redact(film, tmp_path / "short.mp4", corrected, labels=["BRIGHT"], segments="cut")
        assert list(tmp_path.iterdir()) == []

    def test_what_still_shows_beside_a_cut_is_cut_in_a_second_round(
        self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = []

        def see(samples: Any, rows: Any, _rules: Any) -> list[Covering]:
            known.append((rows, [sample.pts // 512 for sample in samples]))
            return [Covering(pts=samples[-1].pts, whole=False, boxes=[])] if len(known) == 1 else []

        monkeypatch.setattr(job, "still_visible", see)
        done = redact(film, tmp_path / "short.mp4", labels=["BRIGHT"], segments="cut")
        (_, (again, end)) = done.cuts.spans
        assert (again * RATE, end * RATE) == (known[0][1][-1], known[0][1][-1] + 1)
        # On both sides of the cut, by the source's clock; nothing counts as covered.
        first, last = (int(time * RATE) for time in done.cuts.spans[0])
        assert known[0] == ((), [*range(first - 5, first), *range(last, last + 5)])
        assert "beside what was cut (round 2)" in done.checks[-1]


class TestVerifying:
    def test_what_still_shows_is_covered_in_a_second_round(
        self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = [[Covering(pts=61 * 512, whole=True, boxes=[])], []]
        monkeypatch.setattr(job, "still_visible", lambda *_: found.pop(0))
        done = redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"])
        assert list(pictures(tmp_path / "safe.mp4").values())[61].std() < 2
        assert "round 2" in done.checks[-1]

    def test_what_shows_even_then_leaves_no_output(
        self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        output = tmp_path / "safe.mp4"
        output.write_bytes(b"before")
        monkeypatch.setattr(job, "still_visible", lambda *_: [Covering(pts=61 * 512, whole=True, boxes=[])])
        with pytest.raises(OutputError, match="second round"):
            redact(film, output, labels=["BRIGHT"])
        assert output.read_bytes() == b"before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["safe.mp4"]

    def test_a_picture_that_is_not_covered_is_noticed(
        self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = job._rebased

        def elsewhere(*args: Any) -> tuple[Covering, ...]:
            return tuple(Covering(pts=row.pts, whole=True, boxes=[]) for row in real(*args))

        monkeypatch.setattr(job, "_rebased", elsewhere)
        with pytest.raises(OutputError, match="what is to be covered shows at"):
            redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"])
        assert list(tmp_path.iterdir()) == []

    def test_what_cannot_be_copied_as_it_was_is_encoded(
        self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = check_packets, []

        def differ_once(*args: Any) -> str:
            calls.append(args)
            if len(calls) == 1:
                raise CopyError("out: 3 packets differ.")
            return real(*args)

        monkeypatch.setattr(job, "check_packets", differ_once)
        done = redact(film, tmp_path / "safe.mp4", labels=["BRIGHT"])
        assert done.written.full == "3 packets differ"
        assert done.written.encoded == COUNT


class TestBadInput:
    def test_an_output_that_cannot_be(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        with pytest.raises(OutputError, match="no folder"):
            redact(film, tmp_path / "none" / "safe.mp4")
        with pytest.raises(UsageError, match="another file"):
            redact(film, film)

    def test_a_label_that_no_model_gives(self, film: Path, tmp_path: Path, redact: Redact) -> None:
        with pytest.raises(UsageError, match="BRIHGT"):
            redact(film, tmp_path / "safe.mp4", labels=["BRIHGT"])

    def test_what_is_no_video(self, tmp_path: Path, redact: Redact) -> None:
        with pytest.raises(NotVideoError):
            redact(tmp_path, tmp_path / "safe.mp4")

    def test_a_full_disk(self, film: Path, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch) -> None:
        output = tmp_path / "safe.mp4"
        output.write_bytes(b"before")

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match="No space left"):
            redact(film, output, labels=["BRIGHT"])
        assert output.read_bytes() == b"before"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        "settings",
        [
            {"style": "glitter"},
            {"shape": "star"},
            {"margin": -1.0},
            {"segments": "x"},
            {"preset": "warp"},
            {"crf": 64},
            {"audio": "loud"},
            {"keep": ("audio",)},
        ],
    )
    def test_a_wrong_setting(self, settings: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            RedactSettings(**settings)


def test_the_command(film: Path, tmp_path: Path, models: tuple[str, ...]) -> None:
    output = tmp_path / "safe.mp4"
    command = [sys.executable, "-m", "vidmod", "redact", str(film), str(output), "--models", ",".join(models)]
    result = subprocess.run([*command, "--labels", "BRIGHT"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "packets copied" in result.stderr
    assert "Traceback" not in result.stderr
    assert max(map(len, result.stderr.splitlines())) <= 80
    document = json.loads((tmp_path / "safe.mp4.redaction.json").read_text("utf-8"))
    assert document["output"]["name"] == "safe.mp4"
    missing = subprocess.run([*command[:4], "none.mp4", str(output)], capture_output=True, text=True, check=False)
    assert missing.returncode == 4
    assert "no such file" in missing.stderr


def test_borders_that_a_scan_knew_only_roughly_are_looked_at(
    tmp_path: Path, redact: Redact, models: tuple[str, ...]
) -> None:
    source = make_film(tmp_path / "red.mp4", range(0), red=range(56, 84))
    with Scanner(ScanSettings(models=models)) as scanner:
        timeline = scanner.scan(source)
    (segment,) = timeline.segments
    assert segment.end_seconds < 84 / RATE, "or there is nothing to test"
    redact(source, tmp_path / "safe.mp4", timeline, labels=["red"])
    shown = list(pictures(tmp_path / "safe.mp4").values())
    assert all(shown[number].std() < 2 for number in range(56, 84))
    assert shown[40].std() > 2
    assert shown[100].std() > 2


def test_presets_are_those_of_the_encoders() -> None:
    assert set(PRESETS) == set(encoding.PRESETS)


class TestVerifyingValues:
    WRITTEN = Rewritten(
        format="mp4", encoder=None, copied=3, encoded=1, drawn=1, spans=[(2, 3)], full=None, lost=0, notes=[]
    )
    SENT = tuple(Sent(Fraction(1), at, 10, f"{at:016x}", True) for at in range(4))

    def test_the_same(self) -> None:
        assert check_packets("out", self.SENT, self.SENT, Fraction(1), self.WRITTEN).startswith("3 copied")
        check_times("out", self.SENT, {Fraction(at) for at in range(4)}, self.WRITTEN, timed=True)

    def test_another_packet_within_what_was_encoded(self) -> None:
        changed = [row._replace(digest="0" * 16) if row.pts == 2 else row for row in self.SENT]
        check_packets("out", self.SENT, changed, Fraction(1), self.WRITTEN)

    @pytest.mark.parametrize("place", [0, 1, 3])
    def test_another_packet_outside(self, place: int) -> None:
        changed = [row._replace(digest="f" * 16) if row.pts == place else row for row in self.SENT]
        with pytest.raises(OutputError, match="1 packets that were to be copied differ"):
            check_packets("out", self.SENT, changed, Fraction(1), self.WRITTEN)

    def test_a_picture_too_few_or_too_many(self) -> None:
        times = {Fraction(at) for at in range(4)}
        for wrong in (times - {Fraction(1)}, times | {Fraction(9)}):
            with pytest.raises(OutputError, match="its pictures are not the source's"):
                check_times("out", self.SENT, wrong, self.WRITTEN, timed=True)

    def test_a_packet_without_a_picture_is_no_picture(self) -> None:
        rows = [*self.SENT, Sent(Fraction(1), 7, 1, "", False)]
        check_times("out", rows, {Fraction(at) for at in range(4)}, self.WRITTEN, timed=True)

    def test_silence(self) -> None:
        rows = [(1, 0.0, 0.0, 0), (2, SILENT_PEAK, 2.5, 0)]
        assert check_silence("out", rows, 3.0).startswith("2 sound streams decoded, silent for 3.0 s")
        for peak in (SILENT_PEAK * 1.01, float("nan")):
            with pytest.raises(OutputError, match=r"sound stream 2 is heard at 0:02\.500"):
                check_silence("out", [rows[0], (2, peak, 2.5, 0)], 3.0)
        with pytest.raises(OutputError, match="1 packets of sound stream 1 in muted spans do not decode"):
            check_silence("out", [(1, 0.0, 0.0, 1)], 3.0)

    CUT = msgspec.structs.replace(WRITTEN, spans=[], cuts=([(1, 3)], None, None), streams=[0, 2])

    def test_what_remains_moves_forward(self) -> None:
        cuts = check_cuts("out", self.SENT, [(1, 3)], Fraction(1), self.CUT)
        ours = [self.SENT[0], self.SENT[3]._replace(pts=1)]
        check_times("out", self.SENT, {Fraction(0), Fraction(1)}, self.CUT, timed=True, cuts=cuts)
        assert check_packets("out", self.SENT, ours, Fraction(1), self.CUT, cuts).startswith("2 copied")
        for wrong in ({Fraction(0), Fraction(3)}, {Fraction(0), Fraction(1), Fraction(2)}, {Fraction(0)}):
            with pytest.raises(CopyError):
                check_times("out", self.SENT, wrong, self.CUT, timed=True, cuts=cuts)
        with pytest.raises(CopyError):
            check_packets("out", self.SENT, [self.SENT[0], self.SENT[3]], Fraction(1), self.CUT, cuts)

    @pytest.mark.parametrize("claimed", [[(1, 2)], [(0, 3)], [(1, 4)], [(2, 3)], []])
    def test_other_pictures_are_gone_than_were_to_be(self, claimed: list[tuple[int, int]]) -> None:
        written = msgspec.structs.replace(self.CUT, cuts=(claimed, None, None))
        with pytest.raises(CopyError):
            check_cuts("out", self.SENT, [(1, 3)], Fraction(1), written)

    def test_a_cut_that_makes_no_sense(self) -> None:
        with pytest.raises(OutputError, match="no sense"):
            cuts_of(msgspec.structs.replace(self.CUT, cuts=([(3, 1)], None, None)), Fraction(1))

    def test_sound(self) -> None:
        cuts = Cuts.of([(1, 3)], Fraction(1))
        theirs = [
            OtherPacket(2, Fraction(at), Fraction(at), Fraction(at) + 1, Fraction(1, 8), 9, f"{at}") for at in range(5)
        ]
        ours = [_moved(theirs[0], 0), _moved(theirs[3], 1), _moved(theirs[4], 2)]
        assert check_others("out", theirs, ours, self.CUT, cuts).startswith("3 packets")
        dropped = [
            OtherPacket(1, Fraction(at), Fraction(at), Fraction(at) + 1, Fraction(1, 8), 9, "x") for at in range(5)
        ]
        assert check_others("out", [*dropped, *theirs], ours, self.CUT, cuts).startswith("3 packets")
        for wrong in (
            ours[:2],
            [*ours, _moved(theirs[2], 3)],
            [ours[0], _moved(theirs[2], 1), ours[2]],
            [ours[0], _moved(theirs[3], Fraction(5, 4)), ours[2]],
            [],
        ):
            with pytest.raises(OutputError, match="stream 2 does not hold"):
                check_others("out", theirs, wrong, self.CUT, cuts)

    def test_sound_without_packets_of_its_own(self) -> None:
        cuts = Cuts.of([(1, 3)], Fraction(1))
        theirs = [
            OtherPacket(2, Fraction(at), Fraction(at), Fraction(at) + 1, Fraction(1, 8), 9, "") for at in range(5)
        ]
        whole = OtherPacket(1, Fraction(0), Fraction(0), Fraction(3), Fraction(1, 8), 27, "")
        check_others("out", theirs, [whole], self.CUT, cuts)
        for wrong in ({"size": 18}, {"size": 45}, {"time": Fraction(1)}):
            with pytest.raises(OutputError, match="stream 2"):
                check_others("out", theirs, [msgspec.structs.replace(whole, **wrong)], self.CUT, cuts)

    def test_tolerances(self) -> None:
        assert tolerance_of("libx264", None) == tolerance_of("libx264", 23) < tolerance_of("libx264", 30)
        assert tolerance_of("libsvtav1", None) == tolerance_of("libx264", 60)


def _moved(packet: OtherPacket, start: Fraction | int) -> OtherPacket:
    """A packet of the source's stream 2, which is stream 1 of the output."""
    time = Fraction(start)
    return msgspec.structs.replace(packet, stream=1, time=time, start=time, end=time + 1)


def _without_samples(timeline: Timeline) -> tuple[Any, ...]:
    """As if a scan had found nothing, so that a reviewer's segment is covered whole."""
    return tuple(dataclasses.replace(row, samples=()) for row in timeline.streams)
