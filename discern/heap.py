"""What the C library does with freed memory: kept by a training, shared by a server's threads and
given back by it.

It gives large blocks back at once, and each step of a training would fault the same pages in again.
Small ones it keeps in heaps of their own for up to eight threads per core, each of which grows to
what its threads needed at the worst moment.
"""

from __future__ import annotations

import ctypes

# of <malloc.h>: largest block taken from the heap, and free top that is given back, in bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST = 1 << 30
FEW = 2


def keep_freed_memory() -> bool:
    """The next step's tensors need no new pages; False where the C library is not glibc."""
    return _told(M_MMAP_THRESHOLD, LARGEST) and _told(M_TRIM_THRESHOLD, LARGEST)


def share_heaps() -> bool:
    """Threads that are yet to allocate share few heaps; False where the C library is not glibc."""
    return _told(M_ARENA_MAX, FEW)


def give_back() -> bool:
    """What was freed between blocks in use goes back to the system.

    False where nothing went, or the C library is not glibc.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def _told(what: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(what, value))
