"""Randomized smoothing: a model and clips in; classes out, with a radius inside which none changes.

The smoothed model answers what the model answers most often under Gaussian noise.  Its answer is
proven, at a stated chance of error, for every L2 change below the radius (Cohen et al. 2019,
theorem 1 and algorithm CERTIFY).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import beta, norm
from torch import Tensor

from discern.security.change import UNIT, Logits

ABSTAINED = -1
AT_ONCE = 256  # noisy copies


@dataclass(frozen=True, kw_only=True)
class SmoothConfig:
    """How much noise, and how many copies of an item are asked about."""

    sigma: float  # of pixels in [0, 1]
    few: int = 64  # copies that guess the class
    many: int = 1000  # copies that prove it
    alpha: float = 0.001  # chance that a stated radius is wrong


@torch.no_grad()
def certify(
    model: Logits, clip: Tensor, config: SmoothConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The smoothed answer of each item, and its radius in L2 of pixels in [0, 1].

    [B, C, T, H, W] -> int64 [B], float [B]; ABSTAINED and 0 where no answer can be proven.
    """
    answers, radii = [], []
    for item in clip:
        guess = int(_counts(model, item, config.few, config.sigma, rng).argmax())
        counts = _counts(model, item, config.many, config.sigma, rng)
        chance = lower_bound(int(counts[guess]), config.many, config.alpha)
        proven = chance > 0.5
        answers.append(guess if proven else ABSTAINED)
        radii.append(config.sigma * float(norm.ppf(chance)) if proven else 0.0)
    return torch.tensor(answers, dtype=torch.int64), torch.tensor(radii, dtype=torch.float64)


def lower_bound(hits: int, total: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided bound of a share, wrong with chance `alpha`."""
    return float(beta.ppf(alpha, hits, total - hits + 1)) if hits else 0.0


def _counts(model: Logits, item: Tensor, copies: int, sigma: float, rng: torch.Generator) -> Tensor:
    """How often each class is answered.  [C, T, H, W] -> int64 [K]"""
    total: Tensor | None = None
    for first in range(0, copies, AT_ONCE):
        count = min(AT_ONCE, copies - first)
        drawn = torch.randn(count, *item.shape, generator=rng, device=rng.device).to(item.device)
        logits = model(item + UNIT * sigma * drawn)
        found = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
        total = found if total is None else total + found
    assert total is not None
    return total
