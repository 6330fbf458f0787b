"""Discern in the manner of scikit-learn: arrays or paths and labels in, a fitted classifier out.

    DiscernClassifier().fit(X, y).predict(X)

It takes the recipe, the objective and the loop of `discern train`; only the data comes from memory
and nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from discern import config as configuration
from discern.clip import Kind
from discern.data.arrays import (
    SMALL,
    Arrays,
    Given,
    Paths,
    are_paths,
    axes,
    join,
    span_of,
    squares,
    to_clips,
)
from discern.data.augment import PLAIN
from discern.data.clipset import ClipSet
from discern.data.loader import evaluation_batches
from discern.data.preprocess import PreprocessConfig
from discern.evaluate.evaluate import accuracy
from discern.models.model import Model
from discern.models.public import load_start
from discern.models.weights import Bundle
from discern.objectives.objective import Objective
from discern.predict import forward
from discern.recipes import images
from discern.recipes.prepare import shaped, shaped_for
from discern.recipes.progress import progress_bar
from discern.recipes.train import configured
from discern.scale.precision import autocast, choose_precision
from discern.security.certainty import softmax
from discern.train.bounds import within_bounds
from discern.train.build import build_objective, pretrained_model, tuned_model
from discern.train.loop import Evaluate, LoopConfig, Outcome, fit
from discern.train.run import build_loader, choose_device
from discern.train.settings import RunConfig

PASSES = 15  # over the items, by default, within the limits below
FEWEST_STEPS, MOST_STEPS = 60, 1500
BATCHES = 40  # in a pass, by default, within the limits below
SMALLEST_BATCH, LARGEST_BATCH = 32, images.TRAIN_BATCH
BLOCK = 32  # frames that are classified at a time


class DiscernClassifier(ClassifierMixin, BaseEstimator):
    """A Transformer classifier of images and clips.

    X holds images [N, H, W] or [N, H, W, C], clips [N, T, H, W, C] (C is 1 or 3, and comes last),
    or paths of image and video files.  Pixels are uint8, or numbers in a range that is learned from
    the training data: 0 to 1, or else from the least of them to the greatest.

    Rows of numbers [N, F] are taken as flattened square images, filled up with black where F is no
    square, and are not augmented.  That serves data such as scikit-learn's digits; for tables that
    are no pictures take another classifier.
    """

    def __init__(
        self,
        base: str | os.PathLike[str] | None = None,
        size: str | None = None,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        target_accuracy: float | None = None,
        patience: int | None = None,
        validation: float = 0.1,
        batch_size: int | None = None,
        rate: float | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        overrides: Sequence[str] = (),
        verbose: bool = False,
    ) -> None:
        self.base = base  # run folder or model folder to start from, as `--from`
        self.size = size  # of the encoder, where there is no base
        self.minutes = minutes  # the budget; without one 15 passes, but 60 to 1,500 steps
        self.steps = steps
        self.target_accuracy = target_accuracy  # stop there, on a validation split
        self.patience = patience  # stop after so many evaluations without a better one
        self.validation = validation  # share of the items; only a target or patience needs it
        self.batch_size = batch_size
        self.rate = rate
        self.seed = seed
        self.device = device
        self.precision = precision  # "auto" takes the faster one, and so not always the same
        self.overrides = overrides  # "a.b=c", as `--set`
        self.verbose = verbose

    def fit(self, X: Any, y: Any, *, unlabelled: Any = None) -> DiscernClassifier:
        """Train on items and labels; with `unlabelled` items, pre-train on all of them first."""
        given, y = self._labelled(X, y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_[0]!r}): give two or more")
        start = (
            None
            if self.base is None
            else load_start(self.base if isinstance(self.base, str) else Path(self.base))
        )
        # each step seeds torch's global generator: what the caller draws must not depend on it
        with torch.random.fork_rng(devices=[]):
            if unlabelled is not None:
                start = self._pretrain(given, self._unlabelled(unlabelled), start)
            self._tune(given, labels, start)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, in the order of `classes_`.  -> [N, K]"""
        check_is_fitted(self)
        given = self._unlabelled(X)
        found = np.empty((len(given), len(self.classes_)))
        for items in given.sets(self.preprocess_).values():
            found[items.indices] = _probabilities(self.model_, items)
        return found

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each item.  -> [N]"""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _labelled(self, X: Any, y: Any) -> tuple[Given, np.ndarray]:
        """What `fit` was given, checked."""
        self.__dict__.pop("n_features_in_", None)  # of an earlier fit on rows
        self.span_ = (0.0, 255.0)
        if y is None or not (are_paths(X) or axes(X) in (3, 4, 5)):
            X, y = validate_data(self, X, y)
            check_classification_targets(y)
            self.span_ = span_of(X)
            return self._rows(X), y
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        if are_paths(X):
            return Paths(X), y
        X = check_array(X, allow_nd=True)
        self.span_ = span_of(X)
        return Arrays(to_clips(X, self.span_)), y

    def _unlabelled(self, X: Any) -> Given:
        """What `predict` was given, checked."""
        if are_paths(X):
            return Paths(X)
        if axes(X) in (3, 4, 5):
            return Arrays(to_clips(check_array(X, allow_nd=True), self.span_))
        return self._rows(validate_data(self, X, reset=False))

    def _rows(self, X: np.ndarray) -> Arrays:
        return Arrays(to_clips(squares(X, black=self.span_[0]), self.span_), rows=True)

    def _settings(self, given: Given, start: Bundle | None) -> RunConfig:
        config = configured(
            images.supervised(),
            lambda config: _shaped(config, given),
            start,
            size=self.size,
            seed=self.seed,
            batch=self.batch_size or _batch_size(len(given.items)),
            rate=self.rate,
            overrides=(),
        )
        if isinstance(given, Arrays) and given.rows:
            unmixed = replace(config.supervised, mix_chance=0.0)
            config = replace(config, strong=PLAIN, supervised=unmixed)
        config = replace(config, device=self.device, precision=self.precision)
        config = configuration.override(config, self.overrides)
        return within_bounds(config, pretraining=False)

    def _budget(self, config: RunConfig, items: int) -> LoopConfig:
        steps = self.steps
        if steps is None and self.minutes is None:
            batches = max(1, items // config.data.loader.batch_size)
            steps = min(MOST_STEPS, max(FEWEST_STEPS, PASSES * batches))
        return replace(config.loop, minutes=self.minutes, steps=steps)

    def _pretrain(self, given: Given, more: Given, start: Bundle | None) -> Bundle:
        tuning = self._settings(given, start)
        preprocess = tuning.data.preprocess
        sets = join(given.sets(preprocess), more.sets(preprocess))
        config = replace(
            images.masked_gan(),
            seed=self.seed,
            device=tuning.device,
            precision=tuning.precision,
            backbone=replace(tuning.backbone, drop_path=0.0),
            data=tuning.data,
        )
        config = configuration.override(config, self.overrides)
        config = within_bounds(config, pretraining=True)
        config = replace(config, loop=self._budget(config, sum(map(len, sets.values()))))
        objective = build_objective(config, None if start is None else start.model)
        self._run("pre-training", objective, sets, config)
        return Bundle(
            model=pretrained_model(objective.cpu()),
            labels=[],
            preprocess=configuration.to_dict(preprocess),
            made={},
            path=Path(),
        )

    def _tune(self, given: Given, labels: np.ndarray, start: Bundle | None) -> None:
        config = self._settings(given, start)
        positions, held_out = np.arange(len(given)), np.arange(0)
        if self.target_accuracy is not None or self.patience is not None:
            positions, held_out = train_test_split(
                positions, test_size=self.validation, random_state=self.seed, stratify=labels
            )
        loop = self._budget(config, len(positions))
        loop = replace(loop, target_accuracy=self.target_accuracy, patience=self.patience)
        config = replace(config, loop=loop)
        preprocess = config.data.preprocess
        sets = given.sets(preprocess, positions, labels)
        base = None if start is None else start.model
        objective = build_objective(config, base, len(self.classes_))
        evaluate = None
        if len(held_out):
            known, average = given.sets(preprocess, held_out, labels), objective.averages[0][1]
            evaluate = lambda: {"accuracy": accuracy(average, known)}  # noqa: E731
        outcome = self._run("tuning", objective, sets, config, evaluate)
        self.model_ = tuned_model(objective.cpu(), base).to(choose_device(config.device))
        self.preprocess_: PreprocessConfig = preprocess
        self.n_steps_ = outcome.state.step
        self.stopped_by_ = outcome.stopped_by
        self.validation_accuracy_ = outcome.state.last
        met = self.target_accuracy is None or outcome.stopped_by == "target"
        if not met or outcome.stopped_by == "diverged":
            warnings.warn(_shortfall(outcome, self.target_accuracy), ConvergenceWarning, 3)

    def _run(
        self,
        title: str,
        objective: Objective,
        sets: dict[Kind, ClipSet],
        config: RunConfig,
        evaluate: Evaluate | None = None,
    ) -> Outcome:
        device = choose_device(config.device)
        precision = choose_precision(config.precision, device)
        with progress_bar(title) if self.verbose else contextlib.nullcontext(_silent) as report:
            return fit(
                objective.to(device).train(),
                build_loader(sets, config),
                config.loop,
                config.optim,
                seed=config.seed,
                journal=_Nowhere(),
                keeper=_Memory(),
                device=device,
                autocast=lambda: autocast(precision, device),
                evaluate=evaluate,
                report=report,
            )


class _Nowhere:
    """A journal that keeps nothing."""

    def log(self, *, step: int, **values: Any) -> None:
        pass


class _Memory:
    """A keeper of the last checkpoint, for a training that must go back to it."""

    def __init__(self) -> None:
        self._last: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None

    def save(self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        self._last = ({name: value.detach().clone() for name, value in tensors.items()}, state)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        return self._last


def _probabilities(model: Model, items: ClipSet) -> np.ndarray:
    """Class probabilities.  Blocks are filled up: no answer depends on what else is asked."""
    size = BLOCK if items.kind is Kind.IMAGE else max(1, BLOCK // items.preprocess.frames)
    filled = items.subset(np.arange(-(-len(items) // size) * size) % len(items))
    device = next(model.parameters()).device
    return softmax(forward(model, evaluation_batches(filled, size), device))[: len(items)]


def _batch_size(items: int) -> int:
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, items // BATCHES))


def _shaped(config: RunConfig, given: Given) -> RunConfig:
    """The canvas and patch that fit the items."""
    if not isinstance(given, Arrays):
        return shaped_for(config, given)
    height, width = given.clips.shape[2:4]
    if not given.rows or height > SMALL:
        return shaped(config, np.array([[height, width]]))
    preprocess = replace(config.data.preprocess, height=height, width=width)
    return replace(
        config,
        backbone=replace(config.backbone, patch=2),
        data=replace(config.data, preprocess=preprocess),
    )


def _shortfall(outcome: Outcome, target: float | None) -> str:
    if outcome.stopped_by == "diverged":
        return f"the loss is not finite at step {outcome.state.step}: lower the rate"
    best = f"{outcome.state.best:.1%}" if outcome.state.best >= 0 else "unknown"
    return (
        f"stopped by {outcome.stopped_by} before the target of {target:.1%} "
        f"(validation accuracy {best}): give more steps or minutes"
    )


def _silent(progress: float, line: str) -> None:
    pass
