"""All that a bundle holds as one plain module: encoder, both players, coder, classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from discern.models.backbone import Backbone, BackboneConfig, Features
from discern.models.classifier import Classifier
from discern.models.coder import Coder
from discern.models.discriminator import Discriminator, DiscriminatorConfig
from discern.models.generator import Generator, GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which parts there are; None or 0 leaves a part out."""

    backbone: BackboneConfig
    discriminator: DiscriminatorConfig | None = None
    generator: GeneratorConfig | None = None
    coder: bool = False  # beside a generator: what it draws of an item, or of a class
    classes: int = 0
    angle_scale: float = 0.0  # above 0: logits are cosines, times this
    # grid (h, w) of a frame's tokens, where the classifier's features know what stands where
    places: tuple[int, int] | None = None
    # tuning moves the backbone away from what generator and discriminator were trained with: they
    # keep a copy
    own_encoder: bool = False


class Model(nn.Module):
    """clip [B, C, T, H, W] -> logits [B, K]; without a classifier -> pooled features [B, D]"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.precision = "fp32"  # of its answers; a training says its own
        self.backbone = Backbone(config.backbone)
        self.encoder = Backbone(config.backbone) if config.own_encoder else None
        self.discriminator = (
            Discriminator(config.discriminator, self.painter_encoder)
            if config.discriminator
            else None
        )
        self.generator = Generator(config.generator, config.backbone) if config.generator else None
        self.coder = (
            Coder(config.backbone.width, config.generator.noise, config.classes)
            if config.coder and config.generator
            else None
        )
        self.classifier = (
            Classifier(self.backbone, config.classes, config.angle_scale, config.places)
            if config.classes
            else None
        )

    @property
    def painter_encoder(self) -> Backbone:
        """The encoder that the generator paints from: the one it was trained with."""
        return self.backbone if self.encoder is None else self.encoder

    def features(self, clip: Tensor) -> Features:
        """What the encoder, and a classifier that knows of places, make of items."""
        return (self.backbone if self.classifier is None else self.classifier.features)(clip)

    def forward(self, clip: Tensor) -> Tensor:
        if self.classifier is None:
            return self.features(clip).pooled.float()
        return self.classifier(clip)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; what two parts share is named once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
