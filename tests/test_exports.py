"""What holds for every format: any timeline can be written in it, again and again the same; and the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.drawn import timelines
from tests.timelines import sample, stream, timeline
from vidmod import export, judge
from vidmod.errors import UsageError
from vidmod.exports import FORMATS
from vidmod.timeline import Timeline

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
# Drawing takes its time.
EXAMPLES = {"png": 20}


@pytest.mark.parametrize("name", FORMATS)
def test_any_timeline_can_be_exported(name: str) -> None:
    @given(timelines())
    @settings(deadline=None, max_examples=EXAMPLES.get(name, 50), suppress_health_check=SLOW)
    def exported(made: Timeline) -> None:
        first = export(made, name)
        assert first
        assert export(made, name) == first
        if not FORMATS[name].is_binary:
            assert "\x00" not in first.decode("utf-8")

    exported()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_says_what_it_is(name: str) -> None:
    assert FORMATS[name].suffix.startswith(".")
    assert FORMATS[name].says


@pytest.mark.parametrize("name", ["", "CSV", "../csv", "exports.csv", "clock", "wording", "os"])
def test_only_formats_are_formats(name: str) -> None:
    with pytest.raises(UsageError, match=r"Invalid format .* Choose one of csv, "):
        export(judged(), name)


def judged() -> Timeline:
    """A film of 20 s in which something was found."""
    rows = [sample(t / 2, 0.99 if 8 <= t < 16 else 0.01, ("FEMALE_BREAST_EXPOSED", 0.8), shown=0.5) for t in range(40)]
    return judge(timeline(stream(rows)))


def unscannable() -> Timeline:
    """A file of which nothing is known but that it is no film."""
    made = judged()
    source = {**made.source, "video": None, "duration_seconds": 0.0, "format": None, "audio": []}
    return dataclasses.replace(
        made, source=source, status="unscannable", verdict="review", coverage=(), segments=(), streams=(),
        notes=("film.mp4: no frame of it can be decoded.",),
    )  # fmt: skip


def vidmod(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "vidmod", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timeline") / "film.json"
    judged().write(path)
    return path


class TestCommand:
    @pytest.mark.parametrize("name", FORMATS)
    def test_to_a_file_and_to_a_pipe(self, name: str, path: Path, tmp_path: Path) -> None:
        output = tmp_path / f"film{FORMATS[name].suffix}"
        result = vidmod(path, "--to", name, "-o", output)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        piped = vidmod(path, "--to", name)
        assert (piped.returncode, piped.stderr) == (0, b"")
        assert piped.stdout == output.read_bytes() == export(Timeline.read(path), name)
        assert [item.name for item in tmp_path.iterdir()] == [output.name]

    @pytest.mark.parametrize("name", FORMATS)
    def test_to_a_folder_that_is_not_there(self, name: str, path: Path, tmp_path: Path) -> None:
        result = vidmod(path, "--to", name, "-o", tmp_path / "none" / "film.out")
        assert result.returncode == 1
        assert b"Check that its folder exists" in result.stderr
        assert not [*tmp_path.iterdir()]

    def test_from_a_pipe(self, path: Path) -> None:
        result = vidmod("-", "--to", "csv", "-o", "-", input=path.read_bytes())
        assert result.returncode == 0
        assert result.stdout == export(Timeline.read(path), "csv")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.update(schema="vidmod.timeline/2"), "this vidmod reads 'vidmod.timeline/1'"),
            (lambda d: d["segments"][0].update(start_seconds="1"), "segments[0].start_seconds"),
            (lambda d: d["source"].update(container_start_seconds="now"), "source.container_start_seconds"),
            (lambda d: d.pop("coverage"), "coverage"),
        ],
    )
    def test_a_wrong_field_is_named(self, change: Any, message: str, path: Path, tmp_path: Path) -> None:
        document = json.loads(path.read_text("utf-8"))
        change(document)
        wrong, output = tmp_path / "wrong.json", tmp_path / "out.csv"
        wrong.write_text(json.dumps(document), "utf-8")
        output.write_text("before", "utf-8")
        result = vidmod(wrong, "--to", "csv", "-o", output)
        assert result.returncode == 2
        assert "wrong.json: " in result.stderr.decode()
        assert message in result.stderr.decode()
        assert output.read_text("utf-8") == "before"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is not whole JSON"),
            (b'{"schema": "vidmod.timeline/1", "source": {', "is not whole JSON"),
            (b"\xff\xfe{}", "cannot be read"),
            (b"[]", "is not of type"),
            (b'{"note": "\\ud800"}', "surrogates not allowed"),
        ],
    )
    def test_damage_is_told(self, data: bytes, message: str, tmp_path: Path) -> None:
        damaged = tmp_path / "film.json"
        damaged.write_bytes(data)
        result = vidmod(damaged, "--to", "webvtt")
        assert (result.returncode, result.stdout) == (2, b"")
        assert message in result.stderr.decode()
        assert "Traceback" not in result.stderr.decode()

    def test_a_timeline_that_is_not_there_and_a_format_that_is_none(self, path: Path, tmp_path: Path) -> None:
        result = vidmod(tmp_path / "none.json", "--to", "csv")
        assert result.returncode == 2
        assert b"there is no such timeline" in result.stderr
        result = vidmod(path, "--to", "avi")
        assert result.returncode == 2
        assert ", ".join(FORMATS) in result.stderr.decode()
        assert vidmod(path).returncode == 2

    @pytest.mark.parametrize("name", FORMATS)
    def test_of_what_could_not_be_scanned_nothing_passes_for_clean(self, name: str, tmp_path: Path) -> None:
        timeline_path = tmp_path / "film.json"
        unscannable().write(timeline_path)
        result = vidmod(timeline_path, "--to", name, "-o", tmp_path / "out")
        assert result.returncode == 0, result.stderr
        told = b"is not known to be clean" in result.stderr
        assert told != FORMATS[name].tells_unknown
        assert vidmod(timeline_path, "--to", name, "--quiet").stderr == b""

    def test_a_picture_is_not_for_a_terminal(self, path: Path) -> None:
        leader, follower = pty.openpty()
        command = [sys.executable, "-m", "vidmod", "export", str(path), "--to", "png"]
        result = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, timeout=120)
        os.close(follower)
        os.close(leader)
        assert result.returncode == 2
        assert b"png is not for a terminal. Name a file with -o." in result.stderr

    def test_a_full_disk_is_told(self, path: Path) -> None:
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "vidmod", "export", str(path), "--to", "csv"]
            result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120)
        assert result.returncode == 1
        assert b"Standard output cannot be written (No space left on device)" in result.stderr

    def test_the_help_lists_every_format(self) -> None:
        text = vidmod("--help").stdout.decode()
        assert all(f"  {name} " in text and row.says[:20] in text for name, row in FORMATS.items())
