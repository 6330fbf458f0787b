"""A witness says what the parts of its model say, each by the encoder that it was trained with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discern.models.backbone import BackboneConfig
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
    torch.testing.assert_close(said.stem, trained_with.stem.mean(dim=1))
    verdict = model.discriminator.judge_whole(trained_with.pooled, detach=True)
    torch.testing.assert_close(said.verdict, verdict)
    if own_encoder:  # or nothing is told apart here
        assert not torch.allclose(said.stem, model.backbone(clip).stem.mean(dim=1), atol=1e-3)
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
