"""Edges: what stays where light changes, and what a frame without any looks like."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data
from torch import Tensor

from discern.data.augment import to_float
from discern.errors import ConfigError
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.edges import ALPHA, GAMMA, INNER, LIMIT, OUTER, blurred, edges, texture


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A real photograph of a face.  uint8 [192, 192, 3]"""
    return np.ascontiguousarray(data.astronaut()[0:192, 128:320])


def as_clip(frame: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> [1, 3, 1, H, W]"""
    return to_float(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None, :, None])


def alike(one: Tensor, other: Tensor) -> float:
    return float(np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1])


def test_a_blur_is_that_of_scipy() -> None:
    x = torch.rand(2, 1, 40, 30, generator=torch.Generator().manual_seed(0))
    expected = np.stack([gaussian_filter(one[0], 2.0, mode="nearest") for one in x.numpy()])
    torch.testing.assert_close(blurred(x, 2.0)[:, 0], torch.from_numpy(expected))


def test_texture_is_that_of_the_paper(photo: np.ndarray) -> None:
    """Tan & Triggs 2010, section III, computed with SciPy."""
    grey = photo.mean(axis=2) / 255
    x = np.clip(grey, 0.5 / 255, 1) ** GAMMA
    x = gaussian_filter(x, INNER, mode="nearest") - gaussian_filter(x, OUTER, mode="nearest")
    x = x / (np.abs(x) ** ALPHA).mean() ** (1 / ALPHA)
    x = x / (np.minimum(np.abs(x), LIMIT) ** ALPHA).mean() ** (1 / ALPHA)
    expected = torch.from_numpy(np.tanh(x / LIMIT)).float()
    found = texture(torch.from_numpy(grey).float()[None, None])[0, 0]
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_edges_stay_where_light_falls_from_a_side(photo: np.ndarray) -> None:
    ramp = np.linspace(1.0, 1 / 8, photo.shape[1])[None, :, None]
    dark = (photo * ramp).round().astype(np.uint8)
    plain = alike(as_clip(photo), as_clip(dark))
    kept = alike(edges(as_clip(photo)), edges(as_clip(dark)))
    assert kept > 0.85 and kept > plain + 0.05


def test_it_does_not_matter_which_side_of_an_edge_is_the_lighter_one() -> None:
    step = torch.full((1, 3, 1, 24, 24), -0.5)
    step[..., 12:] = 0.5
    one, other = edges(step), edges(step.flip(-1))
    torch.testing.assert_close(one, other.flip(-1), atol=5e-3, rtol=0)
    strength, cosine, sine = one[0, :, 0, 12, 12]
    assert strength > 0.5  # and it runs down: the gradient across, twice whose angle is 0
    torch.testing.assert_close(cosine, strength, rtol=1e-2, atol=0)
    assert sine.abs() < 1e-3
    turned = edges(step.transpose(-1, -2))[0, 1, 0, 12, 12]
    torch.testing.assert_close(turned, -cosine, rtol=1e-2, atol=0)


def test_nothing_is_made_of_nothing() -> None:
    flat = edges(torch.full((1, 3, 2, 16, 12), 0.3))
    assert flat.shape == (1, 3, 2, 16, 12)
    assert (flat[:, 1:] == 0).all()  # no direction anywhere


def test_frames_and_items_do_not_mix() -> None:
    clip = torch.rand(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    alone = edges(clip[1:, :, 1:])
    torch.testing.assert_close(edges(clip)[1:, :, 1:], alone, atol=1e-3, rtol=0)


def test_slopes_are_finite_in_the_dark_and_autocast_changes_nothing() -> None:
    clip = torch.full((1, 3, 1, 16, 16), -1.0)
    clip[..., 4:8] = 1.0
    clip.requires_grad_(True)
    found = edges(clip)
    found.square().sum().backward()
    assert clip.grad is not None and clip.grad.isfinite().all() and clip.grad.abs().sum() > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(edges(clip), found)


def test_an_encoder_sees_them_where_it_is_told_to(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    config = BackboneConfig(width=16, depth=1, heads=2, patch=16, sees="edges")
    backbone = Backbone(config).eval()
    clip = as_clip(photo)
    torch.testing.assert_close(backbone.patches(clip), backbone.stem(edges(clip)))
    torch.testing.assert_close(backbone(clip).early, backbone.stem.seen(edges(clip))[1])
    with pytest.raises(ConfigError, match="edges have 3 channels, not 1"):
        Backbone(BackboneConfig(channels=1, sees="edges"))
