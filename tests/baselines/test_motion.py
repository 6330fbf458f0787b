"""Optical flow against known motions and scikit-image; motion features on all shapes."""

from __future__ import annotations

import numpy as np
import pytest

from discern.baselines.motion import motion_difference, motion_flow, motion_hog, optical_flow

FEATURES = [motion_hog, motion_difference, motion_flow]


def _texture(side: int = 64) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), 2)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def _moving(down: int, right: int, frames: int = 7) -> np.ndarray:
    image = (_texture(48) * 255).astype(np.uint8)
    clip = np.stack([np.roll(image, (t * down, t * right), (0, 1)) for t in range(frames)])
    return clip[None, ..., None].repeat(3, -1)


@pytest.mark.parametrize("motion", [(0, 1), (2, -1.5), (3, 4), (0.3, 0), (6, -7)])
def test_flow_finds_a_shift(motion: tuple[float, float]) -> None:
    from scipy.ndimage import shift

    before = _texture()
    after = shift(before, motion, mode="nearest")
    inside = optical_flow(before[None], after[None])[:, 0, 10:-10, 10:-10]
    np.testing.assert_allclose(np.median(inside, axis=(1, 2)), motion, atol=0.1)


def test_flow_agrees_with_scikit_image() -> None:
    from scipy.ndimage import map_coordinates
    from skimage.registration import optical_flow_ilk

    before = _texture()
    y, x = np.mgrid[:64, :64].astype(float)
    after = map_coordinates(before, [y - 0.02 * (x - 32), x + 0.02 * (y - 32)], mode="nearest")
    own = optical_flow(before[None], after[None])[:, 0, 10:-10, 10:-10]
    peer = optical_flow_ilk(before, after)[:, 10:-10, 10:-10]
    assert np.abs(own - peer).mean() < 0.1
    assert np.abs(peer).mean() > 0.2  # there was something to find


def test_flow_of_nothing_is_nothing() -> None:
    flat = np.full((1, 16, 16), 0.5, np.float32)
    assert not optical_flow(flat, flat).any()


def test_directions_and_times_are_told_apart() -> None:
    right, left, still = (motion_flow(_moving(0, step))[0] for step in (2, -2, 0))
    assert np.linalg.norm(right - left) > 1 and np.linalg.norm(right - still) > 1
    # first to the right, then to the left: the thirds of time differ
    there = _moving(0, 2)
    both = motion_flow(np.concatenate([there, there[:, ::-1]], axis=1))[0]
    shares = both[: 3 * 4 * 4 * 9].reshape(3, -1)
    assert np.linalg.norm(shares[0] - shares[2]) > 1


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (5, 16, 16), (4, 33, 70), (3, 100, 90)])
def test_takes_any_shape(features, shape: tuple[int, int, int]) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    found = features(clips)
    assert found.dtype == np.float32 and len(found) == 2 and np.isfinite(found).all()


@pytest.mark.parametrize("features", FEATURES)
def test_a_clip_alone_has_the_features_it_has_among_others(features) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(features(clips)[1:2], features(clips[1:2]), atol=1e-5)
