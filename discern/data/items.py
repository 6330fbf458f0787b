"""The words of every source: an `Item` (name, labels, split), and a `Source` to read its bytes."""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from discern.clip import Kind
from discern.data.limits import Limits
from discern.errors import BadItem, DataError

if TYPE_CHECKING:
    from discern.data.layout import Sample

SPLITS = ("train", "val", "test")

# what people call the three splits, as folder names, shard names and manifest values
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

READ_ONLY = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

FRAMES = ".frames"  # a folder whose name ends so is one clip: its images are the frames

IMAGES = "jpg jpeg jpe jfif png webp bmp dib gif tif tiff"
CLIPS = (
    "mp4 m4v mov mkv webm avi mpg mpeg mpe m2v m2ts mts ts wmv asf flv f4v 3gp 3g2 ogv vob frames"
)

# a first guess: opening a million files to look at their bytes takes minutes; decoding looks
KINDS = {
    **dict.fromkeys(IMAGES.split(" "), Kind.IMAGE),
    **dict.fromkeys(CLIPS.split(" "), Kind.CLIP),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image or clip of a source, not yet read."""

    key: str  # stable name: path relative to the root with "/", or "shard.tfrecord#17"
    kind: Kind
    labels: tuple[str, ...] = ()  # empty = unlabelled
    split: str | None = None  # "train" | "val" | "test" as the source itself says
    group: str | None = None  # items of one group never lie on both sides of a split


class Source(ABC):
    """A data set: its items are listed when it is opened, their bytes are read one by one."""

    def __init__(self, spec: str, limits: Limits) -> None:
        self.spec = spec  # what the user typed
        self.limits = limits
        self.items: Sequence[Item] = []
        self.ignored = 0  # files that are neither images nor clips: hidden, .txt, ...
        self.notes: list[str] = []  # what was passed over and why, one short sentence each

    @abstractmethod
    def read(self, index: int) -> bytes | list[bytes]:
        """Encoded bytes of an item, or a list of encoded frames of a clip.  Raises BadItem."""

    def sample(self, index: int) -> Sample:
        """All of an item as it is stored: bytes, labels, split, group and its own name."""
        from discern.data.layout import Sample

        item = self.items[index]
        return Sample(
            encoded=self.read(index),
            kind=item.kind,
            labels=item.labels,
            group=item.group,
            split=item.split,
            key=item.key,
        )

    def location(self, index: int) -> str:
        """Where item `index` lies: the same text in every source on this machine that lists it."""
        return f"{os.path.realpath(self.spec)}#{self.items[index].key}"

    @property
    def classes(self) -> list[str]:
        """Sorted label names over all items."""
        sets = {item.labels for item in self.items}
        return sorted({label for labels in sets for label in labels})

    def __len__(self) -> int:
        return len(self.items)


def require_classes(source: Source, at_least: int = 2) -> list[str]:
    """The classes of a source.  Raises DataError when there are too few to tell apart."""
    classes = source.classes
    if len(classes) >= at_least:
        return classes
    found = f"one class only ({classes[0]})" if classes else "no labels"
    raise DataError(
        f"{source.spec}: {found}: give each class a folder of its own, or write a manifest"
    )


def kind_by_name(name: str) -> Kind | None:
    """Image, clip or neither, by the extension; hidden files are neither."""
    stem, _, suffix = name.rpartition(".")
    return KINDS.get(suffix.lower()) if stem and not name.startswith(".") else None


def file_kind(path: str) -> Kind | None:
    """The kind by name, or by the bytes where the name does not say: a GIF may move."""
    kind = kind_by_name(os.path.basename(path))
    moving = kind_by_bytes(path) if kind is None or path.lower().endswith(".gif") else None
    return moving or kind


def kind_by_bytes(path: str | Path) -> Kind | None:
    """Image, clip or neither, by the first bytes; None also when there are none."""
    from discern.data.decode import HEAD, sniff

    try:
        with open(os.open(path, READ_ONLY), "rb") as file:
            found = sniff(file.read(HEAD))
    except OSError:
        return None  # reading it will say what is wrong
    return Kind(found) if found else None


def split_by_name(name: str) -> str | None:
    """The split that a shard's name begins with: `train-00000-of-00004.tfrecord` -> train."""
    match = re.match(rf"({'|'.join(SPLIT_NAMES)})(?![a-z])", name.lower())
    return SPLIT_NAMES[match[1]] if match else None


def printable(name: str) -> str:
    r"""A file name as text that can be written anywhere: bytes that are not UTF-8 become `\xff`."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def read_file(path: str | Path, limits: Limits) -> bytes:
    """The bytes of a file.  Raises BadItem when it cannot be read, Refused when it is too large."""
    try:
        # a pipe would block without O_NONBLOCK, and a device has no end
        with open(os.open(path, READ_ONLY), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadItem("not a file")
            limits.check_bytes(os.fstat(file.fileno()).st_size)
            data = file.read(limits.bytes + 1)  # it may have grown
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BadItem(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    limits.check_bytes(len(data))
    return data


def read_frames(folder: str | Path, limits: Limits) -> list[bytes]:
    """The images of a folder that is one clip, in the order of the numbers in their names."""
    try:
        names = [name for name in os.listdir(folder) if kind_by_name(name) == Kind.IMAGE]
    except OSError as error:
        raise BadItem(f"cannot be read: {error.strerror}") from None
    if not names:
        raise BadItem("a clip's folder without images in it")
    limits.check_length(len(names), 0.0)
    frames: list[bytes] = []
    total = 0
    for name in sorted(names, key=frame_order):
        frames.append(read_file(os.path.join(folder, name), limits))
        total += len(frames[-1])
        limits.check_bytes(total)
    return frames


def frame_order(name: str) -> tuple[list[int], str]:
    """Sorts 2.jpg before 10.jpg."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name
