"""Which system calls a worker is refused, by their effect and by the filter itself."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import resource
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.enclosed import Body, Needs, outcome, worker
from vidmod.containment import Grants, libc, seccomp, system_calls


def calls(numbers: list[int]) -> Body:
    yield ()
    return [outcome(partial(libc.call, "syscall", number, -1, -1, -1, -1, -1)) for number in numbers]


def _machine_column() -> int:
    if platform.machine() not in system_calls.MACHINES:
        pytest.skip(f"no filter is written for {platform.machine()}")
    return list(system_calls.MACHINES).index(platform.machine())


def test_the_kernel_refuses_the_whole_list(needs: Needs) -> None:
    needs("seccomp")
    column = _machine_column()
    # vhangup takes no argument that could be wrong; without the filter it would be the end of the terminal.
    names = [name for name, numbers in system_calls.REFUSED.items() if numbers[column] is not None]
    numbers = [system_calls.REFUSED[name][column] for name in names]
    seen = worker(calls, numbers, only=("seccomp",))
    assert dict(zip(names, seen.value, strict=True)) == dict.fromkeys(names, "EPERM")
    assert len(names) > 100
    # Not all is refused: close and dup of a descriptor that is not open.
    close, dup = ((3, 32), (57, 23))[column]
    late, x32 = system_calls.LAST_CALL + 1, 0x40000000 + close
    assert worker(calls, [close, dup, late, x32, 435], only=("seccomp",)).value == [
        "EBADF",
        "EBADF",
        "ENOSYS",
        "ENOSYS",
        "ENOSYS",
    ]


def weighs() -> Body:
    reading, _ = os.pipe()
    parent = os.getppid()
    yield (reading,)
    me, alive = os.getpid(), 0
    infinite = ctypes.byref((ctypes.c_uint64 * 2)(resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    clone, prlimit, tgkill, ioctl, fcntl = (
        system_calls.WEIGHED[name][_machine_column()] for name in ("clone", "prlimit64", "tgkill", "ioctl", "fcntl")
    )

    def system(*arguments: Any) -> Any:
        return outcome(lambda: libc.call("syscall", *arguments))

    return {
        "itself": system(tgkill, me, me, alive),
        "reading limits": system(prlimit, 0, resource.RLIMIT_NOFILE, 0, 0),
        "blocking": outcome(lambda: os.set_blocking(reading, False)),
        "name": outcome(lambda: libc.prctl(15, ctypes.c_char_p(b"worker"))),
        "parent": system(tgkill, parent, parent, alive),
        "all": outcome(lambda: os.kill(-1, alive)),
        "process": system(clone, signal.SIGCHLD, 0, 0, 0, 0) and "EPERM",
        "limits": system(prlimit, 0, resource.RLIMIT_CORE, infinite, 0),
        "typing": system(ioctl, reading, 0x5412, 0),
        "owner": system(fcntl, reading, 8, me),
        "outlive": outcome(lambda: libc.prctl(1, 0)),
        "dumpable": outcome(lambda: libc.prctl(4, 1)),
    }


def test_arguments_decide(needs: Needs) -> None:
    needs("seccomp")
    allowed = dict.fromkeys(("itself", "reading limits", "name"), 0) | {"blocking": None}
    refused = dict.fromkeys(("parent", "all", "process", "limits", "typing", "owner", "outlive", "dumpable"), "EPERM")
    assert worker(weighs, only=("seccomp",)).value == allowed | refused


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


def run_filter(
    machine: str,
    number: int,
    *arguments: int,
    arch: int | None = None,
    pid: int = 4711,
    grants: Grants | None = None,
) -> int:
    """What the kernel's machine for classic BPF would return, for machines that are not here."""
    program = seccomp.bpf_program(machine, pid, Grants() if grants is None else grants)
    arch = system_calls.MACHINES[machine] if arch is None else arch
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
            for machine in system_calls.MACHINES
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


FOLDER = (Path("/folder"),)
NOTHING, READING, WRITING = Grants(), Grants(readable=FOLDER), Grants(writable=FOLDER)
NETWORK, LASTING, DEVICES = Grants(network=True), Grants(lasting=True), Grants(devices=FOLDER)
# Numbers on x86_64 and aarch64; arguments; who may.
CALLS: list[tuple[tuple[int, int], tuple[int, ...], tuple[Grants, ...]]] = [
    # openat: for reading, and for each kind of change
    ((257, 56), (3, 7, os.O_RDONLY | os.O_CLOEXEC), (READING, WRITING, DEVICES)),
    ((257, 56), (3, 7, os.O_PATH), (READING, WRITING, DEVICES)),
    # which files may be opened for writing is for Landlock to say
    *[((257, 56), (3, 7, flags), (WRITING, DEVICES)) for flags in (os.O_WRONLY, os.O_RDWR | os.O_CLOEXEC)],
    *[
        ((257, 56), (3, 7, flags), (WRITING,))
        for flags in (os.O_CREAT, os.O_TRUNC, os.O_APPEND, os.O_TMPFILE | os.O_RDWR)
    ],
    # openat2, whose flags lie in memory
    ((437, 437), (3, 7, 9), ()),
    # ftruncate, renameat2, unlinkat, mkdirat
    *[(numbers, (3,), (WRITING,)) for numbers in ((77, 46), (316, 276), (263, 35), (258, 34))],
    # fchmod, linkat, symlinkat, mknodat, fsetxattr
    *[(numbers, (3,), ()) for numbers in ((91, 52), (265, 37), (266, 36), (259, 33), (190, 7))],
    # connect, bind, listen, accept, accept4
    *[(numbers, (3,), (NETWORK,)) for numbers in ((42, 203), (49, 200), (50, 201), (43, 202), (288, 242))],
    # socket: IPv4 and IPv6, streams and datagrams, closed over an exec
    ((41, 198), (2, 1, 0), (NETWORK,)),
    ((41, 198), (10, 0x80801, 6), (NETWORK,)),
    ((41, 198), (2, 2, 17), (NETWORK,)),
    # local, netlink, packet, and Bluetooth; SCTP, DCCP; ICMP
    *[((41, 198), (family, 1, 0), ()) for family in (1, 16, 17, 31)],
    *[((41, 198), (2, kind, 0), ()) for kind in (4, 5, 6, 10)],
    ((41, 198), (2, 2, 1), ()),
    # sched_setaffinity: of the thread that asks
    ((203, 122), (0,), (LASTING,)),
    ((203, 122), (1,), ()),
    # execve, ptrace, io_uring_setup, socketpair
    *[(numbers, (3,), ()) for numbers in ((59, 221), (101, 117), (425, 425), (53, 199))],
]


@pytest.mark.parametrize("machine", list(system_calls.MACHINES))
@pytest.mark.parametrize(("numbers", "arguments", "granted"), CALLS)
def test_what_is_granted_and_no_more(
    machine: str, numbers: tuple[int, int], arguments: tuple[int, ...], granted: tuple[Grants, ...]
) -> None:
    number = numbers[list(system_calls.MACHINES).index(machine)]
    for grants in (NOTHING, READING, WRITING, NETWORK, LASTING, DEVICES):
        expected = ALLOW if grants in granted else EPERM
        assert run_filter(machine, number, *arguments, grants=grants) == expected, grants


def test_open_is_weighed_as_openat_is() -> None:
    for flags, reading in ((os.O_RDONLY, ALLOW), (os.O_RDWR, EPERM), (os.O_CREAT, EPERM)):
        seen = [run_filter("x86_64", 2, 7, flags, grants=grants) for grants in (NOTHING, READING, WRITING)]
        assert seen == [EPERM, reading, ALLOW]


@pytest.mark.parametrize("machine", list(system_calls.MACHINES))
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    foreign = [0x40000003, 0x40000028, *set(system_calls.MACHINES.values()) - {system_calls.MACHINES[machine]}]
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
    known = {name: numbers[column] for name, numbers in (system_calls.REFUSED | system_calls.WEIGHED).items()}
    newest = max(kernel.values())
    # A header older than the table does not know its newest calls.
    ours = {name: number for name, number in known.items() if number is None or number <= newest}
    assert ours == {name: kernel.get(name) for name in ours}
    assert len(ours) > 150


def test_another_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp.filter_system_calls()
