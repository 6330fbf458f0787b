"""Precision: a device comes in, and the faster of bf16 and fp32 on it comes out, by the clock.

Processor names say little (some offer bf16 and run it slowly), so a small layer is timed.  The
choice changes the numbers of a run: it is recorded, and a resumed run uses the recorded one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discern.errors import ConfigError


class Precision(StrEnum):
    """The number format of matrix products; weights and sums stay in fp32."""

    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was chosen, and the times it was chosen by."""

    precision: Precision
    bf16_ms: float | None  # one training step of the small layer; None = not possible here
    fp32_ms: float


def probe_precision(device: torch.device | str, gain: float = 1.15) -> Probe:
    """Time both on this device; bf16 where it is at least `gain` times as fast as fp32."""
    device = torch.device(device)
    step = _small_layer(device)
    fp32 = bf16 = float("inf")
    try:
        for _ in range(3):  # the first calls choose and compile kernels
            _time(step, Precision.FP32, device)
            _time(step, Precision.BF16, device)
        # in turns and the best of each: other programs slow both alike, and not every time
        for _ in range(8):
            fp32 = min(fp32, _time(step, Precision.FP32, device))
            bf16 = min(bf16, _time(step, Precision.BF16, device))
    except (RuntimeError, NotImplementedError):  # a device without bf16
        fp32 = min(_time(step, Precision.FP32, device) for _ in range(8))
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


def _small_layer(device: torch.device) -> Callable[[], None]:
    """One training step of attention and MLP at the sizes of a small model on that device."""
    width, batch, tokens = (192, 16, 32) if device.type == "cpu" else (384, 128, 128)
    rng = torch.Generator().manual_seed(0)  # the shared generators stay where they are

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng).mul_(0.02).to(device).requires_grad_()

    x = torch.randn((batch, tokens, width), generator=rng).to(device)  # [B, N, D]
    into, out = weight(3 * width, width), weight(width, width)
    up, down = weight(4 * width, width), weight(width, 4 * width)

    def step() -> None:
        heads = F.linear(x, into).unflatten(-1, (3, width // 64, 64)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads)  # [B, heads, N, 64]
        y = x + F.linear(attended.transpose(1, 2).flatten(2), out)
        y = y + F.linear(F.gelu(F.linear(F.layer_norm(y, (width,)), up)), down)
        torch.autograd.grad(y.float().square().mean(), [into, out, up, down])

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
