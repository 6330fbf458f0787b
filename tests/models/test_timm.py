"""timm's ViT with random weights, loaded into our Backbone, gives timm's features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from discern.errors import ConfigError
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.foreign import from_timm


def _theirs(vit: Any, **changes: Any) -> torch.nn.Module:
    """vit_tiny at 32 x 32 pixels in patches of 4, four blocks; every tensor random."""
    settings = {"img_size": 32, "patch_size": 4, "depth": 4, "pretrained": False, **changes}
    model = vit.vit_tiny_patch16_224(**settings)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.1)
    return model.eval()


def _config(**changes: Any) -> BackboneConfig:
    settings: dict[str, Any] = {
        "width": 192,
        "depth": 4,
        "heads": 3,
        "tubelet": 1,
        "patch": 4,
        "stem": "linear",
        "positions": "learned",
        "learned_grid": (1, 8, 8),
        "class_token": True,
        "pool": "class",
        "qk_norm": False,
        "layer_scale": None,
    }
    return BackboneConfig(**(settings | changes))


def _ours(theirs: torch.nn.Module, config: BackboneConfig) -> Backbone:
    backbone = Backbone(config).eval()
    backbone.load_state_dict(from_timm(theirs.state_dict(), config))
    return backbone


def _images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("tubelet", [1, 2])
def test_same_features_as_timm(vit: Any, tubelet: int) -> None:
    theirs, images = _theirs(vit), _images()
    expected = theirs.forward_features(images)  # [B, 1 + N, D]
    assert expected.std() > 0.5  # not a comparison of zeros
    config = _config(tubelet=tubelet)
    backbone = _ours(theirs, config)
    for frames in (1, tubelet):  # an image, and the still clip of it
        tokens, pooled, _ = backbone(images.unsqueeze(2).expand(-1, -1, frames, -1, -1))
        torch.testing.assert_close(tokens, expected[:, 1:], rtol=0, atol=1e-5)
        torch.testing.assert_close(pooled, expected[:, 0], rtol=0, atol=1e-5)
        assert torch.equal(pooled, backbone(images.unsqueeze(2)).pooled)
    mean = _ours(theirs, _config(tubelet=tubelet, pool="mean"))(images.unsqueeze(2)).pooled
    torch.testing.assert_close(mean, expected[:, 1:].mean(1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_kept_tokens_are_those_of_timm_without_the_others(vit: Any) -> None:
    theirs, images = _theirs(vit), _images()
    keep = torch.tensor([[5, 0, 63, 17], [1, 2, 3, 4], [60, 50, 40, 30]])
    x = theirs.pos_drop(theirs._pos_embed(theirs.patch_embed(images)))
    first, rest = x[:, :1], x[:, 1:]
    x = torch.cat([first, rest.gather(1, keep.unsqueeze(-1).expand(-1, -1, 192))], dim=1)
    expected = theirs.norm(theirs.blocks(x))
    found = _ours(theirs, _config())(images.unsqueeze(2), keep)
    torch.testing.assert_close(found.tokens, expected[:, 1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_options_of_timm(vit: Any) -> None:
    images = _images()
    theirs = _theirs(vit, qk_norm=True, init_values=0.1, class_token=False, global_pool="", depth=2)
    config = _config(qk_norm=True, layer_scale=0.1, class_token=False, pool="mean", depth=2)
    found = _ours(theirs, config)(images.unsqueeze(2))
    expected = theirs.forward_features(images)
    torch.testing.assert_close(found.tokens, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.pooled, expected.mean(1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_positions_repeat_over_time(vit: Any) -> None:
    theirs = _theirs(vit, depth=1)
    backbone = _ours(theirs, _config(depth=1, tubelet=2, learned_grid=(3, 8, 8)))
    tokens = backbone(_images().unsqueeze(2).expand(-1, -1, 6, -1, -1)).tokens.unflatten(1, (3, 64))
    torch.testing.assert_close(tokens[:, 0], tokens[:, 2], rtol=0, atol=1e-5)
    # the same tokens three times in softmax, beside one class token: not quite one image's features
    assert (tokens[:, 0] - theirs.forward_features(_images())[:, 1:]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stem": "mlp"}, "stem mlp"),
        ({"positions": "sincos"}, "positions sincos"),
        ({"qk_norm": True}, "another network.*blocks.0.attn.k_norm.bias"),
        ({"depth": 3}, "another network.*blocks.3"),
        ({"sees": "edges"}, "look at pixels, not at edges"),
        ({"learned_grid": (1, 4, 4)}, r"learned: .*\[1, 65, 192\].*\[1, 17, 192\]"),
        ({"patch": 8, "learned_grid": (1, 8, 8)}, r"stem.inner.weight: .*\[192, 48\]"),
    ],
)
def test_what_does_not_fit_is_named(vit: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_timm(_theirs(vit).state_dict(), _config(**changes))


def test_a_norm_behind_the_pooling_is_refused(vit: Any) -> None:
    """timm's average pooling normalises afterwards: such weights would give other features."""
    with pytest.raises(ConfigError, match=r"norm\.weight"):
        from_timm(_theirs(vit, global_pool="avg").state_dict(), _config(pool="mean"))
