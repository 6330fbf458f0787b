"""Attacks that follow gradients: FGSM, PGD, APGD.

Sources: Goodfellow et al. 2015; Madry et al. 2018; Croce & Hein 2020 (APGD: algorithm 1, step
sizes by section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from discern.security.change import Ball, Logits, slope_of
from discern.security.losses import cross_entropy, dlr, targeted_dlr, targets_of

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [B, K], label [B] -> [B]
MOMENTUM, RISE = 0.75, 0.75
TARGETS = 9


def fgsm(
    model: Logits, clip: Tensor, label: Tensor, ball: Ball, rng: torch.Generator, steps: int = 1
) -> Tensor:
    """One step of full size."""
    _, slope, _ = slope_of(_climbing(model, label, cross_entropy), clip)
    return ball.into(clip + ball.radius * ball.uphill(slope), clip)


def pgd(
    model: Logits, clip: Tensor, label: Tensor, ball: Ball, rng: torch.Generator, steps: int = 40
) -> Tensor:
    """Steps of 2.5 eps / steps from a random start; the worst point on the way is kept."""
    climb = _climbing(model, label, cross_entropy)
    moved = ball.start(clip, rng)
    best, worst = clip.clone(), torch.full((len(clip),), -math.inf, device=clip.device)
    for _ in range(steps):
        losses, slope, _ = slope_of(climb, moved)
        best, worst = _keep(best, worst, moved, losses)
        moved = ball.into(moved + 2.5 * ball.radius / steps * ball.uphill(slope), clip)
    with torch.no_grad():
        losses, _ = climb(moved)
    return _keep(best, worst, moved, losses)[0]


def apgd_ce(
    model: Logits, clip: Tensor, label: Tensor, ball: Ball, rng: torch.Generator, steps: int = 100
) -> Tensor:
    """APGD on the cross-entropy."""
    return apgd(model, clip, label, ball, rng, steps, cross_entropy)


def apgd_dlr(
    model: Logits, clip: Tensor, label: Tensor, ball: Ball, rng: torch.Generator, steps: int = 100
) -> Tensor:
    """APGD on the difference of logits ratio, once for each of the nine likeliest other classes.

    Fewer than four classes have no targeted ratio: three take the untargeted one, two the
    cross-entropy.
    """
    with torch.no_grad():
        logits = model(clip).float()
    K = logits.shape[1]
    if K < 4:
        loss = dlr if K == 3 else cross_entropy
        return apgd(model, clip, label, ball, rng, steps, loss)
    moved = clip.clone()
    targets = targets_of(logits, label, min(TARGETS, K - 1))
    open_ = torch.arange(len(clip), device=clip.device)  # not yet taken for another class
    for column in range(targets.shape[1]):
        if not len(open_):
            break
        wanted = targets[open_, column]

        def loss_to(logits: Tensor, own: Tensor, wanted: Tensor = wanted) -> Tensor:
            return targeted_dlr(logits, own, wanted)

        found = apgd(model, clip[open_], label[open_], ball, rng, steps, loss_to)
        moved[open_] = found
        with torch.no_grad():
            fooled = model(found).argmax(dim=1) != label[open_]
        open_ = open_[~fooled]
    return moved


def apgd(
    model: Logits,
    clip: Tensor,
    label: Tensor,
    ball: Ball,
    rng: torch.Generator,
    steps: int,
    loss: Loss,
) -> Tensor:
    """Steps with momentum, halved at checkpoints where the loss no longer grows.

    A wrong answer is kept as soon as it is met, else the point of the highest loss.
    """
    climb = _climbing(model, label, loss)
    shape = (-1, *([1] * (clip.ndim - 1)))
    moved = ball.start(clip, rng)
    losses, slope, logits = slope_of(climb, moved)
    best, worst, best_slope = moved.clone(), losses.clone(), slope.clone()
    fooled = logits.argmax(dim=1) != label
    answer = moved.clone()
    size = torch.full((len(clip),), 2 * ball.radius, device=clip.device)
    before = moved.clone()
    checks = checkpoints(steps)
    rises = torch.zeros(len(clip), device=clip.device)
    size_then, worst_then = size.clone(), worst.clone()
    last = 0
    for step in range(1, steps + 1):
        ahead = ball.into(moved + size.view(shape) * ball.uphill(slope), clip)
        share = MOMENTUM if step > 1 else 1.0
        pulled = moved + share * (ahead - moved) + (1 - share) * (moved - before)
        before, moved = moved, ball.into(pulled, clip)
        found, slope, logits = slope_of(climb, moved)
        wrong = logits.argmax(dim=1) != label
        answer = torch.where((wrong & ~fooled).view(shape), moved, answer)
        fooled = fooled | wrong
        rises = rises + (found > losses)
        better = found > worst
        best = torch.where(better.view(shape), moved, best)
        best_slope = torch.where(better.view(shape), slope, best_slope)
        worst, losses = torch.where(better, found, worst), found
        if step in checks:
            stuck = rises < RISE * (step - last)
            same = (size_then == size) & (worst_then == worst)
            halve = stuck | same
            size_then, worst_then = size.clone(), worst.clone()
            size = torch.where(halve, size / 2, size)
            # from the best point on, where the step was too long
            moved = torch.where(halve.view(shape), best, moved)
            before = torch.where(halve.view(shape), best, before)
            slope = torch.where(halve.view(shape), best_slope, slope)
            losses = torch.where(halve, worst, losses)
            rises, last = torch.zeros_like(rises), step
    return torch.where(fooled.view(shape), answer, best)


def checkpoints(steps: int) -> set[int]:
    """Where step sizes are judged (Croce & Hein 2020, section 3.2)."""
    shares, found = [0.0, 0.22], set()
    while shares[-1] <= 1.0:
        found.add(math.ceil(round(shares[-1] * steps, 6)))
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return found


def _climbing(
    model: Logits, label: Tensor, loss: Loss
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def climb(moved: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(moved).float()
        return loss(logits, label), logits

    return climb


def _keep(best: Tensor, worst: Tensor, moved: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    better = losses > worst
    shape = (-1, *([1] * (best.ndim - 1)))
    return torch.where(better.view(shape), moved, best), torch.where(better, losses, worst)
