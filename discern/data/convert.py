"""A source in; TFRecord shards or a folder of files with the very same bytes out."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, Literal

from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.data.items import FRAMES, Item, Source, kind_by_name
from discern.data.layout import Sample, sample_to_record
from discern.data.manifests import write_manifest
from discern.data.shards import LABELS
from discern.data.sources import open_source
from discern.data.tfrecord import RecordWriter
from discern.errors import BadItem, DataError, UsageError
from discern.files import TEMPORARY, write_bytes

Progress = Callable[[int, int], None]

UNLABELLED = "unlabelled"
MANIFEST = "manifest.jsonl"

# first bytes of a file -> what it is called
SIGNATURES = [
    (rb"\xff\xd8\xff", "jpg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"GIF8[79]a", "gif"),
    (rb"RIFF....WEBP", "webp"),
    (rb"BM", "bmp"),
    (rb"II\*\0|MM\0\*", "tif"),
    (rb"RIFF....AVI ", "avi"),
    (rb"\x1aE\xdf\xa3.{0,64}webm", "webm"),
    (rb"\x1aE\xdf\xa3", "mkv"),
    (rb"....ftypqt", "mov"),
    (rb"....ftyp", "mp4"),
    (rb"\0\0\1[\xb3\xba]", "mpg"),
    (rb"FLV", "flv"),
    (rb"0&\xb2u\x8ef\xcf\x11", "wmv"),
    (rb"OggS", "ogv"),
    (rb"G.{187}G", "ts"),
]


def convert(
    source: Source,
    out: Path | str,
    to: Literal["tfrecord", "folder"],
    shards: int = 1,
    gzip: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write every item of a source, its bytes unchanged, into a new folder; says what was written.

    Items that cannot be read are listed in `bad_files.jsonl`; more than 1 % of them stop it.
    """
    out = Path(out)
    _refuse_in_use(out)
    if to not in WRITERS:
        raise UsageError(f"--to {to}: write one of {', '.join(WRITERS)}")
    if shards < 1:
        raise UsageError(f"--shards {shards}: at least 1 is needed")
    try:
        out.mkdir(parents=True, exist_ok=True)
        bad = BadFiles(out / "bad_files.jsonl")
        files = WRITERS[to](source, out, bad, shards, gzip, progress or (lambda done, total: None))
    except OSError as error:
        raise UsageError(
            f"{error.filename or out}: cannot be written ({error.strerror}): make room or name"
            " another folder, and delete what is half written"
        ) from None
    bad.check(len(source.items))
    return {
        "out": str(out),
        "to": to,
        "items": len(source.items) - len(bad),
        "classes": source.classes,
        "files": files,
        "bad_files": [{"path": key, "reason": reason} for key, reason in bad.reasons.items()],
    }


def _write_shards(
    source: Source, out: Path, bad: BadFiles, shards: int, gzip: bool, progress: Progress
) -> list[str]:
    """`train-00000-of-00004.tfrecord` and so on for each split, and `labels.txt`."""
    classes = source.classes
    torn = [name for name in classes if len(name.splitlines()) != 1]
    if torn:
        raise DataError(f"class {torn[0]!r}: a name must be one line for {LABELS}: rename it")
    by_split: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(source.items):
        by_split[item.split or "data"].append(index)
    numbers = {name: number for number, name in enumerate(classes)}
    files, done = [], 0
    for split, indices in sorted(by_split.items()):
        # a fixed shuffle, so that a reader who streams does not see one class after the other
        indices.sort(key=lambda index: _draw(source.items[index].key))
        for number in range(shards):
            part = indices[number * len(indices) // shards : (number + 1) * len(indices) // shards]
            suffix = ".tfrecord.gz" if gzip else ".tfrecord"
            name = f"{split}-{number:05}-of-{shards:05}{suffix}"
            with RecordWriter(out / name, gzip=gzip) as writer:
                for index in part:
                    try:
                        writer.write(sample_to_record(source.sample(index), numbers))
                    except BadItem as error:
                        bad.add(source.items[index].key, error)
                    done += 1
                    progress(done, len(source.items))
            files.append(name)
    write_bytes(out / LABELS, "".join(f"{name}\n" for name in classes).encode())
    return [*files, LABELS]


def _write_folder(
    source: Source, out: Path, bad: BadFiles, shards: int, gzip: bool, progress: Progress
) -> list[str]:
    """`[split/]class/name.ext`; a manifest is added where folders cannot say all that is known."""
    if shards != 1 or gzip:
        raise UsageError("--shards and --gzip are for --to tfrecord: leave them out")
    names = _Names()
    written: dict[str, Item] = {}
    for index, item in enumerate(source.items):
        try:
            sample = source.sample(index)
        except BadItem as error:
            bad.add(item.key, error)
            continue
        path = names.unused(_folder_of(item), _file_name(sample))
        _write_sample(out / path, sample)
        written[path] = item
        progress(index + 1, len(source.items))
    if not written:
        return []
    if any(_meaning(item) != _meaning(written[item.key]) for item in open_source(out).items):
        write_manifest(out / MANIFEST, written)
        return [MANIFEST]
    return []


WRITERS = {"tfrecord": _write_shards, "folder": _write_folder}


class _Names:
    """File names that are not used yet, also where upper and lower case are one."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def unused(self, folder: str, name: str) -> str:
        stem, dot, suffix = name.rpartition(".")
        path = f"{folder}/{name}"
        for number in count(2):
            if path.casefold() not in self._used:
                break
            path = f"{folder}/{stem}-{number}{dot}{suffix}"
        self._used.add(path.casefold())
        return path


def _meaning(item: Item) -> tuple[Any, ...]:
    return item.labels, item.split, item.group


def _folder_of(item: Item) -> str:
    label = _safe(item.labels[0]) if item.labels else UNLABELLED
    return f"{item.split}/{label}" if item.split else label


def _file_name(sample: Sample) -> str:
    """The item's own name with an extension that tells what it is."""
    name = re.split(r"[/\\#]", sample.key or "item")[-1]
    if isinstance(sample.encoded, list):
        return _safe(name.removesuffix(FRAMES)) + FRAMES
    stem, dot, suffix = _safe(name).rpartition(".")
    if not stem or kind_by_name(name) is None:
        stem, suffix = _safe(name), _extension(sample.encoded, sample.kind)
    return f"{stem}.{suffix}"


def _extension(encoded: bytes, kind: Kind) -> str:
    for pattern, suffix in SIGNATURES:
        if re.match(pattern, encoded[:256], re.DOTALL):
            return suffix
    return "mp4" if kind == Kind.CLIP else "png"


def _safe(name: str) -> str:
    """A name as a single part of a path: it cannot lead elsewhere, hide, or be too long."""
    safe = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", name).strip(" ")
    if safe.startswith(".") or not safe:
        safe = "_" + safe
    if len(safe.encode("utf-8", "replace")) > 200:
        mark = blake2b(name.encode("utf-8", "replace"), digest_size=4).hexdigest()
        stem, dot, suffix = safe.rpartition(".")
        kept = (stem or suffix).encode("utf-8", "replace")[:150].decode("utf-8", "ignore")
        safe = f"{kept}-{mark}" + (f".{suffix}" if stem and len(suffix) < 8 else "")
    return safe


def _write_sample(path: Path, sample: Sample) -> None:
    if isinstance(sample.encoded, bytes):
        _write(path, sample.encoded)
        return
    for number, frame in enumerate(sample.encoded):
        _write(path / f"{number:06}.{_extension(frame, Kind.IMAGE)}", frame)


def _write(path: Path, data: bytes) -> None:
    """A whole file or none; not synced one by one: that takes minutes for many small files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _draw(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()


def _refuse_in_use(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: is in use: name a new folder, or empty this one")
