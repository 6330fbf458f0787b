"""Clips to patch tokens and back: tubelets, positions for any grid.

B batch  C channels  T frames  H, W pixels  N tokens  D width
A patch holds P = C * t * p * p numbers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

Grid = tuple[int, int, int]  # tokens in t, h, w


def fill_tubelets(clip: Tensor, tubelet: int) -> Tensor:
    """Repeat the last frame until `tubelet` divides T; an image becomes a still clip (OmniMAE).

    [B, C, T, H, W] -> [B, C, T', H, W]
    """
    missing = -clip.shape[2] % tubelet
    if missing == 0:
        return clip
    return torch.cat([clip, clip[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)


def grid_of(shape: torch.Size | tuple[int, ...], tubelet: int, patch: int) -> Grid:
    """The token grid of a clip of shape [B, C, T, H, W]."""
    _, _, frames, height, width = shape
    return (-(-frames // tubelet), height // patch, width // patch)


def patchify(clip: Tensor, tubelet: int, patch: int) -> Tensor:
    """[B, C, T, H, W] -> [B, N, P], tokens in order t, h, w and a patch in order C, t, p, p."""
    clip = fill_tubelets(clip, tubelet)
    B, C, T, H, W = clip.shape
    assert H % patch == 0 and W % patch == 0, (clip.shape, patch)
    t, h, w = T // tubelet, H // patch, W // patch
    x = clip.reshape(B, C, t, tubelet, h, patch, w, patch)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(B, t * h * w, -1)


def unpatchify(patches: Tensor, grid: Grid, tubelet: int, patch: int) -> Tensor:
    """The inverse of `patchify`.  [B, N, P] -> [B, C, t * tubelet, h * patch, w * patch]"""
    B, N, P = patches.shape
    t, h, w = grid
    C = P // (tubelet * patch * patch)
    x = patches.reshape(B, t, h, w, C, tubelet, patch, patch).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(B, C, t * tubelet, h * patch, w * patch)


def take_tokens(tokens: Tensor, keep: Tensor) -> Tensor:
    """The tokens named by `keep`.  [B, N, D], [B, M] -> [B, M, D]

    As a look-up of rows: on a CPU its two passes take a quarter of the time of a gather's, which
    moves single numbers.
    """
    B, N, _ = tokens.shape
    rows = keep + N * torch.arange(B, device=keep.device).unsqueeze(1)
    return nn.functional.embedding(rows, tokens.flatten(0, 1))


def positions(grid: Grid, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Separable sine-cosine positions: a quarter of the width for t, the rest shared by h and w.

    -> [N, D]
    """
    found = torch.from_numpy(_positions(grid, width))
    if torch.device(device).type != "cuda":
        return found.to(device)
    return found.pin_memory().to(device, non_blocking=True)  # so that nothing waits for it


# numbers and not a tensor: one that is made while a graph is traced is none of this process's
@lru_cache(maxsize=64)
def _positions(grid: Grid, width: int) -> np.ndarray:
    time_width = width // 4 // 2 * 2
    row_width = (width - time_width) // 4 * 2
    column_width = width - time_width - row_width
    t, h, w = (axis.ravel() for axis in np.meshgrid(*map(np.arange, grid), indexing="ij"))  # [N]
    parts = [_sincos(t, time_width), _sincos(h, row_width), _sincos(w, column_width)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _sincos(position: np.ndarray, width: int) -> np.ndarray:
    # "Attention is all you need", section 3.5; an odd width gets a last column of zeros
    half = width // 2
    rates = 10_000.0 ** (-np.arange(half) / max(half, 1))
    angles = position[:, None] * rates
    columns = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return np.pad(columns, ((0, 0), (0, width - columns.shape[1])))
