"""Shards, plain or packed with gzip or zlib: a path comes in, a stream of their bytes goes out."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

from discern.data.items import READ_ONLY

BLOCK = 2**20  # bytes asked of the disk at once


class Unreadable(Exception):
    """The disk or the packing fails; the text says how."""


class Unpacked(io.BufferedReader):
    """The bytes inside a file.  `size` is their number where the file is plain, else None."""

    def __init__(self, path: str | Path, is_plain: Callable[[bytes], bool]) -> None:
        """`is_plain` looks at the first 12 bytes: it decides where they look packed by chance."""
        file = io.FileIO(open_file(path))
        try:
            head = file.read(12) or b""
            self.size: int | None = file.seek(0, io.SEEK_END)
            file.seek(0)
        except OSError as error:
            file.close()
            raise Unreadable(f"cannot be read: {error.strerror}") from None
        if looks_packed(head) and not is_plain(head):
            self.size = None
        super().__init__(_Plain(file) if self.size is not None else _Packed(file), BLOCK)


def open_file(path: str | Path) -> int:
    """A descriptor to read a regular file; a pipe would be waited for without an end."""
    try:
        file = os.open(path, READ_ONLY)
        is_file = stat.S_ISREG(os.fstat(file).st_mode)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from None
    if is_file:
        return file
    os.close(file)
    raise Unreadable("cannot be opened: not a regular file")


def looks_packed(head: bytes) -> bool:
    """Whether a file that begins so may be gzip or zlib."""
    if head[:3] == b"\x1f\x8b\x08":
        return True
    # zlib: method 8, a window of at most 32 KiB, and a check of five bits
    return len(head) >= 2 and head[0] & 0x8F == 8 and (head[0] << 8 | head[1]) % 31 == 0


class _Plain(io.RawIOBase):
    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from None

    def close(self) -> None:
        self._file.close()
        super().close()


class _Packed(_Plain):
    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self._unpacker: zlib._Decompress | None = None  # None between the members of a gzip file
        self._rest = b""  # packed bytes not looked at yet

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            data = self._rest or self._read_packed()
            if not data:
                if self._unpacker is not None:
                    raise Unreadable("its packed data ends early: the file was cut short")
                return 0
            if self._unpacker is None:
                self._unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, as its head says
            try:
                piece = self._unpacker.decompress(data, len(buffer))
            except zlib.error as error:
                raise Unreadable(f"its packed data is damaged ({error})") from None
            self._rest = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                # padding of zeros may follow, as the gzip tools accept
                self._rest, self._unpacker = self._unpacker.unused_data.lstrip(b"\0"), None
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)

    def _read_packed(self) -> bytes:
        try:
            data = self._file.read(BLOCK)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from None
        return data if self._unpacker is not None else data.lstrip(b"\0")
