"""Distances between real and generated items, against references and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel

from discern.evaluate.samples import frechet_distance, kernel_distance, sample_quality


def _features(count: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(width, width))
    return rng.normal(size=(count, width)) @ mixed + shift


def test_frechet_as_with_a_matrix_root_of_scipy() -> None:
    real, fake = _features(300, 12, 0), _features(200, 12, 1, shift=0.5)
    one, other = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = sqrtm(one @ other).real
    expected = np.square(real.mean(0) - fake.mean(0)).sum() + np.trace(one + other - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(real, real + 2) == pytest.approx(12 * 4)  # the same shape, elsewhere


def test_frechet_of_fewer_items_than_features() -> None:
    """Covariances without full rank, in 32 bits: finite, and not below 0."""
    few = _features(8, 40, 0).astype(np.float32)
    assert 0 <= frechet_distance(few, few) < 1e-3 * np.var(few)
    assert np.isfinite(frechet_distance(few, _features(9, 40, 1).astype(np.float32)))


def test_kernel_distance_as_with_the_kernel_of_scikit_learn() -> None:
    x, y = _features(60, 5, 0), _features(60, 5, 1)
    found, _ = kernel_distance(x, y, subsets=3, size=60)  # each subset holds them all
    xx, yy, xy = (polynomial_kernel(a, b, degree=3) for a, b in ((x, x), (y, y), (x, y)))
    n = 60
    expected = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (xx, yy)) - 2 * xy.mean()
    assert found == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_the_same_source_is_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(rng.normal(size=(80, 6)), rng.normal(size=(80, 6)), size=40)[0]
        for _ in range(40)
    ]
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found)) < 3 * error and min(found) < 0 < max(found)
    moved, spread = kernel_distance(rng.normal(size=(80, 6)), 1 + rng.normal(size=(80, 6)))
    assert moved > 10 * spread > 0


def test_few_items_leave_a_doubt() -> None:
    rng = np.random.default_rng(0)
    found = [kernel_distance(rng.normal(size=(30, 6)), rng.normal(size=(30, 6))) for _ in range(20)]
    spread = np.std([mean for mean, _ in found])
    # not the noise of sums in another order, as from subsets that all hold the same items
    assert all(0.05 * spread < error < spread for _, error in found)


def test_real_items_stand_beside_the_generated() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 100, (200, 1, 4, 4, 3), dtype=np.uint8)
    fake = rng.integers(60, 255, (100, 1, 4, 4, 3), dtype=np.uint8)

    def encode(frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1)[:, :10] / 255

    found = sample_quality(encode, real, fake)
    assert found["frechet"] > 5 * found["frechet_of_real"] > 0
    assert found["kernel"] > 20 * abs(found["kernel_of_real"])
    again = sample_quality(encode, real, real[:100])
    assert again["frechet"] == pytest.approx(0, abs=1e-9)  # copies of real items look perfect
