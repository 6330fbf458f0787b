"""The head between features and a contrast."""

from __future__ import annotations

import torch

from discern.objectives.projection import BatchStandardize, projection_head
from tests.tiny import rng


@torch.no_grad()
def test_the_head_of_the_contrast_sees_what_differs_in_the_batch() -> None:
    x = 5 + torch.randn(64, 8, generator=rng()) * torch.linspace(0.1, 3, 8)
    found = BatchStandardize()(x.bfloat16().float())
    torch.testing.assert_close(found.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.std(0, unbiased=False), torch.ones(8), rtol=0.01, atol=0.01)
    assert BatchStandardize()(x[:1]).abs().max() == 0  # a single item differs from nothing
    assert list(BatchStandardize().state_dict()) == []
    head = projection_head(8, 4)
    assert head(x).shape == (64, 4)
    # a shift that all features share makes no difference
    torch.testing.assert_close(head(x + 3.0), head(x), rtol=0, atol=1e-3)
