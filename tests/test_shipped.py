"""Weights that ship: they load by name, see, draw, and are small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from discern.cli.words import model as model_word
from discern.errors import UsageError
from discern.models.weights import load_bundle
from discern.predict import preprocessing
from discern.recipes.generate import generate
from discern.shipped import SHIPPED, shipped

MOST = 16 * 2**20  # bytes of all of them


@pytest.mark.parametrize("name", SHIPPED)
def test_they_load_by_name(name: str) -> None:
    bundle = load_bundle(name)
    folder = shipped(name)
    assert folder is not None and bundle.path == folder and model_word(name) == Path(name)
    assert bundle.model.generator is not None and bundle.model.discriminator is not None
    size = preprocessing(bundle)
    for frames in (1, size.frames):
        clip = torch.rand(2, 3, frames, size.height, size.width) * 2 - 1
        pooled = bundle.model(clip)
        assert pooled.shape == (2, bundle.model.config.backbone.width)
        assert pooled.isfinite().all() and (pooled[0] - pooled[1]).abs().max() > 1e-3


def test_they_are_small_and_name_no_path_of_a_machine() -> None:
    folders = [shipped(name) for name in SHIPPED]
    files = [path for folder in folders if folder is not None for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < MOST
    for path in files:
        if path.suffix == ".json":
            assert "/tmp" not in path.read_text() and "/work" not in path.read_text()


def test_a_folder_of_that_name_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "discern-nano").mkdir()
    with pytest.raises(UsageError, match="no model in it"):
        load_bundle("discern-nano")


def test_an_unknown_name_is_told_what_ships() -> None:
    with pytest.raises(UsageError, match="discern-nano"):
        load_bundle("discern-nanoo")


def test_they_draw(tmp_path: Path) -> None:
    generate("discern-nano", 4, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 500


def test_the_classifier_for_arrays_starts_from_them() -> None:
    from discern import DiscernClassifier

    images = np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), dtype=np.uint8)
    images[::2] //= 4
    words = np.array(["dark", "light"] * 8)
    fitted = DiscernClassifier(base="discern-nano", steps=3, batch_size=8).fit(images, words)
    assert set(fitted.predict(images)) <= {"dark", "light"}
    fresh = DiscernClassifier(steps=3, batch_size=8).fit(images, words)
    assert fitted.predict_proba(images).shape == fresh.predict_proba(images).shape == (16, 2)
