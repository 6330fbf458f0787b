"""A tiny bundle and keys, made once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from discern.models.backbone import BackboneConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.seal.keys import make_secret, make_signing_key


@dataclass(frozen=True)
class Keys:
    """Files of two people, and a secret."""

    mine: Path
    mine_public: Path
    other: Path
    other_public: Path
    secret: Path
    other_secret: Path


def tiny_model() -> Model:
    """A classifier of two classes in some kilobytes."""
    torch.manual_seed(0)
    shape = BackboneConfig(width=8, depth=1, heads=1, mlp_ratio=1.0, patch=4, stem="linear")
    return Model(ModelConfig(backbone=shape, classes=2)).eval()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    mine, mine_public = make_signing_key(folder / "mine")
    other, other_public = make_signing_key(folder / "other")
    secrets = [make_secret(folder / name) for name in ("secret", "other-secret")]
    return Keys(mine, mine_public, other, other_public, *secrets)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "model"
    size = {"height": 16, "width": 16}
    save_bundle(folder, tiny_model(), labels=["cat", "dog"], preprocess=size, made={})
    return folder


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))
