"""Metrics of a classifier: labels and probabilities go in, the numbers of `results.json` come out.

Every value is plain JSON without NaN: a number that the data does not define is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from discern.errors import DataError

ECE_BINS = 15
Z95 = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


def metrics(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """All numbers of one evaluation.  int [N], float [N, K], K names -> dict

    Averages over classes (balanced accuracy, macro F1) run over the classes that have items; a
    class without items has recall None.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    _check(labels, probabilities, classes)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted, len(classes))
    correct = int((predicted == labels).sum())
    per_class = _per_class(confusion, classes)
    present = [row for row in per_class.values() if row["support"] > 0]
    return {
        "accuracy": correct / len(labels),
        "accuracy_interval": wilson(correct, len(labels)),
        "balanced_accuracy": _mean([row["recall"] for row in present]),
        "macro_f1": _mean([row["f1"] for row in present]),
        "top5": _top(labels, probabilities, 5),
        "ece": calibration_error(labels, probabilities),
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "samples": len(labels),
    }


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts; rows are the true classes, columns the predicted.  int [N], int [N] -> int [K, K]"""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def wilson(successes: int, total: int) -> list[float] | None:
    """Wilson's 95 % interval of a share; it stays inside [0, 1] and is honest for few items."""
    if total == 0:
        return None
    share, z2 = successes / total, Z95 * Z95
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = (
        Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    )
    # at 0 and at 1 rounding can move a bound past the share itself
    return [min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))]


def clopper_pearson(successes: int, total: int) -> list[float] | None:
    """Clopper and Pearson's exact 95 % interval of a share; it never promises too much."""
    from scipy.stats import beta

    if total == 0:
        return None
    low = beta.ppf(0.025, successes, total - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, total - successes) if successes < total else 1.0
    return [float(low), float(high)]


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Chance that an unknown item has the higher score; ties count half.  [N], [M] -> 0 to 1"""
    known = np.sort(known)
    below = np.searchsorted(known, unknown, "left") + np.searchsorted(known, unknown, "right")
    return float(below.mean() / (2 * len(known)))


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal width, open below and closed above: (0, 1/15], ...  float [N] -> int [N]"""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the top class, bins of equal width.  int [N], float [N, K]

    The mean over items of |accuracy - confidence| in their bin: Guo et al. 2017, eq. 3.
    """
    confidence = probabilities.max(1).astype(np.float64)  # a difference in float32 is rounded
    correct = probabilities.argmax(1) == labels
    gaps = np.bincount(bin_of(confidence, bins), weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _check(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    if len(labels) == 0:
        raise DataError("no labelled items to evaluate: check the source and its split")
    if labels.min() < 0:
        raise DataError("an item without a label cannot be evaluated: leave it out")
    if labels.max() >= len(classes):
        raise DataError(f"label {labels.max()} has no name: the model knows {len(classes)} classes")
    assert probabilities.shape == (len(labels), len(classes)), probabilities.shape
    if not np.isfinite(probabilities).all():
        raise DataError(
            "the model returned probabilities that are not numbers: its weights are broken"
        )


def _per_class(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    assert len(set(classes)) == len(classes), "two classes of one name"
    rows = {}
    for index, name in enumerate(classes):
        hits = int(confusion[index, index])
        support, answers = int(confusion[index].sum()), int(confusion[:, index].sum())
        rows[name] = {
            "precision": hits / answers if answers else None,
            "recall": hits / support if support else None,
            "f1": 2 * hits / (support + answers) if support + answers else None,
            "support": support,
            "recall_interval": wilson(hits, support),
        }
    return rows


def _top(labels: np.ndarray, probabilities: np.ndarray, count: int) -> float:
    """Share of items whose class is among the `count` most probable."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return float((best == labels[:, None]).any(1).mean())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
