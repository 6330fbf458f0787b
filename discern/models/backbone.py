"""The one encoder for images and clips.

clip [B, C, T, H, W] -> Features(tokens [B, N, D], pooled [B, D], early (Tensor, ...))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from discern.errors import ConfigError
from discern.models.blocks import NORM_EPS, Block, init_linear, stream
from discern.models.edges import edges
from discern.models.merge import Merged
from discern.models.norm import LayerNorm
from discern.models.stem import ConvStem, DeepStem, FrameStem, PatchStem
from discern.models.tokens import grid_of, positions


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The encoder's shape.  The defaults are `hybrid`."""

    width: int = 128
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 4.0
    channels: int = 3
    # edges say nothing of light and colour: faces in hard light
    sees: Literal["pixels", "edges"] = "pixels"
    tubelet: int = 2  # frames in a patch; an image repeats its frame to fill one
    patch: int = 8  # pixels, both ways
    stem: Literal["deep", "conv", "mlp", "linear"] = "deep"
    poolings: int = 3  # of the stem `deep`; with two it is cheap beside many blocks
    flow: bool = False  # the convolutional stem also looks at the optical flow of clips
    positions: Literal["sincos", "learned"] = "sincos"
    learned_grid: tuple[int, int, int] | None = None  # that positions were learned on
    class_token: bool = False
    registers: int = 0  # further tokens without a place (Darcet et al. 2024)
    pool: Literal["mean", "class"] = "mean"
    qk_norm: bool = True
    layer_scale: float | None = 0.1
    drop_path: float = 0.0
    norm_eps: float = NORM_EPS
    merge: float = 0.0  # share of the tokens that blocks merge with others, in use and not training


# timm's names and widths from `tiny` on, so that speed compares like for like
SIZES: dict[str, dict[str, Any]] = {
    # a small convolutional network before few blocks learns most in minutes: answers of the first
    # cost least of all, and the last is for a GPU
    "hybrid_pico": {
        "width": 64,
        "depth": 1,
        "heads": 2,
        "patch": 8,
        "stem": "deep",
        "poolings": 2,
    },
    "hybrid": {"width": 128, "depth": 2, "heads": 4, "patch": 8, "stem": "deep"},
    "hybrid_small": {"width": 384, "depth": 4, "heads": 6, "patch": 8, "stem": "deep"},
    # a quarter of the tokens of the next one
    "pico": {"width": 96, "depth": 4, "heads": 3, "patch": 8, "stem": "conv"},
    "nano": {"width": 128, "depth": 4, "heads": 4, "patch": 4, "stem": "conv"},
    "micro": {"width": 192, "depth": 6, "heads": 3, "patch": 4, "stem": "conv"},
    "tiny": {"width": 192, "depth": 12, "heads": 3, "patch": 4, "stem": "conv"},
    "small": {"width": 384, "depth": 12, "heads": 6, "patch": 4, "stem": "conv"},
    "base": {"width": 768, "depth": 12, "heads": 12, "patch": 4, "stem": "conv"},
    "large": {"width": 1024, "depth": 24, "heads": 16, "patch": 4, "stem": "conv"},
}
FRAME_STEMS = ("deep", "conv")
STILL = 1e-6  # added to the variance of a channel, of which some are the same everywhere


class Features(NamedTuple):
    """What the encoder saw: one vector per token, one for the whole clip, and what it saw early."""

    tokens: Tensor  # [B, N, D]
    pooled: Tensor  # [B, D]
    # [B, N, D], the tokens before places and blocks; of a deep stem two maps [B T, C, h, w] in it
    early: tuple[Tensor, ...]


class Backbone(nn.Module):
    """A pre-norm Vision Transformer (Dosovitskiy et al. 2021) over tubelets (Arnab et al. 2021)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ConfigError(f"width {config.width} does not divide into {config.heads} heads")
        if config.sees == "edges" and config.channels != 3:
            raise ConfigError(f"edges have 3 channels, not {config.channels}")
        if config.flow and config.stem not in FRAME_STEMS:
            names = " or ".join(FRAME_STEMS)
            raise ConfigError(
                f"flow needs the stem {names}, not {config.stem}: set backbone.flow=false"
            )
        self.config = config
        self.recompute = False  # blocks are computed again for the gradient instead of kept
        self.stem = _stem(config)
        self.class_token = (
            nn.Parameter(torch.zeros(1, 1, config.width)) if config.class_token else None
        )
        self.registers = (
            nn.Parameter(torch.zeros(1, config.registers, config.width))
            if config.registers
            else None
        )
        self.learned = self._learned_positions()
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                mlp_ratio=config.mlp_ratio,
                qk_norm=config.qk_norm,
                layer_scale=config.layer_scale,
                drop_path=rate,
                norm_eps=config.norm_eps,
            )
            for rate in rates
        )
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.init_weights()

    def init_weights(self) -> None:
        self.apply(init_linear)
        for drawn in (self.class_token, self.registers, self.learned):
            if drawn is not None:
                nn.init.trunc_normal_(drawn, std=0.02)

    def grid(self, clip: Tensor) -> tuple[int, int, int]:
        """The token grid (t, h, w) of a clip.

        Raises ConfigError when the frame is not a whole number of patches.
        """
        height, width = clip.shape[-2:]
        if height % self.config.patch or width % self.config.patch:
            raise ConfigError(
                f"frame of {height} x {width} is not a multiple of patch {self.config.patch}: "
                f"pick a size such as {height - height % self.config.patch}"
            )
        return grid_of(clip.shape, self.config.tubelet, self.config.patch)

    def patches(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """The tokens before places and blocks, all or those named by `keep`.  -> [B, N or M, D]"""
        return self._before(clip, keep)[0]

    def early(self, clip: Tensor) -> tuple[Tensor, ...]:
        """What `Features.early` is, without the blocks."""
        return self._before(clip)[1]

    @property
    def early_width(self) -> int:
        """How many numbers `looks` makes of what it saw early."""
        if isinstance(self.stem, DeepStem):
            return 2 * self.stem.early_channels
        return self.config.width

    def _before(
        self, clip: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The tokens before places and blocks, and what `Features.early` is."""
        seen = edges(clip) if self.config.sees == "edges" else clip
        if isinstance(self.stem, PatchStem):
            tokens = self.stem(seen, keep)
            return tokens, (tokens,)
        tokens, early = self.stem.seen(seen, keep)
        return tokens, early or (tokens,)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Features:
        """Encode all tokens, or those named by `keep` [B, M]; the others cost a stem at most."""
        place = self._positions(self.grid(clip), clip.device)  # [N, D]
        stem, early = self._before(clip, keep)
        x = stem + (place if keep is None else place[keep])
        first = self._first_tokens()
        if first:
            x = torch.cat([*(token.expand(len(x), -1, -1) for token in first), x], dim=1)
        x = stream(x)
        merged = self._merged(stem.shape[1]) if keep is None else None
        for block in self.blocks:
            if merged is not None:
                x = block(x, merged=merged)
            elif self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        x = self.norm(x)
        tokens = x[:, self._first :]
        if merged is not None:
            tokens = merged.apart(tokens)
        pooled = x[:, 0] if self.config.pool == "class" else tokens.mean(dim=1)
        return Features(tokens, pooled, early)

    @property
    def _first(self) -> int:
        """Tokens that stand before those of the patches."""
        return int(self.config.class_token) + self.config.registers

    def _merged(self, patches: int) -> Merged | None:
        """What merges tokens, where that is wanted; explanations look at each patch by itself."""
        explained = any(isinstance(one, Block) and one.attn.kept is not None for one in self.blocks)
        if self.config.merge <= 0 or self.training or explained:
            return None
        return Merged(patches, self._first, self.config.merge, len(self.blocks))

    def _learned_positions(self) -> nn.Parameter | None:
        if self.config.positions == "sincos":
            return None
        if self.config.learned_grid is None:
            raise ConfigError("learned positions need learned_grid, for example [1, 8, 8]")
        t, h, w = self.config.learned_grid
        extra = int(self.config.class_token)
        return nn.Parameter(torch.zeros(1, t * h * w + extra, self.config.width))

    def _positions(self, grid: tuple[int, int, int], device: torch.device) -> Tensor:
        """-> [N, D]"""
        if self.learned is None:
            return positions(grid, self.config.width, device)
        assert self.config.learned_grid is not None
        learned = self.learned[0, int(self.config.class_token) :]
        return regrid(learned, self.config.learned_grid, grid)

    def _first_tokens(self) -> list[Tensor]:
        """The tokens that stand before those of the patches.  [1, 1, D], [1, R, D]"""
        found = []
        if self.class_token is not None:
            place = 0.0 if self.learned is None else self.learned[:, :1]
            found.append(self.class_token + place)
        if self.registers is not None:
            found.append(self.registers)
        return found


def looks(early: tuple[Tensor, ...], items: int) -> Tensor:
    """What an encoder saw early of each of so many items, in few numbers side by side.

    The mean of tokens [B, N, D] -> [B, D]; of a map [B T, C, h, w] the means of its channels and
    the logarithms of their deviations -> [B, 2 C], which tell textures apart.
    """
    return torch.cat([_look(one, items) for one in early], dim=1)


def _look(early: Tensor, items: int) -> Tensor:
    if early.ndim == 3:
        return early.mean(dim=1).float()
    x = early.float().unflatten(0, (items, -1)).transpose(1, 2).flatten(2)  # [B, C, T h w]
    spread = (x - x.mean(dim=2, keepdim=True)).square().mean(dim=2)
    return torch.cat([x.mean(dim=2), (spread + STILL).log() / 2], dim=1)


def _stem(config: BackboneConfig) -> FrameStem | PatchStem:
    shape = (config.channels, config.tubelet, config.patch, config.width)
    if config.stem == "deep":
        return DeepStem(*shape, flow=config.flow, poolings=config.poolings)
    if config.stem == "conv":
        return ConvStem(*shape, flow=config.flow)
    return PatchStem(config.stem, *shape)


def regrid(learned: Tensor, grid: tuple[int, int, int], wanted: tuple[int, int, int]) -> Tensor:
    """Positions that were learned on one grid, on another: bicubic in a frame, linear over time.

    [t * h * w, D] -> [t' * h' * w', D].  As timm resamples them for other resolutions.
    """
    if grid == wanted:
        return learned
    place = learned.float().unflatten(0, grid).permute(0, 3, 1, 2)  # [t, D, h, w]
    if grid[1:] != wanted[1:]:
        place = nn.functional.interpolate(
            place, size=wanted[1:], mode="bicubic", align_corners=False, antialias=True
        )
    if grid[0] != wanted[0]:
        over_time = place.permute(2, 3, 1, 0).flatten(0, 1)  # [h' w', D, t]
        over_time = nn.functional.interpolate(
            over_time, size=wanted[0], mode="linear", align_corners=False
        )
        place = over_time.unflatten(0, wanted[1:]).permute(3, 2, 0, 1)
    return place.permute(0, 2, 3, 1).flatten(0, 2).to(learned.dtype)
