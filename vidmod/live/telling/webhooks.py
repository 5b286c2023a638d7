"""Signed webhooks: every hit is told to every receiver at least once, in order, whatever becomes of either side.

What a receiver gets, by POST:

- the body: JSON, `vidmod.event/1` (see :mod:`vidmod.live.telling.events`), with `id`, `sequence` and `hit`, its
  thumbnail included. `id` is the same in every attempt: whoever has seen it answers 200 and does nothing. `sequence`
  counts the events of this filter; a gap is events that were dropped, or that come later since they were refused.
- `Vidmod-Signature: t=1700000000,v1=5257a8…`: the time of this attempt in seconds since 1970, and the HMAC-SHA256
  (RFC 2104) of that time as text, a full stop and the body, in hexadecimal; once for every key of the secret.
- `Vidmod-Event-Id`: `id` again, for logs; only the body is signed.

Any answer from 200 to 299 that arrives whole acknowledges an event. Where a receiver cannot be reached or says 408,
425, 429 or 5xx, the same event is tried again before any later one, after 0.5 s at first and 5 minutes at most;
`Retry-After` is heeded up to that. An event that it refuses by any other answer, a redirection included, steps
aside for the next, and comes again. Whatever was not delivered after 24 hours is dropped, counted and told.

A receiver checks with :func:`verify`::

    verify(Secret.read("env:WEBHOOK_SECRET"), request.headers, request.body)

Proxies are not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import os
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from vidmod._version import __version__
from vidmod.closing import Closing
from vidmod.errors import OutputError, SignatureError, UsageError
from vidmod.live.backoff import Backoff, wait_seconds
from vidmod.live.telling.events import HitBegan, HitBlocked, HitEnded, Scribe, encode, fields
from vidmod.live.telling.spool import Spool, Waiting
from vidmod.live.telling.state import Backlog
from vidmod.urls import without_secrets

TOLERANCE_SECONDS = 300.0
_FEWEST_KEY_BYTES = 16
_MOST_KEYS = 8
_MOST_TARGETS = 8
_SEND_BYTES = 16_384
_CONNECT_SECONDS = 5.0
# Answers after which the same event is worth another attempt before any other (RFC 9110, 6585, 8470).
_COME_BACK = frozenset({408, 425, 429})
_KEY = re.compile(r"[0-9a-f]{64}")


class Secret:
    """Keys that sign; several while one is replaced. No message and no log shows them.

    Args:
        keys: At least one, of 16 bytes or more each.

    Raises:
        UsageError: There are none or too many, or one is too short.
    """

    def __init__(self, *keys: bytes) -> None:
        if not 0 < len(keys) <= _MOST_KEYS:
            raise UsageError(f"Invalid webhook secret: {len(keys)} keys. Use 1 to {_MOST_KEYS}.")
        if min(map(len, keys)) < _FEWEST_KEY_BYTES:
            raise UsageError(
                f"Invalid webhook secret: a key is shorter than {_FEWEST_KEY_BYTES} bytes. "
                "Make one with `openssl rand -hex 32`."
            )
        self._keys = keys

    def __repr__(self) -> str:
        return f"Secret({len(self._keys)} keys)"

    @classmethod
    def read(cls, place: str, *, environ: Any = None) -> Secret:
        """A secret from where it is kept, which is never an argument: other users see those.

        Args:
            place: `env:NAME`, a variable that is then removed, so that no process started later inherits it; or
                `file:PATH`. One key a line.
            environ: In place of `os.environ`.

        Raises:
            UsageError: There is none.
        """
        kind, _, name = place.partition(":")
        if kind == "env" and name:
            text = (os.environ if environ is None else environ).pop(name, None)
            if text is None:
                raise UsageError(f"Invalid webhook secret: there is no variable {name} in the environment. Set it.")
            content = os.fsencode(text)
        elif kind == "file" and name:
            try:
                with Path(name).open("rb") as file:
                    content = file.read(65_536)
            except OSError as exc:
                raise UsageError(f"{name}: the webhook secret cannot be read ({exc.strerror}).") from exc
        else:
            # Not told: it may be the secret itself.
            raise UsageError("Invalid place of the webhook secret. Use env:NAME or file:PATH.")
        return cls(*(line.strip() for line in content.splitlines() if line.strip()))

    def signatures(self, timestamp: int, body: bytes) -> list[str]:
        """What the keys make of a body, in hexadecimal."""
        return [hmac.new(key, b"%d." % timestamp + body, hashlib.sha256).hexdigest() for key in self._keys]


def sign(secret: Secret, body: bytes, timestamp: int) -> str:
    """The header `Vidmod-Signature`.

    Args:
        secret: The keys.
        body: As it is sent.
        timestamp: Seconds since 1970.
    """
    return ",".join([f"t={timestamp}", *(f"v1={item}" for item in secret.signatures(timestamp, body))])


def verify(
    secret: Secret | bytes,
    headers: Mapping[str, str],
    body: bytes,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    *,
    wall_clock: Callable[[], float] = time.time,
) -> None:
    """Check that a webhook comes from who has the secret, as it was sent, and not long ago.

    Takes the same time whatever is wrong with a signature. Whether it came before is for the receiver to remember,
    by the body's `id`.

    Args:
        secret: The keys, of which any will do.
        headers: Of the request, in any case.
        body: Of the request, byte by byte as it came: not parsed and written again.
        tolerance_seconds: How far the two clocks may differ, with the time on the way.
        wall_clock: Seconds since 1970.

    Raises:
        SignatureError: It does not.
    """
    secret = secret if isinstance(secret, Secret) else Secret(secret)
    value = next((text for name, text in headers.items() if name.lower() == "vidmod-signature"), None)
    if value is None:
        raise SignatureError("There is no header Vidmod-Signature.")
    stamps, given = [], []
    for part in value.split(",")[: 1 + _MOST_KEYS]:
        name, _, text = part.strip().partition("=")
        if name == "t" and text.isascii() and text.isdigit() and len(text) <= 12:
            stamps.append(int(text))
        elif name == "v1" and _KEY.fullmatch(text):
            given.append(text)
    if len(stamps) != 1 or not given:
        raise SignatureError("The header Vidmod-Signature is not t=…,v1=….")
    # All of them, without stopping at the first that fits.
    fits = [hmac.compare_digest(one, other) for one in secret.signatures(stamps[0], body) for other in given]
    if not any(fits):
        raise SignatureError("The signature is of another secret or another body.")
    if abs(wall_clock() - stamps[0]) > tolerance_seconds:
        raise SignatureError(
            f"The webhook was signed more than {tolerance_seconds:g} s ago, or ahead. Check the clocks."
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver.

    Attributes:
        url: http or https, without a user and password.
        secret: Signs what goes there.

    Raises:
        UsageError: The URL is none of that.
    """

    url: str
    secret: Secret

    def __post_init__(self) -> None:
        told = without_secrets(self.url)
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            host = parts.hostname or ""
        except ValueError as exc:
            raise UsageError(f"Invalid webhook ({told}): {exc}. Use https://HOST/PATH.") from exc
        if not usable or not host.isascii() or not host.isprintable() or " " in host:
            raise UsageError(f"Invalid webhook ({told}). Use https://HOST/PATH, a host in ASCII.")
        if "@" in parts.netloc:
            raise UsageError(f"Invalid webhook ({told}): no user and no password in it. Requests are signed.")

    @property
    def told(self) -> str:
        """The URL as it may be told."""
        return without_secrets(self.url)

    @property
    def key(self) -> str:
        """What it is called in the spool, which does not hold the URL."""
        return hashlib.sha256(self.url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How events are delivered.

    Attributes:
        timeout_seconds: For one attempt, from the connection to the end of the answer. Looking up a name is not
            within it, for the system does not let it be.
        first_wait_seconds, longest_wait_seconds: Between attempts.
        give_up_seconds: After which an event is dropped.
        max_events, max_bytes: That may wait on disk.
        max_queued: That may wait to be written to disk.
        max_answer_bytes: That are read of an answer.
        ca_file: Certificates to believe, in place of the system's.

    Raises:
        UsageError: A value makes no sense.
    """

    timeout_seconds: float = 10.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 300.0
    give_up_seconds: float = 86_400.0
    max_events: int = 10_000
    max_bytes: int = 64 << 20
    max_queued: int = 200
    max_answer_bytes: int = 8192
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not 0 < value < float("inf"):
                raise UsageError(f"Invalid {name} ({value}). Use more than 0.")
        if self.longest_wait_seconds < self.first_wait_seconds:
            raise UsageError(f"Invalid longest_wait_seconds ({self.longest_wait_seconds}). It is below the first.")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise UsageError(f"{self.ca_file}: is no file of certificates. Name one in PEM.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt.

    Attributes:
        status: Of the answer, None without a whole one.
        problem: What went wrong, "" if nothing did.
        retry_after_seconds: That the receiver asks for; 0 without.
    """

    status: int | None
    problem: str
    retry_after_seconds: float = 0.0

    @property
    def is_acknowledged(self) -> bool:
        """Whether the receiver has the event."""
        return not self.problem

    @property
    def is_refusal(self) -> bool:
        """Whether it will not have this event, though it might have others."""
        return bool(self.problem) and self.status is not None and self.status < 500 and self.status not in _COME_BACK


def deliver(target: Target, event_id: str, body: bytes, settings: Delivery, *, timestamp: int | None = None) -> Answer:
    """Make one attempt to deliver an event.

    `http.client` and a socket rather than a library: those limit the wait for each piece of an answer, and a
    receiver that sends a byte now and then would hold them for ever.

    Args:
        target: The receiver.
        event_id: For the header.
        body: JSON.
        settings: Limits.
        timestamp: Seconds since 1970; None for now.
    """
    deadline = time.monotonic() + settings.timeout_seconds
    try:
        with contextlib.closing(_connect(target.url, deadline, settings.ca_file)) as connection:
            request = _request(target, event_id, body, int(time.time()) if timestamp is None else timestamp)
            for start in range(0, len(request), _SEND_BYTES):
                connection.settimeout(_left(deadline))
                connection.sendall(request[start : start + _SEND_BYTES])
            return _read_answer(connection, deadline, settings.max_answer_bytes)
    except (OSError, HTTPException, ValueError) as exc:
        return Answer(None, f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)


def _request(target: Target, event_id: str, body: bytes, timestamp: int) -> bytes:
    parts = urlsplit(target.url)
    # What a URL may hold (RFC 3986) stays; a space, a line feed or a letter beyond ASCII is escaped.
    place = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~") + ("?" if parts.query else "")
    place += quote(parts.query, safe="/?%:@!$&'()*+,;=-._~")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    head = (
        f"POST {place} HTTP/1.1",
        f"Host: {host}" + ("" if parts.port is None else f":{parts.port}"),
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"User-Agent: vidmod/{__version__}",
        f"Vidmod-Event-Id: {event_id}",
        f"Vidmod-Signature: {sign(target.secret, body, timestamp)}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(head).encode("ascii") + body


def _connect(url: str, deadline: float, ca_file: Path | None) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    problem: OSError = OSError("there is no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(_CONNECT_SECONDS, _left(deadline)))
            connection.connect(address)
            if parts.scheme == "http":
                return connection
            context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
            connection.settimeout(_left(deadline))
            return context.wrap_socket(connection, server_hostname=parts.hostname)
        except OSError as exc:
            connection.close()
            problem = exc
        except BaseException:
            connection.close()
            raise
    raise problem


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left


class _Bounded(io.RawIOBase):
    """What comes through a socket, up to a time and a number of bytes; `exhausted` if there is more."""

    def __init__(self, connection: socket.socket, deadline: float, max_bytes: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = max_bytes
        self._received = bytearray()
        self.exhausted = False

    @property
    def has_head(self) -> bool:
        """Whether the empty line came that ends a head: for `HTTPResponse` the end of the connection ends it too."""
        return b"\r\n\r\n" in self._received or b"\n\n" in self._received

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Used by `HTTPResponse` in place of a socket's."""
        return io.BufferedReader(self, 1024)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._left:
            self.exhausted = True
            return 0
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        self._received += memoryview(buffer)[:count]
        return count


def _read_answer(connection: socket.socket, deadline: float, max_bytes: int) -> Answer:
    """Read an answer: one that is cut short acknowledges nothing, one that is too long is not read to its end."""
    bounded = _Bounded(connection, deadline, max_bytes)
    response = HTTPResponse(bounded, method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        if not bounded.has_head:
            raise ValueError(f"the head of the answer is {'too long' if bounded.exhausted else 'cut short'}")
        try:
            response.read(max_bytes)
        except (HTTPException, ValueError):
            if not bounded.exhausted:
                raise
        if response.length and not bounded.exhausted:
            raise ValueError("the answer is cut short")
        after = response.headers.get("Retry-After", "").strip()
    finally:
        response.close()
    status = response.status
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) <= 6 else 0.0
    return Answer(status, "" if 200 <= status < 300 else f"HTTP {status}", seconds)


class Webhooks(Closing):
    """Tells receivers of hits, from threads of its own: whoever posts an event never waits.

    Args:
        stream: The filter's name.
        targets: 1 to 8 receivers.
        spool: A file that holds what waits; None for memory, which does not survive the process.
        settings: Limits.
        wall_clock: Seconds since 1970.

    Raises:
        UsageError: A target is there twice, there are too many, or another process uses the spool.
        OutputError: The spool cannot be made.
    """

    def __init__(
        self,
        stream: str,
        targets: Sequence[Target],
        spool: Path | None,
        *,
        settings: Delivery | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings = Delivery() if settings is None else settings
        if not 0 < len(targets) <= _MOST_TARGETS or len({target.key for target in targets}) < len(targets):
            raise UsageError(f"Invalid webhooks ({len(targets)}). Use 1 to {_MOST_TARGETS} different URLs.")
        self._scribe = Scribe(stream, wall_clock=wall_clock)
        self._spool = Spool(
            spool,
            [target.key for target in targets],
            max_events=settings.max_events,
            max_bytes=settings.max_bytes,
            longest_wait_seconds=settings.longest_wait_seconds,
            wall_clock=wall_clock,
        )
        self._notes: deque[str] = deque(maxlen=100)
        if self._spool.renamed is not None:
            self._notes.append(f"The spool of webhooks was damaged, and is now {self._spool.renamed}.")
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._writing = self._stopping = False
        self._added = 0
        self._delivered = self._failed = self._overflown = 0
        self._count = len(targets)
        self._threads = [threading.Thread(target=self._write, name="webhooks", daemon=True)]
        self._threads += [
            threading.Thread(target=self._deliver, args=(target,), name=f"webhook {number}", daemon=True)
            for number, target in enumerate(targets)
        ]
        for thread in self._threads:
            thread.start()

    def post(self, event: HitBegan | HitBlocked | HitEnded) -> bool:
        """Tell of a hit, once; the same event of the same hit again is ignored. Never waits.

        Returns:
            False if it is dropped because too many wait to be written to disk.
        """
        event_id = f"{event.hit.id}.{event.name}"
        values = {**self._scribe.envelope(event.name), "id": event_id}
        with self._changed:
            if self._stopping or len(self._queue) >= self._settings.max_queued:
                self._overflown += self._count
                return False
            self._queue.append((event_id, values | fields(event, thumbnail=True)))
            self._changed.notify_all()
        return True

    def backlog(self) -> Backlog:
        """What became of events so far. Never waits."""
        spool = self._spool
        return Backlog(
            waiting=spool.waiting + self._count * len(self._queue),
            waiting_bytes=spool.waiting_bytes,
            delivered=self._delivered,
            failed_attempts=self._failed,
            dropped={**spool.dropped, "queue_full": self._overflown},
        )

    def take_notes(self) -> list[str]:
        """What is worth a line since this was last asked. Never waits."""
        notes = []
        with contextlib.suppress(IndexError):
            while True:
                notes.append(self._notes.popleft())
        return notes

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything is delivered; False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._queue or self._writing or self._spool.waiting), timeout_seconds
            )

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what waits to disk, and end; an attempt under way is given so long, and made again next time."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._spool.close()

    def _write(self) -> None:
        """The thread that writes events to disk."""
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if not self._queue:
                    return
                event_id, values = self._queue.popleft()
                self._writing = True
            if not self._add(event_id, values):
                self._overflown += self._count
            self._added += 1

    def _add(self, event_id: str, values: dict[str, Any]) -> bool:
        for _ in range(2):
            spool = self._spool
            try:
                spool.add(event_id, lambda sequence: encode(values | {"sequence": sequence}))
            except OutputError as exc:
                self._go_without_disk(spool, exc)
            except Exception as exc:  # noqa: BLE001 # one event must not end all others
                self._notes.append(f"A webhook could not be written ({type(exc).__name__}).")
                return False
            else:
                return True
        return False

    def _go_without_disk(self, spool: Spool, problem: OutputError) -> None:
        """Events in memory are better than none. What was acknowledged in between may come again: it has an id."""
        with self._changed:
            if self._spool is spool:
                self._spool = spool.in_memory()
                self._notes.append(f"{problem} Webhooks wait in memory only from now on.")

    def _deliver(self, target: Target) -> None:
        """The thread of one receiver."""
        settings = self._settings
        backoff = Backoff(first=settings.first_wait_seconds, most=settings.longest_wait_seconds, reset_after=0.0)
        while not self._stopping:
            spool, added = self._spool, self._added
            try:
                item = spool.next(target.key)
                if item is None:
                    self._wait_for_more(spool, added)
                    continue
                answer = deliver(target, item.event_id, item.body, settings)
                self._wait(self._settle(spool, target, item, answer, backoff))
            except OutputError as exc:
                self._go_without_disk(spool, exc)
                self._wait(settings.first_wait_seconds)
            except Exception as exc:  # noqa: BLE001 # nor one attempt
                self._notes.append(f"Webhook {target.told}: internal error ({type(exc).__name__}).")
                self._wait(backoff.failed())

    def _settle(self, spool: Spool, target: Target, item: Waiting, answer: Answer, backoff: Backoff) -> float:
        """Note what came of an attempt, and return the seconds to wait before the next."""
        settings = self._settings
        if answer.is_acknowledged:
            if backoff.failures:
                self._notes.append(f"Webhook {target.told}: delivers again.")
            backoff.succeeded()
            spool.delivered(target.key, item.sequence)
            with self._changed:
                self._delivered += 1
                self._changed.notify_all()
            return 0.0
        if not backoff.failures:
            self._notes.append(f"Webhook {target.told}: {_short(answer.problem)}; will be tried again.")
        aside = None
        if answer.is_refusal:
            aside = wait_seconds(
                item.attempts + 1, first=settings.first_wait_seconds, most=settings.longest_wait_seconds
            )
        spool.failed(target.key, item.sequence, set_aside_seconds=aside)
        if expired := spool.expire(target.key, settings.give_up_seconds):
            self._notes.append(f"Webhook {target.told}: {expired} events were given up.")
        with self._changed:
            self._failed += 1
            self._changed.notify_all()
        return max(backoff.failed(), min(answer.retry_after_seconds, settings.longest_wait_seconds))

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _wait_for_more(self, spool: Spool, added: int) -> None:
        """Until there is something new; what was set aside is looked for again every second."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self._spool is not spool or self._added != added,
                1.0 if spool.waiting else 60.0,
            )


def _short(text: str) -> str:
    text = text if len(text) <= 200 else text[:200] + "…"
    return text if text.isprintable() else repr(text)
