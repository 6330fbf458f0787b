"""Precision: a device comes in, and the faster of bf16 and fp32 on it comes out, by the clock.

Processor names say little (some offer bf16 and run it slowly), so a block is timed.  The choice
changes the numbers of a run: it is recorded, and a resumed run uses the recorded one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch

from discern.errors import ConfigError
from discern.models.blocks import Block, stream

ROUNDS, FIRST_ROUNDS = 11, 3  # of a whole block's step, and before them of a small one's
HOPELESS = 3.0  # times as slow


class Precision(StrEnum):
    """The number format of matrix products; weights and sums stay in fp32."""

    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was chosen, and the times it was chosen by."""

    precision: Precision
    bf16_ms: float | None  # one training step of the block; None = not possible here
    fp32_ms: float


def probe_precision(device: torch.device | str, gain: float = 1.15) -> Probe:
    """Time both on this device; bf16 where it is at least `gain` times as fast as fp32."""
    device = torch.device(device)
    try:
        # where bf16 is emulated, each of its steps takes long: a small block says so at once
        fp32, bf16 = _times(_block(device, share=1 / 8), FIRST_ROUNDS, device)
        if bf16 <= HOPELESS * fp32:
            fp32, bf16 = _times(_block(device), ROUNDS, device)
    except (RuntimeError, NotImplementedError):  # a device without bf16
        step = _block(device)
        fp32 = min(_time(step, Precision.FP32, device) for _ in range(ROUNDS))
        return Probe(precision=Precision.FP32, bf16_ms=None, fp32_ms=fp32 * 1e3)
    chosen = Precision.BF16 if bf16 * gain <= fp32 else Precision.FP32
    return Probe(precision=chosen, bf16_ms=bf16 * 1e3, fp32_ms=fp32 * 1e3)


def choose_precision(wanted: str, device: torch.device | str) -> Precision:
    """`bf16`, `fp32`, or `auto`: by the clock."""
    if wanted == "auto":
        return probe_precision(device).precision
    try:
        return Precision(wanted)
    except ValueError:
        names = ", ".join(["auto", *Precision])
        raise ConfigError(f"precision {wanted!r} does not exist: choose one of {names}") from None


def autocast(precision: Precision | str, device: torch.device | str) -> AbstractContextManager[Any]:
    """The context in which forward passes run."""
    return torch.autocast(
        torch.device(device).type,
        dtype=torch.bfloat16,
        enabled=Precision(precision) is Precision.BF16,
    )


def _times(step: Callable[[], None], rounds: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a step in fp32 and in bf16.

    In turns and the best of each: other programs slow both alike, and not every time.
    """
    fp32 = bf16 = float("inf")
    for number in range(rounds):
        times = _time(step, Precision.FP32, device), _time(step, Precision.BF16, device)
        if number > 0:  # the first calls choose and compile kernels
            fp32, bf16 = min(fp32, times[0]), min(bf16, times[1])
    return fp32, bf16


def _block(device: torch.device, share: float = 1.0) -> Callable[[], None]:
    """One training step of our own block at the sizes of a small model on that device.

    Not of a stand-in: which format wins hangs on the kernels that the block calls.  `share` is
    that of the batch.
    """
    width, batch, tokens = (128, 128, 24) if device.type == "cpu" else (384, 128, 128)
    batch = round(batch * share)
    with torch.random.fork_rng(devices=[]):  # the shared generators stay where they are
        block = Block(width, heads=width // 32)
        x = torch.randn(batch, tokens, width)
    block, x = block.to(device), x.to(device).requires_grad_()

    def step() -> None:
        block(stream(x)).float().square().mean().backward()
        block.zero_grad(set_to_none=True)

    return step


def _time(step: Callable[[], None], precision: Precision, device: torch.device) -> float:
    """Seconds of one step."""
    _wait(device)
    start = time.perf_counter()
    with autocast(precision, device):
        step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
