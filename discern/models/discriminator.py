"""The discriminator: clip -> a verdict on each patch and on the whole, from one shared encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from discern.models.backbone import Backbone, Features
from discern.models.blocks import init_linear


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The heads, and which of them teach the encoder: those that read its features undetached."""

    hidden: int = 128
    # a head on detached features cannot spoil them: ContraD (Jeong & Shin 2021), Projected GAN
    # (Sauer et al. 2021)
    detach_global: bool = True
    detach_patch: bool = False


class Verdict(NamedTuple):
    """Logits: above zero means real."""

    patch: Tensor  # [B, N]
    whole: Tensor  # [B]
    features: Features


class Discriminator(nn.Module):
    """A backbone, a linear head per patch (ELECTRA, GAN-MAE) and a two-layer one on the whole.

    A generator learns through a head only undetached: its gradient must reach the pixels.
    """

    def __init__(self, config: DiscriminatorConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        width = backbone.config.width
        self.patch_head = nn.Linear(width, 1)
        self.global_head = nn.Sequential(
            nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, 1)
        )
        self.patch_head.apply(init_linear)
        self.global_head.apply(init_linear)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Verdict:
        """Judge a clip, or only the tokens named by `keep` [B, M].  [B, C, T, H, W] -> Verdict"""
        features = self.backbone(clip, keep)
        patch = self.judge_patches(features.tokens, detach=self.config.detach_patch)
        whole = self.judge_whole(features.pooled, detach=self.config.detach_global)
        return Verdict(patch, whole, features)

    def judge_patches(self, tokens: Tensor, *, detach: bool) -> Tensor:
        """The verdict on each patch.  [B, N, D] -> [B, N]"""
        return self.patch_head(tokens.detach() if detach else tokens).squeeze(-1).float()

    def judge_whole(self, pooled: Tensor, *, detach: bool) -> Tensor:
        """The verdict on the whole.  [B, D] -> [B]"""
        return self.global_head(pooled.detach() if detach else pooled).squeeze(-1).float()
