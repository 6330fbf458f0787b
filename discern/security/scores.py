"""How strange items are to a model, by one published score each: evidence in, raw scores out.

All are larger for stranger items.  `Known` is what they are held against: features of training
items, as they are and as normal distributions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# as they are stored; what a guard of before calls `stem` looked elsewhere, and may have this shape
GAUSSIANS = ("classes", "whole", "early")
AT_ONCE = 1024  # items whose distances are computed together


class Evidence(NamedTuple):
    """What a model made of N items."""

    features: Tensor  # [N, D]
    logits: Tensor  # [N, K]
    stem: Tensor  # [N, L], what the stem saw in few numbers (`models.backbone.looks`)
    verdict: Tensor | None = None  # [N], the discriminator's on the whole; None: it has none

    def take(self, places: Tensor) -> Evidence:
        """The items at `places` [n]."""
        verdict = None if self.verdict is None else self.verdict[places]
        return Evidence(self.features[places], self.logits[places], self.stem[places], verdict)


def together(parts: Sequence[Evidence]) -> Evidence:
    """All items of several batches of one model."""
    features = torch.cat([part.features for part in parts]).cpu()
    logits = torch.cat([part.logits for part in parts]).cpu()
    stem = torch.cat([part.stem for part in parts]).cpu()
    verdicts = [part.verdict for part in parts if part.verdict is not None]
    return Evidence(features, logits, stem, torch.cat(verdicts).cpu() if verdicts else None)


class Gaussian(NamedTuple):
    """Normal distributions that share a covariance, in coordinates in which it is the identity."""

    whiten: Tensor  # [D, D]
    means: Tensor  # [C, D], whitened

    def distance(self, x: Tensor) -> Tensor:
        """Squared Mahalanobis distance to the nearest mean.  [N, D] -> [N]"""
        x = x.float() @ self.whiten
        # not by the product of both, which loses the digits in which a short distance differs
        parts = [
            torch.cdist(part, self.means, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
            for part in x.split(AT_ONCE)
        ]
        return torch.cat(parts).square().double()


def fit_gaussian(x: Tensor, labels: Tensor | None = None) -> Gaussian:
    """One normal distribution, or one for each label that there is.  [N, D], int64 [N]

    The covariance leans on a multiple of the identity, by as much as few items ask for: oracle
    approximating shrinkage (Chen et al. 2010, eq. 23).
    """
    x = x.double()
    group = torch.zeros(len(x), dtype=torch.int64)
    if labels is not None:
        group = labels.unique(return_inverse=True)[1]
    sizes = group.bincount().double()
    means = torch.zeros(len(sizes), x.shape[1], dtype=torch.float64).index_add_(0, group, x)
    means /= sizes[:, None]
    within = x - means[group]
    freedom = max(1, len(x) - len(sizes))
    width = x.shape[1]
    covariance = within.T @ within / freedom
    level = covariance.diagonal().mean()
    square = covariance.square().sum()
    above = (1 - 2 / width) * square + (level * width) ** 2
    below = (freedom + 1 - 2 / width) * (square - level**2 * width)
    share = (above / below).clamp(0, 1).nan_to_num(1.0)
    eye = torch.eye(width, dtype=torch.float64)
    # where all items are alike there is no spread: any other item is then far away
    covariance = (1 - share) * covariance + (share * level).clamp(min=1e-12) * eye
    values, vectors = torch.linalg.eigh(covariance)
    whiten = vectors * values.clamp(min=1e-12).rsqrt()
    return Gaussian(whiten.float(), (means @ whiten).float())


@dataclass(frozen=True, kw_only=True)
class Known:
    """What items are held against."""

    bank: Tensor  # float16 [M, D], features of length 1
    classes: Gaussian  # of the features, a mean for each class
    whole: Gaussian  # of the features, all classes together
    early: Gaussian  # of what the stem saw

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as it is stored."""
        return {"bank": self.bank} | {
            f"{part}_{name}": value
            for part in GAUSSIANS
            for name, value in getattr(self, part)._asdict().items()
        }


def read_known(tensors: Mapping[str, Tensor]) -> Known:
    """From what `Known.tensors` gave."""
    parts = {
        part: Gaussian(*(tensors[f"{part}_{name}"].float() for name in Gaussian._fields))
        for part in GAUSSIANS
    }
    return Known(bank=tensors["bank"], **parts)


def learn_known(known: Evidence, labels: Tensor, bank: Tensor) -> Known:
    """From training items with their labels int64 [N]; those at the places `bank` are kept."""
    return Known(
        bank=F.normalize(known.features[bank].float(), dim=1).half(),
        classes=fit_gaussian(known.features, labels),
        whole=fit_gaussian(known.features),
        early=fit_gaussian(known.stem),
    )


def knn_distance(bank: Tensor, features: Tensor, neighbours: int) -> Tensor:
    """Distance to the k-th nearest of unit vectors (Sun et al. 2022).  [M, D], [N, D] -> [N]"""
    k = min(neighbours, len(bank))
    bank = bank.float()
    parts = [
        (F.normalize(part.float(), dim=1) @ bank.T).topk(k, dim=1).values[:, -1]
        for part in features.split(AT_ONCE)
    ]
    return (2 - 2 * torch.cat(parts)).clamp(min=0).sqrt()


def energy(logits: Tensor) -> Tensor:
    """Free energy (Liu et al. 2020, eq. 4); high where no class is likely.  [N, K] -> [N]"""
    return -logits.double().logsumexp(dim=1)


def raw_scores(known: Known, evidence: Evidence, neighbours: int, centre: float) -> Tensor:
    """Scores in the order of `guard.WEIGHTS`; one fewer where there is no verdict.  float64 [S, N]

    `classes` is Lee et al. 2018 without their input noise, `relative` is Ren et al. 2021 (eq. 3).
    """
    near = known.classes.distance(evidence.features)
    found = [
        near - known.whole.distance(evidence.features),
        near,
        known.early.distance(evidence.stem),
        energy(evidence.logits),
        knn_distance(known.bank, evidence.features, neighbours).double(),
    ]
    if evidence.verdict is not None:
        # an item that looks more real than the real ones is as strange as one that looks made up
        found.append((evidence.verdict.double() - centre).abs())
    return torch.stack(found)
