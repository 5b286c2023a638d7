"""Shared memory in equal parts, one picture each."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile


def anonymous_file(name: str) -> int:
    """Open a file without a name, in memory where the system has that; the caller closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile(prefix="vidmod-") as file:
        return fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)


def shared_memory(slots: int, slot_bytes: int) -> int:
    """Open a file for `slots` pictures of `slot_bytes` bytes; the caller closes it.

    On Linux its size is sealed: if the other process could shorten it, reading here would end
    with SIGBUS. Elsewhere there are no seals.
    """
    memory = anonymous_file("vidmod slots")
    try:
        os.ftruncate(memory, slots * stride(slot_bytes))
        if hasattr(fcntl, "F_ADD_SEALS"):
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(memory)
        raise
    return memory


def stride(slot_bytes: int) -> int:
    """Bytes from one slot to the next: whole pages, so that rows are aligned."""
    return -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


class Slots:
    """A view of shared memory; the mapping ends with the last view of it.

    Args:
        memory: A descriptor from :func:`shared_memory`, which is not needed any more afterwards.
        slots, slot_bytes: As given there.
        writable: Whether the views are.
    """

    def __init__(self, memory: int, slots: int, slot_bytes: int, *, writable: bool) -> None:
        self._slot_bytes = slot_bytes
        self._stride = stride(slot_bytes)
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = memoryview(mmap.mmap(memory, slots * self._stride, mmap.MAP_SHARED, access))

    def __getitem__(self, slot: int) -> memoryview:
        start = slot * self._stride
        return self._map[start : start + self._slot_bytes]
