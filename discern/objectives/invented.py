"""A frozen generator that makes items while a classifier is tuned: classes in, items out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from discern.models.coder import Coder
from discern.models.generator import Generator


class Inventor(nn.Module):
    """Items of a class, or of none in particular, from copies that learn nothing more."""

    def __init__(self, generator: Generator, coder: Coder | None) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()
        self.coder = None if coder is None else copy.deepcopy(coder).requires_grad_(False).eval()

    @torch.no_grad()
    def anything(self, like: Tensor, rng: torch.Generator) -> Tensor:
        """As many items from noise.  uint8 [B, C, T, H, W] -> the same"""
        return self._made(self.generator.draw_noise(len(like), rng), like)

    @torch.no_grad()
    def of(self, label: Tensor, like: Tensor, rng: torch.Generator) -> Tensor:
        """Items of these classes.  [B], uint8 [B, C, T, H, W] -> the same"""
        assert self.coder is not None
        return self._made(self.coder.draw(label, rng), like)

    def _made(self, code: Tensor, like: Tensor) -> Tensor:
        drawn = self.generator(code, tuple(like.shape[2:])).clamp(-1, 1)
        return ((drawn + 1) * 127.5).round().to(like.dtype)
