"""Protobuf's wire: bytes come in, fields go out, and back.  Only what tf.train.Example needs.

Raises BadItem for bytes that are no protobuf, and for more fields than the reader expects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from discern.errors import BadItem

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # how a field is written
_LONGEST = 10  # bytes of a 64-bit number
_MASK = 2**64 - 1


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit number that begins at `at`, and where it ends."""
    value = shift = 0
    for place in range(at, min(end, at + _LONGEST)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, place + 1
        shift += 7
    raise BadItem(f"no protobuf: a number at byte {at} does not end")


def read_fields(
    data: bytes, at: int, end: int, limit: int = 1000
) -> Iterator[tuple[int, int, int, int]]:
    """Field number, wire type, begin and end of each value between `at` and `end`."""
    count = 0
    while at < end:
        count += 1
        if count > limit:
            raise BadItem(f"more than {limit:,} fields in one message")
        tag, begin = read_varint(data, at, end)
        wire = tag & 7
        if wire == VARINT:
            stop = read_varint(data, begin, end)[1]
        elif wire == LENGTH:
            size, begin = read_varint(data, begin, end)
            stop = begin + size
        elif wire in (FIXED64, FIXED32):
            stop = begin + (8 if wire == FIXED64 else 4)
        else:
            raise BadItem(f"no protobuf: wire type {wire} at byte {at}")
        if stop > end or tag < 8:
            raise BadItem(f"no protobuf: the field at byte {at} is damaged or cut short")
        yield tag >> 3, wire, begin, stop
        at = stop


def read_packed_ints(data: bytes, limit: int) -> np.ndarray:
    """All numbers of `data`, at most `limit`.  -> int64 [N]"""
    if len(data) <= 16:
        values, at = [], 0
        while at < len(data):
            value, at = read_varint(data, at, len(data))
            values.append(value)
        return np.array(values, dtype=np.uint64).view(np.int64)
    if len(data) > 10 * limit:
        raise BadItem(f"more than {limit:,} ints in one feature")
    codes = np.frombuffer(data, dtype=np.uint8)
    stops = np.flatnonzero(codes < 0x80) + 1
    if len(stops) > limit:
        raise BadItem(f"more than {limit:,} ints in one feature")
    if len(stops) == len(codes):
        return codes.astype(np.int64)
    sizes = np.diff(stops, prepend=0)
    if not len(stops) or stops[-1] != len(codes) or sizes.max() > _LONGEST:
        raise BadItem("no protobuf: a packed number does not end")
    begins = stops - sizes
    shifts = 7 * (np.arange(len(codes)) - np.repeat(begins, sizes))
    parts = (codes & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.bitwise_or.reduceat(parts, begins).view(np.int64)


def write_varint(value: int) -> bytes:
    """A number between 0 and 2^64 - 1."""
    if value < 0x80:
        return bytes((value,))
    codes = bytearray()
    while value > 0x7F:
        codes.append(value & 0x7F | 0x80)
        value >>= 7
    codes.append(value)
    return bytes(codes)


def write_field(number: int, data: bytes) -> bytes:
    """A field of bytes, text or an inner message."""
    return b"".join((bytes((number << 3 | LENGTH,)), write_varint(len(data)), data))


def write_packed_ints(values: Iterable[int]) -> bytes:
    """Signed 64-bit numbers, one after the other."""
    return b"".join(write_varint(value & _MASK) for value in values)
