"""How good the guard is: surprise and probabilities of items go in, the key `guard` comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.evaluate.metrics import auroc, clopper_pearson
from discern.evaluate.timing import seconds_per_item
from discern.models.model import Model
from discern.predict import evidence
from discern.security.certainty import Certainty
from discern.security.scores import Evidence

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
POINTS = 65  # of a stored curve
METHODS = ("guard", "knn", "max_softmax")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Items of one kind or of several: how strange each is to each method, and whether flagged."""

    scores: Mapping[str, np.ndarray]  # method -> [N], higher is stranger
    flagged: np.ndarray  # bool [N]


def score(sure: Certainty, kind: Kind, found: Evidence) -> Scored | None:
    """The guard and what it is compared with, on items of a kind; None where it has no guard."""
    guard = sure.guard(kind)
    if guard is None:
        return None
    surprise = guard.surprise(found)
    total = guard.scales.strangeness(surprise).numpy()
    scores = {
        "guard": total,
        "knn": surprise[guard.names.index("knn")].numpy(),
        "max_softmax": -sure.probabilities(found.logits.numpy()).max(axis=1),
    }
    return Scored(scores=scores, flagged=~(total <= guard.threshold))


def joined(parts: Sequence[Scored | None]) -> Scored | None:
    """Items of all kinds together; surprise means the same for each."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Scored(
        scores={name: np.concatenate([part.scores[name] for part in known]) for name in METHODS},
        flagged=np.concatenate([part.flagged for part in known]),
    )


def guard_block(facts: Mapping[str, Any] | None, known: Scored) -> dict[str, Any]:
    """What is stated, what was found on items that are known.

    `facts` are those of one kind; None where kinds are taken together.
    """
    block: dict[str, Any] = {**_shares(known), "quantiles": _quantiles(known.scores["guard"])}
    if facts is None:
        return block
    block |= {name: value for name, value in facts.items() if name != "curve"}
    block["alarms_interval"] = clopper_pearson(facts["alarms"], facts["items"])
    # [stated rate, share of these items above its threshold]
    block["curve"] = [
        [rate, float((known.scores["guard"] > threshold).mean())]
        for rate, threshold in facts["curve"]
    ]
    return block


def unknown_block(known: Scored, unknown: Scored, false_alarms: float) -> dict[str, Any]:
    """How well known and unknown items are told apart, beside the two usual methods.

    `flagged` is by the stored threshold; `detected` by the threshold that flags `false_alarms` of
    these very known items, which is the same rule for each method.
    """
    block: dict[str, Any] = {**_shares(unknown), "quantiles": _quantiles(unknown.scores["guard"])}
    curves = {}
    for name in METHODS:
        mine, theirs = known.scores[name], unknown.scores[name]
        limit = np.quantile(mine, 1 - false_alarms, method="higher")
        found = {"auroc": auroc(mine, theirs), "detected": float((theirs > limit).mean())}
        block |= found if name == "guard" else {name: found}
        curves[name] = _curve(mine, theirs)
    return block | {"curves": curves}


def unknown_scores(model: Model, sure: Certainty, sets: Mapping[Kind, ClipSet]) -> Scored | None:
    """Scores of items that are of no class."""
    return joined(
        [
            score(sure, kind, evidence(model, items, head=sure.asks_head))
            for kind, items in sets.items()
        ]
    )


def guard_seconds(model: Model, sure: Certainty, items: ClipSet) -> float:
    """Processor time of one item on one thread with the guard."""
    return seconds_per_item(
        lambda few: score(sure, few.kind, evidence(model, few, head=sure.asks_head)), items
    )


def _shares(items: Scored) -> dict[str, Any]:
    count = int(items.flagged.sum())
    return {
        "flagged": count / len(items.flagged),
        "flagged_interval": clopper_pearson(count, len(items.flagged)),
        "samples": len(items.flagged),
    }


def _quantiles(scores: np.ndarray) -> dict[str, float]:
    found = np.quantile(scores, QUANTILES)
    return {f"{level:g}": float(value) for level, value in zip(QUANTILES, found, strict=True)}


def _curve(known: np.ndarray, unknown: np.ndarray) -> list[list[float]]:
    """[false alarms, detected] at POINTS thresholds, from (0, 0) to (1, 1)."""
    limits = np.quantile(known, np.linspace(1, 0, POINTS), method="higher")
    points = [[float((known > at).mean()), float((unknown > at).mean())] for at in limits]
    return [[0.0, 0.0], *points, [1.0, 1.0]]
