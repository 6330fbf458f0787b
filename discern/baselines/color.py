"""Colour histograms: images [N, H, W, 3] go in, one row of features per image comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ColorConfig:
    """How colours are counted."""

    hues: int = 8
    saturations: int = 4
    values: int = 4
    grid: int = 2  # one histogram for the whole image and one for each of grid x grid parts


def color_histogram(frames: np.ndarray, config: ColorConfig | None = None) -> np.ndarray:
    """Joint histograms of hue, saturation and value, of the image and its parts.

    uint8 [N, H, W, 3] -> float32 [N, F]
    """
    assert frames.ndim == 4 and frames.shape[-1] == 3, frames.shape
    config = config or ColorConfig()
    count, height, width = frames.shape[:3]
    bins = config.hues * config.saturations * config.values
    codes = _color_codes(frames, config)  # [N, H, W]
    rows = np.arange(height) * config.grid // height
    columns = np.arange(width) * config.grid // width
    part = rows[:, None] * config.grid + columns  # [H, W]
    image = np.arange(count)[:, None, None]
    parts = config.grid**2
    flat = (image * parts + part) * bins + codes
    histograms = np.bincount(flat.ravel(), minlength=count * parts * bins)
    histograms = histograms.reshape(count, parts, bins).astype(np.float32)
    histograms = np.concatenate([histograms.sum(1, keepdims=True), histograms], axis=1)
    histograms = histograms / np.maximum(histograms.sum(-1, keepdims=True), 1)
    # the root turns Euclidean distance into Hellinger's, which suits histograms better
    return np.sqrt(histograms).reshape(count, -1)


def _color_codes(frames: np.ndarray, config: ColorConfig) -> np.ndarray:
    """The bin of each pixel in hue x saturation x value.  [N, H, W, 3] -> int [N, H, W]"""
    pixels = frames.astype(np.float32) / 255
    red, green, blue = np.moveaxis(pixels, -1, 0)
    value = pixels.max(-1)
    spread = value - pixels.min(-1)
    safe = np.where(spread > 0, spread, 1)
    hue = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue / 6 % 1
    saturation = spread / np.where(value > 0, value, 1)
    code = _bin(hue, config.hues)
    code = code * config.saturations + _bin(saturation, config.saturations)
    return code * config.values + _bin(value, config.values)


def _bin(values: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((values * bins).astype(np.intp), bins - 1)
