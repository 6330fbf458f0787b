"""Muon: what a step turns, by how much, and beside an implementation that we did not write."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from discern.models.backbone import Backbone
from discern.models.classifier import Classifier
from discern.train.muon import Muon, orthogonal
from discern.train.optim import OptimConfig, build_optimizer, set_rate
from tests.tiny import backbone_config, rng

CONFIG = OptimConfig(rate=1e-3, matrix_factor=50.0, warmup=0.0)


def _classifier(stem: str = "deep") -> Classifier:
    torch.manual_seed(0)
    return Classifier(Backbone(backbone_config(stem=stem)), 3)


def _step(classifier: Classifier, optimizer: Muon, seed: int = 1) -> None:
    clip = torch.randn(4, 3, 1, 16, 16, generator=rng(seed))
    optimizer.zero_grad()
    classifier.train()(clip).square().sum().backward()
    optimizer.step()


def _turned(optimizer: Muon) -> list[nn.Parameter]:
    return [one for group in optimizer.param_groups if group["turned"] for one in group["params"]]


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (8, 4, 3, 3)])
def test_singular_values_become_alike_and_vectors_stay(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=rng())
    (found,) = orthogonal([matrix])
    assert found.shape == matrix.shape
    u, before, v = torch.linalg.svd(matrix.flatten(1), full_matrices=False)
    assert before.max() / before.min() > 1.8
    aligned = u.T @ found.flatten(1) @ v.T
    off = aligned - torch.diag(aligned.diagonal())
    assert off.abs().max() < 1e-4
    assert aligned.diagonal().min() > 0.6 and aligned.diagonal().max() < 1.25


def test_matrices_of_one_shape_do_not_mix() -> None:
    every = [torch.randn(6, 9, generator=rng(seed)) * 10**seed for seed in range(3)]
    every.insert(1, torch.randn(9, 6, generator=rng(9)))
    together = orthogonal(every)
    for one, found in zip(every, together, strict=True):
        torch.testing.assert_close(found, orthogonal([one])[0])


def test_products_are_as_precise_as_those_of_the_network() -> None:
    matrix = torch.randn(16, 48, generator=rng())
    (exact,) = orthogonal([matrix])
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = orthogonal([matrix])
    assert exact.dtype == torch.float32 and found.dtype == torch.bfloat16
    assert 0 < (found - exact).norm() < 0.02 * exact.norm()


def test_what_has_no_gradient_at_all_is_not_moved() -> None:
    (found,) = orthogonal([torch.zeros(4, 6)])
    assert torch.equal(found, torch.zeros(4, 6))


@pytest.mark.parametrize("shape", [(16, 48), (48, 16)])
def test_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
    """Of torch.optim.Muon, which iterates in bf16 and lengthens the steps of tall matrices."""
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    settings = {"turned": True, "kept_length": False, "momentum": 0.6}
    own = Muon([{"params": [ours], **settings}], lr=0.1)
    peer = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, momentum=0.6, ns_steps=3)
    longer = max(1.0, shape[0] / shape[1]) ** 0.5
    for seed in range(4):
        for one in (ours, theirs):
            one.grad = torch.randn(shape, generator=rng(seed))
        own.step()
        peer.step()
        assert (longer * ours - theirs).norm() < 0.02 * theirs.norm()


def test_only_matrices_of_the_encoder_are_turned() -> None:
    classifier = _classifier()
    names = {id(one): name for name, one in classifier.named_parameters()}
    turned = {names[id(one)] for one in _turned(build_optimizer(classifier, CONFIG))}
    wanted = {
        name
        for name, one in classifier.backbone.named_parameters(prefix="backbone")
        if one.ndim > 1
    }
    assert turned == wanted and "backbone.stem.fine.weight" in turned
    assert not _turned(build_optimizer(classifier, OptimConfig()))


def test_tokens_are_not_turned() -> None:
    encoder = Backbone(backbone_config(class_token=True, registers=2))
    names = {id(one): name for name, one in encoder.named_parameters()}
    turned = {names[id(one)] for one in _turned(build_optimizer(encoder, CONFIG))}
    assert "class_token" not in turned and "registers" not in turned


def test_others_take_the_steps_of_adamw() -> None:
    one, other = _classifier(), _classifier()
    muon = build_optimizer(one, CONFIG)
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in other.parameters() if p.ndim == 1], "weight_decay": 0.0},
            {"params": [other.head.weight], "weight_decay": CONFIG.weight_decay},
        ],
        lr=CONFIG.rate,
        betas=CONFIG.betas,
    )
    turned = {id(p) for p in _turned(muon)}
    for seed in range(3):
        set_rate(muon, CONFIG, 0.0)
        for mine, peer in zip(one.parameters(), other.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=rng(seed))
            peer.grad = mine.grad.clone()
        muon.step()
        adamw.step()
    compared = 0
    for mine, peer in zip(one.parameters(), other.parameters(), strict=True):
        if id(mine) not in turned:
            torch.testing.assert_close(mine, peer, rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared > 10


def test_a_deep_stem_keeps_the_length_of_its_convolutions() -> None:
    """And is moved by the rate, however long the gradient."""
    found: list[list[Tensor]] = []
    for size in (1.0, 100.0):
        classifier = _classifier()
        optimizer = build_optimizer(classifier, CONFIG)
        set_rate(optimizer, CONFIG, 0.0)
        weights = [
            classifier.backbone.stem.fine.weight,
            classifier.backbone.blocks[0].mlp.fc1.weight,
        ]
        with torch.no_grad():
            weights[0].mul_(7.0)
        before = weights[1].detach().clone()
        for one in weights:
            one.grad = size * torch.randn(one.shape, generator=rng())
        optimizer.step()
        assert weights[0].detach().norm().item() == pytest.approx(len(weights[0]) ** 0.5, rel=0.1)
        assert torch.linalg.svdvals((weights[1] - before).detach()).max().item() == pytest.approx(
            0.05, rel=0.25
        )
        found.append([one.detach().clone() for one in weights])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_lower_layers_turn_slower_and_the_schedule_holds_for_all() -> None:
    config = OptimConfig(rate=1e-3, matrix_factor=50.0, layer_decay=0.5, warmup=0.0)
    optimizer = build_optimizer(_classifier(), config)
    set_rate(optimizer, config, 0.0, 0.5)
    rates = {(group["turned"], group["lr"]) for group in optimizer.param_groups}
    turned = sorted(rate for is_turned, rate in rates if is_turned)
    assert turned == pytest.approx([0.025 * 0.5**depth for depth in (3, 2, 1)])
    assert max(rate for is_turned, rate in rates if not is_turned) == pytest.approx(5e-4)


def test_it_learns() -> None:
    classifier = _classifier()
    optimizer = build_optimizer(classifier, CONFIG)
    clip = torch.randn(12, 3, 1, 16, 16, generator=rng(2))
    label = torch.arange(12) % 3
    set_rate(optimizer, CONFIG, 0.0)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(classifier.train()(clip), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < 0.9 < losses[0]
