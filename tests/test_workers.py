from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from vidmod.containment import Limits
from vidmod.errors import VidmodError
from vidmod.workers import Ended, Json, Message, Pool, WireError, Worker
from vidmod.workers.deadline import Deadline
from vidmod.workers.slots import shared_memory
from vidmod.workers.wire import MAX_FRAME_BYTES, Inbox, encode

ROOT = Path(__file__).resolve().parent.parent
LIMITS = Limits(memory_bytes=256 << 20, cpu_seconds=30)
HANDLERS = "tests.worker_handlers"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "upload.mp4"
    path.write_text("bytes of a stranger")
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[Pool]:
    with Pool(f"{HANDLERS}:misbehave", LIMITS) as pool:
        yield pool


@pytest.fixture(scope="module")
def saying() -> Iterator[Pool]:
    with Pool(f"{HANDLERS}:say", LIMITS) as pool:
        yield pool


def listen(
    pool: Pool, *, seconds: float = 10, until: Callable[[list[Message | Ended]], bool] | None = None
) -> list[Message | Ended]:
    """Poll until the first end, or until something else."""
    found: list[Message | Ended] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found += pool.poll(0.5)
        if until(found) if until is not None else any(isinstance(item, Ended) for item in found):
            return found
    raise AssertionError(f"nothing in {seconds} s but {found}")


def payloads(found: list[Message | Ended]) -> list[Json]:
    return [item.payload for item in found if isinstance(item, Message)]


def ending(found: list[Message | Ended]) -> Ended:
    assert isinstance(found[-1], Ended)
    assert sum(isinstance(item, Ended) for item in found) == 1
    return found[-1]


def first_message(pool: Pool) -> list[Json]:
    return payloads(listen(pool, until=lambda found: bool(payloads(found))))


def run_one(handler: str, source: int, settings: Json, *, limits: Limits = LIMITS, slots: int = 2) -> Ended:
    with Pool(f"{HANDLERS}:{handler}", limits) as pool:
        pool.fork(source, settings, slots=slots, slot_bytes=1000)
        return ending(listen(pool))


def is_running(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def gone(*pids: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(is_running, pids))


# --- what it is for ---------------------------------------------------------------------------------------


def test_echo(source: int) -> None:
    with Pool(f"{HANDLERS}:echo", LIMITS) as pool:
        worker = pool.fork(source, {"a": ["ü", 1, 2.5, None]}, slots=0, slot_bytes=0)
        assert str(worker.pid) == "None"
        worker.send({"early": True})
        found = listen(pool, until=lambda found: len(payloads(found)) == 2)
        assert payloads(found) == [{"settings": {"a": ["ü", 1, 2.5, None]}}, {"early": True}]
        assert worker.pid
        assert worker.layers[0] == "limits"
        worker.send({"big": "x" * 1_000_000})
        worker.send({"end": True})
        found = listen(pool)
        assert payloads(found) == [{"big": "x" * 1_000_000}]
        assert (ending(found).reason, ending(found).detail) == ("finished", "ended as it should")
        assert ending(found).worker is worker
        worker.send({"late": True})
        worker.kill("late")
        assert pool.poll(0.01) == []


def test_a_worker_sees_its_file_and_nothing_else(
    source: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("VIDMOD_ANYTHING", "1")
    with Pool(f"{HANDLERS}:read", LIMITS) as pool:
        pool.fork(source, {}, slots=1, slot_bytes=1)
        (payload,) = payloads(listen(pool))
    assert payload["text"] == "bytes of a stranger"
    assert payload["open"] == [0, 1, 2, 3, 4, 5]
    assert payload["session"] != os.getsid(0)
    assert payload["directory"] == "/"
    assert {"VIDMOD_ANYTHING", "OPENBLAS_NUM_THREADS"} <= set(payload["environment"])
    assert not {"AWS_SECRET_ACCESS_KEY", "HOME"} & set(payload["environment"])
    assert capfd.readouterr() == ("", "")


def test_standard_error_is_kept_for_debugging() -> None:
    rest = """
pool.close()
pool = Pool("tests.worker_handlers:read", Limits())
pool.fork(source, {}, slots=0, slot_bytes=0)
while isinstance(pool.poll(1)[-1], Message): pass
"""
    code = script(rest, "chat", "{'pause': 0.1}")
    for value, said in (("1", "nor this\n"), ("", "")):
        environment = {**os.environ, "VIDMOD_DEBUG_WORKERS": value}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
        assert (done.stdout, done.stderr) == ("", said)


def test_more_pictures_than_slots(source: int) -> None:
    with Pool(f"{HANDLERS}:pictures", LIMITS) as pool:
        worker = pool.fork(source, {"count": 50}, slots=3, slot_bytes=5000)
        numbers = []
        while True:
            found = listen(pool, until=bool)
            for payload in payloads(found):
                if "slot" in payload:
                    image = worker.image(payload["slot"])
                    assert image.readonly
                    assert image.nbytes == 5000
                    assert bytes(image) == bytes([payload["number"]]) * 5000
                    numbers.append(payload["number"])
                    worker.release(payload["slot"])
            if isinstance(found[-1], Ended):
                break
        assert numbers == list(range(50))
        assert found[-1].reason == "finished"


def test_slots_bound_the_worker_and_not_the_parent(source: int) -> None:
    with Pool(f"{HANDLERS}:pictures", LIMITS) as pool:
        worker = pool.fork(source, {"count": 5}, slots=3, slot_bytes=8)
        found = listen(pool, until=lambda found: len(payloads(found)) == 3)
        assert pool.poll(0.1) == []
        # It waits for us, so its time does not pass.
        worker.expect(0.1)
        assert pool.poll(0.4) == []
        kept = worker.image(payloads(found)[0]["slot"])
        for payload in payloads(found):
            worker.release(payload["slot"])
        worker.expect(10)
        rest = listen(pool)
        assert [item.get("number") for item in payloads(rest)] == [3, 4, None]
        assert ending(rest).reason == "finished"
        # What was handed over stays readable after the end, and after the pool's.
        last = worker.image(payloads(rest)[-2]["slot"])
    assert bytes(last) == bytes([4]) * 8
    assert len(bytes(kept)) == 8


def test_messages_while_a_slot_is_waited_for(source: int) -> None:
    with Pool(f"{HANDLERS}:two_pictures_at_once", LIMITS) as pool:
        worker = pool.fork(source, {}, slots=2, slot_bytes=8)
        found = payloads(listen(pool, until=lambda found: len(payloads(found)) == 2))
        assert worker.image(found[0]["slot"])[0] == 7
        worker.send({"first": 1})
        worker.release(found[1]["slot"])
        worker.send({"second": 2})
        (message,) = first_message(pool)
        assert message == {"slot": found[1]["slot"], "heard": [{"first": 1}, {"second": 2}]}
        with pytest.raises(ValueError, match="not held"):
            worker.release(7)
        with pytest.raises(ValueError, match="not held"):
            worker.image(-1)


def test_misuse_in_the_worker(source: int) -> None:
    with Pool(f"{HANDLERS}:misuse", LIMITS) as pool:
        pool.fork(source, {}, slots=1, slot_bytes=1)
        assert first_message(pool) == [{"kinds": ["ValueError", "ValueError", "WireError"]}]


def test_misuse_in_the_parent(source: int, tmp_path: Path) -> None:
    with Pool(f"{HANDLERS}:echo", LIMITS) as pool:
        with (tmp_path / "writable").open("wb+") as file, pytest.raises(ValueError, match="can be written"):
            pool.fork(file.fileno(), {}, slots=0, slot_bytes=0)
        with pytest.raises(ValueError, match="slots"):
            pool.fork(source, {}, slots=2, slot_bytes=0)
        with pytest.raises(WireError):
            pool.fork(source, {"x": float("inf")}, slots=1, slot_bytes=1)
        with pytest.raises(OSError, match="Bad file descriptor"):
            pool.fork(999, {}, slots=0, slot_bytes=0)
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        pool.poll(0)
    with pytest.raises(ValueError, match="closed"):
        pool.fork(source, {}, slots=0, slot_bytes=0)


def test_two_pools_side_by_side(source: int) -> None:
    with Pool(f"{HANDLERS}:echo", LIMITS) as one, Pool(f"{HANDLERS}:pictures", LIMITS) as two:
        first = [one.fork(source, {"n": n}, slots=0, slot_bytes=0) for n in range(3)]
        second = two.fork(source, {"count": 1}, slots=1, slot_bytes=1)
        assert ending(listen(two, until=lambda found: isinstance(found[-1:][0], Ended))).worker is second
        two.close()
        found = listen(one, until=lambda found: len(found) == 3)
        assert sorted(payload["settings"]["n"] for payload in payloads(found)) == [0, 1, 2]
        assert len({worker.pid for worker in first}) == 3


# --- how workers die --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason", "detail"),
    [
        ("segfault", "crashed", "killed by signal 11 (SIGSEGV)"),
        ("exit", "crashed", "ended with status 3"),
        ("raise", "crashed", "ValueError: no [31m such"),
        ("raise_surrogate", "crashed", "ValueError: ?"),
        ("recurse", "crashed", "RecursionError: "),
        ("sys_exit", "crashed", "SystemExit: 0"),
        ("kill_itself", "crashed", "killed by signal 9 (SIGKILL), perhaps because memory ran out"),
        ("memory", "memory", "past its memory limit of 256 MiB"),
        ("memory_at_once", "memory", "past its memory limit of 256 MiB"),
    ],
)
def test_deaths(misbehaving: Pool, source: int, how: str, reason: str, detail: str) -> None:
    misbehaving.fork(source, {"how": how}, slots=2, slot_bytes=1000)
    ended = ending(listen(misbehaving))
    assert ended.reason == reason
    assert ended.detail.startswith(detail)
    assert len(ended.detail) <= 2000
    assert ended.detail.isprintable()


def test_a_death_leaves_the_others_alone(misbehaving: Pool, source: int) -> None:
    misbehaving.fork(source, {"how": "segfault"}, slots=0, slot_bytes=0)
    other = misbehaving.fork(source, {"how": "hang"}, slots=0, slot_bytes=0)
    assert ending(listen(misbehaving)).reason == "crashed"
    assert other.pid is not None
    assert is_running(other.pid)
    other.kill("not\nwanted")
    ended = ending(listen(misbehaving))
    assert (ended.worker, ended.reason, ended.detail) == (other, "killed", "not wanted")
    assert not psutil.pid_exists(other.pid)


def test_processor_time_is_limited(source: int) -> None:
    ended = run_one("misbehave", source, {"how": "spin"}, limits=Limits(memory_bytes=256 << 20, cpu_seconds=1))
    assert (ended.reason, ended.detail) == ("deadline", "past its processor time limit of 1 s")


@pytest.mark.parametrize("how", ["hang", "hang_with_gil"])
def test_a_hang_ends_at_the_deadline(source: int, how: str) -> None:
    with Pool(f"{HANDLERS}:misbehave", LIMITS) as pool:
        worker = pool.fork(source, {"how": how}, slots=2, slot_bytes=8)
        first_message(pool)
        worker.expect(0.3)
        start = time.monotonic()
        ended = ending(listen(pool))
        assert 0.3 <= time.monotonic() - start < 2.0
        assert (ended.reason, ended.detail) == ("deadline", "past its deadline of 0.3 s")


@pytest.mark.parametrize(("handler", "settings"), [("misbehave", {"how": "hang"}), ("chat", {"pause": 0.05})])
def test_rare_polls_kill_in_time(source: int, handler: str, settings: Json) -> None:
    """Also one that always has something to say."""
    with Pool(f"{HANDLERS}:{handler}", LIMITS) as pool:
        worker = pool.fork(source, settings, slots=0, slot_bytes=0)
        first_message(pool)
        worker.expect(0.5)
        pid, start = worker.pid, time.monotonic()
        assert pid is not None
        found: list[Message | Ended] = []
        while is_running(pid):
            time.sleep(0.8)
            found += pool.poll(0)
            assert time.monotonic() - start < 2.5
        while not found or not isinstance(found[-1], Ended):
            found += pool.poll(1)
        assert ending(found).reason == "deadline"


def test_what_came_in_time_counts_though_it_is_read_late(source: int) -> None:
    with Pool(f"{HANDLERS}:wait", LIMITS) as pool:
        worker = pool.fork(source, {}, slots=0, slot_bytes=0)
        worker.send({})
        first_message(pool)
        worker.expect(0.2)
        worker.send({})
        time.sleep(0.6)
        assert payloads(pool.poll(0)) == [{"done": {}}]
        worker.expect(None)
        assert pool.poll(0.7) == []
        worker.expect(0.2)
        worker.send({"sleep": 10})
        assert ending(listen(pool)).reason == "deadline"


def test_the_start_is_not_part_of_the_deadline(source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(1.2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Pool(f"{HANDLERS}:echo", LIMITS, warm=["slow_to_import"]) as pool:
        worker = pool.fork(source, {}, slots=0, slot_bytes=0)
        worker.expect(0.8)
        assert first_message(pool) == [{"settings": {}}]


def test_deadline_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deadline = Deadline()
    deadline.start(5)
    now += 50
    assert deadline.due_seconds == float("inf")
    deadline.run(True)
    now += 2
    assert deadline.due_seconds == 3
    deadline.run(False)
    now += 50
    deadline.run(True)
    now += 2.9
    deadline.hear()
    assert deadline.due_seconds == pytest.approx(0.5)
    now += 0.4
    deadline.hear()
    assert deadline.due_seconds == pytest.approx(0.1)
    deadline.start(None)
    assert deadline.due_seconds == float("inf")


def test_a_worker_can_be_killed_before_it_starts(source: int) -> None:
    with Pool(f"{HANDLERS}:misbehave", LIMITS) as pool:
        worker = pool.fork(source, {"how": "hang"}, slots=0, slot_bytes=0)
        worker.kill("changed my mind")
        ended = ending(listen(pool))
        assert (ended.worker, ended.reason, ended.detail) == (worker, "killed", "changed my mind")


# --- hostile workers --------------------------------------------------------------------------------------


def framed(text: str) -> str:
    body = text.encode()
    return (len(body).to_bytes(4, "big") + body).hex()


@pytest.mark.parametrize(
    ("wire", "detail"),
    [
        ("00000004deadbeef", "not JSON (UnicodeDecodeError)"),
        (framed("{"), "not JSON (JSONDecodeError)"),
        (framed("[]"), "a list in place of an object"),
        (framed("{}"), "no known kind"),
        (framed('{"payload": 1}'), "no known kind"),
        (framed('{"layers": []}'), "no known kind"),
        (framed('{"payload": {"x": NaN}}'), "not JSON"),
        (framed('{"payload": {"x": 1e999}}'), "not JSON"),
        (framed('{"payload": {"x": "\\ud800"}}'), "not JSON (UnicodeEncodeError)"),
        (framed('{"payload": {"x": ' + "9" * 5000 + "}}"), "not JSON"),
        (framed('{"payload": ' + "[" * 100_000 + "]" * 100_000 + "}"), "not JSON (RecursionError)"),
        (framed('{"error": 1, "message": ""}'), "an error without a name"),
        (framed('{"error": "E", "message": "m"}') + framed('{"payload": {}}'), "a frame after its last"),
        (framed('{"payload": {"slot": 2}}'), "slot '2' of 2"),
        (framed('{"payload": {"slot": -1}}'), "slot '-1' of 2"),
        (framed('{"payload": {"slot": true}}'), "slot 'True' of 2"),
        (framed('{"payload": {"slot": 0.0}}'), "slot '0.0' of 2"),
        (framed('{"payload": {"slot": [0]}}'), "slot '[0]' of 2"),
        (2 * framed('{"payload": {"slot": 0}}'), "slot '0' of 2, while [0] were handed over"),
        ("00400001", "a frame of 4194305 bytes; at most 4194304 are allowed"),
        ("ffffffff", "a frame of 4294967295 bytes"),
    ],
)
def test_what_is_no_message_ends_the_worker(saying: Pool, source: int, wire: str, detail: str) -> None:
    saying.fork(source, {"hex": wire}, slots=2, slot_bytes=1)
    ended = ending(listen(saying))
    assert ended.reason == "protocol"
    assert ended.detail.startswith("broke the protocol: ")
    assert detail in ended.detail


def test_half_a_message_at_the_end(saying: Pool, source: int) -> None:
    saying.fork(source, {"hex": "00000010aa", "stay": False}, slots=0, slot_bytes=0)
    ended = ending(listen(saying))
    assert (ended.reason, ended.detail) == ("protocol", "broke the protocol: ended in the middle of a message")


def test_a_torrent_is_not_kept(saying: Pool, source: int) -> None:
    """After the refused frame nothing is read, however much comes."""
    saying.fork(source, {"hex": "7fffffff", "zeros": 64 << 20}, slots=0, slot_bytes=0)
    assert ending(listen(saying)).reason == "protocol"


def test_one_that_hangs_up_and_stays(source: int) -> None:
    ended = run_one("hang_up", source, {})
    assert (ended.reason, ended.detail) == ("protocol", "closed its link and did not end")


def test_a_chatty_worker_starves_nobody(source: int) -> None:
    with Pool(f"{HANDLERS}:chat", LIMITS) as pool:
        chatty = [pool.fork(source, {"size": size}, slots=0, slot_bytes=0) for size in (1, 100_000)]
        quiet = pool.fork(source, {"pause": 0.05}, slots=0, slot_bytes=0)
        heard: dict[Worker, int] = dict.fromkeys([*chatty, quiet], 0)
        # Long enough for a machine that has much else to do.
        end = time.monotonic() + 30
        while time.monotonic() < end and heard[quiet] < 3:
            found = pool.poll(0.5)
            here = dict.fromkeys(heard, 0)
            for item in found:
                here[item.worker] += 1
            assert max(here.values()) <= 256
            for worker, count in here.items():
                heard[worker] += count
        assert heard[quiet] >= 3
        assert min(heard.values()) > 0


def test_shared_memory_cannot_be_shortened(source: int) -> None:
    with Pool(f"{HANDLERS}:shrink", LIMITS) as pool:
        worker = pool.fork(source, {}, slots=2, slot_bytes=1 << 16)
        (payload,) = payloads(listen(pool))
        assert payload["refused"]
        assert bytes(worker.image(payload["slot"])) == bytes(1 << 16)
    # And not because of what encloses the worker alone.
    memory = shared_memory(2, 100)
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(memory)


# --- the wire ---------------------------------------------------------------------------------------------


def test_frames_in_pieces() -> None:
    data = encode({"a": "ü\\ud800"}) + encode({}) + encode({"b": "x" * (MAX_FRAME_BYTES - 8)})
    inbox, found = Inbox(), []
    for start in range(0, len(data), 7919):
        inbox.feed(data[start : start + 7919])
        while (frame := inbox.take()) is not None:
            found.append(frame)
    assert [list(frame) for frame in found] == [["a"], [], ["b"]]
    assert found[0] == {"a": "ü\\ud800"}
    assert len(inbox) == 0


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), b"", object(), "x" * MAX_FRAME_BYTES])
def test_what_cannot_be_sent(value: object) -> None:
    with pytest.raises(WireError):
        encode({"value": value})


# --- the zygote -------------------------------------------------------------------------------------------


def zygote_of(pool: Pool) -> psutil.Process:
    assert pool._launcher is not None
    return psutil.Process(pool._launcher._process.pid)


@pytest.mark.parametrize(
    ("handler", "warm", "said"),
    [
        ("tests.worker_handlers:nothing", [], "has no attribute 'nothing'"),
        ("tests.no_such_module:x", [], "No module named 'tests.no_such_module'"),
        ("tests.worker_handlers:echo", ["tests.nothing_warm"], "No module named"),
    ],
)
def test_a_zygote_that_cannot_start(source: int, handler: str, warm: list[str], said: str) -> None:
    with Pool(handler, LIMITS, warm=warm) as pool:
        worker = pool.fork(source, {}, slots=1, slot_bytes=1)
        with pytest.raises(VidmodError, match=said) as caught:
            listen(pool)
        assert "ended with status 1 and said:" in str(caught.value)
        with pytest.raises(VidmodError, match=said):
            pool.poll(0)
        with pytest.raises(VidmodError, match=said):
            pool.fork(source, {}, slots=0, slot_bytes=0)
        worker.kill("it never was")
        worker.send({})


def test_a_zygote_that_stands_still(source: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidmod.workers.launcher._ANSWER_SECONDS", 0.5)
    with Pool(f"{HANDLERS}:misbehave", LIMITS, warm=["vidmod.errors"]) as pool:
        worker = pool.fork(source, {"how": "hang"}, slots=0, slot_bytes=0)
        first_message(pool)
        time.sleep(0.6)
        assert pool.poll(0.1) == []
        zygote_of(pool).suspend()
        worker.kill("late")
        with pytest.raises(VidmodError, match="did not answer"):
            listen(pool)
        zygote_of(pool).resume()


def test_imports_that_start_threads_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with (
        Pool(f"{HANDLERS}:echo", LIMITS, warm=["threads_at_import"]) as pool,
        pytest.raises(VidmodError, match="2 threads"),
    ):
        listen(pool)


def test_what_workers_import_starts_no_threads(source: int) -> None:
    warm = ["numpy", "av", "cv2", "vidmod.media.reader", "vidmod.models.preprocessing"]
    with Pool(f"{HANDLERS}:echo", LIMITS, warm=warm) as pool:
        pool.fork(source, {}, slots=0, slot_bytes=0)
        assert first_message(pool) == [{"settings": {}}]


def test_a_zygote_that_is_killed(source: int) -> None:
    with Pool(f"{HANDLERS}:misbehave", LIMITS) as pool:
        worker = pool.fork(source, {"how": "hang"}, slots=0, slot_bytes=0)
        first_message(pool)
        assert worker.pid is not None
        zygote_of(pool).kill()
        with pytest.raises(VidmodError, match=r"was killed by signal 9 \(SIGKILL\) and said nothing"):
            listen(pool)
        with pytest.raises(VidmodError, match="SIGKILL"):
            pool.fork(source, {}, slots=0, slot_bytes=0)
        assert gone(worker.pid)


@pytest.mark.parametrize("is_warm", [True, False])
def test_closing_leaves_nothing(source: int, is_warm: bool) -> None:
    pool = Pool(f"{HANDLERS}:misbehave", LIMITS)
    workers = [pool.fork(source, {"how": "hang"}, slots=1, slot_bytes=1) for _ in range(3)]
    if is_warm:
        listen(pool, until=lambda found: len(found) == 3)
    zygote = zygote_of(pool)
    start = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - start < 3
    assert not zygote.is_running()
    assert gone(*(worker.pid for worker in workers if worker.pid is not None))


def test_a_forgotten_pool_closes_itself(source: int) -> None:
    pool = Pool(f"{HANDLERS}:misbehave", LIMITS)
    pool.fork(source, {"how": "hang"}, slots=0, slot_bytes=0)
    zygote = zygote_of(pool)
    del pool
    assert not zygote.is_running()


# --- other processes --------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
from vidmod.containment import Limits
from vidmod.workers import Pool, Message
source = os.open("/dev/null", os.O_RDONLY)
pool = Pool("tests.worker_handlers:{handler}", Limits())
workers = [pool.fork(source, {settings}, slots=1, slot_bytes=1) for _ in range(2)]
found = []
while len(found) < 2:
    found += pool.poll(1)
assert all(isinstance(item, Message) for item in found), found
report = " ".join(str(worker.pid) for worker in workers)
{rest}
"""


def script(rest: str, handler: str = "misbehave", settings: str = "{'how': 'hang'}") -> str:
    return SCRIPT.format(handler=handler, settings=settings, rest=rest)


def start(code: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )


def first_pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 2
    zygotes = [child.pid for child in psutil.Process(process.pid).children()]
    return [*zygotes, *workers]


def test_a_killed_parent_leaves_nothing() -> None:
    with start(script("print(report, flush=True); time.sleep(100)")) as process:
        pids = first_pids(process)
        assert len(pids) == 3
        process.kill()
    assert gone(*pids)


def test_a_killed_parent_leaves_nothing_though_a_fork_of_it_lives() -> None:
    """The fork has the pool's descriptors, so the zygote sees no end of its link."""
    rest = "child = os.fork()\nif child == 0: time.sleep(100)\nprint(report, flush=True); time.sleep(100)"
    with start(script(rest)) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        (fork,) = [pid for pid in pids if pid not in workers and "zygote" not in str(psutil.Process(pid).cmdline())]
        process.kill()
        process.wait()
        assert gone(*(pid for pid in pids if pid != fork))
        os.kill(fork, signal.SIGKILL)


def test_a_fork_of_the_parent_harms_nobody() -> None:
    rest = """
child = os.fork()
if child == 0:
    try:
        pool.poll(0)
    except ValueError as exc:
        pool.close()
        os._exit(5 if "another process" in str(exc) else 6)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pool.poll(0.2), flush=True)
"""
    with start(script(rest)) as process:
        out, _ = process.communicate(timeout=10)
    assert out == "5 []\n"


def test_a_script_that_ends_without_closing() -> None:
    with start(script("print(report, flush=True)")) as process:
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert gone(*map(int, out.split()))


def test_ctrl_c_is_for_the_parent_to_decide() -> None:
    rest = """
try:
    print(report, flush=True)
    time.sleep(100)
except KeyboardInterrupt:
    workers[0].send({"still": "there"})
    print(pool.poll(60)[0].payload, flush=True)
pool.close()
"""
    with start(script(rest, "echo", "{}")) as process:
        pids = first_pids(process)
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "{'still': 'there'}\n"
    assert process.returncode == 0
    assert gone(*pids)


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1, 2)])
def test_standard_streams_may_be_closed(tmp_path: Path, closed: tuple[int, ...]) -> None:
    result = tmp_path / "result"
    rest = f"""
libc = __import__("ctypes").CDLL(None)
for number in (1, 2):
    libc.write(number, b"noise", 5)
workers[0].send({{"end": True}})
ended = pool.poll(5)[-1]
open({str(result)!r}, "w").write(ended.reason)
"""
    code = f"import os\nfor n in {closed}: os.close(n)\n" + script(rest, "echo", "{}")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=20, check=True, capture_output=True)
    assert result.read_text() == "finished"


def test_from_a_thread_of_a_script_without_a_guard(tmp_path: Path) -> None:
    """Nothing of the caller's is imported anew, its signals' actions are not handed on, nor its socket timeout."""
    inner = script("print(worker_reason := pool.poll(5), flush=True)", "echo", "{}").replace(
        "print(worker_reason := pool.poll(5), flush=True)",
        "[worker.send({'end': True}) for worker in workers]\nprint(pool.poll(5)[-1].reason, flush=True)\npool.close()",
    )
    path = tmp_path / "my script.py"
    path.write_text(
        "import signal, socket, sys, threading\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "print('once', flush=True)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})\n"
        "socket.setdefaulttimeout(0.5)\n"
        f"thread = threading.Thread(target=exec, args=({inner!r}, {{}}))\n"
        "thread.start(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=20, cwd=tmp_path)
    assert (done.stdout.split(), done.stderr) == (["once", "finished"], "")


# --- many -------------------------------------------------------------------------------------------------


def test_many_workers_leave_nothing(source: int) -> None:
    this = psutil.Process()
    with Pool(f"{HANDLERS}:pictures", LIMITS) as pool:

        def serve(count: int) -> None:
            for _ in range(count):
                worker = pool.fork(source, {"count": 2}, slots=2, slot_bytes=1 << 20)
                worker.expect(10)
                found = listen(pool)
                assert ending(found).reason == "finished"
                assert worker.image(payloads(found)[0]["slot"])[0] == 0

        serve(30)
        zygote, descriptors, rss = zygote_of(pool), this.num_fds(), this.memory_info().rss
        theirs = zygote.num_fds()
        serve(270)
        assert this.num_fds() == descriptors
        assert zygote.num_fds() == theirs
        assert zygote.children() == []
        assert this.memory_info().rss - rss < 3 << 20
    assert not zygote.is_running()


def test_many_workers_at_once(source: int) -> None:
    with Pool(f"{HANDLERS}:wait", LIMITS) as pool:
        workers = [pool.fork(source, {}, slots=1, slot_bytes=4096) for _ in range(40)]
        for number, worker in enumerate(workers):
            worker.send({"number": number})
        found = listen(pool, until=lambda found: len(found) == 40)
        assert sorted(payload["done"]["number"] for payload in payloads(found)) == list(range(40))
        for worker in workers:
            worker.kill("enough")
        found = listen(pool, until=lambda found: len(found) == 40)
        assert {item.reason for item in found if isinstance(item, Ended)} == {"killed"}


def test_no_descriptors_left_is_an_error_and_no_more(source: int) -> None:
    with Pool(f"{HANDLERS}:echo", LIMITS) as pool:
        pool.fork(source, {}, slots=0, slot_bytes=0)
        first_message(pool)
        before = psutil.Process().num_fds()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        for room in range(1, 6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, hard))
            try:
                with suppress(OSError):
                    pool.fork(source, {}, slots=1, slot_bytes=1).kill("tried")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while pool.poll(0.2):
            pass
        assert psutil.Process().num_fds() == before
