"""What happens when a loss breaks: skipped, rolled back, diverged; and signs of a collapse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from discern.models.model import named_tensors
from discern.objectives.objective import Objective
from discern.train.optim import OptimConfig
from discern.train.watch import ROLL_BACKS_BEFORE_STOP, SKIPS_BEFORE_ROLL_BACK
from tests.tiny import gan, masked_gan, supervised
from tests.train.loops import Lines, Memory, Same, fit_now


class Breaks:
    """Losses that are NaN at some steps (by number of the call)."""

    def __init__(self, objective: Objective, when: Callable[[int], bool], phase: str) -> None:
        plain, calls = objective.loss, count()

        def loss(name: str, *values: Any) -> Any:
            losses = plain(name, *values)
            if name == phase and when(next(calls)):
                losses = type(losses)(total=losses.total * float("nan"), parts=losses.parts)
            return losses

        objective.loss = loss  # type: ignore[method-assign]


def test_a_bad_loss_is_skipped() -> None:
    """The network is after the bad step what it was before it; only its average has moved."""
    journal, keeper, objective = Lines(), Memory(), masked_gan()
    Breaks(objective, lambda call: call == 3, "both")
    outcome = fit_now(objective, keeper=keeper, journal=journal, loader=Same(), saves=1000)
    assert outcome.stopped_by == "steps"
    assert journal.events() == ["loss or gradient is not finite: step skipped (1 in a row)"]
    assert sorted(keeper.saved) == [*range(4), *range(5, 21)]  # nothing at the bad step
    third, fifth = keeper.saved[3][0], keeper.saved[5][0]
    assert any(not torch.equal(third[name], fifth[name]) for name in third)
    steps = {float(v) for name, v in keeper.saved[20][0].items() if name.endswith("/step")}
    assert steps == {19.0}


def test_a_bad_gradient_is_skipped_too() -> None:
    objective, journal, calls = supervised(), Lines(), count()
    head = objective.classifier.head.weight

    def spoil(gradient: Tensor) -> Tensor:
        return gradient * float("inf") if next(calls) == 2 else gradient

    head.register_hook(spoil)
    fit_now(objective, journal=journal)
    assert len(journal.events()) == 1
    assert all(value.isfinite().all() for value in named_tensors(objective).values())


def test_bad_losses_in_a_row_roll_back_at_half_the_rate() -> None:
    first, last = 6, 6 + SKIPS_BEFORE_ROLL_BACK  # calls that are bad
    journal, keeper, objective = Lines(), Memory(), supervised()
    Breaks(objective, lambda call: first <= call < last, "classifier")
    weight = objective.classifier.head.weight

    def poison() -> dict[str, float]:
        """What made the loss bad: a weight has gone wrong, which no checkpoint holds."""
        if len([e for e in journal.events() if "skipped" in e]) == 2:
            with torch.no_grad():
                weight.fill_(float("nan"))
        return {}

    outcome = fit_now(
        objective, keeper=keeper, journal=journal, evaluate=poison, evaluations=1000, saves=1000
    )
    assert outcome.stopped_by == "steps"
    assert any(
        "rolled back to the last checkpoint; rate scaled by 0.5" in e for e in journal.events()
    )
    assert all(value.isfinite().all() for value in named_tensors(objective).values())
    assert sorted(keeper.saved) == [*range(first + 1), *range(last, 21)]
    # right after the roll-back: the tensors of the last good checkpoint
    for name, value in keeper.saved[first][0].items():
        assert torch.equal(keeper.saved[last][0][name], value), name
    rates = {line["step"]: line["rate"] for line in journal.lines if "rate" in line}
    plain = Lines()
    fit_now(supervised(), journal=plain)
    expected = {line["step"]: line["rate"] for line in plain.lines if "rate" in line}
    assert rates[last] == expected[last] and rates[20] == pytest.approx(expected[20] / 2)
    assert keeper.saved[20][1]["watch"]["rate_scale"] == 0.5


def test_a_rate_far_too_high_ends_with_the_network_it_began_with() -> None:
    objective, keeper = supervised(), Memory()
    before = {name: value.clone() for name, value in named_tensors(objective).items()}
    outcome = fit_now(objective, keeper=keeper, optim=OptimConfig(rate=1e30), steps=200, saves=1)
    assert outcome.stopped_by == "diverged" and sorted(keeper.saved) == [0]
    for name, value in named_tensors(objective).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("make", "phase"), [(supervised, "classifier"), (gan, "discriminator")])
def test_a_loss_that_stays_bad_ends_the_run_as_diverged(
    make: Callable[[], Objective], phase: str
) -> None:
    journal, keeper, objective = Lines(), Memory(), make()
    Breaks(objective, lambda call: call >= 4, phase)
    outcome = fit_now(objective, keeper=keeper, journal=journal, steps=200, saves=1000)
    assert outcome.stopped_by == "diverged"
    tries = (ROLL_BACKS_BEFORE_STOP + 1) * SKIPS_BEFORE_ROLL_BACK
    assert outcome.state.step == 4 + tries
    events = journal.events()
    assert sum("rolled back" in event for event in events) == ROLL_BACKS_BEFORE_STOP
    assert "--rate" in events[-1]
    # the last checkpoint is from before, or was put back: it can be resumed
    tensors, state = keeper.saved[max(keeper.saved)]
    assert max(keeper.saved) < outcome.state.step
    assert all(value.isfinite().all() for value in tensors.values())
    fixed = make()
    assert fit_now(fixed, keeper=keeper, steps=outcome.state.step + 2).stopped_by == "steps"


def test_a_sign_of_a_collapse_is_not_read_from_an_earlier_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once the adversary is silenced nothing is said about it any more."""
    journal, objective = Lines(), masked_gan()
    plain = objective.loss

    def loss(*values: Any) -> Any:
        losses = plain(*values)
        if "d_accuracy" in losses.parts:
            losses.parts["d_accuracy"] = torch.tensor(1.0)
        return losses

    objective.loss = loss  # type: ignore[method-assign]
    objective.adversary_scale.fill_(1.0)
    import discern.train.watch as watch

    monkeypatch.setattr(watch, "WARM_UP", 0)
    monkeypatch.setattr(watch, "LOOKS", 2)
    monkeypatch.setattr(watch, "STEPS", 2)
    fit_now(objective, journal=journal, loader=Same(), steps=20)
    assert len(journal.events()) == 4 and journal.events()[-1].endswith("scaled to 0")
    assert float(objective.adversary_scale) == 0.0
