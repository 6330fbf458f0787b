"""Tiny networks and made-up items for tests: a training step takes milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from discern.clip import Batch, Kind
from discern.data.augment import MASKED, STRONG, VIEW, WEAK, AugmentConfig, augment
from discern.data.clipset import ClipSet
from discern.data.items import Item, Source
from discern.data.limits import Limits
from discern.data.preprocess import PreprocessConfig
from discern.errors import BadItem
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.classifier import Classifier
from discern.models.discriminator import Discriminator, DiscriminatorConfig
from discern.models.generator import Generator, GeneratorConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.objectives.gan import Gan, GanConfig
from discern.objectives.masked_gan import MaskedGan, MaskedGanConfig
from discern.objectives.semi import Semi, SemiConfig
from discern.objectives.supervised import Supervised, SupervisedConfig

SIDE = 16  # pixels: 16 tokens an image
ENCODER = ["backbone.width=32", "backbone.depth=1", "backbone.heads=2"]  # settings of a whole run
EXACT = ["precision=fp32", "threads=1"]


def rng(seed: int = 0) -> torch.Generator:
    """A random generator of its own."""
    return torch.Generator().manual_seed(seed)


def backbone_config(**changes: Any) -> BackboneConfig:
    """Width 32, two blocks, a stem that does not leak."""
    small = {"width": 32, "depth": 2, "heads": 2, "patch": 4, "stem": "mlp"}
    return BackboneConfig(**(small | changes))


def generator_config(**changes: Any) -> GeneratorConfig:
    """Width 24, one block."""
    return GeneratorConfig(**({"width": 24, "depth": 1, "heads": 2, "noise": 8} | changes))


def players(
    seed: int = 0, detach_global: bool = True, detach_patch: bool = False, **changes: Any
) -> tuple[Discriminator, Generator]:
    """A discriminator and a generator with weights drawn from the seed."""
    torch.manual_seed(seed)
    config = DiscriminatorConfig(hidden=16, detach_global=detach_global, detach_patch=detach_patch)
    backbone = Backbone(backbone_config(**changes))
    return Discriminator(config, backbone), Generator(generator_config(), backbone.config)


def view(config: AugmentConfig = VIEW) -> Any:
    """An augmentation as objectives want it."""
    return lambda clip, rng: augment(clip, config, rng)


def masked_gan(
    seed: int = 0, detach_patch: bool = False, stem: str = "mlp", **settings: Any
) -> MaskedGan:
    """A MaskedGan of two views whose every term is on in every step."""
    discriminator, generator = players(seed, detach_patch=detach_patch, stem=stem)
    always = {"adversary_start": -1.0, "adversary_chance": 1.0, "code_chance": 1.0, "opening": 0.0}
    always |= {"reconstruction_chance": 1.0, "reconstruction_share": 0.5}
    always |= {"mask_ratio": 0.65, "clip_mask_ratio": 0.75, "window": 1.0}
    config = MaskedGanConfig(**(always | {"views": 2, "projection": 16} | settings))
    return MaskedGan(config, discriminator, generator, view(), view(MASKED))


def gan(seed: int = 0, stem: str = "mlp", **settings: Any) -> Gan:
    """A Gan without augmentation of what is judged."""
    discriminator, generator = players(seed, stem=stem)
    plain = view(AugmentConfig(flip=0.0))
    return Gan(
        GanConfig(**({"projection": 16} | settings)), discriminator, generator, view(), plain
    )


def supervised(seed: int = 0, classes: int = 3, **settings: Any) -> Supervised:
    """A classifier and its loss."""
    torch.manual_seed(seed)
    changes = {key: settings.pop(key) for key in ("drop_path",) if key in settings}
    classifier = Classifier(Backbone(backbone_config(**changes)), classes)
    return Supervised(SupervisedConfig(**settings), classifier, view(STRONG))


def semi(
    seed: int = 0,
    classes: int = 3,
    drop_path: float = 0.0,
    hide: float = 0.0,
    stem: str = "mlp",
    **settings: Any,
) -> Semi:
    """A classifier and its loss, with a teacher from the first step on."""
    torch.manual_seed(seed)
    classifier = Classifier(Backbone(backbone_config(drop_path=drop_path, stem=stem)), classes)
    config = SemiConfig(**({"start": -1.0} | settings))
    loss = SupervisedConfig(hide=hide)
    return Semi(loss, config, classifier, view(STRONG), view(WEAK))


def deep(seed: int = 0) -> MaskedGan:
    """A MaskedGan whose encoder has statistics of its own."""
    return masked_gan(seed, stem="deep", window=0.5)


OBJECTIVES = {
    "masked_gan": masked_gan,
    "deep": deep,
    "gan": gan,
    "supervised": supervised,
    "semi": semi,
}


def a_model(folder: Path, seed: int = 0, sharpness: float = 30.0, **changes: Any) -> Path:
    """A bundle of classes a, b and c, for items of 16 pixels, with answers that differ."""
    torch.manual_seed(seed)
    shape = backbone_config(**{"depth": 1, "stem": "linear", **changes})
    model = Model(ModelConfig(backbone=shape, classes=3)).eval()
    assert model.classifier is not None
    model.classifier.head.weight.data *= sharpness
    size = {"height": SIDE, "width": SIDE, "frames": 4, "stored_frames": 4}
    save_bundle(folder, model, labels=["a", "b", "c"], preprocess=size, made={})
    return folder


def pixels(count: int, frames: int = 1, seed: int = 0, side: int = SIDE) -> Tensor:
    """Smooth random clips.  -> uint8 [B, 3, T, side, side]"""
    coarse = torch.rand(count, 3, frames, 4, 4, generator=rng(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(frames, side, side), mode="trilinear")
    return (fine * 255).to(torch.uint8)


def batch(count: int = 8, frames: int = 1, seed: int = 0, classes: int = 3) -> Batch:
    """Random items with labels."""
    label = torch.randint(classes, (count,), generator=rng(seed + 1))
    return Batch(clip=pixels(count, frames, seed), label=label, index=torch.arange(count))


def png(frame: np.ndarray) -> bytes:
    """A frame as the bytes of a file."""
    file = BytesIO()
    Image.fromarray(frame).save(file, format="PNG", compress_level=1)
    return file.getvalue()


class MadeUp(Source):
    """A source in memory: item i is grey of value i; a clip counts its frames in red."""

    def __init__(self, images: int = 0, clips: int = 0, frames: int = 6, classes: int = 2) -> None:
        super().__init__("made up", Limits())
        kinds = [Kind.IMAGE] * images + [Kind.CLIP] * clips
        self.items = [
            Item(key=f"{kind}-{number}", kind=kind, labels=(f"class {number % classes}",))
            for number, kind in enumerate(kinds)
        ]
        self.frames = frames
        self.broken: set[int] = set()
        self.reads: list[int] = []

    def read(self, index: int) -> bytes | list[bytes]:
        self.reads.append(index)
        if index in self.broken:
            raise BadItem("broken for a test")
        frame = np.full((8, 8, 3), index, dtype=np.uint8)
        if self.items[index].kind is Kind.IMAGE:
            return png(frame)
        return [png(_red(frame, 10 * number)) for number in range(self.frames)]

    def clip_set(self, kind: Kind, indices: Sequence[int] | None = None) -> ClipSet:
        """All items of a kind, not yet decoded."""
        if indices is None:
            indices = [i for i, item in enumerate(self.items) if item.kind is kind]
        names = self.classes
        labels = np.array([names.index(self.items[i].labels[0]) for i in indices])
        preprocess = PreprocessConfig(height=8, width=8, frames=4, stored_frames=6)
        return ClipSet(self, indices, labels, kind, preprocess)


def _red(frame: np.ndarray, value: int) -> np.ndarray:
    frame = frame.copy()
    frame[..., 0] = value
    return frame


def random_sets(
    images: int = 20, clips: int = 0, side: int = SIDE, frames: int = 4
) -> dict[Kind, ClipSet]:
    """Sets of random pixels in memory."""
    source = MadeUp(images, clips, classes=3)
    found = {}
    for kind, count, stored in ((Kind.IMAGE, images, 1), (Kind.CLIP, clips, frames + 2)):
        if count:
            chosen = source.clip_set(kind)
            chosen.preprocess = PreprocessConfig(
                height=side, width=side, frames=frames, stored_frames=frames + 2
            )
            chosen.memory = pixels(count, stored, side=side).permute(0, 2, 3, 4, 1).numpy()
            found[kind] = chosen
    return found


def two_lights() -> dict[Kind, ClipSet]:
    """Dark items of class 0 and bright ones of class 1, images and clips."""
    sets = random_sets(images=30, clips=12)
    for items in sets.values():
        items.labels = np.arange(len(items)) % 2
        assert items.memory is not None
        light = 180 * items.labels.reshape(-1, 1, 1, 1, 1)
        items.memory = (items.memory // 4 + light).astype(np.uint8)
    return sets
