"""Every plain ViT that timm can build: read with timm's own arithmetic, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from discern.errors import ConfigError
from discern.models.backbone import BackboneConfig
from discern.models.foreign import from_timm, to_timm
from discern.models.public import encoder_config


def _names(vit: Any) -> list[str]:
    """The functions that build one; a name of before has a function of another name."""
    starts = ("vit_", "test_vit", "flexivit_")
    names = [name for name in dir(vit) if name.startswith(starts)]
    return [name for name in names if getattr(vit, name).__name__ == name]


def _built(vit: Any, name: str) -> nn.Module:
    """Its first block is enough, and no tensor has numbers."""
    with torch.device("meta"):
        return getattr(vit, name)(pretrained=False, depth=1)


def _read(name: str, theirs: Any, **more: Any) -> BackboneConfig:
    state = to_timm(theirs.state_dict())
    about = {"architecture": name, "global_pool": theirs.global_pool, **more}
    config = encoder_config(about, state)
    with torch.device("meta"):
        from_timm(state, config)
    return config


def test_what_timm_builds_is_read_alike_or_refused(vit: Any) -> None:
    """Heads, activation and norm leave no trace in the tensors: a slip would pass in silence."""
    read = set()
    for name in _names(vit):
        theirs = _built(vit, name)
        try:
            config = _read(name, theirs)
        except ConfigError:
            continue
        block = theirs.blocks[0]
        assert block.attn.num_heads == config.heads, name
        assert type(block.mlp.act) is nn.GELU and block.mlp.act.approximate == "none", name
        for norm in (block.norm1, block.norm2, theirs.norm):
            assert isinstance(norm, nn.LayerNorm) and norm.eps == config.norm_eps, name
        read.add(name)
    assert len(read) > 50
    # heads that are not 64 wide
    assert read >= {"test_vit", "vit_base_patch16_gap_224", "vit_so400m_patch14_siglip_gap_224"}


@pytest.mark.parametrize(
    "name", ["vit_base_patch32_siglip_gap_256", "vit_giantopt_patch16_siglip_gap_384"]
)
def test_another_gelu_is_refused_by_name(vit: Any, name: str) -> None:
    with pytest.raises(ConfigError, match="act_layer gelu_tanh: ours is gelu"):
        _read(name, _built(vit, name))


def test_another_gelu_in_the_arguments_is_refused(vit: Any) -> None:
    name = "vit_tiny_patch16_224"
    with pytest.raises(ConfigError, match="act_layer gelu_tanh"):
        _read(name, _built(vit, name), model_args={"act_layer": "gelu_tanh"})
