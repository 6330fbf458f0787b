"""Each way in which a training ends: budgets, a target, patience, a signal."""

from __future__ import annotations

import itertools
import math
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from discern.train import loop
from discern.train.loop import Outcome
from tests.tiny import supervised
from tests.train.loops import Lines, Memory, fit_now, stopping_after


def test_the_target_stops_at_once() -> None:
    values = iter([0.2, 0.5, 0.91, 0.1])
    keeper, journal = Memory(), Lines()
    outcome = fit_now(
        supervised(),
        keeper=keeper,
        journal=journal,
        evaluate=lambda: {"accuracy": next(values), "loss": 1.0},
        evaluations=10,
        target_accuracy=0.9,
    )
    assert outcome.stopped_by == "target" and outcome.state.best == 0.91
    # after the first step, then every second one; stopped right after the third look
    assert outcome.state.step == 4 and max(keeper.saved) == 4
    assert [line["accuracy"] for line in journal.lines if "accuracy" in line] == [0.2, 0.5, 0.91]
    assert all(line["loss"] == 1.0 for line in journal.lines if "accuracy" in line)


def test_patience() -> None:
    values = iter([0.2, 0.5, 0.5, 0.4, 0.6, 0.6, 0.1, 0.2, 0.9])
    outcome = fit_now(
        supervised(), evaluate=lambda: {"accuracy": next(values)}, evaluations=20, patience=3
    )
    assert outcome.stopped_by == "patience" and outcome.state.step == 8
    assert outcome.state.best == 0.6 and outcome.state.stale == 3
    assert outcome.state.last == 0.2


def test_patience_goes_over_a_resume() -> None:
    values = iter([0.5, 0.4, 0.4, 0.4, 0.4])
    keeper = Memory()
    settings: dict[str, Any] = {"evaluations": 20, "patience": 3, "keeper": keeper}
    evaluate = lambda: {"accuracy": next(values)}  # noqa: E731
    fit_now(supervised(), evaluate=evaluate, stop_requested=stopping_after(3), **settings)
    outcome = fit_now(supervised(), evaluate=evaluate, **settings)
    assert outcome.stopped_by == "patience" and outcome.state.step == 4


def test_without_an_accuracy_neither_target_nor_patience_counts() -> None:
    outcome = fit_now(
        supervised(), evaluate=lambda: {"knn": 1.0}, target_accuracy=0.5, patience=1, steps=6
    )
    assert outcome.stopped_by == "steps" and outcome.state.best == -math.inf


def test_steps_and_evaluations_over_the_budget() -> None:
    looks: list[int] = []
    objective = supervised()
    journal = Lines()

    def evaluate() -> dict[str, float]:
        assert not objective.training  # and it trains again afterwards
        looks.append(len(looks))
        return {"accuracy": 0.1}

    keeper = Memory()
    outcome = fit_now(
        objective, keeper=keeper, journal=journal, evaluate=evaluate, evaluations=5, saves=4
    )
    assert outcome == Outcome(stopped_by="steps", state=outcome.state)
    assert outcome.state.step == 20 and objective.training
    assert [line["step"] for line in journal.lines if "accuracy" in line] == [1, 4, 8, 12, 16, 20]
    assert sorted(keeper.saved) == [0, 5, 10, 15, 20]
    progress = [line["progress"] for line in journal.lines if "progress" in line]
    assert progress == pytest.approx([step / 20 for step in range(1, 21)])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on by a second whenever the loop looks at the clock: twice in a step."""
    seconds = count(1000)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


@pytest.mark.usefixtures("clock")
def test_minutes() -> None:
    keeper = Memory()
    outcome = fit_now(supervised(), keeper=keeper, steps=None, minutes=0.25)
    assert outcome.stopped_by == "minutes"
    assert outcome.state.step == 8 and outcome.state.seconds == 16.0
    # the time of a resumed run counts from where it was
    resumed = fit_now(supervised(), keeper=keeper, steps=None, minutes=0.5)
    assert resumed.stopped_by == "minutes"
    assert resumed.state.step == 16 and resumed.state.seconds == 32.0


def test_looks_that_take_long_are_fewer_where_minutes_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.5  # a second a step, by two looks at the clock
        return now[0]

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=monotonic))
    looked: list[float] = []

    def slow() -> dict[str, float]:
        looked.append(now[0])
        now[0] += 30.0
        return {}

    fit_now(supervised(), steps=None, minutes=10, evaluate=slow, evaluations=20)
    # 200 seconds of work for 30 of looking, and one look at the end
    apart = [b - a for a, b in itertools.pairwise(looked[:-1])]
    assert min(apart) >= 30 + 30 / 0.15
    assert len(looked) == 4
    looked.clear()
    # a budget of steps is not the clock's business
    fit_now(supervised(), steps=20, evaluate=slow, evaluations=20)
    assert len(looked) == 20


@pytest.mark.usefixtures("clock")
def test_saves_are_never_far_apart() -> None:
    keeper = Memory()
    fit_now(supervised(), keeper=keeper, steps=None, minutes=1.0, saves=1, save_minutes=0.25)
    seconds = [state["seconds"] for _, state in keeper.saved.values()]
    assert seconds == [0.0, 16.0, 32.0, 46.0, 62.0]


@pytest.mark.usefixtures("clock")
def test_of_two_budgets_the_first_to_end_is_named() -> None:
    assert fit_now(supervised(), steps=3, minutes=60.0).stopped_by == "steps"
    assert fit_now(supervised(), steps=10**9, minutes=0.1).stopped_by == "minutes"
    keeper = Memory()
    fit_now(supervised(), keeper=keeper, steps=3, minutes=60.0)
    assert fit_now(supervised(), keeper=keeper, steps=3, minutes=60.0).stopped_by == "steps"


def test_a_signal_saves_and_leaves() -> None:
    keeper = Memory()
    outcome = fit_now(supervised(), keeper=keeper, stop_requested=stopping_after(7), saves=1)
    assert outcome.stopped_by == "signal" and outcome.state.step == 7
    assert sorted(keeper.saved) == [0, 7]


@pytest.mark.usefixtures("clock")
def test_speed_is_that_of_this_process() -> None:
    keeper, journal = Memory(), Lines()
    fit_now(supervised(), keeper=keeper, stop_requested=stopping_after(2))
    keeper.saved[2][1]["seconds"] = 3600.0
    fit_now(supervised(), keeper=keeper, journal=journal, steps=4)
    speeds = [line["steps_per_second"] for line in journal.lines if "steps_per_second" in line]
    assert speeds == [1.0, 0.5]  # and not 3 steps in an hour
