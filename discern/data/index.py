"""Where each record of a shard begins, so that any can be read at once; and who reads which.

An index is built once and kept in a hidden file beside the shard, or only in memory where the
folder cannot be written.  The stored one is used only while the shard has the same size and time
and the file's own checksum holds; and each record found by it is checked again when it is read.

The hidden file: 8 bytes `DISCIDX1`, then little-endian int64: size and time (ns) of the shard,
count, count offsets, count lengths; then 32 bytes SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from discern.files import write_bytes

MAGIC = b"DISCIDX1"
_HEADER = struct.Struct("<8sqqq")
_DIGEST = 32

Stamp: TypeAlias = tuple[int, int]  # size, time in ns


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordIndex:
    """Where the bytes of each record begin, and how many they are (in the unpacked stream)."""

    offsets: np.ndarray  # int64 [N]
    lengths: np.ndarray  # int64 [N]

    def __len__(self) -> int:
        return len(self.offsets)


def index_path(path: str | Path) -> Path:
    """The hidden file that keeps the index of a shard; a glob `*` does not find it."""
    path = Path(path)
    return path.with_name(f".{path.name}.index")


def stamp_of(path: str | Path) -> Stamp:
    """What tells whether a shard is still the same file: its size and time."""
    state = os.stat(path)
    return state.st_size, state.st_mtime_ns


def load_index(path: str | Path) -> RecordIndex | None:
    """The stored index; None when there is none, it is stale, or it is damaged."""
    try:
        stamp, data = stamp_of(path), index_path(path).read_bytes()
    except OSError:
        return None
    if len(data) < _HEADER.size + _DIGEST:
        return None
    body = memoryview(data)[:-_DIGEST]
    magic, size, time, count = _HEADER.unpack_from(body)
    if magic != MAGIC or (size, time) != stamp:
        return None
    if len(body) != _HEADER.size + 16 * count or hashlib.sha256(body).digest() != data[-_DIGEST:]:
        return None
    numbers = np.frombuffer(body, dtype="<i8", offset=_HEADER.size).astype(np.int64)
    return RecordIndex(offsets=numbers[:count], lengths=numbers[count:])


def save_index(path: str | Path, index: RecordIndex, stamp: Stamp) -> bool:
    """Keeps the index beside the shard; False where that cannot be (read-only folder, full disk).

    `stamp` was taken before the shard was looked at: one that grew meanwhile is looked at again.
    """
    body = _HEADER.pack(MAGIC, *stamp, len(index))
    body += index.offsets.astype("<i8").tobytes() + index.lengths.astype("<i8").tobytes()
    try:
        write_bytes(index_path(path), body + hashlib.sha256(body).digest())
    except OSError:
        return False
    return True


def partition(count: int, part: int, parts: int) -> range:
    """What worker or rank `part` of `parts` reads of `count` records: disjoint, complete, even."""
    assert 0 <= part < parts, (part, parts)
    return range(count * part // parts, count * (part + 1) // parts)
