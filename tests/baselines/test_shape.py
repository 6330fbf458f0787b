"""HOG against scikit-image's, on all sizes."""

from __future__ import annotations

import numpy as np
import pytest

from discern.baselines.shape import HogConfig, grid_weights, hog, hog_of_grey, shrink


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (64, 40)])
def test_equals_scikit_image_without_interpolation(size: tuple[int, int]) -> None:
    from skimage.feature import hog as reference

    grey = np.random.default_rng(0).random((3, *size)).astype(np.float32)
    config = HogConfig(directions=9, signed=False, interpolate=False)
    expected = [
        reference(image, 9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys")
        for image in grey
    ]
    np.testing.assert_allclose(hog_of_grey(grey, config), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (8, 30), (16, 16), (28, 28), (33, 47), (200, 90)])
def test_takes_any_size(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    features = hog(frames)
    assert features.dtype == np.float32 and features.shape[0] == 2 and features.shape[1] >= 72
    assert np.isfinite(features).all()


def test_the_chunk_of_an_image_does_not_change_its_features() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(hog(frames)[37:], hog(frames[37:]), atol=1e-6)


def test_flat_images_give_zeros() -> None:
    assert not hog(np.full((1, 16, 16, 3), 77, np.uint8)).any()


def test_signed_directions_tell_an_edge_from_its_reverse() -> None:
    edge = np.zeros((1, 32, 32, 3), np.uint8)
    edge[:, :, 16:] = 200
    features = hog(np.concatenate([edge, 200 - edge]))
    assert np.abs(features[0] - features[1]).max() > 0.1
    unsigned = hog(np.concatenate([edge, 200 - edge]), HogConfig(signed=False, directions=9))
    np.testing.assert_allclose(unsigned[0], unsigned[1], atol=1e-5)


def test_shrink_keeps_means_and_shape() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 90, 130, 3), np.uint8)
    small = shrink(frames, 65)
    assert small.shape == (2, 45, 65, 3)
    np.testing.assert_allclose(small.mean((1, 2)), frames.mean((1, 2)), rtol=1e-4)
    assert shrink(frames, 130).shape == frames.shape


@pytest.mark.parametrize("smooth", [True, False])
def test_every_pixel_has_one_vote(smooth: bool) -> None:
    np.testing.assert_allclose(grid_weights(33, 4, smooth).sum(0), 1, atol=1e-6)
