"""Redactions that are killed at any moment: the final path has what was there, nothing, or a whole verified film."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.networks import write_classifier, write_detector
from tests.test_redacting import make_film
from vidmod.scanning import Scanner, ScanSettings

KILLS = 50
_STRIDE = 19  # shares no divisor with that
# What is done at each of the moments, over and over: to the command, or to one of its workers.
DEEDS = (
    "SIGKILL",
    "SIGTERM",
    "SIGKILL",
    "SIGKILL of a worker",
    "SIGKILL",
    "SIGINT",
    "SIGKILL",
    "SIGTERM of a worker",
    "SIGKILL",
    "SIGKILL",
)
OLD = b"what was there before"
_PATIENCE_SECONDS = 60.0
# Workers end with whoever started them, when they have warmed up: some seconds, and more where all is slow.
_GONE_SECONDS, _GONE_RUNS = 3.0, 2
_PART = re.compile(r"\.out\.mp4(\.redaction\.json)?\.[0-9a-f]{16}\.part")


@dataclass(frozen=True)
class Job:
    """A redaction to be killed.

    Attributes:
        arguments: Of the command, but for the output.
        seconds: How long it takes when nobody kills it.
        sha256: Of what it writes then.
    """

    arguments: tuple[str, ...]
    seconds: float
    sha256: str

    def start(self, output: Path) -> subprocess.Popen[str]:
        return start(self.arguments, output)


def start(arguments: tuple[str, ...], output: Path) -> subprocess.Popen[str]:
    source, *rest = arguments
    command = [sys.executable, "-m", "vidmod", "redact", source, str(output), *rest, "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    film, output, timeline = make_film(folder / "film.mp4"), folder / "out.mp4", folder / "film.json"
    models = (str(write_classifier(folder)), str(write_detector(folder)))
    with Scanner(ScanSettings(models=models)) as scanner:
        scanner.scan(film).write(timeline)
    arguments = (str(film), "--models", ",".join(models), "--labels", "BRIGHT", "--timeline", str(timeline))
    times, digests = [], set()
    for _ in range(3):
        began = time.monotonic()
        with start(arguments, output) as running:
            said = running.communicate(timeout=_PATIENCE_SECONDS)[1]
        assert running.returncode == 0, said
        times.append(time.monotonic() - began)
        digests.add(sha256(output.read_bytes()))
    assert len(digests) == 1, "what is written is not the same every time"
    return Job(arguments, sorted(times)[1], digests.pop())


def workers_of(pid: int) -> list[int]:
    """The processes that a command has started, whoever their parent is by now: the last argument says it."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if words[-2:-1] == [str(pid).encode()] and b"vidmod.workers.zygote" in b" ".join(words):
                    found.append(int(folder.name))
    return sorted(found)


def document_of(sha: str) -> bytes:
    return json.dumps({"output": {"sha256": sha}}).encode()


def prepare(folder: Path, *, old: bool) -> Path:
    folder.mkdir()
    if old:
        (folder / "out.mp4").write_bytes(OLD)
        (folder / "out.mp4.redaction.json").write_bytes(document_of(sha256(OLD)))
    return folder / "out.mp4"


def state_of(output: Path, new: str, *, old: bool) -> str:
    """In a word what the output is; fails if it is none of what it may be, or its document is of something else."""
    document = output.with_name("out.mp4.redaction.json")
    claimed = json.loads(document.read_bytes())["output"]["sha256"] if document.exists() else None
    if not output.exists():
        assert not old
        assert claimed is None
        return "absent"
    found = sha256(output.read_bytes())
    assert found in ({sha256(OLD), new} if old else {new})
    assert claimed in (None, found)
    return ("new" if found == new else "old") + (", no document" if claimed is None else "")


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in ("out.mp4", "out.mp4.redaction.json")]


def kill(running: subprocess.Popen[str], deed: str, number: int) -> None:
    name, _, of_worker = deed.partition(" ")
    if not of_worker:
        running.send_signal(signal.Signals[name])
    elif workers := workers_of(running.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[number % len(workers)], signal.Signals[name])


def wait_until_gone(pid: int, job: Job) -> None:
    end = time.monotonic() + _GONE_SECONDS + _GONE_RUNS * job.seconds
    while workers := workers_of(pid):
        assert time.monotonic() < end, f"left behind: {workers}"
        time.sleep(0.05)


def check_end(deed: str, status: int, said: str) -> None:
    name, _, of_worker = deed.partition(" ")
    if of_worker:
        assert status in (0, 1, 4)
        assert (status == 0) == (said == "")
        assert "Traceback" not in said
        assert "Internal error" not in said
    elif name == "SIGKILL":
        assert status in (0, -signal.SIGKILL)
    else:
        # Python itself dies of it before the command has begun.
        assert status in (0, 130, -signal.Signals[name])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_at_fifty_moments(job: Job, tmp_path: Path) -> None:
    states: Counter[str] = Counter()
    struck = 0
    seconds = job.seconds
    for number, deed in zip(range(KILLS), itertools.cycle(DEEDS), strict=False):
        old = number % 3 != 0
        output = prepare(tmp_path / str(number), old=old)
        # All over it and a little beyond its end, as the next run may take longer; early and late in turn, so that what
        # it takes at the moment is known all the time.
        moment = 1.1 * (number * _STRIDE % KILLS) / KILLS
        began = time.monotonic()
        with job.start(output) as running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(seconds * moment)
                seconds = time.monotonic() - began
            struck += running.poll() is None
            if running.poll() is None and moment >= 1:
                seconds *= 1.2
            kill(running, deed, number)
            said = running.communicate(timeout=_PATIENCE_SECONDS)[1]
        check_end(deed, running.returncode, said)
        wait_until_gone(running.pid, job)
        states[state_of(output, job.sha256, old=old)] += 1
        rest = left_over(output.parent)
        assert not rest or (deed == "SIGKILL" and all(_PART.fullmatch(name) for name in rest)), (deed, rest)
        if running.returncode == 0:
            assert state_of(output, job.sha256, old=old) == "new"
    assert struck >= KILLS * 0.7, "most of them met it alive"
    assert states["absent"] + states["old"] >= KILLS / 4
    assert states["new"] > 0


def test_what_came_by_standard_input_goes_with_the_command(job: Job, tmp_path: Path) -> None:
    spool, output = tmp_path / "spool", prepare(tmp_path / "folder", old=False)
    spool.mkdir()
    source, *rest = job.arguments
    command = [sys.executable, "-m", "vidmod", "redact", "-", str(output), *rest, "--json-log"]
    environment = {**os.environ, "TMPDIR": str(spool)}
    with (
        Path(source).open("rb") as film,
        subprocess.Popen(command, stdin=film, stderr=subprocess.PIPE, text=True, env=environment) as running,
    ):
        assert running.stderr is not None
        for line in running.stderr:
            if json.loads(line).get("doing") == "writing":
                break
        running.kill()
    # A link to what a process has open; that of the command has nothing open any more.
    assert [path for path in spool.rglob("*") if not path.is_dir() and not path.is_symlink()] == []
    assert list(output.parent.iterdir()) == []
    wait_until_gone(running.pid, job)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_it_writes(job: Job, tmp_path: Path, number: signal.Signals) -> None:
    output = prepare(tmp_path / "folder", old=True)
    source, *rest = job.arguments
    command = [sys.executable, "-m", "vidmod", "redact", source, str(output), *rest, "--json-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if json.loads(line).get("doing") == "writing":
                break
        running.send_signal(number)
        said = [json.loads(line) for line in running.stderr]
        assert running.wait(_PATIENCE_SECONDS) == 130
    assert said[-1] == {
        "event": "interrupted",
        "message": "Interrupted. Nothing half-written was left behind.",
        "exit_status": 130,
    }
    assert state_of(output, job.sha256, old=True) == "old"
    assert left_over(output.parent) == []
    wait_until_gone(running.pid, job)
