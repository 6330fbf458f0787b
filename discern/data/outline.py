"""The outline of a TFRecord shard: kind, labels, split and group of each record, no pixels.

A shard must be read once to know its labels; the outline of a large one is kept beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from discern.clip import Kind
from discern.data.items import SPLITS
from discern.data.layout import Sample
from discern.data.tfrecord import RecordFile
from discern.errors import BadItem
from discern.files import write_bytes

FORMAT = 1
WORTH_KEEPING = 16 * 2**20  # bytes: a smaller shard is read again sooner than its outline is found


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What is known of a record without decoding it.  A damaged record has no labels."""

    kind: Kind = Kind.IMAGE
    labels: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None


def read_outline(file: RecordFile, parse: Callable[[bytes], Sample]) -> list[Row]:
    """A row for each record, also a damaged one, and one for the lost rest of a broken shard."""
    path = Path(file.path)
    stamp = _stamp(path, parse)
    rows = _load(path, stamp)
    if rows is None:
        rows = list(_scan(file, parse))
        if os.path.getsize(path) >= WORTH_KEEPING:
            _save(path, stamp, rows)
    return rows


def outline_path(path: Path) -> Path:
    """The hidden file that keeps the outline of a shard."""
    return path.with_name(f".{path.name}.outline.json")


def _scan(file: RecordFile, parse: Callable[[bytes], Sample]) -> Iterator[Row]:
    for number in range(len(file)):
        try:
            sample = parse(file[number])
        except BadItem:
            yield Row()  # reading the item says what is wrong
            continue
        yield Row(kind=sample.kind, labels=sample.labels, split=sample.split, group=sample.group)
    if file.broken:
        yield Row()


def _stamp(path: Path, parse: Callable[[bytes], Sample]) -> list[object]:
    """What the outline depends on: the file, and the class names that its numbers stand for."""
    status = os.stat(path)
    names = getattr(parse, "keywords", {}).get("classes")
    names = names or getattr(getattr(parse, "__self__", None), "classes", None)
    return [FORMAT, status.st_size, status.st_mtime_ns, names]


def _load(path: Path, stamp: list[object]) -> list[Row] | None:
    try:
        stored = json.loads(outline_path(path).read_bytes())
        if stored["stamp"] != stamp:
            return None
        label_sets = [tuple(map(str, labels)) for labels in stored["label_sets"]]
        return [
            Row(
                kind=Kind(kind),
                labels=label_sets[place],
                split=split if split in SPLITS else None,
                group=None if group is None else str(group),
            )
            for kind, place, split, group in stored["rows"]
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None  # none, stale or damaged: the shard itself is read


def _save(path: Path, stamp: list[object], rows: list[Row]) -> None:
    places: dict[tuple[str, ...], int] = {}
    for row in rows:
        places.setdefault(row.labels, len(places))
    text = json.dumps(
        {
            "stamp": stamp,
            "label_sets": list(places),
            "rows": [[row.kind, places[row.labels], row.split, row.group] for row in rows],
        }
    )
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time only
        write_bytes(outline_path(path), text.encode())
