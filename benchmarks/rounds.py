"""Contenders that take turns: seconds of each in every round, and what a ratio is worth.

A busy machine troubles all that ran in the same round, so ratios are taken within rounds.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def one_core() -> None:
    """This process stays on one core from here on."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, in an order drawn anew; the first round warms up."""
    draw = random.Random(1)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        order = list(contenders)
        draw.shuffle(order)
        for name in order:
            started = time.perf_counter()
            contenders[name]()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def repeated(work: Callable[[], object], times: int) -> Callable[[], None]:
    """The same work so often, as one contender."""

    def run() -> None:
        for _ in range(times):
            work()

    return run


def summary(values: list[float]) -> dict[str, Any]:
    """Median, an interval for it that holds 95 % of resampled medians, and all rounds."""
    draw = random.Random(2)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return {
        "median": round(statistics.median(values), 3),
        "interval": [round(medians[50], 3), round(medians[-51], 3)],
        "rounds": [round(value, 3) for value in values],
    }


def times_faster(
    seconds: Mapping[str, list[float]], ours: str, theirs: str, to_reach: float
) -> dict[str, Any]:
    """How many times faster `ours` is than `theirs`, and whether that is what it should be."""
    ratios = [their / our for our, their in zip(seconds[ours], seconds[theirs], strict=True)]
    return {
        "ratio": summary(ratios),
        "to_reach": to_reach,
        "reached": statistics.median(ratios) >= to_reach,
    }
