"""AutoAttack's protocol: attacks one after the other on what still stands, and its red flags.

Croce & Hein 2020, section 5: APGD on the cross-entropy, targeted APGD on the DLR, and Square, of
which an item must withstand all.  (FAB, their fourth, finds little beside the others and is left
out.)  The flags are those of Carlini et al. 2019 and of AutoAttack's own checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from discern.security.attacks import BLACK_BOX, right, run
from discern.security.change import Ball, Logits, slope_of
from discern.security.losses import cross_entropy

STANDARD = ("apgd_ce", "apgd_dlr", "square")
WHITE, WHITE_STEPS = ("apgd_ce", "apgd_dlr"), 40  # what a black box is held against
CHECKED = 64  # items that the flags are raised on
BETTER = 0.02  # a black box may be ahead by chance
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is left after each attack, and the worst change found of every item."""

    accuracy: dict[str, float]  # after an attack and all before it
    alone: dict[str, float]  # of the items that it was run on
    stands: Tensor  # bool [N]
    worst: Tensor  # [N, C, T, H, W]


def suite(
    model: Logits,
    clip: Tensor,
    label: Tensor,
    ball: Ball,
    *,
    names: Sequence[str] = STANDARD,
    seed: int = 0,
    steps: int | None = None,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Outcome:
    """Run the attacks in turn, each on the items that all before it left right."""
    stands = right(model, clip, label)
    worst = clip.clone()
    accuracy: dict[str, float] = {}
    alone: dict[str, float] = {}
    for number, name in enumerate(names):
        progress(number / len(names), name)
        where = torch.nonzero(stands)[:, 0]
        if len(where):
            taken = steps if name not in BLACK_BOX else None
            moved = run(name, model, clip[where], label[where], ball, seed=seed, steps=taken)
            worst[where] = moved
            held = right(model, moved, label[where])
            stands[where] = held
            alone[name] = float(held.float().mean())
        accuracy[name] = float(stands.float().mean()) if len(stands) else 0.0
    return Outcome(accuracy=accuracy, alone=alone, stands=stands, worst=worst)


def red_flags(
    model: Logits, clip: Tensor, label: Tensor, ball: Ball, *, seed: int = 0
) -> list[str]:
    """Why the numbers of an attack may say too much good of a model; [] where nothing is odd."""
    clip, label = clip[:CHECKED], label[:CHECKED]
    flags = []
    if _is_random(model, clip):
        flags.append("answers differ from call to call: attacks that follow one answer mislead")
    _, slope, _ = slope_of(_with_loss(model, label), clip)
    dead = (slope.flatten(1).abs().amax(dim=1) == 0).float().mean().item()
    if dead > 0.1:
        flags.append(f"{dead:.0%} of the gradients are zero: gradient attacks cannot climb")
    if _optimises(model, clip):
        flags.append("the model computes gradients while it answers: it may defend by optimizing")
    if ball.norm == "linf":
        gradients = suite(model, clip, label, ball, names=WHITE, seed=seed, steps=WHITE_STEPS)
        white = float(gradients.stands.float().mean())
        black = _left(model, "square", clip, label, ball, seed)
        if black < white - BETTER:
            flags.append(
                f"the black box leaves {black:.0%}, gradients {white:.0%}: gradients mislead"
            )
    wide = Ball(norm=ball.norm, eps=0.5 if ball.norm == "linf" else 0.5 * clip[0].numel() ** 0.5)
    blind = _left(model, "pgd", clip, label, wide, seed)
    chance = _most_frequent(label)
    if blind > chance + 0.05:
        flags.append(
            f"{blind:.0%} stay right under changes that hide everything: gradients mislead"
        )
    return flags


def _left(model: Logits, name: str, clip: Tensor, label: Tensor, ball: Ball, seed: int) -> float:
    steps = 500 if name in BLACK_BOX else None
    moved = run(name, model, clip, label, ball, seed=seed, steps=steps)
    return float(right(model, moved, label).float().mean())


def _most_frequent(label: Tensor) -> float:
    return float(torch.bincount(label).max() / len(label))


@torch.no_grad()
def _is_random(model: Logits, clip: Tensor) -> bool:
    first = model(clip)
    return any(not torch.allclose(model(clip), first, atol=1e-4) for _ in range(REPEATS - 1))


def _optimises(model: Logits, clip: Tensor) -> bool:
    """Whether the model asks for gradients of its own while it is asked for none."""
    with mock.patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as asked:
        with torch.no_grad():
            model(clip[:2])
    return bool(asked.called)


def _with_loss(model: Logits, label: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def loss(moved: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(moved).float()
        return cross_entropy(logits, label), logits

    return loss
