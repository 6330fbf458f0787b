"""Muon: steps that turn matrices instead of moving their elements one by one.

A step along the gradient is soon of low rank: few directions get nearly all of it.  Orthogonalised,
all directions of a matrix move alike (Jordan et al. 2024, "Muon"; Bernstein and Newhouse 2024).
Convolutions before a batch normalisation learn by their direction alone, so that their length is
kept (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds"); a step then turns them by its rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from discern.scale.divided import divided_like, whole

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: singular values go to 0.7 ... 1.2
ROUNDS = 3
EPS = 1e-7


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with `turned`: those take orthogonalised steps with momentum.

    A group with `kept_length` keeps the length of each of its weights at sqrt(rows).
    """

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every group."""
        assert closure is None
        groups = self.param_groups
        turned = [one for one in groups if one["turned"]]
        self.param_groups = [one for one in groups if not one["turned"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in turned:
            self._turn(group)

    @torch.no_grad()
    def _turn(self, group: dict[str, Any]) -> None:
        learned = [one for one in group["params"] if one.grad is not None]
        steps = [self._step_of(one, one.grad, group["momentum"]) for one in learned]
        for parameter, step in zip(learned, orthogonal(map(whole, steps)), strict=True):
            if group["kept_length"]:
                parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp(min=EPS))
            parameter.add_(divided_like(step.to(parameter.dtype), parameter), alpha=-group["lr"])

    def _step_of(self, parameter: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(momentum).add_(gradient)
        return gradient.add(state["momentum"], alpha=momentum)


def orthogonal(matrices: Iterable[Tensor]) -> list[Tensor]:
    """The nearest matrices with equal singular values, roughly: [R, C] or [R, ...] each -> the same

    Newton and Schulz's iteration; matrices of one shape are computed together.
    """
    every = list(matrices)
    alike: dict[torch.Size, list[int]] = {}
    for number, one in enumerate(every):
        alike.setdefault(one.shape, []).append(number)
    found: list[Tensor] = list(every)
    for shape, numbers in alike.items():
        together = torch.stack([every[number] for number in numbers]).flatten(2)
        for number, one in zip(numbers, _iterated(together), strict=True):
            found[number] = one.reshape(shape)
    return found


def _iterated(x: Tensor) -> Tensor:
    """[N, R, C] -> [N, R, C]"""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if is_tall else x
