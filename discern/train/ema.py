"""Averaged networks: after each step every average moves a little towards its live network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from discern.models.batch_norm import norms_of
from discern.scale.divided import own_part


@torch.no_grad()
def update_averages(pairs: Iterable[tuple[nn.Module, nn.Module]], decay: float, step: int) -> None:
    """average <- decay * average + (1 - decay) * live.  Early steps average over what there is."""
    weight = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    for live, average in pairs:
        # an encoder that two players share occurs in both; each module names it once
        targets = list(map(own_part, average.parameters()))
        sources = list(map(own_part, live.parameters()))
        torch._foreach_lerp_(targets, sources, weight)
        own = {id(value) for norm in norms_of(average) for value in norm.buffers()}
        for target, source in zip(average.buffers(), live.buffers(), strict=True):
            if id(target) not in own:  # which it learns itself: `Objective.settle`
                target.copy_(source)
