"""The process that watches: starts the others, connects them, and replaces what dies or stands still.

It touches no media. Every process says several times a second that it lives; one that does not for longer than its work
can take is killed and started anew, and its neighbours are given new wires.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from vidmod.live.backoff import Backoff
from vidmod.live.launching import command, environment_of
from vidmod.live.messages import Beat, Begin, Hold, ToParent
from vidmod.live.wire import Wire, WireClosedError, give

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


@dataclass(slots=True)
class Watched:
    """A process, as the one that watches knows it.

    Attributes:
        beat: What it said last; None before it has said anything.
        restarts: How often it was started anew.
        why: How it ended last.
    """

    role: str
    settings: Callable[[], msgspec.Struct]
    process: subprocess.Popen[bytes] | None = None
    carrier: socket.socket | None = None
    wire: Wire[Any] | None = None
    beat: Beat | None = None
    heard: float = 0.0
    started: float = 0.0
    restarts: int = -1
    why: str = ""
    not_before: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first=_FIRST_WAIT, most=_LONGEST_WAIT, reset_after=5.0))


class Supervisor:
    """Watches the four processes of a live filter. A context manager; belongs to one thread.

    Args:
        settings: Role to what gives its settings, whenever it is started.
        notify: Told of a process that was replaced: its role, and why.
    """

    def __init__(
        self,
        settings: dict[str, Callable[[], msgspec.Struct]],
        *,
        notify: Callable[[str, str], None] = lambda _role, _why: None,
    ) -> None:
        self.watched = {role: Watched(role, make) for role, make in settings.items()}
        self.begin: Begin | None = None
        self._notify = notify
        self._held: Hold | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End them all; more than once is fine."""
        for item in self.watched.values():
            self._end(item)

    def hold(self, until: float | None) -> None:
        """Cover everything until then, on the shared clock; None for no longer. A new filter is told, too."""
        self._held = Hold(until)
        self._order(self.watched["filter"])

    def watch(self, now: float) -> None:
        """Take in what they say, and replace those that died or stand still. Never waits."""
        for item in self.watched.values():
            if item.process is None:
                if now >= item.not_before:
                    self._start(item, now)
                continue
            self._hear(item, now)
            if (why := self._trouble(item, now)) is not None:
                self._replace(item, why, now)

    def _hear(self, item: Watched, now: float) -> None:
        assert item.wire is not None
        with contextlib.suppress(WireClosedError):
            item.wire.flush()
            for message in item.wire.receive():
                item.heard = now
                if isinstance(message, Begin):
                    self.begin = message
                elif isinstance(message, Beat):
                    item.beat = message
                    item.backoff.succeeded()

    def _trouble(self, item: Watched, now: float) -> str | None:
        assert item.process is not None
        status = item.process.poll()
        if status is not None:
            name = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"status {status}"
            return f"ended with {name}"
        is_starting = item.beat is None or item.beat.doing == "loading"
        limit = _STARTING_SECONDS if is_starting else _SILENCE_SECONDS[item.role]
        since = max(item.heard, item.started)
        return f"was silent for {now - since:.1f} s" if now - since > limit else None

    def _replace(self, item: Watched, why: str, now: float) -> None:
        item.why = why
        self._end(item)
        self._notify(item.role, why)
        item.not_before = now + item.backoff.failed()

    def _start(self, item: Watched, now: float) -> None:
        carrier, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent, their_parent = socket.socketpair()
        with theirs, their_parent:
            item.process = subprocess.Popen(
                command(item.role, theirs.fileno(), their_parent.fileno()),
                env=environment_of(item.role),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), their_parent.fileno()),
                # Ctrl-C is for this process alone.
                process_group=0,
            )
        carrier.send(msgspec.msgpack.encode(item.settings()))
        item.carrier, item.wire = carrier, Wire(parent, cast(Any, ToParent))
        item.beat, item.started, item.heard = None, now, now
        item.restarts += 1
        for name, (one, other) in WIRES.items():
            if item.role in (one, other) and one in self.watched and other in self.watched:
                self._connect(name, self.watched[one], self.watched[other])
        if item.role == "filter":
            self._order(item)

    def _order(self, item: Watched) -> None:
        if self._held is not None and item.wire is not None:
            with contextlib.suppress(WireClosedError):
                item.wire.send(self._held)

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
            item.process.wait()
            item.process = None
        if item.carrier is not None:
            item.carrier.close()
            item.carrier = None
        if item.wire is not None:
            item.wire.close()
            item.wire = None
