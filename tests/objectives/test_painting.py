"""What the masked GAN paints: the error by hand, and which patches are hidden or forged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from discern.objectives.masking import random_mask
from tests.objectives.terms import loss_of, only
from tests.tiny import batch, masked_gan, rng


@torch.no_grad()
def test_reconstruction_by_hand() -> None:
    """MAE's loss on the hidden patches alone, each divided by its own variance."""
    objective, items = only("reconstruction", mask_ratio=0.5, reconstruction_share=1.0), batch(4)
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
    objective = only("reconstruction")
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
    total = loss_of(objective, batch(8))
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


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
