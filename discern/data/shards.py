"""Files that hold many items (TFRecord shards, TFDS-prepared folders, WebDataset tars) to items."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from discern.data.items import SPLIT_NAMES, Item, Source, printable, split_by_name
from discern.data.layout import Sample, record_to_sample
from discern.data.limits import Limits
from discern.data.outline import Row, read_outline
from discern.data.tfds import is_tfds, read_tfds, split_name
from discern.data.tfrecord import RecordFile
from discern.data.webdataset import TarSample, index_tar, read_sample
from discern.errors import DataError, UsageError

LABELS = "labels.txt"  # beside the shards: the name of class 0, 1, ... on a line each

# x.tfrecord, x.tfrecords.gz, x.tfrecord-00000-of-00004, and train-00000-of-01024 as ImageNet has it
RECORDS = re.compile(r"(\.tfrec(ord)?s?(-\d+(-of-\d+)?)?(\.(gz|gzip|zz|zlib))?|.-\d{5}-of-\d{5})$")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One TFRecord file, and how its records are understood."""

    path: Path
    name: str  # begins the keys of its items
    split: str | None
    parse: Callable[[bytes], Sample]


class RecordsSource(Source):
    """The records of TFRecord shards."""

    def __init__(self, spec: str, shards: Sequence[Shard], limits: Limits) -> None:
        super().__init__(spec, limits)
        self._shards = shards
        self._files = [RecordFile(shard.path) for shard in shards]
        self._places: list[tuple[int, int]] = []
        self.items = items = []
        for place, (shard, file) in enumerate(zip(shards, self._files, strict=True)):
            for number, row in enumerate(read_outline(file, shard.parse)):
                items.append(_record_item(shard, number, row))
                self._places.append((place, number))
            if file.broken:
                self.notes.append(str(file.broken))
        if not any(map(len, self._files)) and self.notes:
            raise DataError(f"{self.notes[0]}: no record can be read")

    def read(self, index: int) -> bytes | list[bytes]:
        """The encoded image or clip of one record."""
        return self.sample(index).encoded

    def sample(self, index: int) -> Sample:
        """One record, checked and parsed."""
        place, number = self._places[index]
        file = self._files[place]
        if number == len(file) and file.broken:
            raise file.broken
        record = file[number]
        self.limits.check_bytes(len(record))
        return self._shards[place].parse(record)

    def location(self, index: int) -> str:
        """Where item `index` lies."""
        place, number = self._places[index]
        return f"{os.path.realpath(self._shards[place].path)}#{number}"


class TarSource(Source):
    """The samples of WebDataset tars."""

    def __init__(self, spec: str, paths: Sequence[Path], limits: Limits) -> None:
        super().__init__(spec, limits)
        files = _files_in(paths, is_tar_name)
        self.ignored = _others(paths, files)
        self._samples: list[tuple[Path, TarSample]] = []
        self.items = items = []
        for path, name in zip(files, short_names(files), strict=True):
            samples, notes = index_tar(path, read_labels(path.parent))
            self.ignored += len(notes)
            self.notes += notes
            for sample in samples:
                self._samples.append((path, sample))
                items.append(_tar_item(name, sample))

    def read(self, index: int) -> bytes:
        """The encoded image or clip of one sample."""
        path, sample = self._samples[index]
        self.limits.check_bytes(sample.size)
        return read_sample(path, sample)

    def location(self, index: int) -> str:
        """Where item `index` lies."""
        path, sample = self._samples[index]
        return f"{os.path.realpath(path)}#{sample.key}.{sample.extension}"


def open_records(spec: str, paths: Sequence[Path], limits: Limits) -> Source:
    """TFRecord shards; `labels.txt` beside them names numeric labels."""
    files = _files_in(paths, is_record_name)
    shards = [
        Shard(
            path=path,
            name=name,
            split=split_by_name(name),
            parse=partial(record_to_sample, classes=read_labels(path.parent)),
        )
        for path, name in zip(files, short_names(files), strict=True)
    ]
    source = RecordsSource(spec, shards, limits)
    source.ignored = _others(paths, files)
    return source


def open_tfds(spec: str, paths: Sequence[Path], limits: Limits) -> Source:
    """A directory prepared by TFDS, as its `features.json` describes it."""
    dataset = read_tfds(_tfds_folders(paths[0])[0])
    shards = [
        Shard(path=path, name=path.name, split=split_name(split), parse=dataset.sample)
        for split, files in dataset.shards.items()
        for path in files
    ]
    source = RecordsSource(spec, shards, limits)
    expected = sum(dataset.counts.values())
    if expected != len(source):
        source.notes.append(f"{len(source)} records, where dataset_info.json says {expected}")
    return source


def are_records(paths: Sequence[Path]) -> bool:
    """Whether these are TFRecord shards, or a folder of them."""
    return bool(_files_in(paths, is_record_name))


def are_tars(paths: Sequence[Path]) -> bool:
    """Whether these are tars, or a folder of them."""
    return bool(_files_in(paths, is_tar_name))


def is_prepared(paths: Sequence[Path]) -> bool:
    """Whether this is a TFDS-prepared directory, or holds the one version of a data set."""
    folders = _tfds_folders(paths[0]) if len(paths) == 1 and paths[0].is_dir() else []
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise UsageError(f"{paths[0]}: holds several prepared data sets: name one of {names}")
    return bool(folders)


def is_record_name(name: str) -> bool:
    """Whether a file is a TFRecord shard, by its name."""
    return not name.startswith(".") and bool(RECORDS.search(name.lower()))


def is_tar_name(name: str) -> bool:
    """Whether a file is a tar, by its name."""
    return not name.startswith(".") and name.lower().endswith(".tar")


def short_names(paths: Sequence[Path]) -> list[str]:
    """The names of files without the folders that they have in common."""
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        common = os.path.commonpath([path.absolute().parent for path in paths])
        names = [path.absolute().relative_to(common).as_posix() for path in paths]
    return [printable(name) for name in names]


def read_labels(folder: Path) -> list[str] | None:
    """The class names in `labels.txt`, in the order of their numbers; None without such a file."""
    path = folder / LABELS
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}): it names a class on each line"
        ) from None
    return text.splitlines()


def _files_in(paths: Sequence[Path], wanted: Callable[[str], bool]) -> list[Path]:
    """The wanted files among paths, in a folder, or in its train, val and test folders."""
    if len(paths) != 1 or not paths[0].is_dir():
        return [path for path in paths if wanted(path.name)] if paths else []
    folder = paths[0]
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []  # the folder's own reader says what is wrong
    found = [folder / name for name in names if wanted(name)]
    if found:
        return found
    splits = [folder / name for name in names if name.lower() in SPLIT_NAMES]
    return [
        split / name
        for split in splits
        if split.is_dir() and os.access(split, os.R_OK | os.X_OK)
        for name in sorted(os.listdir(split))
        if wanted(name)
    ]


def _others(paths: Sequence[Path], files: Sequence[Path]) -> int:
    """How many files were passed over, beside the shards or among the paths of a pattern."""
    if len(paths) == 1 and paths[0].is_dir():
        paths = [each for folder in {path.parent for path in files} for each in folder.iterdir()]
    wanted = {*files, *(path.parent / LABELS for path in files)}
    # hidden: the indices that are kept beside shards
    return sum(
        path not in wanted and not path.name.startswith(".") and path.is_file() for path in paths
    )


def _tfds_folders(folder: Path) -> list[Path]:
    if is_tfds(folder):
        return [folder]
    # data set/version, as TFDS lays them out
    versions = [path for path in folder.glob("*.*.*") if path.is_dir()]
    return sorted(path for path in versions if is_tfds(path))


def _record_item(shard: Shard, number: int, row: Row) -> Item:
    return Item(
        key=f"{shard.name}#{number}",
        kind=row.kind,
        labels=row.labels,
        split=row.split or shard.split,
        group=row.group,
    )


def _tar_item(name: str, sample: TarSample) -> Item:
    return Item(
        key=f"{name}#{printable(sample.key)}.{sample.extension}",
        kind=sample.kind,
        labels=sample.labels,
        split=sample.split or split_by_name(name),
        group=sample.group,
    )
