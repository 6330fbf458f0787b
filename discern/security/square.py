"""The Square attack: answers alone, no gradients (Andriushchenko et al. 2020, algorithms 1, 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from discern.errors import UsageError
from discern.security.change import Ball, Logits
from discern.security.losses import margin

FIRST_SHARE = 0.8  # of the pixels that the first squares cover
# at these steps of 10,000 the share is halved (section 4.1)
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    model: Logits, clip: Tensor, label: Tensor, ball: Ball, rng: torch.Generator, steps: int = 5000
) -> Tensor:
    """Random squares of full change, kept where they help; of a clip in all frames alike.

    Raises UsageError for a norm other than linf.
    """
    if ball.norm != "linf":
        raise UsageError("square: the black-box attack is for linf")
    B, C, _, H, W = clip.shape
    stripes = _signs((B, C, 1, 1, W), rng).to(clip.device) * ball.radius
    moved = ball.into(clip + stripes, clip)
    with torch.no_grad():
        found = margin(model(moved).float(), label)
    open_ = torch.arange(B, device=clip.device)[found < 0]
    for step in range(1, steps):
        if not len(open_):
            break
        side = max(1, round((share_at(step, steps) * H * W) ** 0.5))
        side = min(side, H, W)
        tried = moved[open_].clone()
        top = torch.randint(H - side + 1, (len(open_),), generator=rng, device=rng.device).tolist()
        left = torch.randint(W - side + 1, (len(open_),), generator=rng, device=rng.device).tolist()
        signs = _signs((len(open_), C, 1, 1, 1), rng).to(clip.device) * ball.radius
        for place, (row, column) in enumerate(zip(top, left, strict=True)):
            where = (slice(None), slice(None), slice(row, row + side), slice(column, column + side))
            tried[place][where] = clip[open_[place]][where] + signs[place]
        tried = ball.into(tried, clip[open_])
        with torch.no_grad():
            now = margin(model(tried).float(), label[open_])
        better = now > found[open_]
        chosen = open_[better]
        moved[chosen], found[chosen] = tried[better], now[better]
        open_ = open_[found[open_] < 0]
    return moved


def share_at(step: int, steps: int) -> float:
    """The share of pixels that a square covers at a step."""
    place = step / steps * 10_000
    return FIRST_SHARE / 2.0 ** sum(place > at for at in HALVED_AT)


def _signs(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    drawn = torch.randint(2, shape, generator=rng, device=rng.device)
    return (drawn * 2 - 1).float()
