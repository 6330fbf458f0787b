"""Masked GANs with some of their terms, and their gradients, for tests."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from torch import Tensor, nn

from discern.clip import Batch
from discern.objectives.masked_gan import MaskedGan
from tests.tiny import masked_gan, rng

ONLY: dict[str, dict[str, float]] = {  # settings that leave one term in
    "view": {},
    "reconstruction": {},
    "patch_adversary": {"generator_adversary": 0.0, "penalty": 0.0},
    "global_adversary": {"generator_adversary": 0.0, "penalty": 0.0},
    "time_fakes": {},
    "code": {},
}
NOTHING: dict[str, float] = dict.fromkeys(ONLY, 0.0)
PARTS = {
    "view": {"view"},
    "reconstruction": {"reconstruction"},
    "patch_adversary": {"d_patch", "d_accuracy", "diversity"},
    "global_adversary": {"d_whole", "d_accuracy", "diversity"},
    "time_fakes": {"time_accuracy"},
    "code": {"code"},
}


def only(*terms: str, **settings: Any) -> MaskedGan:
    """An objective with these terms alone."""
    chosen: dict[str, Any] = dict(NOTHING)
    for term in terms:
        chosen |= {term: 1.0} | ONLY[term]
    return masked_gan(**(chosen | settings)).train()


def loss_of(objective: MaskedGan, items: Batch, seed: int = 0, progress: float = 0.5) -> Tensor:
    return objective.loss("both", items, rng(seed), progress).total


def gradients_of(objective: MaskedGan, items: Batch, seed: int = 0) -> dict[str, Tensor | None]:
    objective.zero_grad(set_to_none=True)
    loss_of(objective, items, seed).backward()
    return {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}


def part_of(gradients: dict[str, Tensor | None], part: str) -> dict[str, Tensor | None]:
    return {name: value for name, value in gradients.items() if name.startswith(part)}


def moved(gradients: dict[str, Tensor | None], part: str) -> bool:
    found = part_of(gradients, part)
    assert found, part
    return any(value is not None and bool(value.any()) for value in found.values())


def fail(*values: Any, **named: Any) -> NoReturn:
    raise AssertionError("a term of weight 0 was computed")


def forbid(objective: MaskedGan, monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Whatever calls one of these networks or methods fails."""
    for part in parts:
        found: Any = objective
        *path, last = part.split(".")
        for name in path:
            found = getattr(found, name)
        target = getattr(found, last)
        if isinstance(target, nn.Module):
            monkeypatch.setattr(target, "forward", fail)
        else:
            monkeypatch.setattr(found, last, fail)
