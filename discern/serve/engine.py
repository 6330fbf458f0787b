"""A bundle behind a queue: bytes of strangers in, answers out, faults as codes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.clip import Clip, Kind
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.loader import as_batch
from discern.errors import BadItem, Refused, UsageError
from discern.gallery.people import (
    UNCALIBRATED,
    enroll_vectors,
    remove,
    require_same_model,
    vectors_of,
)
from discern.gallery.search import Index
from discern.gallery.store import Gallery, read
from discern.models.weights import Bundle
from discern.predict import load, look, model_frames, named, preprocessing, require_classifier
from discern.security.scores import Evidence
from discern.serve.queue import Batcher
from discern.serve.settings import ServeConfig
from discern.serve.watch import Watched

LIMITS = Limits()


class Fault(Exception):
    """What a client did wrong, or must wait for."""

    def __init__(self, status: int, code: str, message: str, retry: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry = status, code, message, retry


@dataclass(frozen=True)
class Item:
    """A decoded picture or clip, fitted to the model."""

    clip: Clip
    frames: np.ndarray  # uint8 [T, h, w, 3]


class Engine:
    """The model, its queue, and the gallery if there is one."""

    def __init__(self, config: ServeConfig) -> None:
        self.bundle: Bundle = load(
            config.model,
            require_signature=config.require_signature,
            precision=config.precision,
        )
        require_classifier(self.bundle)
        self.preprocess = preprocessing(self.bundle)
        self.gallery = None if config.gallery is None else Path(config.gallery)
        # what is wrong with it is told before the first request; one may be made by enrolling
        if self.gallery is not None and (self.gallery.exists() or not config.may_enroll):
            require_same_model(self.gallery, self.bundle)
        self.may_enroll, self.most_enrolled = config.may_enroll, config.most_enrolled
        self.run = None if config.watch is None else Watched(Path(config.watch))
        self.queue = Batcher(self._answers, most=config.queue, batch=config.batch, wait=config.wait)

    def item(self, data: bytes) -> Item:
        """Decode and fit.  Raises Fault: 413 over a limit, 415 for nothing, 422 for rubbish."""
        if not data:
            raise Fault(415, "empty", "send a picture or a clip as the body, or in a form")
        size = self.preprocess
        try:
            clip = decode(data, LIMITS, frames=size.stored_frames, detail=size.detail)
        except Refused:
            raise Fault(413, "too_large", "more pixels, frames or seconds than allowed") from None
        except (BadItem, MemoryError):
            raise Fault(422, "unreadable", "no picture or clip that can be read") from None
        return Item(clip, model_frames(clip, size))

    def said(self, found: tuple[np.ndarray, Evidence], kind: Kind, top: int) -> dict[str, Any]:
        """An answer as the client gets it."""
        row, seen = found
        sure = self.bundle.certainty
        # how strange an item is stays here: a score would help who wants to pass for known
        judged = {name: v for name, v in sure.judge(kind, seen).items() if name == "unknown"}
        return {
            "kind": str(kind),
            **named(row, self.bundle.labels, top, judged, sure.several),
        }

    def explained(self, data: bytes, item: Item, method: str | None) -> tuple[bytes, str]:
        """A picture of what the answer rests on, and its media type."""
        from discern.recipes.explain import explain

        suffix = ".png" if item.clip.kind is Kind.IMAGE else ".mp4"
        with tempfile.TemporaryDirectory(prefix="discern-") as home:
            given, out = Path(home) / "item", Path(home) / f"why{suffix}"
            given.write_bytes(data)
            explain(self.bundle, given, out, method=method)
            return out.read_bytes(), "image/png" if suffix == ".png" else "video/mp4"

    def identified(self, item: Item, top: int) -> dict[str, Any]:
        """Who of the gallery it is.  Raises Fault where there is no gallery."""
        gallery = self._gallery()
        ranked = Index(gallery).ranked(self._vector(item), top)
        threshold = UNCALIBRATED if gallery.threshold is None else gallery.threshold
        known = bool(ranked) and ranked[0][1] >= threshold
        return {
            "name": ranked[0][0] if known else None,
            "enrolled": known,
            "top": [{"name": name, "score": score} for name, score in ranked],
            "threshold": threshold,
            "calibrated": gallery.threshold is not None,
        }

    def enrolled(self) -> dict[str, Any]:
        """Who is in the gallery.  Raises Fault where there is none."""
        gallery = self._gallery()
        counts = np.bincount(gallery.owners, minlength=len(gallery))
        return {
            "names": [
                {"name": name, "pictures": int(count)}
                for name, count in zip(gallery.names, counts, strict=True)
            ],
            "may_enroll": self.may_enroll,
            "calibrated": gallery.threshold is not None,
        }

    def enroll(self, name: str, item: Item) -> dict[str, Any]:
        """Write an item into the gallery.  Raises Fault."""
        path = self._writable()
        try:
            said = enroll_vectors(
                path,
                name,
                self._vector(item)[None],
                identity=self.bundle.weights,
                most=self.most_enrolled,
            )
        except UsageError as error:
            raise Fault(422, "not_enrolled", _without_paths(str(error), path)) from None
        return {"name": name, **said}

    def forget(self, name: str) -> dict[str, Any]:
        """Take a name out of the gallery.  Raises Fault."""
        path = self._writable()
        try:
            said = remove(path, name)
        except UsageError as error:
            raise Fault(404, "not_enrolled", _without_paths(str(error), path)) from None
        return {"name": name, "removed": said["removed"], "names": said["names"]}

    def _writable(self) -> Path:
        if self.gallery is None:
            raise Fault(404, "no_gallery", "this server was started without --gallery")
        if not self.may_enroll:
            raise Fault(403, "read_only", "this server was started without --may-enroll")
        return self.gallery

    def _gallery(self) -> Gallery:
        if self.gallery is None:
            raise Fault(404, "no_gallery", "this server was started without --gallery")
        if self.may_enroll and not self.gallery.exists():
            return Gallery.empty("", self.bundle.model.config.backbone.width)
        return read(self.gallery)

    def _vector(self, item: Item) -> np.ndarray:
        """[D]"""
        zero = np.zeros(1, dtype=np.int64)
        return np.asarray(vectors_of(self.bundle, [as_batch(item.frames[None], zero, zero)])[0])

    @torch.inference_mode()
    def _answers(self, frames: np.ndarray) -> Sequence[tuple[np.ndarray, Evidence]]:
        sure = self.bundle.certainty
        zero = np.zeros(len(frames), dtype=np.int64)
        found = look(self.bundle.model, [as_batch(frames, zero, zero)], head=sure.asks_head)
        rows = sure.probabilities(found.logits.numpy())
        places = torch.arange(len(frames))
        return [(row, found.take(places[i : i + 1])) for i, row in enumerate(rows)]


def _without_paths(text: str, path: Path) -> str:
    """A message for strangers: the server's folders are none of their business."""
    return text.replace(f"{path}: ", "").replace(str(path), "the gallery")
