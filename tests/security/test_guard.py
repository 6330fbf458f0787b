"""The guard against references of scikit-learn, on made-up features with known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS, EmpiricalCovariance
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from discern.errors import IntegrityError
from discern.evaluate.metrics import clopper_pearson
from discern.security.guard import (
    KNOTS,
    WEIGHTS,
    GuardConfig,
    Scale,
    calibrate,
    combined,
    fit_guard,
    fit_scale,
    items_needed,
    read_guard,
    spread,
)
from discern.security.scores import Evidence, energy, fit_gaussian, knn_distance, raw_scores
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
    stem = torch.randn(count, WIDTH, generator=random) + shift
    verdict = torch.randn(count, generator=random) + shift if head else None
    return Evidence(features, logits, stem, verdict), labels


def flagged(guard: object, found: Evidence) -> int:
    return int((guard.strangeness(found) > guard.threshold).sum())  # type: ignore[attr-defined]


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
    scale = fit_scale(raw)
    at = torch.linspace(-9, 9, 400, dtype=torch.float64)[None]
    surprise = scale.surprise(at)[0]
    assert (surprise.diff() > 0).all()  # below, inside and beyond what was seen
    # exp(-surprise) is the share of a normal distribution that lies above
    for score, share in ((0.0, 0.5), (0.8416, 0.2), (1.2816, 0.1)):
        found = scale.surprise(torch.tensor([[score]], dtype=torch.float64))
        assert math.exp(-float(found)) == pytest.approx(share, rel=0.05)


def test_known_scores_that_are_all_alike_have_a_scale() -> None:
    scales, threshold = calibrate(torch.ones(2, 200, dtype=torch.float64), 0.01)
    assert math.isfinite(threshold)
    found = scales.each.surprise(torch.tensor([[0.5, 1.0, 2.0]] * 2, dtype=torch.float64))
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
    assert float(guard.scales.each.knots[list(WEIGHTS).index("knn"), KNOTS // 2]) > 0.05


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
    total = torch.cat([guard.strangeness(one) for one in (new, odd)])  # type: ignore[attr-defined]
    nearest = torch.cat([one[list(WEIGHTS).index("knn")] for one in both])
    return roc_auc_score(truth, total.numpy()), roc_auc_score(truth, nearest.numpy())


def test_what_only_one_score_sees_is_found() -> None:
    known, labels = evidence(400, 0)
    guard, _ = fit_guard(known, labels, evidence(1000, 1)[0], GuardConfig())
    assert guard is not None and guard.names == list(WEIGHTS)
    new, odd = evidence(2000, 2)[0], evidence(2000, 3)[0]
    for changed in (
        odd._replace(logits=odd.logits * 0 - 20.0),
        odd._replace(stem=odd.stem * 5),
        odd._replace(verdict=torch.full((2000,), 60.0)),
        odd._replace(verdict=torch.full((2000,), -60.0)),  # too real is strange as well
    ):
        ours, nearest = areas(guard, new, changed)
        assert nearest < 0.55 and ours > 0.95


def test_a_score_that_finds_all_usual_takes_nothing_from_the_others() -> None:
    known, labels = evidence(400, 0)
    guard, _ = fit_guard(known, labels, evidence(1000, 1)[0], GuardConfig())
    assert guard is not None
    new, odd = evidence(2000, 2)[0], evidence(2000, 3, shift=4.0)[0]
    sure = odd._replace(logits=torch.full_like(odd.logits, 500.0), verdict=torch.zeros(2000))
    assert areas(guard, new, sure)[0] > 0.99


def test_many_weak_signs_add_up() -> None:
    # surprise of known items is exponential; that of odd ones here half as much again, each alone
    shape = (len(WEIGHTS) - 1, 3000)
    drawn = torch.rand(2, *shape, generator=rng(0), dtype=torch.float64).log().neg()
    each = torch.cat([drawn[0], 1.5 * drawn[1]], dim=1)
    truth = np.repeat([0, 1], 3000)
    total = roc_auc_score(truth, combined(each).numpy())
    assert total > max(roc_auc_score(truth, one) for one in each.numpy()) + 0.05


def test_distance_is_that_of_the_empirical_covariance_where_items_are_many() -> None:
    mixed = torch.randn(WIDTH, WIDTH, generator=rng(0))
    known = torch.randn(200_000, WIDTH, generator=rng(1)) @ mixed + 3
    query = torch.randn(300, WIDTH, generator=rng(2)) @ mixed + 3
    reference = EmpiricalCovariance().fit(known.numpy()).mahalanobis(query.numpy())
    found = fit_gaussian(known).distance(query)
    np.testing.assert_allclose(found.numpy(), reference, rtol=0.02)


def test_few_items_shrink_the_covariance_as_scikit_learn_does() -> None:
    known = torch.randn(30, WIDTH, generator=rng(0), dtype=torch.float64) * torch.arange(1, 13)
    reference = OAS().fit(known.numpy()).covariance_
    whiten = fit_gaussian(known).whiten.double()
    covariance = torch.linalg.inv(whiten @ whiten.T).numpy()
    # ours counts one item less, that the mean has used up
    np.testing.assert_allclose(covariance * 29 / 30, reference, rtol=0.05, atol=0.5)


def test_relative_distance_is_that_to_the_classes_less_that_to_the_whole() -> None:
    known, labels = evidence(600, 0)
    guard, _ = fit_guard(known, labels, evidence(200, 1)[0], GuardConfig())
    assert guard is not None
    found = raw_scores(guard.known, evidence(50, 2)[0], 10, 0.0)
    names = list(WEIGHTS)
    whole = guard.known.whole.distance(evidence(50, 2)[0].features)
    torch.testing.assert_close(
        found[names.index("relative")], found[names.index("classes")] - whole
    )
    # a mean for each class: an item in the middle of a cluster is near, one between them is far
    centre = 4 * F.one_hot(torch.tensor([1]), WIDTH).float()
    middle = torch.full((1, WIDTH), 0.0)
    middle[0, :CLASSES] = 4 / CLASSES
    assert guard.known.classes.distance(centre) < 1 < guard.known.classes.distance(middle)


def test_items_that_are_all_alike_have_a_distance() -> None:
    found = fit_gaussian(torch.ones(20, WIDTH)).distance(torch.ones(2, WIDTH))
    assert found.isfinite().all() and (found < 1e-3).all()
    assert fit_gaussian(torch.ones(20, WIDTH)).distance(torch.zeros(2, WIDTH)).isfinite().all()


def test_without_a_verdict_there_is_one_score_less() -> None:
    known, labels = evidence(200, 0, head=False)
    guard, facts = fit_guard(known, labels, evidence(200, 1, head=False)[0], GuardConfig())
    assert guard is not None and facts["scores"] == list(WEIGHTS)[:-1]
    assert guard.surprise(evidence(5, 2)[0]).shape == (5, 5)  # a verdict that is there is not used


def test_the_bank_is_bounded_and_fair_to_classes() -> None:
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    chosen = spread(labels, 60, rng(0))
    assert len(chosen) == len(chosen.unique()) == 60
    assert labels[chosen].bincount().tolist() == [25, 25, 10]
    known, names = evidence(300, 0)
    guard, _ = fit_guard(known, names, evidence(200, 1)[0], GuardConfig(bank=64))
    assert guard is not None and guard.known.bank.shape == (64, WIDTH)
    again, _ = fit_guard(known, names, evidence(200, 1)[0], GuardConfig(bank=64))
    assert again is not None and torch.equal(guard.known.bank, again.known.bank)


def test_what_is_stored_comes_back() -> None:
    known, labels = evidence(300, 0)
    guard, _ = fit_guard(known, labels, evidence(200, 1)[0], GuardConfig())
    assert guard is not None
    again = read_guard(guard.tensors(), WIDTH, WIDTH, True, "here")
    new = evidence(50, 2)[0]
    assert torch.equal(again.surprise(new), guard.surprise(new))
    assert torch.equal(again.strangeness(new), guard.strangeness(new))
    assert again.threshold == guard.threshold and again.neighbours == guard.neighbours


@pytest.mark.parametrize(
    "change",
    [
        {"bank": torch.zeros(4, WIDTH + 1)},
        {"bank": torch.zeros(0, WIDTH)},
        {"classes_means": torch.zeros(0, WIDTH)},
        {"whole_means": torch.zeros(2, WIDTH)},
        {"early_whiten": torch.zeros(WIDTH, WIDTH + 1)},
        {"early_whiten": torch.full((WIDTH, WIDTH), float("inf"))},
        {"knots": torch.zeros(2, KNOTS)},
        {"decays": torch.zeros(6)},
        {"decays": torch.ones(7)},
        {"total_decays": torch.zeros(1)},
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
        read_guard(guard.tensors() | change, WIDTH, WIDTH, True, "here")
    with pytest.raises(IntegrityError, match="knots"):  # a model without a discriminator
        read_guard(guard.tensors(), WIDTH, WIDTH, False, "here")
    with pytest.raises(IntegrityError, match="early_whiten"):  # a stem that says more
        read_guard(guard.tensors(), WIDTH, 2 * WIDTH, True, "here")
    # a guard of before, which looked elsewhere, has the same shapes
    before = {name.replace("early_", "stem_"): value for name, value in guard.tensors().items()}
    with pytest.raises(IntegrityError, match="it must hold exactly"):
        read_guard(before, WIDTH, WIDTH, True, "here")


def test_strangeness_is_rarity_among_known_items() -> None:
    known, labels = evidence(400, 0)
    guard, _ = fit_guard(known, labels, evidence(4000, 1)[0], GuardConfig())
    assert guard is not None and guard.threshold == pytest.approx(-math.log(0.01), abs=0.4)
    new = guard.strangeness(evidence(4000, 2)[0])
    for share in (0.5, 0.2, 0.05, 0.01):
        assert float((new > -math.log(share)).double().mean()) == pytest.approx(share, rel=0.35)


def test_scale_is_a_tuple_of_two() -> None:
    assert Scale._fields == ("knots", "decays")  # the names in the file
