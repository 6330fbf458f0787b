"""The two words of every source: an `Item` (what it is called and labelled) and a `Source` that reads its bytes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from discern.clip import Kind
from discern.errors import BadItem, Refused

if TYPE_CHECKING:
    from discern.data.limits import Limits

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

# a first guess by name, because opening a million files to look at their bytes takes minutes; decoding looks
KINDS = {
    **dict.fromkeys(
        "jpg jpeg jpe jfif png webp bmp dib gif tif tiff".split(),
        Kind.IMAGE,
    ),
    **dict.fromkeys(
        "mp4 m4v mov mkv webm avi mpg mpeg mpe m2v mts m2ts ts wmv asf flv f4v 3gp 3g2 ogv vob y4m".split(),
        Kind.CLIP,
    ),
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
        """The encoded bytes of item `index`; a list holds the encoded frames of one clip.  Raises BadItem."""

    @property
    def classes(self) -> list[str]:
        """Sorted label names over all items."""
        return sorted(
            {label for labels in {item.labels for item in self.items} for label in labels}
        )

    def __len__(self) -> int:
        return len(self.items)


def kind_by_name(name: str) -> Kind | None:
    """Image, clip or neither, by the extension; hidden files are neither."""
    stem, dot, suffix = name.rpartition(".")
    return KINDS.get(suffix.lower()) if dot and stem and not name.startswith(".") else None


def printable(name: str) -> str:
    r"""A file name as text that can be written anywhere: bytes that are not UTF-8 become `\xff`."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def read_file(path: str | Path, limits: Limits) -> bytes:
    """The bytes of a file.  Raises BadItem when it cannot be read, Refused when it is over the limit."""
    try:
        with open(path, "rb") as file:
            # one byte more than allowed: no need to trust, or to ask for, the size
            data = file.read(limits.bytes + 1)
    except OSError as error:
        raise BadItem(f"cannot be read: {error.strerror or error}") from None
    if len(data) > limits.bytes:
        raise Refused(
            f"larger than {limits.bytes / 2**20:.0f} MiB: raise the limit on bytes, or cut it"
        )
    return data
