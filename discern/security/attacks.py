"""The table of attacks, and how one is run over many items in batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discern.security.change import Ball, Logits
from discern.security.gradient import apgd_ce, apgd_dlr, fgsm, pgd
from discern.security.square import square

Attack = Callable[..., Tensor]  # (model, clip, label, ball, rng, steps) -> clip

ATTACKS: dict[str, Attack] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd_ce": apgd_ce,
    "apgd_dlr": apgd_dlr,
    "square": square,
}
STEPS = {"fgsm": 1, "pgd": 40, "apgd_ce": 100, "apgd_dlr": 100, "square": 5000}
BLACK_BOX = ("square",)
AT_ONCE = 64  # items


def run(
    name: str,
    model: Logits,
    clip: Tensor,
    label: Tensor,
    ball: Ball,
    *,
    seed: int,
    steps: int | None = None,
) -> Tensor:
    """Attack all items, those of one batch with random numbers of their own.  -> [N, C, T, H, W]"""
    found = []
    for number, first in enumerate(range(0, len(clip), AT_ONCE)):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
        some = slice(first, first + AT_ONCE)
        moved = ATTACKS[name](
            model, clip[some], label[some], ball, rng, STEPS[name] if steps is None else steps
        )
        found.append(moved)
    return torch.cat(found) if found else clip.clone()


@torch.no_grad()
def right(model: Logits, clip: Tensor, label: Tensor) -> Tensor:
    """Which items are named right.  -> bool [N]"""
    parts = [
        model(clip[first : first + AT_ONCE]).argmax(dim=1) == label[first : first + AT_ONCE]
        for first in range(0, len(clip), AT_ONCE)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)
