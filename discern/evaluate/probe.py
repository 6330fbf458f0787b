"""How good are features without tuning: k nearest neighbours.

features [N, D], labels [N] -> accuracy
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Weighted k-NN on cosine similarity (Wu et al. 2018, section 3.4).

    [M, D], [M], [N, D], [N] -> 0 to 1
    """
    bank, query = F.normalize(bank.float(), dim=1), F.normalize(query.float(), dim=1)
    k = min(k, len(bank))
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    right = 0
    for part, labels in zip(query.split(1024), query_labels.split(1024), strict=True):
        with torch.autocast(part.device.type, enabled=False):  # bf16 would tie the nearest
            similar, nearest = (part @ bank.T).topk(k, dim=1)  # [n, k]
        votes = torch.zeros(len(part), classes).scatter_add_(
            1, bank_labels[nearest], (similar / temperature).exp()
        )
        right += int((votes.argmax(1) == labels).sum())
    return right / len(query)
