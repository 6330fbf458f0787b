"""Classes of a generator: they come with tuning, lie in the bundle, and `--label` asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from discern.errors import UsageError
from discern.models.backbone import BackboneConfig
from discern.models.generator import GeneratorConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import load_bundle, save_bundle
from discern.recipes.codes import learn_class_codes, settle_codes
from discern.recipes.generate import generate
from discern.recipes.samples import draw
from tests.tiny import two_lights


def _model(classes: int = 0, coder: bool = True) -> Model:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=32, depth=1, heads=2)
    generator = GeneratorConfig(width=32, depth=1, heads=2, noise=8)
    shape = ModelConfig(backbone=backbone, generator=generator, coder=coder, classes=classes)
    return Model(shape).eval()


def test_classes_have_codes_of_their_own() -> None:
    model, sets = _model(), two_lights()
    settle_codes(model, sets, seed=0)
    learn_class_codes(model, sets, 2, seed=0)
    assert model.coder is not None and model.coder.classes == 2
    apart = (model.coder.class_mean[0] - model.coder.class_mean[1]).norm()
    assert apart > model.coder.class_spread.mean()
    one, other = (draw(model, 4, (1, 16, 16), 0, label).astype(int) for label in (0, 1))
    assert (one != other).any()
    learn_class_codes(_model(coder=False), sets, 2, seed=0)  # nothing to learn, and no error


def test_a_bundle_keeps_them(tmp_path: Path) -> None:
    model = _model(classes=2)
    assert model.coder is not None
    learn_class_codes(model, two_lights(), 2, seed=0)
    folder = tmp_path / "model"
    size = {"height": 16, "width": 16}
    save_bundle(folder, model, labels=["dark", "bright"], preprocess=size, made={})
    again = load_bundle(folder).model.coder
    assert again is not None
    torch.testing.assert_close(again.class_mean, model.coder.class_mean)
    generate(folder, 4, tmp_path / "bright.png", "bright")
    with pytest.raises(UsageError, match="dark, bright"):
        generate(folder, 4, tmp_path / "green.png", "green")


def test_a_model_without_classes_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    size = {"height": 16, "width": 16}
    save_bundle(folder, _model(), labels=[], preprocess=size, made={})
    with pytest.raises(UsageError, match="knows no classes"):
        generate(folder, 4, tmp_path / "any.png", "any")
