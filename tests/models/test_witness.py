"""A witness says what the parts of its model say, each by the encoder that it was trained with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discern.models.backbone import Backbone, BackboneConfig, looks
from discern.models.discriminator import DiscriminatorConfig
from discern.models.model import Model, ModelConfig
from discern.models.witness import Witness


def a_model(own_encoder: bool) -> Model:
    torch.manual_seed(0)
    shape = BackboneConfig(width=16, depth=1, heads=2, patch=4)
    judge = DiscriminatorConfig(hidden=8)
    config = ModelConfig(backbone=shape, discriminator=judge, classes=3, own_encoder=own_encoder)
    return Model(config).eval()


@pytest.fixture
def clip() -> Tensor:
    return torch.rand(5, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("own_encoder", [True, False])
@torch.no_grad()
def test_each_part_speaks_by_its_encoder(own_encoder: bool, clip: Tensor) -> None:
    model = a_model(own_encoder)
    assert model.discriminator is not None
    said = Witness(model, head=True)(clip)
    trained_with = model.painter_encoder(clip)
    torch.testing.assert_close(said.logits, model(clip))
    torch.testing.assert_close(said.features, model.backbone(clip).pooled)
    torch.testing.assert_close(said.stem, looks(trained_with.early, 5))
    verdict = model.discriminator.judge_whole(trained_with.pooled, detach=True)
    torch.testing.assert_close(said.verdict, verdict)
    if own_encoder:  # or nothing is told apart here
        assert not torch.allclose(said.stem, looks(model.backbone(clip).early, 5), atol=1e-3)
    unasked = Witness(model, head=False)(clip)
    assert unasked.verdict is None
    torch.testing.assert_close(unasked.stem, said.stem)


def test_an_unasked_discriminator_costs_no_pass_of_its_encoder(clip: Tensor) -> None:
    model = a_model(own_encoder=True)
    assert model.encoder is not None
    passes: list[str] = []
    model.encoder.blocks[0].register_forward_hook(lambda *_: passes.append("encoder"))
    Witness(model, head=False)(clip)
    assert not passes
    Witness(model, head=True)(clip)
    assert passes == ["encoder"]


def test_the_gradient_reaches_pixels_through_all_that_is_said(clip: Tensor) -> None:
    clip.requires_grad_(True)
    said = Witness(a_model(own_encoder=True), head=True)(clip)
    for part in said:
        (slope,) = torch.autograd.grad(part.sum(), clip, retain_graph=True)
        assert slope.abs().max() > 0


@pytest.mark.parametrize("stem", ["linear", "conv", "deep"])
@pytest.mark.parametrize("frames", [1, 4])
@torch.no_grad()
def test_what_a_stem_saw_has_the_width_that_is_said(stem: str, frames: int) -> None:
    shape = BackboneConfig(width=16, depth=1, heads=2, patch=4, stem=stem)  # type: ignore[arg-type]
    backbone = Backbone(shape).eval()
    clips = torch.rand(5, 3, frames, 8, 8, generator=torch.Generator().manual_seed(1))
    early = backbone(clips).early
    found = looks(early, 5)
    assert found.shape == (5, backbone.early_width)
    torch.testing.assert_close(found, looks(backbone.early(clips), 5))
    each = torch.cat([looks(backbone(clip[None]).early, 1) for clip in clips])
    torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-4)  # no item is seen in another


def test_a_map_is_told_by_means_and_deviations() -> None:
    drawn = torch.Generator().manual_seed(0)
    early = torch.randn(2 * 3, 4, 5, 6, generator=drawn) * torch.tensor([1.0, 2, 3, 0]).view(
        4, 1, 1
    )
    early[3:] += 7  # the second item of three frames
    found = looks((early,), 2)
    items = early.unflatten(0, (2, 3))
    for item, said in zip(items, found, strict=True):
        of_channels = item.transpose(0, 1).flatten(1)  # [C, T h w]
        torch.testing.assert_close(said[:4], of_channels.mean(dim=1))
        wanted = of_channels[:3].std(dim=1, correction=0).log()
        torch.testing.assert_close(said[4:7], wanted, rtol=1e-4, atol=1e-4)
        assert said[7].isfinite()  # a channel that is the same everywhere
    other = torch.randn(2 * 3, 2, 3, 3, generator=drawn)
    both = looks((early, other), 2)
    torch.testing.assert_close(both, torch.cat([found, looks((other,), 2)], dim=1))
