"""A model with a deep stem: its standardised filters are part of the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from discern.clip import Kind
from discern.export.run import load_exported
from discern.models.backbone import BackboneConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.recipes.export import export
from tests.export.conftest import need


@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_standardised_filters_are_part_of_the_graph(to: str, tmp_path: Path) -> None:
    need(to)
    torch.manual_seed(0)
    shape = BackboneConfig(width=32, depth=1, heads=2, stem="deep")
    model = Model(ModelConfig(backbone=shape, classes=3)).eval()
    fit = {"height": 16, "width": 16, "frames": 4}
    save_bundle(tmp_path / "model", model, labels=["a", "b", "c"], preprocess=fit, made={})
    export(tmp_path / "model", to, tmp_path / "out")  # compares images and clips with torch
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (3, 1, 16, 16, 3), dtype=np.uint8)
    run = load_exported(tmp_path / "out").runners[Kind.IMAGE]
    with torch.no_grad():
        frames = torch.from_numpy(images).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        expected = model(frames).numpy()
        np.testing.assert_allclose(run(images)["logits"], expected, atol=1e-4)
        model.backbone.stem.last[2].gain[::2].mul_(3)
        assert np.abs(model(frames).numpy() - expected).max() > 1e-3  # the filters had a say
