"""Masks: each token once, the share that was asked for, tubes, squares."""

from __future__ import annotations

import pytest
import torch

from discern.objectives.masking import random_mask, window
from tests.tiny import rng

CASES = [
    # grid, ratio, block, tube
    ((1, 4, 4), 0.5, 1, False),
    ((1, 8, 8), 0.75, 2, False),
    ((4, 8, 8), 0.9, 1, True),
    ((4, 8, 6), 0.75, 2, True),
    ((3, 5, 7), 0.6, 2, True),
    ((3, 5, 7), 0.6, 2, False),
    ((2, 2, 2), 0.99, 1, False),
    ((1, 4, 4), 0.0, 1, False),
]


@pytest.mark.parametrize(("grid", "ratio", "block", "tube"), CASES)
def test_keep_and_hidden_are_a_partition(
    grid: tuple[int, int, int], ratio: float, block: int, tube: bool
) -> None:
    mask = random_mask(20, grid, ratio, rng(), block=block, tube=tube)
    count = grid[0] * grid[1] * grid[2]
    both = torch.cat([mask.keep, mask.hidden], dim=1)
    assert torch.equal(both.sort(dim=1).values, torch.arange(count).expand(20, -1))
    per_step = grid[1] * grid[2]
    steps = grid[0] if tube else 1
    unit = count // steps
    assert mask.keep.shape == (20, steps * max(1, round(unit * (1 - ratio))))
    assert per_step * grid[0] == count
    again = random_mask(20, grid, ratio, rng(), block=block, tube=tube)
    assert torch.equal(again.keep, mask.keep)
    if ratio > 0:
        assert len({tuple(row) for row in mask.keep.sort(dim=1).values.tolist()}) > 3


@pytest.mark.parametrize("block", [1, 2])
def test_tubes_are_the_same_in_all_frames(block: int) -> None:
    mask = random_mask(10, (4, 6, 6), 0.75, rng(), block=block, tube=True)
    seen = torch.zeros(10, 4 * 36, dtype=torch.bool).scatter(1, mask.keep, True)
    seen = seen.reshape(10, 4, 36)
    assert torch.equal(seen, seen[:, :1].expand_as(seen)) and (seen[:, 0].sum(1) == 9).all()


def test_without_tubes_frames_differ() -> None:
    mask = random_mask(10, (4, 6, 6), 0.75, rng())
    seen = torch.zeros(10, 4 * 36, dtype=torch.bool).scatter(1, mask.keep, True).reshape(10, 4, 36)
    assert not torch.equal(seen, seen[:, :1].expand_as(seen))


def test_blocks_are_squares() -> None:
    """All squares are hidden or seen as a whole, but for the one that the cut falls into."""
    mask = random_mask(50, (1, 8, 8), 0.5, rng(), block=2)
    seen = torch.zeros(50, 64, dtype=torch.bool).scatter(1, mask.keep, True).reshape(50, 8, 8)
    squares = seen.reshape(50, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(50, 16, 4)
    whole = squares.all(-1) | ~squares.any(-1)
    assert ((~whole).sum(1) <= 1).all()


def test_every_token_is_hidden_as_often() -> None:
    for block in (1, 2):
        mask = random_mask(4000, (1, 4, 4), 0.4, rng(), block=block)
        often = torch.bincount(mask.hidden.flatten(), minlength=16) / 4000
        assert (often - 6 / 16).abs().max() < 0.04


def test_a_window_is_a_part_of_whole_patches_anywhere() -> None:
    clip = torch.arange(12.0 * 20).view(1, 1, 1, 12, 20).expand(400, 1, 2, 12, 20)
    found = window(clip, 0.5, 4, rng())
    assert found.shape == (400, 1, 2, 8, 8)  # 1.5 and 2.5 patches are 2
    corners = set()
    for one, whole in zip(found, clip, strict=True):  # each item has its own
        top, left = divmod(int(one.min()), 20)
        corners.add((top, left))
        assert one.equal(whole[..., top : top + 8, left : left + 8])  # in all frames the same
    assert corners == {(top, left) for top in range(5) for left in range(13)}
    assert window(clip, 1.0, 4, rng()) is clip
    assert window(clip, 0.01, 4, rng()).shape == (400, 1, 2, 4, 4)
