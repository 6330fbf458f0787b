"""What a pre-training shows of itself on the way: how good its features are, and its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from discern.clip import Kind
from discern.data.augment import to_uint8
from discern.data.clipset import ClipSet
from discern.data.loader import as_batch
from discern.data.preprocess import even_frames
from discern.evaluate.probe import knn_accuracy
from discern.evaluate.samples import sample_quality
from discern.models.backbone import Backbone
from discern.models.generator import Generator
from discern.objectives.objective import Objective
from discern.predict import features, forward
from discern.recipes.prepare import PROBE_BANK, PROBE_QUERIES
from discern.train.settings import RunConfig

BLOCK = {Kind.IMAGE: "images", Kind.CLIP: "clips"}
MADE = {Kind.IMAGE: 256, Kind.CLIP: 64}  # samples of one look, and half of the real items
AT_ONCE = {Kind.IMAGE: 256, Kind.CLIP: 64}
SEED = 11  # of the noise: the same samples at every look

Look = Callable[[], dict[str, float]]


def together(looks: Sequence[Look]) -> Look:
    """All looks as one."""
    return lambda: {name: value for look in looks for name, value in look().items()}


class Probe:
    """k-NN accuracy of the averaged encoder: a bank from one half, queries from the other."""

    def __init__(self, objective: Objective, sets: dict[Kind, ClipSet], seed: int) -> None:
        self.objective = objective
        self.last: dict[str, float] = {}
        self.sets: dict[Kind, tuple[ClipSet, ClipSet]] = {}
        for kind, one in sets.items():
            known = np.flatnonzero(one.labels >= 0)
            known = np.random.default_rng([seed, 5]).permutation(known)
            queries = min(PROBE_QUERIES, len(known) // 3)
            if queries and len(set(one.labels[known].tolist())) > 1:
                bank = known[queries : queries + PROBE_BANK]
                self.sets[kind] = (one.subset(bank), one.subset(known[:queries]))

    def __call__(self) -> dict[str, float]:
        encoder = encoder_of(self.objective)
        for kind, (bank, query) in self.sets.items():
            device = next(encoder.parameters()).device
            found = [
                features(lambda clip: encoder(clip).pooled, one, device) for one in (bank, query)
            ]
            labels = [torch.from_numpy(one.labels) for one in (bank, query)]
            self.last[f"knn_{BLOCK[kind]}"] = knn_accuracy(found[0], labels[0], found[1], labels[1])
        return dict(self.last)


class Samples:
    """Distances of what the averaged generator draws from noise to real items, by its encoder.

    Nothing where nothing in the objective teaches it to draw from noise.
    """

    def __init__(self, objective: Objective, sets: dict[Kind, ClipSet], config: RunConfig) -> None:
        self.objective = objective
        self.last: dict[str, dict[str, float]] = {}  # images or clips -> distances
        self.sets: dict[Kind, ClipSet] = {}
        for kind, one in sets.items() if _draws(config) else ():
            count = min(2 * MADE[kind], len(one) // 2 * 2)
            if count >= 8:
                chosen = np.random.default_rng([config.seed, 12]).permutation(len(one))[:count]
                self.sets[kind] = one.subset(np.sort(chosen))

    def __call__(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind, items in self.sets.items():
            name = BLOCK[kind]
            self.last[name] = self._distances(kind, items)
            found |= {f"{key}_{name}": value for key, value in self.last[name].items()}
        return {name: value for name, value in found.items() if "error" not in name}

    @torch.no_grad()
    def _distances(self, kind: Kind, items: ClipSet) -> dict[str, float]:
        generator, encoder = self.objective.average[1], encoder_of(self.objective)  # type: ignore[index]
        assert isinstance(generator, Generator)
        preprocess = items.preprocess
        frames = 1 if kind is Kind.IMAGE else preprocess.frames
        noise = generator.draw_noise(len(items) // 2, torch.Generator().manual_seed(SEED))
        made = generator(noise, (frames, preprocess.height, preprocess.width))
        fake = to_uint8(made).permute(0, 2, 3, 4, 1).cpu().numpy()
        real = items.take(np.arange(len(items)))
        if kind is Kind.CLIP:
            real = real[:, even_frames(real.shape[1], frames)]
        # in no order of time or class, so that the halves are alike
        real = real[np.random.default_rng(SEED).permutation(len(real))]
        return sample_quality(lambda shown: _encoded(encoder, shown, AT_ONCE[kind]), real, fake)


def encoder_of(objective: Objective) -> Backbone:
    """The averaged encoder of a pre-training."""
    encoder = objective.average[0].backbone  # type: ignore[index,union-attr]
    assert isinstance(encoder, Backbone)
    return encoder


def _draws(config: RunConfig) -> bool:
    """Whether the generator learns to draw whole items from noise."""
    if config.objective == "gan":
        return True
    weights = config.masked_gan
    adversary = weights.patch_adversary > 0 or weights.global_adversary > 0
    drawn = adversary and weights.generator_adversary > 0 and weights.noise_share > 0
    return weights.code > 0 or drawn


def _encoded(encoder: Backbone, frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, T, H, W, 3] -> [N, D]"""
    parts = [frames[first : first + size] for first in range(0, len(frames), size)]
    numbers = [np.zeros(len(part), dtype=np.int64) for part in parts]
    batches = [as_batch(part, zero, zero) for part, zero in zip(parts, numbers, strict=True)]
    device = next(encoder.parameters()).device
    return forward(lambda clip: encoder(clip).pooled, batches, device)
