"""The process that starts workers: it imports what they need, forks one a file, and reaps it.

It is single-threaded, never parses media, and holds nothing of a job beyond the fork. It never
waits for a worker: only for the pool, and it ends with the pool.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from vidmod.allocation import return_large_blocks
from vidmod.containment import Grants, Limits, enclose
from vidmod.workers.endings import MAX_DETAIL_CHARACTERS
from vidmod.workers.link import Link
from vidmod.workers.slots import Slots
from vidmod.workers.wire import Inbox, Json, encode

Handler = Callable[[Link, Json], object]

_CHUNK_BYTES = 1 << 16
_MAX_DESCRIPTORS = 3
_REAP_SECONDS = 0.001
# The pool's end of the link can be held open by a process that it forked, so its death is looked for as well.
_LOOK_FOR_PARENT_SECONDS = 2.0
_OUT_OF_MEMORY = encode({"error": "MemoryError", "message": ""})
# What a worker has: /dev/null three times, and these.
_LINK, _SOURCE, _MAPPING = 3, 4, 5
# Shared memory until it is mapped.
_MEMORY = 6


@dataclass(slots=True)
class _Dying:
    """A worker whose death is waited for; at `kill_at` it is helped."""

    kill_at: float
    was_forced: bool = False


class Zygote:
    """Serves one pool until that closes the link.

    Args:
        control: A stream socket to the pool.
        parent: The pool's process.
    """

    def __init__(self, control: socket.socket, parent: int) -> None:
        self._control = control
        self._parent = parent
        self._pid = os.getpid()
        self._inbox = Inbox()
        self._descriptors: deque[int] = deque()
        self._children: set[int] = set()
        self._dying: dict[int, _Dying] = {}

    def serve(self) -> None:
        """Warm up by the first request, then answer the others until there are no more."""
        try:
            self._requests()
        except (BrokenPipeError, ConnectionResetError):
            pass  # The pool is gone.
        finally:
            self._kill_all()

    def _requests(self) -> None:
        while (first := self._inbox.take()) is None:
            if not self._read():
                return
        self._handler = _warm_up(first)
        self._limits = Limits(**first["limits"])
        self._debug: int | None = first["debug"]
        # Without this the first collection in every worker would copy every page of objects.
        gc.freeze()
        self._answer({"ready": True})
        while True:
            while (request := self._inbox.take()) is not None:
                self._serve(request)
            self._reap()
            if not self._wait() or not self._read():
                return

    def _wait(self) -> bool:
        """Wait for a request, reaping meanwhile; False if the parent is dead."""
        while True:
            seconds = _REAP_SECONDS if self._dying else _LOOK_FOR_PARENT_SECONDS
            if select.select([self._control], [], [], seconds)[0]:
                return True
            if os.getppid() != self._parent:
                return False
            self._reap()

    def _read(self) -> bool:
        data, descriptors, flags, _ = socket.recv_fds(self._control, _CHUNK_BYTES, _MAX_DESCRIPTORS)
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "descriptors were lost on the way")
        self._descriptors.extend(descriptors)
        self._inbox.feed(data)
        return bool(data)

    def _answer(self, message: Json) -> None:
        self._control.sendall(encode(message))

    def _serve(self, request: Json) -> None:
        if "fork" in request:
            self._fork(request)
        else:
            self._dying[request["reap"]] = _Dying(time.monotonic() + request["patience"])

    def _fork(self, request: Json) -> None:
        # They came with the first byte of their request, so they are here, and in order.
        descriptors = [self._descriptors.popleft() for _ in range(request["descriptors"])]
        _check_single_thread()
        try:
            pid = os.fork()
        except OSError as exc:
            self._answer({"refused": request["fork"], "detail": exc.strerror})
        else:
            if pid == 0:
                self._become_worker(request, descriptors)
            self._children.add(pid)
            self._answer({"started": request["fork"], "pid": pid})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _become_worker(self, request: Json, descriptors: list[int]) -> NoReturn:
        status = 1
        try:
            # Its number is about to be used anew.
            self._control.detach()
            status = self._work(request, descriptors)
        finally:
            # Nothing of the zygote's is flushed, closed or run at exit.
            os._exit(status)

    def _work(self, request: Json, descriptors: list[int]) -> int:
        """Serve one file, from the fork to the exit status."""
        os.dup2(1 if self._debug is None else self._debug, 2)
        _settle(descriptors)
        connection = socket.socket(fileno=_LINK)
        connection.setblocking(True)
        kept = [0, 1, 2, _LINK, _SOURCE]
        slots: Slots | None = None
        if request["slots"]:
            slots = Slots(_MEMORY, request["slots"], request["slot_bytes"], writable=True)
            # The mapping has made a duplicate, at the lowest number that was free.
            os.close(_MEMORY)
            kept.append(_MAPPING)
        failure: bytes | None = None
        try:
            grants = _grants(request["grants"])
            layers = enclose(self._limits, keep=kept, free=request["free"], grants=grants, parent=self._pid)
            connection.sendall(encode({"layers": list(layers)}))
            self._handler(Link(connection, _SOURCE, slots, request["slots"]), request["settings"])
        except MemoryError:
            failure = _OUT_OF_MEMORY
        except BaseException as exc:  # noqa: BLE001 -- it reaches the parent, whatever it is
            failure = _describe(exc)
            if self._debug is not None:
                sys.excepthook(type(exc), exc, exc.__traceback__)
        if failure is None:
            return 0
        # Here, not above: the exception is gone, and with it what its frames held of the memory.
        with contextlib.suppress(OSError):
            connection.sendall(failure)
        return 1

    def _reap(self) -> None:
        for pid, dying in list(self._dying.items()):
            if not dying.was_forced and time.monotonic() >= dying.kill_at:
                os.kill(pid, signal.SIGKILL)
                dying.was_forced = True
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                self._children.remove(pid)
                del self._dying[pid]
                seconds = usage.ru_utime + usage.ru_stime
                self._answer({"dead": pid, "status": status, "seconds": seconds, "forced": dying.was_forced})

    def _kill_all(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)


def _warm_up(request: Json) -> Handler:
    for name in request["warm"]:
        importlib.import_module(name)
    module, _, function = request["handler"].partition(":")
    handler = getattr(importlib.import_module(module), function)
    # Its threads would not survive a fork, and a lock that one holds would never be released.
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(1)
    _check_single_thread()
    return_large_blocks()
    # Garbage collection in workers need not look at it, nor make pages of it their own by writing reference counts.
    gc.freeze()
    return cast(Handler, handler)


def _grants(values: Json) -> Grants:
    fields: Json = {
        name: tuple(map(Path, value)) if isinstance(value, list) else value for name, value in values.items()
    }
    return Grants(**fields)


def _check_single_thread() -> None:
    tasks = Path("/proc/self/task")
    threads = len(list(tasks.iterdir())) if tasks.is_dir() else len(sys._current_frames())
    if threads != 1:
        raise RuntimeError(f"The zygote has {threads} threads, and forking is safe with one: an import starts some.")


def _describe(exc: BaseException) -> bytes:
    try:
        return encode({"error": type(exc).__name__, "message": str(exc)[:MAX_DETAIL_CHARACTERS]})
    except MemoryError:
        return _OUT_OF_MEMORY


def _settle(descriptors: list[int]) -> None:
    """Put what a worker needs at its fixed numbers, and close all else."""
    wanted = (_LINK, _SOURCE, _MEMORY)[: len(descriptors)]
    # First out of the way of the numbers that are to be taken.
    above = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _MEMORY + 1) for descriptor in descriptors]
    for number, descriptor in zip(wanted, above, strict=True):
        os.dup2(descriptor, number, inheritable=False)
    for number in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if number > 2 and number not in wanted:
            # The descriptor of the listing itself is closed by now.
            with contextlib.suppress(OSError):
                os.close(number)


def main(control: int, parent: int) -> None:
    """Run the zygote of a pool.

    Args:
        control: Descriptor of the socket to the pool.
        parent: The pool's process id.
    """
    # Ctrl-C is for the parent to judge; what it ignores or blocks is not for its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    connection = socket.socket(fileno=control)
    connection.setblocking(True)
    Zygote(connection, parent).serve()
    # Tearing down what was imported takes longer than all else here.
    os._exit(0)
