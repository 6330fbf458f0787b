"""Metrics against scikit-learn's, and on the cases that scikit-learn leaves open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from discern.errors import DataError
from discern.evaluate.metrics import (
    auroc,
    calibration_error,
    clopper_pearson,
    metrics,
    wilson,
)


def _made_up(items: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, items)
    logits = rng.normal(size=(items, classes))
    logits[np.arange(items), labels] += 1.2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities, [f"class {k}" for k in range(classes)]


def test_agrees_with_scikit_learn() -> None:
    from sklearn import metrics as reference

    labels, probabilities, classes = _made_up(500, 8)
    predicted = probabilities.argmax(1)
    found = metrics(labels, probabilities, classes)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(labels, predicted)
    )
    assert found["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro")
    )
    assert found["top5"] == pytest.approx(
        reference.top_k_accuracy_score(labels, probabilities, k=5)
    )
    assert found["confusion"] == reference.confusion_matrix(labels, predicted).tolist()
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted)
    rows = list(found["per_class"].values())
    assert [row["precision"] for row in rows] == pytest.approx(precision)
    assert [row["recall"] for row in rows] == pytest.approx(recall)
    assert [row["f1"] for row in rows] == pytest.approx(f1)
    assert [row["support"] for row in rows] == support.tolist()


def test_has_the_keys_that_scripts_rely_on() -> None:
    found = metrics(*_made_up(50, 3))
    assert set(found) == {
        "accuracy", "accuracy_interval", "balanced_accuracy", "macro_f1", "top5", "ece",
        "per_class", "confusion", "samples",
    }  # fmt: skip
    assert set(found["per_class"]["class 0"]) == {
        "precision", "recall", "f1", "support", "recall_interval",
    }  # fmt: skip
    assert found["samples"] == 50


def test_an_absent_class_is_none_and_does_not_count() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.9, 0], [0.7, 0.3, 0]])
    found = metrics(labels, probabilities, ["a", "b", "absent"])
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["per_class"]["absent"] == {
        "precision": None, "recall": None, "f1": None, "support": 0, "recall_interval": None,
    }  # fmt: skip
    assert found["top5"] == 1.0
    assert "NaN" not in json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("successes", "total", "expected"),
    # statsmodels.stats.proportion.proportion_confint(method="wilson"), by hand
    [(0, 10, (0.0, 0.27753)), (10, 10, (0.72247, 1.0)), (81, 263, (0.25529, 0.36621))],
)
def test_wilson_interval(successes: int, total: int, expected: tuple[float, float]) -> None:
    assert wilson(successes, total) == pytest.approx(expected, abs=1e-5)


def test_wilson_bounds_hold_the_share_for_all_counts() -> None:
    for total in (1, 3, 49, 1000):
        for successes in range(0, total + 1, max(1, total // 7)):
            low, high = wilson(successes, total) or (1, 0)
            assert 0 <= low <= successes / total <= high <= 1
    assert wilson(0, 0) is None


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 0, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    # three in one bin: accuracy 2/3, confidence 0.9; one alone: accuracy 1, confidence 0.6
    assert calibration_error(labels, probabilities) == pytest.approx(
        0.75 * (0.9 - 2 / 3) + 0.25 * 0.4
    )


def test_calibration_error_of_sure_and_right_is_zero() -> None:
    assert calibration_error(np.array([0, 1]), np.eye(2)) == 0


@pytest.mark.parametrize("labels", [[], [-1, 0], [0, 2]])
def test_refuses_labels_that_cannot_be_counted(labels: list[int]) -> None:
    with pytest.raises(DataError):
        metrics(np.array(labels, int), np.full((len(labels), 2), 0.5), ["a", "b"])


def test_refuses_probabilities_that_are_not_numbers() -> None:
    with pytest.raises(DataError, match="not numbers"):
        metrics(np.array([0]), np.array([[np.nan, 1.0]]), ["a", "b"])


@pytest.mark.parametrize(("successes", "total"), [(0, 20), (1, 100), (7, 50), (20, 20)])
def test_exact_interval_is_that_of_scipy(successes: int, total: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(successes, total).proportion_ci(method="exact")
    assert clopper_pearson(successes, total) == pytest.approx([expected.low, expected.high])
    assert clopper_pearson(0, 0) is None


def test_area_under_the_curve_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(0, 9, 70), rng.integers(2, 12, 50)  # with ties
    expected = roc_auc_score(np.repeat([0, 1], [70, 50]), np.concatenate([known, unknown]))
    assert auroc(known, unknown) == pytest.approx(expected)


def test_calibration_error_is_the_same_for_either_precision() -> None:
    drawn = np.random.default_rng(0)
    single = drawn.dirichlet(np.ones(4), size=50).astype(np.float32)
    labels = drawn.integers(0, 4, size=50)
    assert calibration_error(labels, single) == calibration_error(labels, single.astype(np.float64))
