from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vidmod.live.telling.serving import PolledServer


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


class Listener(socket.socket):
    """Fails to accept as often as it is told to."""

    failures = 0
    accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        self.accepted += 1
        return super().accept()


Make = Callable[..., tuple[PolledServer, Listener]]


@pytest.fixture
def make() -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def made(**options: Any) -> tuple[PolledServer, Listener]:
            listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            settings: dict[str, Any] = {"answer": answer, "too_long": b"long", "broken": b"broken", **options}
            return stack.enter_context(PolledServer(listener, **settings)), listener

        yield made


def answer(received: bytes, _peer: socket.socket) -> bytes | None:
    return received.upper() if received.endswith(b"\n") else None


def connect(listener: Listener) -> socket.socket:
    peer = socket.create_connection(listener.getsockname(), timeout=5)
    peer.setblocking(False)
    return peer


def poll(server: PolledServer, times: int = 10) -> None:
    for _ in range(times):
        server.poll(0.01)


def test_a_question_in_pieces_gets_one_answer(make: Make) -> None:
    server, listener = make()
    with connect(listener) as peer:
        for piece in (b"a", b"b", b"c\n"):
            poll(server)
            with pytest.raises(BlockingIOError):
                peer.recv(100)
            peer.send(piece)
        poll(server)
        assert peer.recv(100) == b"ABC\n"
        assert peer.recv(100) == b""
        assert server.connections == 1
        # What comes after the question is read, so that the answer is not lost, and forgotten.
        peer.send(b"more\n")
        poll(server)
    poll(server)
    assert server.connections == 0


def test_nothing_waits_in_a_poll(make: Make) -> None:
    server, _ = make()
    poll(server, 100)


def test_a_large_answer_goes_as_fast_as_it_is_read(make: Make) -> None:
    size = 20_000_000
    server, listener = make(answer=lambda _received, _peer: bytes(size))
    with connect(listener) as peer:
        peer.send(b"x")
        count = 0
        while count < size:
            server.poll(0.01)
            with contextlib.suppress(BlockingIOError):
                count += len(peer.recv(1 << 20))
        assert count == size


def test_time_is_for_all_of_a_connection(make: Make) -> None:
    clock = Clock()
    server, listener = make(clock=clock, deadline_seconds=5.0)
    with connect(listener) as peer:
        for _ in range(5):
            poll(server)
            clock.now += 0.99
            peer.send(b"x")
        assert server.connections == 1
        clock.now += 0.1
        poll(server)
        assert server.connections == 0


def test_of_too_many_the_oldest_is_closed(make: Make) -> None:
    server, listener = make(max_connections=3)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(listener)) for _ in range(5)]
        poll(server)
        assert server.connections == 3
        for peer in peers[2:]:
            peer.send(b"x\n")
        poll(server)
        assert [peer.recv(10) for peer in peers] == [b"", b"", b"X\n", b"X\n", b"X\n"]


def test_without_descriptors_it_rests_and_goes_on(make: Make) -> None:
    clock = Clock()
    server, listener = make(clock=clock)
    listener.failures = 1
    with connect(listener) as peer:
        peer.send(b"x\n")
        poll(server, 50)
        assert listener.failures == 0
        assert listener.accepted == 0
        clock.now += 1
        poll(server)
        assert peer.recv(10) == b"X\n"


def test_who_is_not_admitted_hears_nothing(make: Make) -> None:
    def fail(_: socket.socket) -> bool:
        raise OSError

    for admits in (lambda _: False, fail):
        server, listener = make(admits=admits)
        with connect(listener) as peer:
            peer.send(b"x\n")
            poll(server)
            assert server.connections == 0
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(10) == b""


def test_what_fails_or_is_too_long_is_answered(make: Make) -> None:
    def fail(_received: bytes, _peer: socket.socket) -> bytes | None:
        raise RuntimeError

    for data, options, expected in ((b"x" * 101, {"max_bytes": 100}, b"long"), (b"x", {"answer": fail}, b"broken")):
        server, listener = make(**options)
        with connect(listener) as peer:
            peer.send(data)
            poll(server)
            assert peer.recv(100) == expected


def test_its_descriptor_is_readable_when_somebody_asks(make: Make) -> None:
    import select

    server, listener = make()
    assert select.select([server], [], [], 0) == ([], [], [])
    with connect(listener):
        assert select.select([server], [], [], 5) == ([server], [], [])
