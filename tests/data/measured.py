"""Time and memory that a call takes: a function in, seconds and bytes of peak memory out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measured(call: Callable[[], object], rounds: int = 3) -> tuple[float, int]:
    """The least seconds and bytes of `rounds` calls: what is above is the machine's noise."""
    try:
        CLEAR.write_text("5")  # the peak counts from here
    except OSError:
        pytest.skip("this system does not tell the peak memory of a process")
    runs = []
    for _ in range(rounds):
        CLEAR.write_text("5")
        before = _kilobytes("VmRSS")
        started = time.perf_counter()
        call()
        seconds = time.perf_counter() - started
        runs.append((seconds, (_kilobytes("VmHWM") - before) * 1024))
    return min(run[0] for run in runs), min(run[1] for run in runs)


def _kilobytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
