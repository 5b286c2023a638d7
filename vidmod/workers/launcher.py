"""The parent's hold on its zygote: starting it, asking it, ending it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence

from vidmod.errors import VidmodError
from vidmod.workers.endings import signal_words
from vidmod.workers.slots import anonymous_file
from vidmod.workers.wire import Inbox, Json, connect, encode

_CHUNK_BYTES = 1 << 16
# Warming up takes half a second; on a cold disk it takes longer. All else takes milliseconds.
_ANSWER_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_MAX_COMPLAINT_BYTES = 4000
# Only what finding programs and modules needs: no credentials.
_PASSED_ON = (
    "PATH",
    "LANG",
    "PYTHONHOME",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    # which GPUs there are, and their numbers
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vidmod.workers.zygote import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
# The socket is full, or too many descriptors are on their way.
_LATER = (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS)


class Launcher:
    """Starts a zygote and does not wait for it. The first :meth:`flush` lets it warm up.

    Args:
        handler: As `module:function`.
        warm: Modules that the zygote imports first.
        limits: The fields of :class:`vidmod.containment.Limits`.

    Attributes:
        is_ready: Whether the zygote has warmed up.
    """

    def __init__(self, handler: str, warm: Sequence[str], limits: Json) -> None:
        self.is_ready = False
        self._inbox = Inbox()
        self._queue: deque[tuple[bytearray, list[int]]] = deque()
        self._complaints = anonymous_file("vidmod zygote")
        self._control, theirs = connect()
        terminal = _terminal()
        passed = [theirs] if terminal is None else [theirs, terminal]
        try:
            self._process = _start(passed, self._complaints)
        except OSError as exc:
            self._let_go()
            raise VidmodError(f"Cannot start {sys.executable}: {exc.strerror}.") from exc
        finally:
            for descriptor in passed:
                os.close(descriptor)
        # Every request has one answer.
        self._unanswered = 1
        self._heard = time.monotonic()
        request = {"handler": handler, "warm": list(warm), "limits": limits, "debug": terminal}
        self._queue.append((bytearray(encode(request)), []))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._control.fileno()

    @property
    def is_writing(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._queue)

    def post(self, frame: bytes, descriptors: list[int]) -> None:
        """Queue a request, and send what can be sent. The descriptors are closed once they are sent.

        Raises:
            VidmodError: The zygote is dead; the message says what it wrote.
        """
        if not self._unanswered:
            self._heard = time.monotonic()
        self._unanswered += 1
        self._queue.append((bytearray(frame), descriptors))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent without waiting.

        Raises:
            VidmodError: The zygote is dead; the message says what it wrote.
        """
        while self._queue:
            data, descriptors = self._queue[0]
            try:
                sent = socket.send_fds(self._control, [data], descriptors)
            except OSError as exc:
                if exc.errno in _LATER:
                    return
                raise VidmodError(self._obituary()) from exc
            while descriptors:
                os.close(descriptors.pop())
            del data[:sent]
            if not data:
                self._queue.popleft()

    def read(self) -> list[Json]:
        """Take what the zygote has answered.

        Raises:
            VidmodError: It is dead, and the message says what it wrote; or it does not answer.
        """
        try:
            data = self._control.recv(_CHUNK_BYTES)
        except BlockingIOError:
            if self._unanswered and time.monotonic() - self._heard > _ANSWER_SECONDS:
                raise VidmodError(f"The process that starts workers did not answer in {_ANSWER_SECONDS:g} s.") from None
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            raise VidmodError(self._obituary())
        self._inbox.feed(data)
        answers = list(iter(self._inbox.take, None))
        self._heard = time.monotonic()
        self._unanswered -= len(answers)
        if answers and not self.is_ready:
            self.is_ready = "ready" in answers.pop(0)
        return answers

    def close(self) -> None:
        """End the zygote, and with it every worker. Waits for that, up to some seconds."""
        self._let_go()
        if not self.is_ready:
            # It has no children yet, and would not look at the link before it is warm.
            self._process.kill()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """Let go of it in a fork of the process that it belongs to, where it is no child."""
        # Otherwise subprocess would warn that it still runs.
        self._process.returncode = 0
        self._let_go()

    def _let_go(self) -> None:
        self._control.close()
        os.close(self._complaints)
        for _, descriptors in self._queue:
            for descriptor in descriptors:
                os.close(descriptor)
        self._queue.clear()

    def _obituary(self) -> str:
        try:
            status = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        how = f"ended with status {status}" if status >= 0 else f"was killed by {signal_words(-status)}"
        size = os.fstat(self._complaints).st_size
        said = os.pread(self._complaints, _MAX_COMPLAINT_BYTES, max(0, size - _MAX_COMPLAINT_BYTES))
        text = said.decode("utf-8", "replace").strip()
        return f"The process that starts workers {how}" + (f" and said:\n{text}" if text else " and said nothing.")


def _start(passed: Sequence[int], complaints: int) -> subprocess.Popen[bytes]:
    path = json.dumps([os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)])  # noqa: PTH100
    # Its own session: Ctrl-C reaches the parent alone, and that decides what becomes of the workers.
    return subprocess.Popen(
        [sys.executable, *flags(), "-c", _BOOT, path, str(passed[0]), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        pass_fds=passed,
        cwd="/",
        env=environment(prefixes=("VIDMOD_",)),
        start_new_session=True,
    )


def flags() -> list[str]:
    """Of the interpreter, for a child."""
    # -P: nothing is imported from beside the code, of which there is none here.
    return ["-P", "-B"] if sys.dont_write_bytecode else ["-P"]


def environment(more: Sequence[str] = (), prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """What a child finds in its environment: no credentials, and that libraries start no threads on their own.

    Args:
        more: Names that are passed on besides those by which programs and modules are found.
        prefixes: Of more names.
    """
    names = [name for name in os.environ if name in (*_PASSED_ON, *more) or name.startswith(("LC_", *prefixes))]
    return {name: os.environ[name] for name in names} | dict.fromkeys(_ONE_THREAD, "1")


def _terminal() -> int | None:
    """A duplicate of standard error for workers that are being debugged.

    A terminal or a pipe: workers cannot write to files.
    """
    try:
        if os.environ.get("VIDMOD_DEBUG_WORKERS") != "1" or stat.S_ISREG(os.fstat(2).st_mode):
            return None
        return fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:
        return None
