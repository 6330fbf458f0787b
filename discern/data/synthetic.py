"""The embedded data set: scikit-learn's real handwritten digits as images, and clips of those
digits moving.

Nothing is downloaded.  A folder comes out, in `train/` and `test/`, with 10 image classes (which
digit) and 8 clip classes (odd or even digit x direction); no digit is on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from discern.clip import Clip, Kind
from discern.data.images import write_image
from discern.data.videos import write_video

SIDE = 32  # pixels of a frame
DIGIT = 16  # pixels of a digit in a clip
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
TEST_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """How much is written."""

    train_clips: int = 640
    test_clips: int = 240
    frames: int = 12
    images: int | None = None  # None: all 1,797


def write_digits(folder: Path, seed: int = 0, config: DigitsConfig | None = None) -> Path:
    """Write the data set; the same seed gives the same files."""
    from sklearn.datasets import load_digits

    config = config or DigitsConfig()
    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.images))[: config.images]
    tested = int(len(order) * TEST_SHARE)
    parts = {"test": order[:tested], "train": order[tested:]}
    for split, chosen in parts.items():
        for number in chosen:
            picture = _scaled(digits.images[number], SIDE, rng)
            name = f"{split}/digit-{digits.target[number]}/{number:04d}.png"
            _write(folder / name, picture[None], Kind.IMAGE)
        for number in range(config.test_clips if split == "test" else config.train_clips):
            which = rng.choice(chosen)
            direction = list(DIRECTIONS)[number % len(DIRECTIONS)]
            parity = "odd" if digits.target[which] % 2 else "even"
            frames = moving(digits.images[which], direction, config.frames, rng)
            _write(folder / f"{split}/{parity}-{direction}/{number:04d}.mp4", frames, Kind.CLIP)
    return folder


def moving(digit: np.ndarray, direction: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """A digit [8, 8] in 0 to 16 that crosses a noisy ground.  -> uint8 [T, SIDE, SIDE, 3]"""
    picture = _scaled(digit, DIGIT, rng)[..., 0].astype(np.float64)
    room = SIDE - DIGIT
    speed = rng.uniform(0.6, 1.0) * room / frames
    step = np.array(DIRECTIONS[direction]) * speed
    # along the way it starts so that it stays inside; across it may be anywhere
    start = np.where(step > 0, 0, np.where(step < 0, room, rng.uniform(0, room, 2)))
    ground = rng.normal(30, 8, (SIDE, SIDE))
    clip = np.empty((frames, SIDE, SIDE, 3), dtype=np.uint8)
    for time in range(frames):
        top, left = np.round(start + step * time).astype(int).clip(0, room)
        frame = ground + rng.normal(0, 3, ground.shape)
        frame[top : top + DIGIT, left : left + DIGIT] += picture * 0.85
        clip[time] = frame.clip(0, 255).astype(np.uint8)[..., None]
    return clip


def _scaled(digit: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """-> uint8 [side, side, 3]"""
    image = Image.fromarray((digit * 255 / 16).astype(np.uint8))
    grey = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return np.repeat(grey[..., None], 3, axis=2)


def _write(path: Path, frames: np.ndarray, kind: Kind) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = Clip(frames=frames, times=np.arange(len(frames)) / 12.0, kind=kind)
    if kind is Kind.IMAGE:
        write_image(clip, path)
    else:
        write_video(clip, path, fps=12.0)
