"""The guard: what a model made of items goes in, how strange each one is comes out.

Three scores, each larger for stranger items: the distance to known features, the energy of the
logits, and how unusual the discriminator's verdict is.  Each is brought to one scale, surprise:
the negative logarithm of the share of known items that are at least as strange.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.errors import IntegrityError

# score -> its part of the false alarms.  The largest of surprise + log(part) is the answer, as in a
# weighted Bonferroni test.  Then 1 - AUROC is at most (1 + the other parts) times that of `knn`
# alone, however useless the other scores are; a verdict alone knows little, and has the least.
PARTS = {"knn": 1.0, "energy": 1 / 16, "head": 1 / 32}
RATES = (0.005, 0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)))  # of the stored curve
TAIL = 0.1  # share of the known items by which the decay of a score's tail is estimated
KNOTS = 33
TINY = 1e-12
FEW = 8  # fresh items that are needed to align the scores of items that were trained on
FIELDS = ("bank", "knots", "decays", "centre", "threshold", "neighbours")


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """How strange an item must be to be called unknown."""

    false_alarms: float = 0.01  # share of known items that may be called unknown; 0: no guard
    neighbours: int = 10  # the distance is that to the k-th nearest
    bank: int = 4096  # training features that are kept
    folds: int = 5
    head: bool = True  # ask the discriminator too, which takes a pass of its own encoder


class Evidence(NamedTuple):
    """What a model made of N items."""

    features: Tensor  # [N, D]
    logits: Tensor  # [N, K]
    verdict: Tensor | None = None  # [N], the discriminator's on the whole; None: it has none

    def take(self, places: Tensor) -> Evidence:
        """The items at `places` [n]."""
        verdict = None if self.verdict is None else self.verdict[places]
        return Evidence(self.features[places], self.logits[places], verdict)


class Scale(NamedTuple):
    """Raw scores to surprise: quantiles up to the tail, and an exponential tail beyond."""

    knots: Tensor  # float64 [S, Q], evenly spaced in surprise
    decays: Tensor  # float64 [S], mean excess over the last knot

    def surprise(self, raw: Tensor) -> Tensor:
        """[S, N] -> [S, N], rising with the raw score also outside of what was seen"""
        step = -math.log(TAIL) / (KNOTS - 1)
        raw = raw.double()
        right = torch.searchsorted(self.knots, raw.contiguous()).clamp(1, KNOTS - 1)
        low, high = self.knots.gather(1, right - 1), self.knots.gather(1, right)
        inside = (right - 1 + (raw - low) / (high - low).clamp(min=TINY)) * step
        first, last = self.knots[:, :1], self.knots[:, -1:]
        beyond = -math.log(TAIL) + (raw - last) / self.decays[:, None]
        below = (raw - first) / self.decays[:, None]
        return torch.where(raw > last, beyond, torch.where(raw < first, below, inside))


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Known features, scales and the threshold above which an item is unknown."""

    bank: Tensor  # float16 [M, D], of length 1
    scale: Scale
    centre: float  # the usual verdict
    threshold: float
    neighbours: int

    @property
    def names(self) -> list[str]:
        """The scores that are in use."""
        return list(PARTS)[: len(self.scale.knots)]

    def surprise(self, evidence: Evidence) -> Tensor:
        """Surprise by each score.  -> float64 [S, N]"""
        raw = raw_scores(self.bank, evidence, self.neighbours, self.centre)
        return self.scale.surprise(raw[: len(self.scale.knots)])

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as it is stored."""
        numbers = {
            "centre": torch.tensor(self.centre, dtype=torch.float64),
            "threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "neighbours": torch.tensor(self.neighbours),
        }
        return {"bank": self.bank, **self.scale._asdict(), **numbers}


def read_guard(tensors: Mapping[str, Tensor], width: int, head: bool, where: str) -> Guard:
    """A guard from what `Guard.tensors` gave, for features of this width, with or without verdicts.

    Raises IntegrityError if it is none.
    """
    fault = _misfit(tensors, width, len(PARTS) if head else len(PARTS) - 1)
    if fault:
        raise IntegrityError(
            f"{where}: not a guard for this model ({fault}): copy the bundle again"
        )
    return Guard(
        bank=tensors["bank"],
        scale=Scale(tensors["knots"].double(), tensors["decays"].double()),
        centre=float(tensors["centre"]),
        threshold=float(tensors["threshold"]),
        neighbours=int(tensors["neighbours"]),
    )


def knn_distance(bank: Tensor, features: Tensor, neighbours: int) -> Tensor:
    """Distance to the k-th nearest of unit vectors (Sun et al. 2022).  [M, D], [N, D] -> [N]"""
    k = min(neighbours, len(bank))
    bank = bank.float()
    parts = [
        (F.normalize(part.float(), dim=1) @ bank.T).topk(k, dim=1).values[:, -1]
        for part in features.split(1024)
    ]
    return (2 - 2 * torch.cat(parts)).clamp(min=0).sqrt()


def energy(logits: Tensor) -> Tensor:
    """Free energy (Liu et al. 2020, eq. 4); high where no class is likely.  [N, K] -> [N]"""
    return -logits.double().logsumexp(dim=1)


def raw_scores(bank: Tensor, evidence: Evidence, neighbours: int, centre: float) -> Tensor:
    """Scores in the order of PARTS; two where there is no verdict.  -> float64 [S, N]"""
    found = [knn_distance(bank, evidence.features, neighbours).double(), energy(evidence.logits)]
    if evidence.verdict is not None:
        # an item that looks more real than the real ones is as strange as one that looks made up
        found.append((evidence.verdict.double() - centre).abs())
    return torch.stack(found)


def combined(surprise: Tensor) -> Tensor:
    """One score of several.  [S, N] -> [N]"""
    parts = torch.tensor(list(PARTS.values())[: len(surprise)], dtype=torch.float64)
    return (surprise + parts.log()[:, None]).amax(dim=0)


def items_needed(false_alarms: float) -> int:
    """The fewest known items from which a threshold for this rate can be read."""
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def spread(labels: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """Places of at most `most` items, in turn from each class.  int64 [N] -> int64 [M]"""
    if len(labels) <= most:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=rng)
    turn = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique():
        mine = order[labels[order] == label]
        turn[mine] = torch.arange(len(mine))
    return order[turn[order].argsort(stable=True)[:most]].sort().values


def fit_guard(
    known: Evidence, labels: Tensor, fresh: Evidence | None, config: GuardConfig, seed: int = 0
) -> tuple[Guard | None, dict[str, Any]]:
    """A guard, and how it came to be; None and `why` where the items do not allow one.

    `known` are training items with their labels, `fresh` validation items.  The threshold comes
    from the fresh ones; where they are too few, from folds of the known ones.
    """
    if config.false_alarms <= 0:
        return None, {"why": "guard.false_alarms=0 asks for none"}
    rng = torch.Generator().manual_seed(seed)
    fresh = fresh if fresh is not None and len(fresh.features) else None
    need = max(FEW, items_needed(config.false_alarms))
    most = max(len(known.features), _count(fresh))
    if most < need:
        return None, {
            "why": f"{config.false_alarms:.3g} of known items cannot be told from {most} items: "
            f"{need} are needed, or a larger guard.false_alarms"
        }
    if not (_finite(known) and (fresh is None or _finite(fresh))):
        return None, {"why": "the model's features are no finite numbers"}
    bank = _bank(known, labels, config, rng)
    enough = fresh is not None and _count(fresh) >= need
    usual = fresh if enough and fresh is not None else known
    centre = 0.0 if usual.verdict is None else float(usual.verdict.double().median())
    raw = None if fresh is None else raw_scores(bank, fresh, config.neighbours, centre)
    source = "validation"
    if not enough or raw is None:
        trained = _fold_scores(known, labels, config, centre, rng)
        source = "training folds"
        if raw is not None and raw.shape[1] >= FEW:
            trained = torch.cat([_aligned(trained, raw), raw], dim=1)
            source += " aligned to validation"
        raw = trained
    scale, threshold = calibrate(raw, config.false_alarms)
    scores = combined(scale.surprise(raw))
    alarms, held_out = _alarms(raw, config, rng)
    guard = Guard(
        bank=bank, scale=scale, centre=centre, threshold=threshold, neighbours=config.neighbours
    )
    return guard, {
        "false_alarms": config.false_alarms,
        "threshold": threshold,
        "scores": guard.names,
        "calibrated_on": source,
        "items": raw.shape[1],
        "alarms": alarms,
        "alarms_held_out": held_out,
        # rate -> the threshold that is stated to have it
        "curve": [[rate, _quantile(scores, rate)] for rate in RATES if _readable(scores, rate)],
    }


def calibrate(raw: Tensor, false_alarms: float) -> tuple[Scale, float]:
    """Scale and threshold from raw scores of known items.  float64 [S, N] -> Scale, threshold"""
    levels = 1 - torch.linspace(0, math.log(TAIL), KNOTS, dtype=torch.float64).exp()
    knots = raw.quantile(levels, dim=1).T.contiguous()  # [S, Q]
    excess = (raw - knots[:, -1:]).clamp(min=0)
    decays = (excess.sum(1) / (excess > 0).sum(1).clamp(min=1)).clamp(min=TINY)
    scale = Scale(knots, decays)
    return scale, _quantile(combined(scale.surprise(raw)), false_alarms)


def _quantile(scores: Tensor, rate: float) -> float:
    """The score that a new item like these exceeds with at most this probability.

    Split conformal prediction: the ceil((n + 1)(1 - rate))-th smallest of n.
    """
    place = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(scores.sort().values[min(place, len(scores)) - 1])


def _readable(scores: Tensor, rate: float) -> bool:
    return len(scores) >= items_needed(rate)


def _alarms(raw: Tensor, config: GuardConfig, rng: torch.Generator) -> tuple[int, bool]:
    """Known items called unknown when a guard calibrated without them is asked, if that can be."""
    count, folds = raw.shape[1], config.folds
    if folds < 2 or count - -(-count // folds) < items_needed(config.false_alarms):
        scale, threshold = calibrate(raw, config.false_alarms)
        return int((combined(scale.surprise(raw)) > threshold).sum()), False
    fold = torch.randperm(count, generator=rng) % folds
    alarms = 0
    for number in range(folds):
        scale, threshold = calibrate(raw[:, fold != number], config.false_alarms)
        alarms += int((combined(scale.surprise(raw[:, fold == number])) > threshold).sum())
    return alarms, True


def _fold_scores(
    known: Evidence, labels: Tensor, config: GuardConfig, centre: float, rng: torch.Generator
) -> Tensor:
    """Scores of each training item against the bank of the others.  -> float64 [S, N]"""
    count, folds = len(labels), max(2, config.folds)
    fold = torch.randperm(count, generator=rng) % folds
    found = []
    for number in range(folds):
        mine, others = (torch.nonzero(fold == number)[:, 0], torch.nonzero(fold != number)[:, 0])
        bank = _bank(known.take(others), labels[others], config, rng)
        found.append(raw_scores(bank, known.take(mine), config.neighbours, centre))
    return torch.cat(found, dim=1)


def _aligned(trained: Tensor, fresh: Tensor) -> Tensor:
    """Scores of items that were trained on, moved and widened to those of fresh ones.

    What was trained on lies closer together, and a threshold from it would alarm too often.
    [S, N], [S, n] -> [S, N]
    """
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    mine, theirs = trained.quantile(levels, dim=1), fresh.quantile(levels, dim=1)  # [3, S]
    wider = ((theirs[2] - theirs[0]) / (mine[2] - mine[0]).clamp(min=TINY)).clamp(min=1.0)
    return theirs[1][:, None] + (trained - mine[1][:, None]) * wider[:, None]


def _bank(known: Evidence, labels: Tensor, config: GuardConfig, rng: torch.Generator) -> Tensor:
    chosen = known.features[spread(labels, config.bank, rng)]
    return F.normalize(chosen.float(), dim=1).half()


def _count(evidence: Evidence | None) -> int:
    return 0 if evidence is None else len(evidence.features)


def _finite(evidence: Evidence) -> bool:
    return all(bool(one.isfinite().all()) for one in evidence if one is not None)


def _misfit(tensors: Mapping[str, Tensor], width: int, most: int) -> str | None:
    if set(tensors) != set(FIELDS):
        return f"it must hold exactly {', '.join(FIELDS)}"
    bank, knots, decays = tensors["bank"], tensors["knots"], tensors["decays"]
    if bank.ndim != 2 or not len(bank) or bank.shape[1] != width:
        return f"bank has shape {list(bank.shape)}, not [items, {width}]"
    scores = len(decays) if decays.ndim == 1 else 0
    if not 1 <= scores <= most or knots.shape != (scores, KNOTS):
        return f"knots have shape {list(knots.shape)}"
    if any(tensors[name].numel() != 1 for name in FIELDS[3:]) or int(tensors["neighbours"]) < 1:
        return "centre, threshold and neighbours are one number each"
    if not all(bool(one.isfinite().all()) for one in tensors.values()) or (decays <= 0).any():
        return "a number in it is not usable"
    return None
