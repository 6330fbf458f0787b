"""The generator: noise, and the visible tokens if there are any, to a clip.

(tokens [B, M, D] at `keep` [B, M], or none at all), noise [B, Z] -> clip [B, C, T, H, W] in [-1, 1]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discern.models.backbone import BackboneConfig
from discern.models.blocks import NORM_EPS, Block, init_linear, stream
from discern.models.norm import LayerNorm
from discern.models.tokens import Grid, positions, unpatchify

# Tokens share a large common part, so a step of Adam moves all of a pixel's weights alike: without
# the gain pixels swing about from step to step, and short trainings end noisy.  With centred places
# trials without it were no better.
OUTPUT_GAIN = 0.25
TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A light decoder: in-painting leans on the encoder, so that most of the work is shared."""

    width: int = 96
    depth: int = 2
    heads: int = 3
    noise: int = 32
    classes: int = 0  # > 0: class-conditional, label -1 means any
    # what all places have in common is taken away from them, and they get unit variance: else what
    # is alike in all tokens rules, and short trainings paint every patch alike.  Recipes ask for
    # it; models that were stored before say nothing of it, and know their places as they were
    centred: bool = False


class Generator(nn.Module):
    """MAE's decoder (He et al. 2022), each block modulated by noise (ViTGAN, Lee et al. 2022).

    With visible tokens it paints the hidden patches in; without them it draws the whole clip from
    noise.
    """

    def __init__(self, config: GeneratorConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.tubelet, self.patch, self.channels = (
            backbone.tubelet,
            backbone.patch,
            backbone.channels,
        )
        self.embed = nn.Linear(backbone.width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.noise_token = nn.Linear(config.noise, config.width)
        self.modulate = nn.ModuleList(
            nn.Linear(config.width, 2 * config.width) for _ in range(config.depth)
        )
        self.labels = nn.Embedding(config.classes + 1, config.width) if config.classes else None
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, layer_scale=None) for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=NORM_EPS)
        self.to_patch = nn.Linear(config.width, self.channels * self.tubelet * self.patch**2)
        # smooths the seams between patches, which would otherwise give every fake away
        self.seam = nn.Conv3d(self.channels, self.channels, (1, 3, 3), padding=(0, 1, 1))
        self.init_weights()

    def init_weights(self) -> None:
        self.apply(init_linear)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.normal_(self.to_patch.weight, std=0.02)
        nn.init.zeros_(self.seam.weight)
        assert self.seam.bias is not None
        nn.init.zeros_(self.seam.bias)
        nn.init.normal_(self.noise_token.weight, std=self.config.noise**-0.5)

    def draw_noise(self, count: int, rng: torch.Generator) -> Tensor:
        """Standard normal noise.  -> [B, Z]"""
        device = self.mask_token.device
        return torch.randn(count, self.config.noise, generator=rng, device=rng.device).to(device)

    def forward(
        self,
        noise: Tensor,
        shape: tuple[int, int, int],
        tokens: Tensor | None = None,
        keep: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw clips of `shape` (T, H, W).  T = 1 draws images.

        noise [B, Z], tokens [B, M, D] seen at keep [B, M], label [B] -> [B, C, T, H, W]
        """
        T, H, W = shape
        grid: Grid = (-(-T // self.tubelet), H // self.patch, W // self.patch)
        style = self.noise_token(noise).unsqueeze(1)  # [B, 1, d]
        if self.labels is not None:
            known = torch.full_like(noise[:, 0], -1, dtype=torch.long) if label is None else label
            style = style + self.labels(known % (self.config.classes + 1)).unsqueeze(1)
        x = self._canvas(len(noise), grid, tokens, keep)  # [B, N, d]
        x = torch.cat([style.to(x.dtype), x], dim=1)
        x = stream(x)
        for block, modulate in zip(self.blocks, self.modulate, strict=True):
            x = block(x, modulate(nn.functional.silu(style)))
        patches = OUTPUT_GAIN * self.to_patch(self.norm(x[:, 1:]))  # [B, N, P]
        clip = unpatchify(patches.float(), grid, self.tubelet, self.patch)
        clip = clip + self.seam(clip)
        # an image is a still clip: its copies in the tubelet are averaged back into one frame
        return clip.mean(dim=2, keepdim=True) if T == 1 else clip[:, :, :T]

    def _places(self, grid: Grid) -> Tensor:
        """-> [N, d]"""
        place = positions(grid, self.config.width, self.mask_token.device)
        if not self.config.centred:
            return place
        own = place - place.mean(dim=0)
        return own / own.square().mean().sqrt().clamp(min=TINY)  # of a single token nothing is left

    def _canvas(self, count: int, grid: Grid, tokens: Tensor | None, keep: Tensor | None) -> Tensor:
        place = self._places(grid)
        hidden = (self.mask_token + place).expand(count, -1, -1)
        if tokens is None or keep is None:
            return hidden
        seen = self.embed(tokens) + place[keep]  # [B, M, d]
        where = keep.unsqueeze(-1).expand(-1, -1, seen.shape[-1])
        return hidden.to(seen.dtype).scatter(1, where, seen)
