"""One training, from a configuration and data to its outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch._functorch import config as graphs

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.data.loader import Loader
from discern.data.mixing import MixedLoader
from discern.errors import ConfigError
from discern.files import write_json
from discern.heap import keep_freed_memory
from discern.log import Run
from discern.models.backbone import Backbone
from discern.models.blocks import Block
from discern.objectives.objective import Objective
from discern.scale.divided import Divided
from discern.scale.precision import autocast, choose_precision
from discern.scale.ranks import Followed, current
from discern.threads import choose_decoders, choose_threads, set_threads
from discern.train.checkpoint import Saver
from discern.train.loop import Evaluate, LoopConfig, Outcome, fit
from discern.train.settings import RunConfig
from discern.train.signals import StopSignals
from discern.train.together import TogetherSaver


def train_objective(
    objective: Objective,
    sets: dict[Kind, ClipSet],
    config: RunConfig,
    run: Run,
    *,
    evaluate: Evaluate | None,
    report: Callable[[float, str], None],
    unlabelled: dict[Kind, ClipSet] | None = None,
) -> tuple[Outcome, str | None]:
    """Train to the end of the budget, from the run's checkpoint if it has one.

    `unlabelled` items come along in every batch.

    Returns the outcome, and the name of the signal that ended it, if one did.
    """
    if config.loop.minutes is None and config.loop.steps is None:
        raise ConfigError("no budget: give --minutes or --steps")
    device = choose_device(config.device)
    ranks = current()
    threads, precision = ranks.from_leader(
        _machine(run.out, config, device) if ranks.leads else None
    )
    set_threads(threads)
    keep_freed_memory()
    objective.to(device).train()
    divided = Divided(objective, ranks) if config.loop.divide and ranks.world > 1 else None
    saver: Saver | TogetherSaver = (
        Saver(run.checkpoints, background=True)
        if divided is None
        else TogetherSaver(run.checkpoints, ranks, objective)
    )
    saved = saver.load()
    run.rewind(saved[1]["step"] if saved else -1)
    loading = config.data.loader
    if loading.workers is None and device.type == "cuda":  # the cores have nothing else to do
        loading = replace(loading, workers=choose_decoders(ranks.world))
        config = replace(config, data=replace(config.data, loader=loading))
    loader = build_loader(sets, config, unlabelled, (ranks.rank, ranks.world))
    for module in objective.modules():
        if isinstance(module, Backbone):
            module.recompute = config.loop.recompute
    if config.loop.compile and device.type == "cuda":
        compile_blocks(objective)

    def judge() -> dict[str, float]:  # at the speed of training: what it takes is out of the budget
        assert evaluate is not None
        with autocast(precision, device):
            return evaluate()

    with StopSignals() as signals:
        outcome = fit(
            objective,
            loader,
            config.loop,
            config.optim,
            seed=config.seed,
            journal=run,
            keeper=saver,
            device=device,
            autocast=lambda: autocast(precision, device),
            stop_requested=lambda: signals.requested,
            evaluate=None if evaluate is None else judge,
            report=report,
            ranks=ranks,
        )
        saver.wait()
    if divided is not None:
        divided.gather()
    if not ranks.leads:
        raise Followed("the leader has the model")
    # of several ranks any may have got the signal
    stopped = "SIGTERM" if outcome.stopped_by == "signal" else None
    return outcome, signals.name or stopped


def compile_blocks(network: nn.Module) -> None:
    """The blocks that learn, each by itself: all of them share what is compiled for one.

    The adversary's step reads twice what they keep for the gradient: no memory of it may be used
    again in between.
    """
    graphs.donated_buffer = False
    for module in network.modules():
        if isinstance(module, Block) and module.norm1.weight.requires_grad:
            module.compile()


def wants_gpu(wanted: str) -> bool:
    """`auto` is the GPU where there is one."""
    return torch.cuda.is_available() if wanted == "auto" else wanted.startswith("cuda")


def choose_device(wanted: str) -> torch.device:
    """The device that a setting names."""
    if wanted == "auto":
        wanted = "cuda" if wants_gpu(wanted) else "cpu"
    device = torch.device(wanted)
    return current().device if device.type == "cuda" and current().world > 1 else device


def budgeted(
    loop: LoopConfig, minutes: float | None, steps: int | None, default: float
) -> LoopConfig:
    """The budget that the user gave; `default` minutes when none."""
    if minutes is None and steps is None and loop.minutes is None and loop.steps is None:
        return replace(loop, minutes=default)
    return replace(
        loop,
        minutes=minutes if minutes is not None else loop.minutes,
        steps=steps if steps is not None else loop.steps,
    )


def build_loader(
    sets: dict[Kind, ClipSet],
    config: RunConfig,
    unlabelled: dict[Kind, ClipSet] | None = None,
    part: tuple[int, int] = (0, 1),
) -> Loader | MixedLoader:
    """The batches of a run, in the order that its seed gives."""
    cost = _clip_cost(config)
    if unlabelled:
        return MixedLoader(
            sets,
            unlabelled,
            config.data.loader,
            ratio=config.semi.unlabelled_ratio,
            seed=config.seed,
            clip_tokens_per_image=cost,
            part=part,
        )
    loader = config.data.loader
    return Loader(sets, loader, seed=config.seed, clip_tokens_per_image=cost, part=part)


def _clip_cost(config: RunConfig) -> int:
    """Tokens of a clip against those of an image, as the encoder sees them in training."""
    cost = float(-(-config.data.preprocess.frames // config.backbone.tubelet))
    if config.objective == "masked_gan":
        weights = config.masked_gan
        cost *= (1 - weights.clip_mask_ratio) / max(1e-6, 1 - weights.mask_ratio)
    return max(1, round(cost))


def _machine(out: Path, config: RunConfig, device: torch.device) -> tuple[int, str]:
    """Threads and precision: chosen once and kept over resumes, since both change the last bits."""
    path = out / "machine.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return int(kept["threads"]), str(kept["precision"])
    threads = choose_threads(config.threads)
    set_threads(threads)
    precision = str(choose_precision(config.precision, device))
    write_json(path, {"threads": threads, "precision": precision, "device": str(device)})
    return threads, precision
