"""A head that reads a pre-trained encoder's features, before both are tuned: items in, the head
fitted.

A random head would send random gradients through what was learned before (Kumar et al. 2022,
"Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution": linear probing,
then fine-tuning), and a teacher that begins with one has nothing to teach.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.models.classifier import Classifier
from discern.objectives.objective import inference
from discern.objectives.supervised import Supervised
from discern.predict import features

MOST = 2000  # items of a kind: with more labels the head soon learns by itself
STEPS, RATE, DECAY = 200, 1e-2, 0.05  # of AdamW, on all items at once


def fit_head(objective: Supervised, sets: Mapping[Kind, ClipSet], seed: int) -> None:
    """Fit the head, and its average's, to labelled items as the encoder sees them now."""
    classifier = objective.classifier
    with inference(classifier):
        seen, labels = _seen(classifier, sets, seed)
    head, smoothing = classifier.head, objective.config.label_smoothing
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        loss = F.cross_entropy(head(seen).float(), labels, label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    objective.average.head.load_state_dict(head.state_dict())


def _seen(classifier: Classifier, sets: Mapping[Kind, ClipSet], seed: int) -> tuple[Tensor, Tensor]:
    """What the head judges by, and the labels.  -> [N, D], [N]"""
    found, labels = [], []
    for items in sets.values():
        some = items.some(MOST, seed)
        found.append(features(lambda clip: classifier.features(clip).pooled.float(), some))
        labels.append(torch.from_numpy(some.labels))
    return torch.cat(found), torch.cat(labels)
