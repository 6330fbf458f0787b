"""What a bundle knows about its answers: stored and read, and applied to one item."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.clip import Kind
from discern.errors import IntegrityError
from discern.security.certainty import Certainty, read_certainty
from discern.security.guard import GuardConfig, fit_guard
from discern.security.scores import Evidence
from tests.tiny import rng


def some(count: int, seed: int) -> Evidence:
    features = torch.randn(count, 8, generator=rng(seed)) + 3
    return Evidence(features, features[:, :2], features)


def certainty() -> Certainty:
    guard, facts = fit_guard(some(200, 0), torch.zeros(200).long(), some(200, 1), GuardConfig())
    assert guard is not None
    known = {"image": facts, "clip": {"why": "too few"}}
    return Certainty(temperature=1.5, guards={Kind.IMAGE: guard}, facts=known)


def test_the_temperature_divides_the_logits() -> None:
    logits = np.array([[3.0, 0.0]])
    expected = np.exp(2) / (np.exp(2) + 1)
    assert Certainty(temperature=1.5).probabilities(logits)[0, 0] == pytest.approx(expected)
    assert Certainty().probabilities(logits)[0, 0] == pytest.approx(np.exp(3) / (np.exp(3) + 1))


def test_one_item_is_judged() -> None:
    sure = certainty()
    usual = sure.judge(Kind.IMAGE, some(1, 5))
    assert usual.keys() == {"unknown", "guard_score", "threshold"} and usual["unknown"] is False
    odd = Evidence(-some(1, 5).features, torch.zeros(1, 2), torch.zeros(1, 8))
    assert sure.judge(Kind.IMAGE, odd)["unknown"] is True
    broken = Evidence(torch.full((1, 8), float("nan")), torch.zeros(1, 2), torch.zeros(1, 8))
    assert sure.judge(Kind.IMAGE, broken)["unknown"] is True
    assert Certainty().judge(Kind.IMAGE, odd) == {}


def test_kinds_without_a_guard() -> None:
    sure = certainty()
    assert sure.judge(Kind.CLIP, some(1, 5)) == {}  # trained on, but too few for a guard
    never = Certainty(guards=sure.guards, facts={"image": sure.facts["image"]})
    assert "unknown" in never.judge(Kind.CLIP, some(1, 5))  # a kind that no training saw


def test_what_is_stored_comes_back() -> None:
    sure = certainty()
    again = read_certainty(
        sure.settings(), sure.tensors(), width=8, early=8, head=False, where="here"
    )
    item = some(1, 5)
    assert again.judge(Kind.IMAGE, item) == sure.judge(Kind.IMAGE, item)
    assert again.temperature == 1.5 and again.facts == sure.facts
    nothing = read_certainty({}, {}, width=8, early=8, head=False, where="here")
    assert nothing == Certainty() and not nothing.asks_head


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"guard": {"clip": {}}}, "do not agree"),
        ({"guard": []}, "do not agree"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        read_certainty(settings, certainty().tensors(), width=8, early=8, head=False, where="here")
