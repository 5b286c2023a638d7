"""Seccomp: a filter of system calls, as classic BPF over struct seccomp_data (linux/seccomp.h)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Collection, Iterable

from vidmod.containment.grants import NOTHING, Grants
from vidmod.containment.libc import PR_SET_SECCOMP, prctl
from vidmod.containment.privileges import refuse_new_privileges
from vidmod.containment.system_calls import (
    FCNTLS_REFUSED,
    IOCTLS_REFUSED,
    LAST_CALL,
    MACHINES,
    OF_NETWORK,
    OF_WRITING,
    PRCTLS_REFUSED,
    REFUSED,
    WEIGHED,
    WRITING_FLAGS,
)

# linux/sched.h
_CLONE_THREAD = 0x00010000
# linux/socket.h and linux/in.h: AF_INET and AF_INET6; any, TCP and UDP. Of the types only stream and datagram sockets
# have neither of these bits, but for raw ones, for which one needs a capability.
_FAMILIES = (2, 10)
_PROTOCOLS = (0, 6, 17)
_OTHER_TYPES = 0b1100
_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_NOT_PERMITTED = 0x00050000 | errno.EPERM
_NOT_THERE = 0x00050000 | errno.ENOSYS
# linux/bpf_common.h: load a word, jump if equal, if greater, if it has a bit, return.
_LOAD, _EQUAL, _GREATER, _HAS_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_BpfLine = tuple[int, int, int, int]


def filter_system_calls(grants: Grants = NOTHING) -> None:
    """Have the kernel refuse what is in :mod:`vidmod.containment.system_calls`, but for what is granted.

    Raises:
        OSError: The kernel has no filters, or there is none for this machine.
    """
    machine = platform.machine()
    if machine not in MACHINES or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, f"no filter is written for {machine}")
    refuse_new_privileges()
    program = bpf_program(machine, os.getpid(), grants)
    instructions = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    prctl(PR_SET_SECCOMP, 2, ctypes.byref(_Program(len(program), instructions)))


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def bpf_program(machine: str, pid: int, grants: Grants = NOTHING) -> list[_BpfLine]:
    """The program for the worker `pid` on `machine`, a key of ``MACHINES``."""
    column = list(MACHINES).index(machine)
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, MACHINES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, 0),
        (_GREATER, 0, 1, LAST_CALL),
        (_RETURN, 0, 0, _NOT_THERE),
    ]
    refusal: list[_BpfLine] = [(_RETURN, 0, 0, _NOT_PERMITTED)]
    known: dict[str, tuple[int | None, int | None]] = {**REFUSED, **WEIGHED}
    for name, lines in (dict.fromkeys(REFUSED, refusal) | _granted(grants) | _weighing(pid)).items():
        number = known[name][column]
        if number is not None:
            program += [(_EQUAL, 0, len(lines), number), *lines]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _granted(grants: Grants) -> dict[str, list[_BpfLine]]:
    """For calls in ``REFUSED`` that are granted, what decides. Landlock has the last word, where there is one."""
    found: dict[str, list[_BpfLine]] = {}
    if grants.opens:
        flags = WRITING_FLAGS
        if grants.devices:
            flags &= ~os.O_ACCMODE
        if grants.writable:
            flags = 0
        for name, argument in (("open", 1), ("openat", 2)):
            found[name] = _weigh([(_argument(argument), _HAS_BIT, flags)], then=_NOT_PERMITTED, otherwise=_ALLOW)
    if grants.writable:
        found |= {name: [(_RETURN, 0, 0, _ALLOW)] for name in OF_WRITING}
    if grants.network:
        found |= {name: [(_RETURN, 0, 0, _ALLOW)] for name in OF_NETWORK}
        found["socket"] = [
            *_demand(0, _FAMILIES),
            *_demand(2, _PROTOCOLS),
            *_weigh([(_argument(1), _HAS_BIT, _OTHER_TYPES)], then=_NOT_PERMITTED, otherwise=_ALLOW),
        ]
    if grants.lasting:
        # OpenVINO learns by this what each processor can do. Of a thread that is named, nobody knows whose it is.
        found["sched_setaffinity"] = [*_demand(0, (0,)), (_RETURN, 0, 0, _ALLOW)]
    return found


def _demand(argument: int, values: Iterable[int]) -> list[_BpfLine]:
    """Refuse unless an argument is one of `values`; else go on with what follows."""
    tests = [(_argument(argument), _EQUAL, value) for value in values]
    return _weigh(tests, then=_ALLOW, otherwise=_NOT_PERMITTED)[:-1]


def _weighing(pid: int) -> dict[str, list[_BpfLine]]:
    """For each call in ``WEIGHED``, what decides once it is known to be that one."""
    to_itself = _weigh([(_argument(0), _EQUAL, pid)], then=_ALLOW, otherwise=_NOT_PERMITTED)
    signals = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
    return dict.fromkeys(signals, to_itself) | {
        "clone": _weigh([(_argument(0), _HAS_BIT, _CLONE_THREAD)], then=_ALLOW, otherwise=_NOT_PERMITTED),
        # Its flags lie in memory, where a filter cannot look. The C library falls back to clone.
        "clone3": [(_RETURN, 0, 0, _NOT_THERE)],
        # A pointer to new limits, that is 64 bits of which any may be set.
        "prlimit64": _weigh(
            [(_argument(2), _HAS_BIT, 0xFFFFFFFF), (_argument(2) + 4, _HAS_BIT, 0xFFFFFFFF)],
            then=_NOT_PERMITTED,
            otherwise=_ALLOW,
        ),
        "ioctl": _refuse_values(1, IOCTLS_REFUSED.values()),
        "fcntl": _refuse_values(1, FCNTLS_REFUSED.values()),
        "prctl": _refuse_values(0, PRCTLS_REFUSED),
    }


def _argument(index: int) -> int:
    """Where the low word of an argument lies, in bytes. The kernel, too, takes only that of an int."""
    return 16 + 8 * index


def _refuse_values(argument: int, values: Iterable[int]) -> list[_BpfLine]:
    tests = [(_argument(argument), _EQUAL, value) for value in values]
    return _weigh(tests, then=_NOT_PERMITTED, otherwise=_ALLOW)


def _weigh(tests: Collection[tuple[int, int, int]], *, then: int, otherwise: int) -> list[_BpfLine]:
    """Return `then` if any of `tests` (offset, comparison, value) is true."""
    lines: list[_BpfLine] = []
    for done, (offset, comparison, value) in enumerate(tests, start=1):
        # Over the two lines of each test that is left, and over the line that returns `otherwise`.
        lines += [(_LOAD, 0, 0, offset), (comparison, 2 * (len(tests) - done) + 1, 0, value)]
    return [*lines, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, then)]
