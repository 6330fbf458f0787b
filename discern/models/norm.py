"""Layer normalisation in the precision of what it is given.  [..., D] -> [..., D]"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """torch's, which under autocast a GPU would be given, and would give back, 32 bits of.

    The matrix products before and after it are in 16: each normalised copy would be cast on its way
    in and on its way out.  The kernel sums in 32 bits either way.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16 or x.device.type == "cpu":  # a CPU's takes both at once
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
