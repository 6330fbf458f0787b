"""The main data flow: bytes -> clip -> tokens -> features -> logits -> names and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from discern import config as configuration
from discern.clip import Batch, Clip, Kind
from discern.data.augment import to_float
from discern.data.clipset import ClipSet
from discern.data.decode import decode
from discern.data.items import read_file as read_bytes
from discern.data.limits import Limits
from discern.data.loader import as_batch, evaluation_batches
from discern.data.preprocess import PreprocessConfig, even_frames, prepare
from discern.errors import BadItem, UsageError
from discern.models.weights import Bundle, load_bundle

CPU = torch.device("cpu")
BATCH = 256  # images at a time


def load(path: Path | str) -> Bundle:
    """Read and verify a model: a run folder or its `model` folder.

    Raises UsageError, IntegrityError.
    """
    return load_bundle(path)


def preprocessing(bundle: Bundle) -> PreprocessConfig:
    """How the bundle wants its input."""
    return configuration.from_dict(PreprocessConfig, bundle.preprocess)


@torch.inference_mode()
def forward(
    model: Callable[[Tensor], Tensor], batches: Iterable[Batch], device: torch.device = CPU
) -> np.ndarray:
    """Outputs of a model for all items: logits [N, K], or features [N, D]."""
    outputs = [model(to_float(batch.clip.to(device))).float().cpu() for batch in batches]
    return torch.cat(outputs).numpy()


def probabilities(model: nn.Module, items: ClipSet) -> np.ndarray:
    """Class probabilities of all items of a set.  -> [N, K], rows sum to 1"""
    size = BATCH if items.kind is Kind.IMAGE else max(1, BATCH // items.preprocess.frames)
    device = next(model.parameters()).device
    return softmax(forward(model, evaluation_batches(items, size), device))


def classify(bundle: Bundle, clips: Sequence[Clip]) -> np.ndarray:
    """Class probabilities of decoded images and clips.  -> [N, K]"""
    preprocess = preprocessing(bundle)
    found = []
    for clip in clips:
        frames = prepare(clip, preprocess)
        if clip.kind is Kind.CLIP:
            frames = frames[even_frames(len(frames), preprocess.frames)]
        batch = as_batch(frames[None], np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
        found.append(softmax(forward(bundle.model, [batch]))[0])
    return np.stack(found)


def predict_files(
    model: Path | str | Bundle,
    files: Sequence[Path | str],
    top: int = 1,
    limits: Limits | None = None,
) -> list[dict[str, Any]]:
    """Name what is in files: one entry each, with `top` classes, or `error` if it is unreadable."""
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    require_classifier(bundle)
    return [_predict_file(bundle, Path(file), top, limits or Limits()) for file in files]


def require_classifier(bundle: Bundle) -> None:
    """Raise UsageError for a model that was pre-trained but not tuned."""
    if not bundle.labels:
        raise UsageError(
            f"{bundle.path}: pre-trained only, it knows no classes: "
            f"run `discern train LABELLED-FOLDER --from {bundle.path} --out DIR` first"
        )


def read_file(path: Path, preprocess: PreprocessConfig, limits: Limits) -> Clip:
    """Decode one file of the user.  Raises BadItem."""
    data = read_bytes(path, limits)
    return decode(data, limits, frames=preprocess.stored_frames, side=preprocess.decode_side)


def softmax(logits: np.ndarray) -> np.ndarray:
    """[N, K] -> [N, K]"""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _predict_file(bundle: Bundle, path: Path, top: int, limits: Limits) -> dict[str, Any]:
    try:
        clip = read_file(path, preprocessing(bundle), limits)
    except BadItem as error:
        return {"file": str(path), "error": str(error)}
    row = classify(bundle, [clip])[0]
    best = np.argsort(-row)[:top]
    return {
        "file": str(path),
        "kind": str(clip.kind),
        "label": bundle.labels[best[0]],
        "probability": float(row[best[0]]),
        "top": [{"label": bundle.labels[i], "probability": float(row[i])} for i in best],
        "notes": list(clip.notes),
    }
