"""TFRecord files: records of bytes in and out, plain or gzip, both CRCs checked.

STUB: signatures are settled, bodies follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from discern.errors import BadItem


class BadRecord(BadItem):
    """One record is damaged, the next one can be read.  The text names file, offset and record number."""

    path: Path
    offset: int  # of the record's header, in the decompressed stream
    number: int  # from 0


class BrokenShard(BadRecord):
    """From this record on nothing can be read: bad length, truncated, or not a TFRecord at all."""


class RecordWriter:
    """Writes one shard.  Nothing stands under `path` before `close` (temporary file, then renamed)."""

    def __init__(self, path: str | Path, gzip: bool = False) -> None: ...
    def write(self, record: bytes) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> RecordWriter: ...
    def __exit__(self, *error: object) -> None: ...  # an exception inside leaves no file


def write_records(path: str | Path, records: Iterable[bytes], gzip: bool = False) -> int:
    """Writes all records into one shard and returns how many."""
    raise NotImplementedError


def read_records(
    path: str | Path, verify: bool = True, on_bad: Callable[[BadRecord], None] | None = None
) -> Iterator[bytes]:
    """The records in order.  Damage raises; with `on_bad` it is handed over and reading goes on where it can.

    After a `BrokenShard` the iteration ends.  A file of 0 bytes has 0 records, as in TensorFlow.
    """
    raise NotImplementedError


class RecordFile(Sequence[bytes]):
    """Random access to one shard: `file[17]` is record 17, checked.  Safe to share with forked and spawned workers."""

    path: Path
    broken: BrokenShard | None  # why records after the last one are missing

    def __init__(self, path: str | Path, verify: bool = True, memory: int = 512 * 2**20) -> None: ...
    def close(self) -> None: ...


class RecordShards(Sequence[bytes]):
    """Several shards as one sequence.  `locate(i)` -> (RecordFile, number in it)."""

    broken: list[BrokenShard]

    def __init__(self, paths: Sequence[str | Path], verify: bool = True, memory: int = 512 * 2**20) -> None: ...
    def locate(self, position: int) -> tuple[Path, int]: ...
