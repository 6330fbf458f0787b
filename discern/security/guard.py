"""The guard: what a model made of items goes in, how strange each one is comes out.

Each of `scores` is brought to one scale, surprise: the negative logarithm of the share of known
items that are at least as strange.  Their weighted sum, brought to that scale again, is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discern.errors import IntegrityError
from discern.security.scores import GAUSSIANS, Evidence, Known, learn_known, raw_scores, read_known

# score -> its weight in the sum.  Chosen on classes that were held out from a training and on known
# items that were spoilt (docs/decisions); a verdict alone knows little, and has the least.
WEIGHTS = {"relative": 1.0, "classes": 1.0, "stem": 1.0, "energy": 0.5, "knn": 0.25, "head": 0.1}
RATES = (0.005, 0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)))  # of the stored curve
TAIL = 0.1  # share of the known items by which the decay of a score's tail is estimated
KNOTS = 33
TINY = 1e-12
FEW = 8  # fresh items that are needed to align the scores of items that were trained on
NUMBERS = ("centre", "threshold", "neighbours")


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """How strange an item must be to be called unknown."""

    false_alarms: float = 0.01  # share of known items that may be called unknown; 0: no guard
    neighbours: int = 10  # the distance is that to the k-th nearest
    bank: int = 4096  # training features that are kept
    folds: int = 5
    head: bool = False  # ask the discriminator too, which takes a pass of its own encoder


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


class Scales(NamedTuple):
    """Of every score, and of their sum."""

    each: Scale
    total: Scale  # of one score, S = 1

    def strangeness(self, surprise: Tensor) -> Tensor:
        """float64 [S, N] -> [N]"""
        return self.total.surprise(combined(surprise)[None])[0]


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is known, scales and the threshold above which an item is unknown."""

    known: Known
    scales: Scales
    centre: float  # the usual verdict
    threshold: float
    neighbours: int

    @property
    def names(self) -> list[str]:
        """The scores that are in use."""
        return list(WEIGHTS)[: len(self.scales.each.knots)]

    def surprise(self, evidence: Evidence) -> Tensor:
        """Surprise by each score.  -> float64 [S, N]"""
        raw = raw_scores(self.known, evidence, self.neighbours, self.centre)
        # a verdict that was not there at training says nothing
        return self.scales.each.surprise(raw[: len(self.scales.each.knots)])

    def strangeness(self, evidence: Evidence) -> Tensor:
        """One score, which is held against the threshold.  -> float64 [N]"""
        return self.scales.strangeness(self.surprise(evidence))

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as it is stored."""
        numbers = {
            "centre": torch.tensor(self.centre, dtype=torch.float64),
            "threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "neighbours": torch.tensor(self.neighbours),
        }
        scales = {
            **self.scales.each._asdict(),
            **{f"total_{n}": v for n, v in self.scales.total._asdict().items()},
        }
        return {**self.known.tensors(), **scales, **numbers}


def read_guard(
    tensors: Mapping[str, Tensor], width: int, early: int, head: bool, where: str
) -> Guard:
    """A guard from what `Guard.tensors` gave, for features of this width, with or without verdicts.

    `early` is how many numbers say what the stem saw.  Raises IntegrityError if it is none.
    """
    fault = _misfit(tensors, width, early, len(WEIGHTS) if head else len(WEIGHTS) - 1)
    if fault:
        raise IntegrityError(
            f"{where}: not a guard for this model ({fault}): "
            "copy the bundle again, or train with this version"
        )
    return Guard(
        known=read_known(tensors),
        scales=Scales(
            Scale(tensors["knots"].double(), tensors["decays"].double()),
            Scale(tensors["total_knots"].double(), tensors["total_decays"].double()),
        ),
        centre=float(tensors["centre"]),
        threshold=float(tensors["threshold"]),
        neighbours=int(tensors["neighbours"]),
    )


def combined(surprise: Tensor) -> Tensor:
    """One score of several, their weighted sum (Fisher 1932).  [S, N] -> [N]

    That an item is very usual to one score takes nothing from what another one says.
    """
    weights = torch.tensor(list(WEIGHTS.values())[: len(surprise)], dtype=torch.float64)
    return (weights[:, None] * surprise.clamp(min=0)).sum(dim=0)


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
    held = learn_known(known, labels, spread(labels, config.bank, rng))
    enough = fresh is not None and _count(fresh) >= need
    usual = fresh if enough and fresh is not None else known
    centre = 0.0 if usual.verdict is None else float(usual.verdict.double().median())
    raw = None if fresh is None else raw_scores(held, fresh, config.neighbours, centre)
    source = "validation"
    if not enough or raw is None:
        trained = _fold_scores(known, labels, config, centre, rng)
        source = "training folds"
        if raw is not None and raw.shape[1] >= FEW:
            trained = torch.cat([_aligned(trained, raw), raw], dim=1)
            source += " aligned to validation"
        raw = trained
    scales, threshold = calibrate(raw, config.false_alarms)
    scores = scales.strangeness(scales.each.surprise(raw))
    alarms, held_out = _alarms(raw, config, rng)
    guard = Guard(
        known=held, scales=scales, centre=centre, threshold=threshold, neighbours=config.neighbours
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


def calibrate(raw: Tensor, false_alarms: float) -> tuple[Scales, float]:
    """Scales and threshold from raw scores of known items.  float64 [S, N] -> Scales, threshold"""
    each = fit_scale(raw)
    scales = Scales(each, fit_scale(combined(each.surprise(raw))[None]))
    return scales, _quantile(scales.strangeness(each.surprise(raw)), false_alarms)


def fit_scale(raw: Tensor) -> Scale:
    """From raw scores of known items.  float64 [S, N] -> Scale"""
    levels = 1 - torch.linspace(0, math.log(TAIL), KNOTS, dtype=torch.float64).exp()
    knots = raw.quantile(levels, dim=1).T.contiguous()  # [S, Q]
    excess = (raw - knots[:, -1:]).clamp(min=0)
    decays = (excess.sum(1) / (excess > 0).sum(1).clamp(min=1)).clamp(min=TINY)
    return Scale(knots, decays)


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
        scales, threshold = calibrate(raw, config.false_alarms)
        return int((scales.strangeness(scales.each.surprise(raw)) > threshold).sum()), False
    fold = torch.randperm(count, generator=rng) % folds
    alarms = 0
    for number in range(folds):
        scales, threshold = calibrate(raw[:, fold != number], config.false_alarms)
        surprise = scales.each.surprise(raw[:, fold == number])
        alarms += int((scales.strangeness(surprise) > threshold).sum())
    return alarms, True


def _fold_scores(
    known: Evidence, labels: Tensor, config: GuardConfig, centre: float, rng: torch.Generator
) -> Tensor:
    """Scores of each training item against what the others make known.  -> float64 [S, N]"""
    count, folds = len(labels), max(2, config.folds)
    fold = torch.randperm(count, generator=rng) % folds
    found = []
    for number in range(folds):
        mine, others = (torch.nonzero(fold == number)[:, 0], torch.nonzero(fold != number)[:, 0])
        kept = spread(labels[others], config.bank, rng)
        held = learn_known(known.take(others), labels[others], kept)
        found.append(raw_scores(held, known.take(mine), config.neighbours, centre))
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


def _count(evidence: Evidence | None) -> int:
    return 0 if evidence is None else len(evidence.features)


def _finite(evidence: Evidence) -> bool:
    return all(bool(one.isfinite().all()) for one in evidence if one is not None)


def _misfit(tensors: Mapping[str, Tensor], width: int, early: int, most: int) -> str | None:
    shapes = {"bank": (-1, width), "knots": (-1, KNOTS), "decays": (-1,)}
    shapes |= {"total_knots": (1, KNOTS), "total_decays": (1,)}
    for part in GAUSSIANS:
        of = early if part == "early" else width
        shapes |= {
            f"{part}_whiten": (of, of),
            f"{part}_means": (-1 if part == "classes" else 1, of),
        }
    if set(tensors) != {*shapes, *NUMBERS}:
        return f"it must hold exactly {', '.join([*shapes, *NUMBERS])}"
    for name, shape in shapes.items():
        found = tensors[name].shape
        if len(found) != len(shape) or not all(
            n == wanted if wanted > 0 else n > 0 for n, wanted in zip(found, shape, strict=True)
        ):
            return f"{name} has shape {list(found)}"
    if not len(tensors["decays"]) == len(tensors["knots"]) <= most:
        return f"knots for {len(tensors['knots'])} scores"
    if any(tensors[name].numel() != 1 for name in NUMBERS) or int(tensors["neighbours"]) < 1:
        return "centre, threshold and neighbours are one number each"
    if not all(bool(one.isfinite().all()) for one in tensors.values()):
        return "a number in it is not usable"
    decays = torch.cat([tensors["decays"], tensors["total_decays"]])
    return "a number in it is not usable" if (decays <= 0).any() else None
