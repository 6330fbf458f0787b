"""The plain GAN: two phases, who learns in which, the losses by the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from discern.models.discriminator import Verdict
from discern.objectives.gan import Gan
from tests.tiny import batch, gan, rng

PURE = {"view": 0.0, "penalty": 0.0, "feature_matching": 0.0}


def _touched(objective: Gan, phase: str) -> set[str]:
    objective.zero_grad(set_to_none=True)
    objective.loss(phase, batch(8), rng(), 0.5).total.backward()
    parts = {"discriminator": objective.discriminator, "generator": objective.generator}
    parts["projector"] = objective.projector
    return {
        name
        for name, part in parts.items()
        if any(p.grad is not None and p.grad.any() for p in part.parameters())
    }


def _score(verdict: Verdict) -> Tensor:
    return verdict.whole + verdict.patch.mean(1)


def test_discriminator_first_and_each_learns_in_its_own_phase() -> None:
    objective = gan().train()
    assert list(objective.players) == ["discriminator", "generator"]
    players = {name: set(player.parameters()) for name, player in objective.players.items()}
    assert not players["discriminator"] & players["generator"]
    assert _touched(objective, "discriminator") == {"discriminator", "projector"}
    # the way to the generator leads through the discriminator, whose player does not step here
    assert _touched(objective, "generator") == {"discriminator", "generator"}
    assert _touched(gan(view=0.0), "discriminator") == {"discriminator"}


def test_losses_by_the_formula() -> None:
    objective, items = gan(**PURE).train(), batch(8)
    real = items.clip.float() / 127.5 - 1
    noise = torch.randn(8, 8, generator=rng(3))
    with torch.no_grad():
        fake = objective.generator(noise, (1, 16, 16)).clamp(-1.2, 1.2)
    difference = _score(objective.discriminator(real)) - _score(objective.discriminator(fake))
    for phase, sign, name in (("discriminator", 1, "d_loss"), ("generator", -1, "g_loss")):
        losses = objective.loss(phase, items, rng(3), 0.5)
        expected = F.softplus(-sign * difference).mean().item()
        assert losses.total.item() == pytest.approx(expected, rel=1e-5)
        assert losses.parts[name] == losses.total.item()
    parts = objective.loss("discriminator", items, rng(3), 0.5).parts
    assert parts["d_accuracy"] == (difference > 0).float().mean().item()
    assert set(parts) == {"d_loss", "d_accuracy", "diversity"}


def test_both_phases_see_the_same_real_ones_augmented_alike() -> None:
    seen: list[Tensor] = []
    objective = gan(**PURE)

    def alike(clip: Tensor, r: torch.Generator) -> Tensor:
        seen.append(clip)
        return clip.float() / 127.5 - 1 if clip.dtype == torch.uint8 else clip

    objective.alike = alike
    items = batch(8)
    for phase in objective.players:
        seen.clear()
        objective.loss(phase, items, rng(), 0.5)
        assert len(seen) == 2 and seen[0] is items.clip
        assert seen[1].requires_grad is (phase == "generator")


def test_the_generator_gets_gradients_through_the_augmentation() -> None:
    objective = gan(**PURE)
    plain = objective.alike
    objective.alike = lambda clip, r: plain(clip, r) * 0.0  # nothing is seen of it any more
    objective.loss("generator", batch(8), rng(), 0.5).total.backward()
    assert all(p.grad is None or not p.grad.any() for p in objective.generator.parameters())


def test_the_penalty_is_gamma_times_the_mean_squared_gradient_of_real_and_fake() -> None:
    """With a discriminator that is linear in the pixels the gradient is known."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((3 * 256,), 0.1))

        def forward(self, clip: Tensor) -> Verdict:
            whole = clip.flatten(1) @ self.weight
            return Verdict(torch.zeros(len(clip), 4), whole, _NOTHING(len(clip)))

    objective = gan(view=0.0, penalty=2.0, penalty_share=1.0, feature_matching=0.0)
    objective.discriminator = Linear()  # type: ignore[assignment]
    found = []
    for seed in range(40):
        losses = objective.loss("discriminator", batch(16), rng(seed), 0.5)
        found.append(losses.parts["penalty"].item())
        assert losses.total.item() == pytest.approx(
            losses.parts["d_loss"].item() + 2.0 * found[-1], rel=1e-4
        )
    assert sum(found) / len(found) == pytest.approx(768 * 0.01, rel=0.15)


def _NOTHING(count: int) -> Any:
    from discern.models.backbone import Features

    tokens = torch.zeros(count, 4, 2)
    return Features(tokens, torch.zeros(count, 2), tokens)


@pytest.mark.parametrize(
    ("settings", "phase", "part"),
    [
        ({"view": 0.0}, "discriminator", "view"),
        ({"penalty": 0.0}, "discriminator", "penalty"),
        ({"feature_matching": 0.0}, "generator", "matching"),
    ],
)
def test_a_weight_of_0_takes_a_term_out(settings: dict[str, float], phase: str, part: str) -> None:
    assert part in gan().loss(phase, batch(8), rng(), 0.5).parts
    assert part not in gan(**settings).loss(phase, batch(8), rng(), 0.5).parts


def test_both_verdicts_reach_the_generator() -> None:
    objective = gan(**PURE)
    found = []
    for head in (objective.discriminator.global_head, objective.discriminator.patch_head):
        kept = [p.detach().clone() for p in head.parameters()]
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.zero_()
        found.append("generator" in _touched(objective, "generator"))
        with torch.no_grad():
            for parameter, value in zip(head.parameters(), kept, strict=True):
                parameter.copy_(value)
    assert found == [True, True]


def test_without_a_view_no_second_view_is_made() -> None:
    objective = gan(view=0.0)

    def fail(*values: Any) -> Tensor:
        raise AssertionError("a term of weight 0 was computed")

    objective.view = fail
    objective.projector.forward = fail  # type: ignore[method-assign]
    objective.loss("discriminator", batch(8), rng(), 0.5)
    objective.loss("generator", batch(8), rng(), 0.5)


def test_the_view_term_pulls_two_views_of_an_item_together() -> None:
    objective = gan(penalty=0.0)
    losses = objective.loss("discriminator", batch(8), rng(), 0.5)
    pure = gan(penalty=0.0, view=0.0).loss("discriminator", batch(8), rng(), 0.5)
    added = losses.total.item() - pure.total.item()
    assert added == pytest.approx(losses.parts["view"].item(), rel=1e-4)


def test_an_eased_adversary_weighs_less() -> None:
    objective, items = gan(**PURE), batch(8)
    full = objective.loss("discriminator", items, rng(), 0.5).total.item()
    objective.adversary_scale.fill_(0.25)
    eased = objective.loss("discriminator", items, rng(), 0.5).total.item()
    assert eased == pytest.approx(full / 4)


def test_a_few_steps_make_the_fakes_harder_to_tell() -> None:
    """The generator alone learns against a discriminator that stands still."""
    objective = gan(**PURE).train()
    optimizer = torch.optim.AdamW(objective.generator.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss = objective.loss("generator", batch(16), rng(step), 0.5).total
        objective.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.1


def test_only_real_items_are_in_the_statistics_of_the_encoder() -> None:
    objective, alone = (gan(stem="deep", view=0.0).train() for _ in range(2))
    objective.loss("discriminator", batch(8), rng(), 0.5).total.backward()
    objective.loss("generator", batch(8), rng(), 0.5).total.backward()
    alone.discriminator.backbone(alone.alike(batch(8).clip, rng()))
    wanted = dict(alone.discriminator.named_buffers())
    assert wanted
    for name, value in objective.discriminator.named_buffers():
        assert value.equal(wanted[name]), name
