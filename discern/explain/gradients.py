"""Gradients as an explanation: how much each pixel adds to the class."""

from __future__ import annotations

import torch
from torch import Tensor

from discern.explain.subject import Subject, blurred, to_cells

STEPS = 32


def integrated_gradients(subject: Subject, clip: Tensor, target: Tensor) -> Tensor:
    """What each cell adds to the class's logit, on the way from the blurred clip to the clip."""
    found = attributions(subject, clip, target).sum(dim=1)  # over channels
    return to_cells(found, subject.grid(clip)).clamp(min=0)


def attributions(
    subject: Subject, clip: Tensor, target: Tensor, base: Tensor | None = None, steps: int = STEPS
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, eq. 1), by the midpoints of equal steps.

    [B, C, T, H, W], int64 [B] -> [B, C, T, H, W]; an item's sum is the difference of its logits,
    up to the error of the sum.
    """
    base = blurred(clip) if base is None else base
    total = torch.zeros_like(clip)
    for step in range(steps):
        way = base + (step + 0.5) / steps * (clip - base)
        with torch.enable_grad():
            leaf = way.detach().requires_grad_()
            score = subject.logits(leaf).float().gather(1, target[:, None]).sum()
            (slope,) = torch.autograd.grad(score, leaf)
        total += slope
    return (clip - base) * total / steps
