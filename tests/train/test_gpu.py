"""The loop on a GPU: what it needs is drawn there, nothing waits, resumed runs are whole ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from discern.data.loader import Loader, LoaderConfig
from discern.objectives.objective import Objective, chance, on_host
from discern.scale.precision import autocast
from discern.train.ahead import _ahead, arriving
from discern.train.checkpoint import Saver
from discern.train.loop import SILENT, LoopConfig, fit, step_rng
from discern.train.optim import OptimConfig
from tests.tiny import OBJECTIVES, batch, random_sets

CUDA = torch.device("cuda")


def _loader() -> Loader:
    config = LoaderConfig(batch_size=4, clip_batch_size=2, clip_share=0.4)
    return Loader(random_sets(12, 6), config, seed=3)


def _trained(objective: Objective, folder: Path, steps: int, stop_at: int = 99) -> Objective:
    asked = iter(range(1, 1000))
    saver = Saver(folder, background=True)
    fit(
        objective.to(CUDA).train(),
        _loader(),
        LoopConfig(steps=steps),
        OptimConfig(rate=1e-3),
        seed=5,
        journal=SILENT,
        keeper=saver,
        autocast=lambda: autocast("bf16", CUDA),
        device=CUDA,
        stop_requested=lambda: next(asked) >= stop_at,
    )
    saver.wait()
    return objective


@pytest.mark.gpu
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_and_resumes_exactly_on_a_gpu(name: str, tmp_path: Path) -> None:
    whole = _trained(OBJECTIVES[name](0), tmp_path / "whole", 8)
    assert all(one.isfinite().all() for one in whole.parameters())
    _trained(OBJECTIVES[name](0), tmp_path / "parts", 8, stop_at=4)
    resumed = _trained(OBJECTIVES[name](1), tmp_path / "parts", 8)
    for (place, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        # sums in kernels that add in no fixed order differ in their last bits
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4, msg=place)


@pytest.mark.gpu
def test_batches_arrive_on_a_gpu_as_they_are() -> None:
    here, there = _loader().batches(), arriving(_loader().batches(), CUDA)
    for _ in range(12):
        (position, one), (other_position, other) = next(here), next(there)
        assert position == other_position and other.clip.device.type == "cuda"
        assert torch.equal(one.clip, other.clip.cpu())


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of torch about its debugging
@pytest.mark.parametrize("name", ["masked_gan", "supervised"])
def test_a_gpu_is_not_waited_for_within_a_step(name: str) -> None:
    """But by the adversary, which asks whether it was silenced."""
    settings = {"patch_adversary": 0.0, "global_adversary": 0.0} if name == "masked_gan" else {}
    objective = OBJECTIVES[name](0, **settings).to(CUDA).train()
    phase, items = next(iter(objective.players)), batch(8).to(CUDA)

    def step(number: int) -> None:
        with autocast("bf16", CUDA):
            total = objective.loss(phase, items, step_rng(0, number, CUDA), 0.5).total
        total.backward()

    step(0)  # what is made once may wait
    try:
        torch.cuda.set_sync_debug_mode("error")
        for number in range(1, 6):
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_batches_made_ready_ahead_are_the_same_ones() -> None:
    plain, ahead = _loader().batches(), _ahead(_loader().batches())
    for _ in range(12):
        (position, one), (other_position, other) = next(plain), next(ahead)
        assert position == other_position and torch.equal(one.clip, other.clip)
    ahead.close()  # type: ignore[attr-defined]


def test_what_fails_ahead_fails_where_it_is_taken() -> None:
    def breaking():  # type: ignore[no-untyped-def]
        yield next(_loader().batches())
        raise OSError("gone")

    ahead = _ahead(breaking())
    next(ahead)
    with pytest.raises(OSError, match="gone"):
        next(ahead)
    assert list(_ahead(iter([]))) == []


@pytest.mark.gpu
def test_numbers_of_a_step_are_drawn_on_a_gpu() -> None:
    there = step_rng(1, 2, CUDA)
    assert there.device.type == "cuda" and there.initial_seed() == step_rng(1, 2).initial_seed()


def test_what_decides_is_drawn_on_the_host_from_the_step_alone() -> None:
    def decided(step: int) -> list[bool]:
        step_rng(1, step)
        on_gpu = SimpleNamespace(device=CUDA)  # a generator there, as far as this looks at it
        return [chance(0.5, on_gpu) for _ in range(64)]  # type: ignore[arg-type]

    assert decided(2) == decided(2) != decided(3)
    here = torch.Generator().manual_seed(3)
    assert on_host(here) is here


def test_on_a_cpu_nothing_is_made_ready_ahead() -> None:
    taken: list[int] = []

    def counting():  # type: ignore[no-untyped-def]
        loader = _loader().batches()
        for number in range(5):
            taken.append(number)
            yield next(loader)

    arrived = arriving(counting(), torch.device("cpu"))
    for number in range(3):
        next(arrived)
        assert taken == list(range(number + 1))
