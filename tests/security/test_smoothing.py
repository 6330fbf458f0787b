"""Randomized smoothing against what is known: a linear model's radius, and coverage by lot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import Tensor

from discern.data.augment import AugmentConfig, augment
from discern.security.smoothing import ABSTAINED, SmoothConfig, certify, lower_bound
from tests.tiny import rng

SHAPE = (3, 1, 4, 4)


def _linear(weight: Tensor, bias: float) -> object:
    def model(clip: Tensor) -> Tensor:
        score = clip.flatten(1) @ weight + bias
        return torch.stack([-score, score], dim=1)

    return model


def test_of_a_linear_model_the_radius_is_its_distance_to_the_border() -> None:
    weight = torch.randn(48, generator=rng(1))
    clip = torch.rand(6, *SHAPE, generator=rng(2)) * 2 - 1
    score = clip.flatten(1) @ weight
    model = _linear(weight, -float(score.median()))
    # in pixels of [0, 1] half of what it is in [-1, 1]
    exact = (score - score.median()).abs() / weight.norm() / 2
    config = SmoothConfig(sigma=0.25, many=4000)
    answer, radius = certify(model, clip, config, rng(3))  # type: ignore[arg-type]
    proven = answer != ABSTAINED
    wanted = (score > score.median()).long()
    assert (answer[proven] == wanted[proven]).all()
    assert (radius[proven] <= exact[proven] + 1e-6).all()  # never more than is true
    near = proven & (exact < 2 * config.sigma)  # further out 4,000 copies prove no more
    assert near.any()
    assert (radius[near] > exact[near] - 0.35 * config.sigma).all()


def test_the_bound_is_wrong_as_seldom_as_it_says() -> None:
    chance, total, alpha = 0.8, 50, 0.05
    hits = np.arange(total + 1)
    too_high = np.array([lower_bound(int(k), total, alpha) > chance for k in hits])
    wrong = binom.pmf(hits, total, chance)[too_high].sum()
    assert 0 < wrong <= alpha
    # Cohen et al.: with all of n the bound is alpha^(1/n)
    assert lower_bound(total, total, alpha) == pytest.approx(alpha ** (1 / total))
    assert lower_bound(0, total, alpha) == 0.0


def test_what_hangs_on_the_noise_gets_no_answer() -> None:
    model = _linear(torch.ones(48), 0.0)
    answer, radius = certify(model, torch.zeros(3, *SHAPE), SmoothConfig(sigma=0.5), rng())  # type: ignore[arg-type]
    assert (answer == ABSTAINED).all() and (radius == 0).all()


def test_all_copies_alike_prove_what_the_formula_says() -> None:
    config = SmoothConfig(sigma=0.5, many=1000)
    answer, radius = certify(
        lambda clip: torch.tensor([[0.0, 1.0, 0.0]]).repeat(len(clip), 1),
        torch.zeros(1, *SHAPE),
        config,
        rng(),
    )
    assert answer.item() == 1
    assert radius.item() == pytest.approx(0.5 * norm.ppf(0.001 ** (1 / 1000)))


def test_training_noise_is_of_the_stated_size_in_pixels() -> None:
    clip = torch.zeros(64, *SHAPE)
    noisy = augment(clip, AugmentConfig(flip=0.0, gaussian_noise=0.25), rng(5))
    assert (noisy / 2).std().item() == pytest.approx(0.25, rel=0.05)
    assert torch.equal(augment(clip, AugmentConfig(flip=0.0), rng(5)), clip)
