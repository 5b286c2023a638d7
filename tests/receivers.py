"""Receivers of webhooks that behave badly, on loopback."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vidmod.live.telling.webhooks import Secret, verify

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = Secret(KEY)
# How a request can end without an acknowledgement. The first part of a name says whether the receiver has taken the
# event in before it fails: then it comes twice.
FAILURES = (
    "before 500",
    "before 503",
    "before 429",
    "before reset",
    "before close",
    "before garbage",
    "before hang",
    "after 500",
    "after reset",
    "after close",
    "after cut head",
    "after cut body",
    "after cut chunk",
    "after hang",
)
REFUSALS = ("before 302", "before 404", "after 400")


@dataclass
class Receiver:
    """What came, and how to behave.

    Attributes:
        behave: Given an event's body, `ok` or one of the failures and refusals.
        requests: Paths with headers and body, as they came.
        accepted: Bodies that were taken in, in order, each id once.
    """

    behave: Callable[[dict[str, Any]], str] = lambda _: "ok"
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    behaved: list[str] = field(default_factory=list)
    unsigned: int = 0
    hang_seconds: float = 1.0
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> str:
        with self._lock:
            self.requests.append((path, headers, body))
            try:
                verify(KEY, headers, body)
            except ValueError:
                self.unsigned += 1
                return "before 401"
            row = json.loads(body)
            how = self.behave(row)
            self.behaved.append(how)
            if (how == "ok" or how.startswith("after")) and row["id"] not in self.ids():
                self.accepted.append(row)
            return how

    def ids(self) -> list[str]:
        return [row["id"] for row in self.accepted]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, _, how = self.receiver.take(self.path, dict(self.headers), body).rpartition(" ")
        self.close_connection = True
        send = self.connection.sendall
        with contextlib.suppress(OSError):
            if how.isdigit():
                retry = b"Retry-After: 0\r\n" if how == "503" else b""
                where = b"Location: /elsewhere\r\n" if how == "302" else b""
                send(b"HTTP/1.1 %s No\r\nContent-Length: 0\r\n%s%s\r\n" % (how.encode(), retry, where))
            elif how == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            elif how == "garbage":
                send(b"\x16\x03\x01 what?\r\n\r\n")
            elif how == "hang":
                time.sleep(self.receiver.hang_seconds)
            elif how == "head":
                send(b"HTTP/1.1 200 OK\r\nContent-Le")
            elif how == "body":
                send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
            elif how == "chunk":
                send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n12345")
            elif how == "ok":
                send(b"HTTP/1.1 204 No Content\r\n\r\n")

    def log_message(self, *_: object) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None: ...


@contextlib.contextmanager
def receiving(receiver: Receiver, *, port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"receiver": receiver}))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    receiver.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/hooks/stage?token=a%20b"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def half_failing(seed: int, ways: tuple[str, ...] = FAILURES) -> Callable[[dict[str, Any]], str]:
    chance = random.Random(seed)
    return lambda _: chance.choice(ways) if chance.random() < 0.5 else "ok"


@contextlib.contextmanager
def answering(*replies: bytes, pause_seconds: float = 0.0) -> Iterator[tuple[str, list[int]]]:
    """A server that reads a request, and sends these replies one after the other whatever it was.

    Yields its URL, and a list that gets the bytes that were taken from it by every client.
    """
    taken: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    end = threading.Event()

    def serve() -> None:
        while not end.is_set():
            with contextlib.suppress(TimeoutError):
                peer, _ = listener.accept()
                with peer:
                    taken.append(_reply(peer, replies, pause_seconds, end))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", taken
    finally:
        end.set()
        thread.join()
        listener.close()


def _reply(peer: socket.socket, replies: tuple[bytes, ...], pause_seconds: float, end: threading.Event) -> int:
    count = 0
    peer.settimeout(2)
    with contextlib.suppress(OSError):
        peer.recv(65_536)
        for part in replies:
            while part and not end.is_set():
                sent = peer.send(part)
                count, part = count + sent, part[sent:]
            end.wait(pause_seconds)
    return count
