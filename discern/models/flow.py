"""What moves where: a clip in, the motion of each of its pixels on three scales out.

[B, C, T, H, W] -> [B, 6, T, H, W]
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES = 3  # each of half the pixels a side of the one before
SIDE = 64  # pixels: larger frames are averaged down to it first
WINDOW = 1.5  # pixels of a scale: deviation of the Gaussian window in which one motion is sought
SMOOTH = 0.7  # the same, of frames before they are compared
# weights of a window below it are none: times what hardly changes they would be so small that
# processors take many times as long for a product
FAINT = 1e-9
STILL = 1e-4  # squared grey values: where less texture is, nothing seems to move
FAR = 2.0  # pixels of a scale: beyond, the linear model has no say


def optical_flow(clip: Tensor) -> Tensor:
    """Optical flow from each frame to the next one; the last frame's is that of the one before.

    On each scale one step of Lucas and Kanade (1981): the least-squares motion of a window, without
    going back to warp the frame, so that it costs little; fast motion shows on coarse scales.
    Whoever learns from it weighs the scales.  Pairs of channels are (down, right), fine to coarse,
    in pixels of their scale, 0 where a frame is too small for it.  Gradients flow.
    [B, C, T, H, W] in [-1, 1], T at least 2 -> float [B, 6, T, H, W]
    """
    B, _, T, H, W = clip.shape
    with torch.autocast(clip.device.type, enabled=False):  # 16 bits cannot tell such small changes
        grey = (clip.float().mean(dim=1) + 1) / 2  # [B, T, H, W]
        fewer = min(-(-max(H, W) // SIDE), H, W)
        grey = smoothed(F.avg_pool2d(grey, fewer), SMOOTH)
        found: list[Tensor] = []
        for scale in range(SCALES):
            if scale and min(grey.shape[-2:]) < 2:
                found.append(torch.zeros_like(found[0]))
                continue
            grey = F.avg_pool2d(grey, 2) if scale else grey
            motion = _step(grey)  # [B, 2, T - 1, h, w]
            motion = torch.cat([motion, motion[:, :, -1:]], dim=2)
            if motion.shape[-2:] != (H, W):
                flat = motion.flatten(1, 2)  # [B, 2 T, h, w]
                flat = F.interpolate(flat, size=(H, W), mode="bilinear", align_corners=False)
                motion = flat.unflatten(1, (2, T))
            found.append(motion)
        return torch.cat(found, dim=1)


def _step(grey: Tensor) -> Tensor:
    """[B, T, h, w] -> [B, 2, T - 1, h, w]"""
    before, after = grey[:, :-1], grey[:, 1:]
    change, mean = after - before, (after + before) / 2
    padded = F.pad(mean, (1, 1, 1, 1), mode="replicate")
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    products = (down * down, down * right, right * right, -down * change, -right * change)
    # the 2 x 2 system of each window; what is added keeps flat windows still
    a, b, c, p, q = smoothed(torch.stack(products), WINDOW)
    a, c = a + STILL, c + STILL
    motion = torch.stack([c * p - b * q, a * q - b * p], dim=1) / (a * c - b * b).unsqueeze(1)
    return FAR * torch.tanh(motion / FAR)


def smoothed(x: Tensor, deviation: float) -> Tensor:
    """Gaussian means; on such small frames two matrix products are faster than the filter of edges.

    [..., H, W] -> the same
    """
    height, width = x.shape[-2:]
    return _gaussian(height, deviation, x) @ x @ _gaussian(width, deviation, x).T


def _gaussian(length: int, deviation: float, like: Tensor) -> Tensor:
    """[length, length], rows sum to one, so that the rim stays as bright as the rest"""
    place = torch.arange(length, device=like.device, dtype=like.dtype) / deviation
    weights = (-0.5 * (place.unsqueeze(0) - place.unsqueeze(1)).square()).softmax(dim=1)
    return weights.masked_fill(weights < FAINT, 0.0)
