"""Landlock: no file, no TCP, no signal to others, as far as the kernel has it."""

from __future__ import annotations

import ctypes
import errno
import os

from vidmod.containment.libc import call
from vidmod.containment.privileges import refuse_new_privileges

# linux/landlock.h. The numbers of the calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION_FLAG = 1
# How many rights on files each version of Landlock knows, beginning with version 1: a right is a bit, and
# only ever the next one. 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV, 9: RESOLVE_UNIX.
_LANDLOCK_FILE_RIGHTS = (13, 14, 15, 15, 16, 16, 16, 16, 17)
_LANDLOCK_TCP_SINCE = 4
_LANDLOCK_SCOPES_SINCE = 6


def enforce_landlock(version: int | None = None) -> None:
    """Handle every right that the kernel knows, and allow none.

    Args:
        version: Up to which version of Landlock rights are handled; None for the kernel's.

    Raises:
        OSError: The kernel has no Landlock, or refuses.
    """
    refuse_new_privileges()
    if version is None:
        version = call("syscall", _LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_VERSION_FLAG)
    ruleset = _ruleset(version)
    try:
        call("syscall", _LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _ruleset(version: int) -> int:
    for supposed in range(version, 0, -1):
        handled = (ctypes.c_uint64 * 3)(*rights(supposed))
        try:
            return call("syscall", _LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
        except OSError as exc:
            # Kernels with parts of newer ones claim more than they have: Red Hat's 5.14 says version 6 and
            # does not scope signals.
            if exc.errno != errno.EINVAL or supposed == 1:
                raise
    raise OSError(errno.ENOSYS, f"Landlock has no version {version}")


def rights(version: int) -> tuple[int, int, int]:
    """The three fields of struct landlock_ruleset_attr: rights on files, rights on the network, scopes."""
    known = _LANDLOCK_FILE_RIGHTS[min(version, len(_LANDLOCK_FILE_RIGHTS)) - 1]
    network = 0b11 if version >= _LANDLOCK_TCP_SINCE else 0
    scopes = 0b11 if version >= _LANDLOCK_SCOPES_SINCE else 0
    return (1 << known) - 1, network, scopes
