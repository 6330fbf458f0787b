"""Stems: what a token has seen, for any patch and number of frames."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from discern.models.batch_norm import BatchNorm
from discern.models.stem import ConvStem, DeepStem, FrameStem, PatchStem, _strides, changes
from tests.tiny import rng


def _changed(stem: torch.nn.Module, clip: Tensor, other: Tensor) -> list[int]:
    """The tokens in which two clips differ."""
    with torch.no_grad():
        return (stem(clip) != stem(other)).any(-1).any(0).nonzero().flatten().tolist()


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_a_patch_stem_sees_one_patch_at_a_time(kind: str) -> None:
    stem = PatchStem(kind, 3, 2, 4, 8)
    clip = torch.randn(2, 3, 2, 12, 12, generator=rng())
    other = clip.clone()
    other[..., 4:8, 4:8] += 1
    assert _changed(stem, clip, other) == [4]


@pytest.mark.parametrize("patch", range(2, 17))
def test_a_convolutional_stem_fits_any_patch_and_looks_at_neighbours_only(patch: int) -> None:
    torch.manual_seed(0)
    stem = ConvStem(3, 2, patch, 8)
    clip = torch.randn(1, 3, 2, 5 * patch, 6 * patch, generator=rng())
    assert stem(clip).shape == (1, 30, 8)
    # GroupNorm is taken over the whole frame; without it a token has seen its patch and a rim
    stem.norm = torch.nn.Identity()
    for stage in stem.between:
        stage[1] = torch.nn.Identity()
    other = clip.clone()
    other[..., 2 * patch : 3 * patch, 3 * patch : 4 * patch] += 1
    changed = _changed(stem, clip, other)
    around = {row * 6 + column for row in (1, 2, 3) for column in (2, 3, 4)}
    assert 2 * 6 + 3 in changed and set(changed) <= around
    assert len(changed) > 1  # it does look over the edge


@pytest.mark.parametrize("patch", range(1, 17))
def test_a_deep_stem_fits_any_patch_and_looks_a_few_patches_far(patch: int) -> None:
    torch.manual_seed(0)
    stem = DeepStem(3, 2, patch, 16).eval()
    # of patches; one more on each side than is looked at
    rim = 6 if patch > 3 else 8
    h, w = 2 * rim + 3, 2 * rim + 4
    row, column = rim + 1, rim + 2
    clip = torch.randn(1, 3, 2, h * patch, w * patch, generator=rng())
    assert stem(clip).shape == (1, h * w, 16)
    other = clip.clone()
    other[..., row * patch :, column * patch :][..., :patch, :patch] += 1
    changed = _changed(stem, clip, other)
    near = range(-rim, rim + 1)
    around = {(row + down) * w + column + right for down in near for right in near}
    assert row * w + column in changed and set(changed) <= around
    assert len(changed) > 9  # farther than to its neighbours


@pytest.mark.parametrize(
    ("poolings", "patch", "stride", "pools"),
    [
        *[(3, 2, 1, [2]), (3, 4, 1, [2, 2]), (3, 7, 1, [7]), (3, 8, 1, [2, 2, 2])],
        *[(3, 16, 2, [2, 2, 2]), (1, 4, 2, [2]), (2, 8, 2, [2, 2]), (4, 16, 1, [2, 2, 2, 2])],
    ],
)
def test_a_deep_stem_sees_finely_first(
    poolings: int, patch: int, stride: int, pools: list[int]
) -> None:
    """And pools as soon as it may: what comes after is cheap."""
    stem = DeepStem(3, 2, patch, 16, poolings=poolings)
    assert len([one for one in stem.stages if isinstance(one, BatchNorm)]) == 2 * poolings
    assert stem.fine.stride == (stride, stride)
    assert {one.stride for one in stem.stages if isinstance(one, torch.nn.Conv2d)} == {(1, 1)}
    found = [
        (place, one) for place, one in enumerate(stem.stages) if isinstance(one, torch.nn.MaxPool2d)
    ]
    assert [one.kernel_size for _, one in found] == pools and found[0][0] == 1


@pytest.mark.parametrize("kind", [ConvStem, DeepStem])
def test_a_convolutional_stem_sees_a_frame_and_its_change_to_the_next(
    kind: type[ConvStem | DeepStem],
) -> None:
    torch.manual_seed(0)
    stem = kind(3, 2, 4, 8).eval()
    clip = torch.randn(1, 3, 5, 8, 8, generator=rng())  # 5 frames: the last tubelet repeats one
    assert stem(clip).shape == (1, 12, 8)
    # the last frame has no next one: it shows the change that led to it
    for frame, seen_by in ((0, [0]), (1, [0]), (2, [0, 1]), (3, [1, 2]), (4, [1, 2])):
        other = clip.clone()
        other[:, :, frame] += 1
        expected = [4 * tubelet + token for tubelet in seen_by for token in range(4)]
        assert _changed(stem, clip, other) == expected, f"frame {frame}"


def test_the_change_to_the_next_frame() -> None:
    clip = torch.tensor([1.0, 3.0, 4.0, 9.0]).view(1, 1, 4, 1, 1).expand(2, 3, 4, 2, 2)
    expected = torch.tensor([2.0, 1.0, 5.0, 5.0]).view(1, 1, 4, 1, 1).expand(2, 3, 4, 2, 2)
    assert changes(clip).equal(expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [ConvStem, DeepStem])
def test_a_still_clip_is_its_image_in_each_tubelet(kind: type[ConvStem | DeepStem]) -> None:
    torch.manual_seed(0)
    stem = kind(3, 2, 4, 8).eval()
    image = torch.randn(2, 3, 1, 8, 12, generator=rng())
    tokens = stem(image.expand(-1, -1, 4, -1, -1)).unflatten(1, (2, -1))  # [B, 2, N, D]
    for tubelet in range(2):
        torch.testing.assert_close(tokens[:, tubelet], stem(image), rtol=0, atol=1e-5)
    stem.motion.weight.add_(1)
    torch.testing.assert_close(tokens[:, 0], stem(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_kept_tokens_are_those_of_the_whole() -> None:
    clip = torch.randn(2, 3, 4, 8, 12, generator=rng())
    keep = torch.tensor([[3, 0, 11], [7, 2, 5]])
    stems = (ConvStem(3, 2, 4, 8), DeepStem(3, 2, 4, 8).eval(), PatchStem("mlp", 3, 2, 4, 8))
    for stem in stems:
        kept, whole = stem(clip, keep), stem(clip)
        for item in range(2):
            torch.testing.assert_close(kept[item], whole[item, keep[item]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("patch", [*range(1, 17), 24, 32])
def test_strides_make_the_patch(patch: int) -> None:
    strides = _strides(patch)
    assert math.prod(strides) == patch and len(strides) >= 2
    assert len(strides) == 2 or (patch > 8 and max(strides) <= 3)


@torch.no_grad()
def test_a_deep_stem_normalises_images_and_clips_apart() -> None:
    torch.manual_seed(0)
    stem = DeepStem(3, 2, 4, 8)
    clip = torch.randn(16, 3, 4, 16, 16, generator=rng())
    for _ in range(60):
        stem(clip), stem(clip[:, :, :1])
    seen = stem(clip), stem(clip[:, :, :1])  # by their own batch
    stem.eval()
    for found, wanted in zip((stem(clip), stem(clip[:, :, :1])), seen, strict=True):
        assert (found - wanted).abs().mean() < 0.02
    for norm in (one for one in stem.modules() if isinstance(one, BatchNorm)):
        norm.mean[1], norm.var[1] = norm.mean[0], norm.var[0]
    assert (stem(clip) - seen[0]).abs().mean() > 0.05


@pytest.mark.parametrize(
    ("kind", "more", "share"),
    [(ConvStem, {}, 0.12), (DeepStem, {"poolings": 2}, 0.4), (DeepStem, {"poolings": 3}, 1.7)],
)
def test_a_large_patch_costs_little_beside_the_blocks(
    kind: type[ConvStem | DeepStem], more: dict[str, Any], share: float
) -> None:
    """But for a stem that pools three times: that one is most of a small network."""
    width, side, patch = 192, 224, 16
    stem: FrameStem = kind(3, 2, patch, width, **more).eval()
    products = 0

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal products
        assert isinstance(module, torch.nn.Conv2d)
        products += out[0].numel() * module.weight[0].numel()

    for one in (one for one in stem.modules() if isinstance(one, torch.nn.Conv2d)):
        one.register_forward_hook(count)
    with torch.no_grad():
        found = stem(torch.zeros(1, 3, 1, side, side))
    tokens = (side // patch) ** 2
    assert found.shape == (1, tokens, width)
    assert 0 < products < share * (12 * tokens * 12 * width**2)  # of twelve blocks


@pytest.mark.parametrize(
    ("patch", "poolings", "side"),
    [(8, 3, 16), (8, 2, 8), (16, 2, 4), (16, 4, 16), (4, 3, 16), (2, 3, 16), (1, 2, 32)],
)
@torch.no_grad()
def test_early_is_what_the_first_two_normalisations_see(
    patch: int, poolings: int, side: int
) -> None:
    stem = DeepStem(3, 2, patch, 16, poolings=poolings).eval()
    seen: list[torch.Tensor] = []
    norms = [one for one in stem.stages if isinstance(one, BatchNorm)]
    of_strides = len(norms) - 2 * poolings
    for norm in norms[of_strides : of_strides + 2]:
        norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    _, early = stem.seen(torch.rand(2, 3, 4, 32, 32))
    assert [one.shape for one in early] == 2 * [(2 * 4, 8, side, side)]
    assert all(torch.equal(mine, wanted) for mine, wanted in zip(early, seen, strict=True))
