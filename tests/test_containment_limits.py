"""What is limited in a worker, by its effect."""

from __future__ import annotations

import dataclasses
import inspect
import mmap
import os
import re
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.enclosed import MIB, ROOT, SAMPLE, Body, Needs, outcome, worker
from vidmod.containment import Limits
from vidmod.errors import UsageError


def allocate(size: int) -> int:
    return len(bytearray(size))


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


def maps_and_writes(reserved: int, sizes: list[int]) -> Body:
    yield ()
    reserving = outcome(lambda: len(mmap.mmap(-1, reserved, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)))
    return [reserving, *[outcome(partial(allocate, size)) for size in sizes]]


def test_with_devices_what_is_limited_is_what_can_be_written_to(needs: Needs) -> None:
    needs("landlock")
    sizes = [128 * MIB, 512 * MIB, 128 * MIB]
    some: dict[str, Any] = {"only": ("limits", "landlock"), "memory_bytes": 256 * MIB}
    assert worker(maps_and_writes, 4096 * MIB, sizes, devices=["/dev/null"], **some).value == [
        4096 * MIB,
        128 * MIB,
        "MemoryError",
        128 * MIB,
    ]
    assert worker(maps_and_writes, 4096 * MIB, sizes, **some).value[0] == "ENOMEM"


def test_devices_are_not_granted_without_landlock() -> None:
    seen = worker(maps_and_writes, 1, [], devices=["/dev/null"], only=("limits",))
    assert seen.value is None
    assert "no Landlock, without which no device can be granted" in seen.stderr


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
