"""Pictures of what a model makes: a model and items in, sheets in files out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from discern.clip import Clip, Kind
from discern.data.augment import to_float, to_uint8
from discern.data.clipset import ClipSet
from discern.data.images import write_image
from discern.data.loader import as_batch
from discern.data.preprocess import even_frames
from discern.data.videos import write_video
from discern.models.model import Model
from discern.models.tokens import patchify, unpatchify
from discern.objectives.masking import Mask, random_mask

GENERATED = {Kind.IMAGE: 64, Kind.CLIP: 16}
RECONSTRUCTED = 6
MASK = 0.6
GAP = 2  # pixels between two pictures of a sheet
CLIP_FPS = 8.0


@torch.inference_mode()
def draw(
    model: Model, count: int, shape: tuple[int, int, int], seed: int, label: int | None = None
) -> np.ndarray:
    """New clips from noise.  -> uint8 [count, T, H, W, 3]"""
    rng = torch.Generator().manual_seed(seed)
    return _drawn(model, _noise(model, count, rng, label), shape)


@torch.inference_mode()
def walk(
    model: Model, count: int, shape: tuple[int, int, int], seed: int, label: int | None = None
) -> np.ndarray:
    """Samples on the way from the first sample of a seed to the second one.

    -> uint8 [count, T, H, W, 3]
    """
    rng = torch.Generator().manual_seed(seed)
    start, end = _noise(model, 2, rng, label)
    return _drawn(model, between(start, end, count), shape)


def between(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Spherical interpolation (Shoemake 1985): in between the length is that of noise, too.

    [Z], [Z] -> [count, Z], both ends among them
    """
    angle = torch.arccos(torch.cosine_similarity(start, end, dim=0).clamp(-1 + 1e-6, 1 - 1e-6))
    share = torch.linspace(0, 1, count).unsqueeze(1)
    first, second = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return (first * start + second * end) / torch.sin(angle)


def _noise(model: Model, count: int, rng: torch.Generator, label: int | None) -> Tensor:
    """What the generator draws from: noise, or codes of a class.  -> [count, Z]"""
    assert model.generator is not None
    if label is None:
        return model.generator.draw_noise(count, rng)
    assert model.coder is not None
    return model.coder.draw(torch.full((count,), label), rng)


def _drawn(model: Model, noise: Tensor, shape: tuple[int, int, int]) -> np.ndarray:
    assert model.generator is not None
    return _frames(model.generator(noise, shape))


@torch.inference_mode()
def paint(
    model: Model, frames: np.ndarray, mask: float, seed: int, chosen: Mask | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hide `mask` of the patches, or those of `chosen`, and paint them anew.

    uint8 [B, T, H, W, 3] -> what the encoder saw, and the clip with the hidden patches painted;
    both uint8 alike
    """
    assert model.generator is not None
    rng = torch.Generator().manual_seed(seed)
    numbers = np.zeros(len(frames), dtype=np.int64)
    clip = to_float(as_batch(frames, numbers, numbers).clip)
    encoder = model.painter_encoder
    grid = encoder.grid(clip)
    chosen = chosen or random_mask(len(clip), grid, mask, rng, tube=grid[0] > 1)
    features = encoder(clip, chosen.keep)
    noise = model.generator.draw_noise(len(clip), rng)
    painted = model.generator(noise, tuple(clip.shape[2:]), features.tokens, chosen.keep)
    hidden = _pixels(chosen, clip, encoder.config.tubelet, encoder.config.patch, grid)
    seen = torch.where(hidden, torch.zeros_like(clip), clip)
    return _frames(seen), _frames(torch.where(hidden, painted, clip))


def sample_sheets(model: Model, sets: Mapping[Kind, ClipSet], out: Path, seed: int) -> None:
    """samples/generated_images.png, generated_clips.gif, reconstruction_*: for the report."""
    if model.generator is None:
        return
    (out / "samples").mkdir(parents=True, exist_ok=True)
    for kind, items in sets.items():
        frames = 1 if kind is Kind.IMAGE else items.preprocess.frames
        shape = (frames, items.preprocess.height, items.preprocess.width)
        generated = sheet(draw(model, GENERATED[kind], shape, seed))
        some = np.random.default_rng([seed, 9]).permutation(len(items))[:RECONSTRUCTED]
        real = items.take(np.sort(some))
        real = real[:, even_frames(real.shape[1], frames)]
        seen, painted = paint(model, real, MASK, seed)
        rows = np.stack([real, seen, painted], axis=1).reshape(-1, *real.shape[1:])
        write_sheet(generated, out / "samples" / f"generated_{kind}s")
        write_sheet(sheet(rows, columns=3), out / "samples" / f"reconstruction_{kind}s")


def sheet(clips: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Clips side by side on a grid.  uint8 [N, T, H, W, 3] -> [T, H', W', 3]"""
    N, T, H, W, C = clips.shape
    columns = columns or int(np.ceil(N**0.5))
    rows = -(-N // columns)
    page = np.full((T, rows * (H + GAP) - GAP, columns * (W + GAP) - GAP, C), 255, dtype=np.uint8)
    for place, clip in enumerate(clips):
        top, left = place // columns * (H + GAP), place % columns * (W + GAP)
        page[:, top : top + H, left : left + W] = clip
    return page


def as_clip(frames: np.ndarray, fps: float = CLIP_FPS) -> Clip:
    """uint8 [T, H, W, 3] -> Clip"""
    kind = Kind.IMAGE if len(frames) == 1 else Kind.CLIP
    return Clip(frames=frames, times=np.arange(len(frames)) / fps, kind=kind)


def write_sheet(frames: np.ndarray, stem: Path) -> Path:
    """Write a PNG for one frame, a GIF for several."""
    clip = as_clip(frames)
    path = stem.with_suffix(".png" if clip.kind is Kind.IMAGE else ".gif")
    if clip.kind is Kind.IMAGE:
        write_image(clip, path)
    else:
        write_video(clip, path, CLIP_FPS)
    return path


def _frames(clip: Tensor) -> np.ndarray:
    """float [B, 3, T, H, W] -> uint8 [B, T, H, W, 3]"""
    return to_uint8(clip).permute(0, 2, 3, 4, 1).contiguous().numpy()


def _pixels(
    mask: Mask, clip: Tensor, tubelet: int, patch: int, grid: tuple[int, int, int]
) -> Tensor:
    """Which pixels are hidden.  -> bool [B, 1, T, H, W]"""
    numbers = patchify(clip[:, :1], tubelet, patch)  # [B, N, P]
    hidden = torch.zeros(numbers.shape[:2], dtype=torch.bool).scatter(1, mask.hidden, True)
    spread = hidden.unsqueeze(-1).expand_as(numbers)
    return unpatchify(spread, grid, tubelet, patch)[:, :, : clip.shape[2]]
