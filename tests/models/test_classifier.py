"""The classifier: one linear layer on the pooled features."""

from __future__ import annotations

import torch

from discern.models.backbone import Backbone
from discern.models.classifier import Classifier
from tests.tiny import backbone_config, rng


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
