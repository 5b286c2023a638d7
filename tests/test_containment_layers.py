"""Every layer by its own effect, in a real worker.

A test is a generator that runs in a worker: it prepares, yields the descriptors to keep, is enclosed there, and
returns what it saw. The same generator runs once without the layer: what is refused with it must work without it,
or the test would prove nothing.
"""
# The calls of the system are the subject here, not paths.
# ruff: noqa: PTH102, PTH104, PTH108, PTH123, PTH208

from __future__ import annotations

import ctypes
import dataclasses
import errno
import inspect
import json
import mmap
import os
import platform
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vidmod import containment
from vidmod.containment import LAYERS, Limits, enclose, layers
from vidmod.errors import UsageError, VidmodError

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "demo.mp4"
NOBODY = 65534
MIB = 1 << 20
Body = Generator[Collection[int], None, Any]
BODIES: dict[str, Callable[..., Body]] = {}


# --- the harness ------------------------------------------------------------------------------------------


def body(function: Callable[..., Body]) -> Callable[..., Body]:
    BODIES[function.__name__] = function
    return function


def outcome(action: Callable[[], Any]) -> Any:
    """What `action` returns, or the name of the error that it raises."""
    try:
        return action()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    except MemoryError:
        return "MemoryError"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a worker returned, the layers that held, and how it ended."""

    value: Any
    held: list[str]
    signal: int
    cpu_seconds: float
    stderr: str


def worker(
    function: Callable[..., Body],
    *arguments: Any,
    only: Collection[str] | None = None,
    uid: int | None = None,
    free: int = 2,
    imports: Collection[str] = (),
    **limits: Any,
) -> Seen:
    """Run a body in the child of a fresh process that has no other threads."""
    request = {
        "body": function.__name__,
        "arguments": arguments,
        "only": None if only is None else list(only),
        "uid": uid,
        "free": free,
        "imports": list(imports),
        "limits": limits,
    }
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tests import test_containment_layers as it; it.zygote()"
    run = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return Seen(**json.loads(run.stdout), stderr=run.stderr)


def zygote() -> None:
    request = json.load(sys.stdin)
    for name in request["imports"]:
        __import__(name)
    if "av" in request["imports"]:
        _warm()
    # Or the worker writes it a second time.
    sys.stdout.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _be_worker(request, writing, parent)
        except BaseException:  # noqa: BLE001 - it is said, and the process ends
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as answers:
        said = answers.read()
    _, status, usage = os.wait4(child, 0)
    seen = json.loads(said) if said else {"value": None, "held": []}
    ended = {"signal": os.WTERMSIG(status), "cpu_seconds": usage.ru_utime + usage.ru_stime}
    print(json.dumps(seen | ended))


def _warm() -> None:
    # PyAV imports modules of its own when it first sees a stream.
    import av

    with av.open(str(SAMPLE)) as container:
        next(container.decode(video=0)).to_ndarray(format="gray")


def _be_worker(request: dict[str, Any], writing: int, parent: int) -> None:
    if request["uid"] is not None:
        os.setgroups([])
        os.setgid(request["uid"])
        os.setuid(request["uid"])
    running = BODIES[request["body"]](*request["arguments"])
    keep = next(running)
    # Standard error is kept so that a failure of the test itself can be read.
    held = enclose(
        Limits(**request["limits"]), {*keep, writing, 2}, free=request["free"], parent=parent, only=request["only"]
    )
    value = "it did not return"
    try:
        next(running)
    except StopIteration as stop:
        value = stop.value
    os.write(writing, json.dumps({"value": value, "held": held}).encode())
    os._exit(0)


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return layers()


@pytest.fixture
def needs(here: dict[str, str]) -> Callable[..., None]:
    def skip_without(*names: str) -> None:
        for name in names:
            if here[name] != "active":
                pytest.skip(f"{name} is not on this machine: {here[name]}")

    return skip_without


Needs = Callable[..., None]


def landlock_version() -> int:
    try:
        return containment._call("syscall", 444, 0, 0, 1)
    except OSError:
        return 0


# --- all layers together ----------------------------------------------------------------------------------


@body
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


def test_the_layers_that_hold_are_those_that_the_doctor_finds(here: dict[str, str]) -> None:
    seen = worker(tries_everything, "/etc/passwd")
    assert tuple(here) == LAYERS
    assert seen.held == [name for name in LAYERS if here[name] == "active"]
    assert "limits" in seen.held


def test_the_doctor_misses_no_layer(here: dict[str, str]) -> None:
    # Or every test that needs it would be skipped. User namespaces are what an administrator may forbid.
    expected = {"limits", "no_new_privileges", "capabilities"}
    if landlock_version() > 0:
        expected.add("landlock")
    if platform.machine() in ("x86_64", "aarch64") and "Seccomp_filters:" in Path("/proc/self/status").read_text():
        expected.add("seccomp")
    assert expected <= {name for name, state in here.items() if state == "active"}


@body
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


@body
def opens_by_name(path: str) -> Body:
    import av

    yield ()
    return outcome(lambda: av.open(path).close())


def test_the_decoder_opens_no_other_file(needs: Needs) -> None:
    needs("landlock", "seccomp")
    for only, expected in (((), None), (("landlock",), "EACCES"), (("seccomp",), "EPERM")):
        assert worker(opens_by_name, str(SAMPLE), only=only, imports=("av",)).value == expected


@body
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


@body
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


@body
def asks_the_system() -> Body:
    yield ()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    os.kill(os.getpid(), 0)
    return [len(os.getrandom(8)), len(os.sched_getaffinity(0)) > 0, time.monotonic() > 0, len(mmap.mmap(-1, MIB))]


def test_clocks_timers_and_memory_work() -> None:
    assert worker(asks_the_system).value == [8, True, True, MIB]


@body
def aborts() -> Body:
    yield ()
    os.abort()


def test_a_worker_can_abort() -> None:
    assert worker(aborts).signal == signal.SIGABRT


# --- limits -----------------------------------------------------------------------------------------------


def allocate(size: int) -> int:
    return len(bytearray(size))


@body
def allocates(sizes: list[int]) -> Body:
    yield ()
    return [outcome(partial(allocate, size)) for size in sizes]


def test_memory_ends_where_the_limit_is() -> None:
    sizes = [128 * MIB, 512 * MIB, 128 * MIB]
    assert worker(allocates, sizes, only=("limits",), memory_bytes=256 * MIB).value == [
        128 * MIB,
        "MemoryError",
        128 * MIB,
    ]
    assert worker(allocates, sizes, only=()).value == sizes


@body
def spins(seconds: float, ignored_before: bool, ignored_after: bool) -> Body:
    if ignored_before:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    yield ()
    if ignored_after:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while time.process_time() < seconds:
        pass
    return "spun"


@pytest.mark.parametrize(
    ("before", "after", "by"),
    [(False, False, signal.SIGXCPU), (True, False, signal.SIGXCPU), (False, True, signal.SIGKILL)],
)
def test_processor_time_ends_where_the_limit_is(before: bool, after: bool, by: int) -> None:
    seen = worker(spins, 20, before, after, only=("limits",), cpu_seconds=1)
    assert (seen.value, seen.signal) == (None, by)
    # A second, or two where the warning is ignored. Machines that are shared count coarsely.
    assert 0.5 < seen.cpu_seconds < 4


def test_processor_time_is_not_limited_otherwise() -> None:
    assert worker(spins, 2.5, False, False, only=(), cpu_seconds=1).value == "spun"


def start_of(descriptor: int) -> str:
    return os.pread(descriptor, 4, 0).hex()


@body
def duplicates(path: str, tries: int) -> Body:
    # Far above the others, with holes between, and more that is not kept.
    source = os.open(path, os.O_RDONLY)
    os.dup2(source, 40)
    others = [os.open(path, os.O_RDONLY), os.dup2(source, 20), os.dup2(source, 50)]
    yield (40,)
    numbers = [outcome(lambda: os.dup(40)) for _ in range(tries)]
    closed = [outcome(partial(start_of, number)) for number in (source, *others)]
    return {"numbers": numbers, "closed": closed, "kept": start_of(40), "standard": os.read(0, 1).hex()}


@pytest.mark.parametrize("free", [1, 2, 5])
def test_exactly_as_many_descriptors_as_are_free(free: int) -> None:
    start = SAMPLE.read_bytes()[:4].hex()
    seen = worker(duplicates, str(SAMPLE), 7, only=("limits",), free=free).value
    assert seen["numbers"] == [*range(41, 41 + free), *["EMFILE"] * (7 - free)]
    # Below the kept one they lead to /dev/null, above it to nothing.
    assert seen["closed"] == ["", "", "", "EBADF"]
    assert (seen["kept"], seen["standard"]) == (start, "")
    free_run = worker(duplicates, str(SAMPLE), 7, only=())
    assert all(isinstance(number, int) for number in free_run.value["numbers"])
    assert set(free_run.value["closed"]) == {start}


@body
def reads_a_duplicate(path: str) -> Body:
    source = os.open(path, os.O_RDONLY)
    yield (source,)
    counted = 0
    for _ in range(3):
        again = os.dup(source)
        os.lseek(again, 0, os.SEEK_SET)
        while data := os.read(again, 1 << 16):
            counted += len(data)
        os.close(again)
    return counted


def test_an_inherited_file_is_read_through_duplicates() -> None:
    assert worker(reads_a_duplicate, str(SAMPLE), free=1).value == 3 * SAMPLE.stat().st_size


@body
def writes(path: str, handled: bool) -> Body:
    target = os.open(path, os.O_WRONLY)
    yield (target,)
    if not handled:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    return outcome(lambda: os.write(target, b"seven b"))


def test_a_file_does_not_grow(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    assert worker(writes, str(target), True, only=("limits",)).value == "EFBIG"
    assert worker(writes, str(target), False, only=("limits",)).signal == signal.SIGXFSZ
    assert target.read_bytes() == b""
    assert worker(writes, str(target), True, only=()).value == 7
    assert target.read_bytes() == b"seven b"


@body
def lifts_limits() -> Body:
    yield ()

    def lift(kind: int) -> str:
        try:
            resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (ValueError, OSError):
            return "refused"
        return "lifted"

    return [lift(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)]


@pytest.mark.parametrize("names", [("limits", "capabilities"), ("seccomp",)])
def test_limits_cannot_be_lifted(names: tuple[str, ...], needs: Needs) -> None:
    needs(*names)
    assert worker(lifts_limits, only=names).value == ["refused"] * 3
    # Where nothing was limited, so that nobody needs a right for it.
    assert worker(lifts_limits, only=()).value == ["lifted"] * 3


@body
def shows_limits() -> Body:
    yield ()
    kinds = (resource.RLIMIT_CPU, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
    return [list(resource.getrlimit(kind)) for kind in kinds]


def test_what_is_limited() -> None:
    cpu, core, size, files = worker(shows_limits, cpu_seconds=77).value
    assert (cpu, core, size) == ([77, 78], [0, 0], [0, 0])
    assert files[0] == files[1] < 20


LIMITED_BEFORE = """
import os, resource, sys
from vidmod.containment import Limits, enclose
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (5, 6))
try:
    print(enclose(Limits(), {1}, free=3, only=["limits"]), resource.getrlimit(resource.RLIMIT_CPU))
except Exception as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (6, "['limits'] (5, 6)"),
        (
            5,
            "VidmodError Cannot limit what a worker uses (6 descriptors are needed and 5 allowed). Nothing was parsed.",
        ),
    ],
)
def test_a_stricter_limit_stays_and_too_strict_a_one_raises(allowed: int, expected: str) -> None:
    command = [sys.executable, "-c", LIMITED_BEFORE, str(allowed)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == expected


# --- the parent -------------------------------------------------------------------------------------------


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


@body
def can_be_traced() -> Body:
    yield ()
    return containment._prctl(3)


def test_a_worker_cannot_be_traced_by_its_own_user() -> None:
    assert worker(can_be_traced, only=()).value == 0
    assert containment._prctl(3) == 1


# --- no_new_privileges, namespaces, capabilities ----------------------------------------------------------


@body
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


@body
def connects(port: int) -> Body:
    yield ()

    def call() -> str:
        # Not by create_connection: that imports a codec, which nobody may not be able to read.
        with socket.socket() as caller:
            caller.settimeout(5)
            caller.connect(("127.0.0.1", port))
        return "connected"

    return outcome(call)


@pytest.mark.parametrize(
    ("layer", "error"), [("namespaces", "ENETUNREACH"), ("landlock", "EACCES"), ("seccomp", "EPERM")]
)
def test_no_connection_reaches_a_server(layer: str, error: str, needs: Needs) -> None:
    needs(layer)
    if layer == "landlock" and landlock_version() < 4:
        pytest.skip("this Landlock knows no TCP")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        assert worker(connects, port, only=(layer,)).value == error
        with pytest.raises(BlockingIOError):
            server.accept()
        assert worker(connects, port, only=()).value == "connected"
        server.accept()[0].close()


@body
def listens() -> Body:
    yield ()
    return outcome(lambda: socket.create_server(("127.0.0.1", 0)).close())


@pytest.mark.parametrize(("layer", "error"), [("landlock", "EACCES"), ("seccomp", "EPERM")])
def test_a_worker_serves_nobody(layer: str, error: str, needs: Needs) -> None:
    needs(layer)
    if layer == "landlock" and landlock_version() < 4:
        pytest.skip("this Landlock knows no TCP")
    assert worker(listens, only=(layer,)).value == error
    assert worker(listens, only=()).value is None


@pytest.mark.parametrize("uid", [None, NOBODY])
def test_network_namespace_with_and_without_rights(uid: int | None, needs: Needs) -> None:
    needs("namespaces")
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen = worker(connects, port, only=("namespaces",), uid=uid)
    assert (seen.value, seen.held) == ("ENETUNREACH", ["namespaces"])


@body
def connects_without_user_namespaces(port: int) -> Body:
    call = containment._call

    def refuse(name: str, *arguments: Any) -> int:
        if name == "unshare" and arguments[0] & 0x10000000:
            raise PermissionError(errno.EPERM, "no user namespaces")
        return call(name, *arguments)

    containment._call = refuse
    return (yield from connects(port))


def test_root_leaves_the_network_without_user_namespaces(needs: Needs) -> None:
    needs("namespaces", "seccomp")
    if os.geteuid() != 0:
        pytest.skip("only root can")
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = worker(connects_without_user_namespaces, server.getsockname()[1], only=("namespaces",))
    assert (seen.value, seen.held) == ("ENETUNREACH", ["namespaces"])


# --- landlock ---------------------------------------------------------------------------------------------


@body
def touches_files(folder: str, version: int | None) -> Body:
    open_before = os.open(f"{folder}/there", os.O_RDONLY)
    yield (open_before,)
    # Through the private function where a version is given, on top of no layer.
    if version is not None:
        containment._landlock(version)
    return {
        "read": outcome(lambda: os.close(os.open(f"{folder}/there", os.O_RDONLY))),
        "write": outcome(lambda: os.close(os.open(f"{folder}/there", os.O_WRONLY))),
        "list": outcome(lambda: len(os.listdir(folder)) and None),
        "make": outcome(lambda: os.close(os.open(f"{folder}/new", os.O_WRONLY | os.O_CREAT))),
        "folder": outcome(lambda: os.mkdir(f"{folder}/sub")),
        "remove": outcome(lambda: os.unlink(f"{folder}/other")),
        "rename": outcome(lambda: os.rename(f"{folder}/third", f"{folder}/fourth")),
        "execute": outcome(lambda: spawn_and_wait("/bin/true")),
        "inherited": os.pread(open_before, 5, 0).decode(),
    }


def spawn_and_wait(path: str) -> None:
    os.waitpid(os.posix_spawn(path, [path], {}), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("there", "other", "third"):
        (tmp_path / name).write_text("bytes")
    return tmp_path


# Landlock refuses by EACCES, seccomp by EPERM: each is seen to work where the other is not.
@pytest.mark.parametrize(("layer", "error"), [("landlock", "EACCES"), ("seccomp", "EPERM")])
def test_files_are_out_of_reach(layer: str, error: str, folder: Path, needs: Needs) -> None:
    needs(layer)
    refused = worker(touches_files, str(folder), None, only=(layer,)).value
    assert refused.pop("inherited") == "bytes"
    assert set(refused.values()) == {error}
    assert sorted(path.name for path in folder.iterdir()) == ["other", "there", "third"]
    done = worker(touches_files, str(folder), None, only=()).value
    assert done.pop("inherited") == "bytes"
    assert set(done.values()) == {None}
    assert sorted(path.name for path in folder.iterdir()) == ["fourth", "new", "sub", "there"]


@pytest.mark.parametrize("version", range(1, 10))
def test_every_version_of_landlock(version: int, folder: Path, needs: Needs) -> None:
    needs("landlock")
    if version > landlock_version():
        pytest.skip(f"this kernel has version {landlock_version()}")
    refused = worker(touches_files, str(folder), version, only=()).value
    assert refused.pop("inherited") == "bytes"
    assert set(refused.values()) == {"EACCES"}


def test_a_version_asks_only_for_what_it_knows() -> None:
    assert [containment._landlock_rights(version) for version in (*range(1, 10), 30)] == [
        (0x1FFF, 0, 0),
        (0x3FFF, 0, 0),
        (0x7FFF, 0, 0),
        (0x7FFF, 3, 0),
        (0xFFFF, 3, 0),
        (0xFFFF, 3, 3),
        (0xFFFF, 3, 3),
        (0xFFFF, 3, 3),
        (0x1FFFF, 3, 3),
        (0x1FFFF, 3, 3),
    ]


@body
def reaches_for_others(name: str, claimed: int) -> Body:
    other = os.getppid()
    yield ()
    if claimed:
        containment._landlock(claimed)

    def call() -> None:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(f"\0{name}")

    return [outcome(lambda: os.kill(other, 0)), outcome(call)]


# A kernel that claims a later version than it has gets what it does have: here, one from the future.
@pytest.mark.parametrize("claimed", [0, 9])
def test_no_signal_and_no_abstract_socket_leaves_landlock(claimed: int, needs: Needs) -> None:
    needs("landlock")
    if landlock_version() < 6:
        pytest.skip("this Landlock scopes nothing")
    name = f"vidmod-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        only = () if claimed else ("landlock",)
        assert worker(reaches_for_others, name, claimed, only=only).value == ["EPERM", "EPERM"]
        assert worker(reaches_for_others, name, 0, only=()).value == [None, None]


# --- seccomp ----------------------------------------------------------------------------------------------


@body
def calls(numbers: list[int]) -> Body:
    yield ()
    return [outcome(partial(containment._call, "syscall", number, -1, -1, -1, -1, -1)) for number in numbers]


def _machine_column() -> int:
    if platform.machine() not in containment._MACHINES:
        pytest.skip(f"no filter is written for {platform.machine()}")
    return list(containment._MACHINES).index(platform.machine())


def test_the_kernel_refuses_the_whole_list(needs: Needs) -> None:
    needs("seccomp")
    column = _machine_column()
    # vhangup takes no argument that could be wrong; without the filter it would be the end of the terminal.
    names = [name for name, numbers in containment._REFUSED.items() if numbers[column] is not None]
    numbers = [containment._REFUSED[name][column] for name in names]
    seen = worker(calls, numbers, only=("seccomp",))
    assert dict(zip(names, seen.value, strict=True)) == dict.fromkeys(names, "EPERM")
    assert len(names) > 100
    # Not all is refused: close and dup of a descriptor that is not open.
    close, dup = ((3, 32), (57, 23))[column]
    late, x32 = containment._LAST_CALL + 1, 0x40000000 + close
    assert worker(calls, [close, dup, late, x32, 435], only=("seccomp",)).value == [
        "EBADF",
        "EBADF",
        "ENOSYS",
        "ENOSYS",
        "ENOSYS",
    ]


@body
def weighs() -> Body:
    reading, _ = os.pipe()
    parent = os.getppid()
    yield (reading,)
    me, alive = os.getpid(), 0
    infinite = ctypes.byref((ctypes.c_uint64 * 2)(resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    clone, prlimit, tgkill, ioctl, fcntl = (
        containment._WEIGHED[name][_machine_column()] for name in ("clone", "prlimit64", "tgkill", "ioctl", "fcntl")
    )

    def system(*arguments: Any) -> Any:
        return outcome(lambda: containment._call("syscall", *arguments))

    return {
        "itself": system(tgkill, me, me, alive),
        "reading limits": system(prlimit, 0, resource.RLIMIT_NOFILE, 0, 0),
        "blocking": outcome(lambda: os.set_blocking(reading, False)),
        "name": outcome(lambda: containment._prctl(15, ctypes.c_char_p(b"worker"))),
        "parent": system(tgkill, parent, parent, alive),
        "all": outcome(lambda: os.kill(-1, alive)),
        "process": system(clone, signal.SIGCHLD, 0, 0, 0, 0) and "EPERM",
        "limits": system(prlimit, 0, resource.RLIMIT_CORE, infinite, 0),
        "typing": system(ioctl, reading, 0x5412, 0),
        "owner": system(fcntl, reading, 8, me),
        "outlive": outcome(lambda: containment._prctl(1, 0)),
        "dumpable": outcome(lambda: containment._prctl(4, 1)),
    }


def test_arguments_decide(needs: Needs) -> None:
    needs("seccomp")
    allowed = dict.fromkeys(("itself", "reading limits", "name"), 0) | {"blocking": None}
    refused = dict.fromkeys(("parent", "all", "process", "limits", "typing", "owner", "outlive", "dumpable"), "EPERM")
    assert worker(weighs, only=("seccomp",)).value == allowed | refused


@body
def calls_as_32_bit() -> Body:
    yield ()
    # mov eax, 20 (getpid of i386); int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86_64")
def test_the_32_bit_calls_of_the_same_processor_kill(needs: Needs) -> None:
    needs("seccomp")
    if worker(calls_as_32_bit, only=()).value is not True:
        pytest.skip("this kernel has no 32-bit calls")
    seen = worker(calls_as_32_bit, only=("seccomp",))
    assert (seen.value, seen.signal) == (None, signal.SIGSYS)


def run_filter(machine: str, number: int, *arguments: int, arch: int | None = None, pid: int = 4711) -> int:
    """What the kernel's machine for classic BPF would return, for machines that are not here."""
    program = containment._filter(machine, pid)
    arch = containment._MACHINES[machine] if arch is None else arch
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join(value.to_bytes(8, "little") for value in (*arguments, *(0,) * (6 - len(arguments))))
    accumulator = counter = 0
    while True:
        operation, if_true, if_false, value = program[counter]
        assert 0 <= if_true < 256
        assert 0 <= if_false < 256
        counter += 1
        if operation == 0x06:
            return value
        if operation == 0x20:
            accumulator = int.from_bytes(data[value : value + 4], "little")
            continue
        comparison = {0x15: accumulator == value, 0x25: accumulator > value, 0x45: bool(accumulator & value)}
        counter += if_true if comparison[operation] else if_false


KILL, ALLOW, EPERM, ENOSYS = 0x80000000, 0x7FFF0000, 0x00050001, 0x00050026
THREAD_FLAGS = 0x003D0F00  # what the C library passes to clone for a thread


@pytest.mark.parametrize(
    ("machine", "number", "arguments", "expected"),
    [
        *[("x86_64", number, (), EPERM) for number in (2, 257, 437, 41, 59, 57, 101, 425)],
        *[("x86_64", number, (), ALLOW) for number in (0, 1, 3, 9, 11, 47, 202, 231)],
        *[("aarch64", number, (), EPERM) for number in (56, 437, 198, 203, 221, 117, 425, 0)],
        *[("aarch64", number, (), ALLOW) for number in (63, 64, 57, 222, 215, 212, 98, 94)],
        *[
            (machine, number, (), ENOSYS)
            for machine in containment._MACHINES
            for number in (463, 0x40000002, 2**32 - 1)
        ],
        ("x86_64", 56, (THREAD_FLAGS,), ALLOW),
        ("aarch64", 220, (THREAD_FLAGS,), ALLOW),
        ("x86_64", 56, (17,), EPERM),
        ("aarch64", 220, (17,), EPERM),
        ("x86_64", 56, (THREAD_FLAGS << 32,), EPERM),
        ("x86_64", 302, (0, 7, 0), ALLOW),
        ("x86_64", 302, (0, 7, 1), EPERM),
        ("x86_64", 302, (0, 7, 1 << 32), EPERM),
        ("aarch64", 261, (0, 7, 1 << 32), EPERM),
        ("x86_64", 234, (4711, 4712, 6), ALLOW),
        ("x86_64", 234, (4710, 4711, 6), EPERM),
        ("aarch64", 131, (4711, 4712, 6), ALLOW),
        ("aarch64", 129, (2**64 - 1, 9), EPERM),
        ("x86_64", 16, (0, 0x5412), EPERM),
        ("x86_64", 16, (0, 0x5412 | 1 << 32), EPERM),
        ("x86_64", 16, (0, 0x5401), ALLOW),
        ("aarch64", 29, (0, 0x541C), EPERM),
        ("x86_64", 157, (15,), ALLOW),
        ("aarch64", 167, (1,), EPERM),
    ],
)
def test_the_filter_of_both_machines(machine: str, number: int, arguments: tuple[int, ...], expected: int) -> None:
    assert run_filter(machine, number, *arguments) == expected


@pytest.mark.parametrize("machine", list(containment._MACHINES))
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    foreign = [0x40000003, 0x40000028, *set(containment._MACHINES.values()) - {containment._MACHINES[machine]}]
    assert [run_filter(machine, 1, arch=arch) for arch in foreign] == [KILL] * 3


@pytest.mark.parametrize(
    ("column", "header", "pattern"),
    [
        (0, "x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)"),
        (1, "asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
    ],
)
def test_numbers_are_the_kernels(column: int, header: str, pattern: str) -> None:
    path = Path("/usr/include", header)
    if not path.is_file():
        pytest.skip(f"{path} is not there: install linux-libc-dev")
    kernel = {name: int(number) for name, number in re.findall(pattern, path.read_text("utf-8"))}
    known = {name: numbers[column] for name, numbers in (containment._REFUSED | containment._WEIGHED).items()}
    newest = max(kernel.values())
    # A header older than the table does not know its newest calls.
    ours = {name: number for name, number in known.items() if number is None or number <= newest}
    assert ours == {name: kernel.get(name) for name in ours}
    assert len(ours) > 150


def test_another_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        containment._seccomp()


# --- what is refused, and the doctor ----------------------------------------------------------------------


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


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, True, "9", None, float("nan"), float("inf"), 1 << 70])
def test_a_limit_out_of_range_is_named(name: str, value: Any) -> None:
    if name.endswith("_seconds") and name != "cpu_seconds" and value == 1 << 70:
        return
    with pytest.raises(UsageError, match=rf"Invalid {name} \({re.escape(repr(value))}\)\. Use "):
        Limits(**{name: value})


def test_limits_have_the_defaults_that_are_documented() -> None:
    assert Limits() == Limits(memory_bytes=1 << 31, cpu_seconds=3600, chunk_seconds=60, file_seconds=21_600)
    assert inspect.signature(Limits).parameters["memory_bytes"].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_doctor_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError(errno.ENOSYS, "landlock: Function not implemented")

    assert containment._try_in_child(lambda _: absent()) == "not here: landlock: Function not implemented"
    assert containment._try_in_child(lambda _: None) == "active"
    assert containment._try_in_child(lambda _: os.kill(os.getpid(), 9)) == "the trial ended by signal 9"
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
