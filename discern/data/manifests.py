"""Manifests: CSV or JSON lines that name files with their labels, split and group, to items.

The columns are `path,label[,split][,group]`; several labels are separated by `;`, no label means
unlabelled.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.clip import Kind
from discern.data.items import (
    FRAMES,
    SPLIT_NAMES,
    Item,
    Source,
    file_kind,
    printable,
    read_file,
    read_frames,
)
from discern.data.limits import Limits
from discern.errors import DataError
from discern.files import write_bytes

COLUMNS = ("path", "label", "split", "group")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of a manifest, checked."""

    line: int
    path: str
    labels: tuple[str, ...]
    split: str | None
    group: str | None


class ManifestSource(Source):
    """The files that a manifest names: relative to its folder, or by absolute paths."""

    def __init__(self, spec: str, paths: Sequence[Path], limits: Limits) -> None:
        super().__init__(spec, limits)
        (manifest,) = paths
        entries, self.notes = read_manifest(manifest)
        folder = manifest.absolute().parent
        self._paths = [os.path.join(folder, _local(entry.path, folder)) for entry in entries]
        _refuse_all_missing(manifest, entries, self._paths)
        self.items = [
            Item(
                key=printable(entry.path),
                kind=file_kind(path) or Kind.IMAGE,
                labels=entry.labels,
                split=entry.split,
                group=entry.group,
            )
            for entry, path in zip(entries, self._paths, strict=True)
        ]

    def read(self, index: int) -> bytes | list[bytes]:
        """The file of item `index`, or the files of its frames."""
        path = self._paths[index]
        is_frames = path.lower().endswith(FRAMES) and os.path.isdir(path)
        return (read_frames if is_frames else read_file)(path, self.limits)

    def location(self, index: int) -> str:
        """Where item `index` lies."""
        return os.path.realpath(self._paths[index])


def is_manifest(paths: Sequence[Path]) -> bool:
    """Whether this is one CSV, TSV or JSON lines file."""
    return len(paths) == 1 and paths[0].suffix.lower() in SUFFIXES and not paths[0].is_dir()


def read_manifest(path: Path, absolute: bool = True) -> tuple[list[Entry], list[str]]:
    """The lines of a manifest and notes.  Raises DataError that names the line and the field.

    `absolute=False` refuses absolute paths: a manifest from elsewhere must not choose local files.
    """
    rows = _json_rows if path.suffix.lower() in (".jsonl", ".ndjson") else _csv_rows
    entries: list[Entry] = []
    notes: set[str] = set()
    seen: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for line, row in rows(path, file):
                entry = _entry(f"{path}, line {line}", line, row, absolute)
                first = seen.setdefault(entry.path, line)
                if first != line:
                    raise DataError(
                        f"{path}, line {line}, field path: {entry.path} is on line {first} already:"
                        " keep one of them (several labels are separated by ;)"
                    )
                entries.append(entry)
                notes.update(f"field {name} is not used" for name in row if name not in COLUMNS)
    except UnicodeDecodeError:
        raise DataError(f"{path}, line {_bad_line(path)}: not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check permissions") from None
    return entries, sorted(notes)


def write_manifest(path: Path, items: Mapping[str, Item]) -> None:
    """JSON lines that name files, relative to the manifest, with what is known of their items."""
    lines = []
    for name, item in items.items():
        known = {"path": name, "label": list(item.labels), "split": item.split, "group": item.group}
        lines.append(json.dumps({key: value for key, value in known.items() if value}))
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            if not any(value.strip() for value in row):
                continue
            if not columns:
                columns = [name.strip().lower() for name in row]
                if "path" not in columns or len(set(columns)) < len(columns):
                    raise DataError(
                        f"{path}, line {reader.line_num}: the first line must name the columns"
                        f" path,label[,split][,group], not {', '.join(row)[:80]!r}"
                    )
            elif len(row) != len(columns):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} values for {len(columns)} columns:"
                    " put quotes around a value with a comma, leave no column out"
                )
            else:
                yield reader.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {number}: write {{"path": "...", "label": "..."}}')
        yield number, row


def _entry(place: str, line: int, row: dict[str, Any], absolute: bool) -> Entry:
    split = _text(place, "split", row.get("split"))
    if split and split.lower() not in SPLIT_NAMES:
        raise DataError(f"{place}, field split: {split!r} is not train, val or test")
    return Entry(
        line=line,
        path=_path(place, row.get("path"), absolute),
        labels=_labels(place, row.get("label")),
        split=SPLIT_NAMES[split.lower()] if split else None,
        group=_text(place, "group", row.get("group")) or None,
    )


def _path(place: str, value: Any, absolute: bool) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}, field path: missing: name the image or video file")
    if "://" in value or "\0" in value:
        raise DataError(f"{place}, field path: {value!r} is not a path of this file system")
    path = os.path.normpath(value.strip())
    if os.path.isabs(path) and not absolute:
        raise DataError(f"{place}, field path: {path} is absolute: write it relative to the file")
    if os.pardir in re.split(r"[/\\]", path):
        raise DataError(
            f"{place}, field path: {path} leads out of the manifest's folder:"
            " write an absolute path, or move the manifest"
        )
    return path


def _labels(place: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else (_text(place, "label", value) or "").split(";")
    labels = [(_text(place, "label", each) or "").strip() for each in values]
    if len(set(labels)) < len(labels):
        raise DataError(f"{place}, field label: the same label twice in {value!r}")
    return tuple(label for label in labels if label)


def _text(place: str, field: str, value: Any) -> str | None:
    """Text or a whole number as text.  A bare NaN, true or 0.5 is an accident of the writer."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{place}, field {field}: {value!r} is not a text: put it in quotes")
    return str(value).strip()


def _local(path: str, folder: Path) -> str:
    """A path as this system writes it: manifests made on Windows use backslashes."""
    if "\\" in path and os.sep == "/" and not os.path.exists(os.path.join(folder, path)):
        return path.replace("\\", "/")
    return path


def _refuse_all_missing(manifest: Path, entries: Sequence[Entry], paths: Sequence[str]) -> None:
    if entries and not any(os.path.lexists(path) for path in paths[:100]):
        raise DataError(
            f"{manifest}, line {entries[0].line}, field path: {entries[0].path} does not exist, and"
            f" no other either: paths are relative to {manifest.absolute().parent}"
        )


def _bad_line(path: Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0
