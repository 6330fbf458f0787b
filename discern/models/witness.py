"""What a model says of items to those who judge them: clip [B, C, T, H, W] in, Evidence out."""

from __future__ import annotations

from torch import Tensor, nn

from discern.models.backbone import looks
from discern.models.model import Model
from discern.security.scores import Evidence


class Witness(nn.Module):
    """The parts of a tuned model that an answer and its guard need, and no other.

    With `head` the discriminator gives its verdict, by the encoder that it was trained with.
    """

    def __init__(self, model: Model, *, head: bool) -> None:
        super().__init__()
        assert model.classifier is not None
        self.classifier = model.classifier
        self.encoder = model.encoder
        self.discriminator = model.discriminator if head else None

    def forward(self, clip: Tensor) -> Evidence:
        seen = self.classifier.features(clip)
        logits = self.classifier.head(seen.pooled).float()
        # tuning bends the stem to the classes: as it was before, it sees more of what is strange
        if self.encoder is None:
            early, own = seen.early, seen
        elif self.discriminator is None:
            early, own = self.encoder.early(clip), seen
        else:
            own = self.encoder(clip)
            early = own.early
        verdict = None
        if self.discriminator is not None:
            verdict = self.discriminator.judge_whole(own.pooled, detach=False)
        return Evidence(seen.pooled.float(), logits, looks(early, clip.shape[0]), verdict)
