"""Masked adversarial in-painting: what each term costs, and that a weight of 0 takes it out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.objectives.terms import NOTHING, ONLY, PARTS, forbid, loss_of, only
from tests.tiny import batch, masked_gan, rng


@pytest.mark.parametrize("term", ONLY)
def test_a_term_alone_has_its_own_parts_only(term: str) -> None:
    objective = only(term)
    losses = objective.loss("both", batch(8, 4), rng(), 0.5)
    assert set(losses.parts) == PARTS[term]
    # an image has no time
    image = objective.loss("both", batch(8, 1), rng(), 0.5)
    assert set(image.parts) == (PARTS[term] if term != "time_fakes" else set())


def test_all_terms_are_the_sum_of_each() -> None:
    """What is said does not depend on the company, where the random numbers are the same."""
    settings = NOTHING | {"view": 1.0}
    items, objective = batch(8, 1), masked_gan(**(settings | {"global_adversary": 0.2}))
    both = objective.loss("both", items, rng(), 0.5)
    alone = masked_gan(**settings)
    view = alone.loss("both", items, rng(), 0.5)
    assert both.parts["view"] == view.parts["view"] == view.total.item()
    assert both.total.item() != view.total.item()


@pytest.mark.parametrize(
    ("terms", "forbidden"),
    [
        (
            ["reconstruction", "patch_adversary", "global_adversary", "time_fakes"],
            ["projector", "predictor", "view"],
        ),
        (["view", "time_fakes"], ["generator", "coder", "_reconstruction_loss", "_adversary_loss"]),
        (
            ["view", "reconstruction", "time_fakes"],
            ["discriminator", "discriminator.global_head", "discriminator.patch_head", "_forge"],
        ),
        (["view", "reconstruction", "patch_adversary", "global_adversary"], ["time_head"]),
        (["patch_adversary", "global_adversary"], ["_penalty", "_follow", "_patch_error"]),
        (
            ["view"],
            [
                "average",
                "predictor",
                "generator",
                "discriminator",
                "time_head",
                "coder",
                "_code_loss",
                "masked",
            ],
        ),
    ],
)
def test_a_weight_of_0_costs_nothing(
    terms: list[str], forbidden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = only(*terms)
    parts = objective.loss("both", batch(8, 4), rng(), 0.5).parts
    assert set(parts) == set().union(*(PARTS[term] for term in terms))
    forbid(objective, monkeypatch, *forbidden)
    assert objective.loss("both", batch(8, 4), rng(), 0.5).parts == parts


def test_one_pass_of_the_encoder_serves_view_and_reconstruction() -> None:
    calls: list[int] = []
    objective = only("view", "reconstruction")
    objective.discriminator.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append(len(inputs[0]))
    )
    loss_of(objective, batch(8))
    assert calls == [16]
    objective = only("reconstruction")  # MAE: one view is enough
    objective.discriminator.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append(len(inputs[0]))
    )
    loss_of(objective, batch(8))
    assert calls == [16, 8]


def test_every_view_goes_through_the_encoder_once() -> None:
    calls: list[int] = []
    objective = only("view", views=4)
    objective.discriminator.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append(len(inputs[0]))
    )
    assert torch.isfinite(loss_of(objective, batch(8)))
    assert calls == [32]
    assert torch.isfinite(loss_of(only("view", views=4, teacher=True), batch(8)))


@pytest.mark.parametrize(("term", "part"), [("patch_adversary", "d_patch"), ("code", "code")])
def test_a_term_of_some_steps_is_in_its_share_of_them(term: str, part: str) -> None:
    name = {"patch_adversary": "adversary_chance", "code": "code_chance"}[term]
    objective, items = only(term, **{name: 0.25}), batch(4)
    steps = [part in objective.loss("both", items, rng(step), 0.5).parts for step in range(80)]
    assert 8 <= sum(steps) <= 35
    never = only(term, **{name: 0.0})
    assert not any(never.loss("both", items, rng(step), 0.5).parts for step in range(20))


def test_at_the_end_the_encoder_sees_nearly_all() -> None:
    settings = {"mask_ratio": 0.75, "clip_mask_ratio": 0.5, "opening": 0.2}
    objective = masked_gan(**settings, opened_mask_ratio=0.25)
    image, clip = torch.zeros(2, 3, 1, 16, 16), torch.zeros(2, 3, 4, 16, 16)
    for progress, of_image, of_clip in ((0.0, 4, 16), (0.79, 4, 16), (0.81, 12, 24), (1.0, 12, 24)):
        assert objective._mask(image, rng(), progress).keep.shape == (2, of_image)
        assert objective._mask(clip, rng(), progress).keep.shape == (2, of_clip)
    # who masks less than that anyway goes on with it
    gentle = masked_gan(mask_ratio=0.0, opening=1.0, opened_mask_ratio=0.25)
    assert gentle._mask(image, rng(), 0.5).keep.shape == (2, 16)


@pytest.mark.parametrize("frames", [1, 4])
def test_views_are_windows_until_the_opening(frames: int) -> None:
    seen: list[tuple[int, ...]] = []
    objective = only("view", window=0.5, opening=0.2)
    objective.discriminator.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(tuple(inputs[0].shape[2:]))
    )
    for progress in (0.0, 0.79, 0.81):
        assert torch.isfinite(loss_of(objective, batch(4, frames), progress=progress))
    assert seen == [(frames, 8, 8), (frames, 8, 8), (frames, 16, 16)]


def test_forgeries_are_not_in_the_statistics_of_the_encoder() -> None:
    def statistics(**settings: float) -> dict[str, Tensor]:
        objective = masked_gan(stem="deep", views=2, **settings).train()
        # what is seen first is the same: the terms draw later
        objective.loss("both", batch(8, 4), rng(), 0.5).total.backward()
        found = dict(objective.discriminator.backbone.named_buffers())
        assert found
        return found

    alone = statistics(**(NOTHING | {"view": 1.0}))
    for name, value in statistics().items():
        assert value.equal(alone[name]), name


@torch.no_grad()
def test_codes_are_those_of_the_averaged_encoder() -> None:
    objective, items = only("code"), batch(8)

    def said() -> float:
        for name, value in objective.coder.named_buffers():
            value.copy_(moments[name])
        return objective.loss("both", items, rng(), 0.5).parts["code"].item()

    moments = {name: value.clone() for name, value in objective.coder.named_buffers()}
    before = said()
    for alive in objective.discriminator.parameters():
        alive.add_(torch.randn(alive.shape, generator=rng(1)))
    assert said() == before
    for averaged in objective.averaged.parameters():
        averaged.add_(torch.randn(averaged.shape, generator=rng(1)))
    assert said() != before


@pytest.mark.parametrize("asked", [{"teacher": True}, {"perceptual": 1.0}, {"code": 1.0}])
def test_an_average_that_judges_learns_no_statistics_from_it(asked: dict[str, Any]) -> None:
    objective = masked_gan(stem="deep", **asked).train()
    before = {name: value.clone() for name, value in objective.average.named_buffers()}
    assert before
    loss_of(objective, batch(8))
    for name, value in objective.average.named_buffers():
        assert value.equal(before[name]), name


def test_reconstruction_now_and_then() -> None:
    objective, items, draw = only("reconstruction", reconstruction_chance=0.25), batch(2), rng()
    often = sum(
        "reconstruction" in objective.loss("both", items, draw, 0.5).parts for _ in range(80)
    )
    assert 10 < often < 32  # of 80, 20 on average


def test_no_adversary_before_its_time_nor_when_it_was_silenced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, items = masked_gan(adversary_start=0.5, code=0.0), batch(8)
    full = objective.loss("both", items, rng(), 0.7)
    assert "d_patch" in full.parts
    half = objective.loss("both", items, rng(), 0.55)  # in the middle of the ramp
    assert "d_patch" in half.parts
    early = objective.loss("both", items, rng(), 0.49)
    assert "d_patch" not in early.parts
    plain = early.total.item()
    objective.adversary_scale.fill_(0.5)
    eased = objective.loss("both", items, rng(), 0.7)
    assert eased.total.item() - plain == pytest.approx((full.total.item() - plain) / 2, rel=1e-3)
    objective.adversary_scale.zero_()
    forbid(objective, monkeypatch, "discriminator", "_forge")
    assert objective.loss("both", items, rng(), 0.7).total.item() == plain


@pytest.mark.parametrize("view", [0.0, 1.0])
def test_one_item(view: float) -> None:
    for frames in (1, 4):
        assert torch.isfinite(loss_of(masked_gan(view=view), batch(1, frames)))
