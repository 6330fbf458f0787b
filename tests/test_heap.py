"""The heap keeps what was freed: the same block again needs no new pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BLOCKS = """
import ctypes, resource, sys
from discern.heap import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
assert "keep" not in sys.argv or keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    block = libc.malloc(ctypes.c_size_t(64 << 20))
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
use()
before = faults()
for _ in range(4):
    use()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_block_that_was_freed_needs_no_new_pages() -> None:
    found = _printed(BLOCKS, "keep")
    assert found["keep"] < 100 and found["plain"] > 10 * found["keep"] + 100, found


HEAPS = """
import re, sys, threading
from discern.heap import share_heaps
assert "share" not in sys.argv or share_heaps()
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
at_once = threading.Barrier(12)
def use():
    at_once.wait()
    for _ in range(200):
        libc.malloc(ctypes.c_size_t(4000))
    at_once.wait()
threads = [threading.Thread(target=use) for _ in range(12)]
for one in threads: one.start()
for one in threads: one.join()
# a heap of a thread begins where 64 MB of address space begin
maps = [line.split() for line in open("/proc/self/maps")]
spans = [[int(end, 16) for end in one[0].split("-")] for one in maps]
print(len({start >> 26 for start, end in spans if start % (1 << 26) == 0 and start > 1 << 40}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_share_few_heaps() -> None:
    found = _printed(HEAPS, "share")
    assert found["share"] <= 2 < found["plain"], found


def _printed(program: str, way: str) -> dict[str, int]:
    """The number that a process of its own prints, plainly and that way."""
    return {
        how: int(
            subprocess.run(
                [sys.executable, "-c", program, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("plain", way)
    }


HOLES = """
import ctypes, sys
from discern.heap import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = [libc.malloc(ctypes.c_size_t(60_000)) for _ in range(1000)]  # from the heap
for block in blocks:
    ctypes.memset(block, 1, 60_000)
before = held()
for block in blocks[:-1]:  # what is left stands on top of all the others
    libc.free(block)
assert "give" not in sys.argv or give_back()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_was_freed_below_a_block_in_use_is_given_back() -> None:
    found = _printed(HOLES, "give")
    assert found["give"] > 50_000_000 > 10_000_000 > found["plain"], found
