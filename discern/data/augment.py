"""Batched, differentiable augmentation: one transform of geometry and one of colour per item.

All frames of an item get the same.

[B, C, T, H, W] uint8 in [0, 255] or float in [-1, 1] -> float [B, C, T, H, W] in [-1, 1].  One
`grid_sample` and one 3 x 3 colour matrix per item cost a few per cent of a training step, where
per-image pipelines cost more than the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from discern.data.light import relight

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What may happen to an item; 0 (or a scale of 1) leaves a part out."""

    scale: tuple[float, float] = (1.0, 1.0)  # area of the random crop
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # its aspect, against the frame's own
    flip: float = 0.5  # chance of a mirror image; 0 where left and right mean something
    rotate: float = 0.0  # degrees, at most
    shear: float = 0.0  # at most
    # share of the side, at most; in whole pixels where nothing else moves, so that small frames
    # stay as sharp as those that are answered for
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # share of a full turn
    grey: float = 0.0  # chance
    colour_chance: float = 1.0  # of the jitter above
    geometry_chance: float = 1.0  # of rotate, shear and translate, each
    solarize: float = 0.0  # chance
    posterize: float = 0.0  # chance
    light: float = 0.0  # how strongly it is lit from a side and shaded, in powers of e
    light_chance: float = 0.8
    erase: float = 0.0  # chance of one grey rectangle
    erase_area: tuple[float, float] = (0.02, 0.25)
    gaussian_noise: float = (
        0.0  # standard deviation of what is added to each value, of pixels in [0, 1]
    )
    backdrop: float = 0.0  # of a clip: most that a still frame of another one covers


PLAIN = AugmentConfig(flip=0.0)
# the recipes of MAE, SimCLR (no blur) and RandAugment (2 operations, magnitude 9), made for
# small frames
MASKED = AugmentConfig(scale=(0.6, 1.0))
VIEW = AugmentConfig(
    scale=(0.3, 1.0),
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.2,
    colour_chance=0.8,
    backdrop=0.9,
)
WEAK = AugmentConfig(translate=0.125)
STRONG = AugmentConfig(
    scale=(0.5, 1.0),
    rotate=20.0,
    shear=0.2,
    translate=0.15,
    geometry_chance=0.3,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue=0.1,
    colour_chance=0.6,
    grey=0.05,
    solarize=0.1,
    posterize=0.1,
    erase=0.25,
    backdrop=0.7,
)
# strong, and as sharp as what is answered for: nothing is sampled between pixels
SHARP = AugmentConfig(
    translate=0.125,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.1,
    erase=0.5,
    erase_area=(0.1, 0.25),
    backdrop=0.7,
)
# differentiable augmentation for the adversary (Zhao et al. 2020): translation, cutout, colour
ADVERSARY = AugmentConfig(
    translate=0.125, brightness=0.3, saturation=0.5, contrast=0.3, erase=0.5, erase_area=(0.1, 0.25)
)


def gentle(strong: AugmentConfig) -> AugmentConfig:
    """Mirror images, shifts, and what a model is to withstand: light, noise, other backdrops.

    Without what only makes an item harder to recognize.
    """
    return AugmentConfig(
        flip=strong.flip,
        translate=strong.translate,
        light=strong.light,
        light_chance=strong.light_chance,
        gaussian_noise=strong.gaussian_noise,
        backdrop=strong.backdrop,
    )


def to_float(clip: Tensor) -> Tensor:
    """uint8 [0, 255] to float [-1, 1]; a float clip is returned as it is."""
    return clip.float().div_(127.5).sub_(1.0) if clip.dtype == torch.uint8 else clip


def to_uint8(clip: Tensor) -> Tensor:
    """float [-1, 1] to uint8 [0, 255], rounded and clamped."""
    return clip.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def augment(clip: Tensor, config: AugmentConfig, rng: torch.Generator) -> Tensor:
    """Augment a batch; gradients flow through a float input."""
    draw = _Draw(len(clip), rng, clip.device)
    x = to_float(clip)
    x = _move(x, config, draw)
    if config.light > 0:
        x = relight(x, config.light, config.light_chance, draw)
    x = _recolour(x, config, draw)
    x = _cover(x, config, draw)
    return _disturb(_erase(x, config, draw), config, draw)


class _Draw:
    """Random numbers for each item of the batch, drawn where `rng` lives."""

    def __init__(self, count: int, rng: torch.Generator, device: torch.device) -> None:
        self.count, self.rng, self.device = count, rng, device

    def uniform(self, low: float, high: float) -> Tensor:
        """-> [B]"""
        drawn = torch.rand(self.count, generator=self.rng, device=self.rng.device)
        return (low + (high - low) * drawn).to(self.device)

    def chance(self, probability: float) -> Tensor:
        """-> bool [B]"""
        return self.uniform(0.0, 1.0) < probability


def _disturb(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    """Gaussian noise, as randomized smoothing wants it: over the borders of what pixels can be."""
    if config.gaussian_noise == 0:
        return x
    drawn = torch.randn(x.shape, generator=draw.rng, device=draw.rng.device).to(x.device)
    return x + 2 * config.gaussian_noise * drawn


def _move(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    """Crop, mirror, rotate, shear and shift, in one bilinear sampling."""
    moves = config.rotate or config.shear or config.translate
    if config.scale == (1.0, 1.0) and not (config.rotate or config.shear):
        return _shift(_mirror(x, config, draw), config, draw)
    B, C, T, H, W = x.shape
    area = draw.uniform(*config.scale)
    aspect = torch.exp(draw.uniform(math.log(config.ratio[0]), math.log(config.ratio[1])))
    if config.scale == (1.0, 1.0):
        aspect = torch.ones_like(aspect)
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    centre_x = draw.uniform(-1.0, 1.0) * (1 - width)
    centre_y = draw.uniform(-1.0, 1.0) * (1 - height)
    mirror = 1.0 - 2.0 * draw.chance(config.flip).float()
    angle, shear, shift_x, shift_y = 4 * [torch.zeros_like(area)]
    if moves:
        angle = (
            draw.uniform(-1, 1) * math.radians(config.rotate) * draw.chance(config.geometry_chance)
        )
        shear = draw.uniform(-1, 1) * config.shear * draw.chance(config.geometry_chance)
        shift_x = draw.uniform(-2, 2) * config.translate * draw.chance(config.geometry_chance)
        shift_y = draw.uniform(-2, 2) * config.translate * draw.chance(config.geometry_chance)
    cos, sin = angle.cos(), angle.sin()
    square = H / W  # rotate in pixels, not in the frame's unit square
    theta = torch.stack(
        [
            torch.stack(
                [width * mirror * cos, width * (shear - sin * square), centre_x + shift_x], 1
            ),
            torch.stack([height * mirror * sin / square, height * cos, centre_y + shift_y], 1),
        ],
        dim=1,
    )  # [B, 2, 3]
    grid = F.affine_grid(theta, [B, C, H, W], align_corners=False)
    moved = F.grid_sample(x.reshape(B, C * T, H, W), grid, mode="bilinear", align_corners=False)
    return moved.reshape(x.shape)


def _mirror(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    if config.flip == 0.0:
        return x
    mirrored = draw.chance(config.flip).view(-1, 1, 1, 1, 1)
    return torch.where(mirrored, x.flip(-1), x)


def _shift(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    """Move by whole pixels; what comes in over an edge is its mirror image."""
    for dim in (-2, -1) if config.translate else ():
        side = x.shape[dim]
        most = config.translate * side
        by = (draw.uniform(-most, most) * draw.chance(config.geometry_chance)).round().long()
        place = torch.arange(side, device=x.device) + by[:, None]  # [B, side]
        place = ((side - 1) - ((side - 1) - place.abs()).abs()).clamp(min=0)  # mirrored at edges
        shape = [len(x), 1, 1, 1, 1]
        shape[dim] = side
        x = torch.take_along_dim(x, place.view(shape), dim)
    return x


def _recolour(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    """Brightness, contrast, saturation, hue and grey in one: a 3 x 3 matrix and an offset."""
    if x.shape[1] == 3 and (
        config.brightness or config.contrast or config.saturation or config.hue or config.grey
    ):
        x = _jitter(x, config, draw)
    if config.solarize:
        chosen = draw.chance(config.solarize).view(-1, 1, 1, 1, 1)
        threshold = draw.uniform(0.0, 1.0).view(-1, 1, 1, 1, 1)
        x = torch.where(chosen & (x > threshold), -x, x)
    if config.posterize:
        chosen = draw.chance(config.posterize).view(-1, 1, 1, 1, 1)
        levels = 2.0 ** draw.uniform(2.0, 5.0).floor().view(-1, 1, 1, 1, 1)
        x = torch.where(chosen, ((x + 1) / 2 * levels).floor() / levels * 2 - 1, x)
    return x


def _jitter(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    B, C, T, H, W = x.shape
    luma = torch.stack([x.new_full((), share) for share in LUMA])
    on = draw.chance(config.colour_chance).float()
    brightness = 1 + on * draw.uniform(-config.brightness, config.brightness)
    contrast = 1 + on * draw.uniform(-config.contrast, config.contrast)
    saturation = 1 + on * draw.uniform(-config.saturation, config.saturation)
    saturation = torch.where(draw.chance(config.grey), torch.zeros_like(saturation), saturation)
    turn = on * draw.uniform(-config.hue, config.hue) * 2 * math.pi
    to_grey = luma.expand(3, 3)
    identity = torch.eye(3, device=x.device, dtype=x.dtype)
    saturate = torch.lerp(
        to_grey.expand(B, 3, 3), identity.expand(B, 3, 3), saturation.view(B, 1, 1)
    )
    gain = (brightness * contrast).view(B, 1, 1)
    matrix = gain * (_hue_rotation(turn) @ saturate)
    # in [-1, 1]: brightness scales around black (-1), contrast around the item's mean grey
    mean = (x.mean(dim=(2, 3, 4)) * luma).sum(1)  # [B]
    mean = (mean + 1) * brightness - 1
    offset = (brightness - 1) * contrast + mean * (1 - contrast)
    moved = torch.baddbmm(offset.view(B, 1, 1), matrix, x.reshape(B, C, -1))
    return moved.reshape(B, C, T, H, W).clamp(-1, 1)


def _hue_rotation(turn: Tensor) -> Tensor:
    """Rotation about the grey axis by `turn` radians (Rodrigues).  [B] -> [B, 3, 3]"""
    cos, sin = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
    third = torch.full((3, 3), 1 / 3, device=turn.device)
    identity = torch.eye(3, device=turn.device)
    root = math.sqrt(1 / 3)
    shift = identity.roll(1, dims=1)  # and no list of numbers, for which a GPU would have to wait
    cross = root * (shift.T - shift)
    return cos * identity + (1 - cos) * third + sin * cross


def _cover(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    """Blend one still frame of another clip into all frames (after Wang et al. 2021, "Removing the
    Background by Adding the Background", who take it from the same clip; so does this, once in a
    batch on average): what is left to know a clip by is its motion.
    """
    B, _, T = x.shape[:3]
    if config.backdrop == 0.0 or T == 1:
        return x
    other = draw.uniform(0.0, 1.0).argsort()
    frame = (draw.uniform(0.0, 1.0) * T).long().clamp(max=T - 1)
    still = x[other, :, frame].unsqueeze(2)  # [B, C, 1, H, W]
    covered = draw.uniform(0.0, config.backdrop).view(-1, 1, 1, 1, 1)
    return x.lerp(still, covered.to(x.dtype))  # under autocast colour leaves 16 bits


def _erase(x: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    """Paint one mid-grey rectangle (random erasing, Zhong et al. 2020; cutout)."""
    if config.erase == 0.0:
        return x
    H, W = x.shape[-2:]
    chosen = draw.chance(config.erase)
    area = draw.uniform(*config.erase_area)
    aspect = torch.exp(draw.uniform(math.log(0.4), math.log(2.5)))
    half_h = (area * aspect).sqrt().clamp(max=1.0).view(-1, 1) / 2
    half_w = (area / aspect).sqrt().clamp(max=1.0).view(-1, 1) / 2
    centre_y, centre_x = draw.uniform(0, 1).view(-1, 1), draw.uniform(0, 1).view(-1, 1)
    rows = (torch.arange(H, device=x.device) + 0.5) / H
    columns = (torch.arange(W, device=x.device) + 0.5) / W
    inside = ((rows - centre_y).abs() < half_h).unsqueeze(2) & (
        (columns - centre_x).abs() < half_w
    ).unsqueeze(1)  # [B, H, W]
    inside = inside & chosen.view(-1, 1, 1)
    return x.masked_fill(inside[:, None, None], 0.0)
