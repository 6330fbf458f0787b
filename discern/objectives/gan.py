"""Noise to clip: a Transformer generator against a Transformer discriminator that also learns.

Relativistic pairing loss with R1 and R2 (R3GAN, Huang et al. 2024), finite differences for the
penalty (GAT 2025), the same differentiable augmentation for real and fake (Zhao et al. 2020), and
contrastive learning on the real ones so that the discriminator's features mean something (ContraD,
Jeong & Shin 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discern.clip import Batch
from discern.data.augment import to_float
from discern.models.batch_norm import forgetting, restart
from discern.models.blocks import init_linear
from discern.models.discriminator import Discriminator, Verdict
from discern.models.generator import Generator
from discern.objectives.adversarial import (
    contrast,
    diversity,
    finite_difference_penalty,
    relativistic,
)
from discern.objectives.objective import Losses, Objective

View = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """Weights; `view` 0 is the pure GAN (recipe C), above it the ContraD-like one (recipe B)."""

    view: float = 1.0
    temperature: float = 0.1
    projection: int = 128
    penalty: float = 0.1  # gamma of R1 and R2
    penalty_sigma: float = 0.03
    penalty_share: float = 0.25
    feature_matching: float = 0.1  # distance of the mean features (Salimans et al. 2016)


class Gan(Objective):
    """Two phases on the same real batch: first the discriminator, then the generator."""

    adversary_scale: Tensor

    def __init__(
        self,
        config: GanConfig,
        discriminator: Discriminator,
        generator: Generator,
        view: View,
        alike: View,
    ) -> None:
        super().__init__()
        self.config = config
        self.discriminator, self.generator = discriminator, generator
        self.view, self.alike = view, alike  # `alike` augments real and fake before they are judged
        width = discriminator.backbone.config.width
        self.projector = nn.Sequential(
            nn.Linear(width, 2 * config.projection),
            nn.GELU(),
            nn.Linear(2 * config.projection, config.projection),
        ).apply(init_linear)
        self.register_buffer("adversary_scale", torch.ones(()))
        self.average = nn.ModuleList(
            copy.deepcopy(one).requires_grad_(False) for one in (discriminator, generator)
        )
        restart(self.average)
        self.averages = list(zip((discriminator, generator), self.average, strict=True))
        self.players = {
            "discriminator": nn.ModuleList([discriminator, self.projector]),
            "generator": generator,
        }

    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        real = self.alike(batch.clip, rng)
        if phase == "discriminator":
            return self._discriminator_loss(batch, real, rng)
        return self._generator_loss(batch, real, rng)

    def _discriminator_loss(self, batch: Batch, real: Tensor, rng: torch.Generator) -> Losses:
        config = self.config
        with torch.no_grad():
            drawn = self._draw(batch, rng)
            fake = self.alike(drawn, rng)
        on_real = self.discriminator(real)
        with forgetting(self.discriminator):
            on_fake = self.discriminator(fake)
        total = self.adversary_scale * relativistic(_score(on_real), _score(on_fake))
        parts = {
            "d_loss": total.detach(),
            "d_accuracy": (_score(on_real) > _score(on_fake)).float().mean(),
            # before they are augmented, which makes one fake many
            "diversity": diversity(drawn, to_float(batch.clip)),
        }
        if config.penalty > 0:
            some = max(1, round(len(real) * config.penalty_share))
            both = torch.cat([real[:some], fake[:some]])
            with forgetting(self.discriminator):
                penalty = finite_difference_penalty(
                    lambda clip: _score(self.discriminator(clip)), both, config.penalty_sigma, rng
                )
            total = (
                total + config.penalty * penalty
            )  # gamma / 2 for each of R1 and R2, mean over both
            parts["penalty"] = penalty.detach()
        if config.view > 0:
            other = self.discriminator.backbone(self.view(batch.clip, rng)).pooled
            views = torch.stack([on_real.features.pooled, other])
            view = contrast(self.projector(views), config.temperature)
            total, parts["view"] = total + config.view * view, view.detach()
        return Losses(total=total, parts=parts)

    def _generator_loss(self, batch: Batch, real: Tensor, rng: torch.Generator) -> Losses:
        config = self.config
        fake = self.alike(self._draw(batch, rng), rng)
        with forgetting(self.discriminator):
            with torch.no_grad():
                on_real = self.discriminator(real)
            # gradients reach the discriminator too; the loop steps this phase's player, then
            # clears all
            on_fake = self.discriminator(fake)
        whole = self.discriminator.judge_whole(on_fake.features.pooled, detach=False)
        total = relativistic(_score(on_fake._replace(whole=whole)), _score(on_real))
        parts = {"g_loss": total.detach()}
        if config.feature_matching > 0:
            apart = on_fake.features.pooled.mean(0) - on_real.features.pooled.mean(0)
            matching = apart.abs().mean()
            total, parts["matching"] = total + config.feature_matching * matching, matching.detach()
        return Losses(total=total, parts=parts)

    def _draw(self, batch: Batch, rng: torch.Generator) -> Tensor:
        noise = self.generator.draw_noise(len(batch.clip), rng)
        shape = tuple(batch.clip.shape[2:])
        return self.generator(noise, shape, label=batch.label).clamp(-1.2, 1.2)


def _score(verdict: Verdict) -> Tensor:
    """The mean of what the patches and the whole say.  -> [B]"""
    return verdict.whole + verdict.patch.mean(dim=1)
