"""The temperature against a brute-force search, and bins against the calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from discern.evaluate.calibration import HIGHEST, LOWEST, PRIOR, fit_temperature, reliability
from discern.evaluate.metrics import calibration_error
from discern.security.certainty import softmax


def overconfident(count: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `scale` times those whose probabilities the labels follow."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, (count, 5))
    draws = random.random(count)[:, None] > softmax(true).cumsum(axis=1)
    return scale * true, np.minimum(draws.sum(axis=1), 4)


def loss(temperature: float, logits: np.ndarray, labels: np.ndarray) -> float:
    """Negative log-likelihood of all items, and the prior on b = 1/T."""
    b = 1 / temperature
    right = softmax(logits * b)[np.arange(len(labels)), labels]
    return float(-np.log(right).sum() + PRIOR * (b - np.log(b)))


@pytest.mark.parametrize(("count", "scale"), [(2000, 3.0), (2000, 0.4), (300, 1.0), (12, 2.0)])
def test_it_is_what_a_search_over_all_temperatures_finds(count: int, scale: float) -> None:
    logits, labels = overconfident(count, scale)
    tried = np.geomspace(0.06, 19, 20_001)
    best = tried[np.argmin([loss(t, logits, labels) for t in tried[::20]]) * 20]
    near = np.geomspace(best * 0.95, best * 1.05, 2001)
    best = near[np.argmin([loss(t, logits, labels) for t in near])]
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=2e-4)


def test_it_finds_the_factor_and_mends_the_error() -> None:
    logits, labels = overconfident(20_000, 2.5)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(2.5, rel=0.05)
    new, truth = overconfident(20_000, 2.5, seed=1)
    before = calibration_error(truth, softmax(new))
    after = calibration_error(truth, softmax(new / temperature))
    assert after < 0.02 < 0.1 < before


def test_few_items_that_are_all_right_do_not_make_it_certain() -> None:
    logits, labels = np.array([[2.0, 0.0]] * 4), np.zeros(4, dtype=int)
    temperature = fit_temperature(logits, labels)
    assert temperature is not None and 0.2 < temperature < 1
    wrong = fit_temperature(logits, labels + 1)
    assert wrong is not None and 1 < wrong < HIGHEST


def test_odd_logits() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) is None
    assert fit_temperature(np.array([[np.nan, 0.0]]), np.zeros(1, dtype=int)) is None
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, dtype=int)) == pytest.approx(1.0)
    huge = fit_temperature(np.array([[1e5, 0.0], [0.0, 1e5]] * 50), np.array([0, 0] * 50))
    assert huge is not None and LOWEST <= huge <= HIGHEST * 1.001


def test_bins_sum_to_the_calibration_error() -> None:
    logits, labels = overconfident(500, 2.0)
    probabilities = softmax(logits)
    bins = np.array(reliability(labels, probabilities))
    assert bins[:, 2].sum() == 500 and (np.diff(bins[:, 0]) > 0).all()
    error = (bins[:, 2] * np.abs(bins[:, 1] - bins[:, 0])).sum() / 500
    assert error == pytest.approx(calibration_error(labels, probabilities))
