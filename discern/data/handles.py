"""Shards open for random access: a path comes in, a handle that reads anywhere goes out.

Only the handles used last stay open, so that thousands of shards need few file descriptors and a
bounded memory.  There is no lock, as one could be held while a worker is forked: each step on the
table is atomic by itself, a handle lives as long as anyone reads from it, and at worst two threads
open the same shard twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from discern.data.unpack import BLOCK, Unpacked, Unreadable, open_file
from discern.errors import DataError

OPEN_FILES = 64
OPEN_BYTES = 2 * 2**30  # of unpacked shards, all together


class PlainHandle:
    """A plain file, read where the reader says: safe for threads and forked workers."""

    held = 0  # bytes of memory

    def __init__(self, path: str | Path) -> None:
        self._file = -1
        self._file = open_file(path)
        self.size = os.fstat(self._file).st_size
        self.trouble = ""

    def read(self, count: int, at: int) -> bytes:
        """Bytes from `at` on; fewer than `count` at the end of the file."""
        try:
            return os.pread(self._file, count, at)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from None

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


class PackedHandle:
    """A packed file, unpacked into memory; `trouble` says why its end is missing."""

    def __init__(self, stream: Unpacked, path: str | Path, memory: int) -> None:
        pieces = []
        self.size = 0
        self.trouble = ""
        try:
            while piece := stream.read1(BLOCK):
                pieces.append(piece)
                self.size += len(piece)
                if self.size > memory:
                    raise DataError(
                        f"{path}: unpacks to more than {memory / 2**20:.0f} MiB, too much for"
                        " random access: unpack it once, or convert it without --gzip"
                    )
        except Unreadable as error:
            self.trouble = str(error)
        self._data = b"".join(pieces)
        self.held = self.size

    def read(self, count: int, at: int) -> bytes:
        """Bytes from `at` on; fewer than `count` at the end of the data."""
        return self._data[at : at + count]


Handle = PlainHandle | PackedHandle
Key = tuple[str, int, int]  # path, size, time: another file under the same name is another key

_open: dict[Key, Handle] = {}  # the one used last is the last


def get_handle(key: Key, is_plain: Callable[[bytes], bool], memory: int) -> Handle:
    """The open handle of a shard, or a new one.  Raises Unreadable, or DataError over `memory`."""
    handle = _open.pop(key, None)
    if handle is not None:
        _open[key] = handle
        return handle
    handle = _open[key] = _make(key[0], is_plain, memory)
    held = sum(each.held for each in list(_open.values()))
    for old, each in list(_open.items()):
        if len(_open) <= OPEN_FILES and held <= OPEN_BYTES:
            break
        _open.pop(old, None)
        held -= each.held
    return handle


def drop_handle(key: Key) -> None:
    """Closes a shard as soon as nobody reads from it."""
    _open.pop(key, None)


def _make(path: str, is_plain: Callable[[bytes], bool], memory: int) -> Handle:
    with Unpacked(path, is_plain) as stream:
        return PlainHandle(path) if stream.size is not None else PackedHandle(stream, path, memory)
