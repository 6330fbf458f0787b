"""Tuning on labels and on items without: an averaged teacher names what it sees lightly augmented,
the classifier must say the same of a strongly augmented view.

Sources: Mean Teacher (Tarvainen and Valpola 2017), MixMatch's sharpening (Berthelot et al. 2019),
ReMixMatch's distribution alignment (Berthelot et al. 2020), FixMatch (Sohn et al. 2020).  Targets
stay soft: within minutes few answers are sure enough for a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Batch
from discern.models.classifier import Classifier
from discern.objectives.objective import Losses, ramp
from discern.objectives.supervised import Supervised, SupervisedConfig, View


@dataclass(frozen=True, kw_only=True)
class SemiConfig:
    """What the items without labels count for; a weight of 0 leaves them out."""

    weight: float = 1.0  # of their loss
    unlabelled_ratio: float = 2.0  # unlabelled items for each labelled one of a batch
    start: float = 0.15  # share of the training before which the teacher knows too little
    ramp: float = 0.15  # share of the training over which the weight grows
    temperature: float = 0.5  # below 1 sharpens the teacher's answers
    threshold: float = 0.0  # least sureness of an answer that is learned from
    alignment: float = 0.02  # how fast the mean answer is followed; 0: it is not evened out


class Semi(Supervised):
    """Cross-entropy on labels, and on the averaged model's soft answers where there are none.

    A batch holds labelled items first, then those of label -1.
    """

    mean_answer: Tensor

    def __init__(
        self,
        config: SupervisedConfig,
        semi: SemiConfig,
        classifier: Classifier,
        view: View,
        weak: View,
    ) -> None:
        super().__init__(config, classifier, view)
        self.semi, self.weak = semi, weak
        classes = classifier.head.out_features
        self.register_buffer("mean_answer", torch.full((classes,), 1 / classes))

    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        assert phase == "classifier" and batch.label is not None
        known = int((batch.label >= 0).sum())
        assert (batch.label[:known] >= 0).all(), "labelled items come first"
        strength = self.semi.weight * ramp(progress, self.semi.start, self.semi.ramp)
        labelled = Batch(clip=batch.clip[:known], label=batch.label[:known])
        if strength == 0 or known == len(batch.clip):
            return super().loss(phase, labelled, rng, progress)
        answer, sure = self._answers(self.weak(batch.clip[known:], rng))
        views = self.view(batch.clip, rng)
        clip, target = self._mix(views[:known], self._one_hot(batch.label[:known]), rng)
        other, answer = self._mix(views[known:], answer, rng)
        logits = self._logits(torch.cat([clip, other]), progress)
        judged = self._judged(logits[:known], target)
        # the targets of unsure items are all zero, so that they and their share in a mix count
        # nothing
        agreement = F.cross_entropy(logits[known:], answer)
        parts = judged.parts | {"agreement": agreement.item(), "sure": sure}
        return Losses(total=judged.total + strength * agreement, parts=parts)

    @torch.no_grad()
    def _answers(self, clip: Tensor) -> tuple[Tensor, float]:
        """The teacher's soft targets [U, K], zero where it is not sure; how sure it is on average.

        Evened out over the classes: its mean answer may not drift to the easy ones.
        """
        semi = self.semi
        answer = self.average.eval()(clip).softmax(dim=1)
        if semi.alignment > 0:
            self.mean_answer.lerp_(answer.mean(dim=0), semi.alignment)
            answer = F.normalize(answer / self.mean_answer, p=1, dim=1)
        sure = answer.amax(dim=1)
        sharp = F.normalize(answer ** (1 / semi.temperature), p=1, dim=1)
        return sharp * (sure >= semi.threshold).unsqueeze(1), sure.mean().item()
