"""The types that all rooms speak: a decoded `Clip` and a `Batch` of them.

Legend, once for the whole package:
  B batch  C channels  T frames  H, W pixels  N tokens  D width  K classes  Z noise
An image is a clip of one frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Kind(StrEnum):
    """What an item is to its user; the model treats both alike."""

    IMAGE = "image"
    CLIP = "clip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One decoded item, as it left the decoder."""

    frames: np.ndarray  # uint8 [T, H, W, 3], RGB
    times: np.ndarray  # float64 [T], seconds since the first frame
    kind: Kind
    notes: tuple[str, ...] = ()  # what the decoder had to mend, one short sentence each

    def __post_init__(self) -> None:
        assert self.frames.ndim == 4 and self.frames.shape[-1] == 3, self.frames.shape
        assert self.frames.dtype == np.uint8, self.frames.dtype
        assert len(self.times) == len(self.frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Items of one kind and one shape, ready for a model."""

    clip: Tensor  # [B, C, T, H, W], float in [-1, 1] (uint8 in [0, 255] until augmentation)
    label: Tensor | None = None  # int64 [B], -1 = unlabelled
    index: Tensor | None = None  # int64 [B], position in the data set
    target: Tensor | None = None  # float [B, K], 1 = has this label; where items may have several
    passes: float = math.inf  # over the data before this batch; without end where nobody counts

    def with_clip(self, clip: Tensor) -> Batch:
        """The same items with other pixels."""
        return replace(self, clip=clip)

    def part(self, first: int, step: int) -> Batch:
        """Every `step`-th item from the `first` on: each part has items of all kinds of a batch."""

        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[first::step]

        return replace(
            self,
            clip=self.clip[first::step],
            label=cut(self.label),
            index=cut(self.index),
            target=cut(self.target),
        )

    def to(self, device: torch.device) -> Batch:
        """The same items on a device; from page-locked memory they are copied in its own time."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        clip = self.clip.to(device, non_blocking=True)
        return replace(self, clip=clip, label=moved(self.label), target=moved(self.target))

    def pinned(self) -> Batch:
        """The same items in page-locked memory.  Raises RuntimeError where there is no GPU."""
        label = None if self.label is None else self.label.pin_memory()
        target = None if self.target is None else self.target.pin_memory()
        return replace(self, clip=self.clip.pin_memory(), label=label, target=target)
