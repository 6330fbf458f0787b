"""A model that looks at optical flow: it is part of the graph, and answers the same outside."""

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
def test_the_flow_is_part_of_the_graph(to: str, tmp_path: Path) -> None:
    need(to)
    torch.manual_seed(0)
    shape = BackboneConfig(width=32, depth=1, heads=2, flow=True)
    model = Model(ModelConfig(backbone=shape, classes=3)).eval()
    fit = {"height": 16, "width": 16, "frames": 4}
    save_bundle(tmp_path / "model", model, labels=["a", "b", "c"], preprocess=fit, made={})
    export(tmp_path / "model", to, tmp_path / "out")  # compares both kinds with torch
    run = load_exported(tmp_path / "out").runners[Kind.CLIP]
    drawn = np.random.default_rng(0)
    clip = drawn.integers(0, 256, (1, 4, 16, 16, 3), dtype=np.uint8)
    assert model.backbone.stem.flow is not None
    seen = [run(clip)["logits"]]
    with torch.no_grad():
        frames = torch.from_numpy(clip).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        seen.append(model(frames).numpy())
        model.backbone.stem.flow.weight.zero_()
        seen.append(model(frames).numpy())
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-4)
    assert np.abs(seen[0] - seen[2]).max() > 1e-3  # the flow had a say
