"""The head between features and a contrast, which is thrown away after pre-training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.models.blocks import init_linear


class BatchStandardize(nn.Module):
    """Zero mean and unit deviation over the batch, without learned or running numbers.

    [B, D] -> [B, D]

    Early features all point the same way; without this step in the head (not in the encoder) a
    contrast needs hundreds of steps to leave the plateau at log B.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return (x - x.mean(dim=0)) * torch.rsqrt(x.var(dim=0, unbiased=False) + 1e-4)


def projection_head(width: int, out: int) -> nn.Sequential:
    """The projector of SimCLR and MoCo v3, with batch statistics only.  [B, D] -> [B, Q]"""
    layers = (
        nn.Linear(width, 2 * out),
        BatchStandardize(),
        nn.GELU(),
        nn.Linear(2 * out, out),
        BatchStandardize(),
    )
    return nn.Sequential(*layers).apply(init_linear)
