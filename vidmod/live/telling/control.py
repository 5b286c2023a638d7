"""Orders to a running live filter, through a local socket: cover, uncover, status, stop.

One connection is one order and one answer, each a JSON object on a line of its own: `{"command": "cover",
"seconds": 30}` gives `{"schema": "vidmod.control/1", "ok": true, …}`, or `"ok": false` with `error`. Only the user
whose filter it is, and root, are heard: the kernel says who asks (SO_PEERCRED, unix(7)).

The emergency cover is one more reason to cover beside those that the filter finds. `uncover` takes away that one,
and no other.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from vidmod.closing import Closing
from vidmod.errors import ControlError, OutputError, UsageError
from vidmod.live.telling.serving import PolledServer
from vidmod.live.telling.state import LiveState

SCHEMA = "vidmod.control/1"
COMMANDS = ("cover", "uncover", "status", "stop")
MAX_COVER_SECONDS = 86_400.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".sock"
_MAX_REQUEST_BYTES = 4096
_MAX_ANSWER_BYTES = 1 << 20
# sun_path of struct sockaddr_un, less the NUL at its end (unix(7)).
_MAX_PATH_BYTES = 107
_LOCK_ATTEMPTS = 10
_CREDENTIALS = struct.Struct("3i")


class Order(msgspec.Struct, frozen=True):
    """What somebody asks.

    Attributes:
        seconds: Of `cover`, after which it ends by itself; None for never.

    Raises:
        ValueError: It makes no sense.
    """

    command: str
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.command not in COMMANDS:
            raise ValueError(f"Invalid command ({self.command[:40]!r}). Use one of {', '.join(COMMANDS)}.")
        if self.seconds is None:
            return
        if self.command != "cover":
            raise ValueError(f"Invalid seconds: {self.command} has none.")
        if not 0 < self.seconds <= MAX_COVER_SECONDS:
            raise ValueError(f"Invalid seconds ({self.seconds}). Use more than 0, and {MAX_COVER_SECONDS:g} at most.")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end.

    Attributes:
        process, user: Their numbers.
    """

    process: int
    user: int


def runtime_folder() -> Path:
    """Where the sockets of this user are: in $XDG_RUNTIME_DIR, else in /tmp. It need not be there."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    # Relative ones are to be ignored (XDG Base Directory Specification).
    if given.startswith("/") and Path(given).is_dir():
        return Path(given) / "vidmod"
    return Path(f"/tmp/vidmod-{os.geteuid()}")  # noqa: S108 # checked whenever it is used


def socket_path(name_or_path: str) -> Path:
    """Where the socket of a filter is, by its name, or by a path, which has a slash.

    Raises:
        UsageError: It can be no name.
    """
    if "/" in name_or_path:
        return Path(name_or_path)
    if not _NAME.fullmatch(name_or_path):
        raise UsageError(
            f"Invalid name ({name_or_path[:80]!r}). Use up to 64 letters, digits, dots, dashes and underscores."
        )
    return runtime_folder() / (name_or_path + _SUFFIX)


def marker_path(path: Path) -> Path:
    """Where the emergency cover of the filter with this socket is remembered."""
    return path.with_name(f"{path.name}.cover")


def running() -> list[str]:
    """The names of this user's filters that run."""
    with contextlib.suppress(OSError, OutputError):
        folder = runtime_folder()
        _check_private(folder)
        names = sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob("*" + _SUFFIX))
        return [name for name in names if _NAME.fullmatch(name) and _is_locked(folder / f"{name}{_SUFFIX}.lock")]
    return []


class _Marker(msgspec.Struct, frozen=True):
    """What another process left over.

    Attributes:
        until: By the clock since the start of the machine; None for ever.
        seconds: Left when it was written.
    """

    until: float | None
    seconds: float | None


def _boot_seconds() -> float:
    """Seconds since the machine started, asleep or not: one clock for all processes, that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class EmergencyCover:
    """Whether a person covers the picture, until uncovered or for a time.

    Args:
        marker: A file that is there while it is covered, so that a filter that was killed and started again is
            covered still; None without.
        clock: Seconds that only go forward, the same for all processes.
    """

    def __init__(
        self,
        marker: Path | None = None,
        *,
        clock: Callable[[], float] = _boot_seconds,
    ) -> None:
        self._marker = marker
        self._clock = clock
        # When it ends by this clock; -inf if it is over, inf if only by an order.
        self._end = -math.inf
        if marker is not None and os.path.lexists(marker):
            self._end = clock() + self._left_over(marker)

    @property
    def active(self) -> bool:
        """Whether it is covered now."""
        return self._clock() < self._end

    @property
    def seconds_left(self) -> float | None:
        """Until it ends by itself; 0.0 if it has ended, None if it does not."""
        return None if self._end == math.inf else max(0.0, self._end - self._clock())

    def cover(self, seconds: float | None = None) -> bool:
        """Cover; an order never shortens an earlier one.

        Args:
            seconds: For so long; None until :meth:`uncover`.

        Returns:
            Whether it would outlive this process.
        """
        self._end = max(self._end, math.inf if seconds is None else self._clock() + seconds)
        if self._marker is None:
            return False
        left = self.seconds_left
        content = _Marker(None if left is None else self._end, left)
        try:
            aside = self._marker.with_name(f"{self._marker.name}.part")
            aside.write_bytes(msgspec.json.encode(content))
            aside.replace(self._marker)
        except OSError:
            return False
        return True

    def uncover(self) -> bool:
        """End it.

        Returns:
            False if another process that takes over would cover again, since the marker cannot be removed.
        """
        self._end = -math.inf
        try:
            if self._marker is not None:
                self._marker.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _left_over(self, marker: Path) -> float:
        """Seconds that another process had left. Of what cannot be understood, all."""
        try:
            content = msgspec.json.decode(marker.read_bytes()[:1000], type=_Marker)
        except (OSError, ValueError):
            return math.inf
        if content.until is None or content.seconds is None:
            return math.inf
        # After a reboot the clock began anew, and it must not be longer than it was.
        return max(0.0, min(content.until - self._clock(), content.seconds))


class Commands:
    """Carries out orders.

    Args:
        emergency: What `cover` and `uncover` change.
        state: Gives the state that `status` tells.
        stop: Asks the filter to end; returns at once.
        told: Hears of every order that is carried out, but `status`.
    """

    def __init__(
        self,
        emergency: EmergencyCover,
        state: Callable[[], LiveState],
        stop: Callable[[], None],
        told: Callable[[Order, Peer], None] = lambda _order, _peer: None,
    ) -> None:
        self._emergency = emergency
        self._state = state
        self._stop = stop
        self._told = told

    def carry_out(self, order: Order, peer: Peer) -> dict[str, Any]:
        """Do it, and return the fields of the answer."""
        answer: dict[str, Any] = {}
        if order.command == "cover":
            answer["survives_restart"] = self._emergency.cover(order.seconds)
        elif order.command == "uncover":
            answer["survives_restart"] = self._emergency.uncover()
        elif order.command == "stop":
            self._stop()
        if order.command == "status":
            answer["state"] = self._state().as_json()
        else:
            self._told(order, peer)
        # What the filter itself decided stays, and whoever uncovers is told so.
        others = [reason for reason in self._state().cover_reasons if reason != "emergency"]
        left = self._emergency.seconds_left
        return {**answer, "emergency": self._emergency.active, "emergency_seconds_left": left, "other_covers": others}


class ControlServer(Closing):
    """Listens for orders, without a thread: the parent polls it.

    Args:
        path: Of the socket, which is made; its folder too, private to this user, if that is the usual one.
        carry_out: Given an order and who gave it: the fields of the answer, of values that JSON knows.
        deadline_seconds: For one order.
        user: Who is heard beside root.

    Raises:
        UsageError: A filter that runs has this socket.
        OutputError: It cannot be made.
    """

    def __init__(
        self,
        path: Path,
        carry_out: Callable[[Order, Peer], dict[str, Any]],
        *,
        deadline_seconds: float = 2.0,
        user: int | None = None,
    ) -> None:
        self.path = path
        self._carry_out = carry_out
        self._user = os.geteuid() if user is None else user
        self._lock = -1
        if path.parent == runtime_folder():
            _make_private(path.parent)
        _check_private(path.parent)
        self._lock = _lock(path)
        try:
            listener = _listen(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._server = PolledServer(
            listener,
            self._answer,
            too_long=_line(ok=False, error=f"An order has at most {_MAX_REQUEST_BYTES} bytes."),
            broken=_line(ok=False, error="The filter failed to carry that out."),
            admits=lambda peer: _credentials(peer).user in (self._user, 0),
            max_bytes=_MAX_REQUEST_BYTES,
            deadline_seconds=deadline_seconds,
            max_connections=8,
        )

    def fileno(self) -> int:
        """A descriptor that is readable whenever there is an order; `selectors` takes this object itself."""
        return self._server.fileno()

    def poll(self, timeout_seconds: float = 0.0) -> None:
        """Answer whoever asks, and close who is too slow; to be called a few times a second at least.

        Args:
            timeout_seconds: To wait at most, for somebody to ask.
        """
        self._server.poll(timeout_seconds)

    def close(self) -> None:
        """Listen no more, and remove the socket."""
        if self._lock >= 0:
            self._server.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
            # Not the lock's file: another process may have it open already, and wait for this lock.
            os.close(self._lock)
            self._lock = -1

    def _answer(self, received: bytes, peer: socket.socket) -> bytes | None:
        line, end, _ = received.partition(b"\n")
        if not end:
            return None
        try:
            order = msgspec.json.decode(line, type=Order)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            return _line(ok=False, error=str(exc)[:500])
        return _line(ok=True, **self._carry_out(order, _credentials(peer)))


def send(path: Path, order: Order, timeout_seconds: float = 5.0) -> dict[str, Any]:
    """Give a running filter an order.

    Returns:
        The answer's fields.

    Raises:
        UsageError: No filter listens there.
        ControlError: It does not answer, or refuses.
    """
    deadline = time.monotonic() + timeout_seconds
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _address(path) as address:
            connection.settimeout(timeout_seconds)
            _connect(connection, address, deadline)
            if os.geteuid() != 0 and _credentials(connection).user not in (os.geteuid(), 0):
                raise ControlError(f"{path}: belongs to another user. Nothing was sent.")
            connection.sendall(msgspec.json.encode(order) + b"\n")
            while b"\n" not in received and len(received) <= _MAX_ANSWER_BYTES:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                if not (data := connection.recv(65_536)):
                    break
                received += data
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
        raise UsageError(f"{path}: no live filter listens there. `vidmod live-control` lists those that run.") from exc
    except TimeoutError as exc:
        raise ControlError(
            f"{path}: no answer within {timeout_seconds:g} s. The filter hangs; end its process."
        ) from exc
    except OSError as exc:
        raise ControlError(f"{path}: cannot be asked ({exc.strerror or exc}).") from exc
    try:
        answer = msgspec.json.decode(bytes(received).partition(b"\n")[0], type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ControlError(f"{path}: this is no answer of a live filter.") from exc
    if answer.get("ok") is not True:
        raise ControlError(f"{path}: refused ({answer.get('error')}).")
    return answer


def _connect(connection: socket.socket, address: str, deadline: float) -> None:
    while True:
        try:
            connection.connect(address)
        except BlockingIOError as exc:
            # Too many wait to be heard: a local socket does not wait for that by itself.
            if time.monotonic() > deadline:
                raise TimeoutError from exc
            time.sleep(0.02)
        else:
            return


def describe(answer: dict[str, Any]) -> list[str]:
    """What a person is told of an answer, line by line; it may be of another version."""
    left, others = answer.get("emergency_seconds_left"), answer.get("other_covers")
    lines = ["emergency cover: off"]
    if answer.get("emergency"):
        lines = [f"emergency cover: on, {f'for {left:.0f} s' if isinstance(left, int | float) else 'until uncovered'}"]
    if isinstance(others, list) and others:
        lines.append(f"covered by the filter itself: {', '.join(map(str, others))}")
    if answer.get("survives_restart") is False:
        lines.append("This cannot be kept on disk: a filter that is started again will not know it.")
    state = answer.get("state")
    if isinstance(state, dict):
        lines += [
            f"{name.replace('_', ' ')}: {_moment(value) if name.endswith('_time') else _told(value)}"
            for name, value in state.items()
        ]
    return [line if line.isprintable() else repr(line) for line in lines]


def _told(value: Any) -> str:
    """A value of a state for people."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.2f}"
        case dict():
            return ", ".join(f"{name} {_told(item)}" for name, item in value.items()) or "-"
        case list():
            return ", ".join(map(_told, value)) or "-"
        case _:
            return str(value)


def _moment(value: Any) -> str:
    """Seconds since 1970 for people, who read logs and other machines' clocks beside it."""
    try:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return _told(value)


def _line(**values: Any) -> bytes:
    return msgspec.json.encode({"schema": SCHEMA, **values}) + b"\n"


def _credentials(peer: socket.socket) -> Peer:
    process, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(process, user)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be made ({exc.strerror}). Set XDG_RUNTIME_DIR.") from exc


def _check_private(folder: Path) -> None:
    """Refuse a folder in which somebody else could put another socket in place of ours.

    Raises:
        OutputError: It is one, or is not there.
    """
    try:
        status = folder.lstat() if folder == runtime_folder() else folder.stat()
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be used ({exc.strerror}). Make it, or name another.") from exc
    if not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{folder}: is no folder. Remove it, or set XDG_RUNTIME_DIR.")
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise OutputError(f"{folder}: belongs to another user, or others may write to it. Use a folder of your own.")


def _lock(path: Path) -> int:
    """Take the lock of a socket; the kernel gives it back when the process ends, however it ends."""
    name = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise OutputError(f"{name}: cannot be made ({exc.strerror}).") from exc
    for attempts_left in reversed(range(_LOCK_ATTEMPTS)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if not attempts_left:
                os.close(descriptor)
                raise UsageError(f"{path}: a live filter of this name runs. Use another name, or stop it.") from exc
            # Whoever lists the running ones holds it for a moment.
            time.sleep(0.02)
        except OSError as exc:
            os.close(descriptor)
            raise OutputError(f"{name}: cannot be locked ({exc.strerror}).") from exc
        else:
            break
    return descriptor


def _is_locked(name: Path) -> bool:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Shared: others that ask at the same time do not take each other for the filter.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _listen(path: Path) -> socket.socket:
    """Make the socket; what a process that was killed left there is removed.

    Raises:
        OutputError: Something else is there, or it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise OutputError(f"{path}: is there, and is no socket. Name another.")
            path.unlink()
        with _address(path) as address:
            listener.bind(address)
        # Nobody can connect before `listen`.
        path.chmod(0o600)
        listener.listen(64)
    except OSError as exc:
        listener.close()
        if isinstance(exc, OutputError):
            raise
        raise OutputError(f"{path}: the control socket cannot be made ({exc.strerror or exc}).") from exc
    return listener


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A path that fits into the address of a socket: a long one by way of its open folder."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
