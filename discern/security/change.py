"""Small changes of clips: norms, balls and the box of pixels, for attacks.

Sizes are those of pixels in [0, 1], as the field states them; clips are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]  # clip [B, C, T, H, W] in [-1, 1] -> [B, K]
Norm = Literal["linf", "l2"]
UNIT = 2.0  # [0, 1] in [-1, 1]
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Ball:
    """All changes of at most `eps`, of pixels in [0, 1]."""

    norm: Norm = "linf"
    eps: float = 8 / 255

    @property
    def radius(self) -> float:
        """The size in the unit of clips."""
        return UNIT * self.eps

    def into(self, moved: Tensor, clip: Tensor) -> Tensor:
        """The nearest point of the ball around `clip` and of the box of pixels."""
        if self.norm == "linf":
            low, high = clip - self.radius, clip + self.radius
            return torch.minimum(torch.maximum(moved, low), high).clamp(-1, 1)
        change = moved - clip
        shrink = (self.radius / lengths(change).clamp(min=TINY)).clamp(max=1.0)
        return (clip + change * shrink).clamp(-1, 1)

    def uphill(self, slope: Tensor) -> Tensor:
        """The step of size 1 along which the loss grows fastest."""
        if self.norm == "linf":
            return slope.sign()
        return slope / lengths(slope).clamp(min=TINY)

    def start(self, clip: Tensor, rng: torch.Generator) -> Tensor:
        """A random point on the ball's surface (AutoAttack's start)."""
        drawn = torch.rand(clip.shape, generator=rng, device=rng.device).to(clip.device) * 2 - 1
        if self.norm == "linf":
            most = drawn.flatten(1).abs().amax(dim=1).view(-1, *([1] * (clip.ndim - 1)))
            return (clip + self.radius * drawn / most).clamp(-1, 1)
        gauss = torch.randn(clip.shape, generator=rng, device=rng.device).to(clip.device)
        return (clip + self.radius * self.uphill(gauss)).clamp(-1, 1)

    def size_of(self, moved: Tensor, clip: Tensor) -> Tensor:
        """How large a change is, of pixels in [0, 1].  -> [B]"""
        change = (moved - clip).flatten(1) / UNIT
        return change.abs().amax(dim=1) if self.norm == "linf" else change.norm(dim=1)


def lengths(change: Tensor) -> Tensor:
    """Euclidean lengths.  [B, ...] -> [B, 1, ...]"""
    return change.flatten(1).norm(dim=1).view(-1, *([1] * (change.ndim - 1)))


def slope_of(
    loss: Callable[[Tensor], tuple[Tensor, Tensor]], clip: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a loss that returns `(losses [B], what they came of)`: both, the gradient between them."""
    leaf = clip.detach().requires_grad_()
    with torch.enable_grad():
        losses, logits = loss(leaf)
        (slope,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), slope, logits.detach()
