"""What each term of the masked GAN teaches, and whom: gradients by network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.objectives.terms import NOTHING, gradients_of, loss_of, moved, only, part_of
from tests.tiny import batch, masked_gan, rng


@pytest.mark.parametrize(
    ("term", "touched", "untouched"),
    [
        ("view", ["projector"], ["generator", "discriminator.patch_head", "predictor"]),
        ("reconstruction", ["generator"], ["projector", "discriminator.patch_head", "time_head"]),
        ("patch_adversary", ["discriminator.patch_head"], ["generator", "projector"]),
        ("time_fakes", ["time_head"], ["generator", "projector", "discriminator.global_head"]),
        ("code", ["coder", "generator"], ["projector", "discriminator", "time_head"]),
    ],
)
def test_what_a_term_teaches(term: str, touched: list[str], untouched: list[str]) -> None:
    gradients = gradients_of(only(term), batch(8, 4))
    if term != "code":
        touched = [*touched, "discriminator.backbone"]
    for part in touched:
        assert moved(gradients, part), part
    for part in untouched:
        assert not moved(gradients, part), part


def test_the_whole_verdict_leaves_the_encoder_alone() -> None:
    gradients = gradients_of(only("global_adversary"), batch(8))
    assert moved(gradients, "discriminator.global_head")
    assert not moved(gradients, "discriminator.backbone")
    assert not moved(gradients, "generator")


@pytest.mark.parametrize("frames", [1, 4])
def test_the_encoder_learns_nothing_from_the_generators_adversary(frames: int) -> None:
    """Its gradient, and the heads', are those of the discriminator's own loss, bit for bit."""
    settings = NOTHING | {"patch_adversary": 1.0, "global_adversary": 1.0, "penalty": 0.1}
    items = batch(16, frames)
    without = gradients_of(masked_gan(**settings, generator_adversary=0.0), items)
    with_it = gradients_of(masked_gan(**settings, generator_adversary=5.0), items)
    assert moved(with_it, "generator") and not moved(without, "generator")
    for name, expected in part_of(without, "discriminator").items():
        found = with_it[name]
        assert (found is None) == (expected is None), name
        assert found is None or torch.equal(found, expected), name


def test_the_generator_gets_the_followed_gradient_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = NOTHING | {"patch_adversary": 1.0, "global_adversary": 1.0, "penalty": 0.1}
    settings |= {"generator_adversary": 0.3}
    objective, items = masked_gan(**settings), batch(16)
    caught: dict[str, Tensor] = {}
    plain = objective._follow

    def follow(fake: Tensor, real: Tensor, push: Tensor) -> Tensor:
        caught.update(fake=fake, real=real, push=push)
        return plain(fake, real, push)

    def pixel_map(is_fake: Tensor, clip: Tensor) -> Tensor:
        caught["pixels"] = plain_map(is_fake, clip)
        return caught["pixels"]

    plain_map = objective._pixel_map
    monkeypatch.setattr(objective, "_follow", follow)
    monkeypatch.setattr(objective, "_pixel_map", pixel_map)
    total = loss_of(objective, items)
    parameters = list(objective.generator.parameters())
    fake, push = caught["fake"], caught["push"]
    # by hand: the push, as long as three tenths of the reconstruction's gradient on the pixels
    leaf = fake.detach().requires_grad_()
    error = objective._patch_error(leaf, caught["real"]).mean()
    (pull,) = torch.autograd.grad(error, leaf)
    length = 0.3 * pull.norm() / push.norm()
    expected = torch.autograd.grad(
        fake, parameters, push * length, retain_graph=True, allow_unused=True
    )
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    assert push.any() and not push.requires_grad
    # what the discriminator was not shown of a fake is not pushed
    shown = caught["pixels"].expand_as(push)
    assert not push[~shown].any() and 0 < shown.float().mean() < 1
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None
        torch.testing.assert_close(one, other)


def test_the_push_makes_fakes_look_real() -> None:
    """A step of the generator against its gradient lowers what the discriminator finds out."""
    settings = NOTHING | {"patch_adversary": 0.2, "global_adversary": 0.2, "penalty": 0.0}
    settings |= {"noise_share": 1.0, "adversary_noise": 0.0, "adversary_keep": 1.0}
    objective = masked_gan(**settings, generator_adversary=1.0).train()
    items = batch(16)

    @torch.no_grad()
    def fooled() -> float:
        shape = tuple(items.clip.shape[2:])
        noise = objective.generator.draw_noise(64, rng(5))
        return float(objective.discriminator(objective.generator(noise, shape)).patch.mean())

    before = fooled()
    for step in range(20):
        objective.zero_grad()
        loss_of(objective, items, step).backward()
        with torch.no_grad():
            for parameter in objective.generator.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad / (parameter.grad.norm() + 1e-9)
    assert fooled() > before + 0.05


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("term", ["patch_adversary", "global_adversary"])
def test_each_verdict_reaches_the_generator(term: str, detach: bool) -> None:
    """Also that of a head whose own loss stops before the encoder."""
    settings = {"generator_adversary": 0.3, "detach_patch": detach}
    gradients = gradients_of(only(term, **settings), batch(16))
    assert moved(gradients, "generator")
    teaches = term == "patch_adversary" and not detach
    assert moved(gradients, "discriminator.backbone") is teaches


def test_averages_get_no_gradient() -> None:
    for teacher in (False, True):
        objective = masked_gan(teacher=teacher)
        loss_of(objective, batch(8)).backward()
        assert all(p.grad is None for p in objective.average.parameters())


def test_a_teacher_gives_the_targets() -> None:
    objective = only("view", teacher=True)
    items = batch(8)
    before = loss_of(objective, items).item()
    gradients = gradients_of(objective, items)
    assert moved(gradients, "predictor") and moved(gradients, "projector")
    with torch.no_grad():
        for parameter in objective.average.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(1)))
    assert loss_of(objective, items).item() != before
    assert loss_of(only("view"), items).item() != before
