"""The loop: one function for pre-training and tuning.

An objective, a loader and a budget in, an outcome out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from discern.clip import Batch
from discern.data.loader import Position
from discern.objectives.objective import Losses, Objective
from discern.scale.divided import clip_gradients
from discern.scale.ranks import ALONE, Ranks, is_divided
from discern.train.ahead import arriving
from discern.train.ema import update_averages
from discern.train.optim import OptimConfig, build_optimizer, set_rate
from discern.train.state import State, plain_of, restore, tensors_of
from discern.train.watch import Watch

CPU = torch.device("cpu")
SETTLE_EVERY = 8  # steps; and after the first and the last one
ROUNDING = 1e-9  # three fifths of the way are not quite 3 * (1 / 5)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """When to stop, and how often to look."""

    minutes: float | None = None  # wall-clock budget, resumes included
    steps: int | None = None
    target_accuracy: float | None = None  # on the validation split
    patience: int | None = None  # evaluations without a better one
    evaluations: int = 20  # over the whole budget
    evaluation_share: float = 0.15  # of a budget of minutes, at most; then there are fewer of them
    saves: int = 10  # over the whole budget
    save_minutes: float = 5.0  # and at least this often
    log_seconds: float = 5.0
    ema_decay: float = 0.998
    micro_batches: int = 1  # parts of a batch that are computed one after the other: less memory
    recompute: bool = False  # blocks are computed twice instead of kept: less memory
    divide: bool = False  # blocks over ranks, each keeping its part of them: less memory
    compile: bool = False  # blocks, on a GPU; it takes a while first


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Why the loop ended, and where."""

    stopped_by: str  # target, patience, minutes, steps, signal or diverged
    state: State


class Keeper(Protocol):
    """Where checkpoints go."""

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None: ...
    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...


class Journal(Protocol):
    """Where records go; a value may be a number or a short text."""

    def log(self, *, step: int, **values: Any) -> None: ...


class Batches(Protocol):
    """Endless batches from a position on."""

    def batches(self, start: Position) -> Iterator[tuple[Position, Batch]]: ...


class Silent:
    """Journal, keeper and report of a rank that does not lead."""

    def log(self, *, step: int, **values: Any) -> None:
        """Writes nothing."""

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keeps nothing."""

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Has nothing."""
        return None

    def report(self, progress: float, line: str) -> None:
        """Says nothing."""


SILENT = Silent()

Evaluate = Callable[
    [], dict[str, float]
]  # named results; "accuracy" is what target and patience look at


def fit(
    objective: Objective,
    loader: Batches,
    config: LoopConfig,
    optim: OptimConfig,
    *,
    seed: int,
    journal: Journal,
    keeper: Keeper,
    autocast: Callable[[], AbstractContextManager[Any]],
    device: torch.device = CPU,
    stop_requested: Callable[[], bool] = lambda: False,
    evaluate: Evaluate | None = None,
    report: Callable[[float, str], None] = lambda progress, line: None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train until the first of: target, patience, budget, signal, divergence.

    Every random number of a step comes from (seed, step), and every batch from a position, so that
    a run that was killed and resumed takes the very same steps.  Of several ranks the first alone
    evaluates, writes and reports; where blocks are divided, all of them evaluate and write.
    """
    optimizers = {
        phase: build_optimizer(player, optim) for phase, player in objective.players.items()
    }
    state, watch = State(), Watch()
    divided = any(map(is_divided, objective.parameters()))  # then all ranks judge, save and load
    if not ranks.leads:
        journal, report = SILENT, SILENT.report
        keeper = keeper if divided else SILENT

    def kept() -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return keeper.load() if divided else ranks.saved_from_leader(keeper.load())

    saved = kept()
    if saved is not None:
        restore(objective, optimizers, *saved, state)
        watch.load(state.watch)
    started = time.monotonic() - state.seconds
    last_log, logged_step = state.seconds, state.step
    stopped_by: str | None = None
    if saved is not None:
        stopped_by = _already(config, state)
        if stopped_by is not None:
            return Outcome(stopped_by=stopped_by, state=state)
    else:  # so that there is always a good network to come back to
        state.next_save = _next(0.0, 0.0, _saves(config))
        keeper.save(0, tensors_of(objective, optimizers), plain_of(state))

    for position, batch in arriving(loader.batches(state.position), device):
        progress = _progress(config, state)
        said: dict[str, float] = {}  # by this step: some terms are not in all of them
        rng = step_rng(seed, state.step, device)
        for phase, player in objective.players.items():
            rate = set_rate(optimizers[phase], optim, progress, watch.rate_scale)
            losses = _backward(objective, phase, batch, rng, progress, config, autocast)
            ranks.average_gradients(player.parameters())
            norm = clip_gradients(player.parameters(), optim.clip_norm)
            total, norm, spoken = _read(losses, norm)
            said |= spoken
            # where the loss of a rank or a part is no number, neither is the mean gradient
            alone = ranks.world == config.micro_batches == 1
            total = total if alone else norm
            played = "d_accuracy" in losses.parts
            if watch.healthy(total, norm, phase, played=played, compare=alone):
                with autocast():  # products of its own are as precise as those of the network
                    optimizers[phase].step()
            objective.zero_grad(set_to_none=True)
        said = ranks.means(said)
        state.parts |= said
        ranks.average_buffers(objective)
        update_averages(objective.averages, config.ema_decay, state.step)
        state.step += 1
        state.position = position
        state.seconds, _ = ranks.decided(time.monotonic() - started, False)
        progress = _progress(config, state)
        if state.step % SETTLE_EVERY == 1 or progress >= 1.0:
            with autocast():
                objective.settle(batch, rng)

        # what goes wrong is answered at once, and written down
        for warning in watch.look(objective, said):
            journal.log(step=state.step, event=warning)
        if watch.must_roll_back or watch.gave_up is not None:
            saved = kept()
            if saved is not None:
                restore(objective, optimizers, *saved, state, weights_only=True)
        if watch.must_roll_back:
            watch.rolled_back()
        if watch.gave_up is not None:  # what is handed over is the last good network
            stopped_by = "diverged"
        # once in a while: a line in the log
        if state.seconds - last_log >= config.log_seconds or progress >= 1.0:
            speed = (state.step - logged_step) / max(1e-9, state.seconds - last_log)
            values = {"progress": progress, "rate": rate, "steps_per_second": speed, **state.parts}
            journal.log(step=state.step, minutes=state.seconds / 60, epoch=position.epoch, **values)
            report(progress, f"step {state.step}, {speed:.1f} steps/s, {_short(state.parts)}")
            last_log, logged_step = state.seconds, state.step
        # once in a while, and at the end: how good is it by now
        if evaluate is not None and (_due(state.next_evaluation, progress) or progress >= 1.0):
            state.next_evaluation = _next(state.next_evaluation, progress, config.evaluations)
            if ranks.leads or divided:
                _judge(objective, evaluate, state, journal)
            state.best, state.stale = _told(ranks, state)
            stopped_by = stopped_by or _reached(config, state)
            took = ranks.decided(time.monotonic() - started, False)[0] - state.seconds
            state.next_evaluation = max(state.next_evaluation, _affordable(config, state, took))
        # done?
        if progress >= 1.0:
            stopped_by = stopped_by or _budget_name(config, state)
        state.seconds, stopping = ranks.decided(time.monotonic() - started, stop_requested())
        if stopping:
            stopped_by = stopped_by or "signal"
        # once in a while, and at the end: a checkpoint; never of a network that has gone wrong
        due = _due(state.next_save, progress) and watch.skipped == 0
        if stopped_by != "diverged" and (stopped_by or due):
            state.next_save = _next(state.next_save, progress, _saves(config))
            state.watch = watch.dump()
            keeper.save(state.step, tensors_of(objective, optimizers), plain_of(state))
        if stopped_by:
            return Outcome(stopped_by=stopped_by, state=state)
    raise AssertionError("a loader is endless")


def _backward(
    objective: Objective,
    phase: str,
    batch: Batch,
    rng: torch.Generator,
    progress: float,
    config: LoopConfig,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Losses:
    """Gradients of the mean loss over the parts of a batch; what they say is averaged alike."""
    count = min(config.micro_batches, len(batch.clip))
    if count == 1:
        with autocast():
            losses = objective.loss(phase, batch, rng, progress)
        losses.total.backward()
        return losses
    total = torch.zeros((), device=batch.clip.device)
    said: dict[str, tuple[Tensor, float]] = {}  # sum and weight: some terms are not in all parts
    for part in (batch.part(number, count) for number in range(count)):
        share = len(part.clip) / len(batch.clip)
        with autocast():
            losses = objective.loss(phase, part, rng, progress)
        (share * losses.total).backward()
        total = total + share * losses.total.detach()
        for name, value in losses.parts.items():
            known, weight = said.get(name, (torch.zeros_like(value), 0.0))
            said[name] = (known + share * value, weight + share)
    means = {name: known / weight for name, (known, weight) in said.items()}
    return Losses(total=total, parts=means)


def _read(losses: Losses, norm: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Loss, gradient norm and what the terms say, on the host: a GPU is waited for once a step."""
    values = [losses.total.detach(), norm, *losses.parts.values()]
    read = torch.stack([value.double() for value in values]).cpu()
    return read[0], read[1], dict(zip(losses.parts, read[2:].tolist(), strict=True))


def step_rng(seed: int, step: int, device: torch.device = CPU) -> torch.Generator:
    """The generator of one step, on the device; also seeds the global one, which stochastic depth
    draws from.
    """
    mixed = (seed * 1_000_003 + step * 7_919 + 17) % (2**63 - 1)
    torch.manual_seed(mixed)
    return torch.Generator(device).manual_seed(mixed + 1)


def _progress(config: LoopConfig, state: State) -> float:
    """0 to 1: the share of the budget that is spent; of two budgets, the one that ends first."""
    spent = 0.0
    if config.steps is not None:
        spent = state.step / max(1, config.steps)
    if config.minutes is not None:
        spent = max(spent, state.seconds / (60 * config.minutes))
    return min(1.0, spent)


def _budget_name(config: LoopConfig, state: State) -> str:
    """Which of the budgets is spent."""
    spent = config.steps is not None and state.step >= config.steps
    return "steps" if spent or config.minutes is None else "minutes"


def _saves(config: LoopConfig) -> int:
    """How many checkpoints the whole budget brings."""
    return max(config.saves, math.ceil((config.minutes or 0) / config.save_minutes))


def _due(moment: float, progress: float) -> bool:
    return progress >= moment - ROUNDING


def _next(previous: float, progress: float, times: int) -> float:
    """The next due moment on an even grid of progress."""
    grid = 1.0 / max(1, times)
    return (math.floor(max(previous, progress) / grid + ROUNDING) + 1) * grid


def _affordable(config: LoopConfig, state: State, took: float) -> float:
    """The progress before which another look of this length would take too much of the minutes.

    A budget of steps has no such moment: the clock decides nothing in it.
    """
    if config.minutes is None or config.evaluation_share <= 0:
        return 0.0
    return (state.seconds + took + took / config.evaluation_share) / (60 * config.minutes)


def _judge(objective: Objective, evaluate: Evaluate, state: State, journal: Journal) -> None:
    """Evaluate, write it down, and keep what target and patience look at."""
    objective.eval()
    values = evaluate()
    objective.train()
    journal.log(step=state.step, minutes=state.seconds / 60, **values)
    accuracy = values.get("accuracy")
    if accuracy is None:
        return
    state.last = accuracy
    if accuracy > state.best:
        state.best, state.stale = accuracy, 0
    else:
        state.stale += 1


def _told(ranks: Ranks, state: State) -> tuple[float, int]:
    """What the leader's evaluation has changed, on all ranks."""
    if ranks.world == 1:
        return state.best, state.stale
    best, stale = ranks.from_leader([max(state.best, -1.0), state.stale])
    return (best if best >= 0 else -math.inf), stale


def _reached(config: LoopConfig, state: State) -> str | None:
    """Which end, other than that of the budget, the last evaluation brought."""
    if config.target_accuracy is not None and state.best >= config.target_accuracy:
        return "target"
    if config.patience is not None and state.stale >= config.patience:
        return "patience"
    return None


def _already(config: LoopConfig, state: State) -> str | None:
    """What had ended the training that left this checkpoint, if it had ended."""
    is_over = _progress(config, state) >= 1.0
    return _reached(config, state) or (_budget_name(config, state) if is_over else None)


def _short(parts: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in list(parts.items())[:4])
