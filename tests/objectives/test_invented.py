"""Generated items in tuning: which ones give way, what labels they carry, the class of fakes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discern.clip import Batch
from discern.data.augment import STRONG, WEAK
from discern.models.backbone import Backbone
from discern.models.batch_norm import norms_of
from discern.models.classifier import Classifier
from discern.models.coder import Coder
from discern.objectives.invented import Inventor
from discern.objectives.semi import Semi, SemiConfig
from discern.objectives.supervised import Supervised, SupervisedConfig
from tests.tiny import backbone_config, batch, pixels, players, rng, view


def _inventor() -> Inventor:
    _, generator = players()
    coder = Coder(32, generator.config.noise)
    codes = torch.randn(60, generator.config.noise, generator=rng())
    label = torch.arange(60) % 3
    coder.learn_classes(codes + 3.0 * label.unsqueeze(1), label, 3)
    return Inventor(generator, coder)


def _tuning(**settings: float) -> Supervised:
    torch.manual_seed(0)
    classifier = Classifier(Backbone(backbone_config()), 3)
    return Supervised(SupervisedConfig(**settings), classifier, view(STRONG), _inventor())


def _semi(stem: str = "mlp", **settings: float) -> Semi:
    torch.manual_seed(0)
    classifier = Classifier(Backbone(backbone_config(stem=stem)), 3)
    config = SemiConfig(start=-1.0, **settings)
    return Semi(SupervisedConfig(), config, classifier, view(STRONG), view(WEAK), _inventor())


def test_a_share_of_the_batch_gives_way() -> None:
    items = batch(8)
    assert items.label is not None
    before = items.clip.clone(), items.label.clone()
    found = _tuning(generated=0.25)._with_generated(items, rng())
    assert found.label is not None
    changed = (found.clip != items.clip).flatten(1).any(dim=1)
    assert changed.sum() == 2 and torch.equal(found.label[~changed], items.label[~changed])
    assert torch.equal(items.clip, before[0]) and torch.equal(items.label, before[1])
    assert found.clip.dtype == torch.uint8
    assert _tuning()._with_generated(items, rng()) is items


@pytest.mark.parametrize("frames", [1, 4])
def test_items_of_a_class_are_alike(frames: int) -> None:
    inventor, like = _inventor(), pixels(40, frames)
    made = [inventor.of(torch.full((40,), c), like, rng(c)).float() for c in range(3)]
    centre = [one.mean(dim=0) for one in made]
    between = (centre[0] - centre[2]).square().mean()
    within = made[0].mean(dim=0) - inventor.of(torch.zeros(40).long(), like, rng(9)).float().mean(0)
    assert made[0].shape == like.shape
    assert between > 10 * within.square().mean()


def test_the_generator_learns_nothing() -> None:
    objective = _tuning(generated=0.5).train()
    objective.loss("classifier", batch(8), rng(), 0.5).total.backward()
    assert objective.inventor is not None
    assert all(p.grad is None for p in objective.inventor.parameters())
    assert objective.classifier.head.weight.grad is not None
    trained = {id(p) for p in objective.players["classifier"].parameters()}
    assert trained.isdisjoint(id(p) for p in objective.inventor.parameters())


def test_fakes_are_not_in_the_statistics() -> None:
    items = batch(12)
    assert items.label is not None
    mixed = Batch(clip=items.clip, label=items.label.where(torch.arange(12) < 4, -1))
    objective = _semi(stem="deep", fake=1.0).train()
    seen: list[tuple[int, bool]] = []
    logits = objective._logits

    def watched(clip: Tensor, progress: float, keep: Tensor | None = None) -> Tensor:
        seen.append((len(clip), norms_of(objective.classifier)[0].forgets))
        return logits(clip, progress, keep)

    objective._logits = watched  # type: ignore[method-assign]
    objective.loss("classifier", mixed, rng(), 0.5)
    assert seen == [(12, False), (2, True)]  # a quarter of the eight without labels


def test_fakes_get_a_class_of_their_own() -> None:
    items = batch(12)
    assert items.label is not None
    label = items.label.clone()
    label[4:] = -1
    mixed = Batch(clip=items.clip, label=label)
    plain, with_fakes = _semi(), _semi(fake=1.0)
    assert "fake" not in plain.loss("classifier", mixed, rng(), 0.5).parts
    objective = with_fakes.train()
    losses = objective.loss("classifier", mixed, rng(), 0.5)
    expected = sum(losses.parts[name] for name in ("cross_entropy", "agreement", "fake"))
    assert losses.total.item() == pytest.approx(float(expected), rel=1e-5)
    optimizer = torch.optim.Adam(objective.classifier.parameters(), lr=1e-2)
    first = losses.parts["fake"]
    for _ in range(30):
        optimizer.zero_grad()
        losses = objective.loss("classifier", mixed, rng(), 0.5)
        losses.total.backward()
        optimizer.step()
    assert losses.parts["fake"] < 0.5 * first
