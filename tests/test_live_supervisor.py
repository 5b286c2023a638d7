"""What the one that watches hears of processes that cannot do their work, and how it gives orders."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.networks import write_detector
from vidmod.live.messages import AnalystSettings, Beat, Finish, Loaded, PublisherSettings, ReaderSettings
from vidmod.live.processes.supervisor import Supervisor

Said = list[tuple[str, object]]


def watch(watched: Supervisor, until: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, {role: (item.beat, item.why) for role, item in watched.watched.items()}
        watched.watch(time.monotonic())
        time.sleep(0.01)


def made(**settings: msgspec.Struct) -> tuple[Supervisor, Said, list[tuple[str, str]]]:
    told: Said = []
    notes: list[tuple[str, str]] = []
    watched = Supervisor(
        {role: functools.partial(settings.__getitem__, role) for role in settings},
        notify=lambda *row: notes.append(row),
        told=lambda *row: told.append(row),
    )
    return watched, told, notes


def test_one_that_cannot_do_its_work_says_why(tmp_path: Path) -> None:
    manifest = write_detector(tmp_path)
    (tmp_path / "spot.onnx").write_bytes(b"this is no network")
    watched, _, notes = made(analyst=AnalystSettings([str(manifest)], "onnxruntime", "cpu", "auto", {}))
    with watched:
        watch(watched, lambda: len(notes) >= 2)
        item = watched.watched["analyst"]
        assert item.status == 2
        assert "spot.onnx" in item.failure
        assert notes[0] == ("analyst", f"ended with status 2: {item.failure}")
        assert item.restarts >= 1, "it is tried again"


def test_one_that_breaks_has_its_last_words_told() -> None:
    watched, _, notes = made(nobody=Finish())
    with watched:
        watch(watched, lambda: notes)
        assert notes == [("nobody", "ended with status 1: KeyError: 'nobody'")]
        assert watched.watched["nobody"].failure == ""


def test_it_says_what_is_looked_with_and_obeys(tmp_path: Path) -> None:
    manifest = write_detector(tmp_path)
    watched, told, notes = made(
        analyst=AnalystSettings([str(manifest)], "onnxruntime", "cpu", "auto", {}),
        publisher=PublisherSettings(str(tmp_path / "out.ts"), 5.0),
    )
    with watched:
        watch(watched, lambda: any(isinstance(message, Loaded) for _, message in told))
        (loaded,) = [message for _, message in told if isinstance(message, Loaded)]
        assert [(row["name"], row["runtime"], row["device"]) for row in loaded.models] == [
            ("spot", "onnxruntime", "cpu")
        ]
        watch(watched, lambda: watched.watched["publisher"].beat is not None)
        watched.order("publisher", Finish())
        watched.order("nobody", Finish())
        watch(watched, lambda: isinstance(beat := watched.watched["publisher"].beat, Beat) and beat.doing == "finished")
        # One that ends is left alone while all ends.
        process = watched.watched["publisher"].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for _ in range(20):
            watched.listen(time.monotonic())
        assert watched.watched["publisher"].restarts == 0
        assert notes == []


def test_more_of_them_may_be_added(tmp_path: Path) -> None:
    watched, told, _ = made()
    with watched:
        watched.watch(time.monotonic())
        watched.add("reader", lambda: ReaderSettings(str(tmp_path / "none.mp4"), 1.0, 1 << 20))
        watch(watched, lambda: any(isinstance(message, Beat) and message.trouble for _, message in told))
    assert watched.watched["reader"].process is None
    assert watched.watched["reader"].ending is not None
    assert watched.watched["reader"].ending.returncode is not None, "it has ended, and is no zombie"


def test_what_cannot_be_started_is_tried_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watched, told, notes = made(reader=ReaderSettings(str(tmp_path / "none.mp4"), 1.0, 1 << 20))
    with watched, monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        patch.setattr("subprocess.Popen", refuse)
        watch(watched, lambda: len(notes) >= 2)
        assert notes[0] == ("reader", "cannot be started (Resource temporarily unavailable)")
        patch.undo()
        watch(watched, lambda: told)
