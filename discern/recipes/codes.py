"""What a generator draws for a class: a model with a coder and items in, the coder filled in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.models.model import Model
from discern.predict import features

MOST = 4096  # items of a kind: enough for the moments of some dozen numbers


def settle_codes(model: Model, sets: Mapping[Kind, ClipSet], seed: int) -> None:
    """The moments of the codes by the encoder as it is now, not as it was on the way."""
    if model.coder is None:
        return
    for kind, items in sets.items():
        model.coder.settle(_pooled(model, items.some(MOST, seed)), kind is Kind.CLIP)


def learn_class_codes(model: Model, sets: Mapping[Kind, ClipSet], classes: int, seed: int) -> None:
    """The density of each class's codes, from labelled items."""
    if model.coder is None:
        return
    codes: list[Tensor] = []
    labels: list[Tensor] = []
    for kind, items in sets.items():
        some = items.some(MOST, seed)
        with torch.no_grad():
            codes.append(model.coder(_pooled(model, some), kind is Kind.CLIP))
        labels.append(torch.from_numpy(some.labels))
    model.coder.learn_classes(torch.cat(codes), torch.cat(labels), classes)


def _pooled(model: Model, items: ClipSet) -> Tensor:
    """-> [N, D]"""
    encoder = model.painter_encoder
    return features(lambda clip: encoder(clip).pooled.float(), items)
