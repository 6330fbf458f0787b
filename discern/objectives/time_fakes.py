"""Clips whose time was altered: free fakes that force an encoder to look at motion.

Sources: shuffle and learn (Misra et al. 2016), the arrow of time (Wei et al. 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor

TIME_FAKES = ("real", "frozen", "shuffled", "reversed")


def fake_time(clip: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Alter the time of each clip in one of the ways of TIME_FAKES.

    [B, C, T, H, W] -> the same, int64 [B]
    """
    B, _, T = clip.shape[:3]
    what = torch.randint(len(TIME_FAKES), (B,), generator=rng, device=rng.device)
    order = torch.arange(T, device=rng.device).repeat(B, 1)  # [B, T]
    frozen = torch.randint(T, (B, 1), generator=rng, device=rng.device).expand(-1, T)
    shuffled = torch.rand(B, T, generator=rng, device=rng.device).argsort(1)
    for number, other in enumerate((order, frozen, shuffled, order.flip(1))):
        order = torch.where((what == number).unsqueeze(1), other, order)
    order = order.to(clip.device).view(B, 1, T, 1, 1).expand_as(clip)
    return clip.gather(2, order), what.to(clip.device)
