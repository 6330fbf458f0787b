"""Tuning on labels as small ViTs need it: MixUp or CutMix, label smoothing, an averaged model.

Sources: DeiT (Touvron et al. 2021), MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019), a margin
between directions (Deng et al. 2019).  Where an item may have several labels each class is a yes or
no question of its own (Wightman et al. 2021, section 3).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Batch
from discern.models.batch_norm import restart
from discern.models.classifier import Classifier
from discern.objectives.invented import Inventor
from discern.objectives.masking import random_mask
from discern.objectives.objective import Losses, Objective, chance, on_host

View = Callable[[Tensor, torch.Generator], Tensor]  # uint8 [B, C, T, H, W] -> float, augmented


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """Regularisation; 0 leaves a part out."""

    label_smoothing: float = 0.1  # not where items have several labels
    mixup: float = 0.2  # alpha of the Beta distribution
    cutmix: float = 1.0
    mix_chance: float = 0.5  # of mixing a batch at all; half of these by CutMix
    # of an item's tokens, in tubes where it is a clip, until so much of the training is over: steps
    # cost less, and at the end all tokens are seen as in use (PatchDropout, Liu et al. 2023)
    hide: float = 0.0
    hide_until: float = 0.8
    freeze_encoder: float = 0.0  # share of the training in which only the head learns
    generated: float = 0.0  # share of a batch that is drawn by the generator, classes balanced
    # passes over the items until all batches are augmented strongly and mixed: what was not seen
    # often cannot be known by heart, and is learned faster as it is; 0: always strongly, as
    # `hardened` is, and `semi` from where items without labels count
    ease: float = 10.0
    margin: float = 0.0  # radians by which a class must be nearer than it would need to be
    angle_scale: float = 16.0  # of cosines to logits, with a margin
    places: bool = (
        False  # features know what stands where in a frame: things that are all cut alike
    )


class Supervised(Objective):
    """Cross-entropy of a classifier on augmented and mixed items.

    Where a batch has targets, that of each class apart.
    """

    def __init__(
        self,
        config: SupervisedConfig,
        classifier: Classifier,
        view: View,
        inventor: Inventor | None = None,
        gentle: View | None = None,
    ) -> None:
        super().__init__()
        self.inventor = inventor
        self.gentle = view if gentle is None else gentle
        self.config = config
        self.classifier = classifier
        self.view = view
        self.average = copy.deepcopy(classifier).requires_grad_(False)
        restart(self.average)
        self.averages = [(classifier, self.average)]
        self.players = {"classifier": classifier}

    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        assert phase == "classifier" and batch.label is not None
        batch = self._with_generated(batch, rng)
        assert batch.label is not None
        wanted = self._one_hot(batch.label) if batch.target is None else batch.target
        if self._spared(batch.passes, rng):
            clip, target = self.gentle(batch.clip, rng), wanted
        else:
            clip, target = self._mix(self.view(batch.clip, rng), wanted, rng)
        logits = self._logits(clip, progress, self._seen(clip, progress, rng))
        if batch.target is not None:
            return several_judged(logits, target)
        return self._judged(logits, target)

    def as_used(self, clip: Tensor, rng: torch.Generator) -> Tensor:
        return self.gentle(clip, rng)

    def _spared(self, passes: float, rng: torch.Generator) -> bool:
        """Whether a batch is augmented gently and not mixed."""
        ease = self.config.ease
        return ease > 0 and not chance(passes / ease, rng)

    def _with_generated(self, batch: Batch, rng: torch.Generator) -> Batch:
        """Some items of the batch give way to drawn ones."""
        count = round(len(batch.clip) * self.config.generated)
        if count == 0 or batch.label is None:
            return batch
        assert self.inventor is not None
        clip, label, classes = batch.clip.clone(), batch.label.clone(), self._classes
        chosen = torch.randperm(len(clip), generator=rng, device=rng.device)[:count].to(clip.device)
        wanted = torch.randint(classes, (count,), generator=rng, device=rng.device).to(clip.device)
        clip[chosen] = self.inventor.of(wanted, clip[:count], rng)
        label[chosen] = wanted
        return replace(batch, clip=clip, label=label, index=None)

    @property
    def _classes(self) -> int:
        return self.classifier.head.out_features

    def _one_hot(self, label: Tensor) -> Tensor:
        """[B] -> float [B, K]"""
        return F.one_hot(label, self._classes).float()

    def _judged(self, logits: Tensor, target: Tensor) -> Losses:
        """The loss of labelled items, [B, K] twice."""
        wider = with_margin(logits, target, self.config.margin, self.classifier.scale)
        loss = F.cross_entropy(wider, target, label_smoothing=self.config.label_smoothing)
        right = (logits.argmax(1) == target.argmax(1)).float().mean()
        return Losses(total=loss, parts={"cross_entropy": loss.detach(), "train_accuracy": right})

    def _seen(self, clip: Tensor, progress: float, rng: torch.Generator) -> Tensor | None:
        """The tokens that the classifier sees now, [B, M]; None where it sees all."""
        config, backbone = self.config, self.classifier.backbone
        if config.hide <= 0 or progress >= config.hide_until:
            return None
        grid = backbone.grid(clip)
        return random_mask(
            len(clip), grid, config.hide, rng, tube=grid[0] > 1, device=clip.device
        ).keep

    def _logits(self, clip: Tensor, progress: float, keep: Tensor | None = None) -> Tensor:
        """[B, K]; while the encoder is frozen no gradient reaches it."""
        if progress >= self.config.freeze_encoder:
            return self.classifier(clip, keep)
        with torch.no_grad():
            seen = self.classifier.backbone(clip, keep)
        return self.classifier.head(self.classifier.placed(seen).pooled).float()

    def _mix(self, clip: Tensor, target: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Blend each item with another one: all over (MixUp) or in a rectangle (CutMix)."""
        config = self.config
        roll, which = torch.rand(2, generator=on_host(rng)).tolist()
        if roll >= config.mix_chance or len(clip) < 2:
            return clip, target
        cut = which < 0.5 if config.mixup > 0 and config.cutmix > 0 else config.cutmix > 0
        alpha = config.cutmix if cut else config.mixup
        if alpha <= 0:
            return clip, target
        other = torch.randperm(len(clip), generator=rng, device=rng.device).to(clip.device)
        share = _beta(alpha, rng)
        if not cut:
            return clip.lerp(clip[other], 1 - share), target.lerp(target[other], 1 - share)
        H, W = clip.shape[-2:]
        top, bottom = _span(H, (1 - share) ** 0.5, rng)
        left, right = _span(W, (1 - share) ** 0.5, rng)
        clip = clip.clone()
        clip[..., top:bottom, left:right] = clip[other][..., top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (H * W)
        return clip, target.lerp(target[other], 1 - kept)


def with_margin(logits: Tensor, target: Tensor, margin: float, scale: float) -> Tensor:
    """ArcFace's additive angular margin (Deng et al. 2019, eq. 3); without a scale as they are.

    [B, K] twice -> [B, K].  Of mixed items each class gets its share of the margin.
    """
    if margin == 0 or scale == 0:
        return logits
    cosine = (logits / scale).clamp(-1 + 1e-6, 1 - 1e-6)  # the slope of arccos has no end there
    angle = cosine.arccos() + margin * target
    return scale * angle.clamp(max=math.pi).cos()


def several_judged(logits: Tensor, target: Tensor) -> Losses:
    """Binary cross-entropy, summed over classes and averaged over items.  [B, K] twice"""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)
    right = ((logits > 0) == (target > 0.5)).all(dim=1).float().mean()
    return Losses(total=loss, parts={"cross_entropy": loss.detach(), "train_accuracy": right})


def _beta(alpha: float, rng: torch.Generator) -> float:
    """One draw of Beta(alpha, alpha) (Joehnk's method), from the generator that was handed in."""
    while True:
        u, v = torch.rand(2, generator=on_host(rng), dtype=torch.float64).tolist()
        x, y = u ** (1 / alpha), v ** (1 / alpha)
        if 0 < x + y <= 1:
            return x / (x + y)


def _span(side: int, share: float, rng: torch.Generator) -> tuple[int, int]:
    """A stretch of `share` of the side around a random centre, cut off at the border."""
    centre = int(torch.randint(side, (), generator=on_host(rng)))
    half = int(side * share) // 2
    return max(0, centre - half), min(side, centre + half)
