"""What hostile files point at, and who came by: files, a listener, a port."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hostile.containers import jpeg
from tests.recipes import Video, make


class _Openings:
    """Names of the files that any process opens in some folders, by inotify."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        in_open = 0x20
        for folder in folders:
            if self._libc.inotify_add_watch(self._fd, os.fsencode(folder), in_open) < 0:
                raise OSError(ctypes.get_errno(), f"inotify {folder}")

    def close(self) -> None:
        os.close(self._fd)

    def names(self) -> set[str]:
        """What was opened since this was asked last; the folders themselves do not count."""
        found: set[str] = set()
        in_isdir, in_overflow = 0x40000000, 0x4000
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                if mask & in_overflow:
                    raise OSError("inotify lost events")
                if not mask & in_isdir:
                    found.add(os.fsdecode(data[16 : 16 + length].rstrip(b"\0")))
                data = data[16 + length :]


@dataclass(frozen=True)
class Bait:
    """What nested references point at. Nobody should ever ask for any of it.

    Attributes:
        folder: Where the hostile file lies; `sibling` and the others lie beside it.
        secret: A file elsewhere.
        tcp: Somebody listens here.
        udp: A port that is free; a receiver of RTP would bind it.
    """

    folder: Path
    secret: Path
    tcp: int
    udp: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.tcp}"

    def text(self, template: str) -> str:
        """A template with `{url}`, `{tcp}`, `{udp}`, `{sibling}`, `{secret}` filled in."""
        return template.format(url=self.url, tcp=self.tcp, udp=self.udp, sibling=SIBLING, secret=self.secret)


SIBLING = "sibling.ts"


class Trap:
    """A listener on the loopback, files that nobody should open, and who came by.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.connections = 0
        self.bound = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # RTP wants an even port, and takes the next one for RTCP.
            while True:
                probe.bind(("127.0.0.1", 0))
                if probe.getsockname()[1] % 2 == 0:
                    break
                probe.close()
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp = probe.getsockname()[1]
            probe.close()
        inside, outside = folder / "in", folder / "out"
        inside.mkdir()
        outside.mkdir()
        self.bait = Bait(inside, outside / "secret.ts", self._listener.getsockname()[1], udp)
        whole = make(outside / "secret.ts", Video(count=4)).read_bytes()
        clip = make(outside / "secret.mp4", Video(count=4)).read_bytes()
        program = make(outside / "secret.mpg", Video("mpeg2video", count=4)).read_bytes()
        for name, data in (
            (SIBLING, whole), ("a", whole), ("b.mp4", clip), ("x.mp4", clip), ("sibling.mov", clip),
            ("job.sub", program), ("sibling.mxf", whole), ("frame001.jpg", jpeg(1)), ("frame002.jpg", jpeg(2)),
            ("frame1.jpg", jpeg(1)), ("frame2.jpg", jpeg(2)), ("key.bin", bytes(16)),
        ):  # fmt: skip
            (inside / name).write_bytes(data)
        self.siblings = {path.name for path in inside.iterdir()} | {path.name for path in outside.iterdir()}
        self._openings = _Openings(inside, outside)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._accept, self._look)]

    def __enter__(self) -> Self:
        self._listener.settimeout(0.05)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._openings.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            connection.close()

    def _look(self) -> None:
        """Whether anybody receives at the UDP port: the kernel's list of sockets tells."""
        wanted = f":{self.bait.udp:04X} "
        tables = [path for path in (Path("/proc/net/udp"), Path("/proc/net/udp6")) if path.exists()]
        while not self._stop.wait(0.02):
            self.bound |= any(wanted in table.read_text("ascii") for table in tables)

    def sprung(self) -> set[str]:
        """What was touched since this was asked last: names of files, `tcp`, `udp`."""
        touched = self._openings.names() & self.siblings
        touched |= {"tcp"} if self.connections else set()
        touched |= {"udp"} if self.bound else set()
        self.connections, self.bound = 0, False
        return touched


_PLAIN = """
import sys, av
path, how, *options = sys.argv[1:]
options = dict(option.split("=") for option in options)
with av.open(path if how == "path" else open(path, "rb"), container_options=options, timeout=(4, 4)) as container:
    for number, packet in enumerate(container.demux()):
        if number > 8:
            break
"""


def open_plainly(path: Path, how: str = "path") -> None:
    """Open a file as a careless program does, in a process of its own: PyAV without any whitelist."""
    command = [sys.executable, "-c", _PLAIN, str(path), *how.split()]
    process = subprocess.Popen(
        command, cwd=path.parent, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
