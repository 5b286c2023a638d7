from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.timelines import sample, stream, timeline
from vidmod.errors import OutputError, TimelineError
from vidmod.judging import judge
from vidmod.outputs import write_whole
from vidmod.policy import Policy
from vidmod.timeline import Timeline


@pytest.fixture
def film() -> Timeline:
    main = stream([sample(t / 2, 0.9 if 4 < t < 9 else 0.01, ("FACE_FEMALE", 0.8)) for t in range(20)])
    return judge(timeline(main, stream([sample(0.0, 0.5)], 2, "cover")), Policy.default())


class TestDocument:
    def test_it_has_every_field_of_the_contract(self, film: Timeline) -> None:
        document = film.as_document()
        assert set(document) >= {
            "schema", "source", "status", "verdict", "coverage", "segments", "samples", "tracks", "provenance",
        }  # fmt: skip
        assert document["schema"] == "vidmod.timeline/1"
        assert document["samples"][5] == {
            "pts": 2500,
            "time_seconds": 2.5,
            "duration_seconds": 0.04,
            "scores": {"open_nsfw": {"nsfw": 0.9}},
            "detections": [{"model": "nudenet", "label": "FACE_FEMALE", "score": 0.8, "box": [1.0, 2.0, 30.0, 40.5]}],
        }
        (row,) = [segment for segment in document["segments"] if "stream" not in segment]
        assert set(row) >= {"id", "category", "verdict", "start_seconds", "end_seconds", "peak", "mean", "labels"}

    def test_both_texts_hold_the_same_document(self, film: Timeline) -> None:
        indented, compact = "".join(film.dumps()), "".join(film.dumps(compact=True))
        assert json.loads(indented) == json.loads(compact) == film.as_document()
        assert compact.count("\n") == 1
        lines = [line for line in indented.splitlines() if '"pts"' in line]
        assert len(lines) == film.sample_count

    def test_it_reads_what_it_writes(self, film: Timeline, tmp_path: Path) -> None:
        path = tmp_path / "film.json"
        film.write(path)
        assert Timeline.read(path) == film
        assert [item.name for item in tmp_path.iterdir()] == ["film.json"]

    def test_a_document_with_only_the_required_fields_is_read(self, film: Timeline) -> None:
        document = film.as_document()
        for extra in ("notes", "ledger", "other_streams"):
            del document[extra]
        for row in document["samples"]:
            del row["duration_seconds"]
            for item in row["detections"]:
                del item["model"]
        for segment in document["segments"]:
            del segment["action"]
        assert len(Timeline.from_document(document).samples) == 20

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda d: d.update(schema="vidmod.timeline/2"), "this vidmod reads 'vidmod.timeline/1'"),
            (lambda d: d.pop("coverage"), "coverage"),
            (lambda d: d["samples"][3]["scores"]["open_nsfw"].update(nsfw=1.5), "samples[3].scores.open_nsfw.nsfw"),
            (lambda d: d["samples"][3].update(pts="0"), "samples[3].pts"),
            (lambda d: d["samples"][3]["detections"][0].update(box=[1, 2, 3]), "samples[3].detections[0].box"),
            (lambda d: d["segments"][0].update(verdict="maybe"), "segments[0].verdict"),
            (lambda d: d["source"].update(sha256="12"), "source.sha256"),
        ],
    )
    def test_a_wrong_field_is_named(self, film: Timeline, change: Any, expected: str) -> None:
        document = film.as_document()
        change(document)
        with pytest.raises(TimelineError) as caught:
            Timeline.from_document(document, "film.json")
        assert str(caught.value).startswith("film.json: ")
        assert expected in str(caught.value)

    def test_a_box_inside_out_is_refused(self, film: Timeline) -> None:
        document = film.as_document()
        document["samples"][0]["detections"][0]["box"] = [30, 2, 1, 40]
        with pytest.raises(TimelineError, match="box"):
            Timeline.from_document(document)

    @pytest.mark.parametrize("text", ["", "{", "[1, 2", "\x00", '"text"', "[]", "null"])
    def test_damage_is_an_error_of_ours(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "film.json"
        path.write_text(text, "utf-8")
        with pytest.raises(TimelineError, match=r"film\.json"):
            Timeline.read(path)

    def test_half_a_surrogate_pair_is_an_error_of_ours(self, film: Timeline) -> None:
        document = film.as_document()
        document["samples"][0]["scores"] = {"m": {"a\ud800": 0.5}}
        with pytest.raises(TimelineError, match="half a surrogate pair"):
            Timeline.from_document(document)

    @pytest.mark.parametrize(
        ("number", "says"),
        [
            ("NaN", "NaN is no number"),
            ("-Infinity", "-Infinity is no number"),
            ("1e999", "1e999 is no number"),
            ("9" * 400, "is too large"),
            ("9" * 5000, "is too large"),
            ("[" * 100_000, "recursion"),
        ],
    )
    def test_a_number_that_is_no_time_is_refused(self, film: Timeline, number: str, says: str, tmp_path: Path) -> None:
        path = tmp_path / "film.json"
        path.write_text("".join(film.dumps()).replace('"time_seconds": 0.0', f'"time_seconds": {number}'), "utf-8")
        with pytest.raises(TimelineError, match=says) as caught:
            Timeline.read(path)
        assert str(caught.value).startswith(f"{path}: ")

    def test_half_a_character_is_refused_and_a_whole_one_is_not(self, film: Timeline, tmp_path: Path) -> None:
        path = tmp_path / "film.json"
        text = "".join(film.dumps())
        path.write_text(text.replace("film.mp4", "\\ud83d.mp4"), "utf-8")
        with pytest.raises(TimelineError, match="surrogates not allowed"):
            Timeline.read(path)
        path.write_text(text.replace("film.mp4", "\\ud83d\\ude00.mp4"), "utf-8")
        assert Timeline.read(path).source["name"] == "\N{GRINNING FACE}.mp4"

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TimelineError, match="no such timeline"):
            Timeline.read(tmp_path / "none.json")


class TestWriting:
    def test_the_previous_file_survives_a_failure(self, tmp_path: Path) -> None:
        path = tmp_path / "out.json"
        path.write_text("before", "utf-8")

        def parts() -> Any:
            yield "half"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_whole(path, parts())
        assert path.read_text("utf-8") == "before"
        assert [item.name for item in tmp_path.iterdir()] == ["out.json"]

    def test_a_full_disk_is_an_error_of_ours(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "out.json"
        path.write_text("before", "utf-8")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("vidmod.outputs.os.fsync", full)
        with pytest.raises(OutputError, match=r"No space left on device.*untouched"):
            write_whole(path, ["after"])
        assert path.read_text("utf-8") == "before"
        assert [item.name for item in tmp_path.iterdir()] == ["out.json"]

    def test_a_missing_folder_is_an_error_of_ours(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="Check that its folder exists"):
            write_whole(tmp_path / "none" / "out.json", ["text"])

    def test_a_device_or_pipe_is_written_to_and_stays_what_it_is(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        write_whole(pipe, ["through"])
        assert os.read(reading, 100) == b"through"
        os.close(reading)
        assert pipe.is_fifo()
        write_whole(Path(os.devnull), ["nothing"])
        assert Path(os.devnull).is_char_device()

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="Is a directory"):
            write_whole(tmp_path, ["text"])

    def test_permissions_are_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "out.json"
        path.write_text("before", "utf-8")
        path.chmod(0o640)
        write_whole(path, ["after"])
        assert path.stat().st_mode & 0o777 == 0o640
        assert path.read_text("utf-8") == "after"
