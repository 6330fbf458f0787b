"""The joint attack: wrong, and nearer to what is known than attacks on the classifier alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from discern.security.change import Ball
from discern.security.joint import joint
from discern.security.scores import knn_distance


def test_it_finds_wrong_answers_that_look_known() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.Tanh()).requires_grad_(False)
    head = nn.Linear(16, 3).requires_grad_(False)

    def far(clip: Tensor) -> Tensor:
        return knn_distance(bank, body(clip), 5)

    def parts(clip: Tensor) -> tuple[Tensor, Tensor]:
        return head(body(clip)), far(clip)

    drawn = torch.Generator().manual_seed(1)
    known = torch.rand(200, 3, 1, 6, 6, generator=drawn) * 2 - 1
    bank = F.normalize(body(known), dim=1)
    clip = known[:24]
    label = parts(clip)[0].argmax(1)
    ball = Ball(eps=0.12)
    moved = joint(parts, clip, label, ball, torch.Generator().manual_seed(0))
    assert ball.size_of(moved, clip).max() <= 0.12 + 1e-6 and moved.abs().max() <= 1
    logits = parts(moved)[0]
    wrong = logits.argmax(1) != label
    assert wrong.float().mean() > 0.7
    from discern.security.attacks import run

    plain = run("pgd", lambda x: parts(x)[0], clip, label, ball, seed=0)
    assert far(moved).mean() < 0.9 * far(plain).mean()
