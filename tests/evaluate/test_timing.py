"""What an item costs: measured on one thread, on fewer items where one takes long."""

from __future__ import annotations

import time

import pytest
import torch

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.evaluate.timing import ITEMS, LEAST, REPEATS, seconds_per_item
from tests.tiny import random_sets


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_an_item_costs_what_it_takes_on_one_thread() -> None:
    threads, seen = torch.get_num_threads(), set()

    def work(items: ClipSet) -> None:
        seen.add(torch.get_num_threads())
        burn(0.002 * len(items))

    found = seconds_per_item(work, random_sets(40)[Kind.IMAGE])
    assert 0.002 <= found < 0.003
    assert seen == {1} and torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("there", "each", "timed"),
    [(300, 1e-6, ITEMS), (300, 0.1, 20), (300, 10.0, LEAST), (30, 1e-6, 30), (2, 10.0, 2)],
)
def test_a_slow_network_is_timed_on_fewer_items(
    there: int, each: float, timed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, counts = [0.0], []
    monkeypatch.setattr("discern.evaluate.timing.time.process_time", lambda: clock[0])

    def work(items: ClipSet) -> None:
        counts.append(len(items))
        clock[0] += each * len(items) + (5.0 if len(counts) == 1 else 0.0)  # what is loaded once

    found = seconds_per_item(work, random_sets(there)[Kind.IMAGE])
    assert found == pytest.approx(each)
    assert counts[-REPEATS:] == pytest.approx([timed] * REPEATS, abs=1)
