"""`vidmod live` as its user runs it: what leaves, what is told, how it is steered, and how it ends."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil  # type: ignore[import-untyped]
import pyrage
import pytest

from tests.networks import write_detector
from tests.receivers import KEY, Receiver, receiving
from tests.test_live_processes import CALM, SHOWN, Server
from vidmod.timeline import Timeline

RATE = 25
NO_PICTURE = "rtmp://127.0.0.1:{}/live/secretkey?token=secrettoken"
POLICY = """
schema = "vidmod.policy/1"
name = "bright"
[categories.glare]
labels = ["BRIGHT"]
review = 0.5
block = 0.8
"""


def write_film(path: Path, seconds: int) -> None:
    """Dark shades, with a white square for half a second in every five, and sound."""
    shades = np.broadcast_to(np.linspace(20, 70, 320, dtype=np.uint8)[None, :, None], (180, 320, 3))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = RATE
        stream.codec_context.max_b_frames = 0
        sound = output.add_stream("aac", rate=48_000)
        for number in range(RATE * seconds):
            picture = shades.copy()
            if number % (5 * RATE) // RATE == 3 and number % RATE < RATE // 2:
                picture[20:60, 20:60] = 255
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1920 * 2), np.int16), format="s16", layout="stereo")
            samples.sample_rate, samples.pts = 48_000, number * 1920
            output.mux(sound.encode(samples))
        output.mux(stream.encode(None))
        output.mux(sound.encode(None))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of films, of things that are none, and of models."""
    folder = tmp_path_factory.mktemp("made")
    write_film(folder / "film.mp4", 40)
    write_film(folder / "short.mp4", 6)
    with av.open(str(folder / "film.mp4")) as source, av.open(str(folder / "sound.mp4"), "w") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in itertools.islice(source.demux(audio=0), 100):
            packet.stream = stream
            output.mux(packet)
    (folder / "notes.mp4").write_text("no film at all " * 100, "utf-8")
    (folder / "policy.toml").write_text(POLICY, "utf-8")
    write_detector(folder)
    for name in ("missing", "broken"):
        (folder / name).mkdir()
        write_detector(folder / name)
    (folder / "missing" / "spot.onnx").unlink()
    (folder / "broken" / "spot.onnx").write_bytes(b"this is no network")
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    server = Server(tmp_path / "served")
    yield server
    server.close()


class Job:
    """A `vidmod live` that runs, with a folder of its own for its sockets, events and standard error."""

    def __init__(
        self, folder: Path, *arguments: str | Path, terminal: bool = False, file_bytes: int | None = None
    ) -> None:
        folder.chmod(0o700)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "TERM": "xterm"}
        self.events_path, self.errors_path = folder / "events.jsonl", folder / "errors.txt"
        self.began = time.monotonic()
        command = [sys.executable, "-m", "vidmod", "live", *map(str, arguments), "--events", str(self.events_path)]
        if file_bytes is not None:
            command = ["prlimit", f"--fsize={file_bytes}", *command]
        self._leader = -1
        with self.errors_path.open("wb") as errors:
            follower = errors.fileno()
            if terminal:
                self._leader, follower = pty.openpty()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors, stderr=follower, env=self.environment
            )
        if terminal:
            os.close(follower)

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        self.process.kill()
        self.process.wait()

    def control(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "vidmod", "live-control", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=30, check=True
        ).stdout

    @property
    def events(self) -> list[dict[str, Any]]:
        if not self.events_path.exists():
            return []
        return [json.loads(line) for line in self.events_path.read_text("utf-8").splitlines() if line]

    def named(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        return [row for row in self.events if row["event"] == name and fields.items() <= row.items()]

    def wait_for(self, what: Callable[[], Any], seconds: float = 40.0) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := what():
                return found
            assert self.process.poll() is None, self.errors
            time.sleep(0.05)
        raise AssertionError(f"It did not happen: {self.events[-5:]}, {self.errors}")

    def end(self, seconds: float = 40.0) -> int:
        if self._leader >= 0:
            self.errors_path.write_bytes(_all_of(self._leader))
        return self.process.wait(seconds)

    def child(self, role: str) -> psutil.Process:
        """The one that works; its spare is younger."""
        found = [item for item in psutil.Process(self.process.pid).children() if role in item.cmdline()]
        assert 1 <= len(found) <= 2
        return min(found, key=lambda item: item.create_time())

    @property
    def errors(self) -> str:
        return self.errors_path.read_bytes().decode("utf-8", "replace")


def _all_of(descriptor: int) -> bytes:
    data = b""
    with contextlib.suppress(OSError):  # EIO, once nobody has the other end
        while part := os.read(descriptor, 65_536):
            data += part
    os.close(descriptor)
    return data


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts one; several of a test have folders of their own."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(
            *arguments: str | Path, terminal: bool = False, folder: Path | None = None, file_bytes: int | None = None
        ) -> Job:
            place = tmp_path / f"job{next(numbers)}" if folder is None else folder
            place.mkdir(exist_ok=True)
            return stack.enter_context(Job(place, *arguments, terminal=terminal, file_bytes=file_bytes))

        yield make


def with_spot(made: Path) -> tuple[str | Path, ...]:
    """What makes it small: a network of a few operations, and an encoder in a hurry."""
    return ("--models", made / "spot.toml", "--runtime", "onnxruntime", "--preset", "ultrafast")


def pictures(path: Path) -> list[tuple[int, float]]:
    """Of every picture that left: its greatest brightness, and how much brightnesses differ."""
    rows: list[tuple[int, float]] = []
    with contextlib.suppress(av.error.FFmpegError), av.open(str(path)) as source:
        for frame in source.decode(video=0):
            grey = frame.to_ndarray(format="gray")
            rows.append((int(grey.max()), float(grey.std())))
    return rows


def runs(rows: list[tuple[int, float]], least: int) -> list[tuple[str, int]]:
    """Covered and clear stretches of at least so many pictures, in order; the cover has no shades."""
    found = [
        (name, len(list(group)))
        for name, group in itertools.groupby("cover" if row[1] < 1 else "clear" for row in rows)
    ]
    return [row for row in found if row[1] >= least]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


def test_a_film_is_filtered_to_its_end_and_recorded(start: Start, made: Path, server: Server, tmp_path: Path) -> None:
    key = str(pyrage.x25519.Identity.generate().to_public())
    job = start(
        *(made / "short.mp4", server.url, *with_spot(made), "--labels", "BRIGHT", "--json-log"),
        *("--record", tmp_path / "clean", "--seal", tmp_path / "sealed", "--seal-to", key),
    )
    assert job.end() == 0, job.errors
    names = [row["event"] for row in job.events]
    assert names[0] == "started"
    assert names[-1] == "stopped"
    assert [row["sequence"] for row in job.events] == list(range(1, len(names) + 1))
    stopped = job.events[-1]
    assert (stopped["reason"], stopped["exit_status"]) == ("source_ended", 0)
    (connected,) = job.named("source_connected")
    assert (connected["width"], connected["height"], connected["video_codec"]) == (320, 180, "h264")
    # Nothing of a file is lost: it is not begun before somebody looks.
    assert stopped["frames_in"] == 6 * RATE
    (began,), (ended,) = job.named("hit_began"), job.named("hit_ended")
    assert began["hit"]["id"] == ended["hit"]["id"]
    assert ended["hit"]["category"] == "BRIGHT"
    assert ended["hit"]["end_seconds"] - began["hit"]["start_seconds"] == pytest.approx(0.5, abs=0.25)
    rows = pictures(server.paths[0])
    assert len(rows) == pytest.approx(stopped["frames_out"], abs=3)
    assert max(level for level, _ in rows) < CALM
    assert sum(spread >= 1 for _, spread in rows) > RATE, "what is calm is seen"
    logged = [json.loads(line) for line in job.errors.splitlines()]
    assert [row["event"] for row in logged if row["event"] != "status"] == names
    assert {row["state"]["name"] for row in logged if row["event"] == "status"} == {"live"}
    assert max(level for level, _ in pictures(made / "short.mp4")) > SHOWN
    (recorded,), (timeline,) = (list((tmp_path / "clean").glob(f"*.{suffix}")) for suffix in ("mkv", "timeline.json"))
    assert max(level for level, _ in pictures(recorded)) < CALM
    found = Timeline.read(timeline)
    assert [row["name"] for row in found.provenance["models"]] == ["spot"]
    assert found.provenance["models"][0]["runtime"] == "onnxruntime"
    assert found.sample_count > RATE
    (sealed,) = (tmp_path / "sealed").iterdir()
    assert sealed.read_bytes().startswith(b"age-encryption.org/v1")


def test_it_is_seen_and_steered(start: Start, made: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    # Of other tests, whose helpers live on.
    before = set(psutil.Process().children(recursive=True))
    with receiving(Receiver()) as receiver:
        job = start(
            *(made / "film.mp4", server.url, *with_spot(made), "--labels", "BRIGHT", "--name", "stage"),
            *("--metrics", "127.0.0.1:0", "--webhook", receiver.url, "--webhook-secret", f"file:{tmp_path / 'key'}"),
        )
        job.wait_for(lambda: job.named("hit_began"))
        notes = [row["message"] for row in job.named("note")]
        (place,) = [text.split()[2].removesuffix("/metrics,") for text in notes if text.startswith("Metrics at")]
        job.wait_for(lambda: get(f"{place}/readyz")[0] == 200)
        for line in ('vidmod_live_connected{side="server"} 1.0', 'vidmod_live_hits_total{category="BRIGHT"} 1.0'):
            job.wait_for(functools.partial(lambda wanted: wanted in get(f"{place}/metrics")[1], line))

        # A second one of that name is none.
        other = start(
            made / "film.mp4", tmp_path / "other.ts", "--name", "stage", *with_spot(made), folder=tmp_path / "job0"
        )
        assert other.end() == 2
        assert "a live filter of this name runs" in other.errors

        assert job.control("stage", "cover") == "emergency cover: on, until uncovered\n"
        job.wait_for(lambda: job.named("cover_on", reason="emergency"))
        job.wait_for(lambda: 'vidmod_live_cover{reason="emergency"} 1.0' in get(f"{place}/metrics")[1])
        time.sleep(1.5)
        assert job.control("uncover") == "emergency cover: off\n"
        job.wait_for(lambda: job.named("cover_off", reason="emergency"))
        assert [row["command"] for row in job.named("controlled")] == ["cover", "uncover"]

        job.child("analyst").kill()
        job.wait_for(lambda: job.named("process_restarted", process="analyst", count=1))
        assert "SIGKILL" in job.named("process_restarted")[0]["reason"]
        job.wait_for(lambda: 'vidmod_live_restarts_total{process="analyst"} 1.0' in get(f"{place}/metrics")[1])
        state = json.loads(job.control("status", "--json"))["state"]
        assert state["frames_out"] > state["frames_masked"] > 0

        # As a service manager does it: all of them at once.
        for item in (*psutil.Process(job.process.pid).children(), job.process):
            item.send_signal(signal.SIGTERM)
        assert job.end() == 0, job.errors
        stopped = job.events[-1]
        assert len(job.named("process_restarted")) == 1
        assert (stopped["event"], stopped["reason"], stopped["exit_status"]) == ("stopped", "asked", 0)
        told = [(row["event"], row["hit"]["id"]) for row in receiver.accepted]
        assert told == [(row["event"], row["hit"]["id"]) for row in job.events if row["event"].startswith("hit_")]
        assert receiver.unsigned == 0
        assert receiver.accepted[0]["hit"]["thumbnail"]["media_type"] == "image/jpeg"
        assert receiver.accepted[-1]["event"] == "hit_ended", "one that goes on is ended with the stream"
    rows = pictures(server.paths[0])
    assert max(level for level, _ in rows) < CALM
    # Clear, at least 1.2 s of cover in one piece, and clear again.
    kinds = [name for name, _ in runs(rows, round(1.2 * RATE))]
    assert "cover" in kinds
    assert [name for name, _ in runs(rows, 5)].count("clear") >= 2
    assert not set(psutil.Process().children(recursive=True)) - before, "all of its processes have ended"


def test_a_cover_outlives_the_filter_and_ctrl_c_ends_it_a_second_one_at_once(
    start: Start, made: Path, tmp_path: Path
) -> None:
    arguments = (made / "film.mp4", *with_spot(made), "--labels", "BRIGHT")
    job = start(arguments[0], tmp_path / "first.ts", *arguments[1:])
    job.wait_for(lambda: job.named("source_connected"))
    job.control("cover")
    children = psutil.Process(job.process.pid).children()
    job.process.kill()
    job.process.wait()
    _, alive = psutil.wait_procs(children, 10)
    assert not alive, "without who watches them they end"

    job = start(arguments[0], tmp_path / "second.ts", *arguments[1:], folder=tmp_path / "job0")
    job.wait_for(lambda: len(job.named("started")) == 2)
    job.wait_for(lambda: any("The emergency cover is on, from before" in row["message"] for row in job.named("note")))
    job.wait_for(lambda: len(job.named("source_connected")) == 2)
    time.sleep(3.0)
    state = json.loads(job.control("status", "--json"))["state"]
    # Two processes count, and say so every fifth of a second.
    assert state["frames_out"] - state["frames_covered"] <= RATE
    assert state["frames_covered"] > RATE

    # Who writes stands still, and so cannot close what it wrote.
    job.child("publisher").suspend()
    job.process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert job.process.poll() is None, "it waits for what is written to be closed"
    job.process.send_signal(signal.SIGINT)
    assert job.end(8) == 130
    assert job.events[-1]["reason"] == "interrupted"
    assert all(spread < 1 for _, spread in pictures(tmp_path / "second.ts"))


def test_what_is_to_be_blocked_may_end_it(start: Start, made: Path, server: Server) -> None:
    job = start(
        *(made / "film.mp4", server.url, *with_spot(made), "--policy", made / "policy.toml", "--on-block", "end"),
        terminal=True,
    )
    assert job.end() == 3, job.errors
    assert job.events[-1]["reason"] == "blocked"
    assert job.named("hit_began")[0]["hit"]["verdict"] == "block"
    assert max(level for level, _ in pictures(server.paths[0])) < CALM
    # A terminal has one line that is rewritten, and others that stay.
    assert "\r\x1b[K" in job.errors
    assert "fps" in job.errors
    assert "Hit: block glare (BRIGHT" in job.errors


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_what_cannot_begin_says_why(start: Start, made: Path, tmp_path: Path) -> None:
    out, film, closed = tmp_path / "out.ts", made / "film.mp4", free_port()
    spot = with_spot(made)
    cases: list[tuple[int, str, tuple[str | Path, ...]]] = [
        (2, "Invalid source (gopher://x/…)", ("gopher://x/y", out)),
        (2, "Invalid output", (film, tmp_path / "out.avi")),
        (2, "sound.mp4: is there already", (film, made / "sound.mp4", *spot)),
        (4, "there is no such file", (made / "none.mp4", out, *spot)),
        (4, "sound.mp4: shows no pictures that vidmod decodes (audio)", (made / "sound.mp4", out, *spot)),
        (4, "notes.mp4: cannot be opened", (made / "notes.mp4", out, *spot, "--quiet")),
        (4, f"rtmp://127.0.0.1:{closed}/live/…: cannot be opened", (NO_PICTURE.format(closed), out, *spot)),
        (1, f"tcp://127.0.0.1:{closed}", (film, f"tcp://127.0.0.1:{closed}", *spot)),
        (1, "cannot be written to", (film, tmp_path / "no" / "out.ts", *spot)),
        (2, "spot.onnx: cannot be read", (film, out, "--models", made / "missing" / "spot.toml")),
        (2, "spot.onnx", (film, out, "--models", made / "broken" / "spot.toml")),
        (2, "no model of spot gives them", (film, out, *spot, "--labels", "NOSE")),
        (2, "Invalid recipient ('age1nobody')", (film, out, *spot, "--seal", out, "--seal-to", "age1nobody")),
        (2, "Invalid runtime", (film, out, "--models", made / "spot.toml", "--runtime", "abacus")),
    ]
    for part in (cases[place : place + 4] for place in range(0, len(cases), 4)):
        jobs = [(status, says, start(*arguments)) for status, says, arguments in part]
        for status, says, job in jobs:
            assert job.end() == status, (says, job.errors)
            assert says in job.errors
            assert "Error: " in job.errors
            assert not any(
                text in job.errors for text in ("Traceback", "Internal error", "secret", "No longer covered")
            )
            assert "secret" not in json.dumps(job.events)
    assert not out.exists()


def test_what_could_not_be_written_is_not_done(start: Start, made: Path, tmp_path: Path) -> None:
    room = {"out.ts": 60_000, "out.mkv": 10_000, "out.mp4": 10_000}
    jobs = {
        name: start(made / "short.mp4", tmp_path / name, *with_spot(made), file_bytes=size)
        for name, size in room.items()
    }
    for name, job in jobs.items():
        assert job.end() == 1
        assert f"{name}: is not whole. It cannot be written to (" in job.errors
        assert [row["exit_status"] for row in job.named("stopped", reason="source_ended")] == [1]


class Station:
    """Sends a film to whoever connects, about as fast as it is shown; to the first only a part of it."""

    def __init__(self, film: Path, folder: Path, port: int) -> None:
        path = folder / "film.ts"
        with av.open(str(film)) as source, av.open(str(path), "w", format="mpegts") as output:
            streams = {item.index: output.add_stream_from_template(item) for item in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    output.mux(packet)
            length = float(source.duration or 0) / av.time_base
        self._data, self._length = path.read_bytes(), length
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        step = round(len(self._data) / self._length / 20)
        with contextlib.suppress(OSError):
            for seconds in (7.0, self._length):
                connection, _ = self._listener.accept()
                with connection:
                    for place in range(0, round(seconds * 20) * step, step):
                        connection.sendall(self._data[place : place + step])
                        time.sleep(0.05)


def test_it_waits_for_a_source_and_a_server_and_the_source_may_go_and_come(
    start: Start, made: Path, tmp_path: Path
) -> None:
    source, target = free_port(), free_port()
    ends = (f"tcp://127.0.0.1:{source}", f"tcp://127.0.0.1:{target}")
    job = start(*ends, *with_spot(made), "--labels", "BRIGHT", "--wait", "--timeout", "2")
    job.wait_for(lambda: any("Waiting for the source" in row["message"] for row in job.named("note")))
    assert json.loads(job.control("status", "--json"))["state"]["cover_reasons"] == ["starting"]
    station = Station(made / "film.mp4", tmp_path, source)
    job.wait_for(lambda: any("Waiting for the server" in row["message"] for row in job.named("note")))
    (tmp_path / "served").mkdir()
    server = Server(tmp_path / "served", target)
    job.wait_for(lambda: job.named("hit_began"))
    job.wait_for(lambda: any("Connected" in row["message"] for row in job.named("note")))
    # The source goes, and comes back: its clock begins anew.
    job.wait_for(lambda: job.named("source_lost"))
    job.wait_for(lambda: job.named("source_back"))
    job.wait_for(lambda: len(job.named("source_connected")) == 2)
    assert job.named("source_back")[0]["gone_seconds"] > 0.3
    time.sleep(2.0)
    state = json.loads(job.control("status", "--json"))["state"]
    assert (state["reconnects"]["source"], state["source_connected"]) == (1, True)
    assert job.control("stop").startswith("emergency cover: off")
    assert job.end() == 0, job.errors
    assert job.events[-1]["reason"] == "asked"
    station.close()
    server.close()
    rows = pictures(server.paths[0])
    assert rows
    assert max(level for level, _ in rows) < CALM
