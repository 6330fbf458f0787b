"""Precision is chosen by the clock, and touches nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from discern.errors import ConfigError
from discern.scale import precision
from discern.scale.precision import Precision, autocast, choose_precision, probe_precision


def test_the_probe_works_here_and_leaves_the_generators_alone() -> None:
    before = torch.get_rng_state()
    probe = probe_precision("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert probe.fp32_ms > 0
    if probe.precision is Precision.BF16:
        assert probe.bf16_ms is not None and probe.bf16_ms < probe.fp32_ms


@pytest.mark.parametrize(
    ("bf16", "expected", "steps"),
    [
        (0.5, Precision.BF16, 28),
        (0.95, Precision.FP32, 28),
        (2.0, Precision.FP32, 28),
        (9.0, Precision.FP32, 6),  # emulated: no time is lost on it
    ],
)
def test_the_faster_one_is_chosen(
    monkeypatch: pytest.MonkeyPatch, bf16: float, expected: Precision, steps: int
) -> None:
    taken: list[Precision] = []

    def time(step: Callable[[], None], chosen: Precision, device: torch.device) -> float:
        taken.append(chosen)
        if len(taken) <= 2:
            return 100.0  # the first calls say nothing
        return bf16 if chosen is Precision.BF16 else 1.0

    monkeypatch.setattr(precision, "_time", time)
    assert choose_precision("auto", "cpu") is expected
    assert len(taken) == steps


def test_one_slow_step_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Precision] = []

    def time(step: Callable[[], None], chosen: Precision, device: torch.device) -> float:
        taken.append(chosen)
        if chosen is Precision.FP32:
            return 1.0
        return 50.0 if taken.count(chosen) == 2 else 0.5

    monkeypatch.setattr(precision, "_time", time)
    assert choose_precision("auto", "cpu") is Precision.BF16


def test_a_device_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    def time(step: Callable[[], None], chosen: Precision, device: torch.device) -> float:
        if chosen is Precision.BF16:
            raise RuntimeError("not implemented for BFloat16")
        return 0.002

    monkeypatch.setattr(precision, "_time", time)
    probe = probe_precision("cpu")
    assert (probe.precision, probe.bf16_ms, probe.fp32_ms) == (Precision.FP32, None, 2.0)


def test_a_wish_is_a_wish() -> None:
    assert choose_precision("fp32", "cpu") is Precision.FP32
    assert choose_precision("bf16", "cpu") is Precision.BF16
    with pytest.raises(ConfigError, match="'fp8' does not exist: choose one of auto, bf16, fp32"):
        choose_precision("fp8", "cpu")


def test_autocast_is_on_for_bf16_only() -> None:
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with autocast("bf16", "cpu"):
        assert layer(x).dtype == torch.bfloat16
    with autocast(Precision.FP32, torch.device("cpu")):
        assert layer(x).dtype == torch.float32


@pytest.mark.gpu
def test_the_probe_works_on_a_gpu() -> None:
    assert probe_precision("cuda").bf16_ms is not None
