"""Folders: a folder of class folders, or a flat one without labels, to items."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from discern.data.items import SPLIT_NAMES, Item, Source, kind_by_name, printable, read_file
from discern.errors import DataError

if TYPE_CHECKING:
    from discern.data.limits import Limits

UNLABELLED = {"unlabeled", "unlabelled"}


@dataclass(kw_only=True, slots=True)
class Directory:
    """One directory below the root: its path in parts, and the names of the files in it."""

    parts: tuple[str, ...]
    names: list[str] = field(default_factory=list)


class FolderSource(Source):
    """`[split/]class/.../file`, images and clips mixed; files above the class folders are unlabelled."""

    def __init__(self, spec: str, paths: Sequence[Path], limits: Limits) -> None:
        super().__init__(spec, limits)
        (self._root,) = paths
        directories, self.ignored, self.notes = walk(self._root)
        self.items, self._names, ignored = layout(directories, self.notes)
        self.ignored += ignored

    @staticmethod
    def claims(paths: Sequence[Path]) -> bool:
        """Whether this is one directory."""
        return len(paths) == 1 and paths[0].is_dir()

    def read(self, index: int) -> bytes:
        """The file of item `index`."""
        name = self._names.get(index) or self.items[index].key
        return read_file(os.path.join(self._root, name), self.limits)


class FilesSource(Source):
    """Single files, unlabelled: `photo.jpg`, or what a pattern such as `*.jpg` matched."""

    def __init__(self, spec: str, paths: Sequence[Path], limits: Limits) -> None:
        super().__init__(spec, limits)
        known = [
            (path, kind)
            for path in paths
            if (kind := kind_by_name(path.name)) and not path.is_dir()
        ]
        self.ignored = len(paths) - len(known)
        self._paths = [path for path, _ in known]
        self.items = [Item(key=printable(str(path)), kind=kind) for path, kind in known]

    @staticmethod
    def claims(paths: Sequence[Path]) -> bool:
        """Whether there is an image or clip among the files."""
        return any(kind_by_name(path.name) for path in paths)

    def read(self, index: int) -> bytes:
        """The file of item `index`."""
        return read_file(self._paths[index], self.limits)


def walk(root: Path) -> tuple[list[Directory], int, list[str]]:
    """All directories below `root` in sorted order, how many entries were passed over, and notes.

    Links are followed, but each real directory is entered once, so that a loop ends and no file is counted twice.
    """
    directories: list[Directory] = []
    notes: list[str] = []
    ignored = 0
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        path = os.path.join(root, *parts)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                notes.append(
                    f"{printable('/'.join(parts))}: a link to a folder that was read already"
                )
                ignored += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                directory, below, passed_over = _sort_entries(parts, entries)
        except OSError as error:
            if not parts:
                raise DataError(
                    f"{root}: cannot be read: {error.strerror}: give read permission"
                ) from None
            notes.append(f"{printable('/'.join(parts))}: cannot be read: {error.strerror}")
            ignored += 1
            continue
        ignored += passed_over
        directories.append(directory)
        waiting += [(*parts, name) for name in reversed(below)]
    return directories, ignored, notes


def layout(
    directories: Sequence[Directory], notes: list[str]
) -> tuple[list[Item], dict[int, str], int]:
    """Items, the true file names of those whose key differs from it, and how many files were passed over."""
    splits = _split_folders(directories)
    items: list[Item] = []
    names: dict[int, str] = {}
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
                names[len(items)] = path
            items.append(Item(key=key, kind=kind, labels=labels, split=split))
    for name, count in strangers.items():
        ignored += count
        found = "/ ".join(splits)
        notes.append(
            f"{printable(name)}: {count} files passed over, because {found}/ hold the data"
        )
    return items, names, ignored


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
            (linked if entry.is_symlink() else real).append(name)
        elif entry.is_symlink():
            files.append(name)  # a broken link is a bad item, not a missing one
        else:
            ignored += 1  # pipes, sockets and devices would block
    # real folders first, so that a link beside its folder does not take its name
    return Directory(parts=parts, names=sorted(files)), sorted(real) + sorted(linked), ignored


def _split_folders(directories: Sequence[Directory]) -> dict[str, str]:
    """The folders that are splits.  One alone among other folders is a class: a train is a vehicle, too."""
    top = {directory.parts[0] for directory in directories if directory.parts}
    splits = {
        name: SPLIT_NAMES[name.lower()] for name in sorted(top) if name.lower() in SPLIT_NAMES
    }
    others = {name for name in top if name not in splits and name.lower() not in UNLABELLED}
    return splits if len(splits) > 1 or not others else {}


def _labels(parts: tuple[str, ...]) -> tuple[str, ...]:
    if not parts or parts[0].lower() in UNLABELLED:
        return ()
    return (printable(parts[0]),)
