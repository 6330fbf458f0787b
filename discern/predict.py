"""The main data flow: bytes -> clip -> tokens -> features -> logits -> names and probabilities.

Where the bundle has a guard, what is unlike all that it knows is called unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

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
from discern.data.views import MOST, all_views
from discern.errors import BadItem, IntegrityError, UsageError
from discern.export.run import Exported, exported_at, load_exported
from discern.models.halved import halved
from discern.models.model import Model
from discern.models.weights import Bundle, load_bundle
from discern.models.witness import Witness
from discern.scale.precision import autocast, choose_precision
from discern.seal.sign import is_required, requiring
from discern.security.certainty import labels_of, sigmoid, softmax
from discern.security.scores import Evidence, together

CPU = torch.device("cpu")
BATCH = 256  # images at a time
Answering = TypeVar("Answering", bound=Callable[[Tensor], Tensor])
_HALVED: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()  # model -> what answers for it


def load(
    path: Path | str, *, require_signature: Path | str | None = None, precision: str = "fp32"
) -> Bundle:
    """Read and verify a model: a run folder or its `model` folder.

    With a public key's file it must be signed by that key.  Its answers are computed in fp32, in
    bf16, or with `auto` in what is faster on this processor.  Raises UsageError, IntegrityError,
    ConfigError for any other word.
    """
    with requiring(require_signature):
        bundle = load_bundle(path)
    bundle.model.precision = str(choose_precision(precision, CPU))
    return bundle


def preprocessing(bundle: Bundle) -> PreprocessConfig:
    """How the bundle wants its input."""
    return configuration.from_dict(PreprocessConfig, bundle.preprocess)


@torch.inference_mode()
def forward(
    model: Callable[[Tensor], Tensor], batches: Iterable[Batch], device: torch.device = CPU
) -> np.ndarray:
    """Outputs of a model for all items: logits [N, K], or features [N, D]."""
    with _answering(model, device) as answer:
        outputs = [answer(to_float(batch.clip.to(device))).float().cpu() for batch in batches]
    return torch.cat(outputs).numpy()


def features(
    encode: Callable[[Tensor], Tensor], items: ClipSet, device: torch.device = CPU
) -> Tensor:
    """What `encode` makes of all items of a set.  -> float [N, D]"""
    return torch.from_numpy(forward(encode, _batches(items), device))


def probabilities(model: nn.Module, items: ClipSet) -> np.ndarray:
    """Uncalibrated class probabilities of all items of a set.  -> [N, K]

    Rows sum to 1, unless items may have several labels.
    """
    device = next(model.parameters()).device
    logits = forward(model, _batches(items), device)
    return softmax(logits) if items.targets is None else sigmoid(logits)


@torch.inference_mode()
def look(
    model: Model, batches: Iterable[Batch], *, head: bool, device: torch.device = CPU
) -> Evidence:
    """What a model makes of all items, with `head` also the discriminator's verdict."""
    with _answering(model, device) as answer:
        witness = Witness(answer, head=head)
        return together([witness(to_float(batch.clip.to(device))) for batch in batches])


def evidence(model: Model, items: ClipSet, *, head: bool, views: int = 1) -> Evidence:
    """Features, logits and, with `head`, the discriminator's verdict on all items of a set.

    Logits are the mean of so many views (`data.views`); the rest is of the plain one.
    """
    device = next(model.parameters()).device
    plain = look(model, _batches(items), head=head, device=device)
    return _averaged(model, plain, lambda moment: _batches(items, moment), views)


@torch.inference_mode()
def _averaged(
    model: Model, plain: Evidence, batches: Callable[[float], Iterable[Batch]], views: int
) -> Evidence:
    """With the logits of further views."""
    device, logits = next(model.parameters()).device, plain.logits
    with _answering(model, device) as answer:
        witness = Witness(answer, head=False)
        for view in all_views(views)[1:]:
            more = [
                witness(view.of(to_float(batch.clip.to(device)))).logits.cpu()
                for batch in batches(view.moment)
            ]
            logits = logits + torch.cat(more)
    return plain._replace(logits=logits / views)


def classify(bundle: Bundle, clips: Sequence[Clip]) -> np.ndarray:
    """Class probabilities of decoded images and clips.  -> [N, K]"""
    batches = [one_batch(clip, preprocessing(bundle)) for clip in clips]
    logits = [forward(bundle.model, [batch]) for batch in batches]  # sizes may differ
    return bundle.certainty.probabilities(np.concatenate(logits))


def predict_files(
    model: Path | str | Bundle,
    files: Sequence[Path | str],
    top: int = 1,
    limits: Limits | None = None,
    views: int = 1,
    precision: str = "fp32",
) -> list[dict[str, Any]]:
    """Name what is in files: one entry each, with `top` classes, or `error` if it is unreadable.

    Where the model has a guard, also whether the item is `unknown`: unlike all that it knows.  The
    model may be an exported one.  The answer is the mean of so many `views` (`data.views`).
    A model that is not loaded yet answers in `precision` (see `load`).
    """
    require_views(views)
    exported = None if isinstance(model, Bundle) else exported_at(model)
    if exported is not None:
        if is_required():
            raise IntegrityError(
                f"{exported}: an exported model carries no signature: use the model"
            )
        if views > 1:
            raise UsageError(f"--views {views}: an exported model has one view: use the model")
        if precision != "fp32":
            raise UsageError(
                f"--precision {precision}: an exported model has its own: `discern export` sets it"
            )
        runner = load_exported(exported)
        return [_answer_file(runner, Path(file), top, limits or Limits()) for file in files]
    bundle = model if isinstance(model, Bundle) else load(model, precision=precision)
    require_classifier(bundle)
    return [_predict_file(bundle, Path(file), top, limits or Limits(), views) for file in files]


def require_classifier(bundle: Bundle) -> None:
    """Raise UsageError for a model that was pre-trained but not tuned."""
    if not bundle.labels:
        raise UsageError(
            f"{bundle.path}: pre-trained only, it knows no classes: "
            f"run `discern train LABELLED-FOLDER --from {bundle.path} --out DIR` first"
        )


def require_views(views: int) -> None:
    """Raise UsageError for a number of views that there are not."""
    if not 1 <= views <= MOST:
        raise UsageError(f"--views {views}: 1 to {MOST}")


def read_file(path: Path, preprocess: PreprocessConfig, limits: Limits) -> Clip:
    """Decode one file of the user.  Raises BadItem."""
    data = read_bytes(path, limits)
    return decode(data, limits, frames=preprocess.stored_frames, detail=preprocess.detail)


@contextmanager
def _answering(model: Answering, device: torch.device) -> Iterator[Answering]:
    """What answers in its place, where bf16 is asked for; else all around it stays as it is."""
    if not isinstance(model, Model) or model.precision == "fp32":
        yield model
        return
    with autocast(model.precision, device):
        if model not in _HALVED:
            _HALVED[model] = halved(model)
        yield _HALVED[model]


def _batches(items: ClipSet, moment: float = 0.0) -> Iterable[Batch]:
    size = BATCH if items.kind is Kind.IMAGE else max(1, BATCH // items.preprocess.frames)
    return evaluation_batches(items, size, moment)


def model_frames(clip: Clip, preprocess: PreprocessConfig, moment: float = 0.0) -> np.ndarray:
    """A decoded item as a model sees it, its frames as `even_frames` has them.

    -> uint8 [T, h, w, 3]
    """
    frames = prepare(clip, preprocess)
    if clip.kind is Kind.IMAGE:
        return frames
    return frames[even_frames(len(frames), preprocess.frames, moment)]


def one_batch(clip: Clip, preprocess: PreprocessConfig, moment: float = 0.0) -> Batch:
    """A batch of one."""
    frames = model_frames(clip, preprocess, moment)
    return as_batch(frames[None], np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _predict_file(
    bundle: Bundle, path: Path, top: int, limits: Limits, views: int
) -> dict[str, Any]:
    size = preprocessing(bundle)
    try:
        clip = read_file(path, size, limits)
    except BadItem as error:
        return {"file": str(path), "error": str(error)}
    sure = bundle.certainty
    plain = look(bundle.model, [one_batch(clip, size)], head=sure.asks_head)
    found = _averaged(bundle.model, plain, lambda moment: [one_batch(clip, size, moment)], views)
    row = sure.probabilities(found.logits.numpy())[0]
    judged = sure.judge(clip.kind, found)
    return _said(path, clip, row, bundle.labels, top, judged, sure.several)


def _answer_file(exported: Exported, path: Path, top: int, limits: Limits) -> dict[str, Any]:
    preprocess = configuration.from_dict(PreprocessConfig, exported.preprocess)
    try:
        clip = read_file(path, preprocess, limits)
    except BadItem as error:
        return {"file": str(path), "error": str(error)}
    row, judged = exported.answer(clip.kind, model_frames(clip, preprocess))
    return _said(path, clip, row, exported.labels, top, judged, exported.certainty.several)


def _said(
    path: Path,
    clip: Clip,
    row: np.ndarray,
    labels: Sequence[str],
    top: int,
    judged: dict[str, Any],
    several: bool,
) -> dict[str, Any]:
    return {
        "file": str(path),
        "kind": str(clip.kind),
        **named(row, labels, top, judged, several),
        "notes": list(clip.notes),
    }


def named(
    row: np.ndarray, labels: Sequence[str], top: int, judged: dict[str, Any], several: bool
) -> dict[str, Any]:
    """Classes of an item by their probabilities [K], the likeliest first, and what a guard says."""
    best = np.argsort(-row)[:top]
    return {
        "label": labels[best[0]],
        "probability": float(row[best[0]]),
        "top": [{"label": labels[i], "probability": float(row[i])} for i in best],
        **({"labels": labels_of(row, labels)} if several else {}),
        **judged,
    }
