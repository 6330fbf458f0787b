"""How faithful an explanation is: heat in, what the class loses and gains by it out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from discern.explain.subject import Subject, blurred, to_pixels

STEPS = 16


class Faithfulness(NamedTuple):
    """Areas under two curves of the class's probability."""

    deletion: Tensor  # [B], the hottest cells go first: smaller is better
    insertion: Tensor  # [B], the hottest cells come first: larger is better


@torch.no_grad()
def faithfulness(
    subject: Subject, clip: Tensor, target: Tensor, heat: Tensor, steps: int = STEPS
) -> Faithfulness:
    """Deletion and insertion (Petsiuk et al. 2018, section 3.3), from and to the blurred clip.

    [B, C, T, H, W], int64 [B], [B, t, h, w]
    """
    base, shape = blurred(clip), tuple(clip.shape[2:])
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).view_as(heat)  # 0 is the hottest
    count = rank[0].numel()
    steps = min(steps, count)
    deleted, inserted = [], []
    for step in range(steps + 1):
        hot = to_pixels(rank < round(count * step / steps), shape).unsqueeze(1)  # type: ignore[arg-type]
        deleted.append(subject.chance(torch.where(hot, base, clip), target))
        inserted.append(subject.chance(torch.where(hot, clip, base), target))
    areas = [torch.trapezoid(torch.stack(one), dim=0) / steps for one in (deleted, inserted)]
    return Faithfulness(*areas)
