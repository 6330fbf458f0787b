"""Scores of genuine and impostor pairs in, error rates of verification and identification out.

Terms are those of ISO/IEC 19795-1: false match, false non-match, equal error rate.
"""

from __future__ import annotations

import numpy as np


def threshold_at(impostor: np.ndarray, false_match: float) -> float:
    """The least threshold at which at most this share of impostor scores [N] passes."""
    order = np.sort(impostor)[::-1]
    allowed = int(np.floor(false_match * len(order) + 1e-9))
    if allowed >= len(order):
        return float(order[-1])
    # the first score that must not pass, and the least number of its type above it
    return float(np.nextafter(order[allowed], order.dtype.type(np.inf)))


def true_match(genuine: np.ndarray, impostor: np.ndarray, false_match: float) -> float:
    """The share of genuine scores that pass at a false-match rate."""
    return float((genuine >= threshold_at(impostor, false_match)).mean())


def equal_error(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate at which as many impostors pass as genuine ones do not."""
    thresholds = np.unique(np.concatenate([genuine, impostor]))
    misses = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    passes = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    # between two thresholds both rates jump: take the middle where they cross
    place = int(np.argmin(np.abs(misses - passes)))
    return float((misses[place] + passes[place]) / 2)


def open_set(scores: np.ndarray, owners: np.ndarray, threshold: float) -> dict[str, float]:
    """Identification where some who ask are not enrolled.

    scores [N, names], owners [N] (-1: nobody's) -> detection and identification rate, and the
    false alarms of those who are not enrolled
    """
    best, known = scores.argmax(axis=1), owners >= 0
    passed = scores.max(axis=1) >= threshold
    right = passed & (best == owners)
    return {
        "detection_and_identification": float(right[known].mean()) if known.any() else 0.0,
        "false_alarms": float(passed[~known].mean()) if (~known).any() else 0.0,
    }
