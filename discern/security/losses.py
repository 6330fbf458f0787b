"""What an attack climbs: logits and labels in, one number for each item out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """[B, K], [B] -> [B]"""
    return F.cross_entropy(logits.float(), label, reduction="none")


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """By how much the best other class is ahead; above 0 the answer is wrong.  -> [B]"""
    own = logits.gather(1, label[:, None])[:, 0]
    others = logits.scatter(1, label[:, None], float("-inf")).amax(dim=1)
    return others - own


def dlr(logits: Tensor, label: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, eq. 6): does not change with their scale.

    K >= 3.  [B, K], [B] -> [B]
    """
    ranked = logits.sort(dim=1, descending=True).values
    return margin(logits, label) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Its targeted form (Croce & Hein 2020, eq. 7).  K >= 4."""
    ranked = logits.sort(dim=1, descending=True).values
    own, wanted = (logits.gather(1, one[:, None])[:, 0] for one in (label, target))
    scale = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
    return (wanted - own) / (scale + 1e-12)


def targets_of(logits: Tensor, label: Tensor, count: int) -> Tensor:
    """The likeliest other classes, the likeliest first.  -> [B, count]"""
    masked = logits.scatter(1, label[:, None], float("-inf"))
    return torch.topk(masked, count, dim=1).indices
