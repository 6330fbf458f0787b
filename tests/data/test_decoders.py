"""Decoder processes: order, errors, and that none is left behind.  Their loss: `test_loader`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import pytest

from discern.data.decoders import AHEAD, LONGEST, Decoders
from discern.errors import DataError


def _fetch(request: int) -> np.ndarray:
    if request == -1:
        raise DataError("x" * 2 * LONGEST)
    if request == -2:
        raise KeyError("a mistake of ours")
    if request == -3:
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C reaches the whole group
    return np.full((abs(request) % 4 + 1, 5), abs(request), dtype=np.uint8)


@contextmanager
def _decoders(count: int) -> Iterator[Decoders[int]]:
    found = Decoders(_fetch, count, most_bytes=20)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 2 * AHEAD, 50])
def test_answers_come_in_order_and_stay_what_they_are(count: int, length: int) -> None:
    with _decoders(count) as decoders:
        for first in (0, 100):  # one sequence after the other
            asked = range(first, first + length)
            found = list(decoders.frames(asked))
            assert len(found) == length
            for request, frames in zip(asked, found, strict=True):
                assert np.array_equal(frames, _fetch(request)) and frames.flags.writeable


def test_errors_come_where_their_request_was() -> None:
    with _decoders(2) as decoders:
        frames = decoders.frames([1, -1, 3])
        assert np.array_equal(next(frames), _fetch(1))
        with pytest.raises(DataError, match="^x{2000}$"):
            next(frames)
    with _decoders(1) as decoders, pytest.raises(RuntimeError, match=r"in _fetch[\s\S]*mistake"):
        list(decoders.frames([-2]))


def test_an_interrupt_does_not_end_them() -> None:
    with _decoders(2) as decoders:
        assert [int(frames[0, 0]) for frames in decoders.frames([-3, 4, -3])] == [3, 4, 3]


def test_none_is_left_when_the_main_process_is_killed() -> None:
    words = (
        "import os, signal, time\n"
        "from tests.data.test_decoders import _fetch, Decoders\n"
        "decoders = Decoders(_fetch, 3, 20)\n"
        "print(*[one.process.pid for one in decoders.members], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        children = [psutil.Process(int(pid)) for pid in main.stdout.readline().split()]
        main.kill()
    assert len(children) == 3 and not psutil.wait_procs(children, timeout=10)[1]
