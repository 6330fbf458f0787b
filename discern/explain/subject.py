"""What is explained: clip [B, C, T, H, W] and class [B] in, heat of each cell [B, t, h, w] out.

A cell is the pixels of one token.  Heat is not negative; only its order within an item is defined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.models.backbone import Backbone
from discern.models.model import Model

Grid = tuple[int, int, int]  # cells in t, h, w


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A function clip -> logits, and how a clip falls into cells.

    `backbone` is the encoder inside it, where there is one: attention can be read from it.
    """

    logits: Callable[[Tensor], Tensor]  # float [B, C, T, H, W] -> [B, K]
    grid: Callable[[Tensor], Grid]
    backbone: Backbone | None = None
    several: bool = False  # classes do not exclude each other

    def chance(self, clip: Tensor, target: Tensor) -> Tensor:
        """Probability of the class.  [B, C, T, H, W], int64 [B] -> [B]"""
        logits = self.logits(clip).float()
        chances = logits.sigmoid() if self.several else logits.softmax(dim=1)
        return chances.gather(1, target[:, None])[:, 0]


def subject_of(model: Model, several: bool = False) -> Subject:
    """What the explainers look at in a model of ours."""
    backbone = model.backbone
    return Subject(logits=model, grid=backbone.grid, backbone=backbone, several=several)


def to_cells(pixels: Tensor, grid: Grid) -> Tensor:
    """Sums over the pixels of each cell.  [B, T, H, W] -> [B, t, h, w]"""
    B, T, H, W = pixels.shape
    t, h, w = grid
    frames = -(-T // t)
    if T % t:  # the last frame stands for those that are missing
        pixels = torch.cat([pixels, pixels[:, -1:].expand(-1, t * frames - T, -1, -1)], dim=1)
    return pixels.reshape(B, t, frames, h, H // h, w, W // w).sum(dim=(2, 4, 6))


def to_pixels(cells: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Each pixel gets what its cell has.  [B, t, h, w] -> [B, T, H, W]"""
    t, h, w = cells.shape[1:]
    T, H, W = shape
    frames = -(-T // t)
    cells = cells.repeat_interleave(frames, 1)[:, :T]
    return cells.repeat_interleave(H // h, 2).repeat_interleave(W // w, 3)


def blurred(clip: Tensor, cells: int = 8) -> Tensor:
    """The clip without what can be recognised: each frame from a few areas.

    [B, C, T, H, W] -> the same.  What is taken out of a clip is replaced by it: a grey patch would
    be a thing of its own to the model.
    """
    B, C, T, H, W = clip.shape
    frames = clip.transpose(1, 2).reshape(B * T, C, H, W)
    small = F.interpolate(frames, size=(-(-H // cells), -(-W // cells)), mode="area")
    wide = F.interpolate(small, size=(H, W), mode="bilinear", align_corners=False)
    return wide.reshape(B, T, C, H, W).transpose(1, 2)
