"""Recipes for uses: what each one changes, and nothing beside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from discern.config import differences, to_dict
from discern.errors import UsageError
from discern.models.backbone import SIZES
from discern.recipes import images
from discern.recipes.uses import USES
from discern.train.bounds import within_bounds
from discern.train.build import build_objective, tuned_model


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("objective", images.TUNING)
def test_each_use_is_a_valid_tuning(use: str, objective: str) -> None:
    config = images.used_for(images.tuning(objective), use)
    assert config.objective == objective
    within_bounds(config, pretraining=False)


@pytest.mark.parametrize("use", USES)
def test_each_use_is_a_valid_pretraining(use: str) -> None:
    config = images.recipe(use)
    assert config.objective == "masked_gan"
    within_bounds(config, pretraining=True)


def test_what_each_changes() -> None:
    plain = images.supervised()
    changed = {
        use: {
            line.partition(":")[0].rpartition(".")[0]
            for line in differences(to_dict(plain), to_dict(fit(plain)))
        }
        for use, fit in USES.items()
    }
    assert changed["objects"] == set()
    assert changed["vehicles"] == {"strong", "view"}
    assert changed["videos"] == {"data.preprocess", "data.loader", "backbone"}
    assert changed["faces"] == {"strong", "view", "weak", "supervised", "backbone"}


def test_faces_are_lit_anew_and_known_by_edges_and_places() -> None:
    config = images.used_for(images.supervised(), "faces")
    assert config.backbone.sees == "edges" and config.strong.light > 0
    assert config.backbone == replace(config.backbone, **SIZES["nano"])
    assert images.sized(config, "hybrid").backbone.stem == "deep"  # who names a size gets it
    # what stands where: no mirror images, and moves by less than a patch
    assert config.supervised.places and config.strong.flip == 0 and config.strong.translate < 0.125


def test_a_tuned_model_of_faces_is_what_was_trained() -> None:
    config = images.used_for(images.supervised(), "faces")
    backbone = replace(config.backbone, width=16, depth=1, heads=2, patch=8)
    size = replace(config.data.preprocess, height=24, width=16)
    config = replace(config, backbone=backbone, data=replace(config.data, preprocess=size))
    objective = build_objective(config, None, 3).eval()
    model = tuned_model(objective, None)
    assert model.config.places == (3, 2) and model.config.angle_scale > 0
    clip = torch.rand(2, 3, 1, 24, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(model(clip), objective.average(clip))


def test_an_unknown_use_names_those_that_there_are() -> None:
    for ask in (images.recipe, lambda name: images.used_for(images.supervised(), name)):
        with pytest.raises(UsageError, match="objects, faces, vehicles, videos"):
            ask("pets")
