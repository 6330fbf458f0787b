"""A whole run: its configuration, the objective it names, and one training to its outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch._functorch import config as graphs

from discern.clip import Kind
from discern.data.augment import (
    ADVERSARY,
    MASKED,
    STRONG,
    VIEW,
    WEAK,
    AugmentConfig,
    augment,
    gentle,
)
from discern.data.clipset import ClipSet
from discern.data.loader import Loader, LoaderConfig
from discern.data.mixing import MixedLoader
from discern.data.preprocess import PreprocessConfig
from discern.errors import ConfigError
from discern.files import write_json
from discern.heap import keep_freed_memory
from discern.log import Run
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.blocks import Block
from discern.models.classifier import Classifier
from discern.models.discriminator import Discriminator, DiscriminatorConfig
from discern.models.generator import Generator, GeneratorConfig
from discern.models.model import Model, ModelConfig
from discern.objectives.gan import Gan, GanConfig
from discern.objectives.hardened import HardenConfig, Hardened
from discern.objectives.invented import Inventor
from discern.objectives.masked_gan import MaskedGan, MaskedGanConfig
from discern.objectives.objective import Objective
from discern.objectives.semi import Semi, SemiConfig
from discern.objectives.supervised import Supervised, SupervisedConfig
from discern.scale.divided import Divided
from discern.scale.precision import autocast, choose_precision
from discern.scale.ranks import Followed, current
from discern.security.guard import GuardConfig
from discern.threads import choose_decoders, choose_threads, set_threads
from discern.train.checkpoint import Saver
from discern.train.loop import Evaluate, LoopConfig, Outcome, fit
from discern.train.optim import OptimConfig
from discern.train.signals import StopSignals
from discern.train.together import TogetherSaver


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How data is cut, fitted and served."""

    preprocess: PreprocessConfig = PreprocessConfig()
    loader: LoaderConfig = LoaderConfig()
    val: float = 0.1  # share that is cut for validation where the source has none
    test: float = 0.2  # share that is cut for the test where the source has none
    split_seed: int = 0  # apart from the run's seed: all runs on a source share one test split
    group_by: str | None = None  # pattern on an item's key; items of one group stay together
    allowed_bad: float = 0.01  # share of items that may be unreadable


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's numbers.  Each part's defaults stand beside its class."""

    objective: Literal["masked_gan", "gan", "supervised", "semi", "hardened"]
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"  # bf16, fp32, or by a timing probe
    threads: int | None = None  # None: as many as cores are free
    backbone: BackboneConfig = BackboneConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    generator: GeneratorConfig = GeneratorConfig()
    masked_gan: MaskedGanConfig = MaskedGanConfig()
    gan: GanConfig = GanConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    semi: SemiConfig = SemiConfig()
    harden: HardenConfig = HardenConfig()
    view: AugmentConfig = VIEW
    masked: AugmentConfig = MASKED
    alike: AugmentConfig = ADVERSARY
    strong: AugmentConfig = STRONG
    weak: AugmentConfig = WEAK
    optim: OptimConfig = OptimConfig()
    loop: LoopConfig = LoopConfig()
    guard: GuardConfig = GuardConfig()
    data: DataConfig = field(default_factory=DataConfig)


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


def train_objective(
    objective: Objective,
    sets: dict[Kind, ClipSet],
    config: RunConfig,
    run: Run,
    *,
    evaluate: Evaluate | None,
    report: Callable[[float, str], None],
    unlabelled: dict[Kind, ClipSet] | None = None,
) -> tuple[Outcome, str | None]:
    """Train to the end of the budget, from the run's checkpoint if it has one.

    `unlabelled` items come along in every batch.

    Returns the outcome, and the name of the signal that ended it, if one did.
    """
    if config.loop.minutes is None and config.loop.steps is None:
        raise ConfigError("no budget: give --minutes or --steps")
    device = choose_device(config.device)
    ranks = current()
    threads, precision = ranks.from_leader(
        _machine(run.out, config, device) if ranks.leads else None
    )
    set_threads(threads)
    keep_freed_memory()
    objective.to(device).train()
    divided = Divided(objective, ranks) if config.loop.divide and ranks.world > 1 else None
    saver: Saver | TogetherSaver = (
        Saver(run.checkpoints, background=True)
        if divided is None
        else TogetherSaver(run.checkpoints, ranks, objective)
    )
    saved = saver.load()
    run.rewind(saved[1]["step"] if saved else -1)
    loading = config.data.loader
    if loading.workers is None and device.type == "cuda":  # the cores have nothing else to do
        loading = replace(loading, workers=choose_decoders(ranks.world))
        config = replace(config, data=replace(config.data, loader=loading))
    loader = build_loader(sets, config, unlabelled, (ranks.rank, ranks.world))
    for module in objective.modules():
        if isinstance(module, Backbone):
            module.recompute = config.loop.recompute
    if config.loop.compile and device.type == "cuda":
        compile_blocks(objective)

    def judge() -> dict[str, float]:  # at the speed of training: what it takes is out of the budget
        assert evaluate is not None
        with autocast(precision, device):
            return evaluate()

    with StopSignals() as signals:
        outcome = fit(
            objective,
            loader,
            config.loop,
            config.optim,
            seed=config.seed,
            journal=run,
            keeper=saver,
            device=device,
            autocast=lambda: autocast(precision, device),
            stop_requested=lambda: signals.requested,
            evaluate=None if evaluate is None else judge,
            report=report,
            ranks=ranks,
        )
        saver.wait()
    if divided is not None:
        divided.gather()
    if not ranks.leads:
        raise Followed("the leader has the model")
    # of several ranks any may have got the signal
    stopped = "SIGTERM" if outcome.stopped_by == "signal" else None
    return outcome, signals.name or stopped


def compile_blocks(network: nn.Module) -> None:
    """The blocks that learn, each by itself: all of them share what is compiled for one.

    The adversary's step reads twice what they keep for the gradient: no memory of it may be used
    again in between.
    """
    graphs.donated_buffer = False
    for module in network.modules():
        if isinstance(module, Block) and module.norm1.weight.requires_grad:
            module.compile()


def wants_gpu(wanted: str) -> bool:
    """`auto` is the GPU where there is one."""
    return torch.cuda.is_available() if wanted == "auto" else wanted.startswith("cuda")


def choose_device(wanted: str) -> torch.device:
    """The device that a setting names."""
    if wanted == "auto":
        wanted = "cuda" if wants_gpu(wanted) else "cpu"
    device = torch.device(wanted)
    return current().device if device.type == "cuda" and current().world > 1 else device


def budgeted(
    loop: LoopConfig, minutes: float | None, steps: int | None, default: float
) -> LoopConfig:
    """The budget that the user gave; `default` minutes when none."""
    if minutes is None and steps is None and loop.minutes is None and loop.steps is None:
        return replace(loop, minutes=default)
    return replace(
        loop,
        minutes=minutes if minutes is not None else loop.minutes,
        steps=steps if steps is not None else loop.steps,
    )


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


def build_loader(
    sets: dict[Kind, ClipSet],
    config: RunConfig,
    unlabelled: dict[Kind, ClipSet] | None = None,
    part: tuple[int, int] = (0, 1),
) -> Loader | MixedLoader:
    """The batches of a run, in the order that its seed gives."""
    cost = _clip_cost(config)
    if unlabelled:
        return MixedLoader(
            sets,
            unlabelled,
            config.data.loader,
            ratio=config.semi.unlabelled_ratio,
            seed=config.seed,
            clip_tokens_per_image=cost,
            part=part,
        )
    loader = config.data.loader
    return Loader(sets, loader, seed=config.seed, clip_tokens_per_image=cost, part=part)


def _clip_cost(config: RunConfig) -> int:
    """Tokens of a clip against those of an image, as the encoder sees them in training."""
    cost = float(-(-config.data.preprocess.frames // config.backbone.tubelet))
    if config.objective == "masked_gan":
        weights = config.masked_gan
        cost *= (1 - weights.clip_mask_ratio) / max(1e-6, 1 - weights.mask_ratio)
    return max(1, round(cost))


def _machine(out: Path, config: RunConfig, device: torch.device) -> tuple[int, str]:
    """Threads and precision: chosen once and kept over resumes, since both change the last bits."""
    path = out / "machine.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return int(kept["threads"]), str(kept["precision"])
    threads = choose_threads(config.threads)
    set_threads(threads)
    precision = str(choose_precision(config.precision, device))
    write_json(path, {"threads": threads, "precision": precision, "device": str(device)})
    return threads, precision


def _augment(config: AugmentConfig, clip: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return augment(clip, config, rng)
