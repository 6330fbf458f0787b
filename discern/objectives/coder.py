"""A code that teaches the generator to draw whole clips from noise.

Few minutes of an adversary alone leave a generator with noise; with the code it draws blurred but
whole things, which the adversary then sharpens (VAE/GAN, Larsen et al. 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor

from discern.models.coder import Coder
from discern.models.generator import Generator


def code_loss(
    coder: Coder, pooled: Tensor, clip: Tensor, generator: Generator, rng: torch.Generator
) -> Tensor:
    """Half the log error of the clip that is drawn from its own code.

    The width of the error is its own optimum, so that no weight has to be found (sigma-VAE, Rybkin
    et al. 2021, eq. 5).  [B, D], [B, C, T, H, W] -> []
    """
    code = coder.follow(pooled, is_clip=clip.shape[2] > 1)
    noise = generator.draw_noise(len(code), rng)
    drawn = generator(coder.blurred(code, noise), tuple(clip.shape[2:]))
    error = (drawn - clip).square().mean()
    return (error + 1e-3).log() / 2
