"""Weights of other libraries: their state and our configuration in, a Backbone's state out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from discern.errors import ConfigError
from discern.models.backbone import Backbone, BackboneConfig

HEAD = ("head.", "fc_norm.")  # what timm puts behind the features


def from_timm(state: Mapping[str, Tensor], config: BackboneConfig) -> dict[str, Tensor]:
    """The state of a timm VisionTransformer for `Backbone(config).load_state_dict`.

    The configuration must describe the same network: stem `linear`, positions `learned` on the grid
    of timm's image size, and timm's class token, qk-norm and layer scale.  With a tubelet of t
    frames the patch weights are divided by t and repeated (inflation, Carreira & Zisserman 2017),
    so that a still tubelet gives the token of its image; with t steps in `learned_grid` every step
    gets the image's positions.  The head is left out.  Raises ConfigError for what does not fit.
    """
    if config.stem != "linear" or config.positions != "learned" or config.learned_grid is None:
        raise ConfigError(
            "weights of timm fit stem linear and positions learned on a learned_grid, "
            f"not stem {config.stem} and positions {config.positions}"
        )
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "cls_token":
            ours["class_token"] = value
        elif name == "pos_embed":
            ours["learned"] = _positions(value, config)
        elif name == "patch_embed.proj.weight":
            ours["stem.inner.weight"] = _patch_weight(value, config)
        elif name == "patch_embed.proj.bias":
            ours["stem.inner.bias"] = value
        elif not name.startswith(HEAD):
            ours[name] = value  # blocks and the last norm have the same names
    _require_fit(ours, config)
    return ours


def _patch_weight(weight: Tensor, config: BackboneConfig) -> Tensor:
    """Inflate over the tubelet.  [D, C, p, p] -> [D, C * t * p * p]"""
    return (weight.unsqueeze(2).repeat(1, 1, config.tubelet, 1, 1) / config.tubelet).flatten(1)


def _positions(positions: Tensor, config: BackboneConfig) -> Tensor:
    """Repeat an image's positions over time.  [1, extra + h * w, D] -> [1, extra + t * h * w, D]"""
    assert config.learned_grid is not None
    steps, extra = config.learned_grid[0], int(config.class_token)
    return torch.cat([positions[:, :extra], positions[:, extra:].repeat(1, steps, 1)], dim=1)


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
