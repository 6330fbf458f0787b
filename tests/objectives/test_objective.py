"""What all objectives share: a ramp, and the contract with the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from discern.data.augment import STRONG
from discern.models.backbone import Backbone
from discern.models.batch_norm import norms_of
from discern.models.classifier import Classifier
from discern.models.model import named_tensors
from discern.objectives.gan import Gan
from discern.objectives.masked_gan import MaskedGan
from discern.objectives.objective import ramp
from discern.objectives.supervised import Supervised, SupervisedConfig
from tests.tiny import OBJECTIVES, backbone_config, batch, gan, masked_gan, rng, view


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.499, 0.0), (0.5, 0.0), (0.55, 0.5), (0.6, 1.0), (1.0, 1.0)],
)
def test_ramp(progress: float, expected: float) -> None:
    assert ramp(progress, 0.5) == pytest.approx(expected)


def test_a_ramp_without_length_is_a_step() -> None:
    assert [ramp(progress, 0.5, 0.0) for progress in (0.4, 0.5, 0.6)] == [0.0, 1.0, 1.0]
    assert ramp(0.0, -1.0) == 1.0


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loss_is_finite_and_depends_on_the_seed_alone(name: str, frames: int) -> None:
    objective = OBJECTIVES[name]().train()
    items = batch(8, frames)
    kept = items.clip.clone()
    for phase in objective.players:
        first, again, other = (objective.loss(phase, items, rng(s), 0.5) for s in (1, 1, 2))
        assert first.total.ndim == 0 and torch.isfinite(first.total)
        assert first.total.item() == again.total.item() != other.total.item()
        assert first.parts and first.parts == again.parts
        assert all(value.shape == () and not value.requires_grad for value in first.parts.values())
    assert torch.equal(items.clip, kept)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_live_parameter_has_a_player_and_every_average_a_twin(name: str) -> None:
    objective = OBJECTIVES[name]()
    played = {p for player in objective.players.values() for p in player.parameters()}
    live = {p for p in objective.parameters() if p.requires_grad}
    assert played == live
    averaged = {p for _, average in objective.averages for p in average.parameters()}
    assert averaged == {p for p in objective.parameters() if not p.requires_grad}
    for alive, average in objective.averages:
        ours, theirs = named_tensors(alive), named_tensors(average)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert not {t.data_ptr() for t in ours.values()} & {t.data_ptr() for t in theirs.values()}


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_of_one_item(name: str, frames: int) -> None:
    objective = OBJECTIVES[name]().train()
    for phase in objective.players:
        losses = objective.loss(phase, batch(1, frames), rng(), 0.5)
        losses.total.backward()
        assert torch.isfinite(losses.total)


@pytest.mark.parametrize("name", ["deep", "gan"])
def test_statistics_of_the_model_to_start_from_count_as_one_batch(name: str) -> None:
    make = {"deep": MaskedGan, "gan": Gan}[name]
    made = {"deep": masked_gan, "gan": gan}[name](stem="deep")
    for norm in norms_of(made.discriminator):
        norm.learned.copy_(torch.tensor([50, 0]))
    again = make(made.config, made.discriminator, made.generator, *_views(made))  # type: ignore[arg-type]
    assert [norm.learned.tolist() for norm in norms_of(again.discriminator)] == [[50, 0]] * 6
    assert [norm.learned.tolist() for norm in norms_of(again.average)] == [[1, 0]] * 6


def _views(made: MaskedGan | Gan) -> list[Any]:
    return [made.view, made.masked if isinstance(made, MaskedGan) else made.alike]


def test_a_tuning_begins_with_the_statistics_of_its_base_as_one_batch() -> None:
    classifier = Classifier(Backbone(backbone_config(stem="deep")), 3)
    for norm in norms_of(classifier):
        norm.learned.copy_(torch.tensor([50, 7]))
        norm.mean.fill_(100.0)
    tuning = Supervised(SupervisedConfig(), classifier, view(STRONG))
    tuning.settle(batch(8), rng())
    for norm in norms_of(tuning.average):
        assert norm.learned.tolist() == [2, 1]
        assert 40 < norm.mean[0].mean() < 60 and norm.mean[1].eq(100).all()
