"""Looks at a pre-training: samples are compared only where something teaches them."""

from __future__ import annotations

import pytest

from discern import config as configuration
from discern.recipes import images
from discern.recipes.looks import _draws, together


@pytest.mark.parametrize(
    ("recipe", "settings", "drawn"),
    [
        (None, [], True),
        ("gan", [], True),
        ("mae", [], False),
        ("view", [], False),
        (None, ["masked_gan.code=0"], True),
        (None, ["masked_gan.code=0", "masked_gan.noise_share=0"], False),
        (None, ["masked_gan.code=0", "masked_gan.generator_adversary=0"], False),
    ],
)
def test_who_learns_to_draw_from_noise(
    recipe: str | None, settings: list[str], drawn: bool
) -> None:
    assert _draws(configuration.override(images.recipe(recipe), settings)) == drawn


def test_looks_are_one_line_of_the_log() -> None:
    assert together([lambda: {"a": 1.0}, lambda: {"b": 2.0}])() == {"a": 1.0, "b": 2.0}
