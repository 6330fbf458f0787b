"""All ways to explain, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discern.explain.attention import attention_relevance, raw_attention
from discern.explain.gradients import integrated_gradients
from discern.explain.occlusion import occlusion
from discern.explain.subject import Subject


def chance(subject: Subject, clip: Tensor, target: Tensor) -> Tensor:
    """Heat drawn by lot: the other control."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(len(clip), *subject.grid(clip), generator=rng).to(clip.device)


EXPLAINERS: dict[str, Callable[[Subject, Tensor, Tensor], Tensor]] = {
    "occlusion": occlusion,
    "relevance": attention_relevance,
    "gradients": integrated_gradients,
    "attention": raw_attention,
    "chance": chance,
}
DEFAULT = "gradients"  # the most faithful one: benchmarks/explain.py
CONTROLS = ("attention", "chance")
