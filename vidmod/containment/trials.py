"""Tries each layer, in a process of its own: what this machine has of them."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vidmod.containment.enclosing import LAYERS
from vidmod.containment.landlock import enforce_landlock
from vidmod.containment.libc import PR_GET_NO_NEW_PRIVS, prctl
from vidmod.containment.limits import Limits, set_limits
from vidmod.containment.namespaces import leave_namespaces
from vidmod.containment.privileges import drop_capabilities, refuse_new_privileges
from vidmod.containment.seccomp import filter_system_calls
from vidmod.errors import VidmodError

_TRIAL_SECONDS = 30.0


def layers() -> dict[str, str]:
    """Say of each layer whether it works here, by trying it in a process of its own.

    Returns:
        The names in :data:`LAYERS`, each with `active` or with why it is not here.
    """
    # A new process and not a fork: this one may have threads, and a lock of theirs may be held.
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from vidmod.containment import trials; print(json.dumps(trials._try_layers()))"
    )
    command = [sys.executable, "-I", "-c", code, json.dumps(sys.path)]
    try:
        trial = subprocess.run(command, capture_output=True, timeout=_TRIAL_SECONDS, check=True)
        tried: dict[str, str] = json.loads(trial.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        return dict.fromkeys(LAYERS, f"could not be tried: {exc}")
    return tried


def _try_layers() -> dict[str, str]:
    """Needs a process without other threads, because it forks."""
    return {name: _try_in_child(trial) for name, trial in _TRIALS.items()}


def _try_in_child(trial: Callable[[int], None]) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        answer = "it ended without an answer"
        try:
            trial(writing)
            answer = "active"
        except OSError as exc:
            answer = f"not here: {exc.strerror}"
        except VidmodError as exc:
            answer = str(exc)
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answers:  # noqa: PTH123 - a descriptor, not a path
        said = answers.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"the trial ended by signal {os.WTERMSIG(status)}"


def _try_limits(answers: int) -> None:
    set_limits(Limits(memory_bytes=64 << 20), {answers}, 1)
    with contextlib.suppress(OSError), mmap.mmap(-1, 128 << 20):
        raise VidmodError("set, but memory beyond the limit can be had")


def _try_no_new_privileges(_: int) -> None:
    refuse_new_privileges()
    if prctl(PR_GET_NO_NEW_PRIVS) != 1:
        raise VidmodError("set, but not in force")


def _try_namespaces(_: int) -> None:
    network = Path("/proc/self/ns/net")
    before = network.stat().st_ino
    leave_namespaces()
    if network.stat().st_ino == before:
        raise VidmodError("left, but the network is the same")


def _try_capabilities(_: int) -> None:
    drop_capabilities()
    if "CapEff:\t0000000000000000" not in Path("/proc/self/status").read_text("ascii"):
        raise VidmodError("dropped, but some are in force")


def _try_landlock(_: int) -> None:
    enforce_landlock()
    _expect_refusal(errno.EACCES)


def _try_seccomp(_: int) -> None:
    filter_system_calls()
    _expect_refusal(errno.EPERM)


def _expect_refusal(code: int) -> None:
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
    except OSError as exc:
        if exc.errno == code:
            return
        raise
    raise VidmodError("in force, but files can be opened")


_TRIALS: dict[str, Callable[[int], None]] = {
    "limits": _try_limits,
    "no_new_privileges": _try_no_new_privileges,
    "namespaces": _try_namespaces,
    "capabilities": _try_capabilities,
    "landlock": _try_landlock,
    "seccomp": _try_seccomp,
}
