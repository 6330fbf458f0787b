"""The classifier in scikit-learn's manner: its contract, each form of input, what it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from discern import DiscernClassifier
from discern import config as configuration
from discern.clip import Clip, Kind
from discern.data.arrays import span_of, squares, to_clips
from discern.data.images import write_image
from discern.data.videos import write_video
from discern.errors import ConfigError, DataError, UsageError
from discern.models.weights import save_bundle

SMALL = ("backbone.width=32", "backbone.depth=1", "backbone.heads=2", "strong.solarize=0")
# these ask for accuracy: with all others a few steps will do
NEED_TRAINING = {"check_classifiers_train", "check_classifiers_classes"}
# nothing fails today; an entry needs a reason
EXPECTED_FAILED: dict[str, str] = {}


def name_of(check: Any) -> str:
    return getattr(check, "func", check).__name__


QUICK = [
    pytest.param(estimator, check, id=name_of(check))
    for estimator, check in estimator_checks_generator(
        DiscernClassifier(steps=2, overrides=SMALL), expected_failed_checks=EXPECTED_FAILED
    )
    if name_of(check) not in NEED_TRAINING
]


@pytest.mark.parametrize(("estimator", "check"), QUICK)
def test_contract(estimator: DiscernClassifier, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.timeout(600)
@parametrize_with_checks(
    [DiscernClassifier()], expected_failed_checks=lambda estimator: EXPECTED_FAILED
)
def test_contract_of_the_defaults(
    estimator: DiscernClassifier, check: Callable[[Any], None]
) -> None:
    check(estimator)


def small(**settings: Any) -> DiscernClassifier:
    settings.setdefault("steps", 25)
    return DiscernClassifier(**{"overrides": SMALL, "rate": 3e-3, "batch_size": 16, **settings})


def halves(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise that is dark or bright: uint8 [N, ...] and the words for it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 60, (count, *shape))
    return (noise + 180 * labels.reshape(-1, *[1] * len(shape))).astype(np.uint8), np.where(
        labels, "day", "night"
    )


@pytest.mark.parametrize("shape", [(8, 8), (9, 12, 1), (16, 16, 3), (4, 8, 8, 3), (64,), (30,)])
@pytest.mark.parametrize("number", [np.uint8, np.float32])
def test_every_shape_is_learned(shape: tuple[int, ...], number: type) -> None:
    X, y = halves(24, shape)
    given = X if number is np.uint8 else (X / 255.0).astype(number)
    model = small().fit(given, y)
    assert list(model.classes_) == ["day", "night"]
    assert model.score(given, y) == 1.0
    assert model.stopped_by_ == "steps" and model.n_steps_ == 25
    probabilities = model.predict_proba(given)
    assert probabilities.shape == (24, 2)
    assert np.allclose(probabilities.sum(axis=1), 1.0)


def test_arrays_become_clips() -> None:
    levels = np.array([0.0, 8.0, 16.0]).reshape(3, 1, 1)
    clips = to_clips(np.broadcast_to(levels, (3, 2, 2)), (0.0, 16.0))
    assert clips.shape == (3, 1, 2, 2, 3) and clips.dtype == np.uint8
    assert clips[:, 0, 0, 0, 0].tolist() == [0, 128, 255]
    # what lies outside of the training data is black or white
    assert to_clips(np.full((1, 1, 1), 99.0), (0.0, 16.0)).max() == 255
    assert to_clips(np.full((1, 1, 1), -99.0), (0.0, 16.0)).min() == 0
    assert to_clips(np.full((1, 1, 1), 5.0), (5.0, 5.0)).max() == 0  # one number only


def test_the_numbers_of_black_and_white() -> None:
    assert span_of(np.array([[3, 7]], dtype=np.uint8)) == (0.0, 255.0)
    assert span_of(np.array([[0.2, 1.0]])) == (0.0, 1.0)
    assert span_of(np.array([[0.0, 1.5]])) == (0.0, 1.5)
    assert span_of(np.array([[-1, 1]])) == (-1.0, 1.0)


def test_rows_become_squares() -> None:
    assert np.array_equal(
        squares(np.arange(1.0, 17.0)[None], 0.0)[0], np.arange(1, 17).reshape(4, 4)
    )
    odd = squares(np.ones((1, 9)), -1.0)[0]  # an even side, the image in its corner
    assert odd.shape == (4, 4) and odd[:3, :3].min() == 1 and odd[3].max() == odd[:, 3].max() == -1
    assert squares(np.ones((1, 2)), 0.0)[0].tolist() == [[1, 1], [0, 0]]
    assert squares(np.ones((1, 21 * 21)), 0.0).shape == (1, 21, 21)


def test_the_unaugmented_rows_and_the_augmented_images(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = halves(20, (8, 8))
    assert small()._settings(small()._labelled(X, y)[0], None).strong.rotate > 0
    rows = small()._settings(small()._labelled(X.reshape(20, 64), y)[0], None)
    assert rows.strong.rotate == rows.strong.flip == rows.supervised.mix_chance == 0
    assert (rows.data.preprocess.height, rows.backbone.patch) == (8, 2)
    # a setting of the user has the last word
    given = small()._labelled(X.reshape(20, 64), y)[0]
    assert small(overrides=["strong.rotate=7"])._settings(given, None).strong.rotate == 7


def write_items(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Images and clips in turns."""
    X, y = halves(16, (1, 16, 16, 3))
    paths = []
    for number, frames in enumerate(X):
        kind = Kind.IMAGE if number % 3 else Kind.CLIP
        frames = frames if kind is Kind.IMAGE else np.repeat(frames, 4, axis=0)
        clip = Clip(frames=frames, times=np.arange(len(frames)) / 8, kind=kind)
        paths.append(folder / f"{number}.{'png' if kind is Kind.IMAGE else 'mp4'}")
        (write_image if kind is Kind.IMAGE else write_video)(clip, paths[-1])
    return paths, y


def test_paths_of_images_and_clips(tmp_path: Path) -> None:
    paths, y = write_items(tmp_path)
    model = small(steps=40).fit(paths, y)
    order = np.random.default_rng(1).permutation(len(paths))
    shuffled = [str(paths[place]) for place in order]
    assert model.predict(shuffled).tolist() == y[order].tolist()
    assert np.array_equal(model.predict_proba(np.array(shuffled)), model.predict_proba(shuffled))
    (tmp_path / "0.mp4").write_bytes((tmp_path / "0.mp4").read_bytes()[:300])
    with pytest.raises(DataError, match=r"0\.mp4: "):
        model.predict(paths)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"notes\.txt: neither an image nor a video"):
        model.predict([tmp_path / "notes.txt"])
    with pytest.raises(DataError, match=r"gone\.png: .*No such file"):
        model.predict([tmp_path / "gone.png"])


def test_in_a_pipeline_and_a_grid() -> None:
    X, y = halves(24, (8, 8))
    search = GridSearchCV(
        make_pipeline(FunctionTransformer(np.asarray), small(steps=3)),
        {"discernclassifier__rate": [1e-3, 3e-3]},
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert set(search.predict(X)) <= {"day", "night"}
    twin = clone(search.best_estimator_[-1])
    assert twin.get_params() == search.best_estimator_[-1].get_params()
    with pytest.raises(NotFittedError):
        twin.predict(X)


def test_the_same_seed_gives_the_same_model_and_leaves_torch_alone() -> None:
    X, y = halves(20, (8, 8))
    torch.manual_seed(5)
    first = small(steps=4).fit(X, y).predict_proba(X)
    drawn = torch.rand(3)
    again = small(steps=4).fit(X, y).predict_proba(X)
    other = small(steps=4, seed=1).fit(X, y).predict_proba(X)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    X, y = halves(40, (8, 8))
    model = small(steps=4).fit(X, y)
    together = model.predict_proba(X)
    assert np.array_equal(together[:7], model.predict_proba(X[:7]))
    assert np.array_equal(together[33:34], model.predict_proba(X[33:34]))


def test_it_stops_at_the_target_or_says_why_not() -> None:
    X, y = halves(60, (8, 8))
    model = small(steps=200, target_accuracy=0.9, validation=0.2).fit(X, y)
    assert model.stopped_by_ == "target" and model.n_steps_ < 200
    assert model.validation_accuracy_ >= 0.9
    random = np.random.default_rng(0).permutation(y)
    with pytest.warns(ConvergenceWarning, match=r"stopped by steps before the target of 100\.0%"):
        model = small(steps=4, target_accuracy=1.0, validation=0.5).fit(X, random)
    assert model.stopped_by_ == "steps" and model.validation_accuracy_ < 1.0
    model = small(steps=400, patience=2, rate=1e-9).fit(X, y)
    assert model.stopped_by_ == "patience"


def test_unlabelled_items_are_pretrained_on() -> None:
    X, y = halves(20, (8, 8))
    more, _ = halves(30, (8, 8), seed=1)
    model = small(steps=3, overrides=SMALL[:3]).fit(X, y, unlabelled=more)
    assert model.model_.generator is not None  # what tuning alone would not have
    assert small(steps=3).fit(X, y).model_.generator is None
    rows = X.reshape(20, 64)
    assert small(steps=3).fit(rows, y, unlabelled=rows).predict(rows).shape == (20,)


def test_from_a_model_folder(tmp_path: Path) -> None:
    X, y = halves(20, (8, 8))
    first = small(steps=30).fit(X, y)
    save_bundle(
        tmp_path / "model",
        first.model_,
        labels=list(first.classes_),
        preprocess=configuration.to_dict(first.preprocess_),
        made={},
    )
    wide, words = halves(20, (12, 16))  # other images, in the canvas of the base
    second = DiscernClassifier(base=tmp_path, steps=12, batch_size=16).fit(wide, words)
    assert second.preprocess_ == first.preprocess_
    assert second.model_.config.backbone.width == 32
    assert second.score(wide, words) == 1.0
    with pytest.raises(UsageError, match="no model"):
        DiscernClassifier(base=tmp_path / "model" / "labels.json").fit(X, y)


X, Y = halves(20, (8, 8))
WRONG: list[tuple[Any, Any, str]] = [
    (np.zeros((20, 3, 8, 8)), Y, "bring the axes into this order"),
    (np.zeros((20, 2, 2, 2, 2, 2)), Y, "Found array with dim 6|expected"),
    (X, np.zeros(20), "one class only"),
    (X, Y[:19], "inconsistent numbers of samples"),
    (X, np.linspace(0, 1, 20), "Unknown label type"),
    (np.where(X > 9, np.nan, 1.0), Y, "NaN"),
    (X.astype(complex), Y, "Complex data not supported"),
    (X[:0], Y[:0], "0 sample"),
    (X, None, "requires y|y is None|target y"),
    (["a.png", "b.png"], None, "requires y|y is None|target y|could not convert"),
]


@pytest.mark.parametrize(("given", "labels", "fragment"), WRONG, ids=lambda value: str(value)[:30])
def test_wrong_input(given: Any, labels: Any, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        small(steps=1).fit(given, labels)


def test_wrong_settings() -> None:
    for settings, fragment in (
        ({"size": "huge"}, "--size huge"),
        ({"overrides": ["optim.rat=1"]}, "did you mean rate"),
        ({"precision": "fp16"}, "there are auto, bf16"),
    ):
        with pytest.raises((ConfigError, UsageError), match=fragment):
            DiscernClassifier(steps=1, **settings).fit(X, Y)
    model = small(steps=1).fit(X.reshape(20, 64), Y)
    with pytest.raises(ValueError, match="64 features"):
        model.predict(X.reshape(20, 64)[:, :60])


@pytest.mark.slow
def test_digits_with_the_defaults() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    train, test, train_y, test_y = train_test_split(images, digits, random_state=0)
    assert DiscernClassifier().fit(train, train_y).score(test, test_y) > 0.95
