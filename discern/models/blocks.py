"""The Transformer block: pre-norm attention and MLP.  [B, N, D] -> [B, N, D]"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from discern.models.merge import Merged
from discern.models.norm import LayerNorm

NORM_EPS = 1e-6  # as timm and the original ViT
PLAIN_TOKENS = 256  # up to here plain attention is the faster one on a CPU, in bf16


class Attention(nn.Module):
    """Multi-head self-attention.  qk-norm (Dehghani et al. 2023) bounds its logits."""

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        assert width % heads == 0, (width, heads)
        self.heads = heads
        self.kept: list[Tensor] | None = None  # where its weights go while it is explained
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = LayerNorm(width // heads, eps=NORM_EPS) if qk_norm else nn.Identity()
        self.k_norm = LayerNorm(width // heads, eps=NORM_EPS) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._heads(x)
        found = attend(q, k, v) if self.kept is None else self._attend_and_keep(q, k, v)
        return self.proj(found.transpose(1, 2).reshape(x.shape))

    def with_keys(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same with a bias [B, 1, 1, N] on whom tokens look at; and the keys, meant over heads.

        [B, N, D] -> [B, N, D], [B, N, D / heads]
        """
        q, k, v = self._heads(x)
        found = attend(q, k, v, bias)
        return self.proj(found.transpose(1, 2).reshape(x.shape)), k.mean(dim=1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> queries, keys, values [B, heads, N, D / heads]"""
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype), v

    def _attend_and_keep(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert self.kept is not None
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).float().softmax(dim=-1)
        self.kept.append(weights)
        return weights.to(v.dtype) @ v


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(d) + bias) v.  [B, heads, N, d] three times -> [B, heads, N, d]

    On a CPU the fused kernel's backward pass is several times slower than three matrix products for
    the short sequences of small frames (`benchmarks/attention.py`), so there the products are
    written out.
    """
    short = q.dtype == torch.bfloat16 and q.shape[-2] <= PLAIN_TOKENS
    if q.device.type != "cpu" or not short:
        mask = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):  # or softmax would be done, and kept, in 32 bits
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores if bias is None else scores + bias.to(scores.dtype)
        return scores.softmax(dim=-1) @ v


class Mlp(nn.Module):
    """Two layers with GELU.  [B, N, D] -> [B, N, D]"""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch (Touvron et al. 2021)."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """The stream with the branch on it, in one pass over memory."""
        return torch.addcmul(x, self.gamma.to(branch.dtype), branch)


class Block(nn.Module):
    """Attention, then MLP, each on a normalised copy of the residual stream.

    `modulation` [B, 1, 2 * D] scales and shifts both normalised copies (self-modulation,
    ViTGAN section 3.3).  With `merged` fewer tokens come out.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        qk_norm: bool = True,
        layer_scale: float | None = 0.1,
        drop_path: float = 0.0,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, qk_norm)
        self.ls1 = LayerScale(width, layer_scale) if layer_scale else None
        self.norm2 = LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = LayerScale(width, layer_scale) if layer_scale else None
        self.drop_path = drop_path
        # asked for by itself: a rate that was compared with 0 would be a constant of what is
        # compiled, and each block, with its own rate, would be compiled by itself
        self.drops = drop_path > 0

    def forward(
        self, x: Tensor, modulation: Tensor | None = None, merged: Merged | None = None
    ) -> Tensor:
        seen = _modulate(self.norm1(x), modulation)
        if merged is None:
            x = self._with(x, self.attn(seen), self.ls1)
        else:
            found, keys = self.attn.with_keys(seen, merged.bias)
            x = merged.fewer(self._with(x, found, self.ls1), keys)
        return self._with(x, self.mlp(_modulate(self.norm2(x), modulation)), self.ls2)

    def _with(self, x: Tensor, branch: Tensor, scale: LayerScale | None) -> Tensor:
        branch = self._drop(branch)
        return x + branch if scale is None else scale(x, branch)

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth: leave the whole branch out for some items of the batch."""
        if not self.drops or not self.training:
            return branch
        alive = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * (alive / (1.0 - self.drop_path)).to(branch.dtype)


def stream(x: Tensor) -> Tensor:
    """The residual stream in the precision of the matrix products around it.

    Under autocast a 32-bit stream would be cast again for every product, which on a CPU costs as
    much as the products.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def _modulate(x: Tensor, modulation: Tensor | None) -> Tensor:
    if modulation is None:
        return x
    scale, shift = modulation.chunk(2, dim=-1)
    return x * (1 + scale.to(x.dtype)) + shift.to(x.dtype)


def init_linear(module: nn.Module) -> None:
    """Xavier weights (as MAE) and zero biases, for `module.apply`.

    The usual deviation of 0.02 belongs to width 768; narrow encoders learn several times slower
    from it.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
