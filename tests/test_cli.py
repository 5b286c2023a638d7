"""The command line as a user runs it: real processes, real files."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from vidmod.cli import cli
from vidmod.cli.entry import _Interrupted, _told

DEMO = Path(__file__).resolve().parent.parent / "samples" / "demo.mp4"
FAST = ("--end", "3", "--models", "open_nsfw", "--fresh")


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidmod", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "80", **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    path = tmp_path_factory.mktemp("scan") / "demo.json"
    return path, run("scan", DEMO, "-o", path)


class TestScan:
    def test_it_tells_a_person_what_is_where(self, scanned: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
        path, result = scanned
        assert result.returncode == 0
        assert result.stdout == ""
        assert "demo.mp4" in result.stderr
        assert "BLOCK" in result.stderr
        assert len(re.findall(r"^  block +nsfw", result.stderr, re.MULTILINE)) == 3
        assert all(len(line) <= 80 for line in result.stderr.splitlines())
        assert json.loads(path.read_text("utf-8"))["verdict"] == "block"

    def test_it_tells_a_program_on_standard_output(self) -> None:
        result = run("scan", DEMO, "--quiet", *FAST)
        assert result.stderr == ""
        document = json.loads(result.stdout)
        assert document["schema"] == "vidmod.timeline/1"
        assert result.returncode == 4, "a part is not the whole"
        assert run("scan", DEMO, "-o", "-", "--quiet", *FAST).returncode == 4

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--fail-on", "block"], 3),
            (["--fail-on", "review"], 3),
            (["--stop-at", "block", "--fail-on", "block"], 3),
        ],
    )
    def test_fail_on(self, arguments: list[str], expected: int) -> None:
        assert run("scan", DEMO, "-o", os.devnull, *arguments).returncode == expected

    def test_json_log_is_one_object_a_line(self) -> None:
        result = run("scan", DEMO, "--json-log", *FAST)
        events = [json.loads(line) for line in result.stderr.splitlines()]
        assert events[0]["event"] == "started"
        assert events[-1]["event"] == "finished"
        assert {event["event"] for event in events} >= {"progress"}
        assert events[-1]["status"] == "partial"

    def test_a_pipe_in_and_a_pipe_out(self) -> None:
        with DEMO.open("rb") as file:
            result = run("scan", "-", "--quiet", *FAST, stdin=file)
        assert json.loads(result.stdout)["source"]["size_bytes"] == DEMO.stat().st_size

    def test_a_reader_that_leaves_does_no_harm(self) -> None:
        command = f"{sys.executable} -m vidmod scan {DEMO} --quiet {' '.join(FAST)} | head -c 10"
        result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in result.stderr
        assert "Exception" not in result.stderr

    def test_a_terminal_gets_a_summary_and_no_json(self) -> None:
        leader, follower = pty.openpty()
        command = [sys.executable, "-m", "vidmod", "scan", str(DEMO), *FAST]
        environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"}
        process = subprocess.Popen(command, stdout=follower, stderr=follower, env=environment)
        os.close(follower)
        output = b""
        while True:
            try:
                chunk = os.read(leader, 4096)
            except OSError:
                break
            if not chunk:
                break
            output += chunk
        os.close(leader)
        assert process.wait() == 4
        text = output.decode("utf-8")
        assert "PARTIAL" in text
        assert '"schema"' not in text


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    (folder / "deep" / "er").mkdir(parents=True)
    shutil.copy(DEMO, folder / "film.bin")
    shutil.copy(DEMO, folder / "deep" / "er" / "film.mp4")
    (folder / "notes.txt").write_text("no film", "utf-8")
    (folder / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(300))
    return folder


class TestManyInputs:
    def test_a_folder_is_searched_by_content(self, folder: Path, tmp_path: Path) -> None:
        result = run("scan", folder, "-o", tmp_path / "out", "--models", "open_nsfw")
        assert result.returncode == 4, "one of them is broken"
        names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.json"))
        assert names == ["broken.mp4.timeline.json", "deep/er/film.mp4.timeline.json", "film.bin.timeline.json"]
        assert "broken.mp4: an MP4" in result.stderr
        assert "notes.txt" not in result.stderr
        documents = [json.loads((tmp_path / "out" / name).read_text("utf-8")) for name in names]
        assert [document["status"] for document in documents] == ["unscannable", "complete", "complete"]

    def test_without_o_there_is_one_document_a_line(self, tmp_path: Path) -> None:
        shutil.copy(DEMO, tmp_path / "copy.mp4")
        result = run("scan", DEMO, tmp_path / "none.mp4", tmp_path / "copy.mp4", DEMO, "--quiet", *FAST)
        assert result.returncode == 4
        # As they end, and what is named twice once.
        names = [json.loads(line)["source"]["name"] for line in result.stdout.splitlines()]
        assert sorted(names) == ["copy.mp4", "demo.mp4"]
        assert "none.mp4: there is no such file" in result.stderr

    def test_a_folder_without_video(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no film", "utf-8")
        result = run("scan", tmp_path)
        assert result.returncode == 4
        assert "there is no video in this folder" in result.stderr


class TestFailure:
    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["scan"], 2, "Missing argument"),
            (["scan", "{tmp}/none.mp4"], 4, "there is no such file"),
            (["scan", "{tmp}/text.mp4"], 4, "is text"),
            (["scan", "{tmp}/empty.mp4"], 4, "empty (0 bytes)"),
            (["scan", DEMO, "--policy", "{tmp}/none.toml"], 2, "no such policy"),
            (["scan", DEMO, "--policy", "{tmp}/bad.toml"], 2, "categories.x.review"),
            (["scan", DEMO, "--models", "{tmp}/bad.toml"], 2, "bad.toml"),
            (["scan", DEMO, "--models", "magic"], 2, "Invalid model"),
            (["scan", DEMO, "--start", "1:99"], 2, "Invalid time"),
            (["scan", DEMO, "--start", "9", "--end", "5"], 2, "must lie after start"),
            (["scan", DEMO, "--fps", "many"], 2, "not a number"),
            (["scan", DEMO, "--sampling", "fast"], 2, "Use one of uniform, adaptive, keyframes, all"),
            (["scan", DEMO, "--runtime", "tensorrt"], 2, "not installed"),
            (["scan", DEMO, "--runtime", "tensorrt"], 2, "pip install 'vidmod[tensorrt]'"),
            (["scan", DEMO, "--runtime", "tensorrt"], 2, "driver 580 or newer"),
            (["scan", DEMO, "--device", "cuda:0"], 2, "--device cpu"),
            (["scan", DEMO, "--weights", "open_nsfw={tmp}/text.mp4"], 2, "is not the weights"),
            (["scan", DEMO, "--weights", "open_nsfw"], 2, "Use NAME=PATH"),
            (["scan", DEMO, "-o", "{tmp}/none/out.json"], 2, "there is no folder"),
            (["judge", "{tmp}/none.json"], 2, "no such timeline"),
            (["judge", "{tmp}/text.mp4"], 2, "is not whole JSON"),
            (["models", "pull", "magic"], 2, "Invalid model"),
            (["dance"], 2, "No such command"),
        ],
    )
    def test_each_has_its_message_and_status(
        self, tmp_path: Path, arguments: list[str | Path], status: int, message: str
    ) -> None:
        (tmp_path / "text.mp4").write_text("Dear reviewer\n" * 20, "utf-8")
        (tmp_path / "empty.mp4").touch()
        (tmp_path / "bad.toml").write_text(
            'schema = "vidmod.policy/1"\nname = "x"\n[categories.x]\nlabels = ["a"]\nreview = 2\nblock = 3\n', "utf-8"
        )
        result = run(*(str(item).replace("{tmp}", str(tmp_path)) for item in arguments))
        assert result.returncode == status
        assert message in result.stderr.replace("\n", " ")
        assert "Traceback" not in result.stderr

    def test_the_previous_output_survives_a_full_disk(self, tmp_path: Path) -> None:
        output = tmp_path / "out.json"
        output.write_text("before", "utf-8")

        code = (
            "import resource, signal, sys, vidmod.timeline as timeline\n"
            "from vidmod.cli import main\n"
            "write = timeline.write_whole\n"
            "def full(path, parts):\n"
            "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
            "    write(path, parts)\n"
            "timeline.write_whole = full\n"
            "main()"
        )
        result = subprocess.run(
            [sys.executable, "-c", code, "scan", DEMO, "-o", output, *FAST], capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert "What was there before is untouched" in result.stderr.replace("\n", " ")
        assert output.read_text("utf-8") == "before"
        assert [path.name for path in tmp_path.iterdir()] == ["out.json"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_leaves_nothing_half_done(self, tmp_path: Path, number: int) -> None:
        output = tmp_path / "out.json"
        output.write_text("before", "utf-8")
        command = [sys.executable, "-m", "vidmod", "scan", str(DEMO), "-o", str(output), "--json-log"]
        command += ["--sampling", "all", "--fresh"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if json.loads(line)["event"] == "progress":
                    break
            process.send_signal(number)
            began = time.monotonic()
            rest = process.stderr.read()
            assert process.wait(20) == 130
        assert time.monotonic() - began < 5
        events = [json.loads(line) for line in rest.splitlines()]
        assert events[-1]["event"] == "interrupted"
        assert events[-1]["exit_status"] == 130
        assert output.read_text("utf-8") == "before"
        assert [path.name for path in tmp_path.iterdir()] == ["out.json"]

    def test_an_interrupt_of_which_an_import_made_another_error(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["vidmod", "scan"])
        monkeypatch.setattr(_Interrupted, "came", True)
        assert _told(ImportError("initialization failed")) == 130
        assert capsys.readouterr().err == "\nInterrupted. Nothing half-written was left behind.\n"


class TestJudge:
    def test_another_policy_gives_another_verdict(
        self, scanned: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        faces = tmp_path / "faces.toml"
        faces.write_text(
            'schema = "vidmod.policy/1"\nname = "faces"\n[categories.face]\nlabels = ["FACE_FEMALE"]\n'
            "review = 0.5\nblock = 0.95\n",
            "utf-8",
        )
        result = run("judge", scanned[0], "--policy", faces)
        document = json.loads(result.stdout)
        assert result.returncode == 0
        assert document["verdict"] == "review"
        (segment,) = document["segments"]
        assert segment["category"] == "face"
        assert segment["start_seconds"] == pytest.approx(21.7, abs=0.8)
        assert segment["end_seconds"] == pytest.approx(25.4, abs=0.8)
        assert document["samples"] == json.loads(scanned[0].read_text("utf-8"))["samples"]
        assert run("judge", scanned[0], "--policy", faces, "--fail-on", "review", "-o", os.devnull).returncode == 3

    def test_the_same_policy_gives_the_same_document(
        self, scanned: tuple[Path, subprocess.CompletedProcess[str]]
    ) -> None:
        assert run("judge", scanned[0], "-o", "-").stdout == scanned[0].read_text("utf-8")


class TestOtherCommands:
    def test_doctor_and_models(self) -> None:
        doctor = run("doctor")
        assert doctor.returncode == 0
        for word in ("openvino", "onnxruntime", "tensorrt", "h264", "cache", "CPU"):
            assert word in doctor.stdout
        assert "never run by vidmod's makers on a GPU" in " ".join(doctor.stdout.split())
        listed = run("models", "list")
        assert "open_nsfw" in listed.stdout
        assert "AGPL" in listed.stdout

    def test_check_passes_here(self) -> None:
        result = run("models", "check", "open_nsfw")
        assert result.returncode == 0
        assert "DRIFT" not in result.stdout
        assert result.stdout.count("ok ") >= 2

    def test_every_command_and_option_is_documented(self) -> None:
        def walk(command: click.Command) -> None:
            assert command.help, command.name
            for parameter in command.params:
                assert not isinstance(parameter, click.Option) or parameter.help, f"{command.name} {parameter.name}"
            if isinstance(command, click.Group):
                for child in command.commands.values():
                    walk(child)

        walk(cli)

    def test_help_is_quick(self) -> None:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            assert run("--help").returncode == 0
            times.append(time.perf_counter() - began)
        assert min(times) < 0.3
