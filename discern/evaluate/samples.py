"""How far generated items are from real ones: features of both in, distances out.

Features come from the model's own encoder, which moves while it trains: a distance says something
beside the one between two halves of the real items, in the same features, and little elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SUBSETS = 50  # of the kernel distance
MOST = 100  # items of a subset
Encode = Callable[[np.ndarray], np.ndarray]  # uint8 [N, T, H, W, 3] -> float [N, D]


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Between two Gaussians of these means and covariances (Heusel et al. 2017).

    [N, D], [M, D]; at least two of each.  |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)); with fewer
    items than features it is too large, for real items too.
    """
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    apart = np.square(real.mean(0) - fake.mean(0)).sum()
    one, other = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (real, fake))
    # the root's trace by the eigenvalues of a symmetric matrix, which stay real
    root = _root(one)
    values = np.linalg.eigvalsh(root @ other @ root).clip(0)
    distance = apart + np.trace(one) + np.trace(other) - 2 * np.sqrt(values).sum()
    return max(0.0, float(distance))


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    subsets: int = SUBSETS,
    size: int | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy under (x y / D + 1)^3, unbiased (Binkowski et al. 2018).

    [N, D], [M, D] -> mean over random subsets of at most `size` items, and its standard error.
    Near 0, on either side, for items alike.  By default a hundred items, and half of them where
    there are few: subsets that hold all of them are alike, and the error would be 0.
    """
    rng = np.random.default_rng(seed)
    fewest = min(len(real), len(fake))
    size = min(fewest, min(MOST, max(2, fewest // 2)) if size is None else size)
    found = []
    for _ in range(subsets):
        x = real[rng.permutation(len(real))[:size]].astype(np.float64)
        y = fake[rng.permutation(len(fake))[:size]].astype(np.float64)
        found.append(_discrepancy(x, y))
    return float(np.mean(found)), float(np.std(found, ddof=1) / subsets**0.5)


def sample_quality(encode: Encode, real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """Distances of generated items to half of the real ones, and of the other half to it.

    uint8 [2 N, T, H, W, 3], [N, T, H, W, 3]
    """
    features = encode(real)
    half = len(features) // 2
    bank, other, made = features[:half], features[half:], encode(fake)
    kernel, error = kernel_distance(bank, made)
    return {
        "frechet": frechet_distance(bank, made),
        "frechet_of_real": frechet_distance(bank, other),
        "kernel": kernel,
        "kernel_error": error,
        "kernel_of_real": kernel_distance(bank, other)[0],
    }


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance.  [D, D] -> [D, D]"""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """[n, D], [n, D]"""
    n = len(x)
    same = [_kernel(one, one) for one in (x, y)]
    within = sum((kernel.sum() - np.trace(kernel)) / (n * (n - 1)) for kernel in same)
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.power(x @ y.T / x.shape[1] + 1, 3)
