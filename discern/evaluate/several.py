"""Metrics where an item may have several labels: answers and probabilities in, plain numbers out.

Each class is a question of its own, answered yes above one half.  scikit-learn's definitions:
accuracy is the share of items of which every answer is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from discern.errors import DataError
from discern.evaluate.metrics import calibration_error, wilson
from discern.security.certainty import YES


def several_metrics(
    targets: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """All numbers of one evaluation.  bool [N, K], float [N, K], K names -> dict

    Averages over classes run over those that have items.  `confusion` is None: an item may be
    counted in many cells.  Raises DataError.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if not len(targets):
        raise DataError("no labelled items to evaluate: check the source and its split")
    if not np.isfinite(probabilities).all():
        raise DataError(
            "the model returned probabilities that are not numbers: its weights are broken"
        )
    said = probabilities > YES
    right = int((said == targets).all(axis=1).sum())
    hits, asked, answered = (one.sum(axis=0) for one in (said & targets, targets, said))
    per_class = {
        name: _of_class(int(hits[i]), int(asked[i]), int(answered[i]))
        | {"average_precision": average_precision(targets[:, i], probabilities[:, i])}
        for i, name in enumerate(classes)
    }
    present = [row for row in per_class.values() if row["support"] > 0]
    balanced = [
        (said[targets[:, i], i].mean() + (~said[~targets[:, i], i]).mean()) / 2
        for i in range(len(classes))
        if 0 < asked[i] < len(targets)
    ]
    return {
        "accuracy": right / len(targets),
        "accuracy_interval": wilson(right, len(targets)),
        "balanced_accuracy": float(np.mean(balanced)) if balanced else None,
        "macro_f1": float(np.mean([row["f1"] for row in present])) if present else None,
        "micro_f1": _f1(int(hits.sum()), int(asked.sum()), int(answered.sum())),
        "mean_average_precision": (
            float(np.mean([row["average_precision"] for row in present])) if present else None
        ),
        "answers_right": float((said == targets).mean()),
        "ece": calibration_error(*as_choices(targets, probabilities)),
        "per_class": per_class,
        "confusion": None,
        "samples": len(targets),
    }


def average_precision(target: np.ndarray, score: np.ndarray) -> float | None:
    """Mean precision at each right item, ranked by score; ties are one step.  bool [N], [N]

    None where no item is right.
    """
    if not target.any():
        return None
    order = np.argsort(-score, kind="stable")
    ranked, right = score[order], np.cumsum(target[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each tie
    precision, recall = right[last] / (last + 1), right[last] / right[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def as_pairs(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each question as a choice between no and yes.  [N, K] twice -> [N K, 2], int [N K]"""
    flat = logits.reshape(-1)
    return np.stack([np.zeros_like(flat), flat], axis=1), targets.reshape(-1).astype(np.int64)


def as_choices(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each answer as a choice between no and yes.  [N, K] twice -> int [N K], [N K, 2]"""
    flat = probabilities.reshape(-1)
    return targets.reshape(-1).astype(np.int64), np.stack([1 - flat, flat], axis=1)


def _of_class(hits: int, asked: int, answered: int) -> dict[str, Any]:
    return {
        "precision": hits / answered if answered else None,
        "recall": hits / asked if asked else None,
        "f1": _f1(hits, asked, answered),
        "support": asked,
        "recall_interval": wilson(hits, asked),
    }


def _f1(hits: int, asked: int, answered: int) -> float | None:
    return 2 * hits / (asked + answered) if asked + answered else None
