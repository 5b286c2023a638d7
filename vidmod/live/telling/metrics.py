"""Metrics for Prometheus and health for supervisors, over HTTP, on loopback unless told otherwise.

`GET /metrics` is the text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). `GET /healthz`
is 200 while the filter lives, 503 if only a restart can help; `GET /readyz` is 200 while a stream comes in, is
analysed and goes out. Both have the same JSON: `live`, `ready` and the `reasons` why not.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from vidmod._version import __version__
from vidmod.closing import Closing
from vidmod.errors import OutputError, UsageError
from vidmod.live.telling.serving import PolledServer
from vidmod.live.telling.state import COVER_REASONS, SIDES, LiveState, health

DEFAULT_PORT = 9464
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_POLL_SECONDS = 0.25
_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

Snapshot = tuple[LiveState | None, float]


def parse_listen(text: str) -> tuple[str, int]:
    """Where to listen: `PORT` on loopback, `ADDRESS:PORT` or `[ADDRESS]:PORT`; port 0 is any.

    Raises:
        UsageError: It is none of that.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if separator else "127.0.0.1"
    try:
        ipaddress.ip_address(host)
        if not (port.isascii() and port.isdigit() and int(port) < 65_536):
            raise ValueError
    except ValueError as exc:
        raise UsageError(f"Invalid address for metrics ({text!r}). Use PORT or ADDRESS:PORT, an IP address.") from exc
    return host, int(port)


class StateCollector(Collector):
    """Makes metrics of the last snapshot, whenever they are asked for.

    Args:
        snapshot: Gives the last state, None before the first, and the seconds since then.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        state, age = self._snapshot()
        yield GaugeMetricFamily("vidmod_live_state_age_seconds", "Since the watching process last said how it is.", age)
        yield InfoMetricFamily("vidmod_live", "What this is.", {"version": __version__})
        if state is not None:
            yield from _frames(state)
            yield from _times(state)
            yield from _ends(state)
            yield from _events(state)


def _frames(state: LiveState) -> Iterator[Metric]:
    for name, value, says in (
        ("in", state.frames_in, "Pictures decoded."),
        ("analysed", state.frames_analysed, "Pictures that the models have seen."),
        ("out", state.frames_out, "Pictures that left, covered or not."),
        ("covered", state.frames_covered, "Pictures that left covered whole."),
        ("masked", state.frames_masked, "Pictures that left covered in part."),
    ):
        yield CounterMetricFamily(f"vidmod_live_frames_{name}", says, value)
    yield _counters("vidmod_live_frames_dropped", "Pictures that never left.", "place", state.frames_dropped)
    rates = {"in": state.fps_in, "analysed": state.fps_analysed, "out": state.fps_out}
    yield _gauges("vidmod_live_frames_per_second", "Pictures a second, of the last seconds.", "stage", rates)
    yield GaugeMetricFamily(
        "vidmod_live_covered_ratio", "Share of pictures covered whole, of the last seconds.", state.covered_share
    )
    reasons = {reason: float(reason in state.cover_reasons) for reason in COVER_REASONS}
    yield _gauges("vidmod_live_cover", "1 where this is why the whole picture is covered now.", "reason", reasons)
    yield GaugeMetricFamily(
        "vidmod_live_overload_level", "How much is given up for speed; 0 is nothing.", state.overload_level
    )
    yield GaugeMetricFamily("vidmod_live_shadow", "1 if it only reports and never covers.", float(state.shadow))


def _times(state: LiveState) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "vidmod_live_start_time_seconds", "When it started, in seconds since 1970.", state.started_time
    )
    yield GaugeMetricFamily(
        "vidmod_live_delay_target_seconds",
        "The delay when nothing is late: --delay and 0.45 s.",
        state.target_delay_seconds,
    )
    for name, value, says in (
        ("delay", state.delay_seconds, "From a picture's arrival to its leaving."),
        ("analysis_age", state.analysis_age_seconds, "Since the last picture was analysed."),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"vidmod_live_{name}_seconds", says, value)
    yield _gauges(
        "vidmod_live_heartbeat_age_seconds", "Since a process last said that it lives.", "process", state.heartbeats
    )


def _ends(state: LiveState) -> Iterator[Metric]:
    connected = {side: float(getattr(state, f"{side}_connected")) for side in SIDES}
    yield _gauges("vidmod_live_connected", "1 while this end is there.", "side", connected)
    reconnects = {side: state.reconnects.get(side, 0) for side in SIDES}
    yield _counters("vidmod_live_reconnects", "How often an end came back.", "side", reconnects)
    yield _counters("vidmod_live_restarts", "How often a process was started again.", "process", state.restarts)
    yield _gauges("vidmod_live_spare", "1 while another process waits to take its place.", "process", state.spares)
    depths = {name: queue.depth for name, queue in state.queues.items()}
    yield _gauges("vidmod_live_queue_depth", "What waits in a queue.", "queue", depths)
    capacities = {name: queue.capacity for name, queue in state.queues.items()}
    yield _gauges("vidmod_live_queue_capacity", "What a queue can hold.", "queue", capacities)


def _events(state: LiveState) -> Iterator[Metric]:
    yield _counters("vidmod_live_hits", "Hits that began.", "category", state.hits)
    yield GaugeMetricFamily("vidmod_live_hits_ongoing", "Hits that go on.", state.hits_now)
    told = state.webhooks
    yield GaugeMetricFamily("vidmod_live_webhook_backlog", "Deliveries that have not succeeded yet.", told.waiting)
    yield GaugeMetricFamily("vidmod_live_webhook_backlog_bytes", "What they take.", told.waiting_bytes)
    yield CounterMetricFamily("vidmod_live_webhook_deliveries", "Deliveries acknowledged.", told.delivered)
    yield CounterMetricFamily("vidmod_live_webhook_failures", "Attempts to deliver that failed.", told.failed_attempts)
    yield _counters("vidmod_live_webhook_dropped", "Deliveries given up.", "reason", told.dropped)
    yield CounterMetricFamily("vidmod_live_events_lost", "Events that could not be logged.", state.events_lost)


def _counters(name: str, says: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, says, labels=[label])
    for key, value in values.items():
        family.add_metric([_clean(key)], value)
    return family


def _gauges(name: str, says: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=[label])
    for key, value in values.items():
        family.add_metric([_clean(key)], value)
    return family


def _clean(text: str) -> str:
    """A category's name is somebody's text: what is no Unicode in it would make all metrics unreadable."""
    return text.encode("utf-8", "replace").decode()


class MetricsServer(Closing):
    """Serves metrics and health from a thread of its own, so that a parent that hangs is seen to hang.

    Args:
        host: An IP address.
        port: 0 for any.
        deadline_seconds: For one request.
        max_connections: At once.

    Attributes:
        address: Where it listens.

    Raises:
        OutputError: It cannot listen there.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        deadline_seconds: float = 5.0,
        max_connections: int = 16,
    ) -> None:
        self._published: tuple[LiveState | None, float] = (None, time.monotonic())
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StateCollector(self.snapshot))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(64)
        except OSError as exc:
            listener.close()
            raise OutputError(f"Metrics cannot be served at {host}:{port} ({exc.strerror}). Use another port.") from exc
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self._guards_host = ipaddress.ip_address(host).is_loopback
        self._server = PolledServer(
            listener,
            self._answer,
            too_long=_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
            broken=_response(HTTPStatus.INTERNAL_SERVER_ERROR),
            deadline_seconds=deadline_seconds,
            max_connections=max_connections,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def publish(self, state: LiveState) -> None:
        """Show this from now on. Never waits."""
        self._published = (state, time.monotonic())

    def snapshot(self) -> Snapshot:
        """The last state, and its age in seconds."""
        state, since = self._published
        return state, time.monotonic() - since

    def close(self) -> None:
        """Serve no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._server:
            while not self._stop.is_set():
                self._server.poll(_POLL_SECONDS)

    def _answer(self, received: bytes, _peer: socket.socket) -> bytes | None:
        head, end, _ = received.replace(b"\r\n", b"\n").partition(b"\n\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, extra=("Allow: GET, HEAD",))
        hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
        if self._guards_host and any(not _is_loopback(name) for name in hosts):
            # A page in a browser whose name was made to lead here (DNS rebinding).
            return _response(HTTPStatus.MISDIRECTED_REQUEST, head_only=method == "HEAD")
        return self._page(target.partition("?")[0], head_only=method == "HEAD")

    def _page(self, path: str, *, head_only: bool) -> bytes:
        if path == "/metrics":
            body = generate_latest(self._registry)
            return _response(HTTPStatus.OK, body, _TEXT_FORMAT, head_only=head_only)
        if path in ("/healthz", "/readyz"):
            found = health(*self.snapshot())
            status = (
                HTTPStatus.OK if (found.live if path == "/healthz" else found.ready) else HTTPStatus.SERVICE_UNAVAILABLE
            )
            body = json.dumps(found.as_json()).encode() + b"\n"
            return _response(status, body, "application/json", head_only=head_only)
        return _response(HTTPStatus.NOT_FOUND, head_only=head_only)


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _response(
    status: HTTPStatus,
    body: bytes | None = None,
    kind: str = "text/plain; charset=utf-8",
    *,
    extra: tuple[str, ...] = (),
    head_only: bool = False,
) -> bytes:
    content = f"{status.phrase}\n".encode() if body is None else body
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *extra,
        "",
        "",
    )
    return "\r\n".join(head).encode("ascii") + (b"" if head_only else content)
