"""Corruptions: shapes, severity that grows, one draw for one seed, time kept where it should be."""

from __future__ import annotations

import pytest
import torch

from discern.security.corruptions import CORRUPTIONS, IN_TIME, SEVERITIES
from tests.tiny import pixels, rng


@pytest.mark.parametrize("name", CORRUPTIONS | IN_TIME)
def test_each_grows_with_severity(name: str) -> None:
    spoil = (CORRUPTIONS | IN_TIME)[name]
    clip = pixels(6, 6, side=32)
    before = clip.clone()
    far = []
    for severity in SEVERITIES:
        found = spoil(clip, severity, rng())
        assert found.shape == clip.shape and found.dtype == torch.uint8
        assert torch.equal(found, spoil(clip, severity, rng()))
        far.append((found.float() - clip.float()).abs().mean().item())
    assert torch.equal(clip, before)
    assert far[0] > 0 and far[-1] > 1.5 * far[0]
    assert all(later >= 0.9 * earlier for earlier, later in zip(far, far[1:], strict=False))


def test_lost_frames_are_black_or_stand_still() -> None:
    clip = pixels(4, 8, side=16).clamp(min=1)
    black = IN_TIME["dropped"](clip, 4, rng()).flatten(3).eq(0).all(dim=3).all(dim=1)  # [B, T]
    assert 0.3 < black.float().mean() < 0.9
    still = IN_TIME["frozen"](clip, 4, rng())
    same = (still[:, :, 1:] == still[:, :, :-1]).flatten(3).all(dim=3).all(dim=1)
    assert 0.3 < same.float().mean() < 0.9
    assert torch.equal(still[:, :, 0], clip[:, :, 0])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_are_clips_of_one_frame(name: str) -> None:
    assert CORRUPTIONS[name](pixels(3, 1), 3, rng()).shape == (3, 3, 1, 16, 16)
