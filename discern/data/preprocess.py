"""A decoded clip to the model's canvas.

uint8 [T, H, W, 3] of any size -> uint8 [S, h, w, 3] of the size asked for
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from discern.clip import Clip, Kind
from discern.data.sampling import Detail

GREY = 128  # what surrounds a letterboxed frame


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How items become model input; stored in the bundle, so that all its users do the same."""

    height: int = 32
    width: int = 32
    frames: int = 8  # of a clip, as the model sees it
    stored_frames: int = 16  # of a clip in memory, from which training draws `frames`
    # letterbox keeps all and the aspect; crop cuts the longer side; stretch ignores the aspect
    fit: Literal["letterbox", "crop", "stretch"] = "letterbox"

    @property
    def detail(self) -> Detail:
        """What a decoder may scale down to: all of a letterbox, what else covers the canvas."""
        return Detail(max(self.height, self.width), shorter=self.fit != "letterbox")


def prepare(clip: Clip, config: PreprocessConfig, kind: Kind | None = None) -> np.ndarray:
    """Fit every frame into the canvas; a clip is cut to `stored_frames` evenly spaced ones.

    `kind` overrules the clip's own: a file's name may have promised another one.
    -> uint8 [S, h, w, 3]
    """
    frames = clip.frames
    if (kind or clip.kind) is Kind.IMAGE:
        frames = frames[:1]
    else:
        frames = frames[even_frames(len(frames), config.stored_frames)]
    return np.stack([fit_frame(frame, config) for frame in frames])


def even_frames(available: int, wanted: int, moment: float = 0.0) -> np.ndarray:
    """Indices of `wanted` frames, evenly spread; they repeat when too few are `available`.

    `moment`, -0.5 to 0.5, moves all of them by that share of the way to the next one.
    """
    return (
        ((np.arange(wanted) + 0.5 + moment) * available / wanted)
        .astype(np.int64)
        .clip(0, available - 1)
    )


def fit_frame(frame: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [h, w, 3], resized with antialiasing."""
    height, width = frame.shape[:2]
    if (height, width) == (config.height, config.width):
        return frame
    scale_h, scale_w = config.height / height, config.width / width
    if config.fit == "stretch":
        return _resize(frame, config.height, config.width)
    scale = max(scale_h, scale_w) if config.fit == "crop" else min(scale_h, scale_w)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    resized = _resize(frame, h, w)
    if config.fit == "crop":
        top, left = (h - config.height) // 2, (w - config.width) // 2
        return resized[top : top + config.height, left : left + config.width]
    canvas = np.full((config.height, config.width, 3), GREY, dtype=np.uint8)
    top, left = (config.height - h) // 2, (config.width - w) // 2
    canvas[top : top + h, left : left + w] = resized
    return canvas


def _resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))
