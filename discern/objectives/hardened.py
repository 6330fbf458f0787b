"""Tuning that holds against small malicious changes: TRADES, and its fast one-step kin.

Sources: TRADES (Zhang et al. 2019, eq. 5), adversarial training (Madry et al. 2018), one step from
strong noise without clipping (N-FGSM, de Jorge et al. 2022), items without labels for the term of
smoothness, which needs none (Carmon et al. 2019; Zhai et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Batch
from discern.models.classifier import Classifier
from discern.objectives.invented import Inventor
from discern.objectives.objective import Losses, inference, ramp
from discern.objectives.supervised import Supervised, SupervisedConfig, View

UNIT = 2.0  # pixels of [0, 1], in which sizes are stated, are [-1, 1] in a model


@dataclass(frozen=True, kw_only=True)
class HardenConfig:
    """What the classifier shall withstand."""

    # trades: clean items, and the same answers after the worst change; worst: the worst change
    # alone, without the passes over clean items
    method: Literal["trades", "worst"] = "trades"
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 8 / 255  # of pixels in [0, 1]
    # of the search for the worst change; 1 starts from noise of twice the size (N-FGSM)
    attack_steps: int = 1
    beta: float = 4.0  # of trades: weight of the worst change against the clean accuracy
    grow: float = 0.3  # share of the training in which the changes grow to their full size


class Hardened(Supervised):
    """Cross-entropy on clean items, and the same answers wherever the worst small change leads.

    Items of label -1 teach the second alone.  Or cross-entropy after the worst change, where items
    of label -1 shall keep their own answer.
    """

    def __init__(
        self,
        config: SupervisedConfig,
        harden: HardenConfig,
        classifier: Classifier,
        view: View,
        inventor: Inventor | None = None,
    ) -> None:
        super().__init__(config, classifier, view, inventor)
        self.harden = harden

    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        assert phase == "classifier" and batch.label is not None
        known = int((batch.label >= 0).sum())
        assert (batch.label[:known] >= 0).all(), "labelled items come first"
        labelled = replace(batch, clip=batch.clip[:known], label=batch.label[:known], index=None)
        labelled = self._with_generated(labelled, rng)
        assert labelled.label is not None
        views = self.view(torch.cat([labelled.clip, batch.clip[known:]]), rng)
        clip, target = self._mix(views[:known], self._one_hot(labelled.label), rng)
        clip = torch.cat([clip, views[known:]])
        eps = UNIT * self.harden.eps * ramp(progress, 0.0, self.harden.grow)
        if self.harden.method == "worst":
            if known < len(clip):
                target = torch.cat([target, self._answer(clip[known:]).softmax(dim=1)])
            worst = self._worst(
                clip,
                lambda moved: F.cross_entropy(self.classifier(moved).float(), target),
                eps,
                rng,
            )
            return self._judged(self._logits(worst, progress), target)
        answer = self._answer(clip)
        worst = self._worst(
            clip, lambda moved: divergence(answer, self.classifier(moved).float()), eps, rng
        )
        clean, moved = self._logits(torch.cat([clip, worst]), progress).chunk(2)
        judged = self._judged(clean[:known], target)
        apart = divergence(clean, moved)
        right = (clean.argmax(1) == moved.argmax(1)).float().mean()
        parts = judged.parts | {"apart": apart.detach(), "held": right}
        return Losses(total=judged.total + self.harden.beta * apart, parts=parts)

    @torch.no_grad()
    def _answer(self, clip: Tensor) -> Tensor:
        """Clean logits, nothing dropped.  [B, K]"""
        with inference(self.classifier):
            return self.classifier(clip).float()

    def _worst(
        self, clip: Tensor, loss: Callable[[Tensor], Tensor], eps: float, rng: torch.Generator
    ) -> Tensor:
        """The clip, changed by at most `eps` so that the loss grows most."""
        with inference(self.classifier):  # dropped paths would hide where it is weak
            return worst_change(loss, clip.detach(), eps, self.harden, rng)


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(p || q) of two answers, mean over items.  [B, K] twice -> []"""
    one, other = logits.log_softmax(dim=1), others.log_softmax(dim=1)
    return F.kl_div(other, one, reduction="batchmean", log_target=True)


def worst_change(
    loss: Callable[[Tensor], Tensor],
    clip: Tensor,
    eps: float,
    config: HardenConfig,
    rng: torch.Generator,
) -> Tensor:
    """Climb the loss by signed or normalised gradients; one step, or several with projection.

    [B, C, T, H, W] in [-1, 1] -> the same, without a graph
    """
    if eps == 0:
        return clip
    single = config.attack_steps == 1
    noise = torch.rand(clip.shape, generator=rng, device=rng.device).to(clip.device) * 2 - 1
    if config.norm == "linf":
        start = noise * (2 * eps if single else eps)
    else:
        start = _direction(noise, "l2") * eps * (0.5 if single else 1e-2)
    size = eps if single else 2.5 * eps / config.attack_steps
    moved = (clip + start).clamp(-1, 1)
    for _ in range(config.attack_steps):
        leaf = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf), leaf)
        moved = moved + size * _direction(slope, config.norm)
        if not single:
            moved = clip + _projected(moved - clip, eps, config.norm)
        moved = moved.clamp(-1, 1)
    return moved.detach()


def _direction(slope: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return slope.sign()
    return slope / _length(slope).clamp(min=1e-12)


def _projected(change: Tensor, eps: float, norm: str) -> Tensor:
    if norm == "linf":
        return change.clamp(-eps, eps)
    return change * (eps / _length(change).clamp(min=1e-12)).clamp(max=1.0)


def _length(change: Tensor) -> Tensor:
    """[B, ...] -> [B, 1, ...]"""
    shape = (-1, *([1] * (change.ndim - 1)))
    return change.flatten(1).norm(dim=1).view(shape)
