"""Tuning: targets of mixed items, the loss by hand, a frozen encoder."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Batch
from discern.models.backbone import Backbone
from discern.models.classifier import AngleHead, Classifier
from discern.objectives.supervised import (
    Supervised,
    SupervisedConfig,
    _beta,
    _span,
    with_margin,
)
from tests.tiny import backbone_config, batch, rng, supervised

MIX = {"mixup": {"cutmix": 0.0, "mixup": 0.8}, "cutmix": {"mixup": 0.0, "cutmix": 1.0}}


def _flat(count: int = 6, side: int = 16) -> tuple[Tensor, Tensor]:
    """Item i is of value i all over, and of class i."""
    values = torch.arange(float(count)).view(-1, 1, 1, 1, 1)
    return values.expand(count, 3, 2, side, side).contiguous(), torch.eye(count)


def _plain(clip: Tensor, r: torch.Generator) -> Tensor:
    return clip.float() / 127.5 - 1


@pytest.mark.parametrize("kind", MIX)
def test_targets_sum_to_one_and_name_at_most_two(kind: str) -> None:
    objective = supervised(mix_chance=1.0, **MIX[kind])
    mixed = 0
    for seed in range(50):
        clip, target = objective._mix(*_flat(), rng(seed))
        torch.testing.assert_close(target.sum(1), torch.ones(6))
        assert target.min() >= 0 and (target > 0).sum(1).max() <= 2
        mixed += int((target.amax(1) < 1).any())
        assert clip.shape == (6, 3, 2, 16, 16)
    assert mixed > 40


def test_mixup_blends_pixels_as_it_blends_targets() -> None:
    objective = supervised(mix_chance=1.0, **MIX["mixup"])
    for seed in range(30):
        clip, target = objective._mix(*_flat(), rng(seed))
        expected = (target * torch.arange(6.0)).sum(1)
        torch.testing.assert_close(clip, expected.view(-1, 1, 1, 1, 1).expand_as(clip))


def test_cutmix_share_is_the_share_of_pixels_that_changed() -> None:
    objective = supervised(mix_chance=1.0, **MIX["cutmix"])
    shares = []
    for seed in range(60):
        plain, classes = _flat()
        clip, target = objective._mix(plain, classes, rng(seed))
        assert torch.equal(plain, _flat()[0])  # the input is as it was
        for item in range(6):
            for label in range(6):
                share = (clip[item] == label).float().mean().item()
                assert target[item, label].item() == pytest.approx(share, abs=1e-6)
            changed = clip[item] != item
            assert torch.equal(changed, changed[:1, :1].expand_as(changed))  # in all frames
            rows, columns = changed[0, 0].any(1), changed[0, 0].any(0)
            assert torch.equal(changed[0, 0], rows.unsqueeze(1) & columns)  # one rectangle
        shares.append(target.diagonal().min().item())
    assert max(shares) > 0.9 and min(shares) < 0.35


def test_chance_of_mixing() -> None:
    plain, classes = _flat()
    for chance, low, high in ((0.0, 0, 0), (0.5, 70, 130), (1.0, 180, 200)):
        objective = supervised(mix_chance=chance)
        mixed = sum(
            not torch.equal(objective._mix(plain, classes, rng(seed))[1], classes)
            for seed in range(200)
        )
        assert low <= mixed <= high


def test_half_of_the_mixing_is_cutmix() -> None:
    objective = supervised(mix_chance=1.0, mixup=1.0, cutmix=1.0)
    cut = 0
    for seed in range(200):
        clip, target = objective._mix(*_flat(), rng(seed))
        cut += bool((clip == clip.round()).all())
    assert 80 <= cut <= 130


@pytest.mark.parametrize("settings", [{"mixup": 0.0, "cutmix": 0.0}, {}])
def test_nothing_to_mix_with(settings: dict[str, float]) -> None:
    plain, classes = _flat(1)
    for seed in range(5):
        clip, target = supervised(mix_chance=1.0, **settings)._mix(plain, classes, rng(seed))
        assert torch.equal(clip, plain) and torch.equal(target, classes)
    if settings:
        plain, classes = _flat()
        clip, target = supervised(mix_chance=1.0, **settings)._mix(plain, classes, rng())
        assert torch.equal(clip, plain) and torch.equal(target, classes)


def _loss(objective: Supervised, items: Batch, progress: float = 0.5) -> Any:
    return objective.loss("classifier", items, rng(), progress)


def test_loss_by_hand() -> None:
    objective = supervised(mix_chance=0.0, label_smoothing=0.1).eval()
    objective.view = _plain
    items = batch(8)
    assert items.label is not None
    losses = _loss(objective, items)
    logits = objective.classifier(_plain(items.clip, rng()))
    smooth = F.one_hot(items.label, 3) * 0.9 + 0.1 / 3
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean().item()
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)
    right = (logits.argmax(1) == items.label).float().mean().item()
    assert losses.parts == {"cross_entropy": losses.total.item(), "train_accuracy": right}


def test_a_frozen_encoder_learns_later() -> None:
    objective = supervised(freeze_encoder=0.3).train()
    for progress, learns in ((0.0, False), (0.29, False), (0.3, True), (1.0, True)):
        objective.zero_grad(set_to_none=True)
        _loss(objective, batch(8), progress).total.backward()
        assert objective.classifier.head.weight.grad is not None
        found = [p.grad is not None for p in objective.classifier.backbone.parameters()]
        assert all(found) is learns and any(found) is learns


def _spied(objective: Supervised, monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """Which tokens the classifier's encoder is told to see, call by call."""
    told: list[Tensor | None] = []
    backbone = objective.classifier.backbone
    plain = backbone.forward

    def forward(clip: Tensor, keep: Tensor | None = None) -> Any:
        told.append(keep)
        return plain(clip, keep)

    monkeypatch.setattr(backbone, "forward", forward)
    return told


@pytest.mark.parametrize("frames", [1, 4])
def test_hidden_tokens_are_not_computed_until_near_the_end(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = supervised(hide=0.5, hide_until=0.8).train()
    told = _spied(objective, monkeypatch)
    items = batch(6, frames)
    for progress in (0.0, 0.79, 0.8, 1.0):
        _loss(objective, items, progress)
    grid = objective.classifier.backbone.grid(items.clip)
    for keep in told[:2]:
        assert keep is not None and keep.shape == (6, math.prod(grid) // 2)
        assert len({tuple(sorted(one)) for one in keep.tolist()}) > 1  # each item its own
        if grid[0] > 1:  # what a clip hides, it hides in all frames
            places = keep.view(6, grid[0], -1) % (grid[1] * grid[2])
            assert torch.equal(places, places[:, :1].expand_as(places))
    assert told[2:] == [None, None]


def test_a_frozen_encoder_hides_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = supervised(hide=0.25, freeze_encoder=0.5).train()
    told = _spied(objective, monkeypatch)
    for progress in (0.1, 0.6):
        _loss(objective, batch(6), progress)
    assert [keep is not None and keep.shape for keep in told] == [(6, 12), (6, 12)]


def test_unlabelled_items_are_refused() -> None:
    with pytest.raises(AssertionError):
        _loss(supervised(), Batch(clip=batch(2).clip))
    with pytest.raises(RuntimeError):
        _loss(supervised(), Batch(clip=batch(2).clip, label=torch.tensor([0, -1])))


def test_beta_draws() -> None:
    for alpha in (0.2, 1.0, 4.0):
        draws = torch.tensor([_beta(alpha, rng(seed)) for seed in range(1500)])
        assert draws.min() >= 0 and draws.max() <= 1
        assert draws.mean().item() == pytest.approx(0.5, abs=0.04)
        expected = 1 / (4 * (2 * alpha + 1))  # the variance of Beta(alpha, alpha)
        assert draws.var().item() == pytest.approx(expected, rel=0.12)


def test_spans_stay_inside() -> None:
    spans = [_span(16, 0.5, rng(seed)) for seed in range(200)]
    assert all(0 <= first <= last <= 16 and last - first <= 8 for first, last in spans)
    assert max(last - first for first, last in spans) == 8
    assert min(first for first, _ in spans) == 0 and max(last for _, last in spans) == 16


def test_a_margin_adds_its_angle_to_the_right_class_alone() -> None:
    angles = torch.tensor([[0.4, 1.1, 2.0], [3.0, 0.2, 1.0]])
    target = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = with_margin(8 * angles.cos(), target, margin=0.5, scale=8.0)
    wanted = angles.clone()
    wanted[0, 0], wanted[1, 0] = 0.9, torch.pi  # no further than opposite
    torch.testing.assert_close(found, 8 * wanted.cos(), atol=2e-3, rtol=0)
    halves = with_margin(8 * angles.cos(), 0.5 * target, margin=0.5, scale=8.0)
    assert halves[0, 0].item() == pytest.approx(8 * torch.tensor(0.65).cos().item(), abs=2e-3)
    plain = torch.randn(2, 3)
    assert with_margin(plain, target, 0.0, 8.0) is plain
    assert with_margin(plain, target, 0.5, 0.0) is plain  # a linear head has no angles


def test_the_slope_of_a_margin_is_a_number_even_where_angles_are_nought() -> None:
    logits = torch.tensor([[8.0, -8.0]], requires_grad=True)
    with_margin(logits, torch.tensor([[1.0, 0.0]]), 0.5, 8.0).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_a_head_of_angles_ignores_lengths() -> None:
    torch.manual_seed(0)
    head = AngleHead(5, 3, scale=16.0)
    features = torch.randn(4, 5)
    found = head(features)
    by_hand = F.cosine_similarity(features[:, None], head.weight[None], dim=2) * 16
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(head(7 * features), found)


def test_a_margin_makes_the_loss_larger_and_training_makes_it_small() -> None:
    items = batch(classes=4)
    losses = {}
    for margin in (0.0, 0.5):
        torch.manual_seed(0)
        classifier = Classifier(Backbone(backbone_config()), 4, scale=16.0)
        plain = SupervisedConfig(mix_chance=0.0, label_smoothing=0.0, margin=margin)
        objective = Supervised(plain, classifier, _plain)
        losses[margin] = objective.loss("classifier", items, rng(), 1.0).total.item()
    assert losses[0.5] > losses[0.0] + 0.5
    optimizer = torch.optim.AdamW(objective.classifier.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = objective.loss("classifier", items, rng(), 1.0).total
        loss.backward()
        optimizer.step()
    assert loss.item() < losses[0.5] / 3


@pytest.mark.parametrize(
    ("ease", "passes", "low", "high"),
    [(0.0, 0.0, 200, 200), (4.0, 0.0, 0, 0), (4.0, 1.0, 30, 70), (4.0, 4.0, 200, 200)]
    + [(4.0, math.inf, 200, 200)],
)
def test_augmentation_grows_with_the_passes(
    ease: float, passes: float, low: int, high: int
) -> None:
    """Gentle views carry zeros and strong ones ones; nothing else differs."""
    said: list[float] = []
    torch.manual_seed(0)
    objective = Supervised(
        SupervisedConfig(ease=ease, mix_chance=1.0),
        Classifier(Backbone(backbone_config()), 3),
        lambda clip, _: torch.ones_like(clip, dtype=torch.float32),
        gentle=lambda clip, _: torch.zeros_like(clip, dtype=torch.float32),
    )

    assert not objective.as_used(batch(2).clip, rng()).any()  # use is like the gentle ones

    def judged(logits: Tensor, target: Tensor) -> Any:
        said.append(float(target.amax(1).min()))
        return None

    seen: list[float] = []
    objective._logits = lambda clip, *_: seen.append(float(clip.mean()))  # type: ignore[assignment,func-returns-value,return-value]
    objective._judged = judged  # type: ignore[method-assign]
    items = replace(batch(6, classes=3), passes=passes)
    for seed in range(200):
        objective.loss("classifier", items, rng(seed), 0.5)
    assert low <= sum(seen) <= high
    # what is spared is not mixed either
    assert all(sure == 1.0 for sure, view in zip(said, seen, strict=True) if view == 0)
    assert any(sure < 1.0 for sure in said) == (high > 0)
