"""A code that teaches the generator to draw whole clips from noise.

pooled features [B, D] -> code [B, Z] of standard normal moments -> drawn clip, compared with the
real one.  Few minutes of an adversary alone leave a generator with noise; with the code it draws
blurred but whole things, which the adversary then sharpens (VAE/GAN, Larsen et al. 2016).

A variational bound would let the codes of thousands of pixels wander far from the normal that is
drawn from later, or give the code up.  So the codes are whitened, and noise fills the room between
them: a regularised autoencoder (Ghosh et al. 2020) whose density is settled while it learns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.models.blocks import init_linear
from discern.models.generator import Generator

KINDS = 2  # images and clips have moments of their own
FOLLOW = 0.02  # how fast the moments follow the features, once enough were seen
RIDGE = 1e-2  # of the mean variance: directions without any must not be blown up
SPREAD = 0.4  # of the noise on a code of unit variance


class Coder(nn.Module):
    """A linear code of the features, whitened by running moments."""

    mean: Tensor
    covariance: Tensor
    seen: Tensor

    def __init__(self, width: int, noise: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, noise, bias=False)
        self.head.apply(init_linear)
        self.register_buffer("mean", torch.zeros(KINDS, noise))
        self.register_buffer("covariance", torch.eye(noise).repeat(KINDS, 1, 1))
        self.register_buffer("seen", torch.zeros(KINDS))  # batches

    def loss(
        self, pooled: Tensor, clip: Tensor, generator: Generator, rng: torch.Generator
    ) -> Tensor:
        """Half the log error of the drawn clip: the width of the error is its own optimum, so no
        weight has to be found (sigma-VAE, Rybkin et al. 2021, eq. 5).

        [B, D], [B, C, T, H, W] -> []
        """
        code = self.code(pooled, is_clip=clip.shape[2] > 1)
        noise = generator.draw_noise(len(code), rng)
        code = (code + SPREAD * noise) / (1 + SPREAD**2) ** 0.5  # of unit variance again
        drawn = generator(code, tuple(clip.shape[2:]))
        error = (drawn - clip).square().mean()
        return (error + 1e-3).log() / 2

    def code(self, pooled: Tensor, is_clip: bool) -> Tensor:
        """The codes of a batch, which moves the moments first.  [B, D] -> [B, Z]"""
        kind = int(is_clip)
        with torch.autocast(pooled.device.type, enabled=False):
            raw = self.head(pooled.float())
            self._follow(raw.detach(), kind)
            covariance = self.covariance[kind]
            ridge = RIDGE * covariance.diagonal().mean() + 1e-8
            whole = covariance + ridge * torch.eye(len(covariance), device=covariance.device)
            factor = torch.linalg.cholesky(whole)
            centred = (raw - self.mean[kind]).T
            return torch.linalg.solve_triangular(factor, centred, upper=False).T

    @torch.no_grad()
    def _follow(self, raw: Tensor, kind: int) -> None:
        """Moments over all batches at first, over the last ones later: the features move on."""
        self.seen[kind] += 1
        rate = max(FOLLOW, 1.0 / float(self.seen[kind]))
        self.mean[kind].lerp_(raw.mean(dim=0), rate)
        off = raw - self.mean[kind]
        self.covariance[kind].lerp_(off.T @ off / len(raw), rate)
