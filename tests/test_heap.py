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
    found = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", BLOCKS, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("plain", "keep")
    }
    assert found["keep"] < 100 and found["plain"] > 10 * found["keep"] + 100, found
