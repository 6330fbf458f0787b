"""Several views of an item, whose answers are averaged: mirrored, nearer, at other moments.

Ten-crop evaluation (Krizhevsky et al. 2012), and clips of other frames (Simonyan & Zisserman 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

NEAR = 0.875  # share of each side that a nearer one sees
PLACES = ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5))  # top, left
MOST = 2 + 2 * len(PLACES)
GOLDEN = 0.618  # steps of it spread evenly, however many they are


@dataclass(frozen=True, kw_only=True)
class View:
    """One of them."""

    mirrored: bool = False
    place: tuple[float, float] | None = None  # of a nearer one; None: all of the frame
    moment: float = 0.0  # how far other frames are chosen, -0.5 to 0.5 of the way to the next one

    def of(self, clip: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the same"""
        if self.mirrored:
            clip = clip.flip(-1)
        if self.place is None:
            return clip
        B, C, T, H, W = clip.shape
        h, w = max(1, round(H * NEAR)), max(1, round(W * NEAR))
        top, left = round((H - h) * self.place[0]), round((W - w) * self.place[1])
        part = clip[..., top : top + h, left : left + w].transpose(1, 2).reshape(B * T, C, h, w)
        larger = F.interpolate(part, (H, W), mode="bilinear", align_corners=False)
        return larger.reshape(B, T, C, H, W).transpose(1, 2)


def all_views(count: int) -> list[View]:
    """The first is the plain one, then the mirrored, then nearer ones."""
    assert 1 <= count <= MOST
    kinds = [(mirrored, place) for place in (None, *PLACES) for mirrored in (False, True)]
    return [
        View(mirrored=mirrored, place=place, moment=(number * GOLDEN + 0.5) % 1 - 0.5)
        for number, (mirrored, place) in enumerate(kinds[:count])
    ]
