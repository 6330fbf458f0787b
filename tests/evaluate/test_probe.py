"""The k-NN probe against a hand-written loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from discern.evaluate.probe import knn_accuracy
from tests.tiny import rng


def _points(count: int, seed: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Points around one centre per class."""
    centres = torch.randn(classes, 6, generator=rng(99))
    labels = torch.randint(classes, (count,), generator=rng(seed))
    noise = torch.randn(count, 6, generator=rng(seed + 1))
    return centres[labels] + 1.2 * noise, labels


def _by_hand(
    bank: Tensor,
    bank_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    k: int,
    temperature: float,
) -> float:
    right = 0
    for one, label in zip(query, query_labels.tolist(), strict=True):
        near = [(float(torch.cosine_similarity(one, b, dim=0)), i) for i, b in enumerate(bank)]
        near.sort(reverse=True)
        votes: dict[int, float] = {}
        for similar, place in near[:k]:
            name = int(bank_labels[place])
            votes[name] = votes.get(name, 0.0) + math.exp(similar / temperature)
        right += max(votes, key=lambda name: votes[name]) == label
    return right / len(query)


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_as_a_loop(k: int, temperature: float) -> None:
    bank, query = _points(60, 0), _points(40, 10)
    found = knn_accuracy(*bank, *query, k=k, temperature=temperature)
    assert found == _by_hand(*bank, *query, k, temperature)
    assert 0.3 < found < 1.0


def test_a_point_finds_itself() -> None:
    points, labels = _points(50, 0)
    assert knn_accuracy(points, labels, points, labels, k=1) == 1.0
    assert knn_accuracy(points, labels, 7 * points, labels, k=1) == 1.0  # length says nothing
    assert knn_accuracy(points, labels, points, (labels + 1) % 4, k=1) == 0.0


def test_fewer_points_than_neighbours_and_classes_that_the_bank_lacks() -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert knn_accuracy(bank, labels, bank, torch.tensor([0, 1, 5]), k=20) == pytest.approx(2 / 3)


def test_long_queries_are_split() -> None:
    bank, query = _points(30, 0), _points(2500, 10)
    whole = knn_accuracy(*bank, *query, k=5)
    parts = [
        knn_accuracy(*bank, query[0][s], query[1][s], k=5) for s in (slice(1250), slice(1250, None))
    ]
    assert whole == pytest.approx(sum(parts) / 2)


def test_half_precision_features() -> None:
    bank, query = _points(60, 0), _points(40, 10)
    plain = knn_accuracy(*bank, *query)
    half = knn_accuracy(bank[0].bfloat16(), bank[1], query[0].bfloat16(), query[1])
    assert half == pytest.approx(plain, abs=0.1)
