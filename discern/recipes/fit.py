"""`--size auto`: the largest encoder that this machine can teach in the minutes that there are.

An encoder that takes too few steps has learned less than a smaller one that took enough, so each
size is tried for a step, from the smallest on, until one would not take enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from discern import config as configuration
from discern.clip import Batch, Kind
from discern.data.items import Source
from discern.errors import UsageError
from discern.models.backbone import SIZES, BackboneConfig
from discern.recipes.images import sized
from discern.report.records import read_object
from discern.scale.precision import autocast, choose_precision
from discern.threads import choose_threads, set_threads
from discern.train.build import build_objective
from discern.train.loop import step_rng
from discern.train.run import choose_device
from discern.train.settings import RunConfig

AUTO = "auto"
ENOUGH = {True: 1500, False: 600}  # steps of a pre-training, and of a tuning
CLIPS = 16  # of a trial, where there are clips alone

# in the same minutes those with a deep stem learned more than `pico`, `nano` and `small`
NEVER_CHOSEN = {"pico", "nano", "micro", "tiny", "small"}
Timer = Callable[[RunConfig, Kind], float]  # seconds of one step
Shape = Callable[[RunConfig], RunConfig]  # canvas and patch for a source


def fitted(
    config: RunConfig,
    shape: Shape,
    source: Source,
    out: Path,
    minutes: float | None,
    *,
    pretraining: bool,
) -> RunConfig:
    """The configuration, shaped, with the size that fits; that of an unfinished run is kept.

    Raises UsageError where there are no minutes to fit it to.
    """
    kept = _kept(out)
    if kept is not None:
        return replace(shape(config), backbone=kept)
    if minutes is None:
        raise UsageError("--size auto: give --minutes, which decide what can be learned")
    kind = Kind.IMAGE if any(i.kind is Kind.IMAGE for i in source.items) else Kind.CLIP
    tried = partial(_tried, config, shape)
    return tried(chosen(tried, kind, minutes, ENOUGH[pretraining], seconds_per_step))


def chosen(
    tried: Callable[[str], RunConfig], kind: Kind, minutes: float, enough: int, timer: Timer
) -> str:
    """The largest size that takes `enough` steps in the minutes; the smallest where none does."""
    best, *others = (name for name in SIZES if name not in NEVER_CHOSEN)
    for name in (best, *others):
        try:
            seconds = timer(tried(name), kind)
        except (RuntimeError, MemoryError):  # it does not fit the memory
            break
        if seconds * enough > 60 * minutes:
            break
        best = name
    return best


def seconds_per_step(config: RunConfig, kind: Kind) -> float:
    """Time of one step on made-up items, after one that pays for what is loaded and compiled."""
    device = choose_device(config.device)
    set_threads(choose_threads(config.threads))
    precision = choose_precision(config.precision, device)
    objective = build_objective(config, None, 2).to(device).train()
    size, loader = config.data.preprocess, config.data.loader
    frames = 1 if kind is Kind.IMAGE else size.frames
    count = loader.batch_size if kind is Kind.IMAGE else loader.clip_batch_size or CLIPS
    shape = (count, 3, frames, size.height, size.width)
    rng = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
    batch = Batch(clip=clip, label=torch.arange(count) % 2).to(device)
    taken = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for phase in objective.players:
            with autocast(precision, device):
                losses = objective.loss(phase, batch, step_rng(0, 0, device), 0.5)
            losses.total.backward()
        objective.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
    return taken


def _tried(config: RunConfig, shape: Shape, name: str) -> RunConfig:
    return shape(sized(config, name))


def _kept(out: Path) -> BackboneConfig | None:
    """The encoder of a run that was begun here; a broken one is told when it is opened."""
    settings = read_object(out / "config.json").get("settings")
    try:
        return configuration.from_dict(BackboneConfig, settings["backbone"]) if settings else None
    except (KeyError, TypeError, UsageError):
        return None
