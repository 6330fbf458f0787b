"""Batch normalisation against torch's: of images and clips, with and without a memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from discern.models.batch_norm import EPS, MOMENTUM, BatchNorm, forgetting, learning
from tests.tiny import rng


def drawn(seed: int, shift: float = 0.0) -> Tensor:
    return 2 * torch.randn(6, 4, 3, 5, generator=rng(seed)) + shift


def twins() -> tuple[BatchNorm, nn.BatchNorm2d]:
    mine, torchs = BatchNorm(4), nn.BatchNorm2d(4, eps=EPS, momentum=MOMENTUM)
    for one in (mine, torchs):
        with torch.no_grad():
            one.weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
            one.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    return mine, torchs


def learn(torchs: nn.BatchNorm2d, x: Tensor, step: int) -> Tensor:
    """Early batches count alike."""
    torchs.momentum = max(MOMENTUM, 1 / (step + 1))
    return torchs(x)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("moving", [False, True])
def test_one_kind_alone_is_torchs(moving: bool) -> None:
    mine, torchs = twins()
    for seed in range(15):
        one, other = (drawn(seed, 3.0).requires_grad_() for _ in range(2))
        found, wanted = mine(one, moving), learn(torchs, other, seed)
        close(found, wanted)
        (found**3).sum().backward()
        (wanted**3).sum().backward()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(mine.weight.grad, torchs.weight.grad, rtol=1e-4, atol=1e-3)
    for kind in range(2):  # what it never saw is taken for what it saw
        close(mine.mean[kind], torchs.running_mean)
        close(mine.var[kind], torchs.running_var)
    mine.eval(), torchs.eval()
    for seen_as in (False, True):
        close(mine(drawn(9), seen_as), torchs(drawn(9)))


def test_each_kind_has_statistics_of_its_own() -> None:
    mine, still = twins()
    _, moving = twins()
    for seed in range(40):
        mine(drawn(seed), False), learn(still, drawn(seed), seed)
        mine(drawn(seed, 5.0), True), learn(moving, drawn(seed, 5.0), seed)
    mine.eval(), still.eval(), moving.eval()
    close(mine(drawn(99), False), still(drawn(99)))
    close(mine(drawn(99), True), moving(drawn(99)))
    assert (mine(drawn(99), True) - mine(drawn(99), False)).abs().max() > 1


def test_forgeries_leave_no_trace() -> None:
    mine, torchs = twins()
    mine(drawn(0), False)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    whole = nn.Sequential(mine)
    with forgetting(whole):
        close(mine(drawn(1, 7.0), False), torchs(drawn(1, 7.0)))  # by their own batch
        with forgetting(whole):
            mine(drawn(1, 7.0), True)
        mine(drawn(1, 7.0), True)  # the inner one did not end the outer one
    for name, value in mine.state_dict().items():
        assert value.equal(before[name]), name
    mine(drawn(1, 7.0), False)
    assert not mine.mean.equal(before["mean"])


def test_learning_is_what_is_asked_for_inside_and_nothing_outside() -> None:
    mine, _ = twins()
    whole = nn.Sequential(mine).eval()
    with forgetting(whole):
        with learning(whole):
            mine(drawn(0, 4.0), False)
        assert mine.learned.tolist() == [1, 0] and mine.forgets
        assert not whole.training and not mine.training
        close(mine.mean[0], drawn(0, 4.0).mean((0, 2, 3)))
        mine.train()(drawn(1), False)
    assert mine.learned.tolist() == [1, 0] and not mine.forgets


def test_in_use_items_are_independent_and_nothing_is_learned() -> None:
    mine, _ = twins()
    mine(drawn(0), False)
    mine.eval()
    before = mine.mean.clone()
    close(mine(drawn(1), False)[:1], mine(drawn(1)[:1], False))
    assert mine.mean.equal(before)
