"""Light that falls on an item, within bounds."""

from __future__ import annotations

import pytest
import torch

from discern.data.augment import AugmentConfig, augment
from tests.tiny import rng


@pytest.mark.parametrize("frames", [1, 4])
def test_light_only_takes_away_and_is_the_same_in_all_frames(frames: int) -> None:
    clip = torch.full((16, 3, frames, 12, 10), 0.6)
    lit = augment(clip, AugmentConfig(flip=0.0, light=2.0, light_chance=1.0), rng())
    assert lit.max() <= 0.6 + 1e-6 and lit.min() >= -1
    assert torch.equal(lit, lit[:, :, :1].expand_as(lit))
    sides = (lit + 1).flatten(3).amax(3) / (lit + 1).flatten(3).amin(3).clamp(min=1e-6)
    assert sides.median() > 2  # from one side
    darkest = ((lit + 1) / 1.6).amin()
    assert darkest >= torch.tensor(-2 * 2.0 - 2 * 2.0).exp()
    assert torch.equal(augment(clip, AugmentConfig(flip=0.0), rng()), clip)


def test_a_chance_of_light_leaves_some_as_they_are() -> None:
    clip = torch.rand(64, 3, 1, 8, 8, generator=rng()) * 2 - 1
    lit = augment(clip, AugmentConfig(flip=0.0, light=2.0, light_chance=0.5), rng())
    same = torch.isclose(lit, clip, atol=1e-6).flatten(1).all(dim=1).float().mean()
    assert 0.3 < same < 0.7
