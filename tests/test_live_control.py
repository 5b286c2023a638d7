from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.test_live_status import running as running_state
from vidmod.cli import cli
from vidmod.errors import ControlError, OutputError, UsageError, VidmodError
from vidmod.live.telling import control
from vidmod.live.telling.control import Commands, ControlServer, EmergencyCover, Order, Peer, send, socket_path
from vidmod.live.telling.state import LiveState

SERVE = """
import sys, time
from pathlib import Path
from vidmod.live.telling.control import ControlServer
with ControlServer(Path(sys.argv[1]), lambda order, peer: {"command": order.command}) as server:
    print("ready", flush=True)
    while True:
        server.poll(0.1)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "vidmod"


class Filter:
    """A filter without a picture: a server that is polled, and what orders did."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.state: LiveState = running_state()
        self.stopped = 0
        self.told: list[tuple[Order, Peer]] = []
        self.emergency = EmergencyCover(control.marker_path(path))
        commands = Commands(self.emergency, lambda: self.state, self._stop, lambda *item: self.told.append(item))
        self.server = ControlServer(path, commands.carry_out, **options)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _stop(self) -> None:
        self.stopped += 1

    def _run(self) -> None:
        # As the parent does it: in a loop of its own.
        with selectors.DefaultSelector() as loop:
            loop.register(self.server, selectors.EVENT_READ)
            while not self._end.is_set():
                loop.select(0.05)
                self.server.poll()

    def covered(self) -> bool:
        return self.emergency.active

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self.server.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Filter]]:
    with contextlib.ExitStack() as stack:

        def make(name: str = "stage", **options: Any) -> Filter:
            return stack.enter_context(contextlib.closing(Filter(socket_path(name), **options)))

        yield make


def ask(path: Path, data: bytes, *, end: bool = False) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                received += part
        return received


def test_cover_and_uncover(start: Callable[..., Filter]) -> None:
    live = start()
    path = live.server.path
    answer = send(path, Order("cover"))
    assert answer == {
        "schema": "vidmod.control/1",
        "ok": True,
        "survives_restart": True,
        "emergency": True,
        "emergency_seconds_left": None,
        "other_covers": [],
    }
    assert live.covered()
    assert send(path, Order("uncover"))["emergency"] is False
    assert not live.covered()
    peer = Peer(os.getpid(), os.geteuid())
    assert live.told == [(Order("cover"), peer), (Order("uncover"), peer)]


def test_uncover_leaves_what_the_filter_itself_decided(start: Callable[..., Filter]) -> None:
    live = start()
    live.state = running_state(cover_reasons=("emergency", "hit", "not_analysed"))
    send(live.server.path, Order("cover"))
    answer = send(live.server.path, Order("uncover"))
    assert answer["other_covers"] == ["hit", "not_analysed"]
    assert live.state.is_covered


def test_status_and_stop(start: Callable[..., Filter]) -> None:
    live = start()
    answer = send(live.server.path, Order("status"))
    assert answer["state"]["fps_out"] == 29.97
    assert live.told == []
    send(live.server.path, Order("stop"))
    assert live.stopped == 1


def test_the_socket_is_private(start: Callable[..., Filter], folder: Path) -> None:
    before = os.umask(0)
    try:
        live = start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(live.server.path.lstat().st_mode) == 0o600
    live.close()
    assert not live.server.path.exists()


def test_other_users_are_not_heard(start: Callable[..., Filter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_credentials", lambda _: Peer(1, 4242))
    live = start(user=4243)
    assert ask(live.server.path, b'{"command": "cover"}\n') == b""
    assert not live.covered()
    monkeypatch.setattr(control, "_credentials", lambda _: Peer(1, 4243))
    assert json.loads(ask(live.server.path, b'{"command": "cover"}\n'))["ok"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_the_kernel_says_who_asks(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "stage.sock"
    # The server hears root and one user, whose number another user does not have.
    with ControlServer(path, lambda order, peer: {"user": peer.user}, user=12_345) as server:
        path.chmod(0o666)
        for user, heard in ((0, True), (12_345, True), (12_346, False)):
            code = (
                "import os, socket, sys; os.setuid(int(sys.argv[2])); s = socket.socket(socket.AF_UNIX); "
                's.settimeout(10); s.connect(sys.argv[1]); s.sendall(b\'{"command": "status"}\\n\'); '
                "print(s.recv(1000).decode())"
            )
            # By a path that every user can go.
            descriptor = os.open(tmp_path, os.O_PATH)
            place = f"/proc/self/fd/{descriptor}/{path.name}"
            with subprocess.Popen(
                [sys.executable, "-c", code, place, str(user)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                pass_fds=[descriptor],
            ) as process:
                while process.poll() is None:
                    server.poll(0.05)
                assert process.stdout is not None
                text = process.stdout.read()
            os.close(descriptor)
            assert (f'"user":{user}' in text) is heard


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\n", "truncated"),
        (b"nonsense\n", "malformed"),
        (b'{"command": "explode"}\n', "Invalid command"),
        (b'{"command": 5}\n', "Expected `str`"),
        (b'{"command": "cover", "seconds": -1}\n', "Invalid seconds"),
        (b'{"command": "cover", "seconds": 1e300}\n', "Invalid seconds"),
        (b'{"command": "stop", "seconds": 1}\n', "Invalid seconds"),
        (b'{"command": "cover"' + b" " * 5000, "at most 4096 bytes"),
        (b"[" * 4000 + b"\n", ""),
        (b'{"command": "\xff"}\n', ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_order_that_makes_no_sense_is_refused(start: Callable[..., Filter], data: bytes, says: str) -> None:
    live = start()
    answer = json.loads(ask(live.server.path, data))
    assert answer["ok"] is False
    assert says in answer["error"]
    assert not live.covered()
    assert send(live.server.path, Order("status"))["ok"] is True


def test_half_an_order_is_none(start: Callable[..., Filter]) -> None:
    live = start(deadline_seconds=0.5)
    assert ask(live.server.path, b'{"command": "cover"}', end=True) == b""
    began = time.monotonic()
    assert ask(live.server.path, b'{"command": "cover"}') == b""
    assert 0.3 < time.monotonic() - began < 5
    assert not live.covered()


def test_who_says_nothing_keeps_nobody_from_giving_orders(start: Callable[..., Filter]) -> None:
    live = start()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(10)
            control._connect(connection, str(live.server.path), time.monotonic() + 10)
        began = time.monotonic()
        send(live.server.path, Order("cover"))
        assert time.monotonic() - began < 1.5
    assert live.covered()


def test_an_order_that_fails_ends_nothing(folder: Path) -> None:
    def fail(_order: Order, _peer: Peer) -> dict[str, Any]:
        raise RuntimeError

    live = Filter(socket_path("stage"))
    live.server._carry_out = fail
    try:
        with pytest.raises(ControlError, match="failed to carry that out"):
            send(live.server.path, Order("cover"))
        assert live._thread.is_alive()
    finally:
        live.close()


def serve(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_socket_of_a_process_that_was_killed_is_replaced_and_that_of_one_that_runs_is_not(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    path = socket_path("stage")
    process = serve(path)
    try:
        assert control.running() == ["stage"]
        with pytest.raises(UsageError, match="a live filter of this name runs"):
            ControlServer(path, lambda _order, _peer: {})
        assert send(path, Order("status"))["command"] == "status"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert path.exists()
    assert control.running() == []
    with pytest.raises(UsageError, match="no live filter listens there"):
        send(path, Order("cover"))
    EmergencyCover(control.marker_path(path)).cover()
    with ControlServer(path, lambda _order, _peer: {}) as server:
        assert control.running() == ["stage"]
        with pytest.raises(UsageError, match="runs"):
            ControlServer(path, lambda _order, _peer: {})
        assert server.path.exists()
    assert control.running() == []
    # The socket goes, the cover stays.
    assert not path.exists()
    assert EmergencyCover(control.marker_path(path)).active


def test_a_stopped_process_is_told_of_and_not_replaced(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    process = serve(socket_path("stage"))
    try:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ControlError, match=r"no answer within 0\.3 s"):
            send(socket_path("stage"), Order("cover"), 0.3)
        with pytest.raises(UsageError, match="runs"):
            ControlServer(socket_path("stage"), lambda _order, _peer: {})
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("length", [80, 107, 108, 250, 900])
def test_a_long_path_works(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(str(folder)) + 12 < length:
        folder /= "x" * max(1, min(100, length - len(str(folder)) - 12))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "stage.sock"
    live = Filter(path)
    try:
        assert send(path, Order("cover"))["emergency"] is True
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    finally:
        live.close()


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    with pytest.raises(OutputError, match="others may write to it"):
        ControlServer(socket_path("stage"), lambda _order, _peer: {})
    assert control.running() == []
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is no folder"):
        ControlServer(socket_path("stage"), lambda _order, _peer: {})
    with pytest.raises(OutputError, match="Make it"):
        ControlServer(tmp_path / "no" / "stage.sock", lambda _order, _peer: {})


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(OutputError, match="is no socket"):
        ControlServer(path, lambda _order, _peer: {})
    assert path.read_text() == "mine"


def test_without_a_runtime_folder_it_is_one_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "relative", "/no/such/folder"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert control.runtime_folder() == Path(f"/tmp/vidmod-{os.geteuid()}")


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a b", "ä", "x" * 65, "a\n"])
def test_a_name_that_can_be_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Invalid name"):
        socket_path(name)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_cover_for_a_time_ends_by_itself() -> None:
    clock = Clock()
    cover = EmergencyCover(clock=clock)
    assert cover.seconds_left == 0.0
    assert cover.cover(30) is False
    clock.now += 29.9
    assert cover.active
    assert cover.seconds_left == pytest.approx(0.1)
    clock.now += 0.2
    assert not cover.active


def test_a_cover_is_never_shortened_by_another() -> None:
    clock = Clock()
    cover = EmergencyCover(clock=clock)
    cover.cover(30)
    cover.cover(5)
    clock.now += 20
    assert cover.active
    cover.cover()
    cover.cover(1)
    clock.now += 1e6
    assert cover.active
    assert cover.seconds_left is None


def test_a_filter_that_is_started_again_is_covered_still(tmp_path: Path) -> None:
    clock = Clock()
    marker = tmp_path / "stage.cover"
    assert EmergencyCover(marker, clock=clock).cover() is True
    again = EmergencyCover(marker, clock=clock)
    assert again.active
    assert again.seconds_left is None
    assert again.uncover() is True
    assert not EmergencyCover(marker, clock=clock).active
    EmergencyCover(marker, clock=clock).cover(30)
    clock.now += 10
    assert EmergencyCover(marker, clock=clock).seconds_left == pytest.approx(20)
    # After a reboot.
    clock.now = 3.0
    assert EmergencyCover(marker, clock=clock).seconds_left == pytest.approx(30)
    clock.now = 5000.0
    assert not EmergencyCover(marker, clock=clock).active


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"until": "x", "seconds": 1}', b'{"until": 1}', b'{"until": null, "seconds": 1}']
)
def test_a_marker_that_cannot_be_understood_covers(tmp_path: Path, content: bytes) -> None:
    marker = tmp_path / "stage.cover"
    marker.write_bytes(content)
    assert EmergencyCover(marker, clock=Clock()).seconds_left is None


def test_a_marker_that_cannot_be_written_still_covers(tmp_path: Path) -> None:
    cover = EmergencyCover(tmp_path / "no" / "stage.cover")
    assert cover.cover() is False
    assert cover.active
    state = {"fps_in": 29.97002, "shadow": False, "queues": {"clean": {"depth": 0}}, "hits": {}, "delay_seconds": None}
    assert control.describe({"state": state})[1:] == [
        "fps in: 29.97",
        "shadow: no",
        "queues: clean depth 0",
        "hits: -",
        "delay seconds: -",
    ]
    assert control.describe({"state": {"started_time": 1_700_000_000.5}})[1:] == [
        "started time: 2023-11-14 22:13:20 UTC"
    ]
    for value, text in ((None, "-"), ("x", "x"), (1e300, f"{1e300:.2f}"), (float("nan"), "nan"), ([1], "1")):
        assert control.describe({"state": {"started_time": value}})[1:] == [f"started time: {text}"]
    assert "cannot be kept on disk" in "\n".join(control.describe({"emergency": True, "survives_restart": False}))


def run(*arguments: str) -> tuple[str, BaseException | None]:
    result = CliRunner().invoke(cli, ["live-control", *arguments])
    return result.output, result.exception


def test_the_command_steers_the_only_filter_without_a_name(start: Callable[..., Filter]) -> None:
    live = start()
    assert run() == ("stage\n", None)
    assert run("cover") == ("emergency cover: on, until uncovered\n", None)
    assert live.covered()
    live.state = running_state(cover_reasons=("hit",))
    assert run("stage", "uncover") == ("emergency cover: off\ncovered by the filter itself: hit\n", None)
    assert not live.covered()
    assert run(str(live.server.path), "cover", "--seconds", "90")[0] == (
        "emergency cover: on, for 90 s\ncovered by the filter itself: hit\n"
    )
    output, _ = run("stage")
    assert "fps analysed: 8.23" in output.splitlines()
    assert json.loads(run("stage", "status", "--json")[0])["state"]["name"] == "stage"
    run("stop")
    assert live.stopped == 1


def test_the_command_asks_which_of_several(start: Callable[..., Filter]) -> None:
    first, second = start("stage"), start("desk")
    _, error = run("cover")
    assert isinstance(error, UsageError)
    assert "desk, stage" in str(error)
    assert run() == ("desk\nstage\n", None)
    assert not first.covered()
    run("desk", "cover")
    assert second.covered()
    assert not first.covered()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing", "cover"), "no live filter listens there"),
        (("cover",), "Which live filter"),
        (("stage", "explode"), "Invalid command"),
        (("stage", "cover", "--seconds", "0"), "Invalid seconds"),
        (("stage", "cover", "--seconds", "nan"), "Invalid seconds"),
        (("a b", "cover"), "Invalid name"),
        (("/no/folder/x.sock", "cover"), "no live filter listens there"),
        (("/" + "x" * 3000 + "/x.sock", "cover"), "cannot be asked"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], says: str) -> None:
    _, error = run(*arguments)
    assert isinstance(error, VidmodError)
    assert says in str(error)


@pytest.mark.parametrize("reply", [b"", b"nonsense\n", b"[]\n", b'{"ok": false, "error": "no"}\n', b"x" * 2_000_000])
def test_an_answer_that_is_none_is_told(tmp_path: Path, reply: bytes) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.recv(1000)
                peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlError, match=r"no answer of a live filter|refused"):
            send(path, Order("status"))
        thread.join()
