"""What a training step minimizes: the contract between an objective and the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from discern.clip import Batch
from discern.data.augment import to_float
from discern.models.backbone import Backbone
from discern.models.batch_norm import learning, norms_of

SETTLED = 128  # items


@dataclass(frozen=True, kw_only=True)
class Losses:
    """One scalar to minimize, and what to write in the log."""

    total: Tensor  # []
    # each [], left on its device: reading a number makes a GPU wait
    parts: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """Networks and the losses between them; knows no optimizer, file or rank.

    players: phase -> the network that this phase updates, in order.  A phase may hold several
    networks and one backward pass when the objective detaches what must not flow.
    averages: (live, average) pairs; the loop moves each average towards its live network after
    every step.
    """

    players: dict[str, nn.Module]
    averages: list[tuple[nn.Module, nn.Module]]

    @abstractmethod
    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """The loss of one phase.

        `progress` runs from 0 to 1 over the whole training and drives every schedule.
        """

    def as_used(self, clip: Tensor, rng: torch.Generator) -> Tensor:
        """Training items as they will be met.  uint8 [B, C, T, H, W] -> float, of any size"""
        return to_float(clip)

    @torch.no_grad()
    def settle(self, batch: Batch, rng: torch.Generator) -> None:
        """The statistics of averaged encoders learn from some items as they are in use."""
        for _, average in self.averages:
            for backbone in average.modules():
                if isinstance(backbone, Backbone) and norms_of(backbone):
                    with learning(backbone):
                        backbone.patches(self.as_used(batch.clip[:SETTLED], rng))


def on_host(rng: torch.Generator) -> torch.Generator:
    """Where single numbers are drawn that decide what is computed: a GPU would have to be waited
    for.  Beside one on a GPU it is the global one, which each step seeds.
    """
    return rng if rng.device.type == "cpu" else torch.default_generator


def chance(probability: float, rng: torch.Generator) -> bool:
    """Draws only where there is a doubt."""
    return probability >= 1 or bool(torch.rand((), generator=on_host(rng)) < probability)


def ramp(progress: float, start: float, length: float = 0.1) -> float:
    """0 before `start`, 1 after `start + length`, linear between."""
    if progress < start:
        return 0.0
    return min(1.0, (progress - start) / length) if length > 0 else 1.0


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Nothing is dropped inside."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
