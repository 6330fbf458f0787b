"""Byte-offset indices: where each record of a shard begins, for random access; and who reads which records.

STUB: signatures are settled, bodies follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordIndex:
    """Payload start and length of each record, in the decompressed stream."""

    offsets: np.ndarray  # int64 [N]
    lengths: np.ndarray  # int64 [N]

    def __len__(self) -> int:
        return len(self.offsets)


def index_path(path: Path) -> Path:
    """The hidden file beside the shard that keeps its index (a glob `*` does not find it)."""
    raise NotImplementedError


def load_index(path: Path) -> RecordIndex | None:
    """The stored index, or None when there is none, it is stale (size, time) or damaged (checksum)."""
    raise NotImplementedError


def save_index(path: Path, index: RecordIndex) -> bool:
    """Stores the index beside the shard.  False when the folder cannot be written."""
    raise NotImplementedError


def cached_index(path: Path, build: Callable[[], RecordIndex]) -> RecordIndex:
    """The stored index if it is good, else a new one that is stored where that is possible."""
    raise NotImplementedError


def partition(count: int, part: int, parts: int) -> range:
    """The positions that worker or rank `part` of `parts` reads: disjoint, complete, sizes differ by at most 1."""
    raise NotImplementedError
