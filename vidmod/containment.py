"""What a process that parses an untrusted upload may do: compute, and answer.

Parsers of media are large, written in C, and fed by strangers. So a file is opened only in a worker, a
child that was forked for it and that first gives up, for ever, all that parsing does not need. Each layer
is enough to stop something, none is trusted to stop everything:

=================== ==========================================================================================
limits              memory, CPU time, no growing file, no core dump, no descriptor but the ones it was given
no_new_privileges   no program can give more rights than the worker has
namespaces          a network of its own, without any interface; System V memory and queues of its own
capabilities        root without root's powers
landlock            no file can be opened or changed, no TCP, no signal to others (as far as the kernel has it)
seccomp             system calls for files, sockets, processes, keys, mounts, tracing and tuning are refused
=================== ==========================================================================================

There is no layer that hides how long something takes, and a worker that was taken over still says what it
likes to the one that asks it: what it answers is as untrusted as the file.

Only ctypes is used: `pyseccomp`, the one seccomp library on the package index, is from 2021 and needs
libseccomp.so. The kernel's documents: Documentation/userspace-api/{landlock,seccomp_filter,no_new_privs}.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import math
import mmap
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from vidmod.errors import UsageError, VidmodError, choose

LAYERS = ("limits", "no_new_privileges", "namespaces", "capabilities", "landlock", "seccomp")
_TRIAL_SECONDS = 30.0

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_MM = 35
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_SET_PTRACER = 0x59616D61
# linux/sched.h
_CLONE_THREAD = 0x00010000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
# linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522
# linux/landlock.h. The numbers of the calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION_FLAG = 1
# How many rights on files each version of Landlock knows, beginning with version 1: a right is a bit, and
# only ever the next one. 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV, 9: RESOLVE_UNIX.
_LANDLOCK_FILE_RIGHTS = (13, 14, 15, 15, 16, 16, 16, 16, 17)
_LANDLOCK_TCP_SINCE = 4
_LANDLOCK_SCOPES_SINCE = 6


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


def enclose(
    limits: Limits,
    keep: Collection[int],
    *,
    free: int = 2,
    parent: int | None = None,
    only: Collection[str] | None = None,
) -> list[str]:
    """In the worker: give up, for ever, everything that parsing does not need.

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
            for each container that is open.
        parent: The process that forked this one, as it knew itself before; without it, one that ended before
            this call goes unnoticed.
        only: Names of the layers to put on; None for all. For tests.

    Returns:
        The layers that hold, a part of :data:`LAYERS` in its order. What the kernel does not have or refuses
        is left out, except `limits`.

    Raises:
        UsageError: `keep`, `free` or `only` make no sense.
        VidmodError: The process has several threads, of which only this one would be enclosed, or
            `limits` cannot be set. It must not parse anything then.

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
        _limit(limits, keep, free)
        held.append("limits")
    for name, put_on in _OPTIONAL.items():
        if name in wanted:
            with contextlib.suppress(OSError):
                put_on()
                held.append(name)
    return held


def layers() -> dict[str, str]:
    """Say of each layer whether it works here, by trying it in a process of its own.

    Returns:
        The names in :data:`LAYERS`, each with `active` or with why it is not here.
    """
    # A new process and not a fork: this one may have threads, and a lock of theirs may be held.
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from vidmod import containment; print(json.dumps(containment._try_layers()))"
    )
    command = [sys.executable, "-I", "-c", code, json.dumps(sys.path)]
    try:
        trial = subprocess.run(command, capture_output=True, timeout=_TRIAL_SECONDS, check=True)
        tried: dict[str, str] = json.loads(trial.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        return dict.fromkeys(LAYERS, f"could not be tried: {exc}")
    return tried


# --- what every worker gets -------------------------------------------------------------------------------


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
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)
    # It may have ended before the first line above, and then no signal will come.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _limit(limits: Limits, keep: Collection[int], free: int) -> None:
    """Set what the kernel counts.

    RLIMIT_NPROC is not among it: it counts threads, and those of all processes of the user; and root is
    exempt. Without seccomp, processes can be started, each with these same limits.
    """
    try:
        # As bytes: a codec may have to be imported, and a worker may not be able to read it any more.
        mapped = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
        _hold_only(keep, free)
        # The signal's own action, in case that the parent had changed it: it is how the reason is known.
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
        _lower(resource.RLIMIT_FSIZE, 0, 0)
        _lower(resource.RLIMIT_CORE, 0, 0)
        _lower(resource.RLIMIT_AS, mapped + limits.memory_bytes, mapped + limits.memory_bytes)
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


# --- the optional layers: each raises OSError if the kernel does not have it ------------------------------


def _refuse_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _leave_namespaces() -> None:
    # Without rights of its own, a process gets a network namespace only inside of a user namespace; where
    # those are forbidden, root does without.
    try:
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    except OSError:
        _call("unshare", _CLONE_NEWNET | _CLONE_NEWIPC)


def _drop_capabilities() -> None:
    # A new user namespace gives all capabilities inside of it, and with them much more of the kernel to
    # attack. Nothing gives them back: no program can, without new privileges.
    _refuse_new_privileges()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(header), ctypes.byref(nothing))


def _landlock(version: int | None = None) -> None:
    """Handle every right that the kernel knows, and allow none.

    Args:
        version: Up to which version of Landlock rights are handled; None for the kernel's.
    """
    _refuse_new_privileges()
    if version is None:
        version = _call("syscall", _LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_VERSION_FLAG)
    ruleset = _ruleset(version)
    try:
        _call("syscall", _LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _ruleset(version: int) -> int:
    for supposed in range(version, 0, -1):
        handled = (ctypes.c_uint64 * 3)(*_landlock_rights(supposed))
        try:
            return _call("syscall", _LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
        except OSError as exc:
            # Kernels with parts of newer ones claim more than they have: Red Hat's 5.14 says version 6 and
            # does not scope signals.
            if exc.errno != errno.EINVAL or supposed == 1:
                raise
    raise OSError(errno.ENOSYS, f"Landlock has no version {version}")


def _landlock_rights(version: int) -> tuple[int, int, int]:
    """The three fields of struct landlock_ruleset_attr: rights on files, rights on the network, scopes."""
    known = _LANDLOCK_FILE_RIGHTS[min(version, len(_LANDLOCK_FILE_RIGHTS)) - 1]
    network = 0b11 if version >= _LANDLOCK_TCP_SINCE else 0
    scopes = 0b11 if version >= _LANDLOCK_SCOPES_SINCE else 0
    return (1 << known) - 1, network, scopes


def _seccomp() -> None:
    machine = platform.machine()
    if machine not in _MACHINES or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, f"no filter is written for {machine}")
    _refuse_new_privileges()
    program = _filter(machine, os.getpid())
    instructions = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    _prctl(_PR_SET_SECCOMP, 2, ctypes.byref(_Program(len(program), instructions)))


_OPTIONAL: dict[str, Callable[[], None]] = {
    "no_new_privileges": _refuse_new_privileges,
    "namespaces": _leave_namespaces,
    "capabilities": _drop_capabilities,
    "landlock": _landlock,
    "seccomp": _seccomp,
}


# --- the filter of system calls: classic BPF over struct seccomp_data (linux/seccomp.h) -------------------

# AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 of linux/audit.h.
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# mseal: the last call that was looked at for this table. Later ones do not exist for a worker, and neither
# do those of the x32 ABI, which have bit 30.
_LAST_CALL = 462
_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_NOT_PERMITTED = 0x00050000 | errno.EPERM
_NOT_THERE = 0x00050000 | errno.ENOSYS
# linux/bpf_common.h: load a word, jump if equal, if greater, if it has a bit, return.
_LOAD, _EQUAL, _GREATER, _HAS_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_BpfLine = tuple[int, int, int, int]

# Refused with EPERM, numbers on x86_64 and aarch64, None where there is no such call. From
# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h; a test compares them with
# the headers of the machine. A list of what is refused and not of what is allowed, because the C library, Python
# and FFmpeg change what they call with every release, and a list of allowed calls would fail good files.
# fmt: off
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # files: open, make, change, and growing or shrinking memory that the parent maps too
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "creat": (85, None),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "unlink": (87, None), "unlinkat": (263, 35), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None),
    "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "chdir": (80, 49), "fchdir": (81, 50), "chroot": (161, 51), "inotify_init": (253, None),
    "inotify_init1": (294, 26), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    # new connections; an inherited socket goes on
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # programs, and other processes of the same user
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "setsid": (112, 157), "setpgid": (109, 154), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # who it is and what it may
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": (126, 91), "setrlimit": (160, 164), "unshare": (272, 97),
    "setns": (308, 268), "personality": (135, 92), "lsm_set_self_attr": (460, 460),
    # memory and queues that others can find
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    # mounts
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "swapon": (167, 224), "swapoff": (168, 225),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
    # large parts of the kernel that were broken before
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_setup": (206, 0), "io_submit": (209, 2),
    "io_destroy": (207, 1), "io_cancel": (210, 3), "io_getevents": (208, 4), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "vmsplice": (278, 75), "splice": (275, 76), "tee": (276, 77),
    # the machine
    "reboot": (169, 142), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "create_module": (174, None), "acct": (163, 89),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
    "_sysctl": (156, None), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
}
# Refused or not by their arguments.
_WEIGHED: dict[str, tuple[int, int]] = {
    "clone": (56, 220), "clone3": (435, 435), "prlimit64": (302, 261), "kill": (62, 129), "tkill": (200, 130),
    "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "ioctl": (16, 29),
    "fcntl": (72, 25), "prctl": (157, 167),
}
# fmt: on
# asm-generic/ioctls.h: put characters into the terminal's input; have signals sent by a descriptor.
_IOCTLS_REFUSED = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}
_FCNTLS_REFUSED = {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15}
# What binds the worker to its parent stays as it is.
_PRCTLS_REFUSED = (_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_MM, _PR_SET_PTRACER)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def _filter(machine: str, pid: int) -> list[_BpfLine]:
    """The program for the worker `pid` on `machine`, a key of ``_MACHINES``."""
    column = list(_MACHINES).index(machine)
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _MACHINES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, 0),
        (_GREATER, 0, 1, _LAST_CALL),
        (_RETURN, 0, 0, _NOT_THERE),
    ]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOT_PERMITTED)]
    for name, lines in _weighing(pid).items():
        program += [(_EQUAL, 0, len(lines), _WEIGHED[name][column]), *lines]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _weighing(pid: int) -> dict[str, list[_BpfLine]]:
    """For each call in ``_WEIGHED``, what decides once it is known to be that one."""
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
        "ioctl": _refuse_values(1, _IOCTLS_REFUSED.values()),
        "fcntl": _refuse_values(1, _FCNTLS_REFUSED.values()),
        "prctl": _refuse_values(0, _PRCTLS_REFUSED),
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


# --- calls that Python 3.11 does not have -----------------------------------------------------------------


def _prctl(option: int, *arguments: object) -> int:
    # The kernel refuses some options if the unused arguments are not 0.
    return _call("prctl", option, *arguments, *(0,) * (4 - len(arguments)))


def _call(name: str, *arguments: object) -> int:
    """Call a function of the C library that returns -1 and sets errno.

    Raises:
        OSError: It did, or there is no such function.
    """
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError as exc:
        raise OSError(errno.ENOSYS, f"the C library has no {name}") from exc
    function.restype = ctypes.c_long
    # A plain int would be passed as 32 bits, and the rest of the register is then anything.
    result = int(function(*(ctypes.c_long(item) if isinstance(item, int) else item for item in arguments)))
    # prctl, unshare and capset return an int, of which the upper half of the register is not part.
    if ctypes.c_int(result).value == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


# --- trying each layer ------------------------------------------------------------------------------------


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
    _limit(Limits(memory_bytes=64 << 20), {answers}, 1)
    with contextlib.suppress(OSError), mmap.mmap(-1, 128 << 20):
        raise VidmodError("set, but memory beyond the limit can be had")


def _try_no_new_privileges(_: int) -> None:
    _refuse_new_privileges()
    if _prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise VidmodError("set, but not in force")


def _try_namespaces(_: int) -> None:
    network = Path("/proc/self/ns/net")
    before = network.stat().st_ino
    _leave_namespaces()
    if network.stat().st_ino == before:
        raise VidmodError("left, but the network is the same")


def _try_capabilities(_: int) -> None:
    _drop_capabilities()
    if "CapEff:\t0000000000000000" not in Path("/proc/self/status").read_text("ascii"):
        raise VidmodError("dropped, but some are in force")


def _try_landlock(_: int) -> None:
    _landlock()
    _expect_refusal(errno.EACCES)


def _try_seccomp(_: int) -> None:
    _seccomp()
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
