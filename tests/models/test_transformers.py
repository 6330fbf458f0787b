"""transformers' Vision Transformers with random weights, saved to disk: the same features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from discern.errors import ConfigError
from discern.models.public import load_public
from tests.models.test_public import MEAN, STD, ours, pixels_of, randomised, scaled, written


def _transformers(kind: str, **more: Any) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"image_size": 32, "patch_size": 8}
    if not kind.startswith("Dinov2"):
        sizes["intermediate_size"] = 128
    config = getattr(transformers, f"{kind}Config")(**sizes, **more)
    return randomised(getattr(transformers, f"{kind}Model")(config))


@torch.no_grad()
@pytest.mark.parametrize("names", ["of the library", "of its module"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Dinov2", "Dinov2WithRegisters", "ViTMAE"])
def test_a_folder_of_transformers(kind: str, bias: bool, names: str, tmp_path: Path) -> None:
    """In 64 bits, since both sides round; the library may save other names than it uses."""
    more: dict[str, Any] = {"mask_ratio": 0.0} if kind == "ViTMAE" else {}
    theirs = _transformers(kind, qkv_bias=bias, **more)
    theirs.save_pretrained(tmp_path)
    if names == "of its module":
        written(tmp_path, theirs, json.loads((tmp_path / "config.json").read_text()))
    scaling = {"image_mean": MEAN, "image_std": STD, "do_normalize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scaling))
    given = {"noise": torch.arange(16.0).expand(3, -1)} if kind == "ViTMAE" else {}
    pixels = pixels_of().double()
    expected = theirs.double()(scaled(pixels), **given).last_hidden_state
    first = expected.shape[1] - 16
    found = load_public(str(tmp_path)).model.backbone.double()(ours(pixels))
    torch.testing.assert_close(found.tokens, expected[:, first:], rtol=0, atol=1e-5)
    wanted = expected[:, first:].mean(1) if kind == "ViTMAE" else expected[:, 0]
    torch.testing.assert_close(found.pooled, wanted, rtol=0, atol=1e-5)


def test_a_gated_mlp_is_refused(tmp_path: Path) -> None:
    _transformers("Dinov2", use_swiglu_ffn=True).save_pretrained(tmp_path)
    scaling = {"image_mean": MEAN, "image_std": STD}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scaling))
    with pytest.raises(ConfigError, match="nothing is known of its layer.0.mlp.weights"):
        load_public(str(tmp_path))
