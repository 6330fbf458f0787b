"""Further ways to learn from fakes: each formula by hand, and what each one moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from discern.objectives.adversarial import contrast
from discern.objectives.forged import (
    contrast_with_negatives,
    fake_class,
    hardest,
    perceptual,
)
from tests.tiny import batch, masked_gan, rng

ALONE = {
    "view": 1.0,
    "reconstruction": 0.0,
    "patch_adversary": 0.0,
    "global_adversary": 0.0,
    "code": 0.0,
    "time_fakes": 0.0,
}
WAYS = ("forged_views", "forged_negatives", "perceptual", "hard_views")


def test_negatives_stand_in_the_denominator() -> None:
    one, other, fakes = (torch.randn(n, 6, generator=rng(n)) for n in (4, 5, 3))
    other = other[:4]
    found = contrast_with_negatives(one, other, fakes, 0.2)
    parts = [F.normalize(part, dim=1) for part in (one, other, fakes)]
    expected = []
    for first, second in ((parts[0], parts[1]), (parts[1], parts[0])):
        for item in range(4):
            others = torch.exp(torch.cat([second, parts[2]]) @ first[item] / 0.2)
            expected.append(-torch.log(others[item] / others.sum()))
    torch.testing.assert_close(found, torch.stack(expected).mean())
    nothing = contrast_with_negatives(one, other, fakes[:0], 0.2)
    assert nothing < found
    # without fakes it is the contrast of two views, but for items of the same view as negatives
    assert nothing <= contrast(torch.stack([one, other]), 0.2) + 1e-6


def test_perceptual_is_0_where_nothing_was_painted_and_learns_through_what_was() -> None:
    real = torch.randn(2, 3, 1, 8, 8, generator=rng())
    weight = torch.randn(16, 3 * 16, generator=rng(1))

    def encoder(clip: Tensor) -> Tensor:  # four patches of 4 x 4
        patches = clip[:, :, 0].unfold(2, 4, 4).unfold(3, 4, 4)
        return patches.permute(0, 2, 3, 1, 4, 5).reshape(2, 4, -1) @ weight.T

    hidden = torch.tensor([[0, 3], [0, 3]])
    assert perceptual(encoder, real, real, hidden).item() == 0
    painted = real.clone()
    painted[..., :4, 4:] = 0  # patch 1, which is not hidden
    assert perceptual(encoder, painted, real, hidden).item() == 0
    painted[..., :4, :4] = 0
    painted.requires_grad_()
    loss = perceptual(encoder, painted, real, hidden)
    loss.backward()
    assert loss > 0 and painted.grad is not None and painted.grad[..., :4, :4].any()


def test_the_hardest_clip_is_near_and_worse() -> None:
    clip = torch.rand(3, 3, 1, 4, 4, generator=rng()) * 1.6 - 0.8
    slope = torch.randn(3, 3, 1, 4, 4, generator=rng(1))
    moved = hardest(lambda x: (x * slope).sum(), clip, 0.1)
    torch.testing.assert_close(moved - clip, 0.1 * slope.sign())
    edge = hardest(lambda x: (x * slope.abs()).sum(), torch.ones_like(clip), 0.1)
    assert edge.max() <= 1 and not moved.requires_grad


def test_the_fake_class_is_a_softmax_with_one_logit_of_0() -> None:
    real, fake = torch.randn(5, 3, generator=rng()), torch.randn(4, 3, generator=rng(1))
    share = [F.pad(logits, (0, 1)).softmax(dim=1)[:, 3] for logits in (real, fake)]
    expected = (-(1 - share[0]).log().mean() - share[1].log().mean()) / 2
    torch.testing.assert_close(fake_class(real, fake), expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("frames", [1, 4])
def test_each_way_teaches_the_encoder(way: str, frames: int) -> None:
    """Alone, with the terms of the adversary itself off."""
    items = batch(8, frames)
    plain = masked_gan(**ALONE).train().loss("both", items, rng(), 0.5)
    assert set(plain.parts) == {"view"}
    objective = masked_gan(**(ALONE | {way: 1.0, "view": 1e-9})).train()
    losses = objective.loss("both", items, rng(), 0.5)
    assert set(losses.parts) == {"view", way, "diversity"}
    losses.total.backward()
    stem = next(objective.discriminator.backbone.stem.parameters()).grad
    assert stem is not None and stem.abs().max() > 1e-6
    assert all(p.grad is None for p in objective.average.parameters())
    painter = [p.grad for p in objective.generator.parameters() if p.grad is not None]
    assert (way == "perceptual") == any(grad.any() for grad in painter)
