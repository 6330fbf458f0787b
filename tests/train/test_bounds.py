"""Numbers that no run can have are refused by name, and all recipes pass."""

from __future__ import annotations

import dataclasses
import re
from typing import get_type_hints

import pytest
import torch

from discern.config import override
from discern.errors import ConfigError
from discern.recipes import images
from discern.train import bounds
from discern.train.bounds import within_bounds
from discern.train.settings import RunConfig


@pytest.mark.parametrize("name", images.RECIPES)
def test_recipes_are_within_bounds(name: str) -> None:
    config = images.recipe(name)
    assert within_bounds(config, pretraining=True) is config
    for size in ("micro", "large"):
        within_bounds(images.sized(config, size), pretraining=True)


def test_tuning_is_within_bounds() -> None:
    within_bounds(images.supervised(), pretraining=False)


WRONG = [
    ("optim.rate=NaN", "optim.rate: nan is no number"),
    ("optim.rate=1e999", "optim.rate: inf is no number"),
    ("optim.rate=0", "optim.rate: 0.0 must be more than 0"),
    ("optim.weight_decay=-1", "optim.weight_decay: -1.0 must be 0 or more"),
    ("optim.betas=[0.9,1]", "optim.betas: 1.0 must be a share below 1"),
    ("optim.matrix_momentum=1", "optim.matrix_momentum: 1.0 must be a share below 1"),
    ("optim.matrix_factor=-1", "optim.matrix_factor: -1.0 must be 0 or more"),
    ("optim.layer_decay=0", "optim.layer_decay: 0.0 must be a share above 0"),
    ("optim.layer_decay=1.1", "optim.layer_decay: 1.1 must be a share above 0"),
    ("backbone.heads=0", "backbone.heads: 0 must be 1 to 256"),
    ("backbone.heads=5", "backbone.heads: width 128 does not divide into 5 heads"),
    ("generator.heads=5", "generator.heads: width 96 does not divide into 5 heads"),
    ("backbone.channels=1", "backbone.channels: 1: pictures have 3"),
    (
        "backbone.patch=7",
        "height: 32 is no multiple of the patch (7): for example 35",
    ),
    ("data.preprocess.width=30", "data.preprocess.width: 30 is no multiple of the patch (8)"),
    ("data.loader.clip_batch_size=0", "clip_batch_size: 0 must be 1 to"),
    ("data.val=0.8", "data.val: 0.8 and data.test, 0.2, are shares of the same items"),
    ("data.group_by=(", "data.group_by: '(' is not a regular expression: missing )"),
    ("threads=5000", "threads: 5000 must be 1 to 1024"),
    ("supervised.hide=1", "supervised.hide: 1.0 must be a share below 1"),
    ("supervised.hide_until=2", "supervised.hide_until: 2.0 must be a share, 0 to 1"),
    ("strong.flip=3", "strong.flip: 3.0 must be a share, 0 to 1"),
    ("strong.scale=[0.9,0.5]", "strong.scale: [0.9, 0.5] runs backwards"),
    ("strong.ratio=[0,1]", "strong.ratio: 0.0 must be more than 0"),
    ("precision=fp8", "precision: fp8: there are auto, bf16, fp32"),
    ("device=tpu", "device: tpu is not here: there are auto, cpu"),
    ("objective=gan", "objective: gan is not for `discern train`: use `discern pretrain`"),
]


@pytest.mark.parametrize(("setting", "fragment"), WRONG, ids=[setting for setting, _ in WRONG])
def test_it_is_refused_by_name(setting: str, fragment: str) -> None:
    config = override(images.supervised(), [setting])
    with pytest.raises(ConfigError, match=re.escape(fragment)):
        within_bounds(config, pretraining=False)


def test_the_objective_of_tuning_is_not_for_pretraining() -> None:
    with pytest.raises(ConfigError, match="supervised is not for `discern pretrain`"):
        within_bounds(images.supervised(), pretraining=True)


def test_a_device_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    within_bounds(override(images.supervised(), ["device=cuda:0"]), pretraining=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: cuda is not here"):
        within_bounds(override(images.supervised(), ["device=cuda"]), pretraining=False)


def test_every_name_in_the_tables_is_a_setting() -> None:
    names = set(_names(RunConfig))
    tables = (bounds.COUNTS, bounds.POSITIVE, bounds.SHARES, bounds.PARTS, bounds.REMAINDERS)
    for table in (*tables, bounds.RANGES):
        assert set(table) <= names, set(table) - names


def _names(kind: type) -> list[str]:
    found = []
    for name, hint in get_type_hints(kind).items():
        found.append(name)
        if dataclasses.is_dataclass(hint):
            found += _names(hint)
    return found


def test_one_view_has_nothing_to_be_compared_with() -> None:
    one = override(images.masked_gan(), ["masked_gan.views=1"])
    with pytest.raises(ConfigError, match=r"masked_gan.views: 1 .* or masked_gan.view=0"):
        within_bounds(one, pretraining=True)
    alone = override(one, ["masked_gan.view=0"])
    assert within_bounds(alone, pretraining=True) is alone


@pytest.mark.parametrize("wanted", ["supervised.places=true", "objective=hardened"])
def test_who_looks_at_all_tokens_hides_none(wanted: str) -> None:
    plain = override(images.supervised(), [wanted])
    assert within_bounds(plain, pretraining=False) is plain
    with pytest.raises(ConfigError, match=r"supervised\.hide: .* set it 0"):
        within_bounds(override(plain, ["supervised.hide=0.5"]), pretraining=False)
