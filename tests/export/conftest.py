"""A model with a guard, an image and a clip, for all tests of exports."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from discern.data.augment import to_float
from discern.data.clipset import ClipSet
from discern.models.backbone import BackboneConfig
from discern.models.batch_norm import learning
from discern.models.discriminator import DiscriminatorConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.recipes.certainty import learn_certainty
from discern.recipes.export import export
from discern.security.guard import GuardConfig
from tests.test_docs import write_clip
from tests.tiny import random_sets

Exported = Callable[[str], tuple[Path, dict[str, Any]]]
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "openvino")}


def need(to: str) -> None:
    for name in NEEDS.get(to, ()):
        pytest.importorskip(name, reason=f"{name} is missing: pip install 'discern[export]'")


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a guard that asks the discriminator, an image and a clip."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    shape = BackboneConfig(width=32, depth=2, heads=2, patch=4)
    config = ModelConfig(
        backbone=shape, discriminator=DiscriminatorConfig(hidden=16), classes=3, own_encoder=True
    )
    model = Model(config).eval()
    assert model.classifier is not None
    model.classifier.head.weight.data *= 30
    sets: dict[Any, ClipSet] = dict(random_sets(images=60, clips=40))
    with torch.no_grad(), learning(model):  # as any trained model's statistics are
        for one in sets.values():
            stored = torch.from_numpy(one.take(np.arange(len(one))))
            model(to_float(stored.permute(0, 4, 1, 2, 3)))
    sure = learn_certainty(model, sets, sets, GuardConfig(false_alarms=0.2, head=True), 0)
    assert sure.asks_head and sure.temperature is not None
    size = {"height": 16, "width": 16, "frames": 4, "stored_frames": 6}
    save_bundle(
        folder / "model", model, labels=list("abc"), preprocess=size, made={}, certainty=sure
    )
    drawn = np.random.default_rng(0)
    for number in range(3):
        pixels = np.kron(drawn.integers(0, 256, (5, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    write_clip(folder / "clip.mp4", drawn.integers(0, 256, (8, 32, 32, 3)))
    return folder


@pytest.fixture(scope="package")
def exported(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Form -> its folder and what `export` said; each is written once."""

    @functools.cache
    def written(to: str) -> tuple[Path, dict[str, Any]]:
        need(to)
        out = tmp_path_factory.mktemp(to) / "out"
        return out, export(place / "model", to, out)

    return written
