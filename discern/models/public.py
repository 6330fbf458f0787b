"""A public Vision Transformer by its name or file: a bundle to start from out.

`timm:NAME`, `hf:ORG/NAME`, a folder with config.json and model.safetensors as both libraries write
it, or such a safetensors file.  Nothing is fetched but what the user named; pickle is never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from discern.errors import ConfigError, DataError, UsageError
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.blocks import NORM_EPS
from discern.models.foreign import config_of, from_timm, to_timm
from discern.models.model import Model, ModelConfig
from discern.models.weights import MANIFEST, Bundle, load_bundle

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# transformers keeps how pixels are scaled apart
PIXELS = "preprocessor_config.json"
PREFIXES = ("timm:", "hf:")
PICKLED = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".npz")
# model_type of transformers -> what it pools; DINOv3 turns its queries and keys by place instead
POOLED = {
    "vit": "class",
    "deit": "class",
    "vit_mae": "mean",
    "dinov2": "class",
    "dinov2_with_registers": "class",
}
STANDARD = (0.5, 0.5, 0.5)
# what no tensor shows and timm's config.json leaves to the name of the architecture
NAMED_HEADS = {"test_vit": 2, "vit_base_patch16_gap_224": 16}
TANH_GELU = (
    "vit_base_patch32_siglip_gap",
    "vit_large_patch16_siglip_gap_512",
    "vit_so400m_patch16_siglip_gap",
    "vit_giantopt_patch16_siglip_gap",
)


def load_start(name: Path | str) -> Bundle:
    """What a training starts from: a bundle of ours, or a public encoder.

    Raises UsageError, ConfigError, DataError and, for bundles, IntegrityError.
    """
    return load_public(str(name)) if is_public(name) else load_bundle(name)


def is_public(name: Path | str) -> bool:
    """Whether the name is that of a public encoder, and not of a run or a bundle."""
    if str(name).startswith(PREFIXES):
        return True
    path = Path(name).expanduser()
    if path.is_file():
        known = path.suffix == ".safetensors" or path.suffix in PICKLED
        return known and not (path.parent / MANIFEST).exists()
    bundled = any((folder / MANIFEST).exists() for folder in (path, path / "model"))
    return not bundled and (path / CONFIG).is_file() and _holds_weights(path)


def load_public(name: str) -> Bundle:
    """A bundle with nothing but the encoder.

    Raises UsageError, ConfigError where it is no plain ViT, DataError where it cannot be read.
    """
    folder, weights = _fetched(name) if name.startswith(PREFIXES) else _local(name)
    about = _json(folder / CONFIG)
    try:
        state = safetensors.torch.load_file(weights)
    except Exception as error:  # safetensors raises several kinds, all of them about this file
        raise DataError(f"{weights}: not a safetensors file: {error}") from None
    try:
        return _bundle(name, folder, about, state)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _bundle(
    name: str, folder: Path, about: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Bundle:
    mean, std, side = _pixels(folder, about)
    state = {key: value.float() for key, value in to_timm(state).items()}
    config = encoder_config(about, state)
    if config.channels != 3:
        raise ConfigError(f"it reads {config.channels} channels, and our pictures have 3")
    backbone = Backbone(config)
    backbone.load_state_dict(from_timm(state, config, mean=mean, std=std))
    model = Model(ModelConfig(backbone=config))
    model.backbone.load_state_dict(backbone.state_dict())
    model.eval().requires_grad_(False)
    assert config.learned_grid is not None
    side = side or config.learned_grid[1] * config.patch
    made = {"verb": "from", "source": name}
    size = {"height": side, "width": side}
    return Bundle(model=model, labels=[], preprocess=size, made=made, path=Path(name), public=True)


def encoder_config(about: Mapping[str, Any], state: Mapping[str, Tensor]) -> BackboneConfig:
    """The encoder that config.json and the tensors, under timm's names, describe.

    Raises ConfigError where its arithmetic is not ours.
    """
    pool = _pool(about)
    args = about.get("model_args") or {}
    named = NAMED_HEADS.get(str(about.get("architecture")))
    heads = about.get("num_attention_heads", args.get("num_heads", named))
    eps = float(about.get("layer_norm_eps", NORM_EPS))
    return config_of(state, heads=heads, pool=pool, norm_eps=eps)


def _pool(about: Mapping[str, Any]) -> Any:
    kind = about.get("model_type")
    if kind is not None:
        if kind not in POOLED:
            raise ConfigError(f"model_type {kind}: there are {', '.join(POOLED)}")
        if about.get("hidden_act", "gelu") != "gelu":
            raise ConfigError(f"hidden_act {about['hidden_act']}: ours is gelu")
        return POOLED[kind]
    named = str(about.get("architecture", ""))
    act = (about.get("model_args") or {}).get("act_layer") or "gelu"
    if named.startswith(TANH_GELU):
        act = "gelu_tanh"
    if act != "gelu":
        raise ConfigError(f"act_layer {act}: ours is gelu")
    pools = {"token": "class", "avg": "mean", "": "class"}
    pool = about.get("global_pool", "token")
    if pool not in pools or "quickgelu" in named:
        raise ConfigError(f"{named} pools by {pool} or has another GELU: not one of the plain ones")
    return pools[pool]


def _pixels(
    folder: Path, about: Mapping[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...], int | None]:
    """Mean and deviation of pixels in [0, 1] that it was trained on; the side of its pictures."""
    found: Mapping[str, Any] = about.get("pretrained_cfg") or {}
    size = (found.get("input_size") or (None, None, None))[-1]
    mean, std = found.get("mean"), found.get("std")
    if not found:
        path = folder / PIXELS
        if not path.is_file():
            raise DataError(f"{folder}: {PIXELS} is missing, which says how its pixels are scaled")
        scaled = _json(path)
        mean, std = scaled.get("image_mean"), scaled.get("image_std")
        if scaled.get("do_normalize") is False:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        size = about.get("image_size")
    mean, std = tuple(mean or STANDARD), tuple(std or STANDARD)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise DataError(f"{folder}: mean {mean} and std {std} of pixels must be three numbers each")
    return mean, std, size


def _local(name: str) -> tuple[Path, Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            raise UsageError(_pickled(path))
        return path, path / WEIGHTS
    if path.suffix in PICKLED:
        raise UsageError(_pickled(path))
    if not (path.parent / CONFIG).is_file():
        raise UsageError(
            f"{path}: {CONFIG} must lie beside it, which says how its pixels are scaled"
        )
    return path.parent, path


def _pickled(path: Path) -> str:
    return f"{path}: only safetensors are read, never pickle: save the model as {WEIGHTS}"


def _fetched(name: str) -> tuple[Path, Path]:
    """Fetch what `timm:` or `hf:` names, or find it where an earlier call has put it."""
    prefix, _, rest = name.partition(":")
    repository = f"timm/{rest}" if prefix == "timm" and "/" not in rest else rest
    if repository.count("/") != 1:
        raise UsageError(
            f"{name}: write timm:vit_small_patch16_224.augreg_in21k or hf:facebook/dinov2-small"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UsageError(
            f"{name}: fetching needs `pip install discern[hub]`; a folder with {CONFIG} and "
            f"{WEIGHTS} needs nothing"
        ) from None
    try:
        config = Path(hf_hub_download(repository, CONFIG))
        if prefix == "hf" and "pretrained_cfg" not in _json(config):
            hf_hub_download(repository, PIXELS)
        weights = Path(hf_hub_download(repository, WEIGHTS))
    except (
        Exception
    ) as error:  # of the network, the hub and its cache: all mean that it is not here
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{name}: cannot be fetched ({said}): fetch {CONFIG} and {WEIGHTS} elsewhere, and "
            "name their folder"
        ) from None
    return config.parent, weights


def _holds_weights(folder: Path) -> bool:
    files = list(folder.iterdir())
    return any(file.name == WEIGHTS or file.suffix in PICKLED for file in files)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: must hold an object")
    return value
