"""The guard against references of scikit-learn, on made-up features with known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from discern.errors import IntegrityError
from discern.evaluate.metrics import clopper_pearson
from discern.security.guard import (
    KNOTS,
    PARTS,
    Evidence,
    GuardConfig,
    Scale,
    calibrate,
    combined,
    energy,
    fit_guard,
    items_needed,
    knn_distance,
    read_guard,
    spread,
)
from tests.tiny import rng

WIDTH, CLASSES = 12, 3


def evidence(
    count: int, seed: int, *, shift: float = 0.0, tight: float = 1.0, head: bool = True
) -> tuple[Evidence, Tensor]:
    """Three clusters of features; `shift` moves away from them, `tight` < 1 is trained on."""
    random = rng(seed)
    labels = torch.arange(count) % CLASSES
    centres = 4 * F.one_hot(labels, WIDTH).float()
    features = centres + tight * 0.6 * torch.randn(count, WIDTH, generator=random)
    features[:, -1] += shift
    logits = features[:, :CLASSES] * (1 if shift == 0 else 0.5)
    verdict = torch.randn(count, generator=random) + shift if head else None
    return Evidence(features, logits, verdict), labels


def flagged(guard: object, found: Evidence) -> int:
    return int((combined(guard.surprise(found)) > guard.threshold).sum())  # type: ignore[attr-defined]


def test_distance_is_that_of_scikit_learn() -> None:
    bank = F.normalize(torch.randn(300, WIDTH, generator=rng(0)), dim=1)
    query = torch.randn(1500, WIDTH, generator=rng(1))  # more than one part
    reference = NearestNeighbors(n_neighbors=7).fit(bank.numpy())
    expected = reference.kneighbors(F.normalize(query, dim=1).numpy())[0][:, -1]
    np.testing.assert_allclose(knn_distance(bank, query, 7).numpy(), expected, atol=1e-4)
    assert len(knn_distance(bank[:3], query, 7)) == 1500  # fewer than neighbours


def test_energy_is_minus_the_logarithm_of_the_partition() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [800.0, 0.0, 0.0]])
    first = -math.log(math.exp(1) + math.exp(2) + math.exp(3))
    assert energy(logits).tolist() == pytest.approx([first, -800.0])


def test_surprise_rises_with_the_score_and_is_its_rarity() -> None:
    raw = torch.randn(1, 20_000, generator=rng(0), dtype=torch.float64)
    scale, _ = calibrate(raw, 0.01)
    at = torch.linspace(-9, 9, 400, dtype=torch.float64)[None]
    surprise = scale.surprise(at)[0]
    assert (surprise.diff() > 0).all()  # below, inside and beyond what was seen
    # exp(-surprise) is the share of a normal distribution that lies above
    for score, share in ((0.0, 0.5), (0.8416, 0.2), (1.2816, 0.1)):
        found = scale.surprise(torch.tensor([[score]], dtype=torch.float64))
        assert math.exp(-float(found)) == pytest.approx(share, rel=0.05)


def test_known_scores_that_are_all_alike_have_a_scale() -> None:
    scale, threshold = calibrate(torch.ones(2, 200, dtype=torch.float64), 0.01)
    assert math.isfinite(threshold)
    found = scale.surprise(torch.tensor([[0.5, 1.0, 2.0]] * 2, dtype=torch.float64))
    assert found.isfinite().all() and (found.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_the_stated_rate_holds_on_new_items(rate: float) -> None:
    known, labels = evidence(400, 0)
    config = GuardConfig(false_alarms=rate)
    alarms = inside = 0
    for seed in range(20):
        guard, facts = fit_guard(known, labels, evidence(1000, 100 + seed)[0], config)
        assert guard is not None and facts["calibrated_on"] == "validation"
        assert facts["items"] == 1000 and facts["alarms_held_out"]
        low, high = clopper_pearson(facts["alarms"], facts["items"])
        inside += low <= rate <= high
        alarms += flagged(guard, evidence(2000, 500 + seed)[0])
    assert inside >= 18  # the recorded interval of 95 % holds the stated rate
    # the mean over 20 thresholds, each from 1,000 items: five of its standard deviations
    allowed = 5 * math.sqrt(rate * (1 - rate) / 20 * (1 / 1000 + 1 / 2000))
    assert alarms / 40_000 == pytest.approx(rate, abs=allowed)


def test_small_validation_parts_alarm_as_often_as_stated() -> None:
    known, labels = evidence(150, 0)
    rates = []
    for seed in range(60):
        fresh = evidence(60, 100 + seed)[0]
        guard, _ = fit_guard(known, labels, fresh, GuardConfig(false_alarms=0.05))
        assert guard is not None
        rates.append(flagged(guard, evidence(300, 500 + seed)[0]) / 300)
    assert 0.03 < np.mean(rates) < 0.065


def test_few_validation_items_hand_over_to_folds_of_the_trained_ones() -> None:
    known, labels = evidence(600, 0, tight=0.5)  # what was trained on lies closer together
    few = evidence(60, 1)[0]
    guard, facts = fit_guard(known, labels, few, GuardConfig())
    assert guard is not None and facts["items"] == 660
    assert facts["calibrated_on"] == "training folds aligned to validation"
    alone, said = fit_guard(known, labels, None, GuardConfig())
    assert alone is not None and said["calibrated_on"] == "training folds"
    assert said["items"] == 600
    new = evidence(4000, 2)[0]
    assert flagged(guard, new) / 4000 < 0.04 < flagged(alone, new) / 4000


def test_a_fold_is_not_measured_against_itself() -> None:
    known, labels = evidence(300, 0, head=False)
    guard, _ = fit_guard(known, labels, None, GuardConfig(neighbours=1))
    assert guard is not None
    # each trained item is its own nearest neighbour in the whole bank, at no distance
    assert float(guard.scale.knots[0, KNOTS // 2]) > 0.05


@pytest.mark.parametrize(("rate", "items"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1)])
def test_items_that_a_rate_needs(rate: float, items: int) -> None:
    assert items_needed(rate) == items


def test_too_few_items_make_no_guard_and_say_so() -> None:
    known, labels = evidence(98, 0)
    guard, facts = fit_guard(known, labels, evidence(98, 1)[0], GuardConfig())
    assert guard is None and "99 are needed" in facts["why"]
    known, labels = evidence(99, 0)
    assert fit_guard(known, labels, None, GuardConfig())[0] is not None
    guard, facts = fit_guard(known, labels, None, GuardConfig(false_alarms=0.0))
    assert guard is None and "asks for none" in facts["why"]


def test_features_that_are_no_numbers_make_no_guard() -> None:
    known, labels = evidence(200, 0)
    known.features[3, 3] = float("nan")
    guard, facts = fit_guard(known, labels, evidence(200, 1)[0], GuardConfig())
    assert guard is None and "finite" in facts["why"]


def areas(guard: object, new: Evidence, odd: Evidence) -> tuple[float, float]:
    """AUROC of the guard and of k-NN alone, by scikit-learn."""
    truth = np.repeat([0, 1], [len(new.features), len(odd.features)])
    both = [guard.surprise(one) for one in (new, odd)]  # type: ignore[attr-defined]
    total = torch.cat([combined(one) for one in both])
    nearest = torch.cat([one[0] for one in both])
    return roc_auc_score(truth, total.numpy()), roc_auc_score(truth, nearest.numpy())


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0, 4.0])
def test_useless_scores_hardly_hurt(shift: float) -> None:
    known, labels = evidence(400, 0)
    guard, _ = fit_guard(known, labels, evidence(1000, 1)[0], GuardConfig())
    assert guard is not None and guard.names == list(PARTS)
    new = evidence(3000, 2)[0]
    odd = evidence(3000, 3, shift=shift)[0]
    # the worst there is: on unknown items both other scores say that all is most usual
    odd = odd._replace(logits=torch.full_like(odd.logits, 50.0), verdict=torch.zeros(3000))
    ours, nearest = areas(guard, new, odd)
    rest = sum(PARTS.values()) - 1
    assert 1 - ours <= (1 + rest) * (1 - nearest) + 0.003
    assert ours > nearest - 0.02


def test_what_only_another_score_sees_is_found() -> None:
    known, labels = evidence(400, 0)
    guard, _ = fit_guard(known, labels, evidence(1000, 1)[0], GuardConfig())
    new, odd = evidence(2000, 2)[0], evidence(2000, 3)[0]
    for changed in (
        odd._replace(logits=odd.logits * 0 - 20.0),
        odd._replace(verdict=torch.full((2000,), 30.0)),
        odd._replace(verdict=torch.full((2000,), -30.0)),  # too real is strange as well
    ):
        ours, nearest = areas(guard, new, changed)
        assert nearest < 0.55 and ours > 0.95


def test_without_a_verdict_there_are_two_scores() -> None:
    known, labels = evidence(200, 0, head=False)
    guard, facts = fit_guard(known, labels, evidence(200, 1, head=False)[0], GuardConfig())
    assert guard is not None and facts["scores"] == ["knn", "energy"]
    assert guard.surprise(evidence(5, 2)[0]).shape == (2, 5)  # a verdict that is there is not used


def test_the_bank_is_bounded_and_fair_to_classes() -> None:
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    chosen = spread(labels, 60, rng(0))
    assert len(chosen) == len(chosen.unique()) == 60
    assert labels[chosen].bincount().tolist() == [25, 25, 10]
    known, names = evidence(300, 0)
    guard, _ = fit_guard(known, names, evidence(200, 1)[0], GuardConfig(bank=64))
    assert guard is not None and guard.bank.shape == (64, WIDTH)
    again, _ = fit_guard(known, names, evidence(200, 1)[0], GuardConfig(bank=64))
    assert again is not None and torch.equal(guard.bank, again.bank)


def test_what_is_stored_comes_back() -> None:
    known, labels = evidence(300, 0)
    guard, _ = fit_guard(known, labels, evidence(200, 1)[0], GuardConfig())
    assert guard is not None
    again = read_guard(guard.tensors(), WIDTH, True, "here")
    new = evidence(50, 2)[0]
    assert torch.equal(again.surprise(new), guard.surprise(new))
    assert again.threshold == guard.threshold and again.neighbours == guard.neighbours


@pytest.mark.parametrize(
    "change",
    [
        {"bank": torch.zeros(4, WIDTH + 1)},
        {"bank": torch.zeros(0, WIDTH)},
        {"knots": torch.zeros(2, KNOTS)},
        {"decays": torch.zeros(3)},
        {"decays": torch.ones(4)},
        {"threshold": torch.tensor(float("nan"))},
        {"threshold": torch.zeros(2)},
        {"neighbours": torch.tensor(0)},
        {"more": torch.zeros(1)},
    ],
)
def test_what_is_no_guard_is_refused(change: dict[str, Tensor]) -> None:
    known, labels = evidence(300, 0)
    guard, _ = fit_guard(known, labels, evidence(200, 1)[0], GuardConfig())
    assert guard is not None
    with pytest.raises(IntegrityError, match="here: not a guard for this model"):
        read_guard(guard.tensors() | change, WIDTH, True, "here")
    with pytest.raises(IntegrityError, match="knots"):  # a model without a discriminator
        read_guard(guard.tensors(), WIDTH, False, "here")


def test_scale_is_a_tuple_of_two() -> None:
    assert Scale._fields == ("knots", "decays")  # the names in the file
