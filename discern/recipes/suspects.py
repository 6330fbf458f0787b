"""Labels that a model doubts: a bundle and a labelled source in, the doubtful items out.

Confident learning (Northcutt et al. 2021, section 3): a class's threshold is the mean probability
that it gets on items labelled so; an item is doubtful where another class passes its threshold, and
by more than the label's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from discern import config as configuration
from discern.data.badfiles import BadFiles
from discern.data.clipset import clip_sets, load_all
from discern.data.items import Source
from discern.data.limits import Limits
from discern.data.loader import evaluation_batches
from discern.data.preprocess import PreprocessConfig
from discern.errors import DataError
from discern.models.weights import load_bundle
from discern.predict import forward, require_classifier

MEMORY = 2**30  # bytes of decoded items; beyond it they are decoded when they are asked for
AT_ONCE = 64


def suspects(model: Path | str, source: Source) -> list[dict[str, Any]]:
    """Items whose label the model doubts, the most doubtful first.

    Items of classes that it does not know are left out.  An item that it was trained on it may
    know by heart: doubts are worth most about data that it did not see.  Raises UsageError,
    DataError (no labelled item of a class that it knows).
    """
    bundle = load_bundle(model)
    require_classifier(bundle)
    known = set(bundle.labels)
    chosen = [
        index
        for index, item in enumerate(source.items)
        if len(item.labels) == 1 and item.labels[0] in known
    ]
    if not chosen:
        raise DataError(
            f"{source.spec}: no item carries a label that {bundle.path} knows "
            f"({', '.join(bundle.labels[:5])})"
        )
    preprocess = configuration.from_dict(PreprocessConfig, bundle.preprocess)
    sets = clip_sets(source, chosen, preprocess, classes=bundle.labels, limits=Limits())
    load_all(sets.values(), BadFiles(None, allowed=1.0), MEMORY)
    probabilities, labels, keys = [], [], []
    for items in sets.values():
        if len(items):
            found = bundle.certainty.probabilities(
                forward(bundle.model, evaluation_batches(items, AT_ONCE))
            )
            probabilities.append(found)
            labels.append(items.labels)
            keys += [items.key(position) for position in range(len(items))]
    p, label = np.concatenate(probabilities), np.concatenate(labels)
    doubted = doubts(p, label)
    order = sorted(doubted, key=lambda entry: p[entry[0], label[entry[0]]] - p[entry])
    return [
        {
            "path": keys[item],
            "label": bundle.labels[label[item]],
            "looks_like": bundle.labels[other],
            "probability": float(p[item, other]),
        }
        for item, other in order
    ]


def doubts(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """(item, the class it looks like) of each doubtful item.  [N, K], [N]"""
    N, K = probabilities.shape
    threshold = np.full(K, np.inf)  # a class without items has none to pass
    for number in range(K):
        own = probabilities[labels == number, number]
        if len(own):
            threshold[number] = own.mean()
    passed = np.where(probabilities >= threshold, probabilities, -np.inf)
    best = passed.argmax(axis=1)
    sure = np.isfinite(passed[np.arange(N), best]) & (best != labels)
    above = probabilities[np.arange(N), best] > probabilities[np.arange(N), labels]
    return [(int(item), int(best[item])) for item in np.flatnonzero(sure & above)]
