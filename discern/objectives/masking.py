"""What of an item the encoder sees: some of its tokens, or a window.

grid (t, h, w) -> keep [B, M], hidden [B, N - M]; a hidden token costs no block anything, and what
is outside a window costs nothing at all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from discern.models.tokens import Grid


class Mask(NamedTuple):
    """Token numbers, each token in exactly one of the two."""

    keep: Tensor  # int64 [B, M]
    hidden: Tensor  # int64 [B, N - M]


def random_mask(
    count: int,
    grid: Grid,
    ratio: float,
    rng: torch.Generator,
    *,
    block: int = 1,
    tube: bool = False,
    device: torch.device | str = "cpu",
) -> Mask:
    """Hide `ratio` of the tokens of each item, in squares of `block` tokens.

    A tube mask is the same in all frames.
    Tube masks (VideoMAE, Tong et al. 2022) leave no hidden patch to copy from the frame before.
    """
    t, h, w = grid
    steps = 1 if tube else t
    noise = torch.rand(
        count, steps, -(-h // block), -(-w // block), generator=rng, device=rng.device
    )
    if block > 1:
        noise = noise.repeat_interleave(block, 2).repeat_interleave(block, 3)[:, :, :h, :w]
        # within a block the order must not be the same for all items, or the cut would always fall
        # alike
        noise = noise + 1e-4 * torch.rand(noise.shape, generator=rng, device=rng.device)
    noise = noise.expand(count, t, h, w).to(device).reshape(count, -1)
    seen_per_step = max(1, round(h * w * (1 - ratio)))
    seen = seen_per_step * t if tube else max(1, round(t * h * w * (1 - ratio)))
    order = noise.reshape(count, t, h * w).argsort(2) if tube else noise.argsort(1)
    if tube:
        order = order + torch.arange(t, device=order.device).view(1, t, 1) * (h * w)
        keep = order[:, :, :seen_per_step].reshape(count, -1)
        hidden = order[:, :, seen_per_step:].reshape(count, -1)
        return Mask(keep, hidden)
    return Mask(order[:, :seen], order[:, seen:])


def window(clip: Tensor, share: float, patch: int, rng: torch.Generator) -> Tensor:
    """A random part of each item, of whole patches, `share` of each side, the same in all frames.

    [B, ..., H, W] -> [B, ..., h, w]
    """
    for axis in (-2, -1):
        side = clip.shape[axis]
        kept = max(1, round(share * side / patch)) * patch
        if kept < side:
            drawn = torch.randint(
                side - kept + 1, (len(clip), 1), generator=rng, device=rng.device
            ).to(clip.device)
            place = drawn + torch.arange(kept, device=clip.device)  # [B, kept]
            shape = [len(clip)] + [1] * (clip.ndim - 1)
            shape[axis] = kept
            clip = torch.take_along_dim(clip, place.view(shape), axis)
    return clip
