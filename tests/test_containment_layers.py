"""All layers of a worker together, by their effect; what binds it to its parent; and the doctor."""
# The calls of the system are the subject here, not paths.
# ruff: noqa: PTH102, PTH208

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.enclosed import MIB, NOBODY, ROOT, SAMPLE, Body, Needs, landlock_version, outcome, worker
from vidmod.containment import LAYERS, Limits, enclose, layers, libc, trials
from vidmod.errors import UsageError, VidmodError


def tries_everything(path: str) -> Body:
    other = os.getppid()
    yield ()
    return {
        "read": outcome(lambda: os.open(path, os.O_RDONLY)),
        "list": outcome(lambda: os.listdir("/")),
        "make": outcome(lambda: os.mkdir("/tmp/vidmod-should-not-be")),
        "socket": outcome(lambda: socket.socket().close()),
        "fork": outcome(fork_and_wait),
        "exec": outcome(lambda: os.execv("/bin/true", ["true"])),
        "spawn": outcome(lambda: os.posix_spawn("/bin/true", ["true"], {})),
        "signal": outcome(lambda: os.kill(other, 0)),
    }


def fork_and_wait() -> str:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


@pytest.mark.parametrize("uid", [None, NOBODY])
def test_nothing_is_left_to_a_worker(uid: int | None, needs: Needs) -> None:
    needs("landlock", "seccomp")
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    seen = worker(tries_everything, "/etc/passwd", uid=uid)
    assert set(seen.value.values()) == {"EPERM"}
    assert len(seen.value) == 8


def test_the_layers_that_hold_are_those_that_the_doctor_finds(layers_here: dict[str, str]) -> None:
    seen = worker(tries_everything, "/etc/passwd")
    assert tuple(layers_here) == LAYERS
    assert seen.held == [name for name in LAYERS if layers_here[name] == "active"]
    assert "limits" in seen.held


def test_the_doctor_misses_no_layer(layers_here: dict[str, str]) -> None:
    # Or every test that needs it would be skipped. User namespaces are what an administrator may forbid.
    expected = {"limits", "no_new_privileges", "capabilities"}
    if landlock_version() > 0:
        expected.add("landlock")
    if platform.machine() in ("x86_64", "aarch64") and "Seccomp_filters:" in Path("/proc/self/status").read_text():
        expected.add("seccomp")
    assert expected <= {name for name, state in layers_here.items() if state == "active"}


def decodes(path: str, fd_name: str, again: bool) -> Body:
    import av

    source = os.open(path, os.O_RDONLY)
    yield (source,)
    counts = []
    for _ in range(2 if again else 1):
        name, options = path, {}
        if fd_name:
            name = fd_name
            options = {"fd": str(source), "protocol_whitelist": "fd", "format_whitelist": "mov,mp4"}
            os.lseek(source, 0, os.SEEK_SET)
        with av.open(name, container_options=options) as container:
            container.streams.video[0].thread_type = "AUTO"
            counts.append([int(frame.to_ndarray(format="gray")[::8, ::8].sum()) for frame in container.decode(video=0)])
    return counts


def test_a_worker_decodes_as_any_process_does() -> None:
    imports = ("av", "numpy", "cv2")
    (free,) = worker(decodes, str(SAMPLE), "", False, only=(), imports=imports).value
    seen = worker(decodes, str(SAMPLE), "fd:", True, free=1, imports=imports)
    assert len(free) > 100
    assert seen.value == [free, free]
    assert "limits" in seen.held


def opens_by_name(path: str) -> Body:
    import av

    yield ()
    return outcome(lambda: av.open(path).close())


def test_the_decoder_opens_no_other_file(needs: Needs) -> None:
    needs("landlock", "seccomp")
    for only, expected in (((), None), (("landlock",), "EACCES"), (("seccomp",), "EPERM")):
        assert worker(opens_by_name, str(SAMPLE), only=only, imports=("av",)).value == expected


def starts_threads(path: str) -> Body:
    yield ()
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(outcome(lambda: os.open(path, os.O_RDONLY)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_start_and_are_enclosed_too(needs: Needs) -> None:
    needs("seccomp")
    assert worker(starts_threads, "/etc/passwd").value == ["EPERM"] * 8


def talks() -> Body:
    ours, theirs = socket.socketpair()
    yield (ours.fileno(), theirs.fileno())
    reading, writing = os.pipe()
    socket.send_fds(ours, [b"take"], [reading])
    os.close(reading)
    message, descriptors, _, _ = socket.recv_fds(theirs, 16, 1)
    os.write(writing, b"through the passed descriptor")
    return [message.decode(), os.read(descriptors[0], 64).decode()]


def test_an_inherited_socket_goes_on_and_passes_descriptors() -> None:
    assert worker(talks, free=2).value == ["take", "through the passed descriptor"]


def asks_the_system() -> Body:
    yield ()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    os.kill(os.getpid(), 0)
    return [len(os.getrandom(8)), len(os.sched_getaffinity(0)) > 0, time.monotonic() > 0, len(mmap.mmap(-1, MIB))]


def test_clocks_timers_and_memory_work() -> None:
    assert worker(asks_the_system).value == [8, True, True, MIB]


def aborts() -> Body:
    yield ()
    os.abort()


def test_a_worker_can_abort() -> None:
    assert worker(aborts).signal == signal.SIGABRT


def shows_status() -> Body:
    status = os.open("/proc/self/status", os.O_RDONLY)
    yield (status,)
    text = os.pread(status, 1 << 16, 0).decode()
    return dict(re.findall(r"^(NoNewPrivs|CapEff|CapPrm|CapInh|CapAmb|Seccomp):\t(\S+)$", text, re.MULTILINE))


def test_what_the_kernel_says_of_a_worker(needs: Needs) -> None:
    needs("no_new_privileges", "capabilities", "seccomp")
    before = worker(shows_status, only=()).value
    assert before["NoNewPrivs"] == "0"
    assert worker(shows_status, only=("no_new_privileges",)).value == before | {"NoNewPrivs": "1"}
    none = dict.fromkeys(("CapEff", "CapPrm", "CapInh", "CapAmb"), "0" * 16)
    # After the user namespace, that gives all of them.
    assert worker(shows_status, only=("namespaces", "capabilities")).value == before | none | {"NoNewPrivs": "1"}
    assert worker(shows_status).value == none | {"NoNewPrivs": "1", "Seccomp": "2"}
    if os.geteuid() == 0:
        assert before["CapEff"] != none["CapEff"]


ORPHAN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from vidmod.containment import Limits, enclose
parent = os.getpid()
if os.fork() == 0:
    if sys.argv[2] == "enclosed":
        enclose(Limits(), {1, 2}, parent=parent)
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)
    os._exit(0)
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.parametrize("how", ["enclosed", "not"])
def test_a_worker_dies_with_its_parent(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(ROOT), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            # It lives while its parent does.
            assert select.select([process.stdout], [], [], 0.3)[0] == []
            process.stdin.close()
            process.wait(10)
            # The worker holds the other end of the pipe: its end is the end of the stream.
            ended = select.select([process.stdout], [], [], 10 if how == "enclosed" else 1)[0] != []
        finally:
            if how != "enclosed":
                os.kill(pid, signal.SIGKILL)
        assert ended == (how == "enclosed")


def test_a_worker_whose_parent_is_gone_already_dies() -> None:
    code = (
        "import os; from vidmod.containment import *; pid = os.fork()\n"
        "if pid == 0:\n enclose(Limits(), {1}, parent=os.getppid() + int(os.environ['OFF'])); os._exit(7)\n"
        "print(os.waitpid(pid, 0)[1])"
    )
    statuses = [
        int(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"OFF": off}))
        for off in ("0", "1")
    ]
    assert statuses == [7 << 8, signal.SIGKILL]


def can_be_traced() -> Body:
    before = libc.prctl(3)
    yield ()
    return [before, libc.prctl(3)]


def test_a_worker_cannot_be_traced_by_its_own_user() -> None:
    assert worker(can_be_traced, only=()).value == [1, 0]


def test_a_process_with_threads_is_not_enclosed() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(VidmodError, match=r"\d+ threads"):
            enclose(Limits(), ())
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": (), "free": 0}, r"Invalid free \(0\)"),
        ({"keep": (987,)}, r"Invalid keep \(987\)"),
        ({"keep": (), "only": ("landlok",)}, r"Invalid layer \('landlok'\)"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        enclose(Limits(), **arguments)


def test_the_doctor_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError(errno.ENOSYS, "landlock: Function not implemented")

    assert trials._try_in_child(lambda _: absent()) == "not here: landlock: Function not implemented"
    assert trials._try_in_child(lambda _: None) == "active"
    assert trials._try_in_child(lambda _: os.kill(os.getpid(), 9)) == "the trial ended by signal 9"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert all(state.startswith("could not be tried") for state in layers().values())
    assert tuple(layers()) == LAYERS


def test_importing_starts_nothing_and_needs_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import vidmod.containment, threading; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)), "
        "threading.active_count())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == ["['vidmod']", "1"]
