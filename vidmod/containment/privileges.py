"""No program gives more rights than the worker has, and root goes without root's."""

from __future__ import annotations

import ctypes

from vidmod.containment.libc import PR_SET_NO_NEW_PRIVS, call, prctl

# linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522


def refuse_new_privileges() -> None:
    """Let no program that this process starts have more rights than it has.

    Raises:
        OSError: The kernel does not know this.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up all capabilities.

    Raises:
        OSError: The kernel refuses.
    """
    # A new user namespace gives all capabilities inside of it, and with them much more of the kernel to
    # attack. Nothing gives them back: no program can, without new privileges.
    refuse_new_privileges()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    call("capset", ctypes.byref(header), ctypes.byref(nothing))
