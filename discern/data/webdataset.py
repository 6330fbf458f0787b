"""WebDataset tars: a tar comes in, its samples go out, read by offset and never unpacked to disk.

Members that share a name up to the first dot of its last part are one sample: `a/001.jpg`,
`a/001.cls`, `a/001.json`.  Labels come from `.cls` (a name or a number), else from `.json` (label,
labels, class or class_name; also group and split), else from a `.txt` of one short line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.clip import Kind
from discern.data.items import KINDS, READ_ONLY, SPLIT_NAMES
from discern.data.layout import names_of
from discern.data.unpack import looks_packed
from discern.errors import BadItem, DataError

LONGEST_TEXT = 2**20  # bytes of a .cls, .txt or .json
LONGEST_LABEL = 100  # letters; a longer .txt is a caption
JSON_KEYS = ("label", "labels", "class", "class_name", "cls")
BLOCK = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class TarSample:
    """One sample of a tar, not read yet."""

    key: str  # member name without its extension
    kind: Kind
    offset: int  # of the image or video in the tar
    size: int
    extension: str  # "jpg", "mp4"
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    offset: int
    size: int


def index_tar(
    path: str | Path, classes: Sequence[str] | None = None
) -> tuple[list[TarSample], list[str]]:
    """All samples of a tar, and a note for each member or sample that could not be used.

    `classes` names numeric labels.  Raises DataError for a tar that is corrupt, packed or none.
    """
    notes: list[str] = []
    samples = []
    try:
        with _Bounded(path) as file:
            groups = _read_members(path, file, notes)
            for key, members in groups.items():
                try:
                    samples.append(_sample(file, key, members, classes))
                except BadItem as error:
                    notes.append(f"{path}: {key}: {error}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    return samples, notes


def read_sample(path: str | Path, sample: TarSample) -> bytes:
    """The encoded image or video.  Raises BadItem when the tar is gone or shorter than it was."""
    try:
        file = os.open(path, READ_ONLY)
        try:
            data = os.pread(file, sample.size, sample.offset)
        finally:
            os.close(file)
    except OSError as error:
        raise BadItem(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) != sample.size:
        raise BadItem(f"{path}: ends inside {sample.key}.{sample.extension}: it was cut short")
    return data


class _Bounded(io.BufferedReader):
    """The tar; whatever a header says, no more is asked for than the file has."""

    def __init__(self, path: str | Path) -> None:
        raw = io.FileIO(path, opener=lambda name, flags: os.open(name, READ_ONLY))
        super().__init__(raw, 2**16)
        self.size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        return super().read(self.size if size is None or size < 0 else min(size, self.size))


def _read_members(
    path: str | Path, file: _Bounded, notes: list[str]
) -> dict[str, dict[str, _Member]]:
    """Sample key -> extension -> where its bytes are."""
    head = file.read(BLOCK)
    if looks_packed(head):
        raise DataError(f"{path}: is a packed tar, which has no random access: unpack it (gunzip)")
    file.seek(0)
    groups: dict[str, dict[str, _Member]] = {}
    place = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
            for member in tar:
                place = member.offset
                if member.offset_data + member.size > file.size and member.isreg():
                    raise tarfile.ReadError(f"{member.name!r} is cut short")
                if problem := _problem(member):
                    notes.append(f"{path}: {member.name!r} passed over: {problem}")
                elif member.isreg():
                    key, extension = _split_name(member.name)
                    if extension:
                        where = _Member(offset=member.offset_data, size=member.size)
                        groups.setdefault(key, {})[extension] = where
            end = tar.offset
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not a whole tar, damaged after byte {place} ({error}): fetch it again"
        ) from None
    # tarfile takes a damaged header for the end
    file.seek(end)
    rest = file.read(BLOCK)
    if rest.strip(b"\0"):
        raise DataError(f"{path}: damaged at byte {end}, no header of a tar there: fetch it again")
    if not rest:
        notes.append(f"{path}: has no end mark: members after the last one may be missing")
    return groups


def _problem(member: tarfile.TarInfo) -> str:
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or "\0" in member.name:
        return "its name leads out of the tar"
    if member.issym() or member.islnk():
        return "a link"
    if member.isreg() and member.issparse():
        return "a sparse file"
    return "" if member.isreg() or member.isdir() else "not a file"


def _split_name(name: str) -> tuple[str, str]:
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, extension = last.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def _sample(
    file: _Bounded, key: str, members: dict[str, _Member], classes: Sequence[str] | None
) -> TarSample:
    media = [name for name in members if name.rpartition(".")[2] in KINDS]
    if not media:
        raise BadItem(f"no image or video among its members ({', '.join(members)})")
    extension = min(media, key=lambda name: name.count("."))  # x.jpg before x.mask.png
    labels, extras = _labels(file, members, classes)
    split = extras.get("split")
    group = extras.get("group")
    return TarSample(
        key=key,
        kind=KINDS[extension.rpartition(".")[2]],
        offset=members[extension].offset,
        size=members[extension].size,
        extension=extension,
        labels=labels,
        group=None if group is None else str(group),
        split=SPLIT_NAMES.get(split.lower()) if isinstance(split, str) else None,
    )


def _labels(
    file: _Bounded, members: dict[str, _Member], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, Any]]:
    extras: dict[str, Any] = {}
    if "json" in members:
        try:
            value = json.loads(_text(file, members["json"]))
        except (ValueError, RecursionError) as error:
            raise BadItem(f"its .json is not JSON ({error})") from None
        extras = value if isinstance(value, dict) else {}
    if "cls" in members:
        return _names(_text(file, members["cls"]).strip(), classes), extras
    for name in JSON_KEYS:
        if name in extras:
            return _names(extras[name], classes), extras
    if "txt" in members:
        line = _text(file, members["txt"]).strip()
        if len(line) <= LONGEST_LABEL and "\n" not in line:
            return _names(line, classes), extras
    return (), extras


def _names(value: Any, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Labels from a name, a number, or a list of them; "7" is a number too."""
    if isinstance(value, list):
        return tuple(name for each in value for name in _names(each, classes))
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = int(value) if len(value) < 20 else value
    if isinstance(value, int) and not isinstance(value, bool):
        return names_of([value], classes)
    return (value,) if isinstance(value, str) and value else ()


def _text(file: _Bounded, member: _Member) -> str:
    if member.size > LONGEST_TEXT:
        raise BadItem(f"a label of {member.size:,} bytes: more than {LONGEST_TEXT:,}")
    file.seek(member.offset)
    return str(file.read(member.size), "utf-8-sig", "backslashreplace")
