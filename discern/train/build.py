"""A configuration in, the objective that it names out; a trained objective in, its model out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from discern.data.augment import AugmentConfig, augment, gentle
from discern.errors import ConfigError
from discern.models.backbone import Backbone
from discern.models.classifier import Classifier
from discern.models.discriminator import Discriminator
from discern.models.generator import Generator
from discern.models.model import Model, ModelConfig
from discern.objectives.gan import Gan
from discern.objectives.hardened import Hardened
from discern.objectives.invented import Inventor
from discern.objectives.masked_gan import MaskedGan
from discern.objectives.objective import Objective
from discern.objectives.semi import Semi
from discern.objectives.supervised import Supervised
from discern.train.settings import RunConfig


def build_masked_gan(config: RunConfig, base: Model | None, classes: int) -> Objective:
    discriminator, generator = _players(config, base)
    view, masked = partial(_augment, config.view), partial(_augment, config.masked)
    objective = MaskedGan(config.masked_gan, discriminator, generator, view, masked)
    if base is not None and base.coder is not None and base.config.generator == config.generator:
        known = base.coder.state_dict()
        objective.coder.load_state_dict({k: v for k, v in known.items() if "class" not in k})
    return objective


def build_gan(config: RunConfig, base: Model | None, classes: int) -> Objective:
    discriminator, generator = _players(config, base)
    view, alike = partial(_augment, config.view), partial(_augment, config.alike)
    return Gan(config.gan, discriminator, generator, view, alike)


def build_supervised(config: RunConfig, base: Model | None, classes: int) -> Objective:
    view, mild = partial(_augment, config.strong), partial(_augment, gentle(config.strong))
    classifier = _classifier(config, base, classes)
    return Supervised(config.supervised, classifier, view, _inventor(config, base), mild)


def build_semi(config: RunConfig, base: Model | None, classes: int) -> Objective:
    view, mild = partial(_augment, config.strong), partial(_augment, gentle(config.strong))
    # what must not be mirrored is not mirrored for the teacher either
    seen = replace(config.weak, flip=min(config.weak.flip, config.strong.flip))
    classifier, inventor = _classifier(config, base, classes), _inventor(config, base)
    weak = partial(_augment, seen)
    return Semi(config.supervised, config.semi, classifier, view, weak, inventor, mild)


def build_hardened(config: RunConfig, base: Model | None, classes: int) -> Objective:
    classifier = _classifier(config, base, classes)
    view, inventor = partial(_augment, config.strong), _inventor(config, base)
    return Hardened(config.supervised, config.harden, classifier, view, inventor)


# name -> how it is made from a configuration, a model to start from, and the number of classes
OBJECTIVES: dict[str, Callable[[RunConfig, Model | None, int], Objective]] = {
    "masked_gan": build_masked_gan,
    "gan": build_gan,
    "supervised": build_supervised,
    "semi": build_semi,
    "hardened": build_hardened,
}


def build_objective(config: RunConfig, base: Model | None = None, classes: int = 0) -> Objective:
    """The objective of a run, its networks drawn from the run's seed or copied from `base`."""
    torch.manual_seed(config.seed)
    return OBJECTIVES[config.objective](config, base, classes)


def pretrained_model(objective: Objective) -> Model:
    """The averaged networks of a pre-training as a model."""
    assert isinstance(objective, MaskedGan | Gan)
    discriminator, generator = objective.average[0], objective.average[1]
    assert isinstance(discriminator, Discriminator) and isinstance(generator, Generator)
    coder = objective.coder if isinstance(objective, MaskedGan) else None
    config = ModelConfig(
        backbone=discriminator.backbone.config,
        discriminator=discriminator.config,
        generator=generator.config,
        coder=coder is not None and bool(coder.seen.sum()),
    )
    model = Model(config)
    model.backbone.load_state_dict(discriminator.backbone.state_dict())
    assert model.discriminator is not None and model.generator is not None
    model.discriminator.load_state_dict(discriminator.state_dict())
    model.generator.load_state_dict(generator.state_dict())
    if model.coder is not None and coder is not None:
        model.coder.load_state_dict(coder.state_dict())
    return model.eval()


def tuned_model(objective: Objective, base: Model | None) -> Model:
    """The averaged classifier as a model, with the players of its pre-training if there are any."""
    assert isinstance(objective, Supervised)
    classifier = objective.average
    parts = None if base is None else base.config
    config = ModelConfig(
        backbone=classifier.backbone.config,
        discriminator=parts.discriminator if parts else None,
        generator=parts.generator if parts else None,
        # a coder that was not told the classes cannot draw them
        coder=base is not None and base.coder is not None and base.coder.classes > 0,
        classes=classifier.head.out_features,
        angle_scale=classifier.scale,
        places=None if classifier.places is None else classifier.places.grid,
        own_encoder=bool(parts and (parts.discriminator or parts.generator)),
    )
    model = Model(config)
    assert model.classifier is not None
    model.classifier.load_state_dict(classifier.state_dict())
    if base is not None and model.encoder is not None:
        model.encoder.load_state_dict(base.painter_encoder.state_dict())
        for mine, theirs in (
            (model.discriminator, base.discriminator),
            (model.generator, base.generator),
            (model.coder, base.coder),
        ):
            if mine is not None and theirs is not None:
                mine.load_state_dict(theirs.state_dict())
    return model.eval()


def _classifier(config: RunConfig, base: Model | None, classes: int) -> Classifier:
    backbone = Backbone(config.backbone)
    if base is not None:
        backbone.load_state_dict(base.backbone.state_dict())
    settings = config.supervised
    scale = settings.angle_scale if settings.margin > 0 else 0.0
    size, patch = config.data.preprocess, config.backbone.patch
    places = (size.height // patch, size.width // patch) if settings.places else None
    return Classifier(backbone, classes, scale, places)


def _inventor(config: RunConfig, base: Model | None) -> Inventor | None:
    """The base's generator where the settings ask for its items.  Raises ConfigError."""
    fakes = config.objective == "semi" and config.semi.fake > 0
    if not fakes and config.supervised.generated <= 0:
        return None
    name = "semi.fake" if fakes else "supervised.generated"
    if base is None or base.generator is None:
        raise ConfigError(f"{name}: needs a generator: start --from a run of `discern pretrain`")
    if config.supervised.generated > 0 and (base.coder is None or not base.coder.classes):
        raise ConfigError(
            "supervised.generated: the model to start from cannot draw classes: "
            "pre-train with masked_gan.code above 0"
        )
    return Inventor(base.generator, base.coder)


def _players(config: RunConfig, base: Model | None) -> tuple[Discriminator, Generator]:
    discriminator = Discriminator(config.discriminator, Backbone(config.backbone))
    generator = Generator(config.generator, config.backbone)
    if base is not None:
        discriminator.backbone.load_state_dict(base.painter_encoder.state_dict())
        if base.discriminator is not None:
            discriminator.load_state_dict(base.discriminator.state_dict())
        if base.generator is not None and base.config.generator == config.generator:
            generator.load_state_dict(base.generator.state_dict())
    return discriminator, generator


def _augment(config: AugmentConfig, clip: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return augment(clip, config, rng)
