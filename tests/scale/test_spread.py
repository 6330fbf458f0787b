"""Work spread over processes: what dies is tried again.

Nothing here imports torch, for each process that is spawned imports this module.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from discern.errors import DiscernError
from discern.scale.spread import spread


def _die_once(task: tuple[str, int]) -> int:
    folder, number = task
    mark = Path(folder) / "died"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_a_worker_that_dies_costs_a_second_try(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(6)]
    assert sorted(spread(_die_once, tasks, 2)) == list(range(6))
    assert (tmp_path / "died").exists()
    with pytest.raises(DiscernError, match="died 3 times, with 2 tasks left"):
        list(spread(_die, [1, 2], 2))
