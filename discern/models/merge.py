"""Tokens that look alike become one on their way through the blocks: less to compute, in use only.

Bipartite soft matching and attention in proportion to sizes (Bolya et al. 2023, sections 3 and 4).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class Merged:
    """How many tokens each block is to take away, and which token each patch is in by now.

    The `first` tokens, which stand for no patch, are never merged.
    """

    def __init__(self, patches: int, first: int, share: float, blocks: int) -> None:
        gone = [round(share * patches * number / blocks) for number in range(blocks + 1)]
        self._left = [after - before for before, after in zip(gone, gone[1:], strict=False)]
        self._first = first
        self._size: Tensor | None = None  # [B, M, 1], patches in a token; None: one in each
        self._place: Tensor | None = None  # int64 [B, N], the token of each patch; None: its own

    @property
    def bias(self) -> Tensor | None:
        """What attention to a token gains by its size.  -> [B, 1, 1, first + M]"""
        if self._size is None:
            return None
        return F.pad(self._size.squeeze(2).log(), (self._first, 0))[:, None, None]

    def fewer(self, x: Tensor, keys: Tensor) -> Tensor:
        """Merge as many tokens as this block shall; those alike whose `keys` are.

        [B, first + M, D], [B, first + M, d] -> [B, first + fewer, D]
        """
        count = self._left.pop(0)
        first, patches = x[:, : self._first], x[:, self._first :]
        count = min(count, patches.shape[1] // 2)
        if count == 0:
            return x
        return torch.cat([first, self._merge(patches, keys[:, self._first :], count)], dim=1)

    def apart(self, x: Tensor) -> Tensor:
        """Each patch has the token that it is in.  [B, M, D] -> [B, N, D]"""
        return x if self._place is None else _rows(x, self._place)

    def _merge(self, x: Tensor, keys: Tensor, count: int) -> Tensor:
        """Every other token seeks the one most alike among the others; the best pairs merge."""
        B, M, _ = x.shape
        if self._size is None:
            self._size = x.new_ones(B, M, 1, dtype=torch.float32)
        keys = F.normalize(keys.float(), dim=2)
        nearest, partner = (keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)).max(dim=2)  # [B, A]
        order = nearest.argsort(dim=1, descending=True)
        going, staying = order[:, :count], order[:, count:]
        into = partner.gather(1, going)  # [B, count], among the others
        size = self._size
        even, odd, sizes = x[:, ::2].float(), x[:, 1::2].float(), (size[:, ::2], size[:, 1::2])
        weight = _rows(sizes[0], going)
        sums = _added(odd * sizes[1], into, _rows(even, going) * weight)
        total = _added(sizes[1], into, weight)
        kept = staying.shape[1]
        # where each token of before is now: those that stay come first
        ranks = torch.arange(kept, device=x.device).expand(B, -1)
        even_now = torch.zeros_like(order).scatter(1, staying, ranks)
        even_now = even_now.scatter(1, going, kept + into)
        odd_now = (kept + torch.arange(M // 2, device=x.device)).expand(B, -1)
        # in turns again: the even ones may be one more
        now = torch.stack([even_now[:, : M // 2], odd_now], dim=2).flatten(1)
        now = torch.cat([now, even_now[:, M // 2 :]], dim=1)
        self._place = now if self._place is None else now.gather(1, self._place)
        self._size = torch.cat([_rows(sizes[0], staying), total], dim=1)
        return torch.cat([_rows(even, staying), sums / total], dim=1).to(x.dtype)


def _rows(x: Tensor, chosen: Tensor) -> Tensor:
    """[B, M, D], [B, K] -> [B, K, D]"""
    return x.gather(1, chosen[..., None].expand(-1, -1, x.shape[2]))


def _added(x: Tensor, place: Tensor, more: Tensor) -> Tensor:
    """Rows added to those at their places.  [B, M, D], [B, K], [B, K, D] -> [B, M, D]"""
    return x.scatter_add(1, place[..., None].expand(-1, -1, x.shape[2]), more)
