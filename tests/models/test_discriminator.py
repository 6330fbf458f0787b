"""The discriminator: verdicts on patches and the whole, and where gradients stop."""

from __future__ import annotations

import pytest
import torch

from discern.models.discriminator import Discriminator
from tests.tiny import players, rng


def _discriminator(detach_global: bool = True, detach_patch: bool = False) -> Discriminator:
    return players(detach_global=detach_global, detach_patch=detach_patch)[0].eval()


def _clip() -> torch.Tensor:
    return torch.randn(2, 3, 1, 16, 16, generator=rng())


def _has_gradient(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


@torch.no_grad()
def test_a_verdict_for_each_seen_patch_and_one_for_all() -> None:
    discriminator, clip = _discriminator(), _clip()
    verdict = discriminator(clip)
    assert verdict.patch.shape == (2, 16) and verdict.whole.shape == (2,)
    keep = torch.tensor([[0, 4, 15], [7, 3, 2]])
    some = discriminator(clip, keep)
    assert some.patch.shape == (2, 3) and some.whole.shape == (2,)
    features = discriminator.backbone(clip, keep)
    assert torch.equal(some.features.tokens, features.tokens)
    expected = discriminator.patch_head(features.tokens)[..., 0]
    torch.testing.assert_close(some.patch, expected)
    torch.testing.assert_close(some.whole, discriminator.global_head(features.pooled)[..., 0])


@torch.no_grad()
def test_verdicts_are_in_full_precision() -> None:
    discriminator = _discriminator()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        verdict = discriminator(_clip())
    assert verdict.patch.dtype == verdict.whole.dtype == torch.float32


@pytest.mark.parametrize("detach", [True, False])
def test_the_global_head_leaves_the_encoder_alone_when_detached(detach: bool) -> None:
    discriminator = _discriminator(detach)
    discriminator(_clip()).whole.sum().backward()
    assert _has_gradient(discriminator.global_head)
    assert _has_gradient(discriminator.backbone) is not detach
    assert all(p.grad is None for p in discriminator.backbone.parameters()) is detach
    assert not _has_gradient(discriminator.patch_head)


def test_a_generator_learns_through_the_verdict_on_the_whole() -> None:
    discriminator, clip = _discriminator(), _clip().requires_grad_()
    verdict = discriminator(clip)
    whole = discriminator.judge_whole(verdict.features.pooled, detach=False)
    assert torch.equal(whole, verdict.whole)
    (gradient,) = torch.autograd.grad(whole.sum(), clip)
    assert gradient.any()


@pytest.mark.parametrize("detach", [True, False])
def test_the_patch_head_teaches_the_encoder_unless_detached(detach: bool) -> None:
    discriminator = _discriminator(detach_patch=detach)
    discriminator(_clip()).patch.sum().backward()
    assert _has_gradient(discriminator.patch_head)
    assert _has_gradient(discriminator.backbone) is not detach
    assert not _has_gradient(discriminator.global_head)


def test_a_generator_learns_through_the_verdict_on_patches() -> None:
    discriminator, clip = _discriminator(detach_patch=True), _clip().requires_grad_()
    verdict = discriminator(clip)
    patches = discriminator.judge_patches(verdict.features.tokens, detach=False)
    assert torch.equal(patches, verdict.patch)
    (gradient,) = torch.autograd.grad(patches.sum(), clip)
    assert gradient.any()
