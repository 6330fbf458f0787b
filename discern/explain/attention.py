"""Attention as an explanation: how far each token's value reached the class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from discern.explain.subject import Subject
from discern.models.backbone import Backbone
from discern.models.blocks import Block


def attention_relevance(subject: Subject, clip: Tensor, target: Tensor) -> Tensor:
    """Attention weighted by its gradient, through all layers (Chefer et al. 2021, eq. 5 and 6)."""
    assert subject.backbone is not None
    with torch.enable_grad(), kept_attention(subject.backbone) as maps:
        leaf = clip.detach().requires_grad_()  # weights of a bundle have no gradients
        score = subject.logits(leaf).float().gather(1, target[:, None]).sum()
        slopes = torch.autograd.grad(score, maps)
    relevance = _identity(maps[0])
    for weights, slope in zip(maps, slopes, strict=True):
        step = (weights * slope).clamp(min=0).mean(dim=1).detach().float()  # over heads
        relevance = relevance + step @ relevance
    return _of_patches(subject, clip, relevance - _identity(maps[0]))


def raw_attention(subject: Subject, clip: Tensor, target: Tensor) -> Tensor:
    """Attention rolled out through the layers (Abnar and Zuidema 2020); the class plays no part.

    A control: an explanation that is no better explains nothing.
    """
    assert subject.backbone is not None
    with torch.no_grad(), kept_attention(subject.backbone) as maps:
        subject.logits(clip)
    flow = _identity(maps[0])
    for weights in maps:
        flow = (0.5 * weights.float().mean(dim=1) + 0.5 * _identity(weights)) @ flow
    return _of_patches(subject, clip, flow)


@contextmanager
def kept_attention(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Within it every pass appends the attention of each block, [B, heads, N, N] and unfused."""
    maps: list[Tensor] = []
    attentions = [block.attn for block in backbone.blocks if isinstance(block, Block)]
    for attention in attentions:
        attention.kept = maps
    try:
        yield maps
    finally:
        for attention in attentions:
            attention.kept = None


def _identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], device=weights.device)


def _of_patches(subject: Subject, clip: Tensor, relevance: Tensor) -> Tensor:
    """What reached the pooled features from each patch.  [B, N, N] -> [B, t, h, w]"""
    assert subject.backbone is not None
    config = subject.backbone.config
    first = int(config.class_token) + config.registers
    rows = relevance[:, :1] if config.pool == "class" else relevance[:, first:]
    heat = rows[:, :, first:].mean(dim=1).clamp(min=0)
    return heat.unflatten(1, subject.grid(clip))
