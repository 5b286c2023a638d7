"""A real RTMP server, publisher and player on loopback: nginx with libnginx-mod-rtmp, and FFmpeg's libraries.

::

    with Nginx(folder) as server, Publisher(server.url("in"), film, folder) as publisher:
        with Player(server.url("out"), folder / "played") as player:
            ...

All three are processes of their own, which can be killed, stopped and resumed. Needs nothing of pytest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

ROOT = Path(__file__).resolve().parents[1]
_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules")
# A player of `out` stays while nobody publishes, as with nginx's own settings; and a source that is `in`, too: another
# publisher goes on where the last one ended, at time 0 and with whatever it has. `strict` ends with its publisher.
_CONFIGURATION = """\
load_module {module};
worker_processes 1;
daemon off;
master_process off;
error_log {folder}/error.log notice;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
rtmp {{
  server {{
    listen 127.0.0.1:{port};
    chunk_size 4096;
    application in {{ live on; wait_key on; wait_video on; }}
    application strict {{ live on; idle_streams off; drop_idle_publisher 5s; wait_key on; wait_video on; }}
    application out {{ live on; wait_key on; wait_video on; }}
  }}
}}
"""
_STARTING_SECONDS = 10.0

# What a player writes down: kind, when it came, pts and dts in 1/1000 s, whether it can be begun with, length.
RECORD = struct.Struct("<cdqq?I")
PICTURE, SOUND, CONNECTED, EXTRADATA, GONE = b"p", b"s", b"c", b"e", b"g"
# What a publisher writes down of every frame: when it was sent, its film, its number.
SENT = struct.Struct("<dII")


def missing() -> str | None:
    """Why there can be no server here; None if there can."""
    if _program() is None:
        return "nginx is not installed"
    return None if _module() is not None else "nginx's RTMP module (libnginx-mod-rtmp) is not installed"


def _program() -> str | None:
    # On Debian it is where only root looks.
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def _module() -> Path | None:
    return next((path for folder in _MODULES if (path := Path(folder) / "ngx_rtmp_module.so").is_file()), None)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Running:
    """A process that can be killed, stopped, resumed, and started again. A context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def command(self) -> list[str]:
        """What is started."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=ROOT,
            # Ctrl-C is for whoever started it.
            process_group=0,
        )

    @property
    def pid(self) -> int | None:
        """Its number; None if it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has neither ended nor was it killed."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, also one that is stopped; more than once is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process = None

    def stop(self) -> None:
        """Let it stand still; nothing that it holds is closed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class Nginx(Running):
    """A server with the applications `in`, `strict` and `out`; started again, it is at the same port.

    Args:
        folder: Of its own, for its configuration and log.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.port = folder, free_port()
        module, program = _module(), _program()
        if module is None or program is None:
            raise RuntimeError(missing())
        self._program = program
        folder.mkdir(parents=True, exist_ok=True)
        text = _CONFIGURATION.format(module=module, folder=folder, port=self.port)
        (folder / "nginx.conf").write_text(text, "utf-8")

    def command(self) -> list[str]:
        """What is started."""
        log = self.folder / "error.log"
        return [self._program, "-p", str(self.folder), "-e", str(log), "-c", str(self.folder / "nginx.conf")]

    def url(self, application: str, name: str = "live") -> str:
        """Of a stream."""
        return f"rtmp://127.0.0.1:{self.port}/{application}/{name}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        super().start()
        end = time.monotonic() + _STARTING_SECONDS
        while time.monotonic() < end and self.is_running:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        log = self.folder / "error.log"
        raise RuntimeError(f"nginx does not listen: {log.read_text('utf-8') if log.exists() else 'it has no log'}")


class Publisher(Running):
    """Sends a film over and over as fast as it is shown, without encoding anything; see `tests/rtmp_publisher.py`.

    Args:
        url: Where to.
        film: A file of H.264 and, if any, AAC.
        log: Where it is written down when which frame was sent; appended to.
        ident: Of the film, as that log has it.
    """

    def __init__(self, url: str, film: Path, log: Path, *, ident: int = 0) -> None:
        super().__init__()
        self.url, self.film, self.log, self.ident = url, film, log, ident

    def command(self) -> list[str]:
        """What is started."""
        return [sys.executable, "-m", "tests.rtmp_publisher", self.url, str(self.film), str(self.log), str(self.ident)]

    def order(self, *words: str | float) -> None:
        """`garbage SECONDS`, `jump SECONDS` ahead, or `back`: connect again, at time 0."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
                self._process.stdin.flush()


class Player(Running):
    """Plays a stream without decoding it, and writes down all that comes; see `tests/rtmp_player.py`.

    Args:
        url: What.
        record: Where to.
        every, length: Of every so many seconds it writes down so many only; None for all.
    """

    def __init__(self, url: str, record: Path, *, every: float | None = None, length: float = 0.0) -> None:
        super().__init__()
        self.url, self.record, self._every, self._length = url, record, every, length

    def command(self) -> list[str]:
        """What is started."""
        times = [] if self._every is None else [str(self._every), str(self._length)]
        return [sys.executable, "-m", "tests.rtmp_player", self.url, str(self.record), *times]


class Sent(NamedTuple):
    """A frame that a publisher sent."""

    time: float
    film: int
    number: int


def sent(log: Path) -> Iterator[Sent]:
    """What publishers wrote down, in order of time."""
    data = log.read_bytes() if log.exists() else b""
    for row in SENT.iter_unpack(data[: len(data) // SENT.size * SENT.size]):
        yield Sent(*row)


@dataclass(frozen=True, slots=True)
class Record:
    """What a player wrote down.

    Attributes:
        kind: A packet of `PICTURE` or `SOUND`; `CONNECTED`, and what is to be decoded; `EXTRADATA` for pictures from
            here on; `GONE`, and why.
        time: When, on the clock that all processes of a machine share.
        pts, dts: In 1/1000 s.
    """

    kind: bytes
    time: float
    pts: int
    dts: int
    key: bool
    data: bytes = field(repr=False)

    @property
    def content(self) -> dict[str, Any]:
        """Of `CONNECTED`: `picture` and `sound`, each with `codec` and `extradata` in hexadecimal."""
        found: dict[str, Any] = json.loads(self.data)
        return found


def records(file: BinaryIO) -> Iterator[Record]:
    """What a player has written down since the file was last read; what is not complete is left for the next time."""
    while True:
        place = file.tell()
        head = file.read(RECORD.size)
        if len(head) == RECORD.size:
            kind, when, pts, dts, key, length = RECORD.unpack(head)
            data = file.read(length)
            if len(data) == length:
                yield Record(kind, when, pts, dts, key, data)
                continue
        file.seek(place)
        return
