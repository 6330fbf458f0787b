"""Hardened tuning: the divergence by hand, changes within bounds and worse than chance ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from discern.clip import Batch
from discern.data.augment import PLAIN
from discern.models.backbone import Backbone
from discern.models.classifier import Classifier
from discern.objectives.hardened import HardenConfig, Hardened, divergence, worst_change
from discern.objectives.supervised import SupervisedConfig
from tests.tiny import backbone_config, batch, pixels, rng, view


def _hardened(**settings: Any) -> Hardened:
    torch.manual_seed(0)
    classifier = Classifier(Backbone(backbone_config()), 3)
    plain = SupervisedConfig(label_smoothing=0.0, mix_chance=0.0)
    config = HardenConfig(**({"grow": 0.0} | settings))
    return Hardened(plain, config, classifier, view(PLAIN)).train()


def test_the_divergence_is_kl() -> None:
    one, other = torch.randn(4, 3, generator=rng()), torch.randn(4, 3, generator=rng(1))
    p, q = one.softmax(1), other.softmax(1)
    torch.testing.assert_close(divergence(one, other), (p * (p / q).log()).sum(1).mean())
    assert divergence(one, one).abs().item() < 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 5])
def test_changes_are_small_and_lead_up(norm: str, steps: int) -> None:
    config = HardenConfig(norm=norm, attack_steps=steps)  # type: ignore[arg-type]
    clip = torch.rand(4, 3, 2, 8, 8, generator=rng()) * 2 - 1
    slope = torch.randn(4, 3, 2, 8, 8, generator=rng(1))
    moved = worst_change(lambda x: (x * slope).sum(), clip, 0.1, config, rng(2))
    change = moved - clip
    assert moved.abs().max() <= 1 and not moved.requires_grad
    if norm == "linf":
        # one step starts from noise of twice the size, and is not cut
        assert change.abs().max() <= (0.3 if steps == 1 else 0.1) + 1e-6
    else:
        assert change.flatten(1).norm(dim=1).max() <= (0.15 if steps == 1 else 0.1) + 1e-5
    assert (change * slope).flatten(1).sum(1).min() > 0
    assert worst_change(lambda x: (x * slope).sum(), clip, 0.0, config, rng(2)) is clip


def test_the_worst_change_is_worse_than_noise() -> None:
    objective = _hardened(attack_steps=5)
    clip = objective.view(pixels(8), rng())
    classifier = objective.classifier.eval()
    answer = classifier(clip).detach()
    worst = objective._worst(clip, lambda x: divergence(answer, classifier(x)), 0.2, rng())
    noise = (clip + 0.2 * torch.randn(clip.shape, generator=rng()).sign()).clamp(-1, 1)
    assert (worst - clip).abs().max() <= 0.2 + 1e-6
    assert divergence(answer, classifier(worst)) > 2 * divergence(answer, classifier(noise))


def test_items_without_labels_teach_smoothness_alone() -> None:
    items = batch(9)
    assert items.label is not None
    label = items.label.clone()
    label[3:] = -1
    objective = _hardened()
    found = objective.loss("classifier", Batch(clip=items.clip, label=label), rng(), 0.5)
    expected = found.parts["cross_entropy"] + objective.harden.beta * found.parts["apart"]
    assert found.total.item() == pytest.approx(float(expected), rel=1e-5)
    alone = Batch(clip=items.clip[:3], label=label[:3])
    first = _hardened().loss("classifier", alone, rng(), 0.5)
    assert first.parts["cross_entropy"] == pytest.approx(
        found.parts["cross_entropy"].item(), rel=1e-4
    )
    found.total.backward()
    assert objective.classifier.training
    assert all(p.grad is None for p in objective.average.parameters())


def test_the_worst_change_alone_is_what_is_learned_from() -> None:
    items = batch(9)
    assert items.label is not None
    label = items.label.clone()
    label[6:] = -1
    mixed = Batch(clip=items.clip, label=label)
    objective = _hardened(method="worst", eps=0.1, attack_steps=5)
    seen: list[torch.Tensor] = []
    objective.classifier.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    found = objective.loss("classifier", mixed, rng(), 0.5)
    clean = objective.view(items.clip, rng())
    logits = objective.classifier(seen[-1]).float()
    target = torch.nn.functional.one_hot(label[:6], 3).float()
    own = objective.classifier.eval()(clean[6:]).softmax(dim=1)
    expected = torch.nn.functional.cross_entropy(logits, torch.cat([target, own]))
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-4)
    size = (seen[-2] - clean).abs().max().item()  # 0.2 in a model's own pixels
    assert 0.15 < size <= 0.2 + 1e-6
    easy = torch.nn.functional.cross_entropy(objective.classifier(clean[:6]), label[:6])
    assert found.total.item() > easy.item()


@pytest.mark.parametrize("method", ["trades", "worst"])
def test_training_makes_answers_hold(method: str) -> None:
    items = batch(24)
    objectives = {
        "hard": _hardened(eps=0.1, beta=6.0, method=method),
        "plain": _hardened(eps=0.1, beta=0.0),
    }
    apart = {}
    for name, objective in objectives.items():
        optimizer = torch.optim.Adam(objective.classifier.parameters(), lr=3e-3)
        for step in range(40):
            optimizer.zero_grad()
            objective.loss("classifier", items, rng(step), 0.5).total.backward()
            optimizer.step()
        objective.harden = HardenConfig(grow=0.0, eps=0.1)
        apart[name] = objective.loss("classifier", items, rng(99), 0.5).parts["apart"]
    assert apart["hard"] < 0.5 * apart["plain"]
