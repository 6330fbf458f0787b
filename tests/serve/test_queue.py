"""The queue: batches of one shape, no more waiting than fit, faults that reach who asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from discern.serve.queue import Batcher, Busy


def _frames(value: int, frames: int = 1) -> np.ndarray:
    return np.full((frames, 2, 2, 3), value, dtype=np.uint8)


def test_each_gets_its_own_answer_and_shapes_do_not_mix() -> None:
    shapes: list[tuple[int, ...]] = []

    def answer(batch: np.ndarray) -> list[int]:
        shapes.append(batch.shape)
        return [int(one.max()) for one in batch]

    queue = Batcher(answer, most=50, batch=8, wait=0.05)
    futures = [queue.ask(_frames(n, 1 + n % 2)) for n in range(20)]
    assert [future.result(5) for future in futures] == list(range(20))
    assert all(shape[0] <= 8 for shape in shapes) and {shape[1] for shape in shapes} == {1, 2}
    assert queue.items == 20 and queue.batches == len(shapes)
    queue.close()
    assert not queue.alive


def test_those_who_come_together_are_answered_together() -> None:
    sizes: list[int] = []

    def answer(batch: np.ndarray) -> list[int]:
        sizes.append(len(batch))
        time.sleep(0.02)
        return [0] * len(batch)

    queue = Batcher(answer, most=64, batch=16, wait=0.02)
    for future in [queue.ask(_frames(1)) for _ in range(48)]:
        future.result(5)
    assert max(sizes) == 16 and len(sizes) <= 6
    queue.close()


def test_one_who_comes_alone_waits_for_nobody() -> None:
    queue = Batcher(lambda batch: [0] * len(batch), most=9, batch=8, wait=5.0)
    started = time.monotonic()
    for _ in range(3):
        queue.ask(_frames(1)).result(5)
    assert time.monotonic() - started < 2.5
    queue.close()


def test_those_who_were_answered_together_are_waited_for_and_nobody_else() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def answer(batch: np.ndarray) -> list[int]:
        sizes.append(len(batch))
        gate.wait(5)
        return [0] * len(batch)

    queue = Batcher(answer, most=9, batch=8, wait=10.0)
    futures = [queue.ask(_frames(1))]
    while not sizes:  # the first one is being answered
        time.sleep(0.001)
    futures += [queue.ask(_frames(1)) for _ in range(3)]
    gate.set()
    for future in futures:
        future.result(5)
    started = time.monotonic()
    futures = [queue.ask(_frames(1))]
    time.sleep(0.1)  # it waits for the other two
    futures += [queue.ask(_frames(1)) for _ in range(2)]
    for future in futures:
        future.result(5)
    assert time.monotonic() - started < 5  # but for no fourth
    assert sizes == [1, 3, 3]
    queue.close()


def test_a_full_queue_says_so_at_once() -> None:
    gate = threading.Event()

    def answer(batch: np.ndarray) -> list[int]:
        gate.wait(5)
        return [0] * len(batch)

    queue = Batcher(answer, most=3, batch=1, wait=0.0)
    kept: list[Future[Any]] = [queue.ask(_frames(0))]
    time.sleep(0.05)  # the first one is being answered
    kept += [queue.ask(_frames(0)) for _ in range(3)]
    started = time.monotonic()
    with pytest.raises(Busy):
        queue.ask(_frames(0))
    assert time.monotonic() - started < 0.05
    gate.set()
    assert [one.result(5) for one in kept] == [0] * 4
    queue.close()


def test_a_fault_reaches_who_asked_and_the_thread_lives_on() -> None:
    def answer(batch: np.ndarray) -> list[int]:
        if batch.max() == 9:
            raise ValueError("nine")
        return [1] * len(batch)

    queue = Batcher(answer, most=9, batch=1, wait=0.0)
    with pytest.raises(ValueError, match="nine"):
        queue.ask(_frames(9)).result(5)
    assert queue.ask(_frames(1)).result(5) == 1 and queue.alive
    queue.close()


def test_what_waits_is_answered_before_the_end() -> None:
    queue = Batcher(lambda batch: [7] * len(batch), most=99, batch=2, wait=0.0)
    futures = [queue.ask(_frames(0)) for _ in range(30)]
    queue.close()
    assert [future.result(0.1) for future in futures] == [7] * 30


def test_a_client_that_left_is_not_answered() -> None:
    gate, seen = threading.Event(), []

    def answer(batch: np.ndarray) -> list[int]:
        gate.wait(5)
        seen.extend(int(one.max()) for one in batch)
        return [0] * len(batch)

    queue = Batcher(answer, most=9, batch=1, wait=0.0)
    first = queue.ask(_frames(1))
    time.sleep(0.05)
    left = queue.ask(_frames(2))
    assert left.cancel()
    gate.set()
    first.result(5)
    queue.ask(_frames(3)).result(5)
    assert seen == [1, 3]
    queue.close()
