"""The configuration of a whole run: everything that decides its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from discern.data.augment import ADVERSARY, MASKED, STRONG, VIEW, WEAK, AugmentConfig
from discern.data.loader import LoaderConfig
from discern.data.preprocess import PreprocessConfig
from discern.models.backbone import BackboneConfig
from discern.models.discriminator import DiscriminatorConfig
from discern.models.generator import GeneratorConfig
from discern.objectives.gan import GanConfig
from discern.objectives.hardened import HardenConfig
from discern.objectives.masked_gan import MaskedGanConfig
from discern.objectives.semi import SemiConfig
from discern.objectives.supervised import SupervisedConfig
from discern.security.guard import GuardConfig
from discern.train.loop import LoopConfig
from discern.train.optim import OptimConfig


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
