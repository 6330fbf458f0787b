"""A variational code that teaches the generator to draw whole clips from noise.

pooled features [B, D] -> code [B, Z] near a standard normal -> drawn clip, compared with the real
one.  Few minutes of an adversary alone leave a generator with noise; with the code it draws blurred
but whole things, which the adversary then sharpens (VAE/GAN, Larsen et al. 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.models.blocks import init_linear
from discern.models.generator import Generator


class Coder(nn.Module):
    """Mean and log variance of the code of each item."""

    def __init__(self, width: int, noise: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 2 * noise)
        self.head.apply(init_linear)

    def loss(
        self, pooled: Tensor, clip: Tensor, generator: Generator, rng: torch.Generator
    ) -> Tensor:
        """The bound of a sigma-VAE (Rybkin et al. 2021, eq. 5): log error and divergence, per
        number.

        The width of the error is its own optimum, so no weight has to be found.  [B, D], [B, C, T,
        H, W] -> []
        """
        mean, log_variance = self.head(pooled).float().chunk(2, dim=1)  # [B, Z]
        log_variance = log_variance.clamp(-8.0, 8.0)
        noise = generator.draw_noise(len(mean), rng)
        code = mean + (log_variance / 2).exp() * noise
        drawn = generator(code, tuple(clip.shape[2:]))
        error = (drawn - clip).square().mean()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        return (error + 1e-3).log() / 2 + divergence / clip[0].numel()
