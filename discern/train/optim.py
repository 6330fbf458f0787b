"""A network in, its optimizer and schedule out: layer-wise rates, warm-up, cosine by progress."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discern.models.backbone import Backbone
from discern.models.stem import DeepStem
from discern.scale.ranks import is_divided
from discern.train.muon import Muon


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019), and Muon (Jordan et al. 2024) for an encoder's matrices."""

    rate: float = 1e-3  # peak learning rate
    # times the rate by which an encoder's matrices are turned; 0: AdamW for them too
    matrix_factor: float = 0.0
    matrix_momentum: float = 0.6
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warmup: float = 0.05  # share of the training
    final_rate: float = 0.01  # of the peak, at the end
    layer_decay: float = 1.0  # each layer below the head learns this much slower (BEiT)


def build_optimizer(player: nn.Module, config: OptimConfig) -> Muon:
    """One group per (depth, decays or not, turned or not); `rate_scale` is its layer-wise factor.

    Parameters that are divided over ranks have groups of their own.
    """
    depth_of, kept = _depths(player), _kept_lengths(player)
    groups: dict[tuple[int, bool, bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in player.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(
                ("mask_token", "class_token", "registers", "learned")
            )
            turned = config.matrix_factor > 0 and decays and parameter in depth_of
            kind = (depth_of.get(parameter, 0), decays, is_divided(parameter))
            groups.setdefault((*kind, turned, parameter in kept), []).append(parameter)
    return Muon(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decays else 0.0,
                "rate_scale": (config.matrix_factor if turned else 1.0) * config.layer_decay**depth,
                "turned": turned,
                "kept_length": turned and length,
                "momentum": config.matrix_momentum,
            }
            for (depth, decays, _, turned, length), parameters in sorted(
                groups.items(), key=lambda entry: entry[0]
            )
        ],
        lr=config.rate,
        betas=config.betas,
        fused=True,
    )


def set_rate(
    optimizer: torch.optim.Optimizer, config: OptimConfig, progress: float, scale: float = 1.0
) -> float:
    """Set the learning rates for a moment of the training; returns the peak group's rate."""
    if progress < config.warmup:
        factor = progress / config.warmup
    else:
        turn = (progress - config.warmup) / max(1e-9, 1 - config.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, turn)))
        factor = config.final_rate + (1 - config.final_rate) * cosine
    # the very first step must not have rate 0: it would be a step that changes nothing
    rate = config.rate * scale * max(factor, 1e-3)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_scale"]
    return rate


def _depths(player: nn.Module) -> dict[nn.Parameter, int]:
    """How many layers each encoder parameter lies below the head; all others lie at 0."""
    depths: dict[nn.Parameter, int] = {}
    for module in player.modules():
        if not isinstance(module, Backbone):
            continue
        layers = len(module.blocks)
        for parameter in module.parameters():
            depths[parameter] = layers + 1  # stem and positions
        for number, block in enumerate(module.blocks):
            for parameter in block.parameters():
                depths[parameter] = layers - number
        for parameter in module.norm.parameters():
            depths[parameter] = 0
    return depths


def _kept_lengths(player: nn.Module) -> set[Tensor]:
    """Convolutions that batch normalisation follows, which takes their length away again.

    The first one's too, with a GELU in between: it goes on meeting it at one scale.
    """
    stems = [one for one in player.modules() if isinstance(one, DeepStem)]
    convolutions = [one for stem in stems for one in stem.modules() if isinstance(one, nn.Conv2d)]
    return {one.weight for one in convolutions}
