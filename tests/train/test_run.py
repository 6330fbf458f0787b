"""Objectives from a configuration: what the views of a tuning may do to an item."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discern.data.augment import STRONG, WEAK, AugmentConfig, to_float
from discern.objectives.semi import Semi
from discern.objectives.supervised import Supervised
from discern.train.build import build_objective
from discern.train.settings import RunConfig
from tests.tiny import backbone_config, pixels, rng


def _objective(name: str, strong: AugmentConfig, weak: AugmentConfig = WEAK) -> Supervised:
    config = RunConfig(objective=name, backbone=backbone_config(), strong=strong, weak=weak)
    objective = build_objective(config, classes=3)
    assert isinstance(objective, Supervised)
    return objective


def _mirrored(found: Tensor, clip: Tensor) -> list[bool]:
    """Which items were mirrored; each is as it was or so."""
    whole = to_float(clip)
    same = [torch.equal(a, b) for a, b in zip(found, whole, strict=True)]
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(found, whole, strict=True)]
    assert all(a != b for a, b in zip(same, turned, strict=True))
    return turned


@pytest.mark.parametrize("name", ["supervised", "semi"])
def test_gentle_views_mirror_and_shift_as_strong_ones_may(name: str) -> None:
    clip = pixels(40)
    still = _objective(name, replace(STRONG, flip=0.0, translate=0.0))
    assert not any(_mirrored(still.gentle(clip, rng()), clip))
    mirrored = _objective(name, replace(STRONG, flip=0.5, translate=0.0))
    assert 5 < sum(_mirrored(mirrored.gentle(clip, rng()), clip)) < 35
    shifted = _objective(name, replace(STRONG, flip=0.0, translate=0.2))
    found = shifted.gentle(clip, rng())
    moved = [not torch.equal(a, b) for a, b in zip(found, to_float(clip), strict=True)]
    assert sum(moved) > 20 and set(found.unique().tolist()) <= set(to_float(clip).unique().tolist())


def test_gentle_views_hold_what_a_model_is_to_withstand() -> None:
    still = replace(STRONG, flip=0.0, translate=0.0)
    clip, moved = pixels(40), pixels(40, frames=4)
    for name, items in (("gaussian_noise", clip), ("light", clip), ("backdrop", moved)):
        found = [
            _objective("supervised", replace(still, **{"backdrop": 0.0, name: much})).gentle(
                items, rng()
            )
            for much in (0.0, 0.9)
        ]
        assert torch.equal(found[0], to_float(items)) and not torch.equal(found[1], found[0])


def test_a_teacher_mirrors_nothing_that_must_not_be() -> None:
    clip = pixels(40)
    weak = replace(WEAK, translate=0.0)
    for flip, low, high in ((0.0, 0, 0), (0.5, 5, 35)):
        objective = _objective("semi", replace(STRONG, flip=flip), weak)
        assert isinstance(objective, Semi)
        assert low <= sum(_mirrored(objective.weak(clip, rng()), clip)) <= high
    objective = _objective("semi", STRONG, replace(weak, flip=0.0))
    assert isinstance(objective, Semi)
    assert not any(_mirrored(objective.weak(clip, rng()), clip))
