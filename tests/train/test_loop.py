"""The loop: a resumed run is the run, each way to end, and what happens when the loss breaks."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from discern.clip import Batch
from discern.data.augment import to_float
from discern.data.loader import Loader, LoaderConfig, Position
from discern.data.mixing import MixedLoader
from discern.models.batch_norm import learning, norms_of
from discern.models.model import named_tensors
from discern.objectives.objective import Objective
from discern.scale.precision import autocast
from discern.train import loop
from discern.train.checkpoint import Saver
from discern.train.loop import LoopConfig, Outcome, fit, step_rng
from discern.train.muon import Muon
from discern.train.optim import OptimConfig
from discern.train.watch import ROLL_BACKS_BEFORE_STOP, SKIPS_BEFORE_ROLL_BACK
from tests.tiny import OBJECTIVES, batch, gan, masked_gan, random_sets, semi, supervised

OPTIM = OptimConfig(rate=3e-3, warmup=0.1, layer_decay=0.9, matrix_factor=5.0)
Saved = tuple[dict[str, Tensor], dict[str, Any]]


class Memory:
    """A keeper that holds on to every checkpoint."""

    def __init__(self, start: Saved | None = None) -> None:
        self.saved: dict[int, Saved] = {}
        self.start = start

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        copies = {name: value.detach().clone() for name, value in tensors.items()}
        assert all(value.isfinite().all() for value in copies.values()), "NaN was saved"
        self.saved[step] = copies, json.loads(json.dumps(state, allow_nan=False))

    def load(self) -> Saved | None:
        return self.saved[max(self.saved)] if self.saved else self.start


class Lines:
    """A journal in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def log(self, *, step: int, **values: Any) -> None:
        self.lines.append({"step": step, **values})

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines if "event" in line]


class Same:
    """The same batch for ever."""

    def __init__(self, items: Batch | None = None) -> None:
        self.items = items or batch(4)

    def batches(self, start: Position) -> Iterator[tuple[Position, Batch]]:
        for index in count(start.index + 1):
            yield Position(start.epoch, index), self.items


def _loader() -> Loader:
    """Images and clips in turn."""
    config = LoaderConfig(batch_size=4, clip_batch_size=2, clip_share=0.4)
    return Loader(random_sets(12, 6), config, seed=3)


def _mixed_loader() -> MixedLoader:
    """The same, and images without labels."""
    config = LoaderConfig(batch_size=6, clip_batch_size=2, clip_share=0.4)
    return MixedLoader(random_sets(12, 6), random_sets(9), config, ratio=2.0, seed=3)


def _fit(
    objective: Objective,
    *,
    loader: Any = None,
    keeper: Any = None,
    journal: Any = None,
    optim: OptimConfig = OPTIM,
    evaluate: Callable[[], dict[str, float]] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    computing: Callable[[], Any] = contextlib.nullcontext,
    **settings: Any,
) -> Outcome:
    return fit(
        objective.train(),
        loader or _loader(),
        LoopConfig(**({"steps": 20, "log_seconds": 0.0} | settings)),
        optim,
        seed=5,
        journal=journal or Lines(),
        keeper=keeper or Memory(),
        autocast=computing,
        evaluate=evaluate,
        stop_requested=stop_requested,
    )


def _after(steps: int) -> Callable[[], bool]:
    """A signal that comes during step number `steps`."""
    asked = count(1)
    return lambda: next(asked) >= steps


def _make(name: str, seed: int = 0) -> Objective:
    if name == "supervised":
        return supervised(seed, drop_path=0.3)
    if name == "semi":
        return semi(seed, drop_path=0.3)
    if name == "teacher":
        return masked_gan(seed, teacher=True, noise_share=0.5)
    return OBJECTIVES[name](seed)


def _evaluate(objective: Objective) -> Callable[[], dict[str, float]]:
    """Looks at the average, and uses up random numbers as an evaluation may."""

    def evaluate() -> dict[str, float]:
        torch.rand(3)
        weight = next(iter(objective.averages[0][1].parameters()))
        return {"accuracy": float(weight.detach().abs().mean()) % 1.0}

    return evaluate


def _run(name: str, keeper: Memory | Saver, seed: int = 0, **settings: Any) -> Objective:
    objective = _make(name, seed)
    loader = _mixed_loader() if name == "semi" else _loader()
    look = _evaluate(objective)
    _fit(objective, loader=loader, keeper=keeper, evaluate=look, evaluations=7, **settings)
    return objective


@functools.cache
def _whole(name: str) -> dict[int, Saved]:
    """Every checkpoint of an uninterrupted run."""
    keeper = Memory()
    _run(name, keeper, saves=1000)
    return keeper.saved


def _assert_same(found: Saved, expected: Saved) -> None:
    assert found[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        assert found[0][name].dtype == value.dtype and torch.equal(found[0][name], value), name
    clocks = {"seconds"}
    left, right = (
        {k: v for k, v in state.items() if k not in clocks} for _, state in (found, expected)
    )
    assert left == right


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize(
    ("name", "every"),
    [("masked_gan", 1), ("supervised", 1), ("gan", 5), ("teacher", 5), ("semi", 1)],
)
def test_resumed_after_every_step_it_ends_with_the_same_bits(name: str, every: int) -> None:
    whole = _whole(name)
    assert sorted(whole) == list(range(21))
    # stopped and resumed over and over, each time by networks that start from another seed
    parts = Memory()
    for step in range(every, 21, every):
        objective = _run(name, parts, seed=step - every, saves=1000, stop_requested=_after(every))
        _assert_same(parts.saved[step], whole[step])
    final = {f"objective/{n}": value for n, value in named_tensors(objective).items()}
    assert all(torch.equal(whole[20][0][n], value) for n, value in final.items())


@pytest.mark.parametrize("name", ["masked_gan", "supervised"])
def test_neither_saves_nor_the_log_nor_a_long_way_after_a_resume_change_a_bit(name: str) -> None:
    whole = _whole(name)
    rest = Memory(whole[10])
    _run(name, rest, seed=1, saves=1, log_seconds=1000.0)
    assert sorted(rest.saved) == [11, 20]
    for tensor, value in whole[20][0].items():
        assert torch.equal(rest.saved[20][0][tensor], value)


@pytest.mark.parametrize("name", ["masked_gan", "supervised"])
def test_stopped_and_resumed_through_files(name: str, tmp_path: Path) -> None:
    for part, end in enumerate((2, 5, 13, 20)):
        objective = _make(name, seed=part)
        outcome = _fit(
            objective,
            keeper=Saver(tmp_path),
            evaluate=_evaluate(objective),
            evaluations=7,
            stop_requested=_after(end - (0, 2, 5, 13)[part]) if end < 20 else lambda: False,
        )
        assert outcome.stopped_by == ("signal" if end < 20 else "steps")
        assert outcome.state.step == end
    found = Saver(tmp_path).load()
    assert found is not None
    state = {key: value for key, value in found[1].items() if key != "next_save"}
    expected = {key: value for key, value in _whole(name)[20][1].items() if key != "next_save"}
    _assert_same((found[0], state), (_whole(name)[20][0], expected))


def test_a_checkpoint_holds_everything_once() -> None:
    objective = masked_gan()
    tensors, state = _whole("masked_gan")[20]
    kept = {name for name in tensors if name.startswith("objective/")}
    assert kept == {f"objective/{name}" for name in named_tensors(objective)}
    moments = {name.rsplit("/", 1)[1] for name in tensors if name.startswith("optimizer/both/")}
    assert moments == {"exp_avg", "exp_avg_sq", "step", "momentum"}
    turned = "optimizer/both/0.backbone.blocks.0.mlp.fc1.weight/"
    assert [name for name in tensors if name.startswith(turned)] == [f"{turned}momentum"]
    assert state["step"] == 20 and state["position"][0] >= 1 and state["watch"]["rate_scale"] == 1


def test_matrices_are_turned_as_precisely_as_the_network_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[bool] = []

    def stepped(optimizer: Muon) -> None:
        found.append(torch.is_autocast_enabled("cpu"))

    monkeypatch.setattr(Muon, "step", stepped)
    for precision in ("bf16", "fp32"):
        _fit(supervised(), steps=1, computing=functools.partial(autocast, precision, "cpu"))
    assert found == [True, False]


def test_a_finished_run_does_not_go_on() -> None:
    keeper = Memory()
    _run("supervised", keeper)
    again = _make("supervised", 9)
    outcome = _fit(again, keeper=keeper, stop_requested=lambda: pytest.fail("a step was taken"))
    assert outcome.stopped_by == "steps" and outcome.state.step == 20
    ours = named_tensors(again)
    assert all(torch.equal(keeper.saved[20][0][f"objective/{n}"], v) for n, v in ours.items())


def test_every_step_has_random_numbers_of_its_own() -> None:
    seen: list[tuple[int, int]] = []
    objective = gan()
    plain = objective.loss

    def loss(phase: str, items: Batch, rng: torch.Generator, progress: float) -> Any:
        seen.append((rng.initial_seed(), torch.initial_seed()))
        return plain(phase, items, rng, progress)

    objective.loss = loss  # type: ignore[method-assign]
    _fit(objective, steps=5)
    assert len(seen) == 10 and len(set(seen)) == 5  # both phases of a step share them


def test_seeds_of_steps() -> None:
    seen = set()
    for seed in range(3):
        for step in range(50):
            rng = step_rng(seed, step)
            seen.add((torch.rand((), generator=rng).item(), torch.rand(()).item()))
    assert len(seen) == 150
    assert torch.equal(
        torch.rand(4, generator=step_rng(2, 7)), torch.rand(4, generator=step_rng(2, 7))
    )


# ---------------------------------------------------------------- ways to end


def test_the_target_stops_at_once() -> None:
    values = iter([0.2, 0.5, 0.91, 0.1])
    keeper, journal = Memory(), Lines()
    outcome = _fit(
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
    outcome = _fit(
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
    _fit(supervised(), evaluate=evaluate, stop_requested=_after(3), **settings)
    outcome = _fit(supervised(), evaluate=evaluate, **settings)
    assert outcome.stopped_by == "patience" and outcome.state.step == 4


def test_without_an_accuracy_neither_target_nor_patience_counts() -> None:
    outcome = _fit(
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
    outcome = _fit(
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
    outcome = _fit(supervised(), keeper=keeper, steps=None, minutes=0.25)
    assert outcome.stopped_by == "minutes"
    assert outcome.state.step == 8 and outcome.state.seconds == 16.0
    # the time of a resumed run counts from where it was
    resumed = _fit(supervised(), keeper=keeper, steps=None, minutes=0.5)
    assert resumed.stopped_by == "minutes"
    assert resumed.state.step == 16 and resumed.state.seconds == 32.0


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
    _fit(whole, loader=Same(), steps=6, journal=journals[0])
    _fit(parts, loader=Same(), steps=6, journal=journals[1], **settings)
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        if not name.endswith("k_norm.bias"):  # its gradient is rounding, which Adam makes large
            torch.testing.assert_close(one, other, rtol=0, atol=2e-8, msg=name)
    losses = [[line["cross_entropy"] for line in j.lines if "progress" in line] for j in journals]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_parts(name: str) -> None:
    outcome = _fit(_make(name), steps=3, micro_batches=2)
    assert outcome.stopped_by == "steps" and outcome.state.step == 3


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

    _fit(supervised(), steps=None, minutes=10, evaluate=slow, evaluations=20)
    # 200 seconds of work for 30 of looking, and one look at the end
    apart = [b - a for a, b in itertools.pairwise(looked[:-1])]
    assert min(apart) >= 30 + 30 / 0.15
    assert len(looked) == 4
    looked.clear()
    # a budget of steps is not the clock's business
    _fit(supervised(), steps=20, evaluate=slow, evaluations=20)
    assert len(looked) == 20


@pytest.mark.usefixtures("clock")
def test_saves_are_never_far_apart() -> None:
    keeper = Memory()
    _fit(supervised(), keeper=keeper, steps=None, minutes=1.0, saves=1, save_minutes=0.25)
    seconds = [state["seconds"] for _, state in keeper.saved.values()]
    assert seconds == [0.0, 16.0, 32.0, 46.0, 62.0]


@pytest.mark.usefixtures("clock")
def test_of_two_budgets_the_first_to_end_is_named() -> None:
    assert _fit(supervised(), steps=3, minutes=60.0).stopped_by == "steps"
    assert _fit(supervised(), steps=10**9, minutes=0.1).stopped_by == "minutes"
    keeper = Memory()
    _fit(supervised(), keeper=keeper, steps=3, minutes=60.0)
    assert _fit(supervised(), keeper=keeper, steps=3, minutes=60.0).stopped_by == "steps"


def test_a_signal_saves_and_leaves() -> None:
    keeper = Memory()
    outcome = _fit(supervised(), keeper=keeper, stop_requested=_after(7), saves=1)
    assert outcome.stopped_by == "signal" and outcome.state.step == 7
    assert sorted(keeper.saved) == [0, 7]


@pytest.mark.usefixtures("clock")
def test_speed_is_that_of_this_process() -> None:
    keeper, journal = Memory(), Lines()
    _fit(supervised(), keeper=keeper, stop_requested=_after(2))
    keeper.saved[2][1]["seconds"] = 3600.0
    _fit(supervised(), keeper=keeper, journal=journal, steps=4)
    speeds = [line["steps_per_second"] for line in journal.lines if "steps_per_second" in line]
    assert speeds == [1.0, 0.5]  # and not 3 steps in an hour


# ---------------------------------------------------------------- when it breaks


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
    outcome = _fit(objective, keeper=keeper, journal=journal, loader=Same(), saves=1000)
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
    _fit(objective, journal=journal)
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

    outcome = _fit(
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
    _fit(supervised(), journal=plain)
    expected = {line["step"]: line["rate"] for line in plain.lines if "rate" in line}
    assert rates[last] == expected[last] and rates[20] == pytest.approx(expected[20] / 2)
    assert keeper.saved[20][1]["watch"]["rate_scale"] == 0.5


def test_a_rate_far_too_high_ends_with_the_network_it_began_with() -> None:
    objective, keeper = supervised(), Memory()
    before = {name: value.clone() for name, value in named_tensors(objective).items()}
    outcome = _fit(objective, keeper=keeper, optim=OptimConfig(rate=1e30), steps=200, saves=1)
    assert outcome.stopped_by == "diverged" and sorted(keeper.saved) == [0]
    for name, value in named_tensors(objective).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("make", "phase"), [(supervised, "classifier"), (gan, "discriminator")])
def test_a_loss_that_stays_bad_ends_the_run_as_diverged(
    make: Callable[[], Objective], phase: str
) -> None:
    journal, keeper, objective = Lines(), Memory(), make()
    Breaks(objective, lambda call: call >= 4, phase)
    outcome = _fit(objective, keeper=keeper, journal=journal, steps=200, saves=1000)
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
    assert _fit(fixed, keeper=keeper, steps=outcome.state.step + 2).stopped_by == "steps"


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
    _fit(objective, journal=journal, loader=Same(), steps=20)
    assert len(journal.events()) == 4 and journal.events()[-1].endswith("scaled to 0")
    assert float(objective.adversary_scale) == 0.0


# ---------------------------------------------------------------- averages and gradients


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
    _fit(objective, steps=12, loader=Same(items), optim=OptimConfig(rate=1e-9))
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
    _fit(objective, keeper=keeper, saves=1000, ema_decay=0.3)
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
        _fit(objective, optim=OptimConfig(clip_norm=0.01), steps=3)
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
    _fit(objective, steps=2)
    # before the first D phase, the first G phase, the second D phase, the second G phase
    assert moved == [set(), {"discriminator"}, {"generator", "average"}, {"discriminator"}]


def test_it_learns() -> None:
    """Forty steps on three classes of plain colours."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    label = torch.arange(12) % 3
    clip = colours[label].view(12, 3, 1, 1, 1).expand(-1, -1, -1, 16, 16)
    objective = supervised(mix_chance=0.0, label_smoothing=0.0)
    objective.view = lambda clip, r: clip.float() / 127.5 - 1
    _fit(objective, loader=Same(Batch(clip=clip, label=label)), steps=40, ema_decay=0.5)
    for network in (objective.classifier, objective.average):
        logits = network.eval()(clip.float() / 127.5 - 1)
        assert torch.equal(logits.argmax(1), label)
