from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.test_live_status import running
from vidmod.errors import OutputError, UsageError
from vidmod.live.telling.metrics import MetricsServer, parse_listen
from vidmod.live.telling.state import Backlog, LiveState, Queue

NAMES = {
    "vidmod_live_state_age_seconds": "gauge",
    "vidmod_live_info": "gauge",
    "vidmod_live_frames_in": "counter",
    "vidmod_live_frames_analysed": "counter",
    "vidmod_live_frames_out": "counter",
    "vidmod_live_frames_covered": "counter",
    "vidmod_live_frames_masked": "counter",
    "vidmod_live_frames_dropped": "counter",
    "vidmod_live_frames_per_second": "gauge",
    "vidmod_live_covered_ratio": "gauge",
    "vidmod_live_cover": "gauge",
    "vidmod_live_overload_level": "gauge",
    "vidmod_live_shadow": "gauge",
    "vidmod_live_start_time_seconds": "gauge",
    "vidmod_live_delay_target_seconds": "gauge",
    "vidmod_live_delay_seconds": "gauge",
    "vidmod_live_analysis_age_seconds": "gauge",
    "vidmod_live_heartbeat_age_seconds": "gauge",
    "vidmod_live_connected": "gauge",
    "vidmod_live_reconnects": "counter",
    "vidmod_live_restarts": "counter",
    "vidmod_live_spare": "gauge",
    "vidmod_live_queue_depth": "gauge",
    "vidmod_live_queue_capacity": "gauge",
    "vidmod_live_hits": "counter",
    "vidmod_live_hits_ongoing": "gauge",
    "vidmod_live_webhook_backlog": "gauge",
    "vidmod_live_webhook_backlog_bytes": "gauge",
    "vidmod_live_webhook_deliveries": "counter",
    "vidmod_live_webhook_failures": "counter",
    "vidmod_live_webhook_dropped": "counter",
    "vidmod_live_events_lost": "counter",
}


def full() -> LiveState:
    return running(
        started_time=1_700_000_000.5,
        frames_in=3000,
        frames_analysed=800,
        frames_out=2990,
        frames_covered=70,
        frames_masked=30,
        frames_dropped={"source": 4, "analysis": 2},
        cover_reasons=("hit", "overload"),
        heartbeats={"reader": 0.2},
        restarts={"publisher": 3},
        spares={"publisher": True},
        queues={"frames": Queue(7, 32)},
        hits={'we"ird\\\ncategory é\ud800': 5},
        hits_now=1,
        webhooks=Backlog(waiting=9, waiting_bytes=1234, delivered=11, failed_attempts=4, dropped={"full": 2}),
        events_lost=6,
    )


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer(port=0, deadline_seconds=1.0, max_connections=4) as made:
        yield made


def ask(server: MetricsServer, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(*server.address, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()


def raw(server: MetricsServer, data: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def values(server: MetricsServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response, body = ask(server, "/metrics")
    assert response.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_prometheus_reads_every_metric(server: MetricsServer) -> None:
    server.publish(full())
    response, body = ask(server, "/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(body.decode()))
    assert {family.name: family.type for family in families} == NAMES
    assert all(family.documentation for family in families)
    assert all(family.samples for family in families)


def test_the_values_are_those_of_the_state(server: MetricsServer) -> None:
    server.publish(full())
    found = values(server)
    for name, labels, value in (
        ("vidmod_live_frames_in_total", {}, 3000),
        ("vidmod_live_frames_analysed_total", {}, 800),
        ("vidmod_live_frames_out_total", {}, 2990),
        ("vidmod_live_frames_covered_total", {}, 70),
        ("vidmod_live_frames_masked_total", {}, 30),
        ("vidmod_live_frames_dropped_total", {"place": "source"}, 4),
        ("vidmod_live_frames_dropped_total", {"place": "analysis"}, 2),
        ("vidmod_live_frames_per_second", {"stage": "analysed"}, 8.23),
        ("vidmod_live_covered_ratio", {}, 0.031),
        ("vidmod_live_cover", {"reason": "hit"}, 1),
        ("vidmod_live_cover", {"reason": "emergency"}, 0),
        ("vidmod_live_start_time_seconds", {}, 1_700_000_000.5),
        ("vidmod_live_delay_seconds", {}, 1.0234),
        ("vidmod_live_analysis_age_seconds", {}, 0.1),
        ("vidmod_live_connected", {"side": "server"}, 1),
        ("vidmod_live_reconnects_total", {"side": "source"}, 1),
        ("vidmod_live_reconnects_total", {"side": "server"}, 0),
        ("vidmod_live_restarts_total", {"process": "publisher"}, 3),
        ("vidmod_live_heartbeat_age_seconds", {"process": "reader"}, 0.2),
        ("vidmod_live_queue_depth", {"queue": "frames"}, 7),
        ("vidmod_live_queue_capacity", {"queue": "frames"}, 32),
        ("vidmod_live_hits_total", {"category": 'we"ird\\\ncategory é?'}, 5),
        ("vidmod_live_webhook_backlog", {}, 9),
        ("vidmod_live_webhook_backlog_bytes", {}, 1234),
        ("vidmod_live_webhook_deliveries_total", {}, 11),
        ("vidmod_live_webhook_failures_total", {}, 4),
        ("vidmod_live_webhook_dropped_total", {"reason": "full"}, 2),
        ("vidmod_live_events_lost_total", {}, 6),
    ):
        assert found[name, tuple(sorted(labels.items()))] == value, name


def test_what_is_not_known_is_not_told(server: MetricsServer) -> None:
    names = {name for name, _ in values(server)}
    assert names == {"vidmod_live_state_age_seconds", "vidmod_live_info"}
    server.publish(LiveState(name="stage"))
    names = {name for name, _ in values(server)}
    assert "vidmod_live_frames_in_total" in names
    assert "vidmod_live_delay_seconds" not in names


def test_health_follows_the_state(server: MetricsServer) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 503)):
        response, body = ask(server, path)
        assert response.status == status
        assert json.loads(body) == {"live": True, "ready": False, "reasons": ["starting"]}
    server.publish(running())
    for path in ("/healthz", "/readyz"):
        response, body = ask(server, path)
        assert response.status == 200
        assert json.loads(body) == {"live": True, "ready": True, "reasons": []}
    server.publish(running(source_connected=False, source_gone_seconds=2.0))
    response, body = ask(server, "/readyz")
    assert response.status == 503
    assert json.loads(body)["reasons"] == ["the source is not connected for 2.0 s"]
    assert ask(server, "/healthz")[0].status == 200


def test_a_parent_that_hangs_is_seen_to_hang(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.publish(running())
    since = time.monotonic() - 11
    monkeypatch.setattr(server, "_published", (running(), since))
    response, body = ask(server, "/healthz")
    assert response.status == 503
    assert json.loads(body)["reasons"][0].startswith("the watching process has said nothing for 1")
    assert values(server)["vidmod_live_state_age_seconds", ()] > 10


def test_head_has_no_body(server: MetricsServer) -> None:
    server.publish(running())
    response, body = ask(server, "/metrics", "HEAD")
    assert response.status == 200
    assert int(response.headers["Content-Length"]) > 1000
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_other_methods_are_refused(server: MetricsServer, method: str) -> None:
    response, _ = ask(server, "/metrics", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_other_pages_are_not_there(server: MetricsServer) -> None:
    assert ask(server, "/")[0].status == 404
    assert ask(server, "/metrics/../etc/passwd")[0].status == 404
    assert ask(server, "/metrics?x=1")[0].status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9464", 200),
        ("127.0.0.1:9464", 200),
        ("127.1.2.3", 200),
        ("[::1]:9464", 200),
        ("example.org", 421),
        ("example.org:9464", 421),
        ("localhost.example.org", 421),
        ("127.0.0.1.example.org", 421),
        ("", 421),
    ],
)
def test_a_page_that_a_browser_was_led_to_reads_nothing(server: MetricsServer, host: str, status: int) -> None:
    assert ask(server, "/metrics", Host=host)[0].status == status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\n\n", 400),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\n\n", 200),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000_000, 431),
    ],
    ids=["nonsense", "0.9", "tls", "1.0", "bare line feeds", "long", "very long"],
)
def test_odd_requests_get_an_answer(server: MetricsServer, data: bytes, status: int) -> None:
    assert raw(server, data).startswith(b"HTTP/1.1 %d " % status)


def test_who_asks_slowly_is_closed_and_others_are_served_meanwhile(server: MetricsServer) -> None:
    server.publish(running())
    slow = [socket.create_connection(server.address, timeout=10) for _ in range(12)]
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"G")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        began = time.monotonic()
        for _ in range(5):
            assert ask(server, "/healthz")[0].status == 200
        assert time.monotonic() - began < 5
        assert server._server.connections <= 4
        time.sleep(1.5)
        assert server._server.connections == 0
    finally:
        stop.set()
        thread.join()
        for connection in slow:
            connection.close()


def test_who_reads_nothing_is_closed(server: MetricsServer) -> None:
    # So many labels that the answer does not fit what the kernel takes at once.
    server.publish(running(hits={f"{number}" * 200: 1 for number in range(20_000)}))
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + 10
        while not server._server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1.5)
        assert server._server.connections == 0
    assert ask(server, "/healthz")[0].status == 200


def test_a_failure_while_answering_ends_one_request_only(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("vidmod.live.telling.metrics.generate_latest", fail)
    assert ask(server, "/metrics")[0].status == 500
    assert ask(server, "/healthz")[0].status == 200


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert parse_listen("9464") == ("127.0.0.1", 9464)
    assert parse_listen("0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_listen("[::1]:80") == ("::1", 80)
    with MetricsServer(port=0) as server:
        assert server.address[0] == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "x", "host:80", "1.2.3.4:", "1.2.3.4:70000", "-1", ":80", "1.2.3.4:\uff18"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Invalid address"):
        parse_listen(text)


def test_elsewhere_a_host_may_have_any_name() -> None:
    with MetricsServer("0.0.0.0", 0) as server:
        connection = HTTPConnection("127.0.0.1", server.address[1], timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz", headers={"Host": "stage.example.org"})
            assert connection.getresponse().status == 200


def test_a_port_that_is_taken_says_so(server: MetricsServer) -> None:
    with pytest.raises(OutputError, match=f"{server.address[1]}.*Use another port"):
        MetricsServer(port=server.address[1])
