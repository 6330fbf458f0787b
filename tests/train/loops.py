"""Trainings of a few steps, and where they are kept: in memory."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from discern.clip import Batch
from discern.data.loader import Loader, LoaderConfig, Position
from discern.data.mixing import MixedLoader
from discern.objectives.objective import Objective
from discern.train.checkpoint import Saver
from discern.train.loop import LoopConfig, Outcome, fit
from discern.train.optim import OptimConfig
from tests.tiny import OBJECTIVES, batch, masked_gan, random_sets, semi, supervised

OPTIM = OptimConfig(rate=3e-3, warmup=0.1, layer_decay=0.9, matrix_factor=5.0)
Saved = tuple[dict[str, Tensor], dict[str, Any]]


class Memory:
    """A keeper that holds on to every checkpoint."""

    def __init__(self, start: Saved | None = None) -> None:
        self.saved: dict[int, Saved] = {}
        self.start = start

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        copies = {name: value.detach().clone() for name, value in tensors.items()}
        assert all(value.isfinite().all() for value in copies.values()), "NaN was saved"
        self.saved[step] = copies, json.loads(json.dumps(state, allow_nan=False))

    def load(self) -> Saved | None:
        return self.saved[max(self.saved)] if self.saved else self.start


class Lines:
    """A journal in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def log(self, *, step: int, **values: Any) -> None:
        self.lines.append({"step": step, **values})

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines if "event" in line]


class Same:
    """The same batch for ever."""

    def __init__(self, items: Batch | None = None) -> None:
        self.items = items or batch(4)

    def batches(self, start: Position) -> Iterator[tuple[Position, Batch]]:
        for index in count(start.index + 1):
            yield Position(start.epoch, index), self.items


def a_loader() -> Loader:
    """Images and clips in turn."""
    config = LoaderConfig(batch_size=4, clip_batch_size=2, clip_share=0.4)
    return Loader(random_sets(12, 6), config, seed=3)


def a_mixed_loader() -> MixedLoader:
    """The same, and images without labels."""
    config = LoaderConfig(batch_size=6, clip_batch_size=2, clip_share=0.4)
    return MixedLoader(random_sets(12, 6), random_sets(9), config, ratio=2.0, seed=3)


def fit_now(
    objective: Objective,
    *,
    loader: Any = None,
    keeper: Any = None,
    journal: Any = None,
    optim: OptimConfig = OPTIM,
    evaluate: Callable[[], dict[str, float]] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    computing: Callable[[], Any] = contextlib.nullcontext,
    **settings: Any,
) -> Outcome:
    return fit(
        objective.train(),
        loader or a_loader(),
        LoopConfig(**({"steps": 20, "log_seconds": 0.0} | settings)),
        optim,
        seed=5,
        journal=journal or Lines(),
        keeper=keeper or Memory(),
        autocast=computing,
        evaluate=evaluate,
        stop_requested=stop_requested,
    )


def stopping_after(steps: int) -> Callable[[], bool]:
    """A signal that comes during step number `steps`."""
    asked = count(1)
    return lambda: next(asked) >= steps


def an_objective(name: str, seed: int = 0) -> Objective:
    if name == "supervised":
        return supervised(seed, drop_path=0.3)
    if name == "semi":
        return semi(seed, drop_path=0.3)
    if name == "teacher":
        return masked_gan(seed, teacher=True, noise_share=0.5)
    return OBJECTIVES[name](seed)


def an_evaluation(objective: Objective) -> Callable[[], dict[str, float]]:
    """Looks at the average, and uses up random numbers as an evaluation may."""

    def evaluate() -> dict[str, float]:
        torch.rand(3)
        weight = next(iter(objective.averages[0][1].parameters()))
        return {"accuracy": float(weight.detach().abs().mean()) % 1.0}

    return evaluate


def run_of(name: str, keeper: Memory | Saver, seed: int = 0, **settings: Any) -> Objective:
    objective = an_objective(name, seed)
    loader = a_mixed_loader() if name == "semi" else a_loader()
    look = an_evaluation(objective)
    fit_now(objective, loader=loader, keeper=keeper, evaluate=look, evaluations=7, **settings)
    return objective


@functools.cache
def whole_run(name: str) -> dict[int, Saved]:
    """Every checkpoint of an uninterrupted run."""
    keeper = Memory()
    run_of(name, keeper, saves=1000)
    return keeper.saved


def assert_same(found: Saved, expected: Saved) -> None:
    assert found[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        assert found[0][name].dtype == value.dtype and torch.equal(found[0][name], value), name
    clocks = {"seconds"}
    left, right = (
        {k: v for k, v in state.items() if k not in clocks} for _, state in (found, expected)
    )
    assert left == right
