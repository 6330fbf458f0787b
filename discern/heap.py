"""Freed memory stays with the process: the next training step's tensors need no new pages.

The C library gives large blocks back at once, and each step would fault the same pages in again.
"""

from __future__ import annotations

import ctypes

# of <malloc.h>: largest block taken from the heap, and free top that is given back, in bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 1 << 30


def keep_freed_memory() -> bool:
    """Ask glibc for it; False where the C library is another one."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
