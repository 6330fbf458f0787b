"""What moves where: motions that are known, because the test made them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from discern.baselines import motion
from discern.errors import ConfigError
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.flow import (
    FAR,
    SCALES,
    SIDE,
    SMOOTH,
    STILL,
    WINDOW,
    _gaussian,
    optical_flow,
)
from discern.models.stem import ConvStem

RIM = 6  # pixels in which something comes in from beyond the frame


def texture(side: int, coarse: int, seed: int = 0) -> torch.Tensor:
    """A smooth random frame that goes on from one rim to the other.  -> [side, side] in [-1, 1]"""
    drawn = torch.randn(side, side, generator=torch.Generator().manual_seed(seed))
    away = torch.fft.fftfreq(side).abs() * side / coarse
    kept = torch.exp(-(away[:, None].square() + away[None].square()))
    smooth = torch.fft.ifft2(torch.fft.fft2(drawn) * kept).real
    return (smooth / smooth.abs().max()).float()


def moving(frame: torch.Tensor, down: float, right: float, frames: int = 3) -> torch.Tensor:
    """The frame, moved by so many pixels from one time to the next.  -> [1, 3, T, H, W]"""
    rates = torch.fft.fftfreq(len(frame))
    turn = -2j * torch.pi * (down * rates[:, None] + right * rates[None])
    waves = torch.fft.fft2(frame)
    clips = [torch.fft.ifft2(waves * torch.exp(time * turn)).real for time in range(frames)]
    return torch.stack(clips).float().expand(1, 3, -1, -1, -1)


def inside(found: torch.Tensor) -> torch.Tensor:
    """Mean motion by channel.  [1, 6, T, H, W] -> [6]"""
    return found[0, :, :, RIM:-RIM, RIM:-RIM].mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("down", "right"), [(0.5, 0.0), (0.0, -0.5), (-0.3, 0.6)])
def test_a_small_motion_shows_on_the_finest_scale(down: float, right: float) -> None:
    found = inside(optical_flow(moving(texture(48, 5), down, right)))
    assert found[0] == pytest.approx(down, abs=0.1)
    assert found[1] == pytest.approx(right, abs=0.1)


def test_a_fast_motion_shows_on_the_coarsest_scale() -> None:
    found = inside(optical_flow(moving(texture(64, 3), 4.0, -4.0)))
    assert found[4] == pytest.approx(1.0, abs=0.3) and found[5] == pytest.approx(-1.0, abs=0.3)


def test_larger_frames_are_averaged_down_first() -> None:
    """What a frame of 128 shows on the finest scale is what its half shows, enlarged."""
    large = moving(texture(2 * SIDE, 20), 1.0, -0.5)
    small = F.avg_pool3d(large, (1, 2, 2))
    wanted = F.interpolate(optical_flow(small)[0, :2], scale_factor=2, mode="bilinear")
    found = optical_flow(large)
    assert found.shape == (1, 2 * SCALES, 3, 2 * SIDE, 2 * SIDE)
    torch.testing.assert_close(found[0, :2], wanted, rtol=0, atol=1e-4)
    assert inside(found)[0] == pytest.approx(0.5, abs=0.1)  # of half the pixels


def test_what_stands_still_or_is_flat_does_not_move() -> None:
    frame = texture(32, 5)
    assert optical_flow(moving(frame, 0.0, 0.0)).abs().max() < 1e-4
    flash = torch.stack([torch.full((32, 32), grey) for grey in (-0.5, 0.5)])
    assert optical_flow(flash.expand(1, 3, -1, -1, -1)).abs().max() < 1e-4


def test_it_agrees_with_the_flow_that_warps() -> None:
    """On motions of half a pixel our hand-crafted baseline, which goes back and corrects itself."""
    clip = moving(texture(32, 5), 0.4, -0.3)
    grey = (clip[0].mean(dim=0).numpy() + 1) / 2
    warped = motion.optical_flow(grey[:-1], grey[1:])
    ours = optical_flow(clip)[0, :2, :-1].numpy()
    within = (slice(None), slice(None), slice(RIM, -RIM), slice(RIM, -RIM))
    assert np.abs(ours[within] - warped[within]).mean() < 0.1


def test_the_last_frame_moves_as_the_one_before() -> None:
    found = optical_flow(moving(texture(32, 5), 0.5, 0.2, frames=4))
    assert found[:, :, 3].equal(found[:, :, 2]) and not found[:, :, 2].equal(found[:, :, 1])


def test_motion_comes_from_a_window_and_not_from_afar() -> None:
    clip = moving(texture(SIDE, 5), 0.5, 0.0)
    other = clip.clone()
    other[..., :8] = moving(texture(SIDE, 5, seed=1), -0.5, 0.5)[..., :8]
    apart = (optical_flow(clip) - optical_flow(other)).abs().amax(dim=(0, 2, 3))  # [6, W]
    for scale in range(SCALES):
        reach = 8 + int(2**scale * (4 * WINDOW + 2 * SMOOTH + 2))
        assert apart[2 * scale : 2 * scale + 2, :8].max() > 0.1
        assert apart[2 * scale : 2 * scale + 2, reach:].max() < 0.01


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (8, 8), (2, 4 * SIDE)])
def test_tiny_frames_and_wild_numbers_stay_finite(shape: tuple[int, int]) -> None:
    wild = 100 * torch.randn(2, 3, 2, *shape, generator=torch.Generator().manual_seed(0))
    found = optical_flow(wild.requires_grad_())
    assert found.isfinite().all() and found.abs().max() <= FAR
    found.sum().backward()
    assert wild.grad is not None and wild.grad.isfinite().all()


def test_under_autocast_it_computes_in_32_bits() -> None:
    clip = moving(texture(32, 5), 0.5, 0.0)
    wanted = optical_flow(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = optical_flow(clip)
    assert found.dtype == torch.float32 and found.equal(wanted)


@torch.no_grad()
def test_the_stem_learns_from_the_flow_of_clips_alone() -> None:
    torch.manual_seed(0)
    stem, frame = ConvStem(3, 2, 4, 8, flow=True), texture(16, 3)
    assert stem.flow is not None
    clip, image = moving(frame, 0.5, 0.0, frames=4), frame.expand(1, 3, 1, -1, -1)
    before = stem(clip), stem(image)
    with torch.enable_grad():
        stem(clip).square().sum().backward()
    assert stem.flow.weight.grad is not None and (stem.flow.weight.grad != 0).any()
    stem.flow.weight.zero_()
    assert not stem(clip).allclose(before[0]) and stem(image).equal(before[1])


def test_only_who_asks_has_a_flow_and_only_a_stem_that_looks_at_neighbours() -> None:
    assert Backbone(BackboneConfig()).stem.flow is None
    assert Backbone(BackboneConfig(flow=True)).stem.flow is not None
    with pytest.raises(
        ConfigError, match="flow needs the stem deep or conv, not mlp: set backbone.flow=false"
    ):
        Backbone(BackboneConfig(flow=True, stem="mlp"))


@torch.no_grad()
def test_a_stem_of_16_bits_looks_at_it() -> None:
    stem = ConvStem(3, 2, 4, 8, flow=True)
    clip = moving(texture(16, 3), 0.5, 0.0, frames=4)
    whole, halved = stem(clip), stem.bfloat16()(clip.bfloat16())
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), whole, rtol=0, atol=0.1)


@pytest.mark.parametrize("deviation", [SMOOTH, WINDOW])
@pytest.mark.parametrize("length", [2, 12, 48, SIDE])
def test_no_weight_is_so_small_that_processors_slow_down(length: int, deviation: float) -> None:
    """Times a number as small as a faint change the product must not lose its leading bit."""
    weights = _gaussian(length, deviation, torch.zeros(1))
    assert torch.allclose(weights.sum(dim=1), torch.ones(length))
    faintest = weights[weights > 0].min()
    assert faintest * STILL**2 > torch.finfo(torch.float32).tiny
    place = torch.arange(length) / deviation
    whole = (-0.5 * (place[:, None] - place[None]).square()).softmax(dim=1)
    assert (weights - whole).abs().max() < 1e-9
