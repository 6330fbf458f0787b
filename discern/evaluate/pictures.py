"""Pictures of telling answers: a set, its probabilities and the model in; small PNG files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from discern.clip import Kind
from discern.data.augment import to_float
from discern.data.clipset import ClipSet
from discern.data.loader import as_batch
from discern.explain.overlay import overlay
from discern.explain.subject import subject_of
from discern.explain.table import DEFAULT, EXPLAINERS
from discern.models.model import Model

SURE_WRONG, UNSURE_RIGHT = 40, 12  # items that get a picture
HEATED = {Kind.IMAGE: 12, Kind.CLIP: 6}  # of each, these get their heat beside it
STRIP = 3  # frames of a clip that are shown


def telling(
    right: np.ndarray, sureness: np.ndarray, share: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the surest wrong and of the least sure right answers.  bool [N], float [N]"""
    wrong, fine = np.flatnonzero(~right), np.flatnonzero(right)
    surest = wrong[np.argsort(-sureness[wrong], kind="stable")]
    least = fine[np.argsort(sureness[fine], kind="stable")]
    return surest[: SURE_WRONG // share], least[: UNSURE_RIGHT // share]


def picture_items(
    out: Path,
    model: Model,
    items: ClipSet,
    chosen: Sequence[np.ndarray],
    named: np.ndarray,
    several: bool,
) -> dict[int, str]:
    """Write a picture of each chosen item, the first of each list with the heat of its answer.

    `named` int [N] is the class each answer is about.  -> place of an item to its file's name
    """
    heats: dict[int, np.ndarray] = {}
    for places in chosen:
        hot = places[: HEATED[items.kind]]
        if len(hot):
            heats |= dict(
                zip(hot.tolist(), _heats(model, items, hot, named[hot], several), strict=True)
            )
    names = {}
    for folder, places in zip(("wrong", "unsure"), chosen, strict=True):
        for number, place in enumerate(places.tolist()):
            name = f"samples/{folder}/{items.kind}-{number:03d}.png"
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            rows = [_strip(items.take_even(np.array([place]))[0])]
            if place in heats:
                rows.append(_strip(heats[place]))
            # beside a picture, below a strip
            side = 1 if items.kind is Kind.IMAGE else 0
            Image.fromarray(np.concatenate(rows, axis=side)).save(out / name)
            names[place] = name
    return names


def _heats(
    model: Model, items: ClipSet, places: np.ndarray, named: np.ndarray, several: bool
) -> list[np.ndarray]:
    """Frames with the heat of the named class over them, one item at a time."""
    subject = subject_of(model, several)
    device = next(model.parameters()).device
    frames = items.take_even(places)
    zero = np.zeros(len(places), dtype=np.int64)
    clip = to_float(as_batch(frames, zero, zero).clip.to(device))
    heat = EXPLAINERS[DEFAULT](subject, clip, torch.from_numpy(named).to(device))
    return [overlay(one, hot.cpu()) for one, hot in zip(frames, heat, strict=True)]


def _strip(frames: np.ndarray) -> np.ndarray:
    """A clip by three of its frames side by side.  [T, h, w, 3] -> [h, w', 3]"""
    if len(frames) == 1:
        return frames[0]
    return np.concatenate(list(frames[np.linspace(0, len(frames) - 1, STRIP).astype(int)]), axis=1)
