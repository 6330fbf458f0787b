"""Golden losses: twenty steps of each objective give the stored numbers, and the same bits twice.

A change that is to change numbers writes them anew, and says so in its message:
    DISCERN_WRITE_GOLDEN=1 python -m pytest tests/test_golden.py
All settings stand here, so that another default changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from discern.data.augment import AugmentConfig
from discern.data.loader import Loader, LoaderConfig
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.classifier import Classifier
from discern.models.discriminator import Discriminator, DiscriminatorConfig
from discern.models.generator import Generator, GeneratorConfig
from discern.models.model import named_tensors
from discern.objectives.gan import Gan, GanConfig
from discern.objectives.masked_gan import MaskedGan, MaskedGanConfig
from discern.objectives.objective import Objective
from discern.objectives.supervised import Supervised, SupervisedConfig
from discern.train.loop import LoopConfig, fit
from discern.train.optim import OptimConfig
from tests.tiny import random_sets, view

STORED = Path(__file__).parent / "golden" / "losses.json"
STEPS = 20

BACKBONE = BackboneConfig(
    width=32, depth=2, heads=2, mlp_ratio=4.0, tubelet=2, patch=4, stem="mlp", drop_path=0.1
)
VIEW = AugmentConfig(
    scale=(0.4, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2
)
MASKED = AugmentConfig(scale=(0.6, 1.0), flip=0.5)
STRONG = AugmentConfig(
    scale=(0.5, 1.0), rotate=15.0, shear=0.1, translate=0.1, brightness=0.4, erase=0.25
)
MASKED_GAN = MaskedGanConfig(
    mask_ratio=0.5,
    clip_mask_ratio=0.75,
    block_chance=0.5,
    reconstruction=0.5,
    reconstruction_chance=1.0,
    reconstruction_share=0.5,
    opening=0.1,
    opened_mask_ratio=0.25,
    window=1.0,
    view=1.0,
    views=3,
    temperature=0.2,
    teacher=False,
    projection=16,
    patch_adversary=0.2,
    global_adversary=0.2,
    generator_adversary=0.3,
    adversary_start=0.2,
    adversary_chance=0.5,
    adversary_share=0.5,
    adversary_keep=0.5,
    adversary_noise=0.15,
    noise_share=0.25,
    code=0.5,
    code_chance=0.5,
    code_share=0.5,
    penalty=0.1,
    penalty_sigma=0.03,
    penalty_share=0.25,
    time_fakes=0.2,
)
GAN = GanConfig(
    view=1.0,
    temperature=0.1,
    projection=16,
    penalty=0.1,
    penalty_sigma=0.03,
    penalty_share=0.25,
    feature_matching=0.1,
)
SUPERVISED = SupervisedConfig(
    label_smoothing=0.1, mixup=0.2, cutmix=1.0, mix_chance=0.5, freeze_encoder=0.1, ease=0.0
)
OPTIM = OptimConfig(
    rate=1e-3,
    betas=(0.9, 0.95),
    weight_decay=0.05,
    clip_norm=1.0,
    warmup=0.1,
    final_rate=0.01,
    layer_decay=0.8,
)


def _players() -> tuple[Discriminator, Generator]:
    discriminator = Discriminator(
        DiscriminatorConfig(hidden=16, detach_global=True), Backbone(BACKBONE)
    )
    config = GeneratorConfig(width=24, depth=1, heads=2, noise=8, classes=0)
    return discriminator, Generator(config, BACKBONE)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "masked_gan": lambda: MaskedGan(MASKED_GAN, *_players(), view(VIEW), view(MASKED)),
    "gan": lambda: Gan(GAN, *_players(), view(VIEW), view(MASKED)),
    "supervised": lambda: Supervised(SUPERVISED, Classifier(Backbone(BACKBONE), 3), view(STRONG)),
}


class _Lines:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def log(self, *, step: int, **values: Any) -> None:
        left_out = ("steps_per_second", "minutes")
        self.lines.append({k: v for k, v in values.items() if k not in left_out})


class _Nowhere:
    def save(self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        pass

    def load(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _run(name: str) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """What the log says at every step, and the networks at the end."""
    torch.manual_seed(0)
    objective, journal = OBJECTIVES[name]().train(), _Lines()
    loader = Loader(
        random_sets(12, 6),
        LoaderConfig(batch_size=4, clip_batch_size=4, clip_share=0.4),
        seed=0,
    )
    fit(
        objective,
        loader,
        LoopConfig(steps=STEPS, log_seconds=0.0, ema_decay=0.9),
        OPTIM,
        seed=0,
        journal=journal,
        keeper=_Nowhere(),
        autocast=contextlib.nullcontext,
    )
    tensors = {name: value.detach().clone() for name, value in named_tensors(objective).items()}
    return journal.lines, tensors


_once = functools.cache(_run)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_are_the_stored_ones(name: str) -> None:
    lines, _ = _once(name)
    assert len(lines) == STEPS
    if os.environ.get("DISCERN_WRITE_GOLDEN"):
        stored = json.loads(STORED.read_text()) if STORED.exists() else {}
        rounded = [{k: round(v, 6) for k, v in line.items()} for line in lines]
        STORED.write_text(json.dumps(stored | {name: rounded}, indent=1, sort_keys=True) + "\n")
    expected = json.loads(STORED.read_text())[name]
    for step, (line, wanted) in enumerate(zip(lines, expected, strict=True), start=1):
        assert line.keys() == wanted.keys(), step
        for key, value in line.items():
            assert value == pytest.approx(wanted[key], rel=1e-4, abs=1e-4), (step, key)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_runs_are_the_same_bits(name: str) -> None:
    lines, tensors = _once(name)
    again, same = _run(name)
    assert lines == again
    assert all(torch.equal(value, same[key]) for key, value in tensors.items())


def test_all_parts_of_the_losses_are_under_watch() -> None:
    stored = json.loads(STORED.read_text())
    seen = {name: {key for line in lines for key in line} for name, lines in stored.items()}
    common = {"progress", "rate", "epoch"}
    assert seen["masked_gan"] - common == {
        "view",
        "reconstruction",
        "d_patch",
        "d_whole",
        "d_accuracy",
        "diversity",
        "time_accuracy",
        "code",
    }
    assert seen["gan"] - common == {
        "d_loss",
        "d_accuracy",
        "diversity",
        "penalty",
        "view",
        "g_loss",
        "matching",
    }
    assert seen["supervised"] - common == {"cross_entropy", "train_accuracy"}
