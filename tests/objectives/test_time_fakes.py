"""Clips whose time is forged, and that motion tells them."""

from __future__ import annotations

import torch

from discern.clip import Batch
from discern.objectives.time_fakes import TIME_FAKES, fake_time
from tests.objectives.terms import only
from tests.tiny import rng


def test_fake_time_does_what_it_says() -> None:
    frames = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(400, 3, 6, 2, 2)
    altered, what = fake_time(frames, rng())
    assert altered.shape == frames.shape and what.dtype == torch.int64
    assert torch.equal(altered, altered[:, :1, :, :1, :1].expand_as(altered))
    orders = altered[:, 0, :, 0, 0].int().tolist()
    straight = list(range(6))
    shuffled = []
    for order, number in zip(orders, what.tolist(), strict=True):
        name = TIME_FAKES[number]
        if name == "real":
            assert order == straight
        elif name == "frozen":
            assert len(set(order)) == 1
        elif name == "reversed":
            assert order == straight[::-1]
        else:
            assert sorted(order) == straight
            shuffled.append(tuple(order))
    assert len(set(shuffled)) > 50
    counts = torch.bincount(what, minlength=4)
    assert counts.min() > 70 and len(counts) == 4
    frozen = {order[0] for order, number in zip(orders, what.tolist(), strict=True) if number == 1}
    assert frozen == set(straight)
    again, same = fake_time(frames, rng())
    assert torch.equal(again, altered) and torch.equal(same, what)


def test_time_can_be_learned_from_motion() -> None:
    """A bar that moves right: four answers, and a few steps of the time term tell them apart."""
    objective = only("time_fakes", adversary_share=1.0, adversary_keep=1.0)
    bars = torch.zeros(32, 3, 8, 16, 16, dtype=torch.uint8)
    for frame in range(8):
        bars[:, :, frame, :, 2 * frame : 2 * frame + 2] = 255
    objective.masked = lambda clip, r: clip.float() / 127.5 - 1
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    accuracy = 0.0
    for step in range(40):
        losses = objective.loss("both", Batch(clip=bars), rng(step), 0.5)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        accuracy = 0.8 * accuracy + 0.2 * losses.parts["time_accuracy"]
    assert accuracy > 0.8
