"""The processes of a live filter, real ones, some of them killed: what leaves never shows what is to be covered."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from tests.networks import write_detector
from vidmod.live.messages import AnalystSettings, FilterSettings, PublisherSettings, ReaderSettings
from vidmod.live.processes.supervisor import Supervisor
from vidmod.models import find
from vidmod.policy import Policy

RATE, SECONDS = 25, 24
# Noise stays below the first; the square that is to be covered is far above the second.
CALM, SHOWN = 100, 150


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_detector(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark noise, with a white square for half of every second second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    chance = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = RATE
        stream.codec_context.max_b_frames = 0
        for number in range(RATE * SECONDS):
            picture = np.full((180, 320, 3), 40, np.uint8) + chance.integers(0, 9, (180, 320, 1), np.uint8)
            if number % (2 * RATE) >= RATE and number % RATE < RATE // 2:
                picture[20:60, 20:60] = 255
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path


class Server:
    """Takes whatever connects, and keeps what each connection sent."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.paths: list[Path] = []
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", port))
        self._is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._is_open = False
        self._listener.close()

    def _accept(self) -> None:
        while self._is_open:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            path = self._folder / f"{len(self.paths)}.ts"
            self.paths.append(path)
            threading.Thread(target=self._keep, args=(connection, path), daemon=True).start()

    def _keep(self, connection: socket.socket, path: Path) -> None:
        with connection, path.open("wb", buffering=0) as file:
            while data := connection.recv(1 << 16):
                file.write(data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def supervised(film: Path, server: Server, model: str, *, spares: bool = False) -> Supervisor:
    made: list[Supervisor] = []

    def filtering() -> msgspec.Struct:
        return FilterSettings(
            policy=Policy.default().as_document(),
            labels=["BRIGHT"],
            preparations=[find(model).preparation],
            delay_seconds=1.0,
            latency_seconds=1.45,
            max_gap_seconds=0.3,
            hold_seconds=0.5,
            margin=0.2,
            max_pixels=1 << 28,
            preset="ultrafast",
            threads=1,
            begin=made[0].begin,
        )

    made.append(
        Supervisor(
            {
                "reader": lambda: ReaderSettings(str(film), 5.0, 1 << 28),
                "filter": filtering,
                "analyst": lambda: AnalystSettings([model], "onnxruntime", "cpu", "auto", {}),
                "publisher": lambda: PublisherSettings(server.url, 5.0),
            },
            spares=spares,
        )
    )
    return made[0]


def run(watched: Supervisor, seconds: float, until: float = float("inf")) -> None:
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        watched.watch(now)
        counts = getattr(watched.watched["filter"].beat, "counts", None)
        if counts is not None and counts.shown >= until:
            return
        time.sleep(0.01)


def brightest(paths: list[Path]) -> list[int]:
    """Of every picture that left."""
    found = []
    for path in paths:
        try:
            with av.open(str(path)) as source:
                found += [int(frame.to_ndarray(format="gray").max()) for frame in source.decode(video=0)]
        except av.error.FFmpegError:
            continue  # cut off, where the process was killed
    return found


def test_it_shows_all_but_what_is_to_be_covered(film: Path, server: Server, model: str) -> None:
    with supervised(film, server, model) as watched:
        run(watched, 40, until=150)
        beat = watched.watched["filter"].beat
    assert beat is not None
    assert beat.counts is not None
    assert beat.counts.shown >= 150
    assert beat.counts.boxed >= 30
    levels = brightest(server.paths)
    assert len(levels) > 150
    assert max(levels) < CALM


def test_killed_it_goes_on_and_shows_nothing_either(film: Path, server: Server, model: str) -> None:
    chance = random.Random(3)
    with supervised(film, server, model) as watched:
        run(watched, 25, until=30)
        for role in ("filter", "analyst", "publisher", "filter", "analyst", "filter"):
            process = watched.watched[role].process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            run(watched, chance.uniform(2.0, 3.5))
        restarts = {role: item.restarts for role, item in watched.watched.items()}
    # On a machine that is slow, one may be replaced for its silence besides.
    assert restarts["filter"] >= 3
    assert restarts["analyst"] >= 2
    assert restarts["publisher"] >= 1
    # Only the publisher's own end costs the connection.
    assert len(server.paths) == 1 + restarts["publisher"]
    levels = brightest(server.paths)
    assert len(levels) > 200
    assert max(levels) < CALM


def test_spares_go_on_and_show_nothing_either(film: Path, server: Server, model: str) -> None:
    with supervised(film, server, model, spares=True) as watched:
        run(watched, 25, until=30)
        for role in ("filter", "analyst", "publisher"):
            item = watched.watched[role]
            end = time.monotonic() + 20
            while not item.is_spared:
                assert time.monotonic() < end
                run(watched, 0.05)
            assert item.spare is not None
            spare, process = item.spare.process, item.process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            run(watched, 1.0)
            assert item.restarts == 1
            assert item.process is spare
        before = brightest(server.paths)
        run(watched, 2.5)
    levels = brightest(server.paths)
    assert len(levels) > len(before) + RATE
    assert max(levels) < CALM


def test_stopped_it_is_replaced(film: Path, server: Server, model: str) -> None:
    with supervised(film, server, model) as watched:
        run(watched, 25, until=30)
        process = watched.watched["filter"].process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        run(watched, 6)
        assert watched.watched["filter"].restarts >= 1
        assert "was silent for" in watched.watched["filter"].why
        connections = 1 + watched.watched["publisher"].restarts
    assert len(server.paths) == connections
    assert max(brightest(server.paths)) < CALM


def test_the_film_would_show_it(film: Path) -> None:
    assert max(brightest([film])) > SHOWN
