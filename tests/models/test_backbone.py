"""The encoder: what it keeps apart, what it must not depend on, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from discern.errors import ConfigError
from discern.models.backbone import SIZES, Backbone, BackboneConfig
from tests.tiny import backbone_config, rng

CONFIGS: list[dict[str, Any]] = [
    {},
    {"stem": "linear"},
    {"class_token": True, "pool": "class"},
    {"class_token": True, "positions": "learned", "learned_grid": (1, 4, 4)},
    {"tubelet": 1},
    {"qk_norm": False, "layer_scale": None},
]
ALL = [*CONFIGS, {"stem": "conv"}]  # this one looks over the edge of a patch


def _backbone(**changes: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(backbone_config(**changes)).eval()


def _images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 1, 16, 16, generator=rng())


@torch.no_grad()
@pytest.mark.parametrize("changes", ALL)
def test_an_image_is_a_still_clip(changes: dict[str, Any]) -> None:
    backbone, images = _backbone(**changes), _images()
    image = backbone(images)
    tubelet = backbone.config.tubelet
    still = backbone(images.expand(-1, -1, tubelet, -1, -1))
    torch.testing.assert_close(image.tokens, still.tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(image.pooled, still.pooled, rtol=0, atol=1e-5)
    assert image.tokens.shape == (2, 16, 32) and image.pooled.shape == (2, 32)


@torch.no_grad()
@pytest.mark.parametrize("changes", CONFIGS)
def test_a_hidden_patch_changes_no_kept_token(changes: dict[str, Any]) -> None:
    backbone, images = _backbone(**changes), _images()
    keep = torch.tensor([[0, 5, 7, 15], [1, 2, 3, 4]])
    other = images.clone()
    other[0, :, :, 0:4, 4:8] += 3.0  # token 1: hidden for item 0
    other[1, :, :, 12:, 12:] += 3.0  # token 15: hidden for item 1
    before, after = backbone(images, keep), backbone(other, keep)
    assert torch.equal(before.tokens, after.tokens) and torch.equal(before.pooled, after.pooled)
    # and a kept one does count, or this test would say nothing
    other[0, :, :, 0:4, 0:4] += 3.0
    assert not torch.equal(before.tokens[0], backbone(other, keep).tokens[0])


@torch.no_grad()
@pytest.mark.parametrize("changes", ALL)
def test_the_order_of_kept_tokens_is_theirs_alone(changes: dict[str, Any]) -> None:
    backbone, images = _backbone(**changes), _images()
    keep = torch.stack([torch.randperm(16, generator=rng(i))[:6] for i in range(2)])
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    straight, shuffled = backbone(images, keep), backbone(images, keep[:, order])
    torch.testing.assert_close(shuffled.tokens, straight.tokens[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(shuffled.pooled, straight.pooled, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("changes", ALL)
def test_keeping_all_is_the_whole_clip(changes: dict[str, Any]) -> None:
    backbone, images = _backbone(**changes), _images()
    whole = backbone(images)
    kept = backbone(images, torch.arange(16).expand(2, -1))
    torch.testing.assert_close(kept.tokens, whole.tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(kept.pooled, whole.pooled, rtol=0, atol=1e-5)


@torch.no_grad()
def test_place_and_time_matter() -> None:
    backbone, images = _backbone(), _images()
    assert not torch.allclose(backbone(images).pooled, backbone(images.flip(-1)).pooled, atol=1e-4)
    clip = torch.randn(2, 3, 4, 16, 16, generator=rng())
    assert not torch.allclose(backbone(clip).pooled, backbone(clip.flip(2)).pooled, atol=1e-4)


@torch.no_grad()
def test_items_of_a_batch_do_not_mix() -> None:
    backbone, images = _backbone(), _images(3)
    alone = torch.cat([backbone(one.unsqueeze(0)).pooled for one in images])
    torch.testing.assert_close(backbone(images).pooled, alone, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 8, 24), (3, 16, 16), (8, 4, 4), (5, 20, 12)])
def test_any_size_and_length(shape: tuple[int, int, int]) -> None:
    backbone = _backbone()
    frames, height, width = shape
    clip = torch.randn(1, 3, *shape, generator=rng())
    tokens = -(-frames // 2) * (height // 4) * (width // 4)
    assert backbone(clip).tokens.shape == (1, tokens, 32)


def test_stochastic_depth_only_while_training() -> None:
    backbone, images = _backbone(drop_path=0.9), _images(8)
    assert torch.equal(backbone(images).pooled, backbone(images).pooled)
    backbone.train()
    torch.manual_seed(0)
    assert not torch.equal(backbone(images).pooled, backbone(images).pooled)
    assert [block.drop_path for block in backbone.blocks] == pytest.approx([0.0, 0.9])


@pytest.mark.parametrize("changes", [*ALL, {"class_token": True}])
def test_every_parameter_learns(changes: dict[str, Any]) -> None:
    backbone, images = _backbone(**changes), _images()
    features = backbone(torch.cat([images, images.flip(-1)], dim=2))  # an image has no motion
    (features.tokens.square().sum() + features.pooled.sum()).backward()
    idle = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias of the keys shifts all scores of a query alike, unless they are normalised
    assert idle == []


def test_frames_that_patches_do_not_fill_are_refused() -> None:
    with pytest.raises(ConfigError, match="18 x 16 is not a multiple of patch 4.*16"):
        _backbone().grid(torch.zeros(1, 3, 1, 18, 16))


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="width 32 does not divide into 5 heads"):
        _backbone(heads=5)
    with pytest.raises(ConfigError, match="learned_grid"):
        _backbone(positions="learned")


def test_sizes_are_those_of_timm() -> None:
    """Parameters of ViT-Tiny, Small, Base and Large without head and positions, in millions."""
    expected = {"tiny": 5.49, "small": 21.59, "base": 85.65, "large": 303.10}
    changes = {"stem": "linear", "patch": 16, "tubelet": 1, "qk_norm": False, "layer_scale": None}
    for name, millions in expected.items():
        config = BackboneConfig(**{**SIZES[name], **changes})  # type: ignore[arg-type]
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in Backbone(config).parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.01), name


def test_recomputed_blocks_have_the_same_gradients_in_less_memory() -> None:
    config = backbone_config(drop_path=0.3)
    clip = torch.randn(4, 3, 1, 16, 16, generator=rng(1))
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        encoder = Backbone(config).train()
        encoder.recompute = again
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x
        ):
            loss = encoder(clip).pooled.square().sum()
        torch.manual_seed(1)
        loss.backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
        found.append((loss.item(), gradients, sum(kept)))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other)
    assert found[1][2] < found[0][2] / 2
