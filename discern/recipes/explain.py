"""`discern explain`: a model and a file in, a picture of what the answer rests on out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from discern.clip import Kind
from discern.data.augment import to_float
from discern.data.limits import Limits
from discern.data.loader import as_batch
from discern.errors import BadItem, DataError, UsageError
from discern.explain.faithful import faithfulness
from discern.explain.overlay import overlay
from discern.explain.subject import subject_of
from discern.explain.table import DEFAULT, EXPLAINERS
from discern.models.weights import Bundle, load_bundle
from discern.objectives.masking import Mask
from discern.predict import model_frames, preprocessing, read_file, require_classifier
from discern.recipes.generate import CLIPS, IMAGES, write_picture
from discern.recipes.samples import as_clip, paint, sheet

SIDE = 256  # pixels of a picture's longer side, at least
STRIP = 24  # pixels of the curve over time
LEFT = 0.5  # share of the cells that the generator paints from


def explain(
    model: Path | str | Bundle,
    file: Path | str,
    out: Path | str,
    *,
    method: str | None = None,
    label: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write the item, its heat, and what the generator makes of its hottest half, side by side.

    Raises UsageError for a model without classes, a class or a method that does not exist or an odd
    name, DataError for a file that cannot be read.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    out = Path(out)
    require_classifier(bundle)
    method = method or DEFAULT
    if method not in EXPLAINERS:
        raise UsageError(f"--method {method}: there are {', '.join(EXPLAINERS)}")
    if label is not None and label not in bundle.labels:
        raise UsageError(f"--label {label}: there are {', '.join(bundle.labels[:10])}")
    if out.suffix.lower() not in (*IMAGES, *CLIPS):
        raise UsageError(f"--out {out}: write a .png, .jpg, .webp, .mp4 or .gif")
    preprocess = preprocessing(bundle)
    try:
        clip = read_file(Path(file), preprocess, Limits())
    except BadItem as error:
        raise DataError(f"{file}: {error}") from None
    frames = model_frames(clip, preprocess)  # [T, h, w, 3]
    zero = np.zeros(1, dtype=np.int64)
    item = to_float(as_batch(frames[None], zero, zero).clip)
    subject = subject_of(bundle.model, bundle.certainty.several)
    with torch.no_grad():
        logits = subject.logits(item).float().numpy()
    chances = bundle.certainty.probabilities(logits)[0]
    number = int(chances.argmax()) if label is None else bundle.labels.index(label)
    target = torch.tensor([number])
    heat = EXPLAINERS[method](subject, item, target)  # [1, t, h, w]
    faith = faithfulness(subject, item, target, heat)
    picture = _picture(bundle, frames, heat, clip.kind, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_picture(as_clip(picture), out)
    answer: dict[str, Any] = {
        "verb": "explain",
        "file": str(file),
        "kind": str(clip.kind),
        "label": bundle.labels[number],
        "probability": float(chances[number]),
        "method": method,
        "deletion": float(faith.deletion),
        "insertion": float(faith.insertion),
        "out": str(out),
    }
    if clip.kind is Kind.CLIP:
        answer["time"] = [round(share, 4) for share in over_time(heat[0], len(frames)).tolist()]
    return answer


def over_time(heat: Tensor, frames: int) -> np.ndarray:
    """Each frame's share of the heat.  [t, h, w] -> float [T]"""
    shares = heat.sum(dim=(1, 2)).repeat_interleave(-(-frames // len(heat)))[:frames]
    return (shares / shares.sum().clamp(min=1e-12)).cpu().numpy()


def _picture(bundle: Bundle, frames: np.ndarray, heat: Tensor, kind: Kind, seed: int) -> np.ndarray:
    """Item, heat and painting side by side, for clips above a curve.  -> uint8 [T, H', W', 3]"""
    large = _enlarged(frames)
    panels = [large, overlay(large, heat[0])]
    if bundle.model.generator is not None:
        _, painted = paint(bundle.model, frames[None], 0.0, seed, _hottest(heat))
        panels.append(_enlarged(painted[0]))
    page = sheet(np.stack(panels), columns=len(panels))
    if kind is Kind.IMAGE:
        return page
    return np.concatenate([page, _curve(over_time(heat[0], len(frames)), page.shape[2])], axis=1)


def _hottest(heat: Tensor) -> Mask:
    """The hottest cells are seen, the others hidden."""
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    count = max(1, round(LEFT * order.shape[1]))
    keep, hidden = order[:, :count].sort(dim=1).values, order[:, count:].sort(dim=1).values
    return Mask(keep=keep, hidden=hidden)


def _enlarged(frames: np.ndarray) -> np.ndarray:
    """Small frames by a whole factor, so that their pixels stay what they are."""
    factor = max(1, -(-SIDE // max(frames.shape[1:3])))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def _curve(shares: np.ndarray, width: int) -> np.ndarray:
    """A bar for each frame, the one that is shown in colour.  float [T] -> uint8 [T, 24, W, 3]"""
    count = len(shares)
    strip = np.full((count, STRIP, width, 3), 255, dtype=np.uint8)
    edges = np.linspace(0, width, count + 1).round().astype(int)
    heights = np.maximum(1, (STRIP * shares / max(shares.max(), 1e-12)).round().astype(int))
    for shown in range(count):
        for place in range(count):
            colour = (235, 90, 60) if place == shown else (190, 190, 190)
            strip[shown, STRIP - heights[place] :, edges[place] : edges[place + 1] - 1] = colour
    return strip
