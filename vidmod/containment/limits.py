"""What the kernel counts: memory, processor time, descriptors, bytes written."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vidmod.containment.grants import NOTHING, Grants
from vidmod.errors import UsageError, VidmodError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one input may cost.

    Attributes:
        memory_bytes: What one worker may map on top of what its parent had mapped when it was forked,
            from 1 MiB to 2**48. Address space, not resident memory: the stack of a thread counts as 8 MiB,
            and its heap as 64 MiB once it has one of its own.
        cpu_seconds: Processor time of one worker in its whole life, all its threads together, from 1 to 2**31.
        chunk_seconds: Wall clock for one task of a worker. Above 0; who gave the task ends the worker.
        file_seconds: Wall clock for one input. Above 0.
        max_pixels: The largest picture that is decoded, from 1 to 2**31 - 1 pixels.
        max_streams: Streams of one input, from 1 to 2**31 - 1.
        max_packets: Packets of one stream that are accounted for, 1 or more.
        max_failures: Workers that one input may cost before the rest of it is given up, 1 or more.

    Raises:
        UsageError: A field is out of its range.
    """

    memory_bytes: int = 2 << 30
    cpu_seconds: int = 3600
    chunk_seconds: float = 60.0
    file_seconds: float = 6 * 3600.0
    max_pixels: int = 1 << 28
    max_streams: int = 200
    max_packets: int = 10_000_000
    max_failures: int = 16

    def __post_init__(self) -> None:
        self._check_whole("memory_bytes", 1 << 20, 1 << 48)
        self._check_whole("cpu_seconds", 1, 1 << 31)
        self._check_whole("max_pixels", 1, (1 << 31) - 1)
        self._check_whole("max_streams", 1, (1 << 31) - 1)
        self._check_whole("max_packets", 1, (1 << 63) - 1)
        self._check_whole("max_failures", 1, (1 << 31) - 1)
        for name in ("chunk_seconds", "file_seconds"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise UsageError(f"Invalid {name} ({value!r}). Use seconds above 0, such as 60.")

    def _check_whole(self, name: str, least: int, most: int) -> None:
        value: object = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise UsageError(f"Invalid {name} ({value!r}). Use a whole number from {least} to {most}.")


def set_limits(limits: Limits, keep: Collection[int], free: int, grants: Grants = NOTHING) -> None:
    """Set what the kernel counts.

    RLIMIT_NPROC is not among it: it counts threads, and those of all processes of the user; and root is
    exempt. Without seccomp, processes can be started, each with these same limits.
    """
    try:
        # As bytes: a codec may have to be imported, and a worker may not be able to read it any more.
        pages = [int(field) for field in Path("/proc/self/statm").read_bytes().split()]
        # What it has mapped, and what of that it can write to without sharing it: proc_pid_statm(5).
        mapped, data = pages[0] * resource.getpagesize(), pages[5] * resource.getpagesize()
        _hold_only(keep, free)
        # The signal's own action, in case that the parent had changed it: it is how the reason is known.
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        if not grants.lasting:
            _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
        if not grants.writable:
            _lower(resource.RLIMIT_FSIZE, 0, 0)
        _lower(resource.RLIMIT_CORE, 0, 0)
        kind, used = (resource.RLIMIT_DATA, data) if grants.devices else (resource.RLIMIT_AS, mapped)
        _lower(kind, used + limits.memory_bytes, used + limits.memory_bytes)
    except (OSError, ValueError) as exc:
        raise VidmodError(f"Cannot limit what a worker uses ({exc}). Nothing was parsed.") from exc


def _lower(kind: int, soft: int, hard: int) -> None:
    # What was stricter before stays.
    limits = [
        wanted if before == resource.RLIM_INFINITY else min(wanted, before)
        for wanted, before in zip((soft, hard), resource.getrlimit(kind), strict=True)
    ]
    resource.setrlimit(kind, (limits[0], limits[1]))


def _hold_only(keep: Collection[int], free: int) -> None:
    highest = max((2, *keep))
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in keep:
            # The descriptor of the listing itself is gone by now.
            with contextlib.suppress(OSError):
                os.close(descriptor)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in range(highest + 1):
        if descriptor not in keep and descriptor != null:
            os.dup2(null, descriptor, inheritable=False)
    if null > highest:
        os.close(null)
    count = highest + 1 + free
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < count:
        raise ValueError(f"{count} descriptors are needed and {allowed} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
