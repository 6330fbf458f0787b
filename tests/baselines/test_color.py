"""Colour histograms."""

from __future__ import annotations

import numpy as np
import pytest

from discern.baselines.color import color_histogram


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (32, 32)])
def test_histograms_sum_to_one(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    histograms = color_histogram(frames).reshape(3, 5, 128) ** 2
    np.testing.assert_allclose(histograms.sum(-1), 1, rtol=1e-5)
    # the first histogram is of the whole image: the parts, by their size
    weights = [a * b for a in _halves(size[0]) for b in _halves(size[1])]
    whole = np.average(histograms[:, 1:], axis=1, weights=weights)
    np.testing.assert_allclose(histograms[:, 0], whole, atol=1e-6)


def test_hue_agrees_with_scikit_image() -> None:
    from skimage.color import rgb2hsv

    pixels = np.random.default_rng(0).integers(0, 256, (200, 1, 1, 3), np.uint8)
    found = (color_histogram(pixels).reshape(200, 5, 8, 4, 4)[:, 0]).reshape(200, -1).argmax(1)
    hue, saturation, value = np.moveaxis(rgb2hsv(pixels)[:, 0, 0], -1, 0)
    expected = [
        np.minimum((x * n).astype(int), n - 1) for x, n in ((hue, 8), (saturation, 4), (value, 4))
    ]
    same = found == (expected[0] * 4 + expected[1]) * 4 + expected[2]
    assert same.mean() > 0.98  # rounding at the edges of bins


def test_black_and_grey_have_no_hue() -> None:
    grey = np.full((1, 8, 8, 3), 100, np.uint8)
    assert np.isfinite(color_histogram(grey)).all()
    assert (color_histogram(grey) > 0).sum() == 5


def _halves(length: int) -> tuple[int, int]:
    first = (np.arange(length) * 2 // length == 0).sum()
    return int(first), int(length - first)
