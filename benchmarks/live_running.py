"""Runs `vidmod live` between a real server, publisher and player, and looks at what its processes cost."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
from live_measuring import Log, Watched, Watcher
from live_sources import LABELS, Film

from tests.rtmp import ROOT, Nginx, Player, Publisher, sent

COMMAND: Sequence[str] = (sys.executable, "-m", "vidmod", "live")
_ROLE_MODULE = "vidmod.live.processes.process"
_MB = 1e6
_ENDING_SECONDS = 10.0


class Live:
    """`vidmod live`, as it is run by people. A context manager.

    Args:
        source, server: Its URLs.
        log: Where its standard error goes.
        options: More of its arguments.
        command: What is run.
    """

    def __init__(
        self, source: str, server: str, log: Path, options: Sequence[str] = (), command: Sequence[str] | None = None
    ) -> None:
        self._log = log
        chosen = COMMAND if command is None else command
        # Several may run side by side.
        name = f"trial-{os.getpid()}-{id(self)}"
        self.command = [*chosen, source, server, "--json-log", "--wait", "--name", name, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT, process_group=0
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        left = psutil.Process(self._process.pid).children(recursive=True) if self.is_running else []
        self._process.terminate()
        try:
            self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """See that it has not ended.

        Raises:
            SystemExit: It has, and what it said.
        """
        if not self.is_running:
            status = None if self._process is None else self._process.returncode
            said = self._log.read_text("utf-8", "replace")[-4000:]
            raise SystemExit(f"{shlex.join(self.command)} ended with status {status}:\n{said}")

    def processes(self) -> dict[str, psutil.Process]:
        """By role: `parent`, and what the others call themselves on their command lines.

        A spare is called `ROLE (spare)`: it is always younger than the process whose place it takes.
        """
        if self._process is None or not self.is_running:
            return {}
        parent = psutil.Process(self._process.pid)
        found = {"parent": parent}
        rows = []
        for child in parent.children():
            with contextlib.suppress(psutil.Error):
                words = child.cmdline()
                if _ROLE_MODULE in words[:-1]:
                    rows.append((child.create_time(), words[words.index(_ROLE_MODULE) + 1], child))
        for _, role, child in sorted(rows, key=lambda row: row[0]):
            found[role if role not in found else f"{role} (spare)"] = child
        return found

    def states(self) -> list[dict[str, Any]]:
        """What it said of itself, line by line: the fields of `vidmod.live.telling.state.LiveState`."""
        rows = []
        for line in self._log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                document = json.loads(line)
                if isinstance(document, dict) and document.get("event") == "status":
                    rows.append(document["state"])
        return rows


def analysed_fps(states: Sequence[dict[str, Any]], warm_up: float) -> float | None:
    """Pictures that were analysed a second, after so many seconds; None if it did not say."""
    rows = [row for row in states if row["uptime_seconds"] >= warm_up]
    if len(rows) < 2:
        return None
    passed = rows[-1]["uptime_seconds"] - rows[0]["uptime_seconds"]
    return float(rows[-1]["frames_analysed"] - rows[0]["frames_analysed"]) / passed if passed > 0 else None


@dataclass(slots=True)
class Usage:
    """What processes take, over time.

    Attributes:
        times: Of the looks, on the clock of this machine.
        memory: Role to resident memory in 10^6 bytes, at each of these times; 0 where it did not run.
        cpu: Role to seconds of processor time, since the first look.
    """

    times: list[float] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    _spent: dict[int, float] = field(default_factory=dict)

    def look(self, processes: dict[str, psutil.Process]) -> None:
        """Take in how they are now."""
        self.times.append(time.monotonic())
        for role, process in processes.items():
            try:
                with process.oneshot():
                    memory = process.memory_info().rss / _MB
                    spent = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
            rows = self.memory.setdefault(role, [])
            rows += [0.0] * (len(self.times) - 1 - len(rows)) + [memory]
            before = self._spent.get(process.pid, spent if len(self.times) == 1 else 0.0)
            self.cpu[role] = self.cpu.get(role, 0.0) + spent - before
            self._spent[process.pid] = spent
        for rows in self.memory.values():
            rows += [0.0] * (len(self.times) - len(rows))

    @property
    def seconds(self) -> float:
        """From the first look to the last."""
        return self.times[-1] - self.times[0] if self.times else 0.0


@dataclass(slots=True)
class Rig:
    """All that runs, in a folder of its own.

    Attributes:
        source, server: What the filter reads from, and what it writes to: two servers.
        films: All that may be published.
    """

    folder: Path
    films: Sequence[Film]
    source: Nginx
    server: Nginx
    publisher: Publisher
    live: Live
    player: Player

    @property
    def sent_log(self) -> Path:
        """What publishers write down."""
        return self.folder / "sent"

    def processes(self) -> dict[str, psutil.Process]:
        """Everything by role."""
        found = self.live.processes()
        for name, item in (
            ("nginx (source)", self.source),
            ("nginx (server)", self.server),
            ("its publisher", self.publisher),
            ("its player", self.player),
        ):
            if item.pid is not None:
                with contextlib.suppress(psutil.Error):
                    found[name] = psutil.Process(item.pid)
        return found

    def watched(self) -> Watched:
        """All that the player got, decoded and measured now."""
        with Watcher(self.player.record, self.films) as watcher:
            return watcher.catch_up()

    def log(self) -> Log:
        """All that was sent."""
        return Log(sent(self.sent_log))

    def wait_for_clear(self, seconds: float) -> float:
        """Wait until a player gets to see something, at most so long.

        Returns:
            When, on the clock of this machine.

        Raises:
            SystemExit: Nothing is to be seen, or it has ended.
        """
        end = time.monotonic() + seconds
        while not self.player.record.exists() and time.monotonic() < end:
            self.live.check()
            time.sleep(0.1)
        with Watcher(self.player.record, self.films) as watcher:
            while time.monotonic() < end:
                self.live.check()
                if (first := watcher.first_clear()) is not None:
                    return first
                time.sleep(0.5)
        raise SystemExit(f"Nothing was to be seen within {seconds:g} s: {len(watcher.watched.frames)} frames came.")

    def keep_up(self) -> None:
        """Start the publisher again if it has lost its server, as encoders do."""
        if not self.publisher.is_running:
            self.publisher.kill()
            self.publisher.start()

    def wait(self, seconds: float, *, usage: Usage | None = None, every: float = 5.0) -> None:
        """Let it run.

        Raises:
            SystemExit: It has ended.
        """
        end = time.monotonic() + seconds
        look = time.monotonic()
        while (now := time.monotonic()) < end:
            self.live.check()
            self.keep_up()
            if usage is not None and now >= look:
                usage.look(self.processes())
                look = now + every
            time.sleep(max(0.0, min(0.2, end - now)))


@contextlib.contextmanager
def rig(
    folder: Path,
    films: Sequence[Film],
    *,
    options: Sequence[str] = (),
    command: Sequence[str] | None = None,
    application: str = "in",
    player: Callable[[str, Path], Player] = Player,
) -> Iterator[Rig]:
    """Everything, from server to player, running; the first film is published."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(Nginx(folder / "source"))
        server = stack.enter_context(Nginx(folder / "server"))
        url, film = source.url(application), films[0]
        publisher = Publisher(url, film.path, folder / "sent", ident=film.plan.ident)
        live = Live(url, server.url("out"), folder / "live.log", options, command)
        made = Rig(folder, films, source, server, publisher, live, player(server.url("out"), folder / "played"))
        # A fault may put another one in its place.
        stack.callback(lambda: made.publisher.kill())
        publisher.start()
        stack.enter_context(live)
        stack.enter_context(made.player)
        yield made


def covering(*more: str) -> list[str]:
    """Options under which the target is covered."""
    return ["--labels", ",".join(LABELS), *more]
