"""A head is fitted to what a pre-trained encoder sees before both are tuned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from discern.cli import main
from discern.data.clipset import ClipSet
from discern.evaluate.evaluate import accuracy
from discern.models.backbone import Backbone
from discern.models.batch_norm import learning
from discern.models.classifier import Classifier
from discern.objectives.supervised import Supervised, SupervisedConfig
from discern.recipes import head as heads
from discern.recipes.head import fit_head
from discern.recipes.images import OWN_MATRIX_FACTOR, OWN_SEMI_START
from tests.faults.killing import pretrain_words, write_pictures
from tests.tiny import backbone_config, pixels, two_lights, view


def _objective(scale: float = 0.0) -> Supervised:
    torch.manual_seed(0)
    classifier = Classifier(Backbone(backbone_config(stem="deep", drop_path=0.5)), 2, scale)
    with torch.no_grad(), learning(classifier):
        classifier(pixels(16, 1).float() / 127.5 - 1)
    return Supervised(SupervisedConfig(), classifier, view())


@pytest.mark.parametrize("scale", [0.0, 16.0])
def test_it_knows_the_items_and_the_encoder_stays(scale: float) -> None:
    objective, sets = _objective(scale), two_lights()
    objective.train()
    encoder = objective.classifier.backbone
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert accuracy(objective.average.eval(), sets) < 0.8
    fit_head(objective, sets, seed=0)
    assert accuracy(objective.average.eval(), sets) == 1.0
    for name, value in encoder.state_dict().items():
        assert value.equal(before[name]), name
    assert objective.classifier.head.weight.equal(objective.average.head.weight)
    assert objective.classifier.training
    assert all(one.grad is None for one in objective.parameters())
    assert not any(one.requires_grad for one in objective.average.parameters())


def test_the_same_head_each_time_and_of_so_many_items_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    features = heads.features

    def counted(encode: object, items: ClipSet) -> torch.Tensor:
        seen.append(len(items))
        return features(encode, items)  # type: ignore[arg-type]

    monkeypatch.setattr(heads, "MOST", 10)
    monkeypatch.setattr(heads, "features", counted)
    found = []
    for seed in (3, 3, 4):
        objective = _objective()
        fit_head(objective, two_lights(), seed)
        found.append(objective.classifier.head.weight)
    assert found[0].equal(found[1]) and not found[0].equal(found[2])
    assert seen == [10, 10] * 3  # of 30 images and 12 clips


def test_training_begins_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, out = write_pictures(tmp_path / "data"), tmp_path / "pretrain"
    assert main(pretrain_words(pictures, out, 3, "backbone.stem=deep")) == 0
    words = ["train", str(pictures), "--steps", "1", "--rate", "1e-12", "--json"]
    capsys.readouterr()
    assert main([*words, "--from", str(out), "--out", str(tmp_path / "tuned")]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    settings = json.loads((tmp_path / "tuned" / "config.json").read_text())["settings"]
    assert settings["optim"]["matrix_factor"] == OWN_MATRIX_FACTOR
    assert settings["semi"]["start"] == OWN_SEMI_START
