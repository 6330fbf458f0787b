"""Support vector machines: features [N, F] and labels go in, a classifier comes out.

Settings are chosen by cross-validation on the training items, also where a class has few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from discern.errors import DataError

Kernel = Literal["linear", "rbf"]


@dataclass(frozen=True, kw_only=True)
class SvmConfig:
    """The short grid that cross-validation chooses from, on features whose variances sum to one."""

    kernel: Kernel = "rbf"
    linear_costs: tuple[float, ...] = (0.1, 1.0, 10.0)
    rbf_costs: tuple[float, ...] = (1.0, 10.0)
    rbf_widths: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0)  # gamma
    folds: int = 3
    search_items: int = 3000  # with more, the grid is searched on a random part of this size
    table_items: int = 6000  # with more, the table of all distances would not fit
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of the grid."""

    kernel: Kernel
    cost: float
    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A trained machine; with a table of distances it needs the items it was trained on."""

    setting: Setting
    model: Any  # LinearSVC or SVC of scikit-learn
    items: np.ndarray | None = None  # [N, F]

    def decisions(self, features: np.ndarray, classes: int) -> np.ndarray:
        """One value per class, -inf for classes without training items.  [M, F] -> [M, K]"""
        if self.items is None:
            return _spread(self.model, features, classes)
        # distances as one matrix product: five times faster than libsvm's own loop
        support = self.model.support_
        kernel = np.zeros((len(features), len(self.items)))
        kernel[:, support] = _kernel(_distances(features, self.items[support]), self.setting.width)
        return _spread(self.model, kernel, classes)


@dataclass(frozen=True, kw_only=True)
class Svm:
    """A machine behind a standardization, with probabilities."""

    mean: np.ndarray  # [F]
    scale: np.ndarray  # [F]
    machine: Machine
    classes: int
    temperature: float  # probabilities = softmax(decisions / temperature)
    validation_accuracy: float | None  # None where no class has two items

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """[N, F] -> float [N, K]; classes without training items have 0"""
        standard = (features - self.mean) / self.scale
        return _softmax(self.machine.decisions(standard, self.classes) / self.temperature)


def fit_svm(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int | None = None,
    groups: np.ndarray | None = None,
    blocks: Sequence[int] | None = None,
    config: SvmConfig | None = None,
) -> Svm:
    """The best machine of the grid, fitted on all items.  [N, F], int [N] -> Svm

    Items of one group (int [N]) never lie on both sides of a fold.  `blocks` are the lengths of the
    kinds of features that stand side by side: each kind has the same say, however long it is.
    """
    config = config or SvmConfig()
    labels = np.asarray(labels)
    _check(features, labels)
    classes = max(classes or 0, int(labels.max()) + 1)
    mean, scale = _standardization(features, blocks or [features.shape[1]])
    standard = (features - mean) / scale
    setting, temperature, accuracy = _search(standard, labels, classes, groups, config)
    return Svm(
        mean=mean,
        scale=scale,
        machine=_train(setting, standard, labels, config),
        classes=classes,
        temperature=temperature,
        validation_accuracy=accuracy,
    )


def folds_of(
    labels: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """The fold of each item, classes spread evenly, groups kept whole.  int [N] -> int [N]

    A class that has one item, or one group, always trains: its fold is -1.
    """
    rng = np.random.default_rng(seed)
    groups = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    fold = np.full(len(labels), -2)
    counts = np.zeros((folds, int(labels.max()) + 1), int)
    for label in np.argsort(np.bincount(labels), kind="stable"):  # rare classes first
        mine = np.unique(groups[(labels == label) & (fold == -2)])
        for group in rng.permutation(mine):
            members = groups == group
            if len(np.unique(groups[labels == label])) < 2:
                fold[members] = -1
                continue
            emptiest = np.lexsort([counts.sum(1), counts[:, label]])[0]
            fold[members] = emptiest
            np.add.at(counts[emptiest], labels[members], 1)
    return fold


def _check(features: np.ndarray, labels: np.ndarray) -> None:
    if len(features) != len(labels) or len(labels) == 0:
        raise DataError(f"{len(features)} items and {len(labels)} labels: give one label per item")
    if labels.min() < 0:
        raise DataError("an item without a label cannot train a classifier: leave it out")
    if len(np.unique(labels)) < 2:
        raise DataError("all training items have one label: a classifier needs two classes")


def _standardization(features: np.ndarray, blocks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale after which the variances sum to one.  [N, F] -> [F], [F]"""
    assert sum(blocks) == features.shape[1], (blocks, features.shape)
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 1e-6, deviation, 1)
    length = np.repeat(np.asarray(blocks, np.float32), blocks)  # of the block, at each feature
    return mean, (deviation * np.sqrt(length * len(blocks))).astype(features.dtype)


def _search(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray | None,
    config: SvmConfig,
) -> tuple[Setting, float, float | None]:
    """The setting with the best cross-validated accuracy, its temperature and that accuracy."""
    if len(labels) > config.search_items:
        chosen = np.random.default_rng(config.seed).permutation(len(labels))[: config.search_items]
        features, labels = features[chosen], labels[chosen]
        groups = None if groups is None else groups[chosen]
    fold = folds_of(labels, config.folds, config.seed, groups)
    held = fold >= 0
    grid = _grid(config)
    if not held.any():
        return grid[len(grid) // 2], 1.0, None
    table = _distances(features, features) if config.kernel == "rbf" else None  # [N, N]
    best: tuple[float, Setting, np.ndarray] | None = None
    for setting in grid:
        decisions = _held_out(setting, features, table, labels, fold, classes, config)
        accuracy = float((decisions.argmax(1) == labels[held]).mean())
        if best is None or accuracy > best[0]:
            best = accuracy, setting, decisions
    assert best is not None
    return best[1], _temperature(best[2], labels[held]), best[0]


def _held_out(
    setting: Setting,
    features: np.ndarray,
    table: np.ndarray | None,
    labels: np.ndarray,
    fold: np.ndarray,
    classes: int,
    config: SvmConfig,
) -> np.ndarray:
    """Decisions on each item that has a fold, by a machine that did not see that fold."""
    decisions = np.full((len(labels), classes), -np.inf)
    for k in range(config.folds):
        out, rest = fold == k, fold != k
        seen = np.unique(labels[rest])
        if not out.any():
            continue
        if len(seen) < 2:  # nothing to tell apart
            decisions[np.ix_(out, seen)] = 0
        elif table is not None:
            model = _svc("precomputed", setting)
            model.fit(_kernel(table[np.ix_(rest, rest)], setting.width), labels[rest])
            kernel = _kernel(table[np.ix_(out, rest)], setting.width)
            decisions[out] = _spread(model, kernel, classes)
        else:
            machine = _train(setting, features[rest], labels[rest], config)
            decisions[out] = machine.decisions(features[out], classes)
    return decisions[fold >= 0]


def _grid(config: SvmConfig) -> list[Setting]:
    if config.kernel == "linear":
        return [Setting(kernel="linear", cost=cost) for cost in config.linear_costs]
    return [
        Setting(kernel="rbf", cost=cost, width=width)
        for cost in config.rbf_costs
        for width in config.rbf_widths
    ]


def _train(
    setting: Setting, features: np.ndarray, labels: np.ndarray, config: SvmConfig
) -> Machine:
    if setting.kernel == "linear":
        from sklearn.svm import LinearSVC

        model = LinearSVC(C=setting.cost, dual=False, random_state=config.seed)
        return Machine(setting=setting, model=model.fit(features, labels))
    if len(features) > config.table_items:
        return Machine(setting=setting, model=_svc("rbf", setting).fit(features, labels))
    kernel = _kernel(_distances(features, features), setting.width)
    model = _svc("precomputed", setting).fit(kernel, labels)
    return Machine(setting=setting, model=model, items=features)


def _svc(kernel: str, setting: Setting) -> Any:
    from sklearn.svm import SVC

    return SVC(C=setting.cost, kernel=kernel, gamma=setting.width, cache_size=500)


def _spread(model: Any, rows: np.ndarray, classes: int) -> np.ndarray:
    """Decisions in the columns of all classes, -inf where the model knows none.  -> [N, K]"""
    values = model.decision_function(rows)
    if values.ndim == 1:  # two classes
        values = np.stack([-values, values], axis=1)
    decisions = np.full((len(rows), classes), -np.inf)
    decisions[:, model.classes_] = values
    return decisions


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances.  [N, F], [M, F] -> [N, M]"""
    squares = (left * left).sum(1)[:, None] + (right * right).sum(1)
    return np.maximum(squares - 2 * (left @ right.T), 0)


def _kernel(distances: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-width * distances).astype(np.float64)


def _temperature(decisions: np.ndarray, labels: np.ndarray) -> float:
    """The temperature whose softmax makes the held-out labels most likely."""
    grid = np.geomspace(0.02, 10, 40)
    losses = []
    for temperature in grid:
        probabilities = _softmax(decisions / temperature)[np.arange(len(labels)), labels]
        losses.append(-np.log(np.maximum(probabilities, 1e-12)).mean())
    return float(grid[int(np.argmin(losses))])


def _softmax(values: np.ndarray) -> np.ndarray:
    weights = np.exp(values - values.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)
