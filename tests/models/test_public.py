"""Public encoders on disk, as timm and transformers write them: their features; what is refused."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from discern.errors import ConfigError, DataError, UsageError
from discern.models.backbone import regrid
from discern.models.model import Model
from discern.models.public import is_public, load_public, load_start

MEAN, STD = (0.48, 0.45, 0.40), (0.22, 0.24, 0.27)


def randomised(model: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.1)
    return model.eval()


def written(folder: Path, model: nn.Module, about: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    state = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def _timm(vit: Any, folder: Path, **changes: Any) -> tuple[nn.Module, Path]:
    """vit_tiny at 32 x 32 pixels in patches of 4, and a folder as timm's hub has it."""
    settings = {"img_size": 32, "patch_size": 4, "depth": 2, "pretrained": False, **changes}
    model = randomised(vit.vit_tiny_patch16_224(**settings))
    about = {
        "architecture": "vit_tiny_patch16_224",
        "global_pool": changes.get("global_pool", "token"),
        "pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [3, 32, 32]},
    }
    return model, written(folder, model, about)


def pixels_of(side: int = 32) -> Tensor:
    """[3, 3, side, side] in [0, 1]"""
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def scaled(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(one)[:, None, None] for one in (MEAN, STD))
    return (pixels - mean) / std


def ours(pixels: Tensor, frames: int = 1) -> Tensor:
    return (2 * pixels - 1).unsqueeze(2).expand(-1, -1, frames, -1, -1)


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.1},  # as DINOv2 has it
        {"qk_norm": True, "class_token": False, "global_pool": "avg", "fc_norm": False},
    ],
    ids=["plain", "registers", "no class token"],
)
def test_a_folder_of_timm(vit: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs, folder = _timm(vit, tmp_path / "vit", **changes)
    expected = theirs.forward_features(scaled(pixels_of()))
    assert expected.std() > 0.5  # not a comparison of zeros
    bundle = load_start(folder)
    assert isinstance(bundle.model, Model) and bundle.public and bundle.labels == []
    assert bundle.preprocess == {"height": 32, "width": 32}
    first = theirs.num_prefix_tokens
    for frames in (1, 2):  # an image, and the still clip of it
        tokens, pooled, _ = bundle.model.backbone(ours(pixels_of(), frames))
        torch.testing.assert_close(tokens, expected[:, first:], rtol=0, atol=1e-5)
        wanted = expected[:, 0] if first else expected.mean(1)
        torch.testing.assert_close(pooled, wanted, rtol=0, atol=1e-5)
    assert load_start(folder / "model.safetensors").model.config == bundle.model.config


@torch.no_grad()
def test_other_resolutions_and_lengths(vit: Any, tmp_path: Path) -> None:
    """Positions of 8 x 8 patches on 12 x 12, as timm resamples them; a longer clip repeats them."""
    theirs, folder = _timm(vit, tmp_path / "vit", dynamic_img_size=True)
    expected = theirs.forward_features(scaled(pixels_of(48)))
    backbone = load_public(str(folder)).model.backbone
    tokens, pooled, _ = backbone(ours(pixels_of(48)))
    torch.testing.assert_close(tokens, expected[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(pooled, expected[:, 0], rtol=0, atol=1e-5)
    places = torch.randn(6, 5)
    over_time = regrid(places, (1, 2, 3), (4, 2, 3)).unflatten(0, (4, 6))
    torch.testing.assert_close(over_time, places.expand(4, -1, -1))
    middle = regrid(torch.stack([places, 3 * places]).flatten(0, 1), (2, 2, 3), (1, 2, 3))
    torch.testing.assert_close(middle, 2 * places)


def test_other_networks_are_refused(vit: Any, tmp_path: Path) -> None:
    _, folder = _timm(vit, tmp_path / "vit", norm_layer=nn.LayerNorm, pre_norm=True)
    with pytest.raises(ConfigError, match=r"another network.*norm_pre"):
        load_public(str(folder))
    about = json.loads((folder / "config.json").read_text())
    for changed, said in (
        ({"model_type": "dinov3_vit"}, "model_type dinov3_vit: there are vit, deit"),
        ({"model_type": "vit", "hidden_act": "quick_gelu"}, "quick_gelu"),
        ({"global_pool": "map"}, "pools by map"),
        ({"model_args": {"num_heads": 5}}, "width 192 does not divide into 5 heads"),
    ):
        (folder / "config.json").write_text(json.dumps(about | changed))
        with pytest.raises(ConfigError, match=said):
            load_public(str(folder))


def test_a_network_of_convolutions_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "net", nn.Conv2d(3, 8, 3), {"pretrained_cfg": {"mean": MEAN}})
    with pytest.raises(ConfigError, match=r"net: no plain Vision Transformer"):
        load_public(str(folder))


def test_files_that_cannot_be_used(vit: Any, tmp_path: Path) -> None:
    _, folder = _timm(vit, tmp_path / "vit", depth=1)
    (folder / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_public(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert is_public(folder)
    with pytest.raises(UsageError, match="never pickle"):
        load_public(str(folder))
    with pytest.raises(UsageError, match="never pickle"):
        load_public(str(folder / "pytorch_model.bin"))
    alone = tmp_path / "alone" / "vit.safetensors"
    alone.parent.mkdir()
    safetensors.torch.save_file({"a": torch.zeros(1)}, alone)
    with pytest.raises(UsageError, match=r"config\.json must lie beside it"):
        load_public(str(alone))
    (alone.parent / "config.json").write_text("{}")
    with pytest.raises(DataError, match="preprocessor_config.json is missing"):
        load_public(str(alone))
    (alone.parent / "config.json").write_text("[")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        load_public(str(alone))


def test_what_is_named_is_fetched_and_nothing_else(
    vit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = _timm(vit, tmp_path / "vit", depth=1)
    asked: list[tuple[str, str]] = []
    hub = ModuleType("huggingface_hub")

    def hf_hub_download(repository: str, file: str) -> str:
        asked.append((repository, file))
        if "none" in repository:
            raise OSError("no route to host\nand more")
        return str(folder / file)

    hub.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    bundle = load_start("timm:vit_tiny_patch16_224")
    assert bundle.model.config.backbone.depth == 1
    repository = "timm/vit_tiny_patch16_224"
    assert asked == [(repository, "config.json"), (repository, "model.safetensors")]
    with pytest.raises(DataError, match=r"hf:some/none: cannot be fetched \(no route to host\)"):
        load_start("hf:some/none")
    with pytest.raises(UsageError, match="write timm:"):
        load_start("hf:alone")


def test_without_the_hub_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"discern\[hub\]"):
        load_start("timm:vit_tiny_patch16_224")
