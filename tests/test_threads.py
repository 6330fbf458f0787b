"""Threads: waiting ones sleep, and no more are used than cores are free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from discern import threads


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*threads.WAITING, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that undo removes what a test sets
        monkeypatch.delenv(name)
    return monkeypatch


def test_waiting_is_set_before_torch_only(environment: pytest.MonkeyPatch) -> None:
    with environment.context() as without:
        without.delitem(sys.modules, "torch", raising=False)
        assert threads.prepare_threads()
        assert {name: os.environ[name] for name in threads.WAITING} == threads.WAITING
    for name in threads.WAITING:
        os.environ.pop(name)
    environment.setitem(sys.modules, "torch", sys)
    assert not threads.prepare_threads()
    assert not set(threads.WAITING) & set(os.environ)


def test_what_the_user_set_stays(environment: pytest.MonkeyPatch) -> None:
    environment.delitem(sys.modules, "torch", raising=False)
    environment.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert threads.prepare_threads()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in os.environ


def test_the_number_is_wanted_given_or_free(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(threads, "free_cores", lambda: 2.6)
    assert threads.choose_threads(5) == 5
    assert threads.choose_threads() == 3
    environment.setattr(threads, "free_cores", lambda: 0.2)
    assert threads.choose_threads() == 1
    environment.setenv("OMP_NUM_THREADS", "4,2")
    assert threads.choose_threads() == 4
    environment.setenv("OMP_NUM_THREADS", "many")
    assert threads.choose_threads() == 1


def test_free_cores_lie_between_none_and_all() -> None:
    assert 0 <= threads.free_cores(0.05) <= (os.cpu_count() or 1) + 0.5


def test_others_work_makes_cores_less_free(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(threads, "_own_cores", lambda: {0, 1, 2, 3})
    environment.setattr(threads, "_own_seconds", lambda: 0.0)
    clock = iter([10.0, 12.5])
    environment.setattr(threads.time, "perf_counter", lambda: next(clock))
    idle = iter([100.0, 105.0])  # 4 cores x 2.5 s, half of it idle
    environment.setattr(threads, "_idle_seconds", lambda cores: next(idle))
    environment.setattr(threads, "cpu_quota", lambda: float("inf"))
    assert threads.free_cores(0) == 2.0


def test_without_proc_all_cores_count(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(threads, "_idle_seconds", lambda cores: None)
    environment.setattr(threads, "_own_cores", lambda: {0, 1, 2, 3})
    environment.setattr(threads, "cpu_quota", lambda: 1.5)
    assert threads.free_cores(0) == 1.5


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_quota_of_control_groups(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    cases = {
        "none": ({}, float("inf")),
        "v2": (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                f"{group}/pod/box/cpu.max": "max 100000\n",
                f"{group}/pod/cpu.max": "150000 100000\n",
            },
            1.5,
        ),
        "v2 seen from inside": (
            {"proc/self/cgroup": "0::/../other\n", f"{group}/cpu.max": "200000 100000\n"},
            2.0,
        ),
        "v1": (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
                f"{group}/cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n",
                f"{group}/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
                f"{group}/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                f"{group}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        "garbage": ({"proc/self/cgroup": "0::/\n", f"{group}/cpu.max": "\n"}, float("inf")),
    }
    for name, (files, expected) in cases.items():
        assert threads.cpu_quota(_write(tmp_path / name, files)) == expected, name


def test_torchs_openmp_reads_what_we_set(environment: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("other systems have other OpenMP libraries")
    code = (
        "from discern.threads import *; assert prepare_threads()\n"
        "import torch; set_threads(3); assert torch.get_num_threads() == 3"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    if "GOMP_SPINCOUNT" in done.stderr:
        assert "GOMP_SPINCOUNT = '5000'" in done.stderr


WORK = """
import sys, time
if sys.argv[1] == "ours":
    from discern.threads import prepare_threads
    prepare_threads()
import torch
torch.set_num_threads(2)
layer = torch.nn.TransformerEncoderLayer(192, 4, 768, batch_first=True)
clip = torch.randn(64, 33, 192)
def step():
    layer(clip).square().mean().backward()
step()
print("ready", flush=True)
for line in sys.stdin:
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < float(line):
        step()
        steps += 1
    print(steps / (time.perf_counter() - start), flush=True)
"""


@pytest.mark.slow
def test_a_busy_neighbour_leaves_40_percent(environment: pytest.MonkeyPatch) -> None:
    if threads.free_cores(1.0) < 1.8 or (os.cpu_count() or 1) != 2:
        pytest.skip("needs a quiet machine of two cores")

    def start(kind: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", WORK, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child

    def ask(child: subprocess.Popen[str], seconds: float) -> None:
        assert child.stdin is not None
        child.stdin.write(f"{seconds}\n")
        child.stdin.flush()

    def answer(child: subprocess.Popen[str]) -> float:
        assert child.stdout is not None
        return float(child.stdout.readline())

    with start("ours") as ours, start("ours") as rival:
        quiet, busy = [], []
        for _ in range(4):
            ask(ours, 1.0)
            quiet.append(answer(ours))
            ask(rival, 1.5)
            ask(ours, 1.0)
            busy.append(answer(ours))
            answer(rival)
        for child in (ours, rival):
            assert child.stdin is not None
            child.stdin.close()
    assert sorted(busy)[2] >= 0.4 * sorted(quiet)[2], (busy, quiet)


@pytest.mark.parametrize(
    ("free", "trainings", "expected"),
    [(16.0, 1, 8), (5.8, 1, 5), (2.0, 1, 1), (0.3, 1, 1), (16.0, 2, 7), (16.0, 8, 1)],
)
def test_decoders_leave_a_core_to_each_training(
    free: float, trainings: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "free_cores", lambda: free)
    assert threads.choose_decoders(trainings) == expected
