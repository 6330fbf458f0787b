"""Edges instead of pixels: how strong they are and which way they run, in whatever light.

[B, C, T, H, W] in [-1, 1] -> [B, 3, T, H, W]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Tan & Triggs 2010, section III: power law, inner and outer Gaussian in pixels, equalization
GAMMA, INNER, OUTER = 0.2, 1.0, 2.0
ALPHA, LIMIT = 0.1, 10.0
AROUND = 4.0  # pixels: the Gaussian that tells how strong edges are thereabouts
FLOOR = 0.1  # of a frame's mean strength: where nothing is, noise must not become edges
TINY = 1e-6
REACH = 4.0  # standard deviations of a Gaussian that are computed


def edges(clip: Tensor) -> Tensor:
    """Of each pixel the strength of its edge, and that times cosine and sine of twice its angle.

    Light from a side turns the lighter side of an edge into the darker one; twice the angle
    (Granlund 1978) is the same for both.  Strength is held against that of the surroundings
    (divisive normalization, Heeger 1992), so that a shadow takes nothing away.  A patch that
    is hidden leaves a trace in its neighbours, as far as the Gaussians reach.
    [B, C, T, H, W] in [-1, 1] -> float [B, 3, T, H, W]; gradients flow.
    """
    B, _, T, H, W = clip.shape
    with torch.autocast(clip.device.type, enabled=False):  # 16 bits cannot hold dark texture
        grey = (clip.float().mean(dim=1).flatten(0, 1)[:, None] + 1) / 2  # [B T, 1, H, W]
        flat = texture(grey)
        padded = F.pad(flat, (1, 1, 1, 1), mode="replicate")
        across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
        down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
        strength = (across.square() + down.square() + TINY).sqrt()
        double = [strength, (across.square() - down.square()) / strength]
        double.append(2 * across * down / strength)
        around = blurred(strength, AROUND)
        around = around + FLOOR * around.mean(dim=(1, 2, 3), keepdim=True)
        found = torch.cat(double, dim=1) / around
    return found.unflatten(0, (B, T)).transpose(1, 2)


def texture(grey: Tensor) -> Tensor:
    """A frame without its light (Tan & Triggs 2010).

    A power law, a difference of Gaussians, and contrast brought to one scale.
    [N, 1, H, W] in [0, 1] -> [N, 1, H, W] in (-1, 1)
    """
    # the power law has no slope at 0, and half a level of an 8-bit pixel is black
    x = grey.clamp(0.5 / 255, 1.0) ** GAMMA
    x = blurred(x, INNER) - blurred(x, OUTER)
    x = x / (_mean_of_powers(x) + TINY)
    x = x / (_mean_of_powers(x.clamp(-LIMIT, LIMIT)) + TINY)
    return torch.tanh(x / LIMIT)


def blurred(x: Tensor, deviation: float) -> Tensor:
    """A Gaussian over height and width; borders repeat.  [N, 1, H, W] -> the same"""
    reach = int(REACH * deviation + 0.5)
    steps = range(-reach, reach + 1)
    weights = [math.exp(-0.5 * (step / deviation) ** 2) for step in steps]
    kernel = x.new_tensor(weights) / sum(weights)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _mean_of_powers(x: Tensor) -> Tensor:
    """[N, 1, H, W] -> [N, 1, 1, 1]"""
    powers = (x.abs() + TINY) ** ALPHA
    return powers.mean(dim=(1, 2, 3), keepdim=True) ** (1 / ALPHA)
