"""Augmentation against references: Pillow, colorsys and torch, and what it must leave alone."""

from __future__ import annotations

import colorsys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from discern.data import augment as module
from discern.data.augment import (
    ADVERSARY,
    MASKED,
    PLAIN,
    STRONG,
    VIEW,
    AugmentConfig,
    augment,
    to_float,
    to_uint8,
)
from discern.models.backbone import Backbone, BackboneConfig
from tests.tiny import pixels, rng

RECIPES = {"masked": MASKED, "view": VIEW, "strong": STRONG, "adversary": ADVERSARY}
COLOUR = ("brightness", "contrast", "saturation", "hue")


def _config(**changes: Any) -> AugmentConfig:
    return AugmentConfig(**({"flip": 0.0} | changes))


@pytest.fixture
def always_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chance comes true, and every draw is the upper end of its range."""

    def most(self: Any, low: float, high: float) -> Tensor:
        return torch.full((self.count,), high)

    monkeypatch.setattr(module._Draw, "uniform", most)
    monkeypatch.setattr(module._Draw, "chance", lambda self, p: torch.full((self.count,), p > 0))


# ---------------------------------------------------------------- as a whole


def test_uint8_and_float() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every)[[0, 255]].tolist() == [-1.0, 1.0]
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    clip = torch.rand(2, 3)
    assert to_float(clip) is clip


def test_nothing_asked_for_is_identity() -> None:
    for frames in (1, 4):
        clip = pixels(4, frames)
        assert torch.equal(augment(clip, PLAIN, rng()), to_float(clip))
        assert torch.equal(augment(to_float(clip), PLAIN, rng()), to_float(clip))


@pytest.mark.parametrize("name", RECIPES)
def test_range_shape_and_seed(name: str) -> None:
    clip = pixels(8, 2)
    kept = clip.clone()
    found = augment(clip, RECIPES[name], rng(1))
    assert found.shape == clip.shape and found.dtype == torch.float32
    assert torch.equal(clip, kept)  # the input is as it was
    assert found.abs().max() <= 1.0 + 1e-6 and torch.isfinite(found).all()
    assert torch.equal(found, augment(clip, RECIPES[name], rng(1)))
    assert not torch.equal(found, augment(clip, RECIPES[name], rng(2)))


@pytest.mark.parametrize("name", RECIPES)
def test_all_frames_of_an_item_get_the_same_and_items_differ(name: str) -> None:
    still = pixels(1).expand(6, -1, 5, -1, -1)  # six times the same still clip
    found = augment(still, RECIPES[name], rng())
    assert torch.equal(found, found[:, :, :1].expand_as(found))
    apart = torch.cdist(found.flatten(1), found.flatten(1)) + 100 * torch.eye(6)
    assert apart.min() > 0.1


@pytest.mark.parametrize("name", RECIPES)
def test_gradient_flows(name: str) -> None:
    clip = to_float(pixels(8)).mul(0.5).requires_grad_()
    config = replace(RECIPES[name], posterize=0.0)  # which has no slope
    augment(clip, config, rng()).square().sum().backward()
    assert clip.grad is not None and torch.isfinite(clip.grad).all()
    assert (clip.grad.flatten(1).abs().amax(1) > 0).all()


def test_gradient_is_that_of_finite_differences() -> None:
    clip = to_float(pixels(2, side=8)).mul(0.5)
    config = AugmentConfig(scale=(0.5, 1.0), brightness=0.2, contrast=0.2, hue=0.1, erase=0.5)
    direction = torch.randn(clip.shape, generator=rng(1))
    weight = torch.randn(clip.shape, generator=rng(2))

    def score(x: Tensor) -> Tensor:
        return (augment(x, config, rng(3)) * weight).sum()

    leaf = clip.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf), leaf)
    step = 1e-3  # the path is linear in the pixels but for the cut at -1 and 1
    expected = (score(clip + step * direction) - score(clip - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("name", ["masked", "view", "strong"])
def test_it_costs_little(name: str) -> None:
    """Images of 32 x 32 in less than a fifth of what `nano` takes to look at them.

    Held against work on the same machine: milliseconds of one are not those of another.
    """
    clip, encoder = pixels(256, side=32), Backbone(BackboneConfig()).eval()
    few = to_float(clip)[:64]
    spent: dict[str, list[float]] = {"augment": [], "look": []}
    for _ in range(4):
        started = time.process_time()
        augment(clip, RECIPES[name], rng())
        between = time.process_time()
        with torch.no_grad():
            encoder(few)
        spent["augment"].append(between - started)
        spent["look"].append(time.process_time() - between)
    assert min(spent["augment"]) < 0.2 * 4 * min(spent["look"]), spent


# ---------------------------------------------------------------- geometry


def test_mirror_is_flip() -> None:
    clip = to_float(pixels(64, 2))
    found = augment(clip, AugmentConfig(flip=0.5), rng())
    same = (found == clip).flatten(1).all(1)
    mirrored = (found == clip.flip(-1)).flatten(1).all(1)
    assert torch.equal(same, ~mirrored) and 20 < same.sum() < 44
    assert torch.equal(augment(clip, AugmentConfig(flip=1.0), rng()), clip.flip(-1))


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
def test_sampling_the_whole_frame_is_identity(flip: float, shape: tuple[int, int]) -> None:
    """The path of crops, rotations and shifts, asked for none of them."""
    clip = torch.rand(4, 3, 2, *shape, generator=rng()) * 2 - 1
    found = augment(clip, AugmentConfig(flip=flip, rotate=1e-9), rng())
    expected = clip.flip(-1) if flip else clip
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_crop_is_a_part_of_the_frame_in_its_size() -> None:
    """On a picture of its own coordinates a crop shows which part it took."""
    side = 64
    line = torch.linspace(-1 + 1 / side, 1 - 1 / side, side)
    coordinates = torch.stack([line.expand(side, side), line.view(-1, 1).expand(side, side)])
    clip = torch.cat([coordinates, coordinates[:1]]).view(1, 3, 1, side, side)
    config = _config(scale=(0.2, 0.6))
    found = augment(clip.expand(400, -1, -1, -1, -1), config, rng())[:, :, 0, 4:-4, 4:-4]
    step_x = (found[:, 0].diff(dim=2) * side / 2).flatten(1)  # 1 would be the whole width
    step_y = (found[:, 1].diff(dim=1) * side / 2).flatten(1)
    for step in (step_x, step_y):  # straight and even
        assert (step.amax(1) - step.amin(1)).max() < 2e-3
    width, height = step_x.mean(1), step_y.mean(1)
    area, aspect = width * height, width / height
    assert 0.199 < area.min() < 0.23 and 0.57 < area.max() < 0.601
    assert 0.749 < aspect.min() < 0.77 and 1.30 < aspect.max() < 1.335
    # nothing from beyond the border, and every corner is reached
    left = found[:, 0].amin((1, 2)) - 4.5 / side * 2 * width
    right = found[:, 0].amax((1, 2)) + 4.5 / side * 2 * width
    assert left.min() > -1.01 and left.min() < -0.9 and right.max() < 1.01 and right.max() > 0.9


@pytest.mark.usefixtures("always_most")
def test_a_quarter_turn_is_rot90() -> None:
    clip = to_float(pixels(2))
    found = augment(clip, _config(rotate=90.0), rng())
    torch.testing.assert_close(found, clip.rot90(1, (-2, -1)), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("always_most")
def test_rotation_keeps_distances_in_wide_frames() -> None:
    """Rotation happens in pixels: a disc stays a disc where the frame is twice as wide as high."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(64) - 31.5, indexing="ij")
    disc = (((x**2 + y**2).sqrt() < 10).float() * 2 - 1).expand(1, 3, 1, 32, 64)
    found = augment(disc, _config(rotate=45.0), rng())
    assert ((found > 0) != (disc > 0)).float().mean() < 0.01


@pytest.mark.usefixtures("always_most")
def test_a_shift_beside_other_moves_goes_by_its_share_and_fills_with_grey() -> None:
    clip = to_float(pixels(2))
    config = _config(translate=0.25, shear=1e-9)
    found = augment(clip, config, rng())  # 4 of 16 pixels, up and left
    torch.testing.assert_close(found[..., :12, :12], clip[..., 4:, 4:], rtol=0, atol=1e-4)
    assert found[..., 12:, :].abs().max() < 1e-4 and found[..., 12:].abs().max() < 1e-4


@pytest.mark.usefixtures("always_most")
def test_a_shift_alone_moves_whole_pixels_and_mirrors_at_the_edge() -> None:
    clip = to_float(pixels(2))
    found = augment(clip, _config(translate=0.27), rng())  # 4.3 of 16 pixels, up and left
    assert torch.equal(found[..., :12, :12], clip[..., 4:, 4:])
    assert torch.equal(found[..., 12:, :12], clip[..., -5:-1, 4:].flip(-2)[..., :4, :])
    assert torch.equal(found[..., :12, 12:], clip[..., 4:, -5:-1].flip(-1))


@pytest.mark.usefixtures("always_most")
def test_a_shift_by_a_whole_side_ends_in_the_mirror_image() -> None:
    clip = to_float(pixels(2))
    found = augment(clip, _config(translate=1.0), rng())
    mirrored = [*range(14, -1, -1), 0]  # of 16 rows the edge itself comes once
    assert torch.equal(found, clip[..., mirrored, :][..., mirrored])


def test_shifts_differ_by_item_and_go_both_ways_and_gradients_follow() -> None:
    column = torch.arange(16.0).div(8).sub(1).expand(64, 3, 2, 16, 16).clone().requires_grad_()
    found = augment(column, _config(translate=0.25, flip=0.0), rng())
    moved = ((found[:, 0, 0, 0, 8] - column[:, 0, 0, 0, 8]) * 8).detach()
    assert set(moved.tolist()) == set(range(-4, 5))
    assert torch.equal(found[:, :, :1], found[:, :, 1:])  # all frames alike
    rows = augment(column.transpose(-1, -2), _config(translate=0.25, flip=0.0), rng())
    assert rows[:, 0, 0, 8, 0].unique().numel() == 9
    found.sum().backward()
    assert column.grad is not None and column.grad.sum().item() == found.numel()


@pytest.mark.usefixtures("always_most")
def test_shear_leans_columns() -> None:
    clip = torch.full((1, 3, 1, 32, 32), -1.0)
    clip[..., 16] = 1.0
    found = augment(clip, _config(shear=0.25), rng())[0, 0, 0]
    columns = found[8:24].argmax(dim=1).float()  # one column in 4 rows
    slopes = columns.diff()
    assert slopes.sum().item() == pytest.approx(-15 / 4, abs=1.01) and slopes.max() <= 0


# ---------------------------------------------------------------- colour


def _pillow(clip: Tensor) -> list[Image.Image]:
    frames = clip[:, :, 0].permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(frame) for frame in frames]


def _as_clip(images: list[Image.Image]) -> Tensor:
    frames = torch.stack([torch.from_numpy(np.array(image)) for image in images])
    return to_float(frames.permute(0, 3, 1, 2).unsqueeze(2))


@pytest.mark.usefixtures("always_most")
@pytest.mark.parametrize("amount", [-0.6, -0.3, 0.5])
@pytest.mark.parametrize(
    ("setting", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_colour_as_pillow(setting: str, enhance: Any, amount: float) -> None:
    clip = pixels(8)
    expected = _as_clip([enhance(image).enhance(1 + amount) for image in _pillow(clip)])
    found = augment(clip, _config(**{setting: amount}), rng())
    assert (found - expected).abs().max() < 2.5 / 127.5  # Pillow rounds to 1, twice


@pytest.mark.usefixtures("always_most")
def test_colours_combine_as_one_after_the_other_in_pillow() -> None:
    clip = (pixels(8).float() * 0.5 + 64).to(torch.uint8)  # nothing is cut off on the way
    expected = []
    for image in _pillow(clip):
        image = ImageEnhance.Brightness(image).enhance(0.8)
        image = ImageEnhance.Contrast(image).enhance(0.7)
        expected.append(ImageEnhance.Color(image).enhance(0.6))
    config = _config(brightness=-0.2, contrast=-0.3, saturation=-0.4)
    found = augment(clip, config, rng())
    assert (found - _as_clip(expected)).abs().max() < 4 / 127.5


@pytest.mark.usefixtures("always_most")
def test_grey_as_pillow() -> None:
    clip = pixels(8)
    found = augment(clip, _config(grey=1.0), rng())
    expected = _as_clip([image.convert("L").convert("RGB") for image in _pillow(clip)])
    assert (found - expected).abs().max() < 1.01 / 127.5
    assert (found[:, 0] - found[:, 1]).abs().max() < 1e-6


@pytest.mark.usefixtures("always_most")
def test_a_third_of_a_turn_of_hue_swaps_the_primaries() -> None:
    clip = to_float(pixels(4))
    found = augment(clip, _config(hue=1 / 3), rng())
    torch.testing.assert_close(found, clip[:, [2, 0, 1]], rtol=0, atol=1e-5)  # red becomes green


@pytest.mark.usefixtures("always_most")
@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1])
def test_hue_as_colorsys(turn: float) -> None:
    """The angle of HSV moves by the turn, and grey stays grey.

    We turn in a circle and HSV in a hexagon: the two differ by a hundredth of a turn.
    """
    colours = [(0.7, 0.4, 0.4), (0.4, 0.6, 0.45), (0.35, 0.4, 0.65), (0.6, 0.6, 0.4)]
    clip = torch.tensor(colours).T.reshape(1, 3, 1, 2, 2) * 2 - 1
    found = (augment(clip, _config(hue=turn), rng()) + 1) / 2
    for before, after in zip(colours, found.reshape(3, 4).T.tolist(), strict=True):
        moved = colorsys.rgb_to_hsv(*after)[0] - colorsys.rgb_to_hsv(*before)[0]
        assert (moved - turn + 0.5) % 1 - 0.5 == pytest.approx(0, abs=0.012)
        assert sum(after) == pytest.approx(sum(before), abs=1e-5)
    grey = torch.full((1, 3, 1, 2, 2), 0.3)
    torch.testing.assert_close(augment(grey, _config(hue=turn), rng()), grey)


@pytest.mark.parametrize("setting", COLOUR)
def test_no_colour_moves_without_its_chance(setting: str) -> None:
    clip = to_float(pixels(16))
    found = augment(clip, _config(**{setting: 0.4, "colour_chance": 0.0}), rng())
    torch.testing.assert_close(found, clip, rtol=0, atol=1e-6)
    found = augment(clip, _config(**{setting: 0.4, "colour_chance": 0.5}), rng())
    still = (found - clip).flatten(1).abs().amax(1) < 1e-5
    assert 3 <= still.sum() <= 13


@pytest.mark.usefixtures("always_most")
def test_solarize_and_posterize(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = to_float(pixels(4))
    half = torch.full((4,), 0.25)
    monkeypatch.setattr(module._Draw, "uniform", lambda self, low, high: half)
    found = augment(clip, _config(solarize=1.0), rng())
    assert torch.equal(found, torch.where(clip > 0.25, -clip, clip))
    monkeypatch.setattr(module._Draw, "uniform", lambda self, low, high: torch.full((4,), 2.7))
    found = augment(clip, _config(posterize=1.0), rng())  # two bits
    steps = ((found + 1) / 2 * 4).unique()
    assert torch.equal(steps, steps.round()) and len(steps) <= 5
    assert (clip - found).min() >= 0 and (clip - found).max() <= 0.5


# ---------------------------------------------------------------- erasing


def test_erased_area_is_as_asked() -> None:
    clip = torch.ones(2000, 3, 1, 32, 32)
    config = _config(erase=0.5, erase_area=(0.1, 0.25))
    gone = (augment(clip, config, rng()) == 0).float().mean((1, 2, 3, 4))
    hit = gone > 0
    assert hit.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert gone.max() < 0.27  # whole pixels
    # rectangles at the border are cut off: full ones are found among those in the middle
    assert 0.10 < gone[hit].mean() < 0.175 and gone[hit].quantile(0.9) > 0.17


def test_the_erased_part_is_one_grey_rectangle() -> None:
    clip = torch.ones(50, 3, 2, 16, 16)
    found = augment(clip, _config(erase=1.0, erase_area=(0.1, 0.25)), rng())
    gone = found == 0
    assert torch.equal(gone, gone[:, :1, :1].expand_as(gone))
    assert ((found == 0) | (found == 1)).all()
    for one in gone[:, 0, 0]:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows.unsqueeze(1) & columns)
        for line in (rows, columns):
            assert line.int().diff().abs().sum() <= 2  # in one piece


def test_a_backdrop_is_a_still_frame_of_the_batch() -> None:
    clip = torch.zeros(6, 3, 4, 8, 8)
    clip += torch.arange(6.0).view(-1, 1, 1, 1, 1) / 100  # what tells the items apart ...
    motion = torch.arange(4.0).view(1, 1, -1, 1, 1) / 10  # ... and what moves
    clip += motion
    found = augment(clip, _config(backdrop=0.8), rng())
    # one frame, so that what moves only fades: by as much as the frame covers
    change = (found[:, :, 1:] - found[:, :, :-1]) / 0.1
    left = change[:, :1, :1, :1, :1]
    torch.testing.assert_close(change, left.expand_as(change), rtol=0, atol=1e-5)
    assert left.min() >= 0.2 - 1e-5 and left.max() <= 1 and left.std() > 0.05
    still = (found - left * clip) / (1 - left)  # [B, C, T, H, W], the same in all frames
    torch.testing.assert_close(still, still[:, :1, :1, :1, :1].expand_as(still), rtol=0, atol=1e-4)
    values = {round(float(value), 3) for value in still[:, 0, 0, 0, 0]}
    assert values <= {round(i / 100 + t / 10, 3) for i in range(6) for t in range(4)}
    assert len(values) > 1


def test_a_backdrop_leaves_images_alone() -> None:
    images = to_float(pixels(3))
    assert torch.equal(augment(images, _config(backdrop=0.9), rng()), images)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_under_autocast(recipe: str, frames: int) -> None:
    clip = pixels(4, frames)
    plain = augment(clip, RECIPES[recipe], rng()).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = augment(clip, RECIPES[recipe], rng()).float()
    near = (found - plain).abs() < 0.05
    assert near.float().mean() > 0.95  # solarize and posterize may fall to the other side
