"""What a finished training learns about its own answers: items go in, a Certainty comes out.

The temperature and the thresholds come from validation items, never from test items.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.evaluate.calibration import fit_temperature
from discern.evaluate.several import as_pairs
from discern.models.model import Model
from discern.predict import evidence
from discern.security.certainty import Certainty
from discern.security.guard import GuardConfig, fit_guard, spread


def learn_certainty(
    model: Model,
    known: Mapping[Kind, ClipSet],
    fresh: Mapping[Kind, ClipSet],
    config: GuardConfig,
    seed: int,
) -> Certainty:
    """Fit temperature and guards.  `known` items were trained on, `fresh` ones are validation."""
    several = any(items.targets is not None for items in known.values())
    head = config.head and model.discriminator is not None
    looked = {
        kind: evidence(model, items, head=head) for kind, items in fresh.items() if len(items)
    }
    temperature = None
    if looked:
        logits = np.concatenate([found.logits.numpy() for found in looked.values()])
        if several:
            logits, labels = as_pairs(logits, np.concatenate([fresh[k].targets for k in looked]))
        else:
            labels = np.concatenate([fresh[kind].labels for kind in looked])
        temperature = fit_temperature(logits, labels)
    guards, facts = {}, {}
    for kind, items in known.items():
        # looking at all of a large training set would take longer than it tells
        rng = torch.Generator().manual_seed(seed)
        few = items.subset(spread(torch.from_numpy(items.labels), config.bank, rng).numpy())
        mine = evidence(model, few, head=head)
        labels_of = torch.from_numpy(few.labels)
        guard, facts[str(kind)] = fit_guard(mine, labels_of, looked.get(kind), config, seed)
        if guard is not None:
            guards[kind] = guard
    return Certainty(temperature=temperature, several=several, guards=guards, facts=facts)
