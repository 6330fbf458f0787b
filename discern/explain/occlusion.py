"""Occlusion as an explanation: what the class loses without a part of the clip."""

from __future__ import annotations

import torch
from torch import Tensor

from discern.explain.subject import Subject, blurred, to_pixels

AT_ONCE = 64  # items in one pass


@torch.no_grad()
def occlusion(subject: Subject, clip: Tensor, target: Tensor) -> Tensor:
    """The fall of the class's logit when a cell and its neighbours are blurred.

    Zeiler and Fergus (2014), section 4.2, with windows of 3 x 3 cells at every cell: a single cell
    is soon guessed from those around it.
    """
    grid, base = subject.grid(clip), blurred(clip)
    full = subject.logits(clip).float().gather(1, target[:, None])[:, 0]
    t, h, w = grid
    windows = torch.zeros(t * h * w, t, h, w)
    for number in range(t * h * w):
        i, j, k = number // (h * w), number // w % h, number % w
        windows[number, i, max(0, j - 1) : j + 2, max(0, k - 1) : k + 2] = 1
    hidden = to_pixels(windows, tuple(clip.shape[2:])).bool().to(clip.device)  # type: ignore[arg-type]
    heat = torch.zeros(len(clip), t * h * w, device=clip.device)
    for item in range(len(clip)):
        for some in torch.arange(t * h * w).split(AT_ONCE):
            mask = hidden[some].unsqueeze(1)  # [n, 1, T, H, W]
            changed = torch.where(mask, base[item], clip[item])
            aim = target[item].expand(len(some))
            left = subject.logits(changed).float().gather(1, aim[:, None])[:, 0]
            heat[item, some.to(clip.device)] = full[item] - left
    return heat.clamp(min=0).unflatten(1, grid)
