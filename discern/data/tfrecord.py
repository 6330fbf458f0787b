"""TFRecord files: records of bytes go in, the same bytes come out, both checksums checked.

A record is: length (uint64), masked CRC32C of the length, the bytes, masked CRC32C of the bytes;
all little-endian.  A shard may be packed as a whole with gzip or zlib; its first bytes tell.
Shards are read with `read` and `pread`, not mapped: one cut short meanwhile is an error, no SIGBUS.
"""

from __future__ import annotations

import contextlib
import gzip as gzip_format
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from discern.data.handles import Handle, drop_handle, get_handle
from discern.data.index import RecordIndex, load_index, save_index, stamp_of
from discern.data.unpack import BLOCK, Unpacked, Unreadable
from discern.errors import BadItem
from discern.files import replacing

HEADER = 12  # bytes before those of the record: length and its checksum
FOOTER = 4  # bytes after them: their checksum
LARGEST = 2**30  # bytes of one record; more is refused before anything is allocated
PIECE = 2**22  # bytes of a packed record that are allocated before they are seen to be there
MEMORY = 512 * 2**20  # bytes that a packed shard may take when it is unpacked for random access
WORTH_KEEPING = 1000  # records: a smaller shard is scanned again as fast as its index is read
_DELTA = 0xA282EAD8
_ALL = 0xFFFFFFFF
_REMEMBERED = 4096  # headers
_unpack_crc = struct.Struct("<I").unpack_from

NOT_TFRECORD = "not a TFRecord file, or its first length is damaged"
BAD_LENGTH = "the checksum of its length is wrong, so that nothing after it can be found"
BAD_BYTES = "the checksum of its bytes is wrong"
CUT_SHORT = "the file ends inside this record: it was cut short"


class BadRecord(BadItem):
    """One record is damaged; the next one can be read."""

    def __init__(self, path: str | Path, offset: int, number: int, what: str) -> None:
        super().__init__(f"{path}: record {number} at byte {offset}: {what}")
        self.path = Path(path)
        self.offset = offset  # of the record's header, in the unpacked stream
        self.number = number  # from 0
        self.what = what

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.path, self.offset, self.number, self.what)


class BrokenShard(BadRecord):
    """From this record on nothing can be read: bad length, cut short, or no TFRecord at all."""


def masked_crc(data: bytes | bytearray | memoryview) -> int:
    """The checksum as TFRecord stores it: rotated and shifted, as records may hold checksums."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _DELTA) & _ALL


class RecordWriter:
    """Writes one shard.  It gets its name when it is closed, whole; an exception leaves no file."""

    def __init__(self, path: str | Path, gzip: bool = False) -> None:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(path))
            file: Any = stack.enter_context(open(temporary, "wb", buffering=BLOCK))
            if gzip:
                # no name and no time inside: the same records give the same file
                file = stack.enter_context(gzip_format.GzipFile("", "wb", 6, file, mtime=0))
            self._file = file
            self._stack = stack.pop_all()

    def write(self, record: bytes | bytearray | memoryview) -> None:
        """Adds one record."""
        length = struct.pack("<Q", len(record))
        header = length + struct.pack("<I", masked_crc(length))
        self._file.write(b"".join((header, record, struct.pack("<I", masked_crc(record)))))

    def close(self) -> None:
        """Makes the shard durable and gives it its name."""
        self._stack.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def write_records(path: str | Path, records: Iterable[bytes], gzip: bool = False) -> int:
    """Writes all records into one shard, and says how many they were."""
    count = 0
    with RecordWriter(path, gzip=gzip) as writer:
        for record in records:
            writer.write(record)
            count += 1
    return count


def read_records(
    path: str | Path,
    verify: bool = True,
    on_bad: Callable[[BadRecord], None] | None = None,
    limit: int = LARGEST,
) -> Iterator[bytes]:
    """The records in order.  Damage raises; or goes to `on_bad`, and reading goes on if it can.

    After a `BrokenShard` nothing follows.  An empty file has no records, as in TensorFlow.  Without
    `verify` the checksum of the bytes is not looked at; that of the length always is.
    """
    path, at, number = Path(path), 0, 0
    try:
        with Unpacked(path, _is_header) as stream:
            # no record of a plain file is longer than the file; a packed one is taken in pieces
            at_once = min(limit, PIECE if stream.size is None else stream.size)
            read, crc_of, unpack, delta, bits = stream.read, crc32c, _unpack_crc, _DELTA, _ALL
            lengths: dict[bytes, int] = {}  # headers found good: sizes come again and again
            header = read(HEADER)
            while header:
                length = lengths.get(header, -1)
                if length < 0:
                    length = _length(header, number)
                    if len(lengths) < _REMEMBERED:
                        lengths[header] = length
                record = read(length) if length <= at_once else _read_long(stream, length, limit)
                # footer and next header in one call: calls are most of the work
                between = read(FOOTER + HEADER)
                if len(between) < FOOTER:  # also where the record itself is cut: nothing follows it
                    raise Unreadable(CUT_SHORT)
                crc = crc_of(record) if verify else 0
                if (
                    verify and ((crc >> 15 | crc << 17) + delta) & bits != unpack(between)[0]
                ) or length > limit:
                    what = BAD_BYTES if length <= limit else f"{length} bytes, the limit is {limit}"
                    _report(BadRecord(path, at, number, what), on_bad)
                else:
                    yield record
                header = between[FOOTER:]
                at += HEADER + length + FOOTER
                number += 1
    except Unreadable as error:
        _report(BrokenShard(path, at, number, str(error)), on_bad)


def _report(error: BadRecord, on_bad: Callable[[BadRecord], None] | None) -> None:
    if on_bad is None:
        raise error from None
    on_bad(error)


def _length(header: bytes, number: int) -> int:
    """The length that a header states, once its checksum holds."""
    if len(header) < HEADER:
        raise Unreadable(CUT_SHORT if number else NOT_TFRECORD)
    if not _is_header(header):
        raise Unreadable(BAD_LENGTH if number else NOT_TFRECORD)
    return int.from_bytes(header[:8], "little")


def _read_long(stream: Unpacked, length: int, limit: int) -> bytes:
    """A long record, in pieces, as the length may lie; one over the limit is only passed by."""
    keep = length <= limit and (stream.size is None or length <= stream.size)
    pieces = []
    left = length
    while left and (piece := stream.read(min(left, PIECE if keep else BLOCK))):
        left -= len(piece)
        if keep:
            pieces.append(piece)
    return b"".join(pieces)


def _is_header(head: bytes) -> bool:
    return len(head) == HEADER and masked_crc(head[:8]).to_bytes(4, "little") == head[8:]


class RecordFile(Sequence[bytes]):
    """Random access to one shard: `file[17]` is record 17, checked.

    A packed shard has no random access: it is unpacked into memory as a whole, up to `memory`
    bytes, in each process that reads it; a larger one raises DataError.  Workers may share a
    RecordFile, be they threads, forked or spawned.
    """

    def __init__(self, path: str | Path, verify: bool = True, memory: int = MEMORY) -> None:
        self.path = Path(path)
        self.verify = verify
        self.broken: BrokenShard | None = None  # why the records after the last one are missing
        self._memory = memory
        try:
            stamp = stamp_of(path)
        except OSError as error:
            raise BrokenShard(path, 0, 0, f"cannot be opened: {error.strerror}") from None
        self._key = (str(path), *stamp)
        index = load_index(path)
        if index is None:
            index = self._scan()
            if self.broken is None and len(index) >= WORTH_KEEPING:
                save_index(path, index, stamp)
        self.places = index

    def __len__(self) -> int:
        return len(self.places.offsets)

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"{self.path}: record {number} of {count}")
        number %= count
        at = int(self.places.offsets[number]) - HEADER
        length = int(self.places.lengths[number])
        try:
            block = self._handle().read(HEADER + length + FOOTER, at)
            self._check(block, length)
        except Unreadable as error:
            raise BadRecord(self.path, at, number, str(error)) from None
        return block[HEADER:-FOOTER]

    def close(self) -> None:
        """Gives back the file and its memory; the next access opens it again."""
        drop_handle(self._key)

    def _handle(self) -> Handle:
        return get_handle(self._key, _is_header, self._memory)

    def _check(self, block: bytes, length: int) -> None:
        if len(block) != HEADER + length + FOOTER:
            raise Unreadable(CUT_SHORT)
        if not _is_header(block[:HEADER]) or int.from_bytes(block[:8], "little") != length:
            raise Unreadable("its length is damaged, or the file was changed after it was indexed")
        if (
            self.verify
            and masked_crc(memoryview(block)[HEADER:-FOOTER])
            != _unpack_crc(block, HEADER + length)[0]
        ):
            raise Unreadable(BAD_BYTES)

    def _scan(self) -> RecordIndex:
        """Finds all records by hopping from header to header."""
        offsets, lengths = array("q"), array("q")
        at, what = 0, ""
        try:
            handle = self._handle()
            while at < handle.size:
                length = _length(handle.read(HEADER, at), len(offsets))
                if length > handle.size - at - HEADER - FOOTER:
                    raise Unreadable(CUT_SHORT)
                offsets.append(at + HEADER)
                lengths.append(length)
                at += HEADER + length + FOOTER
            what = handle.trouble
        except Unreadable as error:
            what = str(error)
        if what:
            self.broken = BrokenShard(self.path, at, len(offsets), what)
        return RecordIndex(
            offsets=np.array(offsets, dtype=np.int64),
            lengths=np.array(lengths, dtype=np.int64),
        )
