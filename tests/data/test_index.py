"""Indices: kept, found again, thrown away when stale or damaged; and parts of a whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from discern.data.index import (
    RecordIndex,
    index_path,
    load_index,
    partition,
    save_index,
    stamp_of,
)

INDEX = RecordIndex(
    offsets=np.array([12, 40, 2**40], dtype=np.int64), lengths=np.array([3, 0, 9], dtype=np.int64)
)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"some bytes")
    assert save_index(path, INDEX, stamp_of(path))
    return path


def test_kept_and_found_again(shard: Path) -> None:
    index = load_index(shard)
    assert index is not None
    assert len(index) == 3
    assert index.offsets.tolist() == INDEX.offsets.tolist()
    assert index.lengths.tolist() == INDEX.lengths.tolist()
    assert index_path(shard).name == ".a.tfrecord.index"
    assert index_path(shard).parent == shard.parent


def test_stale_by_size_or_time(shard: Path) -> None:
    time = shard.stat().st_mtime_ns
    shard.write_bytes(b"other size")
    os.utime(shard, ns=(time, time + 1))
    assert load_index(shard) is None
    shard.write_bytes(b"longer than it was")
    os.utime(shard, ns=(time, time))
    assert load_index(shard) is None
    shard.write_bytes(b"some bytes")
    os.utime(shard, ns=(time, time))
    assert load_index(shard) is not None


def test_every_flip_and_cut_of_the_index_is_seen(shard: Path) -> None:
    path = index_path(shard)
    good = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for bit in range(8 * len(good)):
            at = bit // 8
            os.pwrite(file.fileno(), bytes((good[at] ^ 1 << bit % 8,)), at)
            assert load_index(shard) is None, bit
            os.pwrite(file.fileno(), good[at : at + 1], at)
        assert load_index(shard) is not None
        for size in reversed(range(len(good))):
            file.truncate(size)
            assert load_index(shard) is None
    path.unlink()
    assert load_index(shard) is None


def test_a_folder_that_cannot_be_written_is_no_error(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("discern.data.index.write_bytes", full)
    assert save_index(shard, INDEX, stamp_of(shard)) is False


def test_parts_are_disjoint_complete_and_even() -> None:
    for count in (0, 1, 7, 100):
        for parts in (1, 2, 3, 8):
            ranges = [partition(count, part, parts) for part in range(parts)]
            assert [number for each in ranges for number in each] == list(range(count))
            assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
