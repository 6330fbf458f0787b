"""A model in; a copy that answers under autocast to bf16, its weights cast already, out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from discern.models.model import Model


class InFull(nn.Module):
    """A layer in 32 bits, whatever is around it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            found: Tensor = self.layer(x.float())
        return found


def halved(model: Model) -> Model:
    """A copy with the weights of its matrix products in bf16, but for those of the last layer.

    16 bits would round a sure answer's logits by hundredths.
    """
    found = copy.deepcopy(model).eval().requires_grad_(False)
    head = None
    if found.classifier is not None:
        head = found.classifier.head
        found.classifier.register_module("head", InFull(head))
    for one in found.modules():
        if isinstance(one, nn.Linear | nn.Conv2d) and one is not head:
            one.bfloat16()
    return found
