"""A resumed run is the run, to the bit."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from discern.clip import Batch
from discern.models.model import named_tensors
from discern.scale.precision import autocast
from discern.train.checkpoint import Saver
from discern.train.loop import step_rng
from discern.train.muon import Muon
from tests.tiny import gan, masked_gan, supervised
from tests.train.loops import (
    Memory,
    an_evaluation,
    an_objective,
    assert_same,
    fit_now,
    run_of,
    stopping_after,
    whole_run,
)


@pytest.mark.parametrize(
    ("name", "every"),
    [("masked_gan", 1), ("supervised", 1), ("gan", 5), ("teacher", 5), ("semi", 1)],
)
def test_resumed_after_every_step_it_ends_with_the_same_bits(name: str, every: int) -> None:
    whole = whole_run(name)
    assert sorted(whole) == list(range(21))
    # stopped and resumed over and over, each time by networks that start from another seed
    parts = Memory()
    for step in range(every, 21, every):
        objective = run_of(
            name, parts, seed=step - every, saves=1000, stop_requested=stopping_after(every)
        )
        assert_same(parts.saved[step], whole[step])
    final = {f"objective/{n}": value for n, value in named_tensors(objective).items()}
    assert all(torch.equal(whole[20][0][n], value) for n, value in final.items())


@pytest.mark.parametrize("name", ["masked_gan", "supervised"])
def test_neither_saves_nor_the_log_nor_a_long_way_after_a_resume_change_a_bit(name: str) -> None:
    whole = whole_run(name)
    rest = Memory(whole[10])
    run_of(name, rest, seed=1, saves=1, log_seconds=1000.0)
    assert sorted(rest.saved) == [11, 20]
    for tensor, value in whole[20][0].items():
        assert torch.equal(rest.saved[20][0][tensor], value)


@pytest.mark.parametrize("name", ["masked_gan", "supervised"])
def test_stopped_and_resumed_through_files(name: str, tmp_path: Path) -> None:
    for part, end in enumerate((2, 5, 13, 20)):
        objective = an_objective(name, seed=part)
        outcome = fit_now(
            objective,
            keeper=Saver(tmp_path),
            evaluate=an_evaluation(objective),
            evaluations=7,
            stop_requested=stopping_after(end - (0, 2, 5, 13)[part]) if end < 20 else lambda: False,
        )
        assert outcome.stopped_by == ("signal" if end < 20 else "steps")
        assert outcome.state.step == end
    found = Saver(tmp_path).load()
    assert found is not None
    state = {key: value for key, value in found[1].items() if key != "next_save"}
    expected = {key: value for key, value in whole_run(name)[20][1].items() if key != "next_save"}
    assert_same((found[0], state), (whole_run(name)[20][0], expected))


def test_a_checkpoint_holds_everything_once() -> None:
    objective = masked_gan()
    tensors, state = whole_run("masked_gan")[20]
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
        fit_now(supervised(), steps=1, computing=functools.partial(autocast, precision, "cpu"))
    assert found == [True, False]


def test_a_finished_run_does_not_go_on() -> None:
    keeper = Memory()
    run_of("supervised", keeper)
    again = an_objective("supervised", 9)
    outcome = fit_now(again, keeper=keeper, stop_requested=lambda: pytest.fail("a step was taken"))
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
    fit_now(objective, steps=5)
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
