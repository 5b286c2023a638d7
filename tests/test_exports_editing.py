"""Exports for editors and players, read by others' readers: FFmpeg, MKVToolNix, webvtt-py, OpenTimelineIO, csv."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import webvtt
from hypothesis import HealthCheck, given, settings
from PIL import Image

from tests.drawn import HOSTILE, timelines
from tests.players import CUT, MUTE, Edit, kodi, movie_content_filter, mplayer
from tests.recipes import RATE, Video, make, number_in
from tests.timelines import VIDEO, sample, segment, stream, timeline
from vidmod import export, judge
from vidmod.coverage import Covered
from vidmod.errors import UsageError
from vidmod.exports.clock import length
from vidmod.exports.wording import legible
from vidmod.reviewing import reviewed
from vidmod.timeline import Segment, Status, StreamScan, Timeline

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")
MKVMERGE, MKVEXTRACT = shutil.which("mkvmerge"), shutil.which("mkvextract")
needs_ffmpeg = pytest.mark.skipif(not FFMPEG or not FFPROBE, reason="Debian's ffmpeg is not installed")
needs_mkvtoolnix = pytest.mark.skipif(not MKVMERGE or not MKVEXTRACT, reason="Debian's mkvtoolnix is not installed")
SECONDS = 20.0
# A gap, and damage; the rest was looked at.
ACCOUNT = (
    Covered(0.0, 10.0, "analysed"),
    Covered(10.0, 12.5, "unsampled"),
    Covered(12.5, 15.0, "analysed"),
    Covered(15.0, 16.001, "undecodable"),
    Covered(16.001, SECONDS, "analysed"),
)
SEGMENTS = (
    segment(1.001, 3.5, id="s1"),
    segment(3.25, 5.001, "nsfw", "review", id="s2", peak=0.42, labels={"nsfw": 0.42}),
    segment(17.003, 18.999, "nsfw", id="s3", labels={"nsfw": 0.91}),
)


def film(
    segments: Sequence[Segment] = SEGMENTS, account: Sequence[Covered] = ACCOUNT, *others: StreamScan, **source: Any
) -> Timeline:
    """A film of 20 s of which something was not seen."""
    first = dataclasses.replace(stream([sample(float(t), 0.01) for t in range(20)]), coverage=tuple(account))
    status: Status = "complete" if all(row.state == "analysed" for row in account) else "partial"
    made = timeline(first, *others)
    return dataclasses.replace(
        made,
        source={**made.source, "duration_seconds": SECONDS, **source},
        status=status,
        verdict="block",
        notes=() if status == "complete" else ("Stream 0: 3 of 500 packets gave no picture.",),
        segments=tuple(segments),
    )


def run(*command: str | Path | None) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def milliseconds(timestamp: str) -> int:
    hours, minutes, seconds = timestamp.split(":")
    return round(Fraction(seconds) * 1000) + (int(hours) * 60 + int(minutes)) * 60_000


class TestCsv:
    def test_segments_and_stretches_have_rows(self) -> None:
        rows = list(csv.DictReader(io.StringIO(export(film(), "csv").decode(), newline="")))
        assert [row["verdict"] for row in rows] == ["block", "review", "block", "unsampled", "undecodable", "partial"]
        assert [(float(row["start_seconds"]), float(row["end_seconds"])) for row in rows[:5]] == [
            (1.001, 3.5), (3.25, 5.001), (17.003, 18.999), (10.0, 12.5), (15.0, 16.001),
        ]  # fmt: skip
        assert rows[0]["duration_seconds"] == "2.499"
        assert json.loads(rows[0]["labels"]) == {"FEMALE_BREAST_EXPOSED": 0.91}
        assert rows[5]["note"] == "Stream 0: 3 of 500 packets gave no picture."

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_breaks_the_table_or_is_a_formula(self, text: str) -> None:
        row = segment(1.0, 2.0, category=text, id=text, action=text, labels={text: 0.5})
        made = dataclasses.replace(film([row]), notes=(text,))
        data = export(made, "csv").decode()
        rows = list(csv.reader(io.StringIO(data, newline=""), strict=True))
        assert len(rows) == 1 + 1 + 2 + 1
        assert data.count("\r\n") == data.count("\n") == len(rows)
        assert {len(cells) for cells in rows} == {13}
        assert not [cell for cells in rows[1:] for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert rows[1][1] in (legible(text, 2000), f"'{legible(text, 2000)}")

    def test_times_stay_the_sources_own(self) -> None:
        account = [Covered(-0.5, 9.5, "analysed")]
        made = film([segment(-0.25, 1.5)], account, start_seconds=-0.5, duration_seconds=10.0)
        (row,) = csv.DictReader(io.StringIO(export(made, "csv").decode(), newline=""))
        assert (row["start_seconds"], row["end_seconds"]) == ("-0.25", "1.5")

    def test_it_says_what_a_reviewer_decided(self) -> None:
        changed = dataclasses.replace(SEGMENTS[2], end_seconds=19.5)
        added = segment(6.0, 7.0, id="a1")
        at = datetime(2026, 11, 21, tzinfo=UTC)
        made = reviewed(
            film(), [SEGMENTS[0], changed, added], reviewer="Ada", at=at, tool="a test",
            undecided=["s1"], notes={"a1": "=overlooked"},
        )  # fmt: skip
        rows = list(csv.DictReader(io.StringIO(export(made, "csv").decode(), newline="")))
        assert [(row["id"], row["decision"], row["note"]) for row in rows[:3]] == [
            ("s1", "", ""), ("a1", "added", "'=overlooked"), ("s3", "changed", ""),
        ]  # fmt: skip

    def test_further_streams_are_named(self) -> None:
        cover = dataclasses.replace(stream([], 2, "cover"), coverage=())
        made = film([segment(0.0, 1.0, stream=2, kind="cover")], [Covered(0.0, SECONDS, "analysed")], cover)
        rows = list(csv.DictReader(io.StringIO(export(made, "csv").decode(), newline="")))
        assert [(row["verdict"], row["stream"]) for row in rows] == [("block", "2 (cover)"), ("unsampled", "2 (cover)")]


class TestWebVtt:
    def test_webvtt_py_reads_the_cues(self) -> None:
        text = export(film(), "webvtt").decode()
        cues = webvtt.from_string(text).captions
        assert [(milliseconds(cue.start), milliseconds(cue.end), cue.identifier) for cue in cues] == [
            (1001, 3500, "segment 1"), (3250, 5001, "segment 2"), (10_000, 12_500, "unseen 1"),
            (15_000, 16_001, "unseen 2"), (17_003, 18_999, "segment 3"),
        ]  # fmt: skip
        assert cues[0].lines == ["Block: explicit 0.91", "FEMALE_BREAST_EXPOSED 0.91"]
        assert [cue.text for cue in cues][2:4] == ["Not looked at", "Could not be decoded"]
        assert "partial" in text.split("\n\n")[1]
        assert "3 of 500 packets" in text.split("\n\n")[1]

    @needs_ffmpeg
    def test_ffmpeg_reads_the_cues(self, tmp_path: Path) -> None:
        path = tmp_path / "film.vtt"
        path.write_bytes(export(film(), "webvtt"))
        found = json.loads(run(FFPROBE, "-v", "error", "-of", "json", "-show_packets", path))["packets"]
        assert [(row["pts"], row["pts"] + row["duration"]) for row in found] == [
            (1001, 3500), (3250, 5001), (10_000, 12_500), (15_000, 16_001), (17_003, 18_999),
        ]  # fmt: skip

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_breaks_out_of_a_cue(self, text: str) -> None:
        rows = [segment(float(t), t + 0.5, category=text, id=text, labels={text: 0.5}) for t in range(3)]
        cover = segment(0.0, 1.0, category=text, stream=1, kind="cover", labels={text: 0.5})
        made = dataclasses.replace(film([*rows, cover], name=text), notes=(text,))
        cues = webvtt.from_string(export(made, "webvtt").decode(), strict=True).captions
        assert len(cues) == 3 + 2
        assert [milliseconds(cue.start) for cue in cues] == [0, 1000, 2000, 10_000, 15_000]
        assert all(
            html.unescape(cue.raw_text.split("\n")[0]) == f"Block: {(legible(text, 60) or 'unnamed')} 0.91"
            for cue in cues[:3]
        )
        assert all(len(cue.lines) == 2 and "<" not in cue.raw_text for cue in cues[:3])

    def test_what_has_no_place_in_time_stands_at_the_beginning(self) -> None:
        made = film([segment(0.0, 1.0, stream=1, kind="cover")])
        text = export(made, "webvtt").decode()
        assert "\nBlock: explicit, stream 1 (cover), peak 0.91" in text.split("\n\n")[1]
        assert [cue.identifier for cue in webvtt.from_string(text).captions] == ["unseen 1", "unseen 2"]


class TestChapters:
    EXPECTED = (
        (0, 1001, "Nothing found"),
        (1001, 3250, "Block: explicit 0.91"),
        (3250, 3500, "Block: explicit 0.91; Review: nsfw 0.42"),
        (3500, 5001, "Review: nsfw 0.42"),
        (5001, 10_000, "Nothing found"),
        (10_000, 12_500, "Not looked at"),
        (12_500, 15_000, "Nothing found"),
        (15_000, 16_001, "Could not be decoded"),
        (16_001, 17_003, "Nothing found"),
        (17_003, 18_999, "Block: nsfw 0.91"),
        (18_999, 20_000, "Nothing found"),
    )

    def muxed(self, made: Timeline, folder: Path, suffix: str, source: Path | None = None) -> Path:
        """A real film with the chapters in it, as the module's documentation says."""
        folder.mkdir(exist_ok=True)
        source = source or make(folder / "film.mp4", Video(count=int(SECONDS) * RATE, gop=100))
        (folder / "chapters.txt").write_bytes(export(made, "ffmetadata"))
        output = folder / f"with-chapters{suffix}"
        run(
            FFMPEG, "-v", "error", "-i", source, "-i", folder / "chapters.txt", "-map_metadata", "0",
            "-map_chapters", "1", "-codec", "copy", "-y", output,
        )  # fmt: skip
        return output

    def probed(self, path: Path) -> list[tuple[int, int, str]]:
        rows = json.loads(run(FFPROBE, "-v", "error", "-of", "json", "-show_chapters", path))["chapters"]
        return [
            (round(float(row["start_time"]) * 1000), round(float(row["end_time"]) * 1000), row["tags"]["title"])
            for row in rows
        ]

    @needs_ffmpeg
    @pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
    def test_ffmpeg_puts_them_into_a_film(self, suffix: str, tmp_path: Path) -> None:
        assert self.probed(self.muxed(film(), tmp_path, suffix)) == list(self.EXPECTED)

    @needs_ffmpeg
    @needs_mkvtoolnix
    @pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
    def test_mkvmerge_takes_them_from_there(self, suffix: str, tmp_path: Path) -> None:
        path, again = self.muxed(film(), tmp_path, suffix), tmp_path / "again.mkv"
        (known,) = json.loads(run(MKVMERGE, "-J", path))["chapters"]
        assert known["num_entries"] == len(self.EXPECTED)
        run(MKVMERGE, "-o", again, path)
        atoms = list(ET.fromstring(run(MKVEXTRACT, again, "chapters", "-")).iter("ChapterAtom"))
        assert [
            (milliseconds(atom.findtext("ChapterTimeStart", "")), atom.findtext("ChapterDisplay/ChapterString"))
            for atom in atoms
        ] == [(start, title) for start, _, title in self.EXPECTED]

    @needs_ffmpeg
    def test_no_text_breaks_out_of_a_title(self, tmp_path: Path) -> None:
        rows = [segment(k / 4, (k + 1) / 4, category=text, labels={text: 0.5}) for k, text in enumerate(HOSTILE)]
        account = [Covered(0.0, SECONDS, "analysed")]
        cover = segment(0.0, 1.0, category="\\", stream=1, kind="cover", labels={"\\": 0.5})
        made = dataclasses.replace(film([*rows, cover], account), notes=HOSTILE, status="partial")
        found = self.probed(self.muxed(made, tmp_path, ".mkv"))
        names = [f"Block: {(legible(text, 60) or 'unnamed')} 0.91" for text in HOSTILE]
        # Neighbours of one name are one chapter.
        expected = [name for before, name in zip(["", *names], names, strict=False) if name != before]
        assert [row[2] for row in found] == [*expected, "Nothing found"]
        assert found[-1][:2] == (len(HOSTILE) * 250, 20_000)

    @needs_ffmpeg
    @pytest.mark.parametrize("offset", ["10", "-3"])
    def test_a_chapter_begins_at_the_picture_that_was_meant(self, offset: str, tmp_path: Path) -> None:
        plain = make(tmp_path / "plain.mkv", Video(count=200, gop=25), sound_seconds=8.0)
        late = tmp_path / "late.ts"
        # Sound begins first, and neither at 0.
        run(
            FFMPEG, "-v", "error", "-i", plain, "-itsoffset", "-0.32", "-i", plain, "-map", "0:v", "-map", "1:a",
            "-codec", "copy", "-output_ts_offset", offset, "-avoid_negative_ts", "disabled", late,
        )  # fmt: skip
        facts = json.loads(run(FFPROBE, "-v", "error", "-of", "json", "-show_streams", "-show_format", late))
        (start,) = [float(row["start_time"]) for row in facts["streams"] if row["codec_type"] == "video"]
        container = float(facts["format"]["start_time"])
        assert container < start - 0.3
        assert abs(start) > 1
        shown = [start + number / RATE for number in (60, 100)]
        made = film(
            [segment(round(shown[0], 6), round(shown[1], 6))], [Covered(start, start + 8.0, "analysed")],
            start_seconds=start, duration_seconds=8.0, container_start_seconds=container,
        )  # fmt: skip
        output = self.muxed(made, tmp_path / "out", ".mkv", late)
        chapter = next(row for row in self.probed(output) if row[2].startswith("Block"))
        with av.open(str(output)) as container_of:
            pictures = {round(frame.time * 1000): number_in(frame) for frame in container_of.decode(video=0)}
        assert [number for at, number in pictures.items() if chapter[0] <= at < chapter[1]] == list(range(60, 100))

    @given(timelines())
    @settings(deadline=None, max_examples=80, suppress_health_check=SLOW)
    def test_they_tile_the_film(self, made: Timeline) -> None:
        text = export(made, "ffmetadata").decode()
        assert text.startswith(";FFMETADATA1\n")
        head, *blocks = text.split("[CHAPTER]\n")
        assert ("comment=" in head) == (made.status != "complete")
        spans = []
        for block in blocks:
            base, start, end, title, rest = block.split("\n", 4) if block.count("\n") > 4 else (*block.split("\n", 4),)
            assert (base, rest) == ("TIMEBASE=1/1000", "")
            assert title.startswith("title=")
            spans.append((int(start.removeprefix("START=")), int(end.removeprefix("END="))))
        assert all(start < end for start, end in spans)
        assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
        assert not spans or spans[0][0] == 0
        assert max((end for _, end in spans), default=0) >= length(made)

    def test_of_what_claims_no_length_only_the_comment_speaks(self) -> None:
        made = film([], duration_seconds=0.0, video=None)
        made = dataclasses.replace(
            made, streams=(), coverage=(), status="unscannable", notes=("film.mp4: no frame of it; try again.",)
        )
        lines = export(made, "ffmetadata").decode().splitlines()
        assert lines[-1] == "comment=vidmod: block, unscannable. film.mp4: no frame of it\\; try again."


class TestEdl:
    def read(self, made: Timeline) -> Any:
        data = export(made, "edl")
        player = kodi(data)
        assert player.complaints == []
        assert mplayer(data).complaints == []
        assert mplayer(data).edits == player.edits
        return player

    def test_kodi_and_mplayer_obey_it(self) -> None:
        player = self.read(film())
        assert player.edits == [Edit(1001, 3500, CUT), Edit(17_003, 18_999, CUT)]
        # What is to be reviewed begins in a cut, and is marked where it can be seen.
        assert player.scenes == [3501, 10_000, 15_000]
        assert b"## 00:00:10.000 to 00:00:12.500 Not looked at\n" in export(film(), "edl")

    @pytest.mark.parametrize(
        ("action", "verdict", "edits", "scenes"),
        [
            ("cover", "block", [Edit(2000, 3000, CUT)], []),
            ("cut", "block", [Edit(2000, 3000, CUT)], []),
            ("mute", "block", [Edit(2000, 3000, MUTE)], []),
            ("report", "block", [], [2000]),
            ("of a later version", "block", [Edit(2000, 3000, CUT)], []),
            ("cover", "review", [], [2000]),
            ("cut", "review", [], [2000]),
            ("mute", "review", [], [2000]),
        ],
    )
    def test_what_becomes_of_a_segment(self, action: str, verdict: Any, edits: list[Edit], scenes: list[int]) -> None:
        made = film([segment(2.0, 3.0, verdict=verdict, action=action)], [Covered(0.0, SECONDS, "analysed")])
        player = self.read(made)
        assert (player.edits, player.scenes) == (edits, scenes)

    def test_every_millisecond_survives_kodis_arithmetic(self) -> None:
        for first in range(0, 19_000, 500):
            # Each a millisecond long, and one apart from the next.
            rows = [segment(t / 1000, (t + 1) / 1000) for t in range(first, first + 500, 3)]
            player = self.read(film(rows, [Covered(0.0, SECONDS, "analysed")]))
            assert player.cuts == [(t, t + 1) for t in range(first, first + 500, 3)]

    def test_cuts_that_touch_become_one_and_mutes_give_way(self) -> None:
        rows = [
            segment(1.0, 2.0),
            segment(2.0, 3.0, "nsfw"),
            segment(2.5, 2.75),
            segment(0.5, 4.0, action="mute"),
            segment(2.2, 2.3, action="mute"),
        ]
        player = self.read(film(rows, [Covered(0.0, SECONDS, "analysed")]))
        assert player.edits == [Edit(500, 999, MUTE), Edit(1000, 3000, CUT), Edit(3001, 4000, MUTE)]

    def test_a_further_video_track_is_cut_too_and_cover_art_is_told_of(self) -> None:
        rows = [segment(1.0, 2.0, stream=1, kind="video"), segment(0.0, 1.0, stream=2, kind="cover")]
        made = film(rows, [Covered(0.0, SECONDS, "analysed")])
        assert self.read(made).cuts == [(1000, 2000)]
        assert b"## Block: explicit, stream 2 (cover), peak 0.91" in export(made, "edl")

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_is_taken_for_an_edit(self, text: str) -> None:
        for pad in range(0, 100, 7):
            name = "x" * pad + text
            made = film([segment(1.0, 2.0, name, "review", labels={name: 0.5})], name=name)
            made = dataclasses.replace(made, notes=(name,))
            player = self.read(made)
            assert player.edits == []
            assert player.scenes == [1000, 10_000, 15_000]

    @given(timelines())
    @settings(deadline=None, max_examples=150, suppress_health_check=SLOW)
    def test_nothing_that_blocks_is_shown(self, made: Timeline) -> None:
        player = self.read(made)
        for row in made.segments:
            if row.verdict == "block" and row.action in ("cover", "cut") and row.kind in (None, "video", "view"):
                known = made.source.get("container_start_seconds")
                origin = round((made.source["start_seconds"] if known is None else known) * 1e6)
                start = max(0, (round(row.start_seconds * 1e6) - origin) // 1000)
                end = max(start + 1, -(-(round(row.end_seconds * 1e6) - origin) // 1000))
                assert not player.shows(start, end)


class TestMovieContentFilter:
    def test_it_keeps_to_the_specification(self) -> None:
        about, cues = movie_content_filter(export(film(), "mcf"))
        assert [cue[:5] for cue in cues] == [
            (1001, 3500, "toplessness", "high", "video"),
            (3250, 5001, "nudity", "medium", "video"),
            (17_003, 18_999, "nudity", "high", "video"),
        ]
        assert cues[0].comment == "explicit 0.91"
        assert (about["TITLE"], about["START"], about["END"]) == ("film.mp4", "00:00:00.000", "00:00:20.000")
        assert "not looked at 00:00:10.000 to 00:00:12.500" in about["COMMENT"]
        assert "3 of 500 packets" in about["COMMENT"]
        assert len(webvtt.from_string(export(film(), "mcf").decode(), strict=True)) == 3

    @pytest.mark.parametrize(
        ("category", "labels", "words"),
        [
            ("explicit", {"FEMALE_BREAST_EXPOSED": 0.9, "BUTTOCKS_EXPOSED": 0.5}, ["toplessness", "bareButtocks"]),
            ("explicit", {"MALE_GENITALIA_EXPOSED": 0.9}, ["exposedGenitalia"]),
            ("nsfw", {"nsfw": 0.9}, ["nudity"]),
            ("Gore", {}, ["violence"]),
            ("weapons", {}, ["weapons"]),
            ("cruelty-to-animals", {}, ["crueltyToAnimals"]),
            ("logo", {"brand": 0.9}, ["dispensable"]),
        ],
    )
    def test_the_words_are_the_specifications(self, category: str, labels: dict[str, float], words: list[str]) -> None:
        _, cues = movie_content_filter(export(film([segment(1.0, 2.0, category, labels=labels)]), "mcf"))
        assert [cue.category for cue in cues] == words
        assert all(cue.comment == f"{category} 0.91" for cue in cues)

    @pytest.mark.parametrize(("action", "channel"), [("cover", "video"), ("cut", "both"), ("mute", "audio")])
    def test_the_channel_is_what_is_acted_on(self, action: str, channel: str) -> None:
        _, (cue,) = movie_content_filter(export(film([segment(1.0, 2.0, action=action)]), "mcf"))
        assert cue.channel == channel

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_breaks_out_of_a_comment(self, text: str) -> None:
        made = dataclasses.replace(
            film([segment(1.0, 2.0, text, id=text, labels={text: 0.1})], name=text), notes=(text,)
        )
        about, cues = movie_content_filter(export(made, "mcf"))
        assert [(cue.start, cue.end, cue.category) for cue in cues] == [(1000, 2000, "dispensable")]
        assert set(about) <= {"TITLE", "COMMENT", "START", "END"}

    @given(timelines())
    @settings(deadline=None, max_examples=80, suppress_health_check=SLOW)
    def test_any_timeline_keeps_to_it(self, made: Timeline) -> None:
        about, cues = movie_content_filter(export(made, "mcf"))
        assert made.status in about["COMMENT"]
        assert len(cues) >= len([row for row in made.segments if row.kind in (None, "video", "view")])


class TestOpenTimelineIo:
    otio = pytest.importorskip("opentimelineio", reason="OpenTimelineIO has no build for this Python")

    def read(self, made: Timeline) -> Any:
        return self.otio.adapters.read_from_string(export(made, "otio").decode(), "otio_json")

    def spans(self, ranges: Sequence[Any]) -> list[tuple[float, float]]:
        return [
            (round(row.start_time.to_seconds(), 9), round(row.end_time_exclusive().to_seconds(), 9)) for row in ranges
        ]

    @pytest.mark.parametrize("rate", ["25/1", "30000/1001", "24000/1001", "60/1", None, "0/1", "90000/1"])
    def test_markers_and_gaps_to_the_millisecond(self, rate: str | None) -> None:
        document = self.read(film(video={**VIDEO, "average_rate": rate}))
        markers = document.tracks.markers
        assert self.spans([row.marked_range for row in markers]) == [(1.001, 3.5), (3.25, 5.001), (17.003, 18.999)]
        assert [(row.name, row.color) for row in markers][:2] == [
            ("Block: explicit", "RED"),
            ("Review: nsfw", "ORANGE"),
        ]
        assert markers[0].metadata["vidmod"]["labels"]["FEMALE_BREAST_EXPOSED"] == 0.91
        (track,) = document.tracks
        gaps = [item for item in track if isinstance(item, self.otio.schema.Gap)]
        assert self.spans([track.range_of_child(gap) for gap in gaps]) == [(10.0, 12.5), (15.0, 16.001)]
        assert [gap.metadata["vidmod"]["state"] for gap in gaps] == ["unsampled", "undecodable"]
        clips = document.find_clips()
        assert self.spans([clip.source_range for clip in clips]) == [(0.0, 10.0), (12.5, 15.0), (16.001, 20.0)]
        assert self.spans([track.range_of_child(clip) for clip in clips]) == self.spans([c.source_range for c in clips])
        assert {clip.media_reference.target_url for clip in clips} == {"film.mp4"}
        assert document.global_start_time.rate == pytest.approx({None: 1000, "0/1": 1000, "90000/1": 1000}.get(
            rate, float(Fraction(rate or 0))))  # fmt: skip
        about = document.metadata["vidmod"]
        assert (about["status"], about["verdict"]) == ("partial", "block")

    def test_it_counts_from_the_start_of_the_file(self) -> None:
        account = [Covered(10.5, 20.5, "analysed")]
        made = film(
            [segment(12.0, 13.0)], account, start_seconds=10.5, duration_seconds=10.0, container_start_seconds=10.0
        )
        document = self.read(made)
        assert self.spans([document.tracks.markers[0].marked_range]) == [(2.0, 3.0)]
        assert document.metadata["vidmod"]["zero_is_source_seconds"] == 10.0
        assert document.tracks.markers[0].metadata["vidmod"]["start_seconds"] == 12.0

    def test_it_says_who_decided(self) -> None:
        at = datetime(2026, 11, 21, tzinfo=UTC)
        made = reviewed(film(), SEGMENTS[:1], reviewer="Ada", at=at, tool="a test", note="done")
        document = self.read(made)
        assert dict(document.metadata["vidmod"]["review"]) == {
            "reviewer": "Ada", "reviewed": "2026-11-21T00:00:00+00:00", "note": "done", "tool": "a test",
        }  # fmt: skip
        assert [row.metadata["vidmod"]["decision"] for row in document.tracks.markers] == ["accepted"]

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_breaks_it_or_leads_elsewhere(self, text: str) -> None:
        row = segment(1.0, 2.0, text, id=text, action=text, labels={text: 0.5})
        document = self.read(dataclasses.replace(film([row], name=text), notes=(text,)))
        (marker,) = document.tracks.markers
        assert marker.name == f"Block: {(legible(text, 60) or 'unnamed')}"
        urls = {clip.media_reference.target_url for clip in document.find_clips()}
        assert not [url for url in urls if "/" in url or ":" in url or "\n" in url]

    @given(timelines())
    @settings(deadline=None, max_examples=80, suppress_health_check=SLOW)
    def test_any_timeline_is_read_and_is_as_long_as_the_film(self, made: Timeline) -> None:
        document = self.read(made)
        (track,) = document.tracks
        assert track.duration().to_seconds() == pytest.approx(length(made) / 1000, abs=2e-3) if len(track) else True
        assert len(document.tracks.markers) >= len(made.segments)
        assert json.loads(export(made, "otio"))["OTIO_SCHEMA"] == "Timeline.1"


class TestPlot:
    def drawn(self, made: Timeline) -> Any:
        image = Image.open(io.BytesIO(export(made, "png")))
        image.load()
        return image

    def strip_columns(self, image: Any, color: tuple[int, int, int], least: int = 10) -> list[float]:
        """Where a bar of a colour is at least so many pixels high."""
        pixels = np.asarray(image.convert("RGB")).astype(int)
        left, right = round(0.55 * 160), round((10 - 0.95) * 160)
        area = pixels[: image.height - 90, left : right + 1]
        hit = (np.abs(area - np.array(color)).max(axis=2) <= 3).sum(axis=0) >= least
        return [place / (right - left) for place in np.flatnonzero(hit)]

    def test_it_is_the_same_file_each_time_and_names_nobody(self) -> None:
        data = export(film(), "png")
        assert data == export(film(), "png")
        chunks, place = [], 8
        while place < len(data):
            size = int.from_bytes(data[place : place + 4], "big")
            chunks.append(data[place + 4 : place + 8])
            place += 12 + size
        assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
        assert self.drawn(film()).width == 1600

    def test_segments_are_where_they_are(self) -> None:
        image = self.drawn(film())
        strips = self.strip_columns(image, (0xD5, 0x5E, 0x00))
        assert min(strips) == pytest.approx(1.001 / 20, abs=0.003)
        assert max(strips) == pytest.approx(18.999 / 20, abs=0.003)
        assert not [at for at in strips if 3.6 / 20 < at < 16.9 / 20]

    def test_unseen_stretches_are_hatched(self) -> None:
        image = self.drawn(film([]))
        hatched = self.strip_columns(image, (0xF2, 0xF2, 0xF2), 50)
        assert hatched
        assert all(9.9 / 20 <= at <= 12.6 / 20 or 14.9 / 20 <= at <= 16.1 / 20 for at in hatched)
        assert (
            self.strip_columns(self.drawn(film([], [Covered(0.0, SECONDS, "analysed")])), (0xF2, 0xF2, 0xF2), 50) == []
        )

    def test_one_picture_in_two_hours_is_seen(self) -> None:
        rows = [sample(t / 2, 0.99 if t == 7000 else 0.01, shown=0.5) for t in range(14_400)]
        quiet = [sample(t / 2, 0.01, shown=0.5) for t in range(14_400)]
        image = self.drawn(timeline(stream(rows)))
        pixels, without = (
            np.asarray(item.convert("RGB")).astype(int) for item in (image, self.drawn(timeline(stream(quiet))))
        )
        changed = np.flatnonzero((pixels != without).any(axis=2).any(axis=0))
        assert len(changed)
        left, right = round(0.55 * 160), round((10 - 0.95) * 160)
        assert [(at - left) / (right - left) for at in (changed[0], changed[-1])] == pytest.approx(
            [7000 / 14_400] * 2, abs=0.004
        )
        # It reaches the top of its panel.
        assert len(np.flatnonzero((pixels != without).any(axis=2).any(axis=1))) >= 0.9 * 0.92 * 160

    def test_a_short_segment_in_two_hours_is_seen(self) -> None:
        made = timeline(stream([sample(float(t), 0.01, shown=1.0) for t in range(7200)]))
        made = dataclasses.replace(made, segments=(segment(3600.0, 3600.001),))
        strips = self.strip_columns(self.drawn(made), (0xD5, 0x5E, 0x00))
        assert len(strips) >= 2
        assert strips == pytest.approx([0.5] * len(strips), abs=0.004)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_is_only_text(self, text: str) -> None:
        made = dataclasses.replace(film([segment(1.0, 2.0, text, labels={text: 0.5})], name=text), notes=(text,))
        assert self.drawn(made).width == 1600

    def test_a_policy_of_a_later_version_leaves_the_segments(self) -> None:
        made = film()
        made = dataclasses.replace(made, provenance={**made.provenance, "policy": {"schema": "vidmod.policy/9"}})
        assert self.strip_columns(self.drawn(made), (0xD5, 0x5E, 0x00))

    def test_a_hundred_categories_stay_a_picture(self) -> None:
        rows = [segment(k / 10, k / 10 + 1, f"c{k}", "block" if k == 99 else "review") for k in range(100)]
        image = self.drawn(film(rows))
        assert image.height < 4000
        assert self.strip_columns(image, (0xD5, 0x5E, 0x00)), "the worst has its panel"

    def test_no_setting_of_the_users_changes_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import matplotlib

        data = export(film(), "png")
        with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "font.size": 30}):
            assert export(film(), "png") == data
            assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("name", ["csv", "webvtt", "ffmetadata", "edl", "mcf", "otio"])
def test_of_what_could_not_be_scanned_each_says_so(name: str) -> None:
    made = film([], duration_seconds=0.0, video=None)
    made = dataclasses.replace(made, streams=(), coverage=(), status="unscannable", notes=("No frame of it decodes.",))
    data = export(made, name)
    assert b"unscannable" in data
    assert b"No frame of it decodes." in data


def test_without_opentimelineio_only_its_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    monkeypatch.delitem(sys.modules, "vidmod.exports.otio", raising=False)
    with pytest.raises(UsageError, match="otio: needs the package opentimelineio"):
        export(film(), "otio")
    assert export(film(), "edl")


@pytest.mark.parametrize("name", ["csv", "webvtt", "ffmetadata", "edl", "mcf", "otio", "png"])
def test_half_a_character_is_written_as_none(name: str) -> None:
    """A file that holds one is refused, but a library's user may have one in memory."""
    half = "half \ud83d"
    row = segment(1.0, 2.0, half, id=half, action=half, labels={half: 0.5})
    made = dataclasses.replace(film([row], name=half), notes=(half,))
    data = export(made, name)
    if name != "png":
        assert "half \ufffd" in (data.decode() if name != "otio" else str(json.loads(data)))


def test_a_judged_timeline_of_a_detector_goes_everywhere() -> None:
    rows = [sample(t / 2, 0.99 if 8 <= t < 12 else 0.01, ("FEMALE_BREAST_EXPOSED", 0.8), shown=0.5) for t in range(40)]
    made = judge(timeline(stream(rows)))
    assert kodi(export(made, "edl")).cuts == [(0, 20_000)]
    assert {cue.category for cue in movie_content_filter(export(made, "mcf"))[1]} == {"toplessness", "nudity"}
