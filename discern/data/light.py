"""Light on a scene: batches are lit anew for training."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class Draw(Protocol):
    """Random numbers for each item of a batch."""

    def uniform(self, low: float, high: float) -> Tensor: ...
    def chance(self, probability: float) -> Tensor: ...


def relight(x: Tensor, strength: float, chance: float, draw: Draw) -> Tensor:
    """Light each item from a side, and let a soft-edged shadow fall on it.

    The side away from the light and the shadow keep exp(-2 strength) of their light at the darkest.
    [B, C, T, H, W] in [-1, 1] -> the same
    """
    H, W = x.shape[-2:]
    rows = torch.linspace(-1, 1, H, device=x.device).view(1, H, 1)
    columns = torch.linspace(-1, 1, W, device=x.device).view(1, 1, W)

    def across() -> Tensor:
        """Places along a random direction, -1 to 1.  -> [B, H, W]"""
        angle = draw.uniform(0.0, 2 * math.pi).view(-1, 1, 1)
        return (angle.cos() * columns + angle.sin() * rows) / math.sqrt(2)

    on = draw.chance(chance).float().view(-1, 1, 1)
    fall = on * draw.uniform(0.0, strength).view(-1, 1, 1)
    shade = on * draw.uniform(0.0, strength).view(-1, 1, 1) * draw.chance(0.5).view(-1, 1, 1)
    edge = draw.uniform(-0.7, 0.7).view(-1, 1, 1)
    soft = draw.uniform(0.03, 0.3).view(-1, 1, 1)
    gain = torch.exp(-fall * (1 + across()) - 2 * shade * torch.sigmoid((across() - edge) / soft))
    return (x + 1) * gain[:, None, None].to(x.dtype) - 1
