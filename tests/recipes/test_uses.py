"""Recipes for uses: what each one changes, and nothing beside."""

from __future__ import annotations

import pytest

from discern.config import differences, to_dict
from discern.errors import UsageError
from discern.recipes import images
from discern.recipes.uses import USES
from discern.train.bounds import within_bounds


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
    assert changed["videos"] == {"data.preprocess", "data.loader"}
    assert changed["faces"] == {"strong", "view", "weak", "supervised", "data.preprocess"}


def test_faces_lose_their_light_and_are_not_lit_again() -> None:
    config = images.used_for(images.supervised(), "faces")
    # shading that training adds to frames without light is never seen in use
    assert config.data.preprocess.even_light and config.strong.light == 0
    assert config.strong.solarize == config.strong.posterize == 0


def test_an_unknown_use_names_those_that_there_are() -> None:
    for ask in (images.recipe, lambda name: images.used_for(images.supervised(), name)):
        with pytest.raises(UsageError, match="objects, faces, vehicles, videos"):
            ask("pets")
