"""Tuning on labels and on items without: an averaged teacher names what it sees lightly augmented,
the classifier must say the same of a strongly augmented view; one class more may be for fakes.

Sources: Mean Teacher (Tarvainen and Valpola 2017), MixMatch's sharpening (Berthelot et al. 2019),
ReMixMatch's distribution alignment (Berthelot et al. 2020), FixMatch (Sohn et al. 2020).  Targets
stay soft: within minutes few answers are sure enough for a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Batch
from discern.models.batch_norm import forgetting, learning
from discern.models.classifier import Classifier
from discern.objectives.forged import fake_class
from discern.objectives.invented import Inventor
from discern.objectives.objective import Losses, ramp
from discern.objectives.supervised import Supervised, SupervisedConfig, View


@dataclass(frozen=True, kw_only=True)
class SemiConfig:
    """What the items without labels count for; a weight of 0 leaves them out."""

    weight: float = 1.0  # of their loss
    unlabelled_ratio: float = 2.0  # unlabelled items for each labelled one of a batch
    start: float = 0.15  # share of the training before which the teacher knows too little
    ramp: float = 0.05  # share of the training over which the weight grows
    temperature: float = 0.5  # below 1 sharpens the teacher's answers
    threshold: float = 0.0  # least sureness of an answer that is learned from
    alignment: float = 0.02  # how fast the mean answer is followed; 0: it is not evened out
    # of one class more, for the generator's fakes (Salimans et al. 2016); 0: there is none
    fake: float = 0.0
    fake_share: float = 0.25  # fakes for each unlabelled item of a batch


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
        inventor: Inventor | None = None,
        gentle: View | None = None,
    ) -> None:
        super().__init__(config, classifier, view, inventor, gentle)
        self.semi, self.weak = semi, weak
        classes = classifier.head.out_features
        self.register_buffer("mean_answer", torch.full((classes,), 1 / classes))

    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        assert phase == "classifier" and batch.label is not None
        known = int((batch.label >= 0).sum())
        assert (batch.label[:known] >= 0).all(), "labelled items come first"
        strength = self.semi.weight * ramp(progress, self.semi.start, self.semi.ramp)
        labelled = replace(batch, clip=batch.clip[:known], label=batch.label[:known], index=None)
        if strength == 0 or known == len(batch.clip):
            return super().loss(phase, labelled, rng, progress)
        answer, sure = self._answers(self.weak(batch.clip[known:], rng))
        labelled = self._with_generated(labelled, rng)
        assert labelled.label is not None
        fakes = self._fakes(batch.clip[known:], rng)
        views = self.view(torch.cat([labelled.clip, batch.clip[known:], fakes]), rng)
        views, faked = views[: len(batch.clip)], views[len(batch.clip) :]
        clip, target = self._mix(views[:known], self._one_hot(labelled.label), rng)
        other, answer = self._mix(views[known:], answer, rng)
        every = torch.cat([clip, other])
        logits = self._logits(every, progress, self._seen(every, progress, rng))
        judged = self._judged(logits[:known], target)
        # the targets of unsure items are all zero, so that they and their share in a mix count
        # nothing
        agreement = F.cross_entropy(logits[known:], answer)
        parts = judged.parts | {"agreement": agreement.detach(), "sure": sure}
        total = judged.total + strength * agreement
        if len(faked):
            with forgetting(self.classifier):
                on_fakes = self._logits(faked, progress, self._seen(faked, progress, rng))
            fake = fake_class(logits[known:], on_fakes)
            total, parts["fake"] = total + strength * self.semi.fake * fake, fake.detach()
        return Losses(total=total, parts=parts)

    def _fakes(self, like: Tensor, rng: torch.Generator) -> Tensor:
        """Drawn items beside unlabelled ones; none where there is no class for them."""
        count = max(1, round(len(like) * self.semi.fake_share)) if self.semi.fake > 0 else 0
        if count == 0:
            return like[:0]
        assert self.inventor is not None
        return self.inventor.anything(like[:count], rng)

    @torch.no_grad()
    def _answers(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's soft targets [U, K], zero where it is not sure; how sure it is on average.

        Evened out over the classes: its mean answer may not drift to the easy ones.
        """
        semi = self.semi
        # its statistics are those of what it names: any that it learned before are behind weights
        # that turn with every step
        with learning(self.average.eval()):
            answer = self.average(clip).softmax(dim=1)
        if semi.alignment > 0:
            self.mean_answer.lerp_(answer.mean(dim=0), semi.alignment)
            answer = F.normalize(answer / self.mean_answer, p=1, dim=1)
        sure = answer.amax(dim=1)
        sharp = F.normalize(answer ** (1 / semi.temperature), p=1, dim=1)
        return sharp * (sure >= semi.threshold).unsqueeze(1), sure.mean()
