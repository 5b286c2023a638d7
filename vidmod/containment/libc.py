"""Calls of the C library that Python 3.11 does not have."""

from __future__ import annotations

import ctypes
import errno
import os

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_MM = 35
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_SET_PTRACER = 0x59616D61


def prctl(option: int, *arguments: object) -> int:
    """Change or tell something about this process.

    Raises:
        OSError: The kernel refuses.
    """
    # It refuses some options if the unused arguments are not 0.
    return call("prctl", option, *arguments, *(0,) * (4 - len(arguments)))


def call(name: str, *arguments: object) -> int:
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
