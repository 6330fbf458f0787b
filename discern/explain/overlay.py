"""Heat of cells as colours over the frames that it is about."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

# from nothing to the hottest, over the grey picture
RAMP = np.array([[30, 30, 90], [140, 30, 130], [235, 90, 60], [255, 225, 90]], dtype=np.float32)


def overlay(frames: np.ndarray, heat: Tensor) -> np.ndarray:
    """The heat in colours over grey frames.  uint8 [T, H, W, 3], [t, h, w] -> uint8 alike"""
    T, H, W, _ = frames.shape
    frame_heat = heat.repeat_interleave(-(-T // len(heat)), 0)[:T].unsqueeze(1).float()
    smooth = F.interpolate(frame_heat, size=(H, W), mode="bilinear", align_corners=False)
    level = (smooth[:, 0] / smooth.amax().clamp(min=1e-12)).cpu().numpy()  # [T, H, W]
    places = np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(level, places, RAMP[:, c]) for c in range(3)], axis=-1)
    grey = frames.astype(np.float32).mean(axis=-1, keepdims=True)
    mixed = 0.45 * grey + 0.55 * colours
    return mixed.round().clip(0, 255).astype(np.uint8)
