"""The classifier: one linear layer on the pooled features."""

from __future__ import annotations

import pytest
import torch

from discern.errors import ConfigError
from discern.models.backbone import Backbone
from discern.models.classifier import Classifier, Places
from discern.models.model import Model, ModelConfig
from discern.models.witness import Witness
from tests.tiny import backbone_config, rng


def test_places_tell_apart_what_a_mean_cannot() -> None:
    """Two frames of the same patches, in other places; sinusoids of places are left out."""
    torch.manual_seed(0)
    tokens = torch.randn(1, 12, 16, generator=rng())
    moved = tokens[:, torch.randperm(12, generator=rng())]
    places = Places((3, 4), 16)
    torch.testing.assert_close(tokens.mean(1), moved.mean(1))
    assert (places(tokens) - places(moved)).abs().max() > 0.1
    # each place has its own weights, and a clip is the mean over time of its frames
    expected = places.mix.bias + sum(
        tokens[0, place] @ places.mix.weight[:, 16 * place : 16 * place + 16].T
        for place in range(12)
    )
    torch.testing.assert_close(places(tokens)[0], expected)
    clip = torch.cat([tokens, moved], dim=1)
    torch.testing.assert_close(places(clip), (places(tokens) + places(moved)) / 2)
    with pytest.raises(ConfigError, match="13 tokens are no whole frames of 3 x 4"):
        places(torch.randn(1, 13, 16))
    with pytest.raises(ConfigError, match="0 x 4"):
        Places((0, 4), 16)


def test_all_who_ask_a_model_with_places_get_what_its_head_judges_by() -> None:
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone_config(), classes=3, places=(4, 4))
    model = Model(config).eval()
    assert model.classifier is not None and model.classifier.places is not None
    clip = torch.randn(2, 3, 1, 16, 16, generator=rng())
    seen = model.features(clip)
    torch.testing.assert_close(seen.pooled, model.classifier.places(seen.tokens))
    torch.testing.assert_close(model(clip), model.classifier.head(seen.pooled))
    said = Witness(model, head=False)(clip)
    torch.testing.assert_close(said.logits, model(clip))
    torch.testing.assert_close(said.features, seen.pooled)


def test_logits_are_linear_in_the_pooled_features() -> None:
    classifier = Classifier(Backbone(backbone_config()), 5).eval()
    clip = torch.randn(2, 3, 4, 16, 16, generator=rng())
    pooled = classifier.backbone(clip).pooled
    expected = pooled @ classifier.head.weight.T + classifier.head.bias
    found = classifier(clip)
    assert found.shape == (2, 5)
    torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier(clip).dtype == torch.float32
