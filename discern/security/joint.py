"""An attack on classifier and guard together: the answer shall be wrong, and look known.

A guard that was only asked about attacks on the classifier says little about those who know of it
(Carlini & Wagner 2017; Tramer et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discern.security.change import Ball, slope_of
from discern.security.losses import margin

Parts = Callable[[Tensor], tuple[Tensor, Tensor]]  # clip -> logits [B, K], strangeness [B]
STEPS = 60
AHEAD = 1.0  # once the wrong class leads by this, only looking known counts


def joint(
    parts: Parts,
    clip: Tensor,
    label: Tensor,
    ball: Ball,
    rng: torch.Generator,
    steps: int = STEPS,
) -> Tensor:
    """PGD on the lead of a wrong class less the strangeness, of which 1 is the guard's threshold.

    Kept is, of the points with a wrong answer, the one that looks most known.
    """
    shape = (-1, *([1] * (clip.ndim - 1)))

    def climb(moved: Tensor) -> tuple[Tensor, Tensor]:
        logits, strange = parts(moved)
        lead, far = margin(logits.float(), label), strange.float()
        return lead.clamp(max=AHEAD) - far, torch.stack([lead, far], dim=1)

    moved = ball.start(clip, rng)
    best = moved.clone()
    nearest = torch.full((len(clip),), float("inf"), device=clip.device)
    furthest_lead = torch.full((len(clip),), -float("inf"), device=clip.device)
    for step in range(steps + 1):
        _, slope, both = slope_of(climb, moved)
        lead, far = both.unbind(dim=1)
        wrong = lead > 0
        # until an answer is wrong, the point nearest to that is kept
        closer = torch.where(
            wrong, far < nearest, (nearest == float("inf")) & (lead > furthest_lead)
        )
        best = torch.where(closer.view(shape), moved, best)
        nearest = torch.where(closer & wrong, far, nearest)
        furthest_lead = torch.maximum(furthest_lead, lead)
        if step < steps:
            size = 2.5 * ball.radius / steps
            moved = ball.into(moved + size * ball.uphill(slope), clip)
    return best
