from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.receivers import FAILURES, KEY, REFUSALS, SECRET, Receiver, answering, half_failing, receiving
from tests.test_live_events import JPEG, hit
from vidmod.errors import OutputError, SignatureError, UsageError
from vidmod.live.telling import webhooks as webhooks_module
from vidmod.live.telling.events import HitBegan, HitEnded, encode
from vidmod.live.telling.spool import Spool
from vidmod.live.telling.webhooks import Delivery, Secret, Target, Webhooks, deliver, sign, verify

QUICK = Delivery(timeout_seconds=0.5, first_wait_seconds=0.005, longest_wait_seconds=0.05)
NOW = 1_700_000_000
SENDER = """
import sys, time
from pathlib import Path
from tests.receivers import SECRET
from tests.test_live_events import hit
from vidmod.live.telling.events import HitBegan
from vidmod.live.telling.webhooks import Delivery, Target, Webhooks
settings = Delivery(timeout_seconds=0.5, first_wait_seconds=0.005, longest_wait_seconds=0.05)
hooks = Webhooks("stage", [Target(sys.argv[1], SECRET)], Path(sys.argv[2]), settings=settings)
first, count = int(sys.argv[3]), int(sys.argv[4])
for number in range(first, first + count):
    hooks.post(HitBegan(hit=hit(number)))
    while hooks._queue or hooks._writing:
        time.sleep(0.0005)
    print(number, flush=True)
print("all", flush=True)
if hooks.flush(60):
    print("delivered", flush=True)
hooks.close()
"""


def began(number: int) -> HitBegan:
    return HitBegan(hit=hit(number))


def posted(hooks: Webhooks, numbers: range) -> list[str]:
    for number in numbers:
        deadline = time.monotonic() + 10
        while not hooks.post(began(number)) and time.monotonic() < deadline:
            time.sleep(0.001)
    return [f"run1-{number}.hit_began" for number in numbers]


def wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.005)


# Exactly once by id.


@pytest.mark.parametrize("seed", [1, 2])
def test_every_event_arrives_once_by_id_although_the_receiver_fails_half_of_the_time(tmp_path: Path, seed: int) -> None:
    receiver = Receiver(half_failing(seed), hang_seconds=0.7)
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        ids = posted(hooks, range(120))
        assert hooks.flush(120)
        told = hooks.backlog()
    # In the order in which they were posted, for nothing was refused.
    assert receiver.ids() == ids
    assert receiver.unsigned == 0
    failed = sum(how != "ok" for how in receiver.behaved)
    assert set(receiver.behaved) == {"ok", *FAILURES}
    assert 0.35 < failed / len(receiver.behaved) < 0.65
    assert told.delivered == 120
    # A receiver on a slow machine may think well of an attempt that took too long.
    assert told.failed_attempts >= failed
    assert (told.waiting, told.waiting_bytes, sum(told.dropped.values())) == (0, 0, 0)
    assert [row["sequence"] for row in receiver.accepted] == list(range(1, 121))


def test_every_event_arrives_although_the_sender_is_killed(tmp_path: Path) -> None:
    chance = random.Random(5)
    receiver = Receiver(half_failing(5), hang_seconds=0.7)
    stored: list[int] = []
    kills = 0
    spool = str(tmp_path / "spool")
    with receiving(receiver):
        while len(stored) < 100:
            # Told again is what might not have been stored when it was killed.
            first, count = len(stored), min(chance.randrange(10, 40), 100 - len(stored))
            command = [sys.executable, "-c", SENDER, receiver.url, spool, str(first), str(count)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                fewest = chance.randrange(min(5, count), count + 1)
                stored += [int(process.stdout.readline()) for _ in range(fewest)]
                time.sleep(chance.uniform(0, 0.2))
                process.send_signal(signal.SIGKILL)
                kills += 1
                # What was printed until then was on disk.
                stored += [int(line) for line in process.stdout.read().split() if line.isdigit()]
        before = len(receiver.accepted)
        command = [sys.executable, "-c", SENDER, receiver.url, spool, "100", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["100", "all", "delivered"]
    assert kills >= 3
    assert before < 100
    assert stored == list(range(100))
    assert receiver.ids() == [f"run1-{number}.hit_began" for number in range(101)]
    assert receiver.unsigned == 0
    assert len({row["sequence"] for row in receiver.accepted}) == 101


def test_what_is_refused_steps_aside_and_arrives_later(tmp_path: Path) -> None:
    attempts: dict[str, int] = {}

    def behave(row: dict[str, Any]) -> str:
        attempts[row["id"]] = attempts.get(row["id"], 0) + 1
        number = int(row["hit"]["id"].removeprefix("run1-"))
        return REFUSALS[number % 3] if number % 5 == 0 and attempts[row["id"]] <= 3 else "ok"

    receiver = Receiver(behave)
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        ids = posted(hooks, range(30))
        assert hooks.flush(60)
    assert sorted(receiver.ids()) == sorted(ids)
    assert [item for index, item in enumerate(ids) if index % 5] == [
        item for item in receiver.ids() if attempts[item] == 1
    ]
    # No redirection is followed.
    assert {path for path, _, _ in receiver.requests} == {"/hooks/stage?token=a%20b"}


def test_one_that_is_never_taken_keeps_no_other_waiting(tmp_path: Path) -> None:
    receiver = Receiver(lambda row: "before 413" if row["sequence"] == 1 else "ok")
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        ids = posted(hooks, range(20))
        wait_until(lambda: receiver.ids() == ids[1:])
        wait_until(lambda: hooks.backlog().waiting == 1)


def test_a_receiver_that_is_dead_slows_neither_the_other_nor_whoever_posts(tmp_path: Path) -> None:
    receiver = Receiver()
    with socket.create_server(("127.0.0.1", 0)) as dead, receiving(receiver):
        # It takes connections, and never reads.
        targets = [Target(f"http://127.0.0.1:{dead.getsockname()[1]}/", SECRET), Target(receiver.url, SECRET)]
        settings = Delivery(timeout_seconds=30.0, max_queued=1000)
        hooks = Webhooks("stage", targets, tmp_path / "spool", settings=settings)
        longest = 0.0
        for number in range(100):
            start = time.monotonic()
            assert hooks.post(began(number))
            hooks.backlog()
            longest = max(longest, time.monotonic() - start)
        wait_until(lambda: len(receiver.accepted) == 100)
        wait_until(lambda: hooks.backlog().waiting == 100)
        assert longest < 0.5
        start = time.monotonic()
        hooks.close(0.5)
        assert time.monotonic() - start < 3
    assert hooks.backlog().delivered == 100


def test_it_is_tried_again_when_the_receiver_is_there_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    receiver = Receiver()
    target = Target(f"http://127.0.0.1:{port}/hooks", SECRET)
    with Webhooks("stage", [target], tmp_path / "spool", settings=QUICK) as hooks:
        ids = posted(hooks, range(5))
        wait_until(lambda: hooks.backlog().failed_attempts >= 3)
        with receiving(receiver, port=port):
            assert hooks.flush(30)
        notes = hooks.take_notes()
    assert receiver.ids() == ids
    assert notes[0].startswith(f"Webhook http://127.0.0.1:{port}/…: ConnectionRefusedError")
    assert notes[-1] == f"Webhook http://127.0.0.1:{port}/…: delivers again."
    assert len(notes) == 2
    assert hooks.take_notes() == []


def test_events_wait_for_the_next_run(tmp_path: Path) -> None:
    receiver = Receiver(lambda _: "before 500")
    with receiving(receiver):
        target = Target(receiver.url, SECRET)
        with Webhooks("stage", [target], tmp_path / "spool", settings=QUICK) as hooks:
            ids = posted(hooks, range(10))
        receiver.behave = lambda _: "ok"
        with Webhooks("stage", [target], tmp_path / "spool", settings=QUICK) as hooks:
            assert hooks.flush(30)
            # Told again, after a restart of the filter, they are not sent again.
            posted(hooks, range(10))
            posted(hooks, range(10, 11))
            assert hooks.flush(30)
    assert receiver.ids() == [*ids, "run1-10.hit_began"]
    assert receiver.behaved.count("ok") == 11


# What is sent.


def test_what_a_receiver_gets(tmp_path: Path) -> None:
    receiver = Receiver()
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        hooks.post(HitEnded(hit=hit(7, end_seconds=15.0)))
        assert hooks.flush(30)
    [(path, headers, body)] = receiver.requests
    row = json.loads(body)
    assert path == "/hooks/stage?token=a%20b"
    assert headers["Content-Type"] == "application/json"
    assert headers["Vidmod-Event-Id"] == row["id"] == "run1-7.hit_ended"
    assert (row["schema"], row["event"], row["stream"], row["sequence"]) == ("vidmod.event/1", "hit_ended", "stage", 1)
    assert (row["hit"]["start_seconds"], row["hit"]["end_seconds"]) == (12.345679, 15.0)
    assert base64.b64decode(row["hit"]["thumbnail"]["base64"]) == JPEG
    time_part, signature = headers["Vidmod-Signature"].split(",")
    stamp = time_part.removeprefix("t=")
    assert signature == "v1=" + hmac.new(KEY, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert abs(time.time() - int(stamp)) < 60


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://127.0.0.1:1/a b\r\nX: y?q=\n", b"POST /a%20bX:%20y?q= HTTP/1.1"),
        ("http://127.0.0.1:1/\u00e9%20?a=b#c", b"POST /%C3%A9%20?a=b HTTP/1.1"),
        ("http://127.0.0.1:1", b"POST / HTTP/1.1"),
    ],
)
def test_a_url_cannot_add_a_header(url: str, line: bytes) -> None:
    head, _, body = webhooks_module._request(Target(url, SECRET), "id", b"{}", NOW).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == line
    assert head.count(b"\r\n") == 7
    assert body == b"{}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.org/",
        "https://",
        "example.org/hook",
        "https://user:sesame@example.org/",
        "https://example.org:99999/",
        "https://b\u00fccher.example/",
        "http://[::1/",
        "file:///etc/passwd",
        "https://exa mple.org/",
    ],
)
def test_a_url_that_is_none_is_refused_without_telling_its_secrets(url: str) -> None:
    with pytest.raises(UsageError, match="Invalid webhook") as caught:
        Target(url, SECRET)
    assert "sesame" not in str(caught.value)


# One attempt.


def attempt(url: str, **settings: Any) -> tuple[webhooks_module.Answer, float]:
    start = time.monotonic()
    answer = deliver(Target(url, SECRET), "id", b"{}", Delivery(**{"timeout_seconds": 0.7, **settings}))
    return answer, time.monotonic() - start


@pytest.mark.parametrize(
    ("reply", "acknowledged", "refused"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True, False),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, False),
        (b"HTTP/1.0 202 Accepted\n\n", True, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True, False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", False, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", False, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok", False, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", False, False),
        (b"HTTP/1.1 200 OK", False, False),
        (b"HTTP/1.1 2", False, False),
        (b"", False, False),
        (b"200 OK\r\n\r\n", False, False),
        (b"HTTP/1.1 999999 OK\r\n\r\n", False, False),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000 + b"\r\n", False, False),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", False, False),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", False, True),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", False, True),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", False, False),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", False, False),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
def test_only_a_whole_answer_from_200_to_299_acknowledges(reply: bytes, acknowledged: bool, refused: bool) -> None:
    with answering(reply) as (url, _):
        answer, _ = attempt(url)
    assert (answer.is_acknowledged, answer.is_refusal) == (acknowledged, refused), answer


def test_a_receiver_that_drips_does_not_hold_an_attempt() -> None:
    for head in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b""):
        with answering(head, *[b"X"] * 100, pause_seconds=0.05) as (url, _):
            answer, seconds = attempt(url)
        assert not answer.is_acknowledged
        assert 0.5 < seconds < 3


def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    size = 64 << 20
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, bytes(size)) as (url, taken):
        answer, seconds = attempt(url, timeout_seconds=5.0)
        assert answer.is_acknowledged
        wait_until(lambda: taken)
    # What is more than 8 kB lies in the kernel's buffers.
    assert taken[0] < size / 4
    assert seconds < 4


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("x", 0.0), ("-1", 0.0), ("1e9", 0.0), ("9999999", 0.0)])
def test_retry_after_is_read(value: str, seconds: float) -> None:
    with answering(f"HTTP/1.1 503 No\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n".encode()) as (url, _):
        answer, _ = attempt(url)
    assert answer.retry_after_seconds == seconds


def test_retry_after_is_heeded_up_to_the_longest_wait(tmp_path: Path) -> None:
    times: list[float] = []
    with answering(b"HTTP/1.1 503 No\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n") as (url, taken):
        settings = Delivery(first_wait_seconds=0.005, longest_wait_seconds=0.4)
        with Webhooks("stage", [Target(url, SECRET)], tmp_path / "spool", settings=settings) as hooks:
            posted(hooks, range(1))
            for count in (1, 2, 3):
                wait_until(lambda count=count: len(taken) >= count)
                times.append(time.monotonic())
    assert times[2] - times[0] > 0.7


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")
def test_https_is_checked(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver = Receiver()
    with receiving(receiver, context=context):
        target = Target(receiver.url, SECRET)
        unknown = deliver(target, "id", b"{}", Delivery())
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.problem
        assert receiver.requests == []
        other = Target(receiver.url.replace("127.0.0.1", "localhost"), SECRET)
        assert "CERTIFICATE_VERIFY_FAILED" in deliver(other, "id", b"{}", Delivery(ca_file=certificate)).problem
        with Webhooks("stage", [target], tmp_path / "spool", settings=Delivery(ca_file=certificate)) as hooks:
            ids = posted(hooks, range(3))
            assert hooks.flush(30)
    assert receiver.ids() == ids


# What is bounded, and what is dropped.


def test_of_too_many_events_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    receiver = Receiver(lambda _: "before 500")
    settings = Delivery(timeout_seconds=0.5, first_wait_seconds=0.005, longest_wait_seconds=0.05, max_events=5)
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=settings) as hooks,
    ):
        ids = posted(hooks, range(12))
        wait_until(lambda: hooks.backlog().dropped["full"] == 7)
        assert hooks.backlog().waiting == 5
        receiver.behave = lambda _: "ok"
        assert hooks.flush(30)
    assert receiver.ids()[-5:] == ids[-5:]
    # One that was on its way when it was dropped may arrive all the same.
    assert len(receiver.ids()) in (5, 6)
    # A gap in the sequence tells the receiver.
    assert [row["sequence"] for row in receiver.accepted][-5:] == [8, 9, 10, 11, 12]


def test_the_spool_has_a_limit_in_bytes(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", ["a", "b"], max_bytes=10_000) as spool:
        for number in range(10):
            spool.add(str(number), lambda _: bytes(3000))
        assert spool.waiting_bytes == 9000
        assert spool.waiting == 6
        assert spool.dropped["full"] == 14
    assert (tmp_path / "spool").stat().st_size < 200_000


def test_what_is_too_old_is_given_up_and_told(tmp_path: Path) -> None:
    receiver = Receiver(lambda _: "before 500")
    settings = Delivery(timeout_seconds=0.5, first_wait_seconds=0.01, longest_wait_seconds=0.05, give_up_seconds=0.3)
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=settings) as hooks,
    ):
        posted(hooks, range(3))
        wait_until(lambda: hooks.backlog().dropped["expired"] == 3)
        assert hooks.backlog().waiting == 0
        wait_until(lambda: any("events were given up" in note for note in hooks.take_notes()))
    # It was tried until then.
    assert len(receiver.requests) >= 3


def test_a_disk_that_stands_still_keeps_nobody_waiting(tmp_path: Path) -> None:
    receiver = Receiver()
    settings = Delivery(max_queued=10)
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=settings) as hooks,
    ):
        with hooks._spool._lock:
            start = time.monotonic()
            taken = [hooks.post(began(number)) for number in range(50)]
            assert time.monotonic() - start < 1
            # One may be with the thread that writes.
            assert sum(taken) in (10, 11)
            assert hooks.backlog().dropped["queue_full"] == 50 - sum(taken)
        assert hooks.flush(30)
    assert len(receiver.accepted) == sum(taken)


def test_on_a_full_disk_events_go_on_in_memory(tmp_path: Path) -> None:
    receiver = Receiver(lambda _: "before 500")
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        ids = posted(hooks, range(5))
        wait_until(lambda: hooks.backlog().waiting == 5)
        with hooks._spool._lock:
            hooks._spool._database.execute("PRAGMA max_page_count = 1")
        ids += posted(hooks, range(5, 300))
        wait_until(lambda: hooks.backlog().waiting == 300)
        receiver.behave = lambda _: "ok"
        assert hooks.flush(60)
        assert any("database or disk is full" in note for note in hooks.take_notes())
    assert receiver.ids() == ids


def test_a_spool_that_breaks_loses_what_it_held_and_no_more(tmp_path: Path) -> None:
    receiver = Receiver()
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        with hooks._spool._lock:
            hooks._spool._database.close()
        ids = posted(hooks, range(5))
        assert hooks.flush(30)
        assert any("in memory only" in note for note in hooks.take_notes())
    assert receiver.ids() == ids


def test_an_event_that_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()

    def fail_once(values: dict[str, Any]) -> bytes:
        if values["id"] == "run1-1.hit_began":
            raise RuntimeError
        return encode(values)

    monkeypatch.setattr(webhooks_module, "encode", fail_once)
    with (
        receiving(receiver),
        Webhooks("stage", [Target(receiver.url, SECRET)], tmp_path / "s", settings=QUICK) as hooks,
    ):
        ids = posted(hooks, range(3))
        assert hooks.flush(30)
        assert hooks.take_notes() == ["A webhook could not be written (RuntimeError)."]
    assert receiver.ids() == [ids[0], ids[2]]


# The spool.


def test_the_spool_is_private_and_holds_no_url(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    target = Target("http://127.0.0.1:1/hooks/secret-word", SECRET)
    before = os.umask(0)
    try:
        with Webhooks("stage", [target], path, settings=QUICK) as hooks:
            posted(hooks, range(2))
            wait_until(lambda: hooks.backlog().failed_attempts > 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"secret-word" not in path.read_bytes()
    assert KEY not in path.read_bytes()


def test_a_spool_is_used_by_one_process_only(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    with Spool(path, ["a"]):
        code = f"import pathlib; from vidmod.live.telling.spool import Spool; Spool(pathlib.Path({str(path)!r}), ['a'])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "UsageError" in result.stderr
        assert "another live filter uses it" in result.stderr
    with Spool(path, ["a"]):
        pass


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 100, bytes(8192)])
def test_a_damaged_spool_is_renamed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spool"
    path.write_bytes(content)
    with Spool(path, ["a"]) as spool:
        assert spool.renamed == tmp_path / "spool.damaged"
        assert spool.add("1", lambda _: b"{}")
    assert (tmp_path / "spool.damaged").read_bytes() == content


def test_a_spool_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "no" / "spool"))):
        Spool(tmp_path / "no" / "spool", ["a"])
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="cannot be made"):
        Spool(tmp_path / "link", ["a"])


def test_what_waits_for_a_receiver_that_is_gone_is_dropped_and_counted(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", ["a", "b"]) as spool:
        spool.add("1", lambda _: b"1")
        spool.add("2", lambda _: b"2")
        spool.delivered("a", 1)
    with Spool(tmp_path / "spool", ["b", "c"]) as spool:
        assert spool.dropped["receiver_removed"] == 1
        assert spool.waiting == 2
        assert spool.next("c") is None
        assert (item := spool.next("b")) is not None
        assert (item.sequence, item.body) == (1, b"1")
    with Spool(tmp_path / "spool", []) as spool:
        assert spool.waiting == spool.waiting_bytes == 0


def test_what_was_set_aside_comes_when_it_is_due(tmp_path: Path) -> None:
    now = [1000.0]
    with Spool(tmp_path / "spool", ["a"], wall_clock=lambda: now[0]) as spool:
        for name in ("1", "2", "3"):
            spool.add(name, lambda _: b"")
        spool.failed("a", 1, set_aside_seconds=60)
        assert (item := spool.next("a")) is not None
        assert item.sequence == 2
        spool.failed("a", 2, set_aside_seconds=None)
        assert (item := spool.next("a")) is not None
        assert (item.sequence, item.attempts) == (2, 1)
        now[0] += 61
        assert (item := spool.next("a")) is not None
        assert (item.sequence, item.attempts) == (1, 1)
        # A clock that was set back by a day does not keep it for a day.
        now[0] -= 86_400
        assert (item := spool.next("a")) is not None
        assert item.sequence == 1


def test_an_event_is_known_after_it_was_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidmod.live.telling.spool._REMEMBERED", 3)
    with Spool(tmp_path / "spool", ["a"]) as spool:
        for number in range(1, 6):
            assert spool.add(str(number), lambda _: b"")
            assert not spool.add(str(number), lambda _: b"")
            spool.delivered("a", number)
            assert not spool.add(str(number), lambda _: b"")
        assert not spool.add("3", lambda _: b"")
        assert spool.add("1", lambda _: b"")


def test_a_closed_spool_answers_nothing_and_takes_no_harm(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", ["a"])
    spool.add("1", lambda _: b"x")
    spool.close()
    spool.close()
    assert spool.next("a") is None
    spool.delivered("a", 1)
    with Spool(tmp_path / "spool", ["a"]) as again:
        assert again.waiting == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "spool")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Secrets and signatures.


def test_a_signature_as_it_is_documented() -> None:
    secret = Secret(b"k" * 32)
    # printf '1700000000.{"id":"1"}' | openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk
    assert (
        sign(secret, b'{"id":"1"}', NOW)
        == "t=1700000000,v1=a86937671824a46797a3bdd0a204e09ba57d5464f4df2908b0e1b59ea7942ea3"
    )


def test_a_signature_verifies() -> None:
    body = b'{"id": "1"}'
    headers = {"vidmod-signature": sign(SECRET, body, NOW)}
    verify(SECRET, headers, body, 300, wall_clock=lambda: NOW + 299)
    verify(KEY, headers, body, 300, wall_clock=lambda: NOW - 299)
    verify(Secret(b"another key of 16 bytes", KEY), headers, body, wall_clock=lambda: NOW)


def test_while_a_key_is_replaced_both_verify() -> None:
    old, new = b"old" * 10, b"new" * 10
    headers = {"Vidmod-Signature": sign(Secret(new, old), b"{}", NOW)}
    for key in (old, new):
        verify(key, headers, b"{}", wall_clock=lambda: NOW)
    with pytest.raises(SignatureError):
        verify(b"odd" * 10, headers, b"{}", wall_clock=lambda: NOW)


GOOD = sign(SECRET, b"{}", NOW)


@pytest.mark.parametrize(
    ("value", "body", "clock", "says"),
    [
        (None, b"{}", NOW, "There is no header"),
        (GOOD, b"{ }", NOW, "another secret or another body"),
        (GOOD, b"{}", NOW + 301, "more than 300 s ago"),
        (GOOD, b"{}", NOW - 301, "or ahead"),
        (GOOD.replace(f"t={NOW}", f"t={NOW + 1}"), b"{}", NOW, "another secret or another body"),
        (GOOD.partition(",")[2], b"{}", NOW, "is not t="),
        (f"t={NOW}", b"{}", NOW, "is not t="),
        (f"t={NOW}," + GOOD, b"{}", NOW, "is not t="),
        (f"t={NOW},v1=", b"{}", NOW, "is not t="),
        (f"t={NOW},v1={'0' * 63}", b"{}", NOW, "is not t="),
        (f"t={NOW},v1={'0' * 64}", b"{}", NOW, "another secret"),
        (f"t={NOW},v1=" + "\u00e9" * 64, b"{}", NOW, "is not t="),
        (f"t={'9' * 500},v1={'0' * 64}", b"{}", NOW, "is not t="),
        (f"t=\u0661,v1={'0' * 64}", b"{}", NOW, "is not t="),
        (f"t={NOW}," + ",".join([f"v1={'0' * 64}"] * 10_000), b"{}", NOW, "another secret"),
        ("", b"{}", NOW, "is not t="),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_signature_that_does_not_fit_is_refused(value: str | None, body: bytes, clock: float, says: str) -> None:
    headers = {} if value is None else {"Vidmod-Signature": value}
    with pytest.raises(SignatureError, match=re.escape(says)):
        verify(SECRET, headers, body, wall_clock=lambda: clock)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    two = Secret(KEY, b"another key of 16 bytes")
    verify(two, {"Vidmod-Signature": sign(two, b"{}", NOW)}, b"{}", wall_clock=lambda: NOW)
    # All of them, though the first fits.
    assert len(compared) == 4


def test_a_secret_comes_from_the_environment_or_a_file_and_is_not_told(tmp_path: Path) -> None:
    environ = {"HOOK": KEY.decode(), "OTHER": "x"}
    secret = Secret.read("env:HOOK", environ=environ)
    assert environ == {"OTHER": "x"}
    path = tmp_path / "secret"
    path.write_bytes(KEY + b"\n\n  " + b"n" * 20 + b"\r\n")
    both = Secret.read(f"file:{path}")
    assert secret.signatures(NOW, b"") == both.signatures(NOW, b"")[:1]
    assert len(both.signatures(NOW, b"")) == 2
    for item in (secret, both, Target("https://example.org/", both)):
        assert KEY.decode() not in repr(item)
        assert KEY.decode() not in str(item)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("env:MISSING", "no variable MISSING"),
        ("env:SHORT", "shorter than 16 bytes"),
        ("env:EMPTY", "0 keys"),
        ("file:/no/such/file", "cannot be read"),
        ("sesame-open-now-please", "Use env:NAME or file:PATH"),
        ("env:", "Use env:NAME or file:PATH"),
    ],
)
def test_a_secret_that_is_none_is_refused(place: str, says: str) -> None:
    environ = {"SHORT": "sesame", "EMPTY": "\n"}
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        Secret.read(place, environ=environ)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"timeout_seconds": 0},
        {"max_events": -1},
        {"give_up_seconds": float("nan")},
        {"longest_wait_seconds": 0.1},
        {"ca_file": Path("/no/such/file.pem")},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Delivery(**values)


def test_webhooks_need_one_to_eight_receivers(tmp_path: Path) -> None:
    threads = threading.active_count()
    target = Target("http://127.0.0.1:1/", SECRET)
    nine = [Target(f"http://127.0.0.1:{port}/", SECRET) for port in range(1, 10)]
    for targets in ([], [target, target], nine):
        with pytest.raises(UsageError, match="Invalid webhooks"):
            Webhooks("stage", targets, tmp_path / "spool")
    assert threading.active_count() <= threads
