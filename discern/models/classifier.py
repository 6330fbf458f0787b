"""The classifier: a linear head on the encoder's pooled features.

clip [B, C, T, H, W] -> logits [B, K]
"""

from __future__ import annotations

from torch import Tensor, nn

from discern.models.backbone import Backbone
from discern.models.blocks import init_linear


class Classifier(nn.Module):
    """A backbone and one linear layer."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.width, classes)
        self.head.apply(init_linear)

    def forward(self, clip: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, K]"""
        return self.head(self.backbone(clip).pooled).float()
