"""Folders: a folder of class folders, or a flat one without labels, to items."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from discern.data.items import (
    FRAMES,
    SPLIT_NAMES,
    Item,
    Source,
    file_kind,
    kind_by_name,
    printable,
    read_file,
    read_frames,
)
from discern.data.limits import Limits
from discern.errors import DataError

UNLABELLED = {"unlabeled", "unlabelled"}


@dataclass(kw_only=True, slots=True)
class Directory:
    """One directory below the root: its path in parts, and the names of the files in it."""

    parts: tuple[str, ...]
    names: list[str] = field(default_factory=list)


class FolderSource(Source):
    """`[split/]class/.../file`, images and clips mixed; files beside the classes have no label."""

    def __init__(self, spec: str, paths: Sequence[Path], limits: Limits) -> None:
        super().__init__(spec, limits)
        self._root = str(paths[0])
        self._real_root = os.path.realpath(paths[0])
        directories, passed_over, notes = walk(paths[0])
        self.notes += notes
        self.items: list[Item]
        self.items, self._names, ignored = layout(directories, self.notes)
        self.ignored = passed_over + ignored
        for index, item in enumerate(self.items):
            if item.key.lower().endswith(".gif"):
                self.items[index] = replace(item, kind=file_kind(self._path(index)) or item.kind)

    def read(self, index: int) -> bytes | list[bytes]:
        """The file of item `index`, or the files of its frames."""
        path = self._path(index)
        is_frames = path.lower().endswith(FRAMES) and os.path.isdir(path)
        return (read_frames if is_frames else read_file)(path, self.limits)

    def location(self, index: int) -> str:
        """Where item `index` lies."""
        return os.path.join(self._real_root, self._name(index))

    def _path(self, index: int) -> str:
        return os.path.join(self._root, self._name(index))

    def _name(self, index: int) -> str:
        return self._names.get(index) or self.items[index].key


class FilesSource(Source):
    """Single files, unlabelled: `photo.jpg`, or what a pattern such as `*.jpg` matched."""

    def __init__(self, spec: str, paths: Sequence[Path], limits: Limits) -> None:
        super().__init__(spec, limits)
        known = [(path, kind) for path in paths if (kind := file_kind(str(path)))]
        self.ignored = len(paths) - len(known)
        self._paths = [path for path, _ in known]
        self.items = [Item(key=printable(str(path)), kind=kind) for path, kind in known]

    def read(self, index: int) -> bytes | list[bytes]:
        """The file of item `index`, or the files of its frames."""
        path = self._paths[index]
        return (read_frames if path.is_dir() else read_file)(path, self.limits)

    def location(self, index: int) -> str:
        """Where item `index` lies."""
        return os.path.realpath(self._paths[index])


def is_folder(paths: Sequence[Path]) -> bool:
    """Whether this is one directory."""
    return len(paths) == 1 and paths[0].is_dir()


def are_files(paths: Sequence[Path]) -> bool:
    """Whether there is an image or clip among the files."""
    return any(kind_by_name(path.name) for path in paths)


def walk(root: Path) -> tuple[list[Directory], int, list[str]]:
    """All directories below `root` in sorted order, how many entries were passed over, and notes.

    Links are followed, but each real directory is entered once: a loop ends, no file counts twice.
    """
    directories: list[Directory] = []
    notes: list[str] = []
    ignored = 0
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        path = os.path.join(root, *parts)
        name = printable("/".join(parts))
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                notes.append(f"{name}: a link to a folder that is read already, passed over")
                ignored += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                directory, below, passed_over = _sort_entries(parts, entries)
        except OSError as error:
            if not parts:
                raise DataError(
                    f"{root}: cannot be read ({error.strerror}): check its permissions"
                ) from None
            notes.append(f"{name}: cannot be read ({error.strerror}), passed over")
            ignored += 1
            continue
        ignored += passed_over
        directories.append(directory)
        waiting += [(*parts, name) for name in reversed(below)]
    return directories, ignored, notes


def layout(
    directories: Sequence[Directory], notes: list[str]
) -> tuple[list[Item], dict[int, str], int]:
    """Items, true paths of those whose key is another text, and how many files were passed over."""
    splits = _split_folders(directories)
    items: list[Item] = []
    paths: dict[int, str] = {}
    ignored = 0
    strangers: Counter[str] = Counter()
    for directory in directories:
        parts = directory.parts
        split = splits.get(parts[0]) if parts else None
        if splits and parts and split is None and parts[0].lower() not in UNLABELLED:
            strangers[parts[0]] += len(directory.names)
            continue
        labels = _labels(parts[1:] if split else parts)
        prefix = "/".join(parts) + "/" if parts else ""
        for name in directory.names:
            kind = kind_by_name(name)
            if kind is None:
                ignored += 1
                continue
            path = prefix + name
            key = printable(path)
            if key != path:
                paths[len(items)] = path
            items.append(Item(key=key, kind=kind, labels=labels, split=split))
    for name, count in strangers.items():
        ignored += count
        reason = f"because {'/ '.join(splits)}/ hold the data"
        notes.append(f"{printable(name)}: {count} files passed over, {reason}")
    return items, paths, ignored


def _sort_entries(
    parts: tuple[str, ...], entries: Iterator[os.DirEntry[str]]
) -> tuple[Directory, list[str], int]:
    files: list[str] = []
    real: list[str] = []
    linked: list[str] = []
    ignored = 0
    for entry in entries:
        name = entry.name
        if entry.is_file():
            files.append(name)
        elif name.startswith(".") or name == "__MACOSX":
            ignored += 1
        elif entry.is_dir():
            if name.lower().endswith(FRAMES):
                files.append(name)
            else:
                (linked if entry.is_symlink() else real).append(name)
        elif entry.is_symlink():
            files.append(name)  # a broken link is a bad item, not a missing one
        else:
            ignored += 1  # pipes, sockets and devices would block
    # real folders first, so that a link beside its folder does not take its place
    return Directory(parts=parts, names=sorted(files)), sorted(real) + sorted(linked), ignored


def _split_folders(directories: Sequence[Directory]) -> dict[str, str]:
    """The folders that are splits.  One among others is a class: a train is a vehicle, too."""
    top = sorted({directory.parts[0] for directory in directories if directory.parts})
    splits = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    others = [name for name in top if name not in splits and name.lower() not in UNLABELLED]
    return splits if len(splits) > 1 or not others else {}


def _labels(parts: tuple[str, ...]) -> tuple[str, ...]:
    if not parts or parts[0].lower() in UNLABELLED:
        return ()
    return (printable(parts[0]),)
