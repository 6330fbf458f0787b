"""Support vector machines: folds, few labels, probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from discern.baselines.linear import SvmConfig, fit_svm, folds_of
from discern.errors import DataError

LINEAR = SvmConfig(kernel="linear")


def _clouds(per_class: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    centres = 3 * np.eye(classes, 12)
    return (centres[labels] + rng.normal(size=(len(labels), 12))).astype(np.float32), labels


@pytest.mark.parametrize("config", [LINEAR, SvmConfig()])
def test_separates_clouds_and_knows_how_sure_it_is(config: SvmConfig) -> None:
    svm = fit_svm(*_clouds(40), config=config)
    features, labels = _clouds(200, seed=1)
    probabilities = svm.probabilities(features)
    accuracy = (probabilities.argmax(1) == labels).mean()
    assert accuracy > 0.9
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert abs(probabilities.max(1).mean() - accuracy) < 0.1


def test_table_and_libsvm_agree() -> None:
    features, labels = _clouds(30)
    with_table = fit_svm(features, labels).probabilities(features)
    without = fit_svm(features, labels, config=SvmConfig(table_items=0)).probabilities(features)
    np.testing.assert_allclose(with_table, without, atol=1e-3)


@pytest.mark.parametrize("config", [LINEAR, SvmConfig()])
@pytest.mark.parametrize(
    "counts", [(1, 1), (1, 1, 1), (1, 2), (2, 2), (1, 5), (1, 2, 9), (5, 4, 3)]
)
def test_few_labels(config: SvmConfig, counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).normal(size=(len(labels), 30)).astype(np.float32)
    svm = fit_svm(features, labels, config=config)
    assert (svm.validation_accuracy is None) == (max(counts) == 1)
    assert svm.probabilities(features).shape == (len(labels), len(counts))
    assert np.isfinite(svm.probabilities(features)).all()


def test_a_class_without_items_has_no_probability() -> None:
    features, labels = _clouds(10, classes=2)
    probabilities = fit_svm(features, labels * 2, classes=4).probabilities(features)
    assert probabilities.shape == (20, 4) and not probabilities[:, [1, 3]].any()


def test_folds_spread_each_class_and_leave_single_items_in_training() -> None:
    labels = np.array([0] * 9 + [1] * 4 + [2])
    fold = folds_of(labels, 3, seed=0)
    assert np.bincount(fold[:9]).tolist() == [3, 3, 3]
    assert sorted(np.bincount(fold[9:13], minlength=3)) == [1, 1, 2]
    assert fold[13] == -1


def test_folds_keep_groups_whole() -> None:
    labels = np.repeat([0, 1], 12)
    groups = np.repeat(np.arange(8), 3)
    fold = folds_of(labels, 3, seed=0, groups=groups)
    assert all(len(set(fold[groups == group])) == 1 for group in range(8))
    assert set(fold) == {0, 1, 2}
    one_film = folds_of(labels, 3, seed=0, groups=np.where(labels == 0, 0, 1 + groups))
    assert set(one_film[labels == 0]) == {-1}


def test_groups_unmask_copies() -> None:
    # eight copies of each random item: without groups, copies of held-out items are in training
    copied, honest = [], []
    for seed in range(4):  # one draw of 12 items may be easy by luck
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(12, 20)).astype(np.float32).repeat(8, axis=0)
        labels, groups = np.repeat(rng.permutation([0] * 6 + [1] * 6), 8), np.arange(12).repeat(8)
        copied.append(fit_svm(features, labels).validation_accuracy)
        honest.append(fit_svm(features, labels, groups=groups).validation_accuracy)
    assert np.mean(copied) == 1
    assert np.mean(honest) < 0.8


def test_blocks_have_the_same_say() -> None:
    features, labels = _clouds(30)
    noise = np.random.default_rng(1).normal(size=(len(features), 600)).astype(np.float32)
    both = np.concatenate([features, noise], axis=1)
    in_blocks = fit_svm(both, labels, blocks=[12, 600]).validation_accuracy
    in_one = fit_svm(both, labels).validation_accuracy
    assert in_blocks is not None and in_one is not None and in_blocks > in_one + 0.05


@pytest.mark.parametrize(
    ("labels", "text"),
    [([0, 0], "one label"), ([0, -1], "without a label"), ([0], "one label per")],
)
def test_says_what_is_wrong(labels: list[int], text: str) -> None:
    with pytest.raises(DataError, match=text):
        fit_svm(np.zeros((2, 4), np.float32), np.array(labels))
