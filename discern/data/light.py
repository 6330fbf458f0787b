"""Light on a scene: batches lit anew for training, frames freed of uneven light."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# Tan & Triggs 2010, section III: gamma, inner and outer Gaussian in pixels, contrast equalization
GAMMA, INNER, OUTER = 0.2, 1.0, 2.0
ALPHA, LIMIT = 0.1, 10.0


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


def even_light(frame: np.ndarray) -> np.ndarray:
    """The texture of a frame without its light (Tan & Triggs 2010).

    A power law, a difference of Gaussians, and contrast brought to one scale.  uint8 [H, W, 3] ->
    uint8 [H, W, 3], all three channels alike
    """
    from scipy.ndimage import gaussian_filter  # takes half a second to import

    grey = (frame.astype(np.float64).mean(axis=2) / 255) ** GAMMA
    x = gaussian_filter(grey, INNER) - gaussian_filter(grey, OUTER)
    x = x / ((np.abs(x) ** ALPHA).mean() ** (1 / ALPHA) + 1e-9)
    x = x / ((np.minimum(np.abs(x), LIMIT) ** ALPHA).mean() ** (1 / ALPHA) + 1e-9)
    x = np.tanh(x / LIMIT)  # in (-1, 1)
    flat = np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.repeat(flat[..., None], 3, axis=2)
