"""Metrics for several labels an item, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from discern.errors import DataError
from discern.evaluate.several import as_choices, as_pairs, average_precision, several_metrics

NAMES = ["day", "dog", "ice", "sea"]


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    targets = rng.random((200, 4)) < [0.5, 0.2, 0.05, 0.9]
    chances = np.clip(0.35 * targets + rng.random((200, 4)) * 0.65, 0, 1).round(2)  # with ties
    return targets, chances


def test_numbers_are_those_of_scikit_learn(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    targets, chances = drawn
    said = chances > 0.5
    found = several_metrics(targets, chances, NAMES)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, said))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(targets, said, average="macro"))
    assert found["micro_f1"] == pytest.approx(reference.f1_score(targets, said, average="micro"))
    wanted = reference.average_precision_score(targets, chances, average="macro")
    assert found["mean_average_precision"] == pytest.approx(wanted)
    balanced = [
        reference.balanced_accuracy_score(targets[:, i], said[:, i]) for i in range(len(NAMES))
    ]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    assert found["answers_right"] == pytest.approx(1 - reference.hamming_loss(targets, said))
    recall = reference.recall_score(targets, said, average=None)
    assert [found["per_class"][name]["recall"] for name in NAMES] == pytest.approx(list(recall))
    assert found["confusion"] is None and found["samples"] == 200


def test_ties_are_one_step_of_the_ranking() -> None:
    target, score = np.array([True, False, True, False]), np.array([0.5, 0.5, 0.5, 0.1])
    assert average_precision(target, score) == pytest.approx(
        reference.average_precision_score(target, score)
    )


def test_a_class_without_items_has_no_numbers_and_spoils_none() -> None:
    targets = np.array([[True, False], [True, False]])
    found = several_metrics(targets, np.array([[0.9, 0.1], [0.8, 0.2]]), ["a", "b"])
    assert found["accuracy"] == 1.0 and found["macro_f1"] == 1.0
    assert found["per_class"]["b"]["average_precision"] is None
    assert found["mean_average_precision"] == 1.0
    assert found["balanced_accuracy"] is None  # no class has items on both sides


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="no labelled items"):
        several_metrics(np.zeros((0, 2), dtype=bool), np.zeros((0, 2)), ["a", "b"])
    with pytest.raises(DataError, match="not numbers"):
        several_metrics(np.ones((1, 2), dtype=bool), np.array([[np.nan, 0.0]]), ["a", "b"])


def test_a_question_is_a_choice_of_two() -> None:
    logits, targets = np.array([[2.0, -1.0]]), np.array([[True, False]])
    pairs, chosen = as_pairs(logits, targets)
    assert pairs.tolist() == [[0.0, 2.0], [0.0, -1.0]] and chosen.tolist() == [1, 0]
    chosen, shares = as_choices(targets, np.array([[0.75, 0.25]]))
    assert chosen.tolist() == [1, 0] and shares.tolist() == [[0.25, 0.75], [0.75, 0.25]]
