"""What cameras, weather, networks and players do to pictures: a clip and a severity in, a clip out.

After ImageNet-C (Hendrycks & Dietterich 2019), with strengths of our own that fit small pictures,
and for clips with frames lost and frozen.  uint8 [B, C, T, H, W] -> the same
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]
SEVERITIES = (1, 2, 3, 4, 5)


def noise(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Gaussian noise of a sensor in the dark."""
    sigma = (8, 14, 22, 32, 46)[severity - 1]
    return _bytes(clip.float() + sigma * torch.randn(clip.shape, generator=rng))


def blur(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """A Gaussian lens out of focus."""
    sigma = (0.5, 0.8, 1.2, 1.7, 2.4)[severity - 1] * max(0.75, clip.shape[-1] / 64)
    return _bytes(_gaussian(clip.float(), sigma))


def dark(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Too little light."""
    return _bytes(clip.float() * (0.75, 0.55, 0.4, 0.28, 0.18)[severity - 1])


def bright(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Too much light."""
    return _bytes(clip.float() + (25, 50, 75, 100, 130)[severity - 1])


def contrast(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """A flat picture."""
    mean = clip.float().mean(dim=(1, 2, 3, 4), keepdim=True)
    return _bytes(mean + (clip.float() - mean) * (0.7, 0.5, 0.35, 0.22, 0.12)[severity - 1])


def haze(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Fog of uneven thickness."""
    B, _, _, H, W = clip.shape
    coarse = torch.rand(B, 1, 4, 4, generator=rng)
    cover = F.interpolate(coarse, size=(H, W), mode="bicubic", align_corners=False).clamp(0, 1)
    thick = (0.2, 0.35, 0.5, 0.65, 0.8)[severity - 1] * (0.5 + 0.5 * cover).unsqueeze(2)
    return _bytes(clip.float() * (1 - thick) + 225 * thick)


def pixelate(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Fewer pixels, shown large."""
    H, W = clip.shape[-2:]
    share = (0.8, 0.65, 0.5, 0.35, 0.25)[severity - 1]
    small = (max(1, round(H * share)), max(1, round(W * share)))
    flat = clip.float().transpose(1, 2).flatten(0, 1)  # [B T, C, H, W]
    shown = F.interpolate(F.interpolate(flat, size=small, mode="area"), size=(H, W), mode="nearest")
    return _bytes(shown.unflatten(0, (len(clip), -1)).transpose(1, 2))


def jpeg(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Compression to ever lower quality."""
    quality = (60, 35, 20, 12, 6)[severity - 1]
    frames = clip.permute(0, 2, 3, 4, 1).flatten(0, 1).numpy()
    found = np.stack([_through_jpeg(frame, quality) for frame in frames])
    B, _, T = clip.shape[:3]
    return torch.from_numpy(found).unflatten(0, (B, T)).permute(0, 4, 1, 2, 3).contiguous()


def occlusion(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """A grey square somewhere, in all frames."""
    H, W = clip.shape[-2:]
    side = max(1, round((0.15, 0.25, 0.35, 0.45, 0.55)[severity - 1] * min(H, W)))
    found = clip.clone()
    for one in found:
        top = int(torch.randint(H - side + 1, (), generator=rng))
        left = int(torch.randint(W - side + 1, (), generator=rng))
        one[..., top : top + side, left : left + side] = 128
    return found


def dropped(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Frames that were lost and stand black."""
    return torch.where(_some_frames(clip, severity, rng), torch.zeros_like(clip), clip)


def frozen(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Frames that were lost and show the one before."""
    lost, found = _some_frames(clip, severity, rng), clip.clone()
    for time in range(1, clip.shape[2]):
        gone = lost[:, :, time]
        found[:, :, time] = torch.where(gone, found[:, :, time - 1], found[:, :, time])
    return found


CORRUPTIONS: dict[str, Corruption] = {
    "noise": noise,
    "blur": blur,
    "dark": dark,
    "bright": bright,
    "contrast": contrast,
    "haze": haze,
    "pixelate": pixelate,
    "jpeg": jpeg,
    "occlusion": occlusion,
}
IN_TIME: dict[str, Corruption] = {"dropped": dropped, "frozen": frozen}  # of clips only


def _some_frames(clip: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """-> bool [B, 1, T, 1, 1]"""
    B, T = len(clip), clip.shape[2]
    share = (0.15, 0.3, 0.45, 0.6, 0.75)[severity - 1]
    return (torch.rand(B, T, generator=rng) < share).view(B, 1, T, 1, 1)


def _gaussian(clip: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    line = torch.arange(-reach, reach + 1).float()
    weight = torch.exp(-(line**2) / (2 * sigma**2))
    weight = weight / weight.sum()
    flat = clip.flatten(0, 2).unsqueeze(1)  # [B C T, 1, H, W]
    flat = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, weight.view(1, 1, 1, -1)), weight.view(1, 1, -1, 1))
    return flat.view(clip.shape)


def _through_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _bytes(clip: Tensor) -> Tensor:
    return clip.round().clamp(0, 255).to(torch.uint8)
