"""Losses of the two players against formulas, hand-written loops and autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from discern.objectives.adversarial import (
    contrast,
    contrast_teacher,
    diversity,
    finite_difference_penalty,
    patch_accuracy,
    relativistic,
)
from tests.tiny import rng


def _vectors(count: int = 5, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=rng(seed))


def _cosine(left: Tensor, right: Tensor) -> float:
    return float(left @ right / (left.norm() * right.norm()))


def test_relativistic_by_the_formula() -> None:
    winner, loser = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([0.5, 3.0, 0.0])
    expected = sum(
        math.log(1 + math.exp(-(w - v)))
        for w, v in zip(winner.tolist(), loser.tolist(), strict=True)
    )
    assert relativistic(winner, loser).item() == pytest.approx(expected / 3, rel=1e-6)
    assert relativistic(winner * 0, loser * 0).item() == pytest.approx(math.log(2))
    # large differences do not overflow
    assert relativistic(torch.tensor([-500.0]), torch.tensor([500.0])).item() == 1000.0


def test_contrast_by_a_loop() -> None:
    left, right, temperature = _vectors(seed=1), _vectors(seed=2), 0.3
    every = [*left, *right]
    total = 0.0
    for i, one in enumerate(every):
        partner = (i + 5) % 10
        scores = [_cosine(one, other) / temperature for other in every]
        rest = sum(math.exp(score) for j, score in enumerate(scores) if j != i)
        total -= math.log(math.exp(scores[partner]) / rest)
    both = torch.stack([left, right])
    assert contrast(both, temperature).item() == pytest.approx(total / 10, rel=1e-5)


def test_contrast_of_three_views_by_a_loop() -> None:
    """Every pair of views of an item, each against the other items alone."""
    views, temperature = [_vectors(seed=seed) for seed in (1, 2, 3)], 0.3
    every = [vector for one in views for vector in one]
    total, pairs = 0.0, 0
    for i, one in enumerate(every):
        rest = [other for j, other in enumerate(every) if j % 5 != i % 5]
        rivals = sum(math.exp(_cosine(one, other) / temperature) for other in rest)
        for j, partner in enumerate(every):
            if j != i and j % 5 == i % 5:
                score = math.exp(_cosine(one, partner) / temperature)
                total, pairs = total - math.log(score / (score + rivals)), pairs + 1
    assert pairs == 30
    found = contrast(torch.stack(views), temperature).item()
    assert found == pytest.approx(total / pairs, rel=1e-5)


def test_contrast_teacher_by_a_loop() -> None:
    student, teacher, temperature = _vectors(seed=1), _vectors(seed=2), 0.3
    total = 0.0
    for i, one in enumerate(student):
        scores = [math.exp(_cosine(one, other) / temperature) for other in teacher]
        total -= math.log(scores[i] / sum(scores))
    found = contrast_teacher(student, teacher, temperature)
    assert found.item() == pytest.approx(total / 5, rel=1e-5)


def _contrast(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    return contrast(torch.stack([left, right]), temperature)


@pytest.mark.parametrize("loss", [_contrast, contrast_teacher])
def test_contrast_likes_its_own_item_best(loss: object) -> None:
    assert callable(loss)
    items = torch.eye(6)
    assert loss(items, items, 0.1) < loss(items, items.roll(1, 0), 0.1)
    assert loss(3 * items, items, 0.1) == loss(items, 7 * items, 0.1)  # length says nothing
    assert loss(items.bfloat16(), items.bfloat16(), 0.1).dtype == torch.float32


@pytest.mark.parametrize("sigma", [0.01, 1.0])
def test_penalty_of_a_linear_score_is_the_squared_gradient(sigma: float) -> None:
    weight = _vectors(3, 4 * 4).reshape(3, 1, 4, 4) * 0.2
    clip = torch.zeros(4000, 3, 1, 4, 4).requires_grad_()

    def score(x: Tensor) -> Tensor:
        return (x * weight).flatten(1).sum(1) + 5.0

    (gradient,) = torch.autograd.grad(score(clip).sum(), clip)
    expected = gradient.flatten(1).square().sum(1).mean().item()
    found = finite_difference_penalty(score, clip.detach(), sigma, rng()).item()
    assert found == pytest.approx(expected, rel=0.07)  # of 4000 draws: 3 % of noise


def test_penalty_of_a_curved_score_against_autograd() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
    )

    def score(x: Tensor) -> Tensor:
        return network(x).squeeze(1)

    clip = torch.randn(3000, 3, 1, 2, 2, generator=rng()).requires_grad_()
    (gradient,) = torch.autograd.grad(score(clip).sum(), clip)
    expected = gradient.flatten(1).square().sum(1).mean().item()
    found = finite_difference_penalty(score, clip.detach(), 0.01, rng(1))
    assert found.item() == pytest.approx(expected, rel=0.1)
    found.backward()  # it teaches the network without a second derivative
    assert all(p.grad is not None and p.grad.any() for p in list(network.parameters())[:-1])


def test_penalty_looks_at_both_ends_in_one_pass() -> None:
    calls = []

    def score(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.flatten(1).sum(1)

    finite_difference_penalty(score, torch.zeros(4, 3, 1, 2, 2), 0.1, rng())
    assert calls == [8]


def test_patch_accuracy_weighs_real_and_fake_alike() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0, 1.0, -1.0]])
    real = torch.tensor([[True, True, True, True, False]])
    assert patch_accuracy(logits, real) == 1.0
    assert patch_accuracy(-logits, real) == 0.0
    # always "real" is right four times of five, and yet knows nothing
    assert patch_accuracy(torch.ones(1, 5), real) == 0.5
    assert patch_accuracy(torch.ones(1, 5), torch.ones(1, 5, dtype=torch.bool)) == 1.0


def test_diversity() -> None:
    real = torch.randn(16, 3, 1, 4, 4, generator=rng())
    assert diversity(real.clone(), real) == pytest.approx(1.0)
    assert diversity(0.25 * real + 3, real) == pytest.approx(0.25, rel=1e-5)
    assert diversity(real[:1].expand(16, -1, -1, -1, -1), real) == 0.0
    assert diversity(real[:1], real[:1]) == 1.0  # one item has no spread
    assert math.isfinite(diversity(real, real[:1].expand(16, -1, -1, -1, -1)))
