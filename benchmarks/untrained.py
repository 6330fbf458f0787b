"""An untrained `nano` and a picture of its size, for measurements of time alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from peers import our_shape

from discern.clip import Clip, Kind
from discern.data.images import write_image
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle

CLASSES = 10


def untrained(home: Path, side: int, patch: int) -> tuple[Path, Path]:
    """Into a folder: a bundle, and a JPEG of `side` x `side` pixels."""
    torch.manual_seed(0)
    model = Model(ModelConfig(backbone=our_shape("nano", patch), classes=CLASSES)).eval()
    labels = [f"class {number}" for number in range(CLASSES)]
    fit = {"height": side, "width": side}
    save_bundle(home / "model", model, labels=labels, preprocess=fit, made={})
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    write_image(Clip(frames=pixels, times=np.zeros(1), kind=Kind.IMAGE), home / "x.jpg")
    return home / "model", home / "x.jpg"
