"""A step of the loop: each phase moves its player, averages follow, gradients are clipped."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from discern.clip import Batch
from discern.data.augment import to_float
from discern.models.batch_norm import learning, norms_of
from discern.models.model import named_tensors
from discern.train import loop
from discern.train.optim import OptimConfig
from tests.tiny import OBJECTIVES, batch, gan, masked_gan, supervised
from tests.train.loops import Lines, Memory, Same, an_objective, fit_now


@pytest.mark.parametrize(
    "settings", [{"micro_batches": 2}, {"micro_batches": 3}, {"micro_batches": 100}]
)
def test_a_batch_in_parts_is_the_batch(settings: dict[str, Any]) -> None:
    """Of a loss that is a mean over items: the same weights, whatever the parts."""
    whole, parts = supervised(mix_chance=0.0), supervised(mix_chance=0.0)
    for objective in (whole, parts):
        objective.double()  # what is rounded hangs on the processor
        objective.view = lambda clip, rng: clip.double() / 127.5 - 1  # nothing is drawn
    journals = Lines(), Lines()
    fit_now(whole, loader=Same(), steps=6, journal=journals[0])
    fit_now(parts, loader=Same(), steps=6, journal=journals[1], **settings)
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        if not name.endswith("k_norm.bias"):  # its gradient is rounding, which Adam makes large
            torch.testing.assert_close(one, other, rtol=0, atol=2e-8, msg=name)
    losses = [[line["cross_entropy"] for line in j.lines if "progress" in line] for j in journals]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_parts(name: str) -> None:
    outcome = fit_now(an_objective(name), steps=3, micro_batches=2)
    assert outcome.stopped_by == "steps" and outcome.state.step == 3


def test_averages_know_items_as_they_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, steps, moved = masked_gan(stem="deep"), list[int](), count(1)
    update, settle = loop.update_averages, objective.settle
    taken = 0

    def updated(*told: Any) -> None:
        nonlocal taken
        taken = next(moved)
        update(*told)

    def settled(items: Batch, rng: torch.Generator) -> None:
        steps.append(taken)
        settle(items, rng)

    monkeypatch.setattr(loop, "update_averages", updated)
    monkeypatch.setattr(objective, "settle", settled)
    items = batch(8)
    fit_now(objective, steps=12, loader=Same(items), optim=OptimConfig(rate=1e-9))
    assert steps == [1, 9, 12]  # after the first, every eighth, and the last
    average = objective.average[0]
    found = [norm.mean[0].clone() for norm in norms_of(average)]
    with torch.no_grad(), learning(average):
        for norm in norms_of(average):
            norm.learned.zero_()
        average.backbone.patches(to_float(items.clip))  # type: ignore[operator, union-attr]
    live = norms_of(objective.discriminator)
    assert len(live) == 6
    for mean, norm, other in zip(found, norms_of(average), live, strict=True):
        torch.testing.assert_close(mean, norm.mean[0], rtol=0, atol=1e-4)
        assert (other.mean[0] - mean).abs().max() > 1e-2  # of what is augmented and cut


def test_averages_follow_by_the_formula() -> None:
    keeper, objective = Memory(), supervised()
    before = named_tensors(objective.average)["head.weight"].clone()
    fit_now(objective, keeper=keeper, saves=1000, ema_decay=0.3)
    expected = before
    for step in range(20):
        live = keeper.saved[step + 1][0]["objective/classifier.head.weight"]
        kept = min(0.3, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * live
        found = keeper.saved[step + 1][0]["objective/average.head.weight"]
        torch.testing.assert_close(found, expected)


def test_gradients_are_clipped_and_cleared() -> None:
    norms: list[float] = []
    objective = supervised()
    plain = torch.nn.utils.clip_grad_norm_

    def clip(parameters: Any, limit: float) -> Tensor:
        listed = list(parameters)
        norm = plain(listed, limit)
        norms.append(
            float(torch.stack([p.grad.norm() for p in listed if p.grad is not None]).norm())
        )
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        fit_now(objective, optim=OptimConfig(clip_norm=0.01), steps=3)
    assert len(norms) == 3 and max(norms) <= 0.0101
    assert all(p.grad is None for p in objective.parameters())


def test_each_phase_moves_its_own_player_only() -> None:
    objective, moved = gan(view=0.0), []
    before = {name: value.clone() for name, value in named_tensors(objective).items()}
    plain = objective.loss

    def loss(phase: str, *values: Any) -> Any:
        now = named_tensors(objective)
        moved.append({n.split(".")[0] for n in now if not torch.equal(now[n], before[n])})
        before.update({n: v.clone() for n, v in now.items()})
        return plain(phase, *values)

    objective.loss = loss  # type: ignore[method-assign]
    fit_now(objective, steps=2)
    # before the first D phase, the first G phase, the second D phase, the second G phase
    assert moved == [set(), {"discriminator"}, {"generator", "average"}, {"discriminator"}]


def test_it_learns() -> None:
    """Forty steps on three classes of plain colours."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    label = torch.arange(12) % 3
    clip = colours[label].view(12, 3, 1, 1, 1).expand(-1, -1, -1, 16, 16)
    objective = supervised(mix_chance=0.0, label_smoothing=0.0)
    objective.view = lambda clip, r: clip.float() / 127.5 - 1
    fit_now(objective, loader=Same(Batch(clip=clip, label=label)), steps=40, ema_decay=0.5)
    for network in (objective.classifier, objective.average):
        logits = network.eval()(clip.float() / 127.5 - 1)
        assert torch.equal(logits.argmax(1), label)
