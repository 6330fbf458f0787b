"""Error rates against scikit-learn, and thresholds that keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from discern.gallery.rates import equal_error, open_set, threshold_at, true_match


@pytest.fixture(scope="module")
def scores() -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(0)
    return drawn.normal(1.5, 1.0, 800), drawn.normal(0.0, 1.0, 5000)


def test_rates_are_those_of_scikit_learn(scores: tuple[np.ndarray, np.ndarray]) -> None:
    genuine, impostor = scores
    truth = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    false, true, _ = roc_curve(truth, np.concatenate(scores), drop_intermediate=False)
    place = np.argmin(np.abs(false - (1 - true)))
    assert equal_error(genuine, impostor) == pytest.approx(
        (false[place] + 1 - true[place]) / 2, abs=1e-3
    )
    for rate in (0.001, 0.01, 0.1):
        expected = true[false <= rate].max()
        assert true_match(genuine, impostor, rate) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.0101, 0.5, 1.0])
def test_no_more_impostors_pass_than_promised(rate: float) -> None:
    impostor = np.random.default_rng(1).normal(size=1000)
    passed = (impostor >= threshold_at(impostor, rate)).mean()
    assert rate - 1e-3 <= passed <= rate + 1e-9
    # equal scores cannot be told apart: then fewer pass
    same = np.repeat([0.0, 1.0], 50)
    assert (same >= threshold_at(same, 0.3)).mean() <= 0.3


def test_open_set() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.3, 0.2], [0.9, 0.0], [0.1, 0.2]])
    owners = np.array([0, 1, 1, 0, -1, -1])
    found = open_set(scores, owners, 0.5)
    assert found == {"detection_and_identification": 0.5, "false_alarms": 0.5}
