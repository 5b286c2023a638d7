"""Landlock: no file, no TCP, no signal to others, but what is granted, as far as the kernel has it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path

from vidmod.containment.grants import NOTHING, Grants
from vidmod.containment.libc import call
from vidmod.containment.privileges import refuse_new_privileges

# linux/landlock.h. The numbers of the calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION_FLAG = 1
# How many rights on files each version of Landlock knows, beginning with version 1: a right is a bit, and
# only ever the next one. 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV, 9: RESOLVE_UNIX.
_LANDLOCK_FILE_RIGHTS = (13, 14, 15, 15, 16, 16, 16, 16, 17)
_LANDLOCK_TCP_SINCE = 4
_LANDLOCK_SCOPES_SINCE = 6
_RULE_PATH_BENEATH = 1
# struct landlock_path_beneath_attr, packed: what is allowed, and a descriptor of what it is allowed for.
_PATH_BENEATH = struct.Struct("=Qi")
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 5, 1 << 7, 1 << 8, 1 << 13, 1 << 14
_IOCTL_DEV = 1 << 15
_READING = _READ_FILE | _READ_DIR
_WRITING = _READING | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _MAKE_DIR | _REMOVE_FILE | _REFER
# What can be allowed for something that is no folder.
_COMMANDING = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV


def enforce_landlock(version: int | None = None, grants: Grants = NOTHING) -> None:
    """Handle every right that the kernel knows, and allow only what is granted.

    Args:
        version: Up to which version of Landlock rights are handled; None for the kernel's.
        grants: What is allowed.

    Raises:
        OSError: The kernel has no Landlock, or refuses.
    """
    refuse_new_privileges()
    if version is None:
        version = call("syscall", _LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_VERSION_FLAG)
    ruleset, handled = _ruleset(version, grants)
    try:
        for allowed, paths in (
            (_READING, grants.readable),
            (_WRITING, grants.writable),
            (_COMMANDING, grants.devices),
        ):
            for path in paths:
                _allow(ruleset, path, allowed & handled)
        call("syscall", _LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _ruleset(version: int, grants: Grants) -> tuple[int, int]:
    """A descriptor of the rules, and the rights on files that it handles."""
    for supposed in range(version, 0, -1):
        fields = rights(supposed, grants)
        handled = (ctypes.c_uint64 * 3)(*fields)
        try:
            ruleset = call("syscall", _LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
        except OSError as exc:
            # Kernels with parts of newer ones claim more than they have: Red Hat's 5.14 says version 6 and
            # does not scope signals.
            if exc.errno != errno.EINVAL or supposed == 1:
                raise
        else:
            return ruleset, fields[0]
    raise OSError(errno.ENOSYS, f"Landlock has no version {version}")


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist, or is out of reach anyway
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_FILES
        rule = ctypes.create_string_buffer(_PATH_BENEATH.pack(allowed, descriptor), _PATH_BENEATH.size)
        call("syscall", _LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def rights(version: int, grants: Grants = NOTHING) -> tuple[int, int, int]:
    """The three fields of struct landlock_ruleset_attr: rights on files, rights on the network, scopes."""
    known = _LANDLOCK_FILE_RIGHTS[min(version, len(_LANDLOCK_FILE_RIGHTS)) - 1]
    network = 0b11 if version >= _LANDLOCK_TCP_SINCE and not grants.network else 0
    scopes = 0b11 if version >= _LANDLOCK_SCOPES_SINCE else 0
    return (1 << known) - 1, network, scopes
