"""Calibration: logits and labels of validation items go in; a temperature, and bins, come out."""

from __future__ import annotations

import numpy as np

from discern.evaluate.metrics import ECE_BINS, bin_of

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
PRIOR = 1.0  # weight of the prior in items
HALVINGS = 60


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The temperature of least negative log-likelihood (Guo et al. 2017).  [N, K], [N] -> T

    The loss is convex in b = 1/T, so its slope is halved to zero.  A Gamma prior on b, with its
    mode at 1 and the weight of one item, keeps T finite where all of a few items are right.
    None without items, or where logits are no finite numbers.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not len(logits) or not np.isfinite(logits).all():
        return None
    own = logits[np.arange(len(logits)), labels]

    def slope(b: float) -> float:
        shares = np.exp(b * (logits - logits.max(1, keepdims=True)))
        mean = (shares * logits).sum(1) / shares.sum(1)
        return float((mean - own).sum() + PRIOR * (1 - 1 / b))

    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(1 / (low * high) ** 0.5)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS
) -> list[list[float]]:
    """[confidence, accuracy, items] of each bin that has items, those of the calibration error."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = bin_of(confidence, bins)
    return [
        [float(confidence[mine].mean()), float(right[mine].mean()), int(mine.sum())]
        for mine in (place == number for number in range(bins))
        if mine.any()
    ]
