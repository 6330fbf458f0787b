"""Doubtful labels: the rule by hand, and wrong labels that a model finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from discern.data.sources import open_source
from discern.errors import DataError, UsageError
from discern.models.backbone import BackboneConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.recipes import suspects as recipe
from discern.recipes.suspects import doubts, suspects


def test_the_rule_of_confident_learning() -> None:
    probabilities = np.array(
        [
            [0.9, 0.1],
            [0.7, 0.3],  # class 0 gets 0.6 of its own on average
            [0.2, 0.8],  # labelled 0, and passes the threshold of class 1
            [0.45, 0.55],  # labelled 0, looks like 1, but not as surely as those of 1 do
            [0.3, 0.7],
            [0.25, 0.75],  # those of 1 get 0.725
        ]
    )
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert doubts(probabilities, labels) == [(2, 1)]
    assert doubts(probabilities[:2], labels[:2]) == []  # nothing is labelled 1


def _model(folder: Path, labels: list[str]) -> Path:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=32, depth=1, heads=2)
    model = Model(ModelConfig(backbone=backbone, classes=len(labels))).eval()
    size = {"height": 16, "width": 16}
    save_bundle(folder / "model", model, labels=labels, preprocess=size, made={})
    return folder / "model"


def test_wrong_labels_are_found_and_other_classes_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the network answers by how bright the item is."""
    for label, light in (("dark", 20), ("light", 220), ("loud", 90)):
        for number in range(6):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            value = light if number else 240 - light  # the first one is wrong
            picture = Image.new("RGB", (16, 16), (value,) * 3)
            picture.save(tmp_path / "photos" / label / f"{number}.png")

    def says(model: object, batches: object) -> np.ndarray:
        found = []
        for batch in batches:  # type: ignore[attr-defined]
            bright = batch.clip.float().flatten(1).mean(dim=1) / 255
            found.append(torch.stack([1 - bright, bright], dim=1).log())
        return torch.cat(found).numpy()

    monkeypatch.setattr(recipe, "forward", says)
    model = _model(tmp_path, ["dark", "light"])
    found = suspects(model, open_source([str(tmp_path / "photos")]))
    assert sorted((Path(one["path"]).parts[-2:], one["looks_like"]) for one in found) == [
        (("dark", "0.png"), "light"),
        (("light", "0.png"), "dark"),
    ]
    assert all(one["probability"] > 0.8 for one in found)


def test_without_common_classes_or_a_classifier_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "cat" / "1.png")
    source = open_source([str(tmp_path / "photos")])
    with pytest.raises(DataError, match="no item carries a label"):
        suspects(_model(tmp_path, ["dark", "light"]), source)
    with pytest.raises(UsageError, match="knows no classes"):
        suspects(_model(tmp_path / "other", []), source)
