"""Masked adversarial in-painting: what each term touches, and that a weight of 0 takes it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from discern.clip import Batch
from discern.objectives.masked_gan import MaskedGan
from discern.objectives.masking import random_mask
from discern.objectives.projection import BatchStandardize, projection_head
from discern.objectives.time_fakes import TIME_FAKES, fake_time
from tests.tiny import batch, masked_gan, rng

ONLY: dict[str, dict[str, float]] = {  # settings that leave one term in
    "view": {},
    "reconstruction": {},
    "patch_adversary": {"generator_adversary": 0.0, "penalty": 0.0},
    "global_adversary": {"generator_adversary": 0.0, "penalty": 0.0},
    "time_fakes": {},
    "code": {},
}
NOTHING: dict[str, float] = dict.fromkeys(ONLY, 0.0)
PARTS = {
    "view": {"view"},
    "reconstruction": {"reconstruction"},
    "patch_adversary": {"d_patch", "d_accuracy", "diversity"},
    "global_adversary": {"d_whole", "d_accuracy", "diversity"},
    "time_fakes": {"time_accuracy"},
    "code": {"code"},
}


def _only(*terms: str, **settings: Any) -> MaskedGan:
    """An objective with these terms alone."""
    chosen: dict[str, Any] = dict(NOTHING)
    for term in terms:
        chosen |= {term: 1.0} | ONLY[term]
    return masked_gan(**(chosen | settings)).train()


def _loss(objective: MaskedGan, items: Batch, seed: int = 0, progress: float = 0.5) -> Tensor:
    return objective.loss("both", items, rng(seed), progress).total


def _gradients(objective: MaskedGan, items: Batch, seed: int = 0) -> dict[str, Tensor | None]:
    objective.zero_grad(set_to_none=True)
    _loss(objective, items, seed).backward()
    return {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}


def _of(gradients: dict[str, Tensor | None], part: str) -> dict[str, Tensor | None]:
    return {name: value for name, value in gradients.items() if name.startswith(part)}


def _moved(gradients: dict[str, Tensor | None], part: str) -> bool:
    found = _of(gradients, part)
    assert found, part
    return any(value is not None and bool(value.any()) for value in found.values())


def _raise(*values: Any, **named: Any) -> NoReturn:
    raise AssertionError("a term of weight 0 was computed")


def _forbid(objective: MaskedGan, monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Whatever calls one of these networks or methods fails."""
    for part in parts:
        found: Any = objective
        *path, last = part.split(".")
        for name in path:
            found = getattr(found, name)
        target = getattr(found, last)
        if isinstance(target, nn.Module):
            monkeypatch.setattr(target, "forward", _raise)
        else:
            monkeypatch.setattr(found, last, _raise)


# ---------------------------------------------------------------- weights of 0


@pytest.mark.parametrize("term", ONLY)
def test_a_term_alone_has_its_own_parts_only(term: str) -> None:
    objective = _only(term)
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
    objective = _only(*terms)
    parts = objective.loss("both", batch(8, 4), rng(), 0.5).parts
    assert set(parts) == set().union(*(PARTS[term] for term in terms))
    _forbid(objective, monkeypatch, *forbidden)
    assert objective.loss("both", batch(8, 4), rng(), 0.5).parts == parts


def test_one_pass_of_the_encoder_serves_view_and_reconstruction() -> None:
    calls: list[int] = []
    objective = _only("view", "reconstruction")
    objective.discriminator.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append(len(inputs[0]))
    )
    _loss(objective, batch(8))
    assert calls == [16]
    objective = _only("reconstruction")  # MAE: one view is enough
    objective.discriminator.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append(len(inputs[0]))
    )
    _loss(objective, batch(8))
    assert calls == [16, 8]


def test_every_view_goes_through_the_encoder_once() -> None:
    calls: list[int] = []
    objective = _only("view", views=4)
    objective.discriminator.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append(len(inputs[0]))
    )
    assert torch.isfinite(_loss(objective, batch(8)))
    assert calls == [32]
    assert torch.isfinite(_loss(_only("view", views=4, teacher=True), batch(8)))


@pytest.mark.parametrize(("term", "part"), [("patch_adversary", "d_patch"), ("code", "code")])
def test_a_term_of_some_steps_is_in_its_share_of_them(term: str, part: str) -> None:
    name = {"patch_adversary": "adversary_chance", "code": "code_chance"}[term]
    objective, items = _only(term, **{name: 0.25}), batch(4)
    steps = [part in objective.loss("both", items, rng(step), 0.5).parts for step in range(80)]
    assert 8 <= sum(steps) <= 35
    never = _only(term, **{name: 0.0})
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
    objective = _only("view", window=0.5, opening=0.2)
    objective.discriminator.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(tuple(inputs[0].shape[2:]))
    )
    for progress in (0.0, 0.79, 0.81):
        assert torch.isfinite(_loss(objective, batch(4, frames), progress=progress))
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


@pytest.mark.parametrize("asked", [{"teacher": True}, {"perceptual": 1.0}])
def test_an_average_that_judges_learns_no_statistics_from_it(asked: dict[str, Any]) -> None:
    objective = masked_gan(stem="deep", **asked).train()
    before = {name: value.clone() for name, value in objective.average.named_buffers()}
    assert before
    _loss(objective, batch(8))
    for name, value in objective.average.named_buffers():
        assert value.equal(before[name]), name


def test_reconstruction_now_and_then() -> None:
    objective, items, draw = _only("reconstruction", reconstruction_chance=0.25), batch(2), rng()
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
    _forbid(objective, monkeypatch, "discriminator", "_forge")
    assert objective.loss("both", items, rng(), 0.7).total.item() == plain


# ---------------------------------------------------------------- gradients


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
    gradients = _gradients(_only(term), batch(8, 4))
    if term != "code":
        touched = [*touched, "discriminator.backbone"]
    for part in touched:
        assert _moved(gradients, part), part
    for part in untouched:
        assert not _moved(gradients, part), part


def test_the_whole_verdict_leaves_the_encoder_alone() -> None:
    gradients = _gradients(_only("global_adversary"), batch(8))
    assert _moved(gradients, "discriminator.global_head")
    assert not _moved(gradients, "discriminator.backbone")
    assert not _moved(gradients, "generator")


@pytest.mark.parametrize("frames", [1, 4])
def test_the_encoder_learns_nothing_from_the_generators_adversary(frames: int) -> None:
    """Its gradient, and the heads', are those of the discriminator's own loss, bit for bit."""
    settings = NOTHING | {"patch_adversary": 1.0, "global_adversary": 1.0, "penalty": 0.1}
    items = batch(16, frames)
    without = _gradients(masked_gan(**settings, generator_adversary=0.0), items)
    with_it = _gradients(masked_gan(**settings, generator_adversary=5.0), items)
    assert _moved(with_it, "generator") and not _moved(without, "generator")
    for name, expected in _of(without, "discriminator").items():
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
    total = _loss(objective, items)
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
        _loss(objective, items, step).backward()
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
    gradients = _gradients(_only(term, **settings), batch(16))
    assert _moved(gradients, "generator")
    teaches = term == "patch_adversary" and not detach
    assert _moved(gradients, "discriminator.backbone") is teaches


def test_averages_get_no_gradient() -> None:
    for teacher in (False, True):
        objective = masked_gan(teacher=teacher)
        _loss(objective, batch(8)).backward()
        assert all(p.grad is None for p in objective.average.parameters())


def test_a_teacher_gives_the_targets() -> None:
    objective = _only("view", teacher=True)
    items = batch(8)
    before = _loss(objective, items).item()
    gradients = _gradients(objective, items)
    assert _moved(gradients, "predictor") and _moved(gradients, "projector")
    with torch.no_grad():
        for parameter in objective.average.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(1)))
    assert _loss(objective, items).item() != before
    assert _loss(_only("view"), items).item() != before


# ---------------------------------------------------------------- terms by hand


@torch.no_grad()
def test_reconstruction_by_hand() -> None:
    """MAE's loss on the hidden patches alone, each divided by its own variance."""
    objective, items = _only("reconstruction", mask_ratio=0.5, reconstruction_share=1.0), batch(4)
    caught: list[Tensor] = []
    objective.generator.register_forward_hook(lambda module, inputs, out: caught.append(out))
    masks: list[Any] = []
    draw: Callable[..., Any] = objective._mask
    objective._mask = lambda clip, r, p: masks.append(draw(clip, r, p)) or masks[-1]  # type: ignore[func-returns-value,method-assign]
    seen: list[Tensor] = []
    objective.masked = lambda clip, r: seen.append(clip.float() / 127.5 - 1) or seen[-1]  # type: ignore[func-returns-value]
    found = objective.loss("both", items, rng(), 0.5).parts["reconstruction"]
    total, count = 0.0, 0
    for item in range(4):
        for token in masks[0].hidden[item].tolist():
            rows, columns = (
                slice(token // 4 * 4, token // 4 * 4 + 4),
                slice(token % 4 * 4, token % 4 * 4 + 4),
            )
            target = seen[0][item, :, 0, rows, columns]
            painted = caught[0][item, :, 0, rows, columns]
            twice = torch.cat([target.flatten(), target.flatten()])  # a tubelet of two frames
            total += float((painted - target).square().mean() / (twice.var() + 0.02))
            count += 1
    assert count == 4 * 8
    assert found == pytest.approx(total / count, rel=1e-4)


def test_a_perfect_painter_has_no_error() -> None:
    objective = _only("reconstruction")
    clip = batch(4, 4).clip.float() / 127.5 - 1
    assert objective._patch_error(clip, clip).abs().max() == 0
    worse = objective._patch_error(clip + 0.1, clip)
    assert worse.shape == (4, 32) and (worse > 0).all()


@pytest.mark.parametrize("noise_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("frames", [1, 4])
def test_forged_patches_are_hidden_ones_or_all(frames: int, noise_share: float) -> None:
    objective = masked_gan(noise_share=noise_share)
    clip = batch(8, frames).clip.float() / 127.5 - 1
    mask = objective._mask(clip, rng())
    features = objective.discriminator.backbone(clip, mask.keep)
    fake, is_fake = objective._forge(clip, features, mask, rng())
    tokens = 16 * max(1, frames // 2)
    assert fake.shape == clip.shape and is_fake.shape == (8, tokens)
    painted = 8 - round(8 * noise_share)
    seen = is_fake.gather(1, mask.keep)
    assert not seen[:painted].any() and is_fake[painted:].all()
    if painted:
        share = is_fake.gather(1, mask.hidden)[:painted].float().mean().item()
        assert share == pytest.approx(0.6, abs=0.15)
    # pixels follow their patch
    pixels = objective._pixel_map(is_fake, clip)
    assert pixels.shape == (8, 1, *clip.shape[2:])
    assert pixels[0, 0, 0, ::4, ::4].flatten().tolist() == is_fake[0, :16].tolist()
    assert pixels.float().mean().item() == pytest.approx(is_fake.float().mean().item())


def test_losses_without_a_single_fake_patch_are_finite() -> None:
    """Where all is seen there is nothing to forge."""
    settings = {"mask_ratio": 0.0, "noise_share": 0.0, "reconstruction": 0.0}
    objective = masked_gan(**settings)
    total = _loss(objective, batch(8))
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


@pytest.mark.parametrize("view", [0.0, 1.0])
def test_one_item(view: float) -> None:
    for frames in (1, 4):
        assert torch.isfinite(_loss(masked_gan(view=view), batch(1, frames)))


def test_masks_of_clips_are_tubes() -> None:
    objective = masked_gan(clip_mask_ratio=0.75, mask_ratio=0.5)
    clip = torch.zeros(6, 3, 4, 16, 16)
    for seed in range(6):
        mask = objective._mask(clip, rng(seed))
        assert mask.keep.shape == (6, 8) and mask.hidden.shape == (6, 24)
        first, second = mask.keep.sort(dim=1).values.reshape(6, 2, 4).unbind(1)
        assert torch.equal(second, first + 16)
        mask = objective._mask(clip[:, :, :1], rng(seed))
        assert mask.keep.shape == (6, 8)
        both = torch.cat([mask.keep, mask.hidden], 1).sort(dim=1).values
        assert torch.equal(both, torch.arange(16).expand(6, -1))
    keep = random_mask(6, (2, 4, 4), 0.5, rng(), tube=True).keep
    assert keep.shape == (6, 16)


@torch.no_grad()
def test_the_head_of_the_contrast_sees_what_differs_in_the_batch() -> None:
    x = 5 + torch.randn(64, 8, generator=rng()) * torch.linspace(0.1, 3, 8)
    found = BatchStandardize()(x.bfloat16().float())
    torch.testing.assert_close(found.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.std(0, unbiased=False), torch.ones(8), rtol=0.01, atol=0.01)
    assert BatchStandardize()(x[:1]).abs().max() == 0  # a single item differs from nothing
    assert list(BatchStandardize().state_dict()) == []
    head = projection_head(8, 4)
    assert head(x).shape == (64, 4)
    # a shift that all features share makes no difference
    torch.testing.assert_close(head(x + 3.0), head(x), rtol=0, atol=1e-3)


# ---------------------------------------------------------------- time


def test_fake_time_does_what_it_says() -> None:
    frames = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(400, 3, 6, 2, 2)
    altered, what = fake_time(frames, rng())
    assert altered.shape == frames.shape and what.dtype == torch.int64
    assert torch.equal(altered, altered[:, :1, :, :1, :1].expand_as(altered))
    orders = altered[:, 0, :, 0, 0].int().tolist()
    straight = list(range(6))
    shuffled = []
    for order, number in zip(orders, what.tolist(), strict=True):
        name = TIME_FAKES[number]
        if name == "real":
            assert order == straight
        elif name == "frozen":
            assert len(set(order)) == 1
        elif name == "reversed":
            assert order == straight[::-1]
        else:
            assert sorted(order) == straight
            shuffled.append(tuple(order))
    assert len(set(shuffled)) > 50
    counts = torch.bincount(what, minlength=4)
    assert counts.min() > 70 and len(counts) == 4
    frozen = {order[0] for order, number in zip(orders, what.tolist(), strict=True) if number == 1}
    assert frozen == set(straight)
    again, same = fake_time(frames, rng())
    assert torch.equal(again, altered) and torch.equal(same, what)


def test_time_can_be_learned_from_motion() -> None:
    """A bar that moves right: four answers, and a few steps of the time term tell them apart."""
    objective = _only("time_fakes", adversary_share=1.0, adversary_keep=1.0)
    bars = torch.zeros(32, 3, 8, 16, 16, dtype=torch.uint8)
    for frame in range(8):
        bars[:, :, frame, :, 2 * frame : 2 * frame + 2] = 255
    objective.masked = lambda clip, r: clip.float() / 127.5 - 1
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    accuracy = 0.0
    for step in range(40):
        losses = objective.loss("both", Batch(clip=bars), rng(step), 0.5)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        accuracy = 0.8 * accuracy + 0.2 * losses.parts["time_accuracy"]
    assert accuracy > 0.8
