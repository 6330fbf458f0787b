"""`discern score`: a model and sources of any size in; an answer for every item, in Parquet, out.

Items fall into chunks by their order; each chunk becomes one file, written whole or not at all, so
that every item is answered exactly once however often the work is killed and taken up again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.clip import Kind
from discern.data.clipset import DECODER_THREADS
from discern.data.decode import decode
from discern.data.items import Source
from discern.data.limits import Limits
from discern.data.loader import as_batch
from discern.data.parquet import require_parquet, write_parquet
from discern.data.sources import open_source
from discern.errors import BadItem, DataError, UsageError
from discern.files import TEMPORARY, sync_folder, write_json
from discern.lock import FolderLock
from discern.models.weights import Bundle
from discern.predict import load, look, model_frames, named, preprocessing, require_classifier
from discern.recipes.progress import progress_bar
from discern.scale.spread import spread, spread_by_ray
from discern.seal.sign import requiring

FORMAT = "discern-scores/1"
CHUNK = 1000  # items
AT_ONCE = {Kind.IMAGE: 64, Kind.CLIP: 16}
ABOUT, RESULTS = "score.json", "results.json"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One chunk, as a worker gets it."""

    model: str
    sources: tuple[str, ...]
    first: int
    last: int
    out: str
    order: str  # what the order of the items must be
    weights: str  # SHA-256 of the model's
    precision: str
    signed_by: str | None
    threads: int


def score(
    source: Sequence[str] | str,
    model: Path | str,
    out: Path | str,
    *,
    chunk: int = CHUNK,
    workers: int = 1,
    ray: str | None = None,
    require_signature: Path | str | None = None,
    precision: str = "fp32",
) -> dict[str, Any]:
    """Answer every item of the sources into `out`/part-*.parquet.

    The same call on unfinished work goes on with the chunks that are missing, by any number of
    `workers`, here or on the Ray cluster at `ray`.  `precision` is `load`'s.  Raises UsageError,
    DataError, IntegrityError.
    """
    started = time.monotonic()
    require_parquet()
    specs = [source] if isinstance(source, str) else list(source)
    out = Path(out).absolute()
    if precision == "auto":  # timed once: who goes on, and all workers, answer alike
        precision = _begun_in(out) or precision
    bundle = load(model, require_signature=require_signature, precision=precision)
    require_classifier(bundle)
    data = open_source(specs)
    if not len(data):
        raise DataError(f"{data.spec}: there is no item in it")
    about: dict[str, Any] = {
        "format": FORMAT,
        "sources": [_absolute(spec) for spec in specs],
        "items": len(data),
        "order": _order(data),
        "weights": bundle.weights,
        "precision": bundle.model.precision,
        "chunk": chunk,
    }
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out)
    try:
        _begin(out, about)
        starts = range(0, len(data), chunk)
        width = max(5, len(str(len(starts))))
        tasks = [
            Task(
                model=str(Path(bundle.path).absolute()),
                sources=tuple(about["sources"]),
                first=first,
                last=min(first + chunk, len(data)),
                out=str(out / f"part-{number:0{width}}.parquet"),
                order=about["order"],
                weights=about["weights"],
                precision=about["precision"],
                signed_by=None if require_signature is None else _absolute(str(require_signature)),
                threads=0 if workers <= 1 and ray is None else 1,
            )
            for number, first in enumerate(starts)
        ]
        _OPEN[_key(tasks[0])] = bundle, data  # for the tasks that this process does itself
        left = [task for task in tasks if not Path(task.out).exists()]
        before = done = len(data) - sum(task.last - task.first for task in left)
        answered = time.monotonic()
        found = (
            spread(score_chunk, left, workers)
            if ray is None
            else spread_by_ray(score_chunk, left, ray)
        )
        with progress_bar("scoring") as bar:
            for count in found:
                done += count
                rate = (done - before) / max(1e-9, time.monotonic() - answered)
                bar(done / len(data), f"{done} of {len(data)} items, {rate:.0f} a second")
        results = _totals(tasks) | {
            "verb": "score",
            "samples": len(data),
            "parts": len(tasks),
            "model": str(bundle.path),
            "seconds": time.monotonic() - started,
            "out": str(out),
        }
        write_json(out / RESULTS, results)
        sync_folder(out)
    finally:
        _OPEN.clear()
        lock.close()
    return results


def score_chunk(task: Task) -> int:
    """Answer one chunk and write its file.  -> its items.  Raises UsageError, DataError."""
    bundle, data = _opened(task)
    if task.threads:
        torch.set_num_threads(task.threads)
    rows = answers(bundle, data, range(task.first, task.last))
    write_parquet(Path(task.out), rows)
    return task.last - task.first


def answers(bundle: Bundle, data: Source, indices: range) -> list[dict[str, Any]]:
    """One row for each item, in order; what cannot be read has an `error` and no label."""
    rows: list[dict[str, Any]] = [{} for _ in indices]
    ready: dict[Kind, list[tuple[int, np.ndarray]]] = {kind: [] for kind in Kind}
    with ThreadPoolExecutor(DECODER_THREADS) as pool:
        for place, read in enumerate(pool.map(lambda i: _read(bundle, data, i), indices)):
            rows[place] = {"key": data.items[indices[place]].key, **read[0]}
            if read[1] is not None:
                kind = Kind(rows[place]["kind"])
                ready[kind].append((place, read[1]))
                if len(ready[kind]) == AT_ONCE[kind]:
                    _answer(bundle, kind, ready[kind], rows)
                    ready[kind] = []
    for kind, waiting in ready.items():
        if waiting:
            _answer(bundle, kind, waiting, rows)
    return rows


def _answer(
    bundle: Bundle, kind: Kind, items: Sequence[tuple[int, np.ndarray]], rows: list[dict[str, Any]]
) -> None:
    zero = np.zeros(len(items), dtype=np.int64)
    batch = as_batch(np.stack([frames for _, frames in items]), zero, zero)
    sure = bundle.certainty
    seen = look(bundle.model, [batch], head=sure.asks_head)
    chances = sure.probabilities(seen.logits.numpy())
    for number, (place, _) in enumerate(items):
        judged = sure.judge(kind, seen.take(torch.tensor([number])))
        rows[place] |= named(chances[number], bundle.labels, 1, judged, sure.several)


def _read(bundle: Bundle, data: Source, index: int) -> tuple[dict[str, Any], np.ndarray | None]:
    item, size = data.items[index], preprocessing(bundle)
    try:
        encoded = data.read(index)
        clip = decode(encoded, Limits(), frames=size.stored_frames, detail=size.detail)
    except BadItem as error:
        return {"kind": str(item.kind), "error": str(error)}, None
    return {"kind": str(clip.kind)}, model_frames(clip, size)


def _begun_in(out: Path) -> str | None:
    """The precision of unfinished work, if there is some."""
    try:
        return str(json.loads((out / ABOUT).read_bytes())["precision"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _begin(out: Path, about: dict[str, Any]) -> None:
    """Write down what is scored, or refuse work of another kind.  Raises UsageError."""
    path = out / ABOUT
    if not path.exists():
        others = [one.name for one in out.iterdir() if one.name != FolderLock.NAME]
        others = [name for name in others if not name.startswith(TEMPORARY)]
        if others:
            raise UsageError(f"--out {out}: in use (there is {min(others)}): choose another folder")
        write_json(path, about)
        return
    try:
        # before there was a choice it was fp32
        stored = {"precision": "fp32", **json.loads(path.read_bytes())}
    except ValueError:
        raise UsageError(f"{path}: cannot be read: choose another --out") from None
    if (out / RESULTS).exists():
        raise UsageError(f"--out {out} holds finished scores: choose another, or delete it")
    for name, value in about.items():
        if stored.get(name) != value:
            raise UsageError(
                f"--out {out}: was begun with another {name}: use the same, or another folder"
            )
    for leftover in out.glob(f"{TEMPORARY}*"):  # of a kill
        leftover.unlink()


def _totals(tasks: Sequence[Task]) -> dict[str, Any]:
    """Counts over all files."""
    import pyarrow.compute
    import pyarrow.parquet

    rows = broken = unknown = 0
    for task in tasks:
        table = pyarrow.parquet.read_table(task.out, columns=["error", "unknown"])
        rows += table.num_rows
        broken += table.num_rows - table["error"].null_count
        unknown += pyarrow.compute.sum(table["unknown"]).as_py() or 0
    return {"rows": rows, "bad_files": broken, "unknown": unknown}


def _absolute(spec: str) -> str:
    return spec if "://" in spec else str(Path(spec).absolute())


def _order(data: Source) -> str:
    digest = hashlib.sha256()
    for item in data.items:
        digest.update(item.key.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


# model and sources of this process, by what they must be: a worker opens them once
_OPEN: dict[tuple[str, ...], tuple[Bundle, Source]] = {}


def _opened(task: Task) -> tuple[Bundle, Source]:
    """Model and sources of a task.  Raises UsageError, DataError where they are others by now."""
    found = _OPEN.get(_key(task))
    if found is not None:
        return found
    with requiring(task.signed_by):
        bundle, data = load(task.model, precision=task.precision), open_source(list(task.sources))
    if bundle.weights != task.weights:
        raise UsageError(f"{task.model}: this is not the model that the scoring began with")
    if _order(data) != task.order:
        raise DataError(f"{data.spec}: its items are not those that the scoring began with")
    _OPEN.clear()
    _OPEN[_key(task)] = bundle, data
    return bundle, data


def _key(task: Task) -> tuple[str, ...]:
    return (task.model, task.weights, task.order, *task.sources)
