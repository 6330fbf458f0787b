"""The classifier: a linear head, or one of angles, on the encoder's pooled features.

clip [B, C, T, H, W] -> logits [B, K]
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from discern.models.backbone import Backbone
from discern.models.blocks import init_linear


class AngleHead(nn.Linear):
    """Logits are scaled cosines between features and a direction for each class.

    NormFace (Wang et al. 2017): lengths say nothing, so that features of people or things that no
    training saw can be told apart by their angles too.
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__(width, classes, bias=False)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, K], each from -scale to scale"""
        directions = F.normalize(self.weight.float(), dim=1)
        return self.scale * F.linear(F.normalize(features.float(), dim=1), directions)


class Classifier(nn.Module):
    """A backbone and one layer; with a `scale` above 0 its logits are scaled cosines."""

    def __init__(self, backbone: Backbone, classes: int, scale: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.width
        self.head = AngleHead(width, classes, scale) if scale > 0 else nn.Linear(width, classes)
        self.head.apply(init_linear)

    @property
    def scale(self) -> float:
        """Of a head of angles; 0 where it is linear."""
        return self.head.scale if isinstance(self.head, AngleHead) else 0.0

    def forward(self, clip: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, K]"""
        return self.head(self.backbone(clip).pooled).float()
