"""Runs parts of tests in a worker that is enclosed as in earnest.

A body is a generator that runs in a worker: it prepares, yields the descriptors to keep, is enclosed there, and
returns what it saw. The same generator runs once without the layer: what is refused with it must work without it,
or the test would prove nothing.
"""
# The calls of the system are the subject here, not paths.
# ruff: noqa: PTH123

from __future__ import annotations

import dataclasses
import errno
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection, Generator
from pathlib import Path
from typing import Any

from vidmod.containment import Grants, Limits, enclose, libc

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "demo.mp4"
NOBODY = 65534
MIB = 1 << 20
Body = Generator[Collection[int], None, Any]
Needs = Callable[..., None]


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
    devices: Collection[str] = (),
    **limits: Any,
) -> Seen:
    """Run a body in the child of a fresh process that has no other threads."""
    request = {
        "module": function.__module__,
        "body": function.__name__,
        "arguments": arguments,
        "only": None if only is None else list(only),
        "uid": uid,
        "free": free,
        "imports": list(imports),
        "devices": list(devices),
        "limits": limits,
    }
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tests import enclosed; enclosed.zygote()"
    run = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=240,
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
    function = getattr(importlib.import_module(request["module"]), request["body"])
    # Or the worker writes it a second time.
    sys.stdout.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _be_worker(function, request, writing, parent)
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


def _be_worker(function: Callable[..., Body], request: dict[str, Any], writing: int, parent: int) -> None:
    if request["uid"] is not None:
        os.setgroups([])
        os.setgid(request["uid"])
        os.setuid(request["uid"])
    running = function(*request["arguments"])
    keep = next(running)
    # Standard error is kept so that a failure of the test itself can be read.
    held = enclose(
        Limits(**request["limits"]),
        {*keep, writing, 2},
        free=request["free"],
        grants=Grants(devices=tuple(map(Path, request["devices"]))),
        parent=parent,
        only=request["only"],
    )
    value = "it did not return"
    try:
        next(running)
    except StopIteration as stop:
        value = stop.value
    os.write(writing, json.dumps({"value": value, "held": held}).encode())
    os._exit(0)


def landlock_version() -> int:
    try:
        return libc.call("syscall", 444, 0, 0, 1)
    except OSError:
        return 0
