"""Public Vision Transformers: their tensors in, our configuration and a Backbone's state out.

Names as timm has them, or as transformers has them for ViT, DeiT, ViT-MAE and DINOv2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from discern.errors import ConfigError
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.blocks import NORM_EPS

# what stands before or behind the encoder
LEFT_OUT = (
    *("head.", "fc_norm.", "head_dist.", "pooler.", "classifier.", "decoder.", "cls_classifier."),
    *("distillation_classifier.", "embeddings.mask_token", "mask_token"),
)
WRAPPERS = ("vit.", "deit.", "dinov2.", "dinov2_with_registers.", "module.", "model.", "backbone.")
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # widths whose heads are not 64 wide
# transformers -> timm; `#` is the number of a layer, which newer versions call `layers.#`
RENAMED = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layer.#.layernorm_before": "blocks.#.norm1",
    "layer.#.layernorm_after": "blocks.#.norm2",
    "layer.#.norm1": "blocks.#.norm1",
    "layer.#.norm2": "blocks.#.norm2",
    "layer.#.attention.output.dense": "blocks.#.attn.proj",
    "layer.#.attention.o_proj": "blocks.#.attn.proj",
    "layer.#.intermediate.dense": "blocks.#.mlp.fc1",
    "layer.#.output.dense": "blocks.#.mlp.fc2",
    "layer.#.mlp.fc1": "blocks.#.mlp.fc1",
    "layer.#.mlp.fc2": "blocks.#.mlp.fc2",
    "layer.#.layer_scale1.lambda1": "blocks.#.ls1.gamma",
    "layer.#.layer_scale2.lambda1": "blocks.#.ls2.gamma",
    "layernorm": "norm",
}
QKV = ("query", "key", "value"), ("q_proj", "k_proj", "v_proj")


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under timm's names; heads, decoders and masks are left out."""
    found = {}
    for name, value in state.items():
        name = _unwrapped(name)
        if not name.startswith(LEFT_OUT):
            found[name] = value
    if not any(name.startswith("embeddings.") for name in found):
        return found
    ours: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in found.items():
        name = re.sub(r"^(encoder\.layer|layers?)\.", "layer.", name)
        third = re.fullmatch(r"layer\.(\d+)\.attention\.(?:attention\.)?(\w+)\.(\w+)", name)
        if third and any(third[2] in parts for parts in QKV):
            thirds.setdefault(f"blocks.{third[1]}.attn.qkv.{third[3]}", {})[third[2]] = value
        else:
            ours[_renamed(name)] = value
    for name, parts in thirds.items():
        named = next((wanted for wanted in QKV if set(wanted) == set(parts)), None)
        if named is None:
            raise ConfigError(f"{name}: of query, key and value there is only {', '.join(parts)}")
        ours[name] = torch.cat([parts[part] for part in named])
    return ours


def config_of(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    pool: Literal["mean", "class"] = "class",
    norm_eps: float = NORM_EPS,
    tubelet: int = 2,
) -> BackboneConfig:
    """The configuration of a plain ViT, read from its tensors under timm's names.

    Heads, which no tensor shows, are 64 wide unless said.  Raises ConfigError where it is none.
    """
    if "patch_embed.proj.weight" not in state or "pos_embed" not in state:
        raise ConfigError(
            "no plain Vision Transformer: it has no "
            + ("patch embedding" if "pos_embed" in state else "learned absolute positions")
        )
    width, channels, patch, other = state["patch_embed.proj.weight"].shape
    if patch != other:
        raise ConfigError(f"patches of {patch} x {other} pixels: only square ones are read")
    if heads is None:
        heads = HEADS.get(width, width // 64)
        if width % heads or (width not in HEADS and width % 64):
            raise ConfigError(f"width {width}: the number of heads is not known")
    numbers = {int(name.split(".")[1]) for name in state if name.startswith("blocks.")}
    hidden = state.get("blocks.0.mlp.fc1.weight")
    if hidden is None:
        raise ConfigError("no plain Vision Transformer: its blocks have no MLP of two layers")
    side = math.isqrt(state["pos_embed"].shape[1] - _placed(state))
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    class_token = "cls_token" in state
    return BackboneConfig(
        width=width,
        depth=len(numbers),
        heads=heads,
        mlp_ratio=hidden.shape[0] / width,
        channels=channels,
        tubelet=tubelet,
        patch=patch,
        stem="linear",
        positions="learned",
        learned_grid=(1, side, side),
        class_token=class_token,
        registers=registers + int("dist_token" in state),
        pool=pool if class_token else "mean",
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        # the value is that of the first step only: the tensors have their own
        layer_scale=1.0 if "blocks.0.ls1.gamma" in state else None,
        norm_eps=norm_eps,
    )


def from_timm(
    state: Mapping[str, Tensor],
    config: BackboneConfig,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """The state of a timm VisionTransformer for `Backbone(config).load_state_dict`.

    The configuration must describe the same network (`config_of`).  With a tubelet of t frames the
    patch weights are divided by t and repeated (inflation, Carreira & Zisserman 2017), so that a
    still tubelet gives the token of its image; with t steps in `learned_grid` every step gets the
    image's positions.  With `mean` and `std` of pixels in [0, 1], which the weights were trained
    on, the patch embedding takes our pixels in [-1, 1] instead.  The head is left out.  Raises
    ConfigError for what does not fit.
    """
    if config.sees != "pixels":
        raise ConfigError(f"weights of timm look at pixels, not at {config.sees}")
    if config.stem != "linear" or config.positions != "learned" or config.learned_grid is None:
        raise ConfigError(
            "weights of timm fit stem linear and positions learned on a learned_grid, "
            f"not stem {config.stem} and positions {config.positions}"
        )
    ours: dict[str, Tensor] = {}
    registers: list[Tensor] = []
    for name, value in state.items():
        if name == "cls_token":
            ours["class_token"] = value
        elif name == "dist_token":  # DeiT's second token has a place, which is a constant
            registers.insert(0, value + state["pos_embed"][:, 1:2])
        elif name == "reg_token":
            registers.append(value)
        elif name == "pos_embed":
            ours["learned"] = _positions(value, config, _placed(state))
        elif name == "patch_embed.proj.weight":
            ours["stem.inner.weight"] = value
        elif name == "patch_embed.proj.bias":
            ours["stem.inner.bias"] = value
        elif not name.startswith(LEFT_OUT):
            ours[name] = value  # blocks and the last norm have the same names
    if registers:
        ours["registers"] = torch.cat(registers, dim=1)
    weight = ours.get("stem.inner.weight")
    if weight is not None:
        ours.setdefault("stem.inner.bias", torch.zeros(len(weight)))
        if mean is not None and std is not None:
            weight, ours["stem.inner.bias"] = _our_pixels(
                weight, ours["stem.inner.bias"], torch.tensor(mean), torch.tensor(std)
            )
        ours["stem.inner.weight"] = _patch_weight(weight, config)
    for number in range(config.depth):  # some have no bias there: DINOv2's and MAE's kin
        qkv = ours.get(f"blocks.{number}.attn.qkv.weight")
        if qkv is not None:
            ours.setdefault(f"blocks.{number}.attn.qkv.bias", torch.zeros(len(qkv)))
    _require_fit(ours, config)
    return ours


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _renamed(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    whole, numbers = re.sub(r"(?<=layer\.)\d+", "#", name), re.findall(r"layer\.(\d+)\.", name)
    for key, tail in ((whole, ""), (re.sub(r"(?<=layer\.)\d+", "#", stem), dot + last)):
        if key in RENAMED:
            return RENAMED[key].replace("#", numbers[0] if numbers else "") + tail
    raise ConfigError(f"no plain Vision Transformer of ours: nothing is known of its {name}")


def _placed(state: Mapping[str, Tensor]) -> int:
    """How many of the positions belong to tokens that are no patches."""
    count = state["pos_embed"].shape[1]
    most = int("cls_token" in state) + int("dist_token" in state)
    for extra in (most, 0):
        if math.isqrt(count - extra) ** 2 == count - extra:
            return extra
    raise ConfigError(f"{count} positions: no square of patches and {most} further tokens")


def _our_pixels(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Fold (pixel - mean) / std into the embedding, pixel = (ours + 1) / 2.  [D, C, p, p], [D]"""
    weight, mean, std = weight.double(), mean.double(), std.double()
    shift = ((0.5 - mean) / std)[:, None, None]
    moved = bias.double() + (weight * shift).sum(dim=(1, 2, 3))
    return (weight / (2 * std)[:, None, None]).float(), moved.float()


def _patch_weight(weight: Tensor, config: BackboneConfig) -> Tensor:
    """Inflate over the tubelet.  [D, C, p, p] -> [D, C * t * p * p]"""
    return (weight.unsqueeze(2).repeat(1, 1, config.tubelet, 1, 1) / config.tubelet).flatten(1)


def _positions(positions: Tensor, config: BackboneConfig, placed: int) -> Tensor:
    """Repeat an image's positions over time.

    [1, placed + h * w, D] -> [1, class + t * h * w, D], zero for a class token without a place
    """
    assert config.learned_grid is not None
    patches = positions[:, placed:].repeat(1, config.learned_grid[0], 1)
    if not config.class_token:
        return patches
    first = positions[:, :1] if placed else torch.zeros_like(positions[:, :1])
    return torch.cat([first, patches], dim=1)


def _require_fit(ours: Mapping[str, Tensor], config: BackboneConfig) -> None:
    with torch.device("meta"):
        wanted = Backbone(config).state_dict()
    if set(ours) != set(wanted):
        odd = sorted(set(ours) ^ set(wanted))
        raise ConfigError(
            f"the weights are of another network than configured: {', '.join(odd[:5])}"
        )
    for name, target in wanted.items():
        if ours[name].shape != target.shape:
            raise ConfigError(
                f"{name}: the weights have shape {list(ours[name].shape)}, "
                f"the configuration asks for {list(target.shape)}"
            )
