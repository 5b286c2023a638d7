"""The process that watches: starts the others, connects them, and replaces what dies or stands still.

It touches no media. Every process says several times a second that it lives; one that does not for longer than its work
can take is killed and started anew, and its neighbours are given new wires.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from vidmod.live.backoff import Backoff
from vidmod.live.messages import Beat, Begin, FromParent, Hold, ToParent
from vidmod.live.processes.launching import command, environment_of
from vidmod.live.processes.wire import Wire, WireClosedError, give

# Which processes have a wire between them, by the name that both know it by.
WIRES = {
    "packets": ("reader", "filter"),
    "looks": ("filter", "analyst"),
    "leaving": ("filter", "publisher"),
    "clean": ("publisher", "recorder"),
    "sights": ("filter", "recorder"),
    "sealed": ("reader", "recorder"),
}
# How long each may be silent: what it waits for in FFmpeg, or in a model, does not let it speak.
_SILENCE_SECONDS = {"reader": 15.0, "filter": 2.5, "analyst": 4.0, "publisher": 12.0, "recorder": 30.0}
_STARTING_SECONDS = 30.0
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0
# Of what a process writes to standard error, which is for programmers.
_MOST_ERRORS = 4096
_ENDING_SECONDS = 2.0


@dataclass(slots=True)
class Watched:
    """A process, as the one that watches knows it.

    Attributes:
        process: None while there is none.
        ending: One that was killed, and may take its time.
        beat: What it said last; None before it has said anything, and while there is none.
        restarts: How often it was started anew.
        why: How it ended last, and what it said of that.
        failure: What it said was wrong when it ended last by itself; empty if it said nothing.
        status: Its exit status then; None if something else ended it.
    """

    role: str
    settings: Callable[[], msgspec.Struct]
    process: subprocess.Popen[bytes] | None = None
    ending: subprocess.Popen[bytes] | None = None
    carrier: socket.socket | None = None
    wire: Wire[Any] | None = None
    beat: Beat | None = None
    heard: float = 0.0
    started: float = 0.0
    restarts: int = -1
    why: str = ""
    failure: str = ""
    status: int | None = None
    errors: bytearray = field(default_factory=bytearray)
    not_before: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first=_FIRST_WAIT, most=_LONGEST_WAIT, reset_after=5.0))


class Supervisor:
    """Watches the processes of a live filter. A context manager; belongs to one thread.

    Args:
        settings: Role to what gives its settings, whenever it is started.
        notify: Told of a process that ended or stood still and will be started again: its role, and why.
        told: Given all that a process says: its role, and the message.
        silence: Role to how long it may be silent, where that is not as usual.
        shows_errors: Whether what processes write to standard error goes there, whole; else its end is part of why.
    """

    def __init__(
        self,
        settings: Mapping[str, Callable[[], msgspec.Struct]],
        *,
        notify: Callable[[str, str], None] = lambda _role, _why: None,
        told: Callable[[str, object], None] = lambda _role, _message: None,
        silence: Mapping[str, float] | None = None,
        shows_errors: bool = False,
    ) -> None:
        self.watched = {role: Watched(role, make) for role, make in settings.items()}
        self.begin: Begin | None = None
        self._notify, self._told = notify, told
        self._silence = _SILENCE_SECONDS | dict(silence or {})
        self._shows_errors = shows_errors
        self._held: Hold | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End them all; more than once is fine."""
        for item in self.watched.values():
            self._end(item)
        until = time.monotonic() + _ENDING_SECONDS
        for item in self.watched.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                if item.ending is not None:
                    item.ending.wait(max(0.0, until - time.monotonic()))

    def add(self, role: str, settings: Callable[[], msgspec.Struct]) -> None:
        """Watch one more process."""
        self.watched[role] = Watched(role, settings)

    def hold(self, until: float | None) -> None:
        """Cover everything until then, on the shared clock; None for no longer. A new filter is told, too."""
        self._held = Hold(until)
        self.order("filter", self._held)

    def order(self, role: str, message: FromParent) -> None:
        """Give a process an order, if there is one. One that is started later does not know of it."""
        item = self.watched.get(role)
        if item is not None and item.wire is not None:
            with contextlib.suppress(WireClosedError):
                item.wire.send(message)

    def watch(self, now: float) -> None:
        """Take in what they say, and replace those that died or stand still. Never waits."""
        for item in list(self.watched.values()):
            if item.process is None:
                if self._is_gone(item) and now >= item.not_before:
                    self._start(item, now)
                continue
            self._hear(item, now)
            if (why := self._trouble(item, now)) is not None:
                self._replace(item, why, now)

    def listen(self, now: float) -> None:
        """Take in what they say, and leave those alone that end. Never waits."""
        for item in self.watched.values():
            if item.process is not None:
                self._hear(item, now)

    def _hear(self, item: Watched, now: float) -> None:
        assert item.wire is not None
        self._read_errors(item)
        with contextlib.suppress(WireClosedError):
            item.wire.flush()
            for message in item.wire.receive():
                item.heard = now
                if isinstance(message, Beat):
                    item.beat = message
                    if message.doing not in ("loading", "failed"):
                        item.backoff.succeeded()
                elif isinstance(message, Begin) and item.role == "filter":
                    self.begin = message
                self._told(item.role, message)

    def _trouble(self, item: Watched, now: float) -> str | None:
        assert item.process is not None
        status = item.process.poll()
        if status is not None:
            self._hear(item, now)  # what it said last
            item.status = status
            failed = item.beat is not None and item.beat.doing == "failed"
            item.failure = item.beat.trouble if failed and item.beat is not None else ""
            name = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"status {status}"
            said = item.failure or bytes(item.errors).decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
            return f"ended with {name}" + (f": {said}" if said else "")
        is_starting = item.beat is None or item.beat.doing == "loading"
        limit = _STARTING_SECONDS if is_starting else self._silence[item.role]
        since = max(item.heard, item.started)
        if now - since <= limit:
            return None
        item.failure, item.status = "", None
        return f"was silent for {now - since:.1f} s"

    def _read_errors(self, item: Watched) -> None:
        if item.process is None or item.process.stderr is None:
            return
        with contextlib.suppress(BlockingIOError):
            # At most so much at a time: one that never stops must not keep this from anything else.
            item.errors += os.read(item.process.stderr.fileno(), 65_536)
            del item.errors[:-_MOST_ERRORS]

    def _replace(self, item: Watched, why: str, now: float) -> None:
        item.why = why
        self._end(item)
        item.beat = None
        item.not_before = now + item.backoff.failed()
        self._notify(item.role, why)

    def _start(self, item: Watched, now: float) -> None:
        try:
            self._launch(item, now)
        except OSError as exc:
            # No memory, no descriptor, no process: there may be later.
            self._replace(item, f"cannot be started ({exc.strerror})", now)
            return
        for name, (one, other) in WIRES.items():
            if item.role in (one, other) and one in self.watched and other in self.watched:
                with contextlib.suppress(OSError):
                    self._connect(name, self.watched[one], self.watched[other])
        if item.role == "filter" and self._held is not None:
            self.order("filter", self._held)

    def _launch(self, item: Watched, now: float) -> None:
        item.carrier, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            parent, their_parent = socket.socketpair()
            with their_parent:
                item.wire = Wire(parent, cast(Any, ToParent))
                item.process = subprocess.Popen(
                    command(item.role, theirs.fileno(), their_parent.fileno()),
                    env=environment_of(item.role),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if self._shows_errors else subprocess.PIPE,
                    pass_fds=(theirs.fileno(), their_parent.fileno()),
                    # Ctrl-C is for this process alone.
                    process_group=0,
                )
        if item.process.stderr is not None:
            os.set_blocking(item.process.stderr.fileno(), False)
        item.errors.clear()
        item.carrier.send(msgspec.msgpack.encode(item.settings()))
        item.beat, item.started, item.heard = None, now, now
        item.restarts += 1

    def _connect(self, name: str, one: Watched, other: Watched) -> None:
        if one.carrier is None or other.carrier is None:
            return
        ends = socket.socketpair()
        for item, end in zip((one, other), ends, strict=True):
            assert item.carrier is not None
            give(item.carrier, name, end)
            end.close()

    def _end(self, item: Watched) -> None:
        if item.process is not None:
            item.process.kill()
            if item.process.stderr is not None:
                item.process.stderr.close()
            item.process, item.ending = None, item.process
        if item.carrier is not None:
            item.carrier.close()
            item.carrier = None
        if item.wire is not None:
            item.wire.close()
            item.wire = None

    @staticmethod
    def _is_gone(item: Watched) -> bool:
        """Whether the process before is: one in the middle of writing to a disk that hangs cannot be killed."""
        if item.ending is not None and item.ending.poll() is not None:
            item.ending = None
        return item.ending is None
