"""Verdicts of the two players in, losses out; a gradient penalty, contrast, signs of health."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def relativistic(winner: Tensor, loser: Tensor) -> Tensor:
    """Relativistic pairing loss softplus(-(winner - loser)).  [B], [B] -> []

    Jolicoeur-Martineau 2019; R3GAN (Huang et al. 2024), eq. 2.
    """
    return F.softplus(loser - winner).mean()


def finite_difference_penalty(
    score: Callable[[Tensor], Tensor], clip: Tensor, sigma: float, rng: torch.Generator
) -> Tensor:
    """An estimate of |d score / d clip|^2 by one random step of length `sigma`.

    APT (Lin et al. 2025), GAT (2025).
    E[((s(x + sigma e) - s(x)) / sigma)^2] = |grad s|^2 + O(sigma^2).  It needs no second
    derivative, so fused attention, bf16 and compile go on working.  clip [B, C, T, H, W] -> []
    """
    noise = torch.randn(clip.shape, generator=rng, device=rng.device).to(clip.device)
    both = score(torch.cat([clip, clip + sigma * noise]))  # one pass: [2 B]
    here, there = both.chunk(2)
    return ((there - here) / sigma).square().mean()


def contrast(views: Tensor, temperature: float) -> Tensor:
    """InfoNCE between all pairs of views of the same items (SimCLR, Chen et al. 2020).

    With more than two views each pair stands against the views of other items only, as in SupCon
    (Khosla et al. 2020) without its rivalry among positives.  [V, B, D] -> []
    """
    V, B, _ = views.shape
    every = F.normalize(views.float(), dim=2).flatten(0, 1)  # [V B, D]
    item = torch.arange(B, device=views.device).repeat(V)
    same = item.unsqueeze(0) == item.unsqueeze(1)  # [V B, V B]
    similar = every @ every.T / temperature
    others = similar.masked_fill(same, float("-inf")).logsumexp(dim=1, keepdim=True)
    itself = torch.eye(V * B, dtype=torch.bool, device=views.device)
    # a product and not a look-up: a GPU would have to wait until it knows how many there are
    return (F.softplus(others - similar) * (same & ~itself)).sum() / (V * B * (V - 1))


def contrast_teacher(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """InfoNCE of a student's view against a teacher's other views (MoCo v3, Chen et al. 2021).

    [B, D], [B, D] -> []
    """
    student, teacher = F.normalize(student.float(), dim=1), F.normalize(teacher.float(), dim=1)
    target = torch.arange(len(student), device=student.device)
    return F.cross_entropy(student @ teacher.T / temperature, target)


@torch.no_grad()
def patch_accuracy(logits: Tensor, real: Tensor) -> Tensor:
    """How often the patch head is right, real and fake weighing alike.

    [B, N], bool [B, N] -> [], 0 to 1
    """
    right = (logits > 0) == real
    counts = torch.stack([real.sum(), (~real).sum()])
    rates = torch.stack([(right & real).sum(), (right & ~real).sum()]) / counts.clamp(min=1)
    return rates.sum() / (counts > 0).sum()


@torch.no_grad()
def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """Spread of the fakes over the batch against that of the real ones; near 0 is a collapse."""
    if len(fake) < 2:
        return torch.ones((), device=fake.device)  # one item has no spread
    spread = fake.float().flatten(1).std(dim=0).mean()
    return spread / real.float().flatten(1).std(dim=0).mean().clamp(min=1e-6)
