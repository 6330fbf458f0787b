"""Histograms of oriented gradients: images [N, H, W, 3] go in, features [N, F] come out.

The votes are spread over neighbouring cells and directions as in Dalal and Triggs (2005), which on
32 x 32 images is worth about 5 points over votes that go to one cell.  With nine unsigned
directions and `interpolate=False` the numbers are scikit-image's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK_PIXELS = 16_384  # images are taken in chunks of about so many pixels, which stay in the cache


@dataclass(frozen=True, kw_only=True)
class HogConfig:
    """How gradients are counted; chosen by cross-validation on CIFAR-10 and digits."""

    directions: int = 18  # bins of direction
    signed: bool = True  # a dark-to-bright edge and its reverse are two directions
    cell: int = (
        8  # pixels; smaller where the image is small, so that its shorter side has four cells
    )
    block: int = 2  # cells per side that share one contrast
    interpolate: bool = True  # a vote goes to the two nearest directions and the four nearest cells
    root: bool = False  # square root of the pixel values first, which evens out the light
    side: int = 64  # images with a longer side are averaged down to it


def hog(frames: np.ndarray, config: HogConfig | None = None) -> np.ndarray:
    """Histograms of oriented gradients.  uint8 [N, H, W, 3] -> float32 [N, F]"""
    assert frames.ndim == 4 and frames.shape[-1] == 3, frames.shape
    config = config or HogConfig()
    count = _chunk_size(frames.shape[1:3])
    return np.concatenate(
        [
            _hog_of_pixels(shrink(frames[start : start + count], config.side) / 255, config)
            for start in range(0, len(frames), count)
        ]
    )


def hog_of_grey(grey: np.ndarray, config: HogConfig | None = None) -> np.ndarray:
    """The same for one channel in [0, 1], such as frame differences.  [N, H, W] -> [N, F]"""
    config = config or HogConfig()
    pixels = grey[..., None].astype(np.float32)
    count = _chunk_size(grey.shape[1:3])
    return np.concatenate(
        [
            _hog_of_pixels(pixels[start : start + count], config)
            for start in range(0, len(pixels), count)
        ]
    )


def shrink(frames: np.ndarray, side: int) -> np.ndarray:
    """Area averages whose longer side is at most `side`.  [..., H, W, C] -> [..., h, w, C]"""
    height, width = frames.shape[-3:-1]
    scale = side / max(height, width)
    frames = frames.astype(np.float32)
    if scale >= 1:
        return frames
    rows = _area_weights(height, max(8, round(height * scale)))  # [h, H]
    columns = _area_weights(width, max(8, round(width * scale)))  # [w, W]
    frames = np.einsum("ah,...hwc->...awc", rows, frames, optimize=True)
    return np.einsum("bw,...awc->...abc", columns, frames, optimize=True)


def grid_weights(length: int, cells: int, smooth: bool = True) -> np.ndarray:
    """How much each pixel counts for each cell along one side.  -> float32 [cells, length]"""
    size = length / cells
    centres = (np.arange(cells) + 0.5) * size
    pixels = np.clip(
        np.arange(length) + 0.5, centres[0], centres[-1]
    )  # outer pixels have one cell only
    distance = np.abs(pixels[None] - centres[:, None]) / size
    if smooth:
        return np.clip(1 - distance, 0, None).astype(np.float32)
    return (np.arange(cells)[:, None] == (np.arange(length) / size).astype(int)[None]).astype(
        np.float32
    )


def direction_votes(
    angle: np.ndarray, weight: np.ndarray, bins: int, soft: bool = True
) -> np.ndarray:
    """Votes of each pixel; `angle` in turns, [0, 1).  [...], [...] -> float32 [..., bins]"""
    position = angle.ravel() * bins - (0.5 if soft else 0.0)
    below = np.floor(position)
    first = below.astype(np.intp)
    votes = np.zeros(angle.size * bins, np.float32)
    start = np.arange(0, votes.size, bins)
    if soft:
        share = (position - below) * weight.ravel()  # of the direction above
        votes[start + first % bins] = weight.ravel() - share
        votes[start + (first + 1) % bins] = share
    else:
        votes[start + first % bins] = weight.ravel()
    return votes.reshape(*angle.shape, bins)


def _chunk_size(shape: tuple[int, ...]) -> int:
    return max(1, CHUNK_PIXELS // (shape[0] * shape[1]))


def _hog_of_pixels(pixels: np.ndarray, config: HogConfig) -> np.ndarray:
    down, right, strength = _gradients(np.sqrt(pixels) if config.root else pixels)
    turn = 1.0 if config.signed else 0.5
    angle = np.arctan2(down, right) / (2 * np.pi) % turn / turn  # [N, H, W]
    height, width = angle.shape[1:]
    cell = min(config.cell, max(2, min(height, width) // 4))
    shape = [max(config.block, length // cell) for length in (height, width)]
    rows = grid_weights(height, shape[0], config.interpolate)
    columns = grid_weights(width, shape[1], config.interpolate)
    votes = direction_votes(angle, strength, config.directions, config.interpolate)
    votes = rows @ votes.reshape(len(votes), height, -1)  # [N, r, W * bins]
    cells = columns @ votes.reshape(len(votes), shape[0], width, -1)  # [N, r, c, bins]
    return _blocks(cells, config.block)


def _gradients(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Central differences in the strongest channel, zero on the rim.  -> 3 x [N, H, W]"""
    down, right = np.zeros_like(pixels), np.zeros_like(pixels)
    down[:, 1:-1] = pixels[:, 2:] - pixels[:, :-2]
    right[:, :, 1:-1] = pixels[:, :, 2:] - pixels[:, :, :-2]
    square = down * down + right * right
    best_down, best_right, best = down[..., 0], right[..., 0], square[..., 0]
    for channel in range(1, pixels.shape[-1]):
        better = square[..., channel] > best
        best_down = np.where(better, down[..., channel], best_down)
        best_right = np.where(better, right[..., channel], best_right)
        best = np.where(better, square[..., channel], best)
    return best_down, best_right, np.sqrt(best)


def _blocks(cells: np.ndarray, side: int, epsilon: float = 1e-5) -> np.ndarray:
    """Blocks of cells, normalized, clipped at 0.2, normalized (L2-Hys).  -> [N, F]"""
    rows, columns = cells.shape[1] - side + 1, cells.shape[2] - side + 1
    shifted = [cells[:, i : i + rows, j : j + columns] for i in range(side) for j in range(side)]
    blocks = np.concatenate(shifted, axis=-1)  # [N, rows, columns, side * side * b]
    for _ in range(2):
        blocks = blocks / np.sqrt((blocks * blocks).sum(-1, keepdims=True) + epsilon**2)
        blocks, clipped = np.minimum(blocks, 0.2), blocks
    return clipped.reshape(len(cells), -1)


def _area_weights(length: int, cells: int) -> np.ndarray:
    """Overlap of each old pixel with each new one; rows sum to one.  -> float32 [cells, length]"""
    edges = np.linspace(0, length, cells + 1)
    left, right = np.arange(length), np.arange(1, length + 1)
    overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
    return (np.clip(overlap, 0, None) / (length / cells)).astype(np.float32)
