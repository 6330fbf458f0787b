"""How sure a model is: logits and features go in; probabilities and "unknown" come out.

The temperature that makes probabilities honest, and one guard for each kind of item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from discern.clip import Kind
from discern.errors import IntegrityError
from discern.security.guard import Guard, read_guard
from discern.security.scores import Evidence

YES = 0.5  # a class above it is named: of calibrated answers the one that errs least


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """What a bundle knows about its own answers; nothing, where it was made without."""

    temperature: float | None = None  # None: there were no validation items to fit it on
    several: bool = False  # an item may have several labels: each class is a question of its own
    guards: Mapping[Kind, Guard] = field(default_factory=dict)
    # kind -> how its guard came to be, or why there is none, for each kind that was trained on
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (Guo et al. 2017, eq. 9).  [N, K] -> [N, K]

        Rows sum to 1, unless an item may have several labels.
        """
        if self.temperature is not None:
            logits = logits / self.temperature
        return sigmoid(logits) if self.several else softmax(logits)

    def guard(self, kind: Kind) -> Guard | None:
        """The guard of a kind.  Of a kind that no training saw, any guard there is may judge."""
        if kind in self.guards or kind in self.facts:
            return self.guards.get(kind)
        return next(iter(self.guards.values()), None)

    @property
    def asks_head(self) -> bool:
        """Whether a guard wants the discriminator's verdict."""
        return any("head" in guard.names for guard in self.guards.values())

    def judge(self, kind: Kind, evidence: Evidence) -> dict[str, Any]:
        """The keys that an answer about one item gets from the guard; none where there is none."""
        guard = self.guard(kind)
        if guard is None:
            return {}
        score = float(guard.strangeness(evidence)[0])
        # not (score <= threshold): what is no number is unknown
        unknown = not score <= guard.threshold
        return {"unknown": unknown, "guard_score": score, "threshold": guard.threshold}

    def settings(self) -> dict[str, Any]:
        """The part that is stored as JSON."""
        return {
            "temperature": self.temperature,
            "guard": {k: dict(v) for k, v in self.facts.items()},
            **({"several": True} if self.several else {}),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The part that is stored as tensors; empty where there is no guard."""
        return {
            f"{kind}.{name}": value.contiguous()
            for kind, guard in self.guards.items()
            for name, value in guard.tensors().items()
        }


def read_certainty(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    width: int,
    early: int,
    head: bool,
    where: str,
) -> Certainty:
    """What `settings` and `tensors` of a Certainty gave, for a model with features of this width.

    `early`: how many numbers say what its stem saw (`Backbone.early_width`).  `head`: whether the
    model has a discriminator.  Raises IntegrityError if it is no Certainty.
    """
    temperature, facts = settings.get("temperature"), settings.get("guard") or {}
    if temperature is not None and not (
        isinstance(temperature, int | float) and 0 < temperature < float("inf")
    ):
        raise IntegrityError(f"{where}: temperature {temperature!r} is no number above 0")
    by_kind: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, part = name.partition(".")
        by_kind.setdefault(kind, {})[part] = value
    if not isinstance(facts, Mapping) or not set(by_kind) <= set(Kind) & set(facts):
        raise IntegrityError(f"{where}: guards and what config.json says of them do not agree")
    return Certainty(
        temperature=temperature,
        several=settings.get("several") is True,
        guards={
            Kind(kind): read_guard(parts, width, early, head, where)
            for kind, parts in by_kind.items()
        },
        facts=facts,
    )


def labels_of(row: np.ndarray, names: Sequence[str]) -> list[str]:
    """The labels that are more likely than not, the likeliest first.  [K], K names"""
    return [names[i] for i in np.argsort(-row, kind="stable") if row[i] > YES]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """[N, K] -> [N, K]"""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    """[N, K] -> [N, K]"""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
