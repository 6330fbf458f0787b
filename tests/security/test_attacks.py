"""Attacks: bounds that always hold, exact answers where they are known, one draw for one seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from discern.errors import UsageError
from discern.security.attacks import ATTACKS, right, run
from discern.security.change import Ball
from discern.security.gradient import checkpoints
from discern.security.losses import cross_entropy, dlr, margin, targeted_dlr, targets_of
from discern.security.square import share_at
from discern.security.suite import STANDARD, red_flags, suite

SHAPE = (3, 1, 6, 6)


def _network(classes: int = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    size = SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]
    layers = nn.Sequential(nn.Flatten(), nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, classes))
    return layers.eval().requires_grad_(False)


def _items(count: int = 12, seed: int = 1, frames: int = 1) -> Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, frames, 6, 6, generator=drawn) * 1.6 - 0.8


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=8, deadline=None)
@given(eps=st.floats(1e-3, 0.5), seed=st.integers(0, 1000))
def test_changes_stay_in_the_ball_and_in_the_box(
    name: str, norm: str, eps: float, seed: int
) -> None:
    if name == "square" and norm == "l2":
        return
    model, clip = _network(), _items()
    label = model(clip).argmax(1)
    ball = Ball(norm=norm, eps=eps)  # type: ignore[arg-type]
    moved = run(name, model, clip, label, ball, seed=seed, steps=6)
    assert moved.shape == clip.shape and moved.abs().max() <= 1
    assert ball.size_of(moved, clip).max() <= eps * (1 + 1e-4) + 1e-6
    assert torch.equal(moved, run(name, model, clip, label, ball, seed=seed, steps=6))


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_ce", "apgd_dlr", "square"])
def test_the_exact_distance_of_a_linear_model_is_found(name: str) -> None:
    """Two classes, logits w.x and 0: the label falls where eps |w|_1 exceeds w.x, not before."""
    drawn = torch.Generator().manual_seed(0)
    weight = torch.randn(3 * 36, generator=drawn)

    def model(clip: Tensor) -> Tensor:
        score = clip.flatten(1) @ weight
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    clip = 0.2 * _items(16)
    label = model(clip).argmax(1)
    exact = model(clip)[:, 0].abs() / weight.abs().sum() / 2  # of pixels in [0, 1]
    eps = float(exact.median())
    moved = run(
        name, model, clip, label, Ball(eps=eps), seed=0, steps=600 if name == "square" else 20
    )
    held = right(model, moved, label)
    sure = (exact - eps).abs() > 0.08 * eps
    assert torch.equal(held[sure], (exact > eps)[sure])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stronger_attacks_find_no_less(norm: str) -> None:
    model, clip = _network(), _items(64)
    label = model(clip).argmax(1)
    ball = Ball(norm=norm, eps=0.03 if norm == "linf" else 0.25)  # type: ignore[arg-type]
    left = {
        name: float(right(model, run(name, model, clip, label, ball, seed=0), label).float().mean())
        for name in ("fgsm", "pgd", "apgd_ce", "apgd_dlr")
    }
    assert left["apgd_ce"] <= left["pgd"] + 0.02 <= left["fgsm"] + 0.04
    assert left["apgd_dlr"] <= left["pgd"] + 0.02
    assert 0.0 < left["apgd_ce"] < 1.0


def test_losses_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5, -1.0], [0.0, 2.0, 1.0, -3.0]])
    label = torch.tensor([0, 2])
    torch.testing.assert_close(
        cross_entropy(logits, label), F.cross_entropy(logits, label, reduction="none")
    )
    torch.testing.assert_close(margin(logits, label), torch.tensor([-2.0, 1.0]))
    torch.testing.assert_close(dlr(logits, label), torch.tensor([-2.0 / 2.5, 1.0 / 2.0]))
    target = torch.tensor([1, 0])
    expected = torch.tensor([-2.0 / (3.0 - (0.5 - 1.0) / 2), -1.0 / (2.0 - (0.0 - 3.0) / 2)])
    torch.testing.assert_close(targeted_dlr(logits, label, target), expected)
    torch.testing.assert_close(dlr(10 * logits, label), dlr(logits, label))
    assert targets_of(logits, label, 2).tolist() == [[1, 2], [1, 0]]


def test_schedules_are_those_of_the_papers() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert share_at(1, 10_000) == 0.8 and share_at(11, 10_000) == 0.4
    assert share_at(9000, 10_000) == 0.8 / 2**9 and share_at(6, 5000) == 0.4


def test_clips_are_attacked_as_wholes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 36, 4)).eval().requires_grad_(False)
    clip = _items(8, frames=4)
    label = model(clip).argmax(1)
    for name in ATTACKS:
        moved = run(name, model, clip, label, Ball(eps=0.02), seed=0, steps=5)
        assert moved.shape == clip.shape
        assert not torch.equal(moved[:, :, 3], clip[:, :, 3])


def test_the_black_box_asks_for_no_gradients_and_refuses_l2() -> None:
    network = _network()

    def model(clip: Tensor) -> Tensor:
        assert not torch.is_grad_enabled() and not clip.requires_grad
        return network(clip)

    clip = _items()
    with torch.no_grad():
        label = network(clip).argmax(1)
    run("square", model, clip, label, Ball(eps=0.1), seed=0, steps=20)
    with pytest.raises(UsageError, match="linf"):
        run("square", model, clip, label, Ball(norm="l2"), seed=0, steps=2)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_suite_goes_on_with_what_stands(classes: int) -> None:
    model, clip = _network(classes), _items(40)
    label = model(clip).argmax(1)
    label[:4] = (label[:4] + 1) % classes  # wrong before any attack
    found = suite(model, clip, label, Ball(eps=0.02), steps=10)
    left = [36 / 40, *found.accuracy.values()]
    assert list(found.accuracy) == list(STANDARD)
    assert all(later <= earlier + 1e-6 for earlier, later in zip(left, left[1:], strict=False))
    assert not found.stands[:4].any() and found.stands.float().mean() == pytest.approx(left[-1])
    assert torch.equal(right(model, found.worst, label), found.stands)


# ---------------------------------------------------------------- red flags


def _flags(model: Callable[[Tensor], Tensor]) -> str:
    network, clip = _network(), _items(64)
    label = network(clip).argmax(1)
    return "; ".join(red_flags(model, clip, label, Ball(eps=0.03)))


def test_a_plain_model_raises_no_flag() -> None:
    assert _flags(_network()) == ""


def test_random_answers_are_flagged() -> None:
    network = _network()
    assert "differ from call to call" in _flags(lambda x: network(x + 0.3 * torch.randn_like(x)))


class _Quantised(torch.autograd.Function):
    """Steps without a slope: what gradient attacks cannot climb."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.round(x * 4) / 4

    @staticmethod
    def backward(context: object, slope: Tensor) -> Tensor:  # type: ignore[override]
        return torch.zeros_like(slope)


def test_masked_gradients_are_flagged() -> None:
    network = _network()
    said = _flags(lambda x: network(_Quantised.apply(x)))
    assert "gradients are zero" in said and "black box" in said


def test_answers_that_are_optimized_are_flagged() -> None:
    network = _network()

    def purified(clip: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = clip.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(network(leaf).logsumexp(1).sum(), leaf)
        return network(clip + 0.01 * slope)

    assert "while it answers" in _flags(purified)
