"""Seccomp: a filter of system calls, as classic BPF over struct seccomp_data (linux/seccomp.h)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Collection, Iterable

from vidmod.containment.libc import PR_SET_SECCOMP, prctl
from vidmod.containment.privileges import refuse_new_privileges
from vidmod.containment.system_calls import (
    FCNTLS_REFUSED,
    IOCTLS_REFUSED,
    LAST_CALL,
    MACHINES,
    PRCTLS_REFUSED,
    REFUSED,
    WEIGHED,
)

# linux/sched.h
_CLONE_THREAD = 0x00010000
_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_NOT_PERMITTED = 0x00050000 | errno.EPERM
_NOT_THERE = 0x00050000 | errno.ENOSYS
# linux/bpf_common.h: load a word, jump if equal, if greater, if it has a bit, return.
_LOAD, _EQUAL, _GREATER, _HAS_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_BpfLine = tuple[int, int, int, int]


def filter_system_calls() -> None:
    """Have the kernel refuse what is in :mod:`vidmod.containment.system_calls`.

    Raises:
        OSError: The kernel has no filters, or there is none for this machine.
    """
    machine = platform.machine()
    if machine not in MACHINES or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, f"no filter is written for {machine}")
    refuse_new_privileges()
    program = bpf_program(machine, os.getpid())
    instructions = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    prctl(PR_SET_SECCOMP, 2, ctypes.byref(_Program(len(program), instructions)))


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def bpf_program(machine: str, pid: int) -> list[_BpfLine]:
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
    for numbers in REFUSED.values():
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOT_PERMITTED)]
    for name, lines in _weighing(pid).items():
        program += [(_EQUAL, 0, len(lines), WEIGHED[name][column]), *lines]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


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
