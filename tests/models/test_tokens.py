"""Tokens: patches and back, positions of any grid."""

from __future__ import annotations

import math

import pytest
import torch

from discern.models.tokens import (
    fill_tubelets,
    grid_of,
    patchify,
    positions,
    take_tokens,
    unpatchify,
)
from tests.tiny import rng

SHAPES = [
    # frames, height, width, tubelet, patch
    (1, 8, 8, 1, 4),
    (2, 8, 8, 2, 4),
    (6, 8, 16, 2, 4),
    (6, 12, 4, 3, 2),
    (4, 5, 10, 4, 5),
]


@pytest.mark.parametrize(("frames", "height", "width", "tubelet", "patch"), SHAPES)
def test_unpatchify_undoes_patchify(
    frames: int, height: int, width: int, tubelet: int, patch: int
) -> None:
    clip = torch.randn(2, 3, frames, height, width, generator=rng())
    patches = patchify(clip, tubelet, patch)
    grid = grid_of(clip.shape, tubelet, patch)
    assert patches.shape == (2, grid[0] * grid[1] * grid[2], 3 * tubelet * patch**2)
    assert torch.equal(unpatchify(patches, grid, tubelet, patch), clip)


def test_tokens_in_order_of_time_rows_columns() -> None:
    """Patches against slices by hand: token (t, h, w), its numbers in order C, t, p, p."""
    clip = torch.randn(1, 3, 4, 6, 8, generator=rng())
    patches = patchify(clip, 2, 2)[0]
    number = 0
    for t in range(2):
        for h in range(3):
            for w in range(4):
                square = (slice(2 * t, 2 * t + 2), slice(2 * h, 2 * h + 2), slice(2 * w, 2 * w + 2))
                assert torch.equal(patches[number], clip[0][(slice(None), *square)].flatten())
                number += 1
    assert number == len(patches)


@pytest.mark.parametrize(
    ("frames", "tubelet", "filled"), [(1, 2, 2), (3, 2, 4), (4, 2, 4), (1, 1, 1)]
)
def test_missing_frames_repeat_the_last(frames: int, tubelet: int, filled: int) -> None:
    clip = torch.randn(2, 3, frames, 4, 4, generator=rng())
    found = fill_tubelets(clip, tubelet)
    assert found.shape[2] == filled == grid_of(clip.shape, tubelet, 4)[0] * tubelet
    assert torch.equal(found[:, :, :frames], clip)
    for late in range(frames, filled):
        assert torch.equal(found[:, :, late], clip[:, :, -1])


def test_a_frame_that_is_no_whole_number_of_patches_is_refused() -> None:
    with pytest.raises(AssertionError):
        patchify(torch.zeros(1, 3, 1, 6, 8), 1, 4)


@pytest.mark.parametrize("width", [16, 24, 32, 96, 128, 192])
@pytest.mark.parametrize(
    "grid", [(1, 4, 4), (4, 8, 8), (3, 1, 5), (16, 2, 2), (1, 1, 1), (2, 16, 12)]
)
def test_every_token_has_its_own_position(grid: tuple[int, int, int], width: int) -> None:
    found = positions(grid, width)
    count = grid[0] * grid[1] * grid[2]
    assert found.shape == (count, width) and found.dtype == torch.float32
    apart = torch.cdist(found, found) + 10 * torch.eye(count)
    assert apart.min() > 0.05  # not only different in the last bit
    assert found.abs().max() <= 1


def test_positions_of_a_place_do_not_depend_on_the_grid() -> None:
    """Another size or length keeps what was learned about a place."""
    small = positions((2, 4, 4), 32).reshape(2, 4, 4, 32)
    large = positions((5, 8, 6), 32).reshape(5, 8, 6, 32)
    assert torch.equal(small, large[:2, :4, :4])


def test_positions_are_separable() -> None:
    found = positions((3, 4, 5), 32).reshape(3, 4, 5, 32)
    time, row, column = found[:, :1, :1], found[:1, :, :1], found[:1, :1, :]
    corner = found[:1, :1, :1]
    torch.testing.assert_close(found, time + row + column - 2 * corner, rtol=0, atol=1e-6)


def test_a_position_by_the_formula() -> None:
    """Width 32: eight numbers for the time, twelve for the row, twelve for the column."""
    found = positions((4, 4, 4), 32).reshape(4, 4, 4, 32)[3, 1, 2]
    expected: list[float] = []
    for place, width in ((3, 8), (1, 12), (2, 12)):
        angles = [place / 10_000 ** (i / (width // 2)) for i in range(width // 2)]
        expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_cached_positions_are_not_given_out_to_be_altered() -> None:
    first = positions((1, 2, 2), 16) + 0
    (positions((1, 2, 2), 16) + 1).mul_(3)
    assert torch.equal(positions((1, 2, 2), 16), first)


def test_take_tokens() -> None:
    tokens = torch.arange(2 * 4 * 3).reshape(2, 4, 3)
    keep = torch.tensor([[3, 0], [1, 1]])
    found = take_tokens(tokens, keep)
    assert found.tolist() == [
        [tokens[0, 3].tolist(), tokens[0, 0].tolist()],
        2 * [tokens[1, 1].tolist()],
    ]


def test_take_tokens_hands_back_the_gradient_of_a_gather() -> None:
    """Of a token that is taken twice, the sum."""
    tokens = torch.randn(2, 4, 3, generator=rng(), requires_grad=True)
    keep = torch.tensor([[3, 0, 2], [1, 1, 3]])
    weight = torch.randn(2, 3, 3, generator=rng(1))
    gathered = tokens.gather(1, keep.unsqueeze(-1).expand(-1, -1, 3))
    (expected,) = torch.autograd.grad((gathered * weight).sum(), tokens)
    (found,) = torch.autograd.grad((take_tokens(tokens, keep) * weight).sum(), tokens)
    assert torch.equal(found, expected)
