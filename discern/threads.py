"""Threads: what the machine offers and who else uses it come in, how many to use comes out.

Two measured facts stand behind it.  OpenMP threads spin while they wait for work, so that on busy
cores two of them can be many times slower than one: they must sleep early, which the library reads
from the environment when torch is first imported.  And the number of threads changes the last bits
of sums, so that a run keeps the number that it began with.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# libgomp (torch's CPU wheels) reads the first two, Intel's and LLVM's OpenMP the first and last.
# Some 50 us of spinning keeps most of the speed on quiet cores, and 40 per cent beside a rival.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "0"}
MOST_DECODERS = 8  # more of them seldom read faster


def prepare_threads() -> bool:
    """Let waiting threads sleep.  To be called before torch is imported; False when it is too late.

    What the user has set in the environment stays.
    """
    if "torch" in sys.modules:
        return False
    if not any(name in os.environ for name in WAITING):
        os.environ.update(WAITING)
    return True


def choose_threads(wanted: int | None = None) -> int:
    """Threads for a run that begins: as wanted, as OMP_NUM_THREADS says, or one per free core."""
    if wanted is not None:
        return max(1, wanted)
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if given.isdigit() and int(given) > 0:
        return int(given)
    return max(1, int(free_cores() + 0.5))


def choose_decoders(trainings: int = 1) -> int:
    """Decoder processes for each of so many trainings on GPUs: a core of its own for each other.

    -> 1 to MOST_DECODERS
    """
    return min(MOST_DECODERS, max(1, round(free_cores()) // trainings - 1))


def set_threads(count: int) -> None:
    """Use `count` threads in each torch operation."""
    import torch

    torch.set_num_threads(count)


def free_cores(seconds: float = 0.25) -> float:
    """Cores that this process may use and that others leave idle, watched for some time."""
    cores = _own_cores()
    before, own_before = _idle_seconds(cores), _own_seconds()
    start = time.perf_counter()
    time.sleep(seconds)
    after, own_after = _idle_seconds(cores), _own_seconds()
    passed = time.perf_counter() - start
    free = float(len(cores))
    if before is not None and after is not None:
        free = min(free, (after - before + own_after - own_before) / passed)
    return min(free, cpu_quota())


def cpu_quota(root: Path = Path("/")) -> float:
    """Cores that the control group allows (a container's limit); infinite without a limit."""
    return min(_quotas(root), default=float("inf"))


def _own_cores() -> set[int]:
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _idle_seconds(cores: set[int]) -> float | None:
    """Seconds that these cores had nothing to do, since the start of the machine."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks += int(fields[3]) + int(fields[4])  # idle, and waiting for a disk
    return ticks / os.sysconf("SC_CLK_TCK")


def _quotas(root: Path) -> Iterator[float]:
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    base = root / "sys/fs/cgroup"
    for group in groups:
        number, controllers, name = group.split(":", 2)
        if number == "0":
            for folder in _upwards(base, name):
                yield from _quota(folder / "cpu.max", None)
        elif "cpu" in controllers.split(","):
            for folder in _upwards(base / controllers, name):
                yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _upwards(base: Path, name: str) -> Iterator[Path]:
    # a container may see its own group as the root, so that the path from outside leads nowhere
    parts = [part for part in name.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:depth])


def _quota(file: Path, period_file: Path | None) -> Iterator[float]:
    try:
        fields = file.read_text().split()
        if period_file is not None:
            fields.append(period_file.read_text().strip())
        quota, period = float(fields[0]), float(fields[1])
    except (OSError, ValueError, IndexError):
        return  # no such file, or "max"
    if quota > 0 and period > 0:
        yield quota / period
