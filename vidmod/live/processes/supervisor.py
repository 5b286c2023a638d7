"""The process that watches: starts the others, connects them, and replaces what dies or stands still.

It touches no media. Every process says several times a second that it lives; one that does not for longer than its work
can take is killed, another takes its place, and its neighbours are given new wires. That other one, a spare, has been
started before: to load modules and models takes longer than anything else, and viewers see the cover meanwhile.
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

# Whose place a spare takes: all that stand between source and viewers.
_WITH_SPARES = ("reader", "filter", "analyst", "publisher")
# What such a spare is told is what every other one was told, so it can load its models.
_TOLD_EARLY = ("analyst",)
# A spare is started when the one that works has done so for a while, one at a time and this far apart: what it loads
# takes a core, which recovering needs more.
_SETTLED_SECONDS, _APART_SECONDS = 4.0, 1.5
# One that was lost is not started over and over.
_LOST_SECONDS = 30.0
# A spare has loaded all, and has but to answer.
_WAKING_SECONDS = 3.0


@dataclass(slots=True)
class Child:
    """A process, and what it has said; or none.

    Attributes:
        process: None if there is none.
        started: When it was, or took the place of another one.
        heard: When it said something last.
        beat: What that was; None before it has said anything.
        is_told: Whether it has its settings.
        was_spare: Whether it took the place of another one, with all that it needs loaded.
    """

    process: subprocess.Popen[bytes] | None = None
    carrier: socket.socket | None = None
    wire: Wire[Any] | None = None
    started: float = 0.0
    heard: float = 0.0
    beat: Beat | None = None
    errors: bytearray = field(default_factory=bytearray)
    is_told: bool = False
    was_spare: bool = False

    def silent_seconds(self, now: float) -> float:
        """Since when it has said nothing."""
        return now - max(self.heard, self.started)

    def tell(self, settings: msgspec.Struct) -> None:
        """Give it its settings.

        Raises:
            OSError: It is gone.
        """
        assert self.carrier is not None
        self.carrier.send(msgspec.msgpack.encode(settings))
        self.is_told = True

    def read_errors(self) -> None:
        """Take in what it wrote to standard error."""
        if self.process is None or self.process.stderr is None:
            return
        with contextlib.suppress(BlockingIOError):
            # At most so much at a time: one that never stops must not keep this from anything else.
            self.errors += os.read(self.process.stderr.fileno(), 65_536)
            del self.errors[:-_MOST_ERRORS]

    def end(self) -> None:
        """Kill it, and close all that led to it. It may take its time."""
        if self.process is not None:
            self.process.kill()
            if self.process.stderr is not None:
                self.process.stderr.close()
        if self.carrier is not None:
            self.carrier.close()
        if self.wire is not None:
            self.wire.close()


@dataclass(slots=True)
class Watched:
    """What is done by one process after the other, as the one that watches knows it.

    Attributes:
        current: The process that does it.
        spare: The one that is to take its place; None while there is none.
        ending: One that was killed, and may take its time.
        restarts: How often it was started anew.
        why: How it ended last, and what it said of that.
        failure: What it said was wrong when it ended last by itself; empty if it said nothing.
        status: Its exit status then; None if something else ended it.
    """

    role: str
    settings: Callable[[], msgspec.Struct]
    current: Child = field(default_factory=Child)
    spare: Child | None = None
    ending: subprocess.Popen[bytes] | None = None
    restarts: int = -1
    why: str = ""
    failure: str = ""
    status: int | None = None
    not_before: float = 0.0
    no_spare_before: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first=_FIRST_WAIT, most=_LONGEST_WAIT, reset_after=5.0))

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The one that does it; None while there is none."""
        return self.current.process

    @property
    def beat(self) -> Beat | None:
        """What it said last; None before it has said anything, and while there is none."""
        return self.current.beat

    @property
    def is_spared(self) -> bool:
        """Whether another one could take its place now."""
        spare = self.spare
        return spare is not None and (not spare.is_told or (spare.beat is not None and spare.beat.doing != "loading"))


class Supervisor:
    """Watches the processes of a live filter. A context manager; belongs to one thread.

    Args:
        settings: Role to what gives its settings, whenever it is started.
        notify: Told of a process that ended or stood still and will be started again: its role, and why.
        told: Given all that a process says: its role, and the message.
        silence: Role to how long it may be silent, where that is not as usual.
        spares: Whether a second process of each kind that stands in the stream's way waits ready.
        shows_errors: Whether what processes write to standard error goes there, whole; else its end is part of why.
    """

    def __init__(
        self,
        settings: Mapping[str, Callable[[], msgspec.Struct]],
        *,
        notify: Callable[[str, str], None] = lambda _role, _why: None,
        told: Callable[[str, object], None] = lambda _role, _message: None,
        silence: Mapping[str, float] | None = None,
        spares: bool = False,
        shows_errors: bool = False,
    ) -> None:
        self.watched = {role: Watched(role, make) for role, make in settings.items()}
        self.begin: Begin | None = None
        self._notify, self._told = notify, told
        self._silence = _SILENCE_SECONDS | dict(silence or {})
        self._spares, self._no_spare_before = spares, 0.0
        self._shows_errors = shows_errors
        self._held: Hold | None = None
        self._left: list[subprocess.Popen[bytes]] = []  # that were killed before they did anything

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End them all; more than once is fine."""
        for item in self.watched.values():
            self._end(item)
            self._end_spare(item)
        until = time.monotonic() + _ENDING_SECONDS
        for process in (*self._left, *(item.ending for item in self.watched.values())):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process is not None:
                    process.wait(max(0.0, until - time.monotonic()))

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
        if item is not None and item.current.wire is not None:
            with contextlib.suppress(WireClosedError):
                item.current.wire.send(message)

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
        for item in self.watched.values():
            self._keep_spare(item, now)
        self._left = [process for process in self._left if process.poll() is None]

    def listen(self, now: float) -> None:
        """Take in what they say, and leave those alone that end. Never waits."""
        for item in self.watched.values():
            if item.process is not None:
                self._hear(item, now)

    def _hear(self, item: Watched, now: float) -> None:
        for message in _said(item.current, now):
            if isinstance(message, Beat):
                if message.doing not in ("loading", "failed"):
                    item.backoff.succeeded()
            elif isinstance(message, Begin) and item.role == "filter":
                self.begin = message
            self._told(item.role, message)

    def _trouble(self, item: Watched, now: float) -> str | None:
        child = item.current
        assert child.process is not None
        status = child.process.poll()
        if status is not None:
            self._hear(item, now)  # what it said last
            item.status = status
            failed = child.beat is not None and child.beat.doing == "failed"
            item.failure = child.beat.trouble if failed and child.beat is not None else ""
            name = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"status {status}"
            said = item.failure or bytes(child.errors).decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
            return f"ended with {name}" + (f": {said}" if said else "")
        if not self._is_silent(item.role, child, now):
            return None
        item.failure, item.status = "", None
        return f"was silent for {child.silent_seconds(now):.1f} s"

    def _is_silent(self, role: str, child: Child, now: float) -> bool:
        """Whether it has said nothing for longer than its work can take."""
        if child.beat is None:
            limit = _WAKING_SECONDS if child.was_spare else _STARTING_SECONDS
        else:
            limit = _STARTING_SECONDS if child.beat.doing == "loading" else self._silence[role]
        return child.silent_seconds(now) > limit

    def _replace(self, item: Watched, why: str, now: float) -> None:
        item.why = why
        self._end(item)
        item.not_before = now + item.backoff.failed()
        self._notify(item.role, why)

    def _start(self, item: Watched, now: float) -> None:
        try:
            item.current = self._taken_over(item, now) or self._launched(item, now)
        except OSError as exc:
            # No memory, no descriptor, no process: there may be later.
            self._replace(item, f"cannot be started ({exc.strerror})", now)
            return
        item.restarts += 1
        for name, (one, other) in WIRES.items():
            if item.role in (one, other) and one in self.watched and other in self.watched:
                with contextlib.suppress(OSError):
                    self._connect(name, self.watched[one].current, self.watched[other].current)
        if item.role == "filter" and self._held is not None:
            self.order("filter", self._held)

    def _launched(self, item: Watched, now: float, *, told: bool = True) -> Child:
        """A new process, which has its settings or still waits for them.

        Raises:
            OSError: There cannot be one.
        """
        child = Child(started=now, heard=now)
        child.carrier, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                parent, their_parent = socket.socketpair()
                with their_parent:
                    child.wire = Wire(parent, cast(Any, ToParent))
                    child.process = subprocess.Popen(
                        command(item.role, theirs.fileno(), their_parent.fileno()),
                        env=environment_of(item.role),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=None if self._shows_errors else subprocess.PIPE,
                        pass_fds=(theirs.fileno(), their_parent.fileno()),
                        # Ctrl-C is for this process alone.
                        process_group=0,
                    )
            if child.process.stderr is not None:
                os.set_blocking(child.process.stderr.fileno(), False)
            if told:
                child.tell(item.settings())
        except OSError:
            self._leave(child)
            raise
        return child

    # Spares -------------------------------------------------------------------------------------

    def _keep_spare(self, item: Watched, now: float) -> None:
        """See that there is a spare, if there is to be one."""
        spare = item.spare
        if spare is not None:
            _said(spare, now)
            assert spare.process is not None
            if (spare.is_told and self._is_silent(item.role, spare, now)) or spare.process.poll() is not None:
                self._end_spare(item)
                item.no_spare_before = now + _LOST_SECONDS
        elif self._wants_spare(item, now):
            self._no_spare_before = now + _APART_SECONDS
            try:
                item.spare = self._launched(item, now, told=item.role in _TOLD_EARLY)
            except OSError:
                item.no_spare_before = now + _LOST_SECONDS

    def _wants_spare(self, item: Watched, now: float) -> bool:
        if not self._spares or item.role not in _WITH_SPARES or now < max(item.no_spare_before, self._no_spare_before):
            return False
        is_working = item.beat is not None and item.beat.doing not in ("loading", "failed")
        return is_working and now - item.current.started >= _SETTLED_SECONDS

    def _taken_over(self, item: Watched, now: float) -> Child | None:
        """The spare, at work; None if there is none, or none that can."""
        spare, item.spare = item.spare, None
        if spare is None:
            return None
        try:
            if not spare.is_told:
                spare.tell(item.settings())
        except OSError:
            self._leave(spare)
            return None
        spare.started, spare.was_spare = now, True
        return spare

    def _end_spare(self, item: Watched) -> None:
        spare, item.spare = item.spare, None
        if spare is not None:
            self._leave(spare)

    def _leave(self, child: Child) -> None:
        """Have a process end that does nothing yet."""
        child.end()
        if child.process is not None:
            self._left.append(child.process)

    @staticmethod
    def _connect(name: str, one: Child, other: Child) -> None:
        if one.carrier is None or other.carrier is None:
            return
        ends = socket.socketpair()
        for child, end in zip((one, other), ends, strict=True):
            assert child.carrier is not None
            give(child.carrier, name, end)
            end.close()

    @staticmethod
    def _end(item: Watched) -> None:
        child, item.current = item.current, Child()
        child.end()
        item.ending = child.process or item.ending

    @staticmethod
    def _is_gone(item: Watched) -> bool:
        """Whether the process before is: one in the middle of writing to a disk that hangs cannot be killed."""
        if item.ending is not None and item.ending.poll() is not None:
            item.ending = None
        return item.ending is None


def _said(child: Child, now: float) -> list[object]:
    """What a process has said by now."""
    assert child.wire is not None
    child.read_errors()
    rows: list[object] = []
    with contextlib.suppress(WireClosedError):
        child.wire.flush()
        for message in child.wire.receive():
            child.heard = now
            if isinstance(message, Beat):
                child.beat = message
            rows.append(message)
    return rows
