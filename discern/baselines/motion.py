"""Motion features: clips [N, T, H, W, 3] go in, one row of features per clip comes out.

Looks (HOG of every frame), change (HOG of frame differences) and flow (what moves where, and when).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from discern.baselines.shape import (
    HogConfig,
    direction_votes,
    grid_weights,
    hog,
    hog_of_grey,
    shrink,
)

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Optical flow by Lucas and Kanade (1981), coarse to fine, and its histograms."""

    side: int = 64  # frames with a longer side are averaged down to it
    window: float = 2.0  # pixels: deviation of the Gaussian window in which one motion is sought
    levels: int = 3  # halvings of size, for motions of several pixels a frame
    rounds: int = 3  # corrections on each level
    directions: int = 8
    grid: int = 4  # histograms over grid x grid parts of the frame ...
    thirds: int = 3  # ... and over parts of the clip's time
    still: float = 0.25  # pixels a frame: below it, a vote goes to "no motion"


def motion_hog(clips: np.ndarray) -> np.ndarray:
    """Mean and deviation over the frames of their HOG.  uint8 [N, T, H, W, 3] -> float32 [N, F]"""
    count, frames = clips.shape[:2]
    each = hog(clips.reshape(-1, *clips.shape[2:])).reshape(count, frames, -1)
    return np.concatenate([each.mean(1), each.std(1)], axis=1)


def motion_difference(clips: np.ndarray) -> np.ndarray:
    """Mean and deviation of the HOG of what changed between frames.  [N, T, H, W, 3] -> [N, F]"""
    grey = grey_frames(clips, HogConfig().side)  # [N, T, h, w]
    change = np.abs(np.diff(_at_least_two(grey), axis=1))
    count, steps = change.shape[:2]
    each = hog_of_grey(change.reshape(-1, *change.shape[2:])).reshape(count, steps, -1)
    return np.concatenate([each.mean(1), each.std(1)], axis=1)


def motion_flow(clips: np.ndarray, config: FlowConfig | None = None) -> np.ndarray:
    """Histograms of directions of motion, by place and time.  [N, T, H, W, 3] -> [N, F]"""
    config = config or FlowConfig()
    return np.stack([_flow_histograms(clip[None], config) for clip in clips])


def grey_frames(clips: np.ndarray, side: int) -> np.ndarray:
    """Luma in [0, 1], the longer side at most `side`.  [N, T, H, W, 3] -> [N, T, h, w]"""
    grey = (clips.astype(np.float32) @ GREY)[..., None]
    return shrink(grey, side)[..., 0] / 255


def optical_flow(
    before: np.ndarray, after: np.ndarray, config: FlowConfig | None = None
) -> np.ndarray:
    """Motion (down, right) in pixels between frames.  2 x [N, H, W] -> float32 [2, N, H, W]"""
    config = config or FlowConfig()
    pyramid = [(_smooth(before.astype(np.float32), 0.7), _smooth(after.astype(np.float32), 0.7))]
    while len(pyramid) < config.levels and min(pyramid[-1][0].shape[1:]) >= 16:
        pyramid.append((_halve(pyramid[-1][0]), _halve(pyramid[-1][1])))
    flow = np.zeros((2, *pyramid[-1][0].shape), np.float32)
    for first, second in reversed(pyramid):
        flow = _enlarge(flow, first.shape[1:])
        flow = _refine(flow, first, second, config)
    return flow


def _flow_histograms(clip: np.ndarray, config: FlowConfig) -> np.ndarray:
    """[1, T, H, W, 3] -> [F]"""
    grey = _at_least_two(grey_frames(clip, config.side))[0]  # [T, h, w]
    down, right = optical_flow(grey[:-1], grey[1:], config)  # [T - 1, h, w]
    steps, height, width = down.shape
    speed = np.hypot(down, right)
    angle = np.arctan2(down, right) / (2 * np.pi) % 1
    moving = direction_votes(angle, np.where(speed >= config.still, speed, 0), config.directions)
    # a still pixel counts like one that moves at the threshold
    still = np.where(speed < config.still, config.still, 0)[..., None]
    votes = np.concatenate([moving, still.astype(np.float32)], axis=-1)  # [T - 1, h, w, b]
    rows = grid_weights(height, config.grid)
    columns = grid_weights(width, config.grid)
    times = grid_weights(steps, config.thirds)
    cells = np.einsum("at,bh,cw,thwd->abcd", times, rows, columns, votes, optimize=True)
    shares = cells / np.maximum(cells.sum(-1, keepdims=True), 1e-6)
    speeds = np.einsum("at,bh,cw,thw->abc", times, rows, columns, speed, optimize=True)
    weights = times.sum(1)[:, None, None] * rows.sum(1)[:, None] * columns.sum(1)
    mean_speed = np.log1p(speeds / np.maximum(weights, 1e-6))
    return np.concatenate([np.sqrt(shares).ravel(), mean_speed.ravel()]).astype(np.float32)


def _refine(
    flow: np.ndarray, before: np.ndarray, after: np.ndarray, config: FlowConfig
) -> np.ndarray:
    """Corrections of the flow on one level of the pyramid."""
    down, right = np.gradient(before, axis=(1, 2))
    # the 2 x 2 system of each window, by its least squares; epsilon keeps flat windows still
    epsilon = 1e-5
    a, b, c = (_smooth(x, config.window) for x in (down * down, down * right, right * right))
    determinant = (a + epsilon) * (c + epsilon) - b * b
    for _ in range(config.rounds):
        error = before - _warp(after, flow)
        p, q = _smooth(down * error, config.window), _smooth(right * error, config.window)
        step = np.stack([(c + epsilon) * p - b * q, (a + epsilon) * q - b * p]) / determinant
        flow = flow + np.clip(step, -1, 1)  # a larger step than a pixel is beyond the linear model
    return flow


def _warp(frames: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The frame seen where the flow points, bilinear; beyond the rim the rim repeats.  [N, H, W]"""
    count, height, width = frames.shape
    y = np.clip(np.arange(height, dtype=np.float32)[:, None] + flow[0], 0, height - 1)
    x = np.clip(np.arange(width, dtype=np.float32) + flow[1], 0, width - 1)
    top = np.minimum(y.astype(np.intp), height - 2)
    left = np.minimum(x.astype(np.intp), width - 2)
    fall, side = y - top, x - left
    start = (np.arange(count)[:, None, None] * height + top) * width + left
    flat = frames.ravel()
    upper = flat[start] * (1 - side) + flat[start + 1] * side
    lower = flat[start + width] * (1 - side) + flat[start + width + 1] * side
    return upper * (1 - fall) + lower * fall


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian means in space; two matrix products are faster here than a filter.  [..., H, W]"""
    height, width = values.shape[-2:]
    return _gaussian(height, sigma) @ values @ _gaussian(width, sigma).T


@functools.lru_cache(maxsize=64)
def _gaussian(length: int, sigma: float) -> np.ndarray:
    """float32 [length, length], rows sum to one, so that the rim stays as bright as the rest"""
    distance = np.subtract.outer(np.arange(length), np.arange(length)) / sigma
    weights = np.where(np.abs(distance) <= 3, np.exp(-0.5 * distance**2), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _halve(frames: np.ndarray) -> np.ndarray:
    """Half the size, by means of 2 x 2; an odd last row or column repeats.  [N, H, W]"""
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2)), "edge")
    return (
        frames[:, ::2, ::2] + frames[:, 1::2, ::2] + frames[:, ::2, 1::2] + frames[:, 1::2, 1::2]
    ) / 4


def _enlarge(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The flow of a coarser level on a finer one, where motions are longer.  -> [2, N, H, W]"""
    if flow.shape[2:] == shape:
        return flow
    return 2 * flow.repeat(2, axis=2).repeat(2, axis=3)[:, :, : shape[0], : shape[1]]


def _at_least_two(frames: np.ndarray) -> np.ndarray:
    """A clip of one frame stands still.  [N, T, ...]"""
    return frames if frames.shape[1] > 1 else frames.repeat(2, axis=1)
