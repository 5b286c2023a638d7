"""How the C library keeps memory."""

from __future__ import annotations

import contextlib
import ctypes

# From malloc.h.
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK_BYTES = 128 * 1024


def return_large_blocks() -> None:
    """Have large blocks given back to the system when they are freed, in this process and its forks.

    glibc raises the size from which it does so whenever such a block is freed, up to 32 MiB; packets, pictures and
    batches then fragment its heaps, and the memory of a long scan creeps up. Elsewhere nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def return_free_memory() -> None:
    """Give back what lies free in the heaps of this process: after much was built up and thrown away again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
