"""The default recipe: one that serves images and clips of any kind where labels are few.

`discern pretrain FOLDER --out runs/p --minutes 15`, then
`discern train FOLDER --from runs/p --out runs/t --minutes 5`.
What to expect on CIFAR-10 with 1,000 labels on two cores stands in benchmarks/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from discern import config as configuration
from discern.data.augment import SHARP, VIEW
from discern.data.loader import LoaderConfig
from discern.errors import UsageError
from discern.models.backbone import SIZES
from discern.models.generator import GeneratorConfig
from discern.objectives.masked_gan import MaskedGanConfig
from discern.recipes.uses import USES
from discern.train.loop import LoopConfig
from discern.train.optim import OptimConfig
from discern.train.run import wants_gpu
from discern.train.settings import DataConfig, RunConfig

PRETRAIN_MINUTES = 15.0
TRAIN_MINUTES = 5.0
PRETRAIN_BATCH = 64  # items; each is seen in several views
MAE_BATCH = 256  # items of one view: as many tokens a step
TRAIN_BATCH = 128
SEMI_BATCH = 192  # a third of it with labels
TEACHER_DECAY = 0.99  # an average over many steps knows less than the network that it teaches
# times as large, of small frames: of few of them a GPU does little but wait for its processor;
# large ones keep it busy, and fill its memory
GPU_PRETRAIN, GPU_TRAIN = 8, 4
GPU_PIXELS = 2048 * 32 * 32  # of a frame of all views in a batch that is made larger, at most
# below, and on clips, it was not seen to help: in the half minute of the demo it lost 20 points
SEMI_MINUTES, SEMI_STEPS = 2.0, 500
SEMI_TIMES = 2.0  # as much from scratch
MATRIX_FACTOR = 50.0  # where a stem is deep
# where views are not small parts as sharp as the whole, but few and zoomed: nothing else was
# measured with clips and other stems
ZOOMED: dict[str, Any] = {
    "views": 4,
    "opening": 0.2,
    "reconstruction_chance": 1.0,
    "reconstruction_share": 0.5,
}
# where a stem costs little: most tokens are hidden, instead of views cut to windows
DROPPED: dict[str, Any] = {"mask_ratio": 0.65, "clip_mask_ratio": 0.75, "window": 1.0}
DROP_PATH = 0.1  # while tuning
# while tuning what a pre-training began: turned half as fast, and with a head that was fitted
# first the teacher knows enough at once
OWN_MATRIX_FACTOR, OWN_SEMI_START = 25.0, 0.02
# public encoders are large and far along: the rates of MAE's pre-training and fine-tuning of ViT-B
PUBLIC_PRETRAIN_RATE = 1.5e-4
PUBLIC_TRAIN_RATE, PUBLIC_LAYER_DECAY = 5e-4, 0.75


def masked_gan() -> RunConfig:
    """Masked adversarial in-painting and view consistency (the default)."""
    loader = LoaderConfig(batch_size=PRETRAIN_BATCH)
    return RunConfig(
        objective="masked_gan",
        loop=LoopConfig(evaluations=10),
        optim=OptimConfig(rate=2e-3, matrix_factor=MATRIX_FACTOR),
        generator=GeneratorConfig(centred=True),
        view=replace(VIEW, scale=(1.0, 1.0)),
        data=DataConfig(loader=loader),
    )


def mae() -> RunConfig:
    """Masked reconstruction alone (He et al. 2022): the control without view and adversary."""
    weights = MaskedGanConfig(
        mask_ratio=0.75,
        clip_mask_ratio=0.9,
        window=1.0,
        opening=0.0,
        reconstruction=1.0,
        reconstruction_chance=1.0,
        reconstruction_share=1.0,
        view=0.0,
        patch_adversary=0.0,
        global_adversary=0.0,
        code=0.0,
        time_fakes=0.0,
    )
    base = masked_gan()
    data = replace(base.data, loader=LoaderConfig(batch_size=MAE_BATCH))
    return replace(base, masked_gan=weights, data=data)


def view() -> RunConfig:
    """View consistency alone, tokens dropped: no reconstruction, no adversary."""
    weights = replace(
        MaskedGanConfig(),
        reconstruction=0.0,
        patch_adversary=0.0,
        global_adversary=0.0,
        code=0.0,
        time_fakes=0.0,
    )
    return replace(masked_gan(), masked_gan=weights)


def gan() -> RunConfig:
    """Noise to image or clip: for samples, and for features with a contrastive term (ContraD)."""
    generator = replace(masked_gan().generator, width=192, depth=4, heads=3, noise=64)
    optim = OptimConfig(rate=4e-4, betas=(0.5, 0.99), weight_decay=0.01)
    discriminator = replace(masked_gan().discriminator, detach_global=False)
    config = replace(masked_gan(), objective="gan", optim=optim, view=VIEW)
    return replace(config, generator=generator, discriminator=discriminator)


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "masked_gan": masked_gan,
    "mae": mae,
    "view": view,
    "gan": gan,
}


def supervised() -> RunConfig:
    """Tuning with the strong small-ViT recipe."""
    return RunConfig(
        objective="supervised",
        loop=LoopConfig(evaluations=20),
        optim=OptimConfig(rate=2e-3, betas=(0.9, 0.999), matrix_factor=MATRIX_FACTOR),
        data=DataConfig(loader=LoaderConfig(batch_size=TRAIN_BATCH)),
    )


def semi() -> RunConfig:
    """Tuning that also learns from items without labels."""
    config = supervised()
    return replace(
        config,
        objective="semi",
        loop=replace(config.loop, ema_decay=TEACHER_DECAY),
        strong=SHARP,
        data=replace(config.data, loader=replace(config.data.loader, batch_size=SEMI_BATCH)),
    )


def hardened() -> RunConfig:
    """Tuning that holds against small malicious changes.

    Gentle augmentation, no smoothing and no mixing: each hides what the attack must find.
    """
    config = supervised()
    return replace(
        config,
        objective="hardened",
        supervised=replace(config.supervised, label_smoothing=0.0, mix_chance=0.0),
        strong=replace(config.strong, erase=0.0, rotate=0.0, shear=0.0),
    )


TUNING: dict[str, Callable[[], RunConfig]] = {
    "supervised": supervised,
    "semi": semi,
    "hardened": hardened,
}
NAMELESS = ("semi", "hardened")  # objectives that learn from items without labels too


def tuning(objective: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The recipe that tunes by `objective`, or by the one that `overrides` name."""
    chosen = configuration.override(TUNING[objective](), overrides).objective
    return TUNING.get(chosen, supervised)()


def for_device(config: RunConfig, overrides: Sequence[str] = ()) -> RunConfig:
    """The shaped configuration, with larger batches where it, with `overrides`, runs on a GPU."""
    wanted = configuration.override(config, overrides)
    if not wants_gpu(wanted.device):
        return config
    size, loader = wanted.data.preprocess, config.data.loader
    times = GPU_TRAIN if config.objective in TUNING else GPU_PRETRAIN
    seen = config.masked_gan
    whole = 1.0  # frames of an item
    if config.objective == "masked_gan":
        views = seen.views if seen.view > 0 else 1
        whole = views * (seen.window**2 if seen.opening == 0 else 1.0)
    most = min(times * loader.batch_size, int(GPU_PIXELS / (whole * size.height * size.width)))
    loader = replace(loader, batch_size=max(loader.batch_size, most))
    return replace(config, data=replace(config.data, loader=loader))


def for_stem(config: RunConfig, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration as it is where, by `overrides` too, the blocks are what costs and learns.

    There AdamW does for all, and pre-training drops tokens.
    """
    if configuration.override(config, overrides).backbone.stem == "deep":
        return config
    config = replace(config, optim=replace(config.optim, matrix_factor=0.0))
    if not _compares_views(config, overrides):
        return config
    config = zoomed(config, overrides)
    return replace(config, masked_gan=replace(config.masked_gan, **DROPPED))


def _compares_views(config: RunConfig, overrides: Sequence[str]) -> bool:
    wanted = configuration.override(config, overrides)
    return wanted.objective == "masked_gan" and wanted.masked_gan.view > 0


def zoomed(config: RunConfig, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration; where it compares views these are few, zoomed and, at the end, whole."""
    if not _compares_views(config, overrides):
        return config
    scale = VIEW.scale if config.view.scale == (1.0, 1.0) else config.view.scale
    terms = replace(config.masked_gan, **ZOOMED)
    return replace(config, view=replace(config.view, scale=scale), masked_gan=terms)


def learns_fast(name: str | None, size: str | None, overrides: Sequence[str]) -> bool:
    """Whether what a training starts with, from scratch, knows enough to teach within minutes.

    Raises UsageError for a recipe or size that does not exist, and ConfigError.
    """
    if size == "auto":  # which may choose one that does not
        return False
    chosen = sized(used_for(supervised(), name), size, overrides)
    return configuration.override(chosen, overrides).backbone.stem == "deep"


def from_public(config: RunConfig) -> RunConfig:
    """The configuration, slower where it starts from a public encoder."""
    if config.objective in TUNING:
        optim = replace(config.optim, rate=PUBLIC_TRAIN_RATE, layer_decay=PUBLIC_LAYER_DECAY)
    else:
        optim = replace(config.optim, rate=PUBLIC_PRETRAIN_RATE)
    return replace(config, optim=optim)


def from_own(config: RunConfig) -> RunConfig:
    """The tuning, as an encoder that knows its items wants it."""
    return replace(
        config,
        optim=replace(config.optim, matrix_factor=OWN_MATRIX_FACTOR),
        semi=replace(config.semi, start=OWN_SEMI_START),
    )


def recipe(name: str | None) -> RunConfig:
    """A recipe by its name.  Raises UsageError for one that does not exist."""
    if name is None:
        return masked_gan()
    if name in USES:
        return USES[name](masked_gan())
    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: there are {', '.join((*RECIPES, *USES))}")
    return RECIPES[name]()


def used_for(config: RunConfig, name: str | None) -> RunConfig:
    """A tuning fitted to a use.  Raises UsageError for one that does not exist."""
    if name is None:
        return config
    if name not in USES:
        raise UsageError(f"--recipe {name}: for tuning there are {', '.join(USES)}")
    return USES[name](config)


def sized(config: RunConfig, size: str | None, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration with another encoder size, as it serves its stem or that of `overrides`.

    Raises UsageError for one that does not exist.
    """
    if size is None or size == "auto":  # which is settled where the machine is known
        return config
    if size not in SIZES:
        raise UsageError(f"--size {size}: there are {', '.join(SIZES)}, and auto")
    shape = replace(config.backbone, **SIZES[size])
    return for_stem(replace(config, backbone=shape), overrides)
