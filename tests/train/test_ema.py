"""Averages move as the formula says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from discern.models.batch_norm import BatchNorm
from discern.train.ema import update_averages
from tests.tiny import masked_gan


def _pair(live: float, average: float) -> tuple[nn.Linear, nn.Linear]:
    pair = nn.Linear(2, 2), nn.Linear(2, 2)
    for module, value in zip(pair, (live, average), strict=True):
        nn.init.constant_(module.weight, value)
        nn.init.constant_(module.bias, value)
    return pair


@pytest.mark.parametrize(
    ("step", "decay", "kept"),
    [(0, 0.99, 0.1), (8, 0.99, 0.5), (90, 0.99, 0.91), (10_000, 0.99, 0.99), (0, 0.05, 0.05)],
)
def test_one_move(step: int, decay: float, kept: float) -> None:
    live, average = _pair(3.0, 1.0)
    update_averages([(live, average)], decay, step)
    expected = kept * 1.0 + (1 - kept) * 3.0
    torch.testing.assert_close(average.weight, torch.full((2, 2), expected))
    torch.testing.assert_close(average.bias, torch.full((2,), expected))
    assert (live.weight == 3.0).all()


def test_many_moves_by_the_formula() -> None:
    live, average = _pair(0.0, 5.0)
    expected = 5.0
    for step in range(30):
        nn.init.constant_(live.weight, float(step))
        update_averages([(live, average)], 0.7, step)
        kept = min(0.7, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    assert average.weight[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_buffers_are_copied_and_a_shared_part_moves_once() -> None:
    shared, head = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, affine=False)
    live = nn.ModuleList([shared, nn.Sequential(shared), head])
    average = copy.deepcopy(live)
    nn.init.constant_(shared.weight, 1.0)
    nn.init.constant_(average[0].weight, 0.0)
    head.running_mean.fill_(7.0)  # type: ignore[union-attr]
    update_averages([(live, average)], 0.75, 1000)
    assert average[0].weight.item() == pytest.approx(0.25)
    assert average[1][0].weight is average[0].weight  # type: ignore[index]
    assert average[2].running_mean.item() == 7.0


def test_statistics_that_an_average_learns_itself_are_left_alone() -> None:
    live = nn.Sequential(BatchNorm(3))
    average = copy.deepcopy(live)
    live[0].mean.fill_(5.0)  # type: ignore[operator, union-attr]
    nn.init.constant_(live[0].weight, 2.0)  # type: ignore[arg-type]
    update_averages([(live, average)], 0.75, 1000)
    assert not average[0].mean.any()  # type: ignore[operator, union-attr]
    assert average[0].weight.allclose(torch.tensor(1.25))  # type: ignore[operator]


def test_the_averages_of_an_objective_follow_it() -> None:
    objective = masked_gan()
    with torch.no_grad():
        for parameter in objective.discriminator.parameters():
            parameter.add_(1.0)
    (live, average), *_ = objective.averages
    before = [p.clone() for p in average.parameters()]
    update_averages(objective.averages, 0.9, 10_000)
    for old, new in zip(before, average.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)
        assert not new.requires_grad
