"""TFRecord: golden bytes, round trips, every kind of damage."""

from __future__ import annotations

import copy
import gzip
import io
import os
import random
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from discern.data import handles, tfrecord
from discern.data.index import index_path
from discern.data.tfrecord import (
    BadRecord,
    BrokenShard,
    RecordFile,
    RecordWriter,
    masked_crc,
    read_records,
    write_records,
)
from discern.errors import BadItem, DataError

RECORDS = [b"one", b"", b"three" * 40, bytes(range(256)), b"last"]
# the record b"abc" as TensorFlow writes it
GOLDEN = bytes.fromhex("0300000000000000b099490e6162636e57f121")


def framed(record: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<Q", len(record) if length is None else length)
    crcs = struct.pack("<I", masked_crc(head)), struct.pack("<I", masked_crc(record))
    return head + crcs[0] + record + crcs[1]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "a.tfrecord"
    write_records(path, RECORDS)
    return path


def test_golden_bytes(tmp_path: Path) -> None:
    write_records(tmp_path / "x", [b"abc"])
    assert (tmp_path / "x").read_bytes() == GOLDEN
    assert list(read_records(tmp_path / "x")) == [b"abc"]


@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "x.tfrecord"
    assert write_records(path, iter(RECORDS), gzip=packed) == len(RECORDS)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is packed
    assert list(read_records(path)) == RECORDS
    file = RecordFile(path)
    assert list(file) == RECORDS
    assert file[-1] == RECORDS[-1]
    assert file.broken is None
    with pytest.raises(IndexError):
        file[len(RECORDS)]


def test_the_same_records_give_the_same_gzip_file(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_records(tmp_path / name, RECORDS, gzip=True)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_zlib_and_gzip_in_several_members(tmp_path: Path) -> None:
    data = b"".join(map(framed, RECORDS))
    (tmp_path / "z").write_bytes(zlib.compress(data))
    (tmp_path / "g").write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]) + bytes(512))
    for name in "zg":
        assert list(read_records(tmp_path / name)) == RECORDS
        assert list(RecordFile(tmp_path / name)) == RECORDS


def test_a_plain_file_that_looks_like_gzip_is_plain(tmp_path: Path) -> None:
    record = bytes(0x088B1F)  # its length begins with the magic bytes of gzip
    write_records(tmp_path / "x", [record])
    assert (tmp_path / "x").read_bytes()[:3] == b"\x1f\x8b\x08"
    assert list(read_records(tmp_path / "x")) == [record] == list(RecordFile(tmp_path / "x"))


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert list(read_records(tmp_path / "x")) == []
    assert len(RecordFile(tmp_path / "x")) == 0
    assert RecordFile(tmp_path / "x").broken is None


def test_records_longer_than_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "PIECE", 1000)
    records = [os.urandom(size) for size in (999, 1000, 1001, 50_000)]
    write_records(tmp_path / "x", records, gzip=True)
    assert list(read_records(tmp_path / "x")) == records


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RecordWriter(tmp_path / "x") as writer:
        writer.write(b"abc")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def flipped(path: Path, bits: range) -> Iterator[int]:
    """Each bit of the file in turn is wrong, in place, while the loop's body runs."""
    good = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for bit in bits:
            at = bit // 8
            os.pwrite(file.fileno(), bytes((good[at] ^ 1 << bit % 8,)), at)
            yield bit
            os.pwrite(file.fileno(), good[at : at + 1], at)


def test_all_of_10000_single_bit_flips_are_caught(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_records(path, [random.Random(7).randbytes(size) for size in (300, 0, 500, 410)])
    flips = range(8 * path.stat().st_size)
    assert len(flips) > 10_000  # header, bytes and checksums: every bit of the file, once
    for bit in flipped(path, flips):
        bad: list[BadRecord] = []
        kept = list(read_records(path, on_bad=bad.append))
        assert len(bad) == 1, bit
        assert bad[0].offset <= bit // 8
        assert len(kept) < 4 and bad[0].number <= len(kept)


def test_flips_are_caught_by_random_access_too(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_records(path, [random.Random(7).randbytes(size) for size in (30, 0, 41)])
    file = RecordFile(path)
    for bit in flipped(path, range(8 * path.stat().st_size)):
        caught = 0
        for number in range(3):
            try:
                file[number]
            except BadRecord as error:
                caught += 1
                assert error.number == number
        assert caught == 1, bit
        fresh = RecordFile(path)
        lost = fresh.broken is not None
        for number in range(len(fresh)):
            try:
                fresh[number]
            except BadRecord:
                lost = True
        assert lost, bit


def test_bad_bytes_are_reported_and_reading_goes_on(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[12] ^= 1
    shard.write_bytes(data)
    with pytest.raises(BadItem, match=r"a.tfrecord: record 0 at byte 0: the checksum of its bytes"):
        list(read_records(shard))
    bad: list[BadRecord] = []
    assert list(read_records(shard, on_bad=bad.append)) == RECORDS[1:]
    assert (bad[0].path, bad[0].offset, bad[0].number) == (shard, 0, 0)
    assert not isinstance(bad[0], BrokenShard)
    assert list(read_records(shard, verify=False))[1:] == RECORDS[1:]
    file = RecordFile(shard)
    assert len(file) == len(RECORDS)
    with pytest.raises(BadRecord, match="record 0"):
        file[0]
    assert file[2] == RECORDS[2]


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (19 + 8, "the checksum of its length"),  # of record 1
        (19 + 1, "the checksum of its length"),
    ],
)
def test_a_bad_length_stops_the_shard(shard: Path, where: int, what: str) -> None:
    data = bytearray(shard.read_bytes())
    data[where] ^= 0x10
    shard.write_bytes(data)
    bad: list[BadRecord] = []
    assert list(read_records(shard, on_bad=bad.append)) == RECORDS[:1]
    assert isinstance(bad[0], BrokenShard)
    assert (bad[0].offset, bad[0].number) == (19, 1)
    assert what in str(bad[0])
    with pytest.raises(BrokenShard, match=r"record 1 at byte 19"):
        list(read_records(shard))
    file = RecordFile(shard)
    assert list(file) == RECORDS[:1]
    assert file.broken is not None
    assert str(file.broken) == str(bad[0])


def test_every_cut_is_seen(shard: Path) -> None:
    data = shard.read_bytes()
    ends = [0]
    for record in RECORDS:
        ends.append(ends[-1] + len(record) + 16)
    for size in range(1, len(data)):
        shard.write_bytes(data[:size])
        bad: list[BadRecord] = []
        kept = list(read_records(shard, on_bad=bad.append))
        file = RecordFile(shard)
        whole = sum(end <= size for end in ends) - 1
        assert kept == RECORDS[:whole] == list(file)
        assert [error.number for error in bad] == ([] if size in ends else [whole])
        assert (file.broken is None) is (size in ends)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**62, 10_000])
@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_length_allocates_nothing(tmp_path: Path, length: int, packed: bool) -> None:
    import tracemalloc

    path = tmp_path / "x"
    data = framed(b"good") + framed(b"lie", length=length)
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    bad: list[BadRecord] = []
    assert list(read_records(path, on_bad=bad.append)) == [b"good"]
    assert len(RecordFile(path)) == 1
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()
    assert isinstance(bad[0], BrokenShard)


@pytest.mark.parametrize("packed", [False, True])
def test_a_record_over_the_limit_is_passed_by(tmp_path: Path, packed: bool) -> None:
    write_records(tmp_path / "x", [b"a", bytes(5000), b"b"], gzip=packed)
    bad: list[BadRecord] = []
    assert list(read_records(tmp_path / "x", on_bad=bad.append, limit=1000)) == [b"a", b"b"]
    assert "5000 bytes, the limit is 1000" in str(bad[0])


@pytest.mark.parametrize(
    "data",
    [b"x", b"no TFRecord at all, but long enough", bytes(12), b"\x1f\x8b\x08junk", b"PK\x03\x04"],
)
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(BrokenShard, match="x: record 0 at byte 0: ") as caught:
        list(read_records(path))
    assert "\n" not in str(caught.value)
    assert RecordFile(path).broken is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "crc"])
def test_damaged_gzip_stops_at_the_damage(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x"
    records = [os.urandom(1000) for _ in range(50)]
    write_records(path, records, gzip=True)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-20_000:]
    else:
        data[-20_000 if damage == "flip" else -6] ^= 4
    path.write_bytes(data)
    bad: list[BadRecord] = []
    kept = list(read_records(path, on_bad=bad.append))
    assert kept == records[: len(kept)] or damage == "flip"
    assert bad
    assert RecordFile(path).broken is not None or damage == "flip"


def test_missing_and_strange_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, what in [
        ("none", "No such file"),
        ("pipe", "not a regular file"),
        (".", "not a regular"),
    ]:
        with pytest.raises(BrokenShard, match=what):
            list(read_records(tmp_path / name))
    with pytest.raises(BrokenShard, match="No such file"):
        RecordFile(tmp_path / "none")
    assert RecordFile(tmp_path / "pipe").broken is not None


def test_a_shard_that_vanishes_or_shrinks_while_it_is_read(shard: Path) -> None:
    file = RecordFile(shard)
    with open(shard, "r+b") as handle:
        handle.truncate(40)
    with pytest.raises(BadRecord, match="cut short"):
        file[2]
    shard.unlink()
    assert file[0] == RECORDS[0]  # still open
    file.close()
    with pytest.raises(BadRecord, match="record 0 at byte 0: cannot be opened: No such file"):
        file[0]


def test_gzip_over_the_memory_limit_says_the_way_out(tmp_path: Path) -> None:
    write_records(tmp_path / "x.gz", [bytes(2**20)] * 3, gzip=True)
    with pytest.raises(DataError, match=r"x.gz: unpacks to more than 2 MiB.*unpack it once"):
        RecordFile(tmp_path / "x.gz", memory=2 * 2**20)


def test_only_some_shards_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "OPEN_FILES", 4)
    for number in range(10):
        write_records(tmp_path / str(number), [b"%d" % number], gzip=number % 2 == 0)
    files = [RecordFile(tmp_path / str(number)) for number in range(10)]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(2):
        assert [file[0] for file in files] == [b"%d" % number for number in range(10)]
    assert len(handles._open) == 4
    monkeypatch.setattr(handles, "OPEN_BYTES", 0)
    assert files[0][0] == b"0"
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_threads_and_copies_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "OPEN_FILES", 2)
    records = [b"%d" % number * 100 for number in range(200)]
    for name in "abc":
        write_records(tmp_path / name, records)
    files = [RecordFile(tmp_path / name) for name in "abc"]
    files.append(copy.deepcopy(files[0]))  # by the steps of a spawned worker
    wrong: list[int] = []

    def read(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(500):
            number = draw.randrange(200)
            if draw.choice(files)[number] != records[number]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_bad_records_can_be_copied(tmp_path: Path) -> None:
    error = BrokenShard(tmp_path, 5, 1, "what")
    again = copy.copy(error)  # by the steps of a worker that sends it
    assert (type(again), str(again), again.number) == (BrokenShard, str(error), 1)


def test_an_error_of_the_disk_names_the_record(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.FileIO):
        def readinto(self, buffer: object) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("discern.data.unpack.io.FileIO", Failing)
    with pytest.raises(BrokenShard, match="record 0 at byte 0: cannot be read: Input/output"):
        list(read_records(shard))


def test_large_shards_keep_their_index(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    write_records(path, [b"%d" % number for number in range(1500)])
    assert RecordFile(path)[1499] == b"1499"
    assert index_path(path).exists()
    assert list(tmp_path.glob("*")) and index_path(path).name.startswith(".")
    assert RecordFile(path)[1499] == b"1499"
    write_records(path, [b"%d" % number for number in range(2000)])
    assert len(RecordFile(path)) == 2000
