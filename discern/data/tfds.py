"""TFDS-prepared directories: `features.json` and `dataset_info.json` in, shards per split and samples out.

STUB: signatures are settled, bodies follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from discern.data.layout import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class TfdsDataset:
    """What a prepared directory says about itself."""

    name: str
    folder: Path
    shards: dict[str, list[Path]]  # split as TFDS names it -> its files, in order
    counts: dict[str, int]  # split -> number of records it should hold
    image: str | None  # key of the image feature
    video: str | None  # key of the video feature
    label: str | None  # key of the label feature
    classes: list[str] | None  # names of the label's numbers

    def sample(self, record: bytes) -> Sample: ...  # .split is not set: use split_name(split of the shard)


def is_tfds(folder: Path) -> bool:
    """Whether the folder holds both JSON files of a prepared data set."""
    raise NotImplementedError


def read_tfds(folder: Path) -> TfdsDataset:
    """Reads a prepared directory.  Raises DataError that names the file and the way out."""
    raise NotImplementedError


def split_name(split: str) -> str | None:
    """TFDS' split name as ours: train, val or test; None for others (they are training data without a word on it)."""
    raise NotImplementedError
