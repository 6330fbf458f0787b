"""Seeds and random states: the same numbers again, also in another process."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import torch

from discern.repro import (
    derive_seed,
    generator_state,
    random_state,
    restore_generator,
    restore_random_state,
    seed_all,
    versions,
)


def _draw() -> list[float]:
    torch_numbers = [torch.rand(()).item(), torch.randn(3).sum().item()]
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        *torch_numbers,
    ]


def test_seeding_sets_all_generators() -> None:
    seed_all(3)
    first = _draw()
    seed_all(3)
    assert _draw() == first
    seed_all(4)
    assert all(left != right for left, right in zip(_draw(), first, strict=True))


def test_the_state_comes_back_through_json() -> None:
    seed_all(0)
    _draw()  # one half of a pair of gaussians stays in the generators
    state = json.loads(json.dumps(random_state(), allow_nan=False))
    expected = [_draw(), _draw()]
    seed_all(1)
    restore_random_state(state)
    assert [_draw(), _draw()] == expected


def test_a_generator_of_ones_own() -> None:
    rng = torch.Generator().manual_seed(5)
    torch.rand(3, generator=rng)
    state = generator_state(rng)
    expected = torch.rand(3, generator=rng)
    other = torch.Generator()
    restore_generator(other, state)
    assert torch.equal(torch.rand(3, generator=other), expected)


def test_derived_seeds_are_fixed_for_ever() -> None:
    assert derive_seed(0, "loader", 1) == 1440760037606769597
    assert derive_seed(0, "loader", 1) != derive_seed(0, "loader1")
    assert derive_seed(0) != derive_seed(1)
    assert all(0 <= derive_seed(seed) < 2**63 for seed in range(1000))


def test_derived_seeds_do_not_depend_on_the_process() -> None:
    code = "from discern.repro import derive_seed; print(derive_seed(7, 'a', 2))"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == derive_seed(7, "a", 2)


def test_versions_are_text() -> None:
    found = versions()
    assert {"python", "platform", "cpu", "numpy", "torch", "discern"} <= found.keys()
    assert all(isinstance(value, str) and value for value in found.values())
    assert found["torch"] == torch.__version__
