"""What a finished training learns about its own answers, from sets of made-up items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.models.discriminator import DiscriminatorConfig
from discern.models.model import Model, ModelConfig
from discern.predict import evidence
from discern.recipes.certainty import learn_certainty
from discern.security.guard import WEIGHTS, GuardConfig
from discern.security.scores import Evidence
from tests.tiny import backbone_config, random_sets


def model(head: bool = True) -> Model:
    torch.manual_seed(0)
    discriminator = DiscriminatorConfig(hidden=8) if head else None
    parts = {"discriminator": discriminator, "classes": 3, "own_encoder": head}
    return Model(ModelConfig(backbone=backbone_config(), **parts)).eval()


def halves(items: dict[Kind, ClipSet]) -> tuple[dict[Kind, ClipSet], dict[Kind, ClipSet]]:
    """Every other item of each set."""
    return tuple(  # type: ignore[return-value]
        {kind: one.subset(np.arange(start, len(one), 2)) for kind, one in items.items()}
        for start in (0, 1)
    )


def test_each_kind_has_its_guard() -> None:
    known, fresh = halves(random_sets(images=60, clips=40))
    config = GuardConfig(false_alarms=0.05, head=True)
    sure = learn_certainty(model(), known, fresh, config, seed=0)
    assert set(sure.guards) == {Kind.IMAGE, Kind.CLIP} and sure.asks_head
    assert sure.temperature is not None
    assert [sure.facts[kind]["items"] for kind in ("image", "clip")] == [30, 20]
    assert {sure.facts[kind]["calibrated_on"] for kind in sure.facts} == {"validation"}


def test_evidence_is_what_the_model_says() -> None:
    net, items = model(), random_sets(images=10)[Kind.IMAGE]
    found = evidence(net, items, head=True)
    frames = torch.from_numpy(items.take(np.arange(10))).permute(0, 4, 1, 2, 3)
    clip = frames.float() / 127.5 - 1
    with torch.inference_mode():
        torch.testing.assert_close(found.logits, net(clip))
        assert net.discriminator is not None and found.verdict is not None
        torch.testing.assert_close(found.verdict, net.discriminator(clip).whole)
        torch.testing.assert_close(found.features, net.backbone(clip).pooled)
    assert evidence(net, items, head=False).verdict is None


def test_without_validation_there_is_no_temperature() -> None:
    known = random_sets(images=60)
    for fresh in ({}, {Kind.IMAGE: known[Kind.IMAGE].subset(np.arange(0))}):
        sure = learn_certainty(model(), known, fresh, GuardConfig(false_alarms=0.05), seed=0)
        assert sure.temperature is None
        assert sure.facts["image"]["calibrated_on"] == "training folds"


def test_without_a_discriminator_its_score_is_left_out() -> None:
    known, fresh = halves(random_sets(images=80))
    config = GuardConfig(false_alarms=0.05, head=True)
    sure = learn_certainty(model(head=False), known, fresh, config, seed=0)
    assert sure.facts["image"]["scores"] == list(WEIGHTS)[:-1] and not sure.asks_head
    unasked = GuardConfig(false_alarms=0.05)
    assert not learn_certainty(model(), known, fresh, unasked, seed=0).asks_head


def test_a_large_training_set_is_not_looked_at_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def counting(model: Model, items: ClipSet, *, head: bool) -> Evidence:
        looked.append(len(items))
        return evidence(model, items, head=head)

    monkeypatch.setattr("discern.recipes.certainty.evidence", counting)
    known, fresh = halves(random_sets(images=200))
    config = GuardConfig(false_alarms=0.05, bank=24)
    sure = learn_certainty(model(), known, fresh, config, seed=0)
    assert looked == [100, 24]  # all of the fresh ones, some of the known ones
    assert sure.guards[Kind.IMAGE].known.bank.shape == (24, 32)


def test_weights_that_broke_make_neither() -> None:
    net = model()
    assert net.classifier is not None
    with torch.no_grad():
        net.classifier.backbone.norm.weight.fill_(float("nan"))
    known, fresh = halves(random_sets(images=80))
    sure = learn_certainty(net, known, fresh, GuardConfig(false_alarms=0.05), seed=0)
    assert sure.temperature is None and not sure.guards
    assert "finite" in sure.facts["image"]["why"]
