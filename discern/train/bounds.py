"""Settings that no run can have: a configuration in, the same out, or an error that names one.

Types are checked where a configuration is read; here are the numbers: first what holds for all of
them, then by name, then what must fit together.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from discern.errors import ConfigError
from discern.scale.precision import Precision
from discern.train.settings import RunConfig

COUNTS = {  # name -> the most that is not a slip
    "attack_steps": 100,
    "width": 16384,
    "height": 16384,
    "depth": 256,
    "heads": 256,
    "tubelet": 64,
    "patch": 1024,
    "poolings": 10,
    "frames": 1024,
    "stored_frames": 4096,
    "hidden": 16384,
    "noise": 4096,
    "projection": 4096,
    "views": 64,
    "batch_size": 10**6,
    "micro_batches": 4096,
    "clip_batch_size": 10**6,
    "threads": 1024,
    "steps": 10**9,
    "patience": 10**9,
    "evaluations": 10**6,
    "saves": 10**6,
    "neighbours": 10**6,
    "bank": 10**6,
    "folds": 1000,
}
POSITIVE = {
    "rate",
    "temperature",
    "minutes",
    "save_minutes",
    "mlp_ratio",
    "clip_norm",
    "ratio",
    "unlabelled_ratio",
    "eps",
}
SHARES = {
    "grow",
    "light_chance",
    *("flip", "grey", "colour_chance", "geometry_chance", "solarize", "posterize", "erase"),
    *("backdrop", "margin", "evaluation_share", "gaussian_noise"),
    *("erase_area", "translate", "hue", "block_chance", "reconstruction_share", "mix_chance"),
    *("adversary_start", "adversary_share", "adversary_chance", "code_share", "code_chance"),
    *(
        "reconstruction_chance",
        "noise_share",
        "penalty_share",
        "opening",
        "start",
        "threshold",
        "alignment",
    ),
    *(
        "generated",
        "fake_share",
        "freeze_encoder",
        "hide_until",
        "warmup",
        "final_rate",
        "allowed_bad",
        "memory_share",
        "target_accuracy",
    ),
}
PARTS = {  # a whole one would leave nothing
    *(
        "drop_path",
        "hide",
        "mask_ratio",
        "clip_mask_ratio",
        "opened_mask_ratio",
        "ema_decay",
        "label_smoothing",
        "betas",
        "matrix_momentum",
    ),
    *("clip_share", "false_alarms", "merge"),
}
REMAINDERS = {"scale", "adversary_keep", "layer_decay", "window"}  # 0 would leave nothing
TUNING = {"supervised", "semi", "hardened"}  # objectives
RANGES = {"scale", "ratio", "erase_area"}  # from, to


def within_bounds(config: RunConfig, *, pretraining: bool) -> RunConfig:
    """The configuration as it is.  Raises ConfigError for the first setting that cannot be."""
    values = dataclasses.asdict(config)
    for path, value in _numbers(values):
        fault = _fault(path.rpartition(".")[2], value)
        if fault:
            raise ConfigError(f"setting {path}: {value} {fault}")
    for path, pair in _ranges(values):
        if pair[0] > pair[1]:
            first = "write the smaller one first"
            raise ConfigError(f"setting {path}: {list(pair)} runs backwards: {first}")
    _refuse_misfits(config)
    if (config.objective in TUNING) == pretraining:
        verb, other = ("pretrain", "train") if pretraining else ("train", "pretrain")
        raise ConfigError(
            f"setting objective: {config.objective} is not for `discern {verb}`: "
            f"use `discern {other}`, or leave it out"
        )
    return config


def _fault(name: str, value: float) -> str | None:
    """What is wrong with the number of this name."""
    if not math.isfinite(value):
        return "is no number to work with"
    if value < 0:
        return "must be 0 or more"
    if name in COUNTS and not 1 <= value <= COUNTS[name]:
        return f"must be 1 to {COUNTS[name]}"
    if name in POSITIVE and value == 0:
        return "must be more than 0"
    if name in SHARES and value > 1:
        return "must be a share, 0 to 1"
    if name in PARTS and value >= 1:
        return "must be a share below 1"
    if name in REMAINDERS and not 0 < value <= 1:
        return "must be a share above 0"
    return None


def _refuse_misfits(config: RunConfig) -> None:
    for name, part in (("backbone", config.backbone), ("generator", config.generator)):
        if part.width % part.heads:
            raise ConfigError(
                f"setting {name}.heads: width {part.width} does not divide into {part.heads} heads"
            )
    if config.masked_gan.view > 0 and config.masked_gan.views < 2:
        raise ConfigError(
            f"setting masked_gan.views: {config.masked_gan.views} has nothing to be compared with: "
            "2 or more, or masked_gan.view=0"
        )
    looks_at_all = config.objective == "hardened" or config.supervised.places
    if config.supervised.hide > 0 and looks_at_all:
        raise ConfigError(
            "setting supervised.hide: hardened trainings and classifiers of places look at all "
            "tokens: set it 0"
        )
    if config.backbone.channels != 3:
        raise ConfigError(f"setting backbone.channels: {config.backbone.channels}: pictures have 3")
    for side in ("height", "width"):
        pixels, patch = getattr(config.data.preprocess, side), config.backbone.patch
        if pixels % patch:
            near = max(patch, round(pixels / patch) * patch)
            raise ConfigError(
                f"setting data.preprocess.{side}: {pixels} is no multiple of the patch ({patch}): "
                f"for example {near}"
            )
    if config.data.val + config.data.test >= 1:
        raise ConfigError(
            f"setting data.val: {config.data.val} and data.test, {config.data.test}, are shares of "
            "the same items: together less than 1"
        )
    try:
        re.compile(config.data.group_by or "")
    except re.error as error:
        raise ConfigError(
            f"setting data.group_by: {config.data.group_by!r} is not a regular expression: {error}"
        ) from None
    if config.precision not in ("auto", *Precision):
        names = ", ".join(["auto", *Precision])
        raise ConfigError(f"setting precision: {config.precision}: there are {names}")
    _refuse_missing_device(config.device)


def _refuse_missing_device(name: str) -> None:
    if name == "auto":
        return
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = "unknown"
    here = {"cpu": True, "cuda": torch.cuda.is_available()}
    if not here.get(kind, False):
        names = ", ".join(["auto", *(known for known, is_here in here.items() if is_here)])
        raise ConfigError(f"setting device: {name} is not here: there are {names}")


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Each number by its path; those of a list have the path of the list."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield path, number


def _ranges(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Sequence[float]]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _ranges(value, f"{prefix}{name}.")
        elif name in RANGES:
            yield f"{prefix}{name}", value
