"""The parent's side: one zygote and the workers that it forked."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import math
import os
import select
import time
from collections.abc import Sequence

from vidmod.closing import Closing
from vidmod.containment import Grants, Limits
from vidmod.containment.grants import NOTHING
from vidmod.errors import VidmodError
from vidmod.workers.endings import Death
from vidmod.workers.launcher import Launcher
from vidmod.workers.slots import shared_memory
from vidmod.workers.wire import Json, connect, encode
from vidmod.workers.worker import Ended, Message, Worker

# A worker's link closes a moment before the worker is gone.
_PATIENCE_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 60.0


class Pool(Closing):
    """Starts workers and listens to them. A context manager, for use by one thread.

    Nothing of a worker can stop or crash this process: no method waits for one, memory for what
    they say is bounded, and only JSON and pixels come from them. Creating a pool returns while its
    zygote warms up.

    Args:
        handler: `package.module:function`, called in the worker as `function(link, settings)`.
        limits: What a worker may use.
        warm: Modules that the zygote imports before the handler's.
    """

    def __init__(self, handler: str, limits: Limits, *, warm: Sequence[str] = ()) -> None:
        self._launcher: Launcher | None = None
        self._owner = os.getpid()
        self._limits = limits
        self._numbers = itertools.count()
        self._workers: dict[int, Worker] = {}
        self._reaping: dict[int, int] = {}
        self._launcher = Launcher(handler, warm, dataclasses.asdict(limits))
        self._launcher.flush()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def fork(
        self,
        source: int,
        settings: Json,
        *,
        slots: int,
        slot_bytes: int,
        grants: Grants = NOTHING,
        descriptors: int = 2,
    ) -> Worker:
        """Start a worker for one file; returns before it has started.

        Args:
            source: A descriptor of the file, open for reading only. It is duplicated; the offset is
                shared, so one opening serves one worker at a time.
            settings: For the handler.
            slots: How many pictures the worker may be ahead; 0 for none.
            slot_bytes: The size of a picture, at least 1 if there are slots.
            grants: What the worker may do beside computing and answering.
            descriptors: How many files it may have open at once.

        Raises:
            ValueError: The source can be written, or a number is out of range.
            WireError: The settings are above 4 MiB, or are not JSON.
            VidmodError: The zygote is dead.
        """
        launcher = self._open()
        if slots < 0 or slot_bytes < min(slots, 1):
            raise ValueError(f"Invalid slots ({slots} of {slot_bytes} bytes).")
        if fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            raise ValueError("The source can be written, and so could a worker. Open it for reading only.")
        number = next(self._numbers)
        connection, theirs = connect()
        passed = [theirs]
        try:
            passed.append(fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3))
            if slots:
                passed.append(shared_memory(slots, slot_bytes))
            frame = {"fork": number, "descriptors": len(passed), "slots": slots, "slot_bytes": slot_bytes}
            reach = {"grants": _as_json(grants), "free": descriptors}
            request = encode({**frame, **reach, "settings": settings})
            memory = passed[2] if slots else None
            worker = Worker(connection, memory, slots, slot_bytes, self._limits)
        except BaseException:
            connection.close()
            for descriptor in passed:
                os.close(descriptor)
            raise
        self._workers[number] = worker
        try:
            launcher.post(request, passed)
        except VidmodError:
            self._give_up()
            raise
        return worker

    def poll(self, timeout: float) -> list[Message | Ended]:
        """Wait until something was said or ended, and give all of it, in order for each worker.

        A worker that is past its deadline is killed here. Call it at least every second while workers
        are at work.

        Args:
            timeout: The longest wait, in seconds; 0 only looks.

        Returns:
            At most 256 messages of each worker; empty if the time is over.

        Raises:
            VidmodError: The zygote died, or does not answer; the pool is of no use any more.
            ValueError: The pool is closed.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                found = self._round(end)
            except VidmodError:
                self._give_up()
                raise
            if found or time.monotonic() >= end:
                return found

    def close(self) -> None:
        """Kill every worker, end the zygote, and wait until they are gone: milliseconds, at worst seconds."""
        launcher, self._launcher = self._launcher, None
        if launcher is None:
            return
        # A fork of the owner has copies of its descriptors, but the processes are not its own.
        is_owner = os.getpid() == self._owner
        self._give_up()
        if is_owner:
            launcher.close()
        else:
            launcher.abandon()

    def _open(self) -> Launcher:
        if self._launcher is None:
            raise ValueError("The pool is closed.")
        if os.getpid() != self._owner:
            raise ValueError("The pool belongs to another process, of which this one is a fork.")
        return self._launcher

    def _round(self, end: float) -> list[Message | Ended]:
        launcher = self._open()
        self._ask_for_reaping(launcher)
        found: list[Message | Ended] = []
        for worker in self._wait(launcher, end):
            worker.flush()
            found += worker.hear()
        for worker in self._workers.values():
            worker.check_deadline()
        launcher.flush()
        for answer in launcher.read():
            found += self._understand(answer)
        return found

    def _wait(self, launcher: Launcher, end: float) -> list[Worker]:
        """Wait for anyone to say something, at most until `end` or the next deadline; give who may be heard."""
        poll = select.poll()
        poll.register(launcher, select.POLLIN | (select.POLLOUT if launcher.is_writing else 0))
        due = min(end - time.monotonic(), _LONGEST_WAIT_SECONDS)
        listened: dict[int, Worker] = {}
        ready: list[Worker] = []
        for worker in self._workers.values():
            if worker.connection is None:
                continue
            listened[worker.connection.fileno()] = worker
            poll.register(worker.connection, select.POLLIN | (select.POLLOUT if worker.is_writing else 0))
            due = min(due, worker.due_seconds)
            if worker.has_more:
                ready.append(worker)
        events = poll.poll(0 if ready else math.ceil(max(due, 0) * 1000))
        ready += [listened[number] for number, _ in events if number in listened]
        return list(dict.fromkeys(ready))

    def _ask_for_reaping(self, launcher: Launcher) -> None:
        for number, worker in self._workers.items():
            if worker.connection is None and worker.pid is not None and number not in self._reaping.values():
                self._reaping[worker.pid] = number
                launcher.post(encode({"reap": worker.pid, "patience": _PATIENCE_SECONDS}), [])

    def _understand(self, answer: Json) -> list[Ended]:
        if "started" in answer:
            self._workers[answer["started"]].start(answer["pid"])
            return []
        if "refused" in answer:
            worker = self._workers.pop(answer["refused"])
            return [worker.never_started(answer["detail"])]
        worker = self._workers.pop(self._reaping.pop(answer["dead"]))
        return [worker.judge(Death(answer["status"], answer["seconds"], answer["forced"]))]

    def _give_up(self) -> None:
        """Forget the workers: they die with their zygote, and their numbers may be another's then."""
        for worker in self._workers.values():
            worker.forget()
        self._workers.clear()


def _as_json(grants: Grants) -> Json:
    return {
        name: [str(path) for path in value] if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(grants).items()
    }
