"""A walk in the noise: its ends are samples, and its stages are as long as noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from discern.data.decode import decode
from discern.data.limits import Limits
from discern.errors import UsageError
from discern.models.backbone import BackboneConfig
from discern.models.generator import GeneratorConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.recipes.generate import generate
from discern.recipes.samples import between, draw, walk
from tests.tiny import rng

SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=32, depth=1, heads=2)
    generator = GeneratorConfig(width=32, depth=1, heads=2, noise=16)
    return Model(ModelConfig(backbone=backbone, generator=generator)).eval()


def test_its_ends_are_the_first_two_samples(model: Model) -> None:
    found, samples = walk(model, 5, SHAPE, seed=3), draw(model, 2, SHAPE, seed=3)
    assert found.shape == (5, 1, 16, 16, 3)
    for stage, sample in ((found[0], samples[0]), (found[-1], samples[1])):
        assert np.abs(stage.astype(int) - sample).max() <= 1
    moved = [
        np.abs(one.astype(int) - other).max() for one, other in zip(found, found[1:], strict=False)
    ]
    assert min(moved) > 0


def test_stages_are_as_long_as_noise() -> None:
    start, end = torch.randn(2, 64, generator=rng())
    end = end * start.norm() / end.norm()
    stages = between(start, end, 9)
    torch.testing.assert_close(stages.norm(dim=1), start.norm().expand(9))
    torch.testing.assert_close(stages[[0, -1]], torch.stack([start, end]))
    turn = torch.cosine_similarity(stages[1:], stages[:-1]).arccos()
    torch.testing.assert_close(turn, turn.mean().expand(8), atol=1e-3, rtol=0)
    assert between(start, start, 3).isfinite().all()


def test_a_video_of_it(model: Model, tmp_path: Path) -> None:
    preprocess = {"height": 16, "width": 16}
    save_bundle(tmp_path / "model", model, labels=[], preprocess=preprocess, made={})
    generate(tmp_path / "model", 6, tmp_path / "walk.mp4", between=True)
    clip = decode((tmp_path / "walk.mp4").read_bytes(), Limits())
    assert len(clip.frames) == 6
    generate(tmp_path / "model", 6, tmp_path / "walk.png", between=True)
    with pytest.raises(UsageError, match="two ends"):
        generate(tmp_path / "model", 1, tmp_path / "one.png", between=True)
