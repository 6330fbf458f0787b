"""AdamW: every parameter in exactly one group, layer-wise rates, the schedule's shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.models.backbone import Backbone
from discern.models.classifier import Classifier
from discern.train.optim import OptimConfig, build_optimizer, set_rate
from tests.tiny import OBJECTIVES, backbone_config, batch, rng


def _classifier(depth: int = 3) -> Classifier:
    settings = {"positions": "learned", "learned_grid": (1, 4, 4), "class_token": True}
    return Classifier(Backbone(backbone_config(depth=depth, **settings)), 3)


def _groups(player: nn.Module, config: OptimConfig) -> dict[str, dict[str, float]]:
    """name -> settings of its group"""
    names = {id(parameter): name for name, parameter in player.named_parameters()}
    found: dict[str, dict[str, float]] = {}
    for group in build_optimizer(player, config).param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    for player in OBJECTIVES[name]().players.values():
        found = _groups(player, OptimConfig(layer_decay=0.8))
        assert set(found) == {name for name, _ in player.named_parameters()}


def test_what_does_not_learn_is_left_out() -> None:
    classifier = _classifier()
    classifier.backbone.requires_grad_(False)
    assert set(_groups(classifier, OptimConfig())) == {"head.weight", "head.bias"}


def test_only_matrices_decay() -> None:
    found = _groups(_classifier(), OptimConfig(weight_decay=0.3))
    for name, group in found.items():
        special = name in ("backbone.class_token", "backbone.learned")
        matrix = name.endswith("weight") and "norm" not in name
        assert group["weight_decay"] == (0.3 if matrix and not special else 0.0), name
    generator = OBJECTIVES["gan"]().players["generator"]
    found = _groups(generator, OptimConfig(weight_decay=0.3))
    assert found["mask_token"]["weight_decay"] == 0.0
    assert found["to_patch.weight"]["weight_decay"] == 0.3


def test_each_layer_below_the_head_learns_slower() -> None:
    found = _groups(_classifier(depth=3), OptimConfig(layer_decay=0.5))
    expected = {
        "head.weight": 1.0,
        "head.bias": 1.0,
        "backbone.norm.weight": 1.0,
        "backbone.blocks.2.attn.qkv.weight": 0.5,
        "backbone.blocks.2.ls1.gamma": 0.5,
        "backbone.blocks.1.mlp.fc1.weight": 0.25,
        "backbone.blocks.0.norm1.weight": 0.125,
        "backbone.stem.inner.weight": 0.0625,
        "backbone.class_token": 0.0625,
        "backbone.learned": 0.0625,
    }
    for name, scale in expected.items():
        assert found[name]["rate_scale"] == scale, name
    assert all(g["rate_scale"] == 1.0 for g in _groups(_classifier(), OptimConfig()).values())


def test_rates_are_set_per_layer() -> None:
    config = OptimConfig(rate=0.1, layer_decay=0.5, warmup=0.0)
    optimizer = build_optimizer(_classifier(depth=2), config)
    assert set_rate(optimizer, config, 0.0) == pytest.approx(0.1)
    assert {group["lr"] / group["rate_scale"] for group in optimizer.param_groups} == {0.1}
    rates = {group["lr"] for group in optimizer.param_groups}
    assert sorted(rates) == pytest.approx([0.0125, 0.025, 0.05, 0.1])
    assert set_rate(optimizer, config, 0.0, 0.5) == pytest.approx(0.05)


def test_shape_of_the_schedule() -> None:
    config = OptimConfig(rate=1.0, warmup=0.2, final_rate=0.1)
    optimizer = build_optimizer(nn.Linear(1, 1), config)
    rates = [set_rate(optimizer, config, progress / 100) for progress in range(101)]
    assert rates[10] == pytest.approx(0.5) and rates[20] == pytest.approx(1.0)  # warm-up
    assert rates[60] == pytest.approx(0.55) and rates[100] == pytest.approx(0.1)  # cosine
    assert rates[40] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + 0.5**0.5))
    assert all(a < b for a, b in zip(rates[:20], rates[1:21], strict=True))
    assert all(a > b for a, b in zip(rates[20:100], rates[21:], strict=True))
    assert 0 < rates[0] <= 0.01  # the first step moves a little
    assert set_rate(optimizer, config, 1.7) == pytest.approx(0.1)


def test_a_step_by_hand() -> None:
    """One step of AdamW: the decay, and a move of the rate against the sign of the gradient."""
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    config = OptimConfig(rate=0.01, weight_decay=0.1, warmup=0.0)
    optimizer = build_optimizer(layer, config)
    set_rate(optimizer, config, 0.0)
    layer(torch.tensor([[1.0, -1.0]])).sum().backward()
    optimizer.step()
    expected = before * (1 - 0.01 * 0.1) - 0.01 * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_parameters_without_a_gradient_stay() -> None:
    """A head that a setting left out is neither moved nor decayed."""
    objective = OBJECTIVES["masked_gan"](time_fakes=0.0)
    (player,) = objective.players.values()
    optimizer = build_optimizer(player, OptimConfig(weight_decay=0.5))
    before = objective.time_head.weight.detach().clone()
    objective.loss("both", batch(8), rng(), 0.5).total.backward()
    optimizer.step()
    assert torch.equal(objective.time_head.weight, before)
    assert not torch.equal(
        objective.projector[0].weight, OBJECTIVES["masked_gan"]().projector[0].weight
    )
