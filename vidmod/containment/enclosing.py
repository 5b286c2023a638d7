"""Puts on all layers, one after the other, for ever."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from vidmod.containment.grants import NOTHING, Grants
from vidmod.containment.landlock import enforce_landlock
from vidmod.containment.libc import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from vidmod.containment.limits import Limits, set_limits
from vidmod.containment.namespaces import leave_namespaces
from vidmod.containment.privileges import drop_capabilities, refuse_new_privileges
from vidmod.containment.seccomp import filter_system_calls
from vidmod.errors import UsageError, VidmodError, choose

LAYERS = ("limits", "no_new_privileges", "namespaces", "capabilities", "landlock", "seccomp")
# Each raises OSError if the kernel does not have it.
_OPTIONAL: dict[str, Callable[[Grants], None]] = {
    "no_new_privileges": lambda _: refuse_new_privileges(),
    "namespaces": lambda grants: leave_namespaces(network=grants.network),
    "capabilities": lambda _: drop_capabilities(),
    "landlock": lambda grants: enforce_landlock(grants=grants),
    "seccomp": filter_system_calls,
}


def enclose(
    limits: Limits,
    keep: Collection[int],
    *,
    free: int = 2,
    grants: Grants = NOTHING,
    parent: int | None = None,
    only: Collection[str] | None = None,
) -> list[str]:
    """In the worker: give up, for ever, everything that parsing does not need and that is not granted.

    Every descriptor is closed but those in `keep`. 0, 1, 2 and every other number below the highest kept one
    then lead to /dev/null, so that exactly `free` numbers remain for the worker to open. A Python object
    whose descriptor was closed in this way must not be closed or collected later: it would close what has
    its number by then.

    The worker is also bound to its parent: it is killed when the thread that forked it ends, and it leaves
    no core dump and cannot be traced by its own user.

    Args:
        limits: `memory_bytes` and `cpu_seconds` are set here; the others are for whoever asks the worker.
        keep: Open descriptors, small numbers: every number below the highest is filled. Give 2 to keep
            standard error. One that leads to a file must be open for reading only.
        free: How many descriptors may be open at once on top of `keep`, 1 or more. FFmpeg's `fd:` takes one
            for each container that is open. Grants of files take 2 while they are put on.
        grants: What it may do beside computing and answering.
        parent: The process that forked this one, as it knew itself before; without it, one that ended before
            this call goes unnoticed.
        only: Names of the layers to put on; None for all. For tests.

    Returns:
        The layers that hold, a part of :data:`LAYERS` in its order. What the kernel does not have or refuses
        is left out, except `limits`.

    Raises:
        UsageError: `keep`, `free` or `only` make no sense.
        VidmodError: The process has several threads, of which only this one would be enclosed; `limits` cannot be
            set; or devices are granted and there is no Landlock. It must not parse anything then.

    Example:
        >>> if os.fork() == 0:  # doctest: +SKIP
        ...     held = enclose(Limits(), keep={source, answers}, parent=zygote)
        ...     container = av.open("fd:", container_options={"fd": str(source), "protocol_whitelist": "fd"})
    """
    wanted = LAYERS if only is None else [choose("layer", name, LAYERS) for name in only]
    _check_descriptors(keep, free)
    _check_single_thread()
    _die_with(os.getppid() if parent is None else parent)
    held = []
    if "limits" in wanted:
        set_limits(limits, keep, free, grants)
        held.append("limits")
    for name, put_on in _OPTIONAL.items():
        if name in wanted:
            with contextlib.suppress(OSError):
                put_on(grants)
                held.append(name)
    if grants.devices and "landlock" not in held:
        raise VidmodError("This kernel has no Landlock, without which no device can be granted. Decode on the CPU.")
    return held


def _check_descriptors(keep: Collection[int], free: int) -> None:
    if free < 1:
        raise UsageError(f"Invalid free ({free}). Use 1 or more: a container needs a descriptor.")
    for descriptor in keep:
        try:
            os.fstat(descriptor)
        except OSError as exc:
            raise UsageError(f"Invalid keep ({descriptor}). Name descriptors that are open.") from exc


def _check_single_thread() -> None:
    # Landlock and seccomp bind the calling thread and those that it starts, not the ones that are there.
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
    except OSError as exc:
        raise VidmodError(f"Cannot enclose a worker without /proc ({exc.strerror}). Mount it.") from exc
    if threads != 1:
        raise VidmodError(f"Cannot enclose a process with {threads} threads. Fork first, and enclose the child.")


def _die_with(parent: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_DUMPABLE, 0)
    # It may have ended before the first line above, and then no signal will come.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
