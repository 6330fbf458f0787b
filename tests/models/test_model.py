"""The whole model: which parts there are, what they share, what they answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from discern.models.discriminator import DiscriminatorConfig
from discern.models.model import Model, ModelConfig, named_tensors
from tests.tiny import backbone_config, generator_config, rng


def _model(**parts: Any) -> Model:
    return Model(ModelConfig(backbone=backbone_config(), **parts)).eval()


def _all(**changes: Any) -> Model:
    parts = {"discriminator": DiscriminatorConfig(), "generator": generator_config(), "classes": 3}
    return _model(**(parts | changes))


@torch.no_grad()
def test_without_a_classifier_it_gives_features() -> None:
    model, clip = _model(), torch.randn(2, 3, 1, 16, 16, generator=rng())
    assert model.discriminator is model.generator is model.classifier is None
    assert torch.equal(model(clip), model.backbone(clip).pooled)
    tuned = _model(classes=4)
    assert tuned.classifier is not None
    assert torch.equal(tuned(clip), tuned.classifier(clip)) and tuned(clip).shape == (2, 4)


def test_parts_share_the_encoder() -> None:
    model = _all()
    assert model.discriminator is not None and model.classifier is not None
    assert model.discriminator.backbone is model.backbone is model.classifier.backbone
    assert model.painter_encoder is model.backbone


def test_a_tuned_model_keeps_the_encoder_of_its_generator() -> None:
    model = _all(own_encoder=True)
    assert model.discriminator is not None and model.classifier is not None
    assert model.discriminator.backbone is model.encoder is model.painter_encoder
    assert model.classifier.backbone is model.backbone is not model.encoder


@pytest.mark.parametrize("own_encoder", [False, True])
def test_each_tensor_is_named_once(own_encoder: bool) -> None:
    model = _all(own_encoder=own_encoder)
    tensors = named_tensors(model)
    everything = {value.data_ptr() for value in model.state_dict().values()}
    assert len(tensors) == len(everything) == len({t.data_ptr() for t in tensors.values()})


def test_buffers_are_tensors_too() -> None:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("scale", torch.ones(()))
    assert set(named_tensors(module)) == {"weight", "bias", "scale"}
