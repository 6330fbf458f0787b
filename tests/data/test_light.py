"""Light: what falls on an item, within bounds; and texture that stays when light changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from discern.clip import Clip, Kind
from discern.data.augment import AugmentConfig, augment
from discern.data.light import even_light
from discern.data.preprocess import PreprocessConfig, prepare
from tests.tiny import pixels, rng


@pytest.mark.parametrize("frames", [1, 4])
def test_light_only_takes_away_and_is_the_same_in_all_frames(frames: int) -> None:
    clip = torch.full((16, 3, frames, 12, 10), 0.6)
    lit = augment(clip, AugmentConfig(flip=0.0, light=2.0, light_chance=1.0), rng())
    assert lit.max() <= 0.6 + 1e-6 and lit.min() >= -1
    assert torch.equal(lit, lit[:, :, :1].expand_as(lit))
    sides = (lit + 1).flatten(3).amax(3) / (lit + 1).flatten(3).amin(3).clamp(min=1e-6)
    assert sides.median() > 2  # from one side
    darkest = ((lit + 1) / 1.6).amin()
    assert darkest >= torch.tensor(-2 * 2.0 - 2 * 2.0).exp()
    assert torch.equal(augment(clip, AugmentConfig(flip=0.0), rng()), clip)


def test_a_chance_of_light_leaves_some_as_they_are() -> None:
    clip = torch.rand(64, 3, 1, 8, 8, generator=rng()) * 2 - 1
    lit = augment(clip, AugmentConfig(flip=0.0, light=2.0, light_chance=0.5), rng())
    same = torch.isclose(lit, clip, atol=1e-6).flatten(1).all(dim=1).float().mean()
    assert 0.3 < same < 0.7


def test_texture_stays_where_light_changes() -> None:
    """A real face-like photograph, lit from a side by a factor of eight."""
    photo = data.astronaut()[0:192, 128:320]
    ramp = np.linspace(1.0, 1 / 8, photo.shape[1])[None, :, None]
    dark = (photo * ramp).round().astype(np.uint8)
    plain = np.corrcoef(photo.ravel(), dark.ravel())[0, 1]
    before, after = even_light(photo), even_light(dark)
    assert before.shape == photo.shape and before.dtype == np.uint8
    kept = np.corrcoef(before[..., 0].ravel(), after[..., 0].ravel())[0, 1]
    assert kept > 0.8 and kept > plain + 0.05
    assert (before[..., 0] == before[..., 2]).all()
    flat = even_light(np.full((16, 16, 3), 90, dtype=np.uint8))
    assert (flat == flat[0, 0]).all()


def test_preprocessing_does_it_where_asked() -> None:
    frames = pixels(1, 3).permute(0, 2, 3, 4, 1)[0].numpy()
    clip = Clip(frames=frames, times=np.arange(3) / 8, kind=Kind.CLIP)
    size = PreprocessConfig(height=16, width=16, stored_frames=3, even_light=True)
    found = prepare(clip, size)
    assert np.array_equal(found, np.stack([even_light(frame) for frame in frames]))
