"""What the one that watches hears of processes that cannot do their work, and how it gives orders."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from tests.networks import write_detector
from vidmod.live.messages import (
    AnalystSettings,
    Beat,
    Begin,
    FilterSettings,
    Finish,
    Loaded,
    PublisherSettings,
    ReaderSettings,
)
from vidmod.live.processes import supervisor
from vidmod.live.processes.supervisor import Supervisor, Watched
from vidmod.media.live import PictureEncoder, Shape
from vidmod.policy import Policy

Said = list[tuple[str, object]]


def watch(watched: Supervisor, until: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, {role: (item.beat, item.why) for role, item in watched.watched.items()}
        watched.watch(time.monotonic())
        time.sleep(0.01)


def made(*, spares: bool = False, **settings: msgspec.Struct) -> tuple[Supervisor, Said, list[tuple[str, str]]]:
    told: Said = []
    notes: list[tuple[str, str]] = []
    watched = Supervisor(
        {role: functools.partial(settings.__getitem__, role) for role in settings},
        notify=lambda *row: notes.append(row),
        told=lambda *row: told.append(row),
        spares=spares,
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


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares are started as soon as they may be."""
    monkeypatch.setattr(supervisor, "_SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "_APART_SECONDS", 0.0)


def spotter(folder: Path) -> AnalystSettings:
    return AnalystSettings([str(write_detector(folder))], "onnxruntime", "cpu", "auto", {})


def with_spare(watched: Supervisor, role: str) -> tuple[Watched, int, int]:
    """Wait until one is there; the numbers of the process at work, and of the spare."""
    item = watched.watched[role]
    watch(watched, lambda: item.is_spared and item.beat is not None)
    assert item.process is not None
    assert item.spare is not None
    assert item.spare.process is not None
    return item, item.process.pid, item.spare.process.pid


def is_restarted(item: Watched) -> bool:
    return item.restarts == 1


@pytest.mark.usefixtures("hasty")
def test_a_spare_takes_the_place_of_one_that_died(tmp_path: Path) -> None:
    watched, told, notes = made(
        spares=True, analyst=spotter(tmp_path), publisher=PublisherSettings(str(tmp_path / "out.ts"), 5.0)
    )
    with watched:
        for role in ("analyst", "publisher"):
            item, working, spare = with_spare(watched, role)
            assert item.spare is not None
            assert item.spare.is_told == (role == "analyst"), "who only waits connects to nobody"
            told.clear()
            os.kill(working, signal.SIGKILL)
            watch(watched, functools.partial(is_restarted, item))
            assert item.process is not None
            assert item.process.pid == spare
            if role == "analyst":
                assert item.beat is not None
                assert item.beat.doing == "looking", "it has loaded its models"
            watch(watched, lambda: told)
            assert {type(message) for _, message in told} == {Beat}, "its models are those that were there"
            assert notes[-1][0] == role
            assert notes[-1][1].startswith("ended with signal 9 (SIGKILL)")
            _, working, following = with_spare(watched, role)
            assert working == spare
            assert following != spare


@pytest.mark.usefixtures("hasty")
def test_a_spare_that_dies_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, _, notes = made(spares=True, analyst=spotter(tmp_path))
    with watched:
        item, working, spare = with_spare(watched, "analyst")
        os.kill(spare, signal.SIGKILL)
        watch(watched, lambda: not item.is_spared)
        for _ in range(20):
            watched.watch(time.monotonic())
            time.sleep(0.01)
        assert item.spare is None, "it is not started over and over"
        item.no_spare_before = 0.0
        _, still, other = with_spare(watched, "analyst")
        assert (still, item.restarts, notes) == (working, 0, [])
        # Nor is one that stands still, but it is none that could take a place.
        monkeypatch.setitem(watched._silence, "analyst", 0.8)
        os.kill(other, signal.SIGSTOP)
        watch(watched, lambda: item.spare is None)
        assert (item.restarts, notes) == (0, [])


@pytest.mark.usefixtures("hasty")
def test_a_spare_that_does_not_wake_is_replaced_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WAKING_SECONDS", 0.5)
    watched, _, notes = made(spares=True, publisher=PublisherSettings(str(tmp_path / "out.ts"), 5.0))
    with watched:
        item, working, spare = with_spare(watched, "publisher")
        os.kill(spare, signal.SIGSTOP)
        os.kill(working, signal.SIGKILL)
        watch(watched, lambda: item.restarts == 2 and item.beat is not None)
        assert item.process is not None
        assert item.process.pid not in (working, spare)
        assert [why.rpartition(" for ")[0] or why for _, why in notes] == [
            "ended with signal 9 (SIGKILL)",
            "was silent",
        ]


@pytest.mark.usefixtures("hasty")
def test_a_spare_may_wait_for_a_server_as_long_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WAKING_SECONDS", 1.0)
    shape = Shape.like((160, 96), Fraction(25))
    begin = Begin(shape.size, (25, 1), shape.bits, shape.preset, PictureEncoder(shape).parameter_sets, None)
    with contextlib.ExitStack() as stack:
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        mute.setblocking(False)

        def is_connected() -> bool:
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(mute.accept()[0])
                return True
            return False

        watched, _, notes = made(
            spares=True,
            filter=FilterSettings(
                policy=Policy.default().as_document(),
                labels=[],
                preparations=[],
                delay_seconds=1.0,
                latency_seconds=1.45,
                max_gap_seconds=0.4,
                hold_seconds=2.0,
                margin=0.2,
                max_pixels=1 << 20,
                preset="superfast",
                threads=1,
                begin=begin,
            ),
            publisher=PublisherSettings(f"rtmp://127.0.0.1:{mute.getsockname()[1]}/out/live", 8.0),
        )
        with watched:
            item, working, spare = with_spare(watched, "publisher")
            watch(watched, is_connected)
            os.kill(working, signal.SIGKILL)
            watch(watched, lambda: item.restarts == 1)
            watch(watched, is_connected)
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                watched.watch(time.monotonic())
                time.sleep(0.01)
            assert item.process is not None
            assert item.process.pid == spare
            assert [role for role, _ in notes] == ["publisher"]


@pytest.mark.usefixtures("hasty")
def test_spares_end_with_the_rest(tmp_path: Path) -> None:
    watched, _, _ = made(spares=True, publisher=PublisherSettings(str(tmp_path / "out.ts"), 5.0))
    with watched:
        item, _, _ = with_spare(watched, "publisher")
        assert item.spare is not None
        process = item.spare.process
    assert process is not None
    assert process.returncode == -signal.SIGKILL


def test_without_spares_there_are_none(tmp_path: Path, hasty: None) -> None:
    watched, told, _ = made(publisher=PublisherSettings(str(tmp_path / "out.ts"), 5.0))
    with watched:
        watch(watched, lambda: told)
        for _ in range(10):
            watched.watch(time.monotonic())
        assert watched.watched["publisher"].spare is None
