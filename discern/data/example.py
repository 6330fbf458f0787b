"""tf.train.Example: named lists of bytes, ints or floats to and from its protobuf bytes.

    message Example   { Features features = 1; }
    message Features  { map<string, Feature> feature = 1; }
    message Feature   { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }
    message BytesList { repeated bytes value = 1; }  (FloatList and Int64List alike, packed or not)

Written and read without TensorFlow or protobuf.  Parsing finds where each feature lies, its values
are decoded when they are asked for.  Short features are remembered as a whole: labels, names and
formats come again and again.  The work is bounded by the size of the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from discern.data.wire import (
    FIXED32,
    LENGTH,
    VARINT,
    read_fields,
    read_packed_ints,
    read_varint,
    write_field,
    write_packed_ints,
    write_varint,
)
from discern.errors import BadItem

Scalar: TypeAlias = bytes | str | int | float
Value: TypeAlias = Scalar | Sequence[bytes] | Sequence[str] | Sequence[float] | np.ndarray
# kind and values; or, not decoded yet, where its bytes begin (never before byte 6) and end
Feature: TypeAlias = tuple[int, Any]

MAX_FEATURES = 10_000  # of one Example
MAX_VALUES = 2**22  # of one feature, packed floats aside
EMPTY, BYTES, FLOATS, INTS = 0, 1, 2, 3  # the kinds, as they are numbered on the wire
KINDS = {EMPTY: "nothing", BYTES: "bytes", FLOATS: "floats", INTS: "ints"}
_TURNS = range(MAX_FEATURES)
_MISSING = (EMPTY, ())
_SHORT = 128  # bytes of an entry that is remembered are fewer
_REMEMBERED = 4096  # entries of each of the tables below, which are then emptied

_features: dict[bytes, tuple[str, Feature]] = {}  # short entry -> its key and values
_keys: dict[bytes, str] = {}  # a key as it stands in an entry -> as text
_heads: dict[int, bytes] = {}  # size -> what stands before a single value of bytes in an entry
_outer_heads: dict[int, bytes] = {}  # size of an Example -> what stands before its features


class Example:
    """A parsed Example.  A key that is missing or of another kind raises BadItem with the keys."""

    __slots__ = ("_features", "_record")

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._features: dict[str, Feature] = {}
        end = len(record)
        head = _outer_heads.get(end) or _outer_head(end)
        if record.startswith(head):  # nothing but its features: the usual way
            _find_features(record, len(head), end, self._features)
            return
        for number, wire, begin, stop in read_fields(record, 0, end, limit=MAX_FEATURES):
            if number == 1 and wire == LENGTH:
                _find_features(record, begin, stop, self._features)

    def keys(self) -> list[str]:
        """The names of the features, in the order of the record."""
        return list(self._features)

    def __contains__(self, key: str) -> bool:
        return key in self._features

    def kind(self, key: str) -> str:
        """What a feature holds: `bytes`, `ints`, `floats`, or `nothing`."""
        return KINDS[self._decode(key)[0]]

    def blobs(self, key: str) -> list[bytes]:
        """The bytes values of a feature."""
        return list(self._values(key, BYTES))

    def ints(self, key: str) -> list[int]:
        """The int values of a feature."""
        return [int(value) for value in self._values(key, INTS)]

    def floats(self, key: str) -> np.ndarray:
        """The float values of a feature.  -> float32 [N], read-only"""
        return np.asarray(self._values(key, FLOATS), dtype=np.float32)

    def texts(self, key: str) -> list[str]:
        """The bytes values of a feature as text."""
        return [str(value, "utf-8", "backslashreplace") for value in self._values(key, BYTES)]

    def blob(self, key: str) -> bytes:
        """The one bytes value of a feature."""
        record = self._record
        begin, end = self._features.get(key, _MISSING)
        if begin > INTS:  # the one large value of a record: the usual way, in few steps
            head = _heads.get(end - begin) or _head(end - begin)
            if record.startswith(head, begin):
                return record[begin + len(head) : end]
        return self._one(key, BYTES)

    def number(self, key: str) -> int:
        """The one int value of a feature."""
        kind, values = self._features.get(key, _MISSING)
        if kind == INTS and len(values) == 1:
            return int(values[0])
        return int(self._one(key, INTS))

    def text(self, key: str) -> str:
        """The one bytes value of a feature as text."""
        return str(self._one(key, BYTES), "utf-8", "backslashreplace")

    def _one(self, key: str, kind: int) -> Any:
        values = self._values(key, kind)
        if len(values) != 1:
            raise BadItem(f"feature {key!r} has {len(values)} values where one is expected")
        return values[0]

    def _values(self, key: str, kind: int) -> Any:
        found, values = self._decode(key)
        if found not in (kind, EMPTY):
            raise BadItem(f"feature {key!r} holds {KINDS[found]} where {KINDS[kind]} are expected")
        return values

    def _decode(self, key: str) -> Feature:
        feature = self._features.get(key)
        if feature is None:
            raise BadItem(f"no feature {key!r}; the record has: {_some(self._features)}")
        kind, values = feature
        if kind > INTS:
            self._features[key] = feature = _read_value(self._record, kind, values)
        return feature


def parse_example(record: bytes) -> Example:
    """Finds the features of an Example.  Raises BadItem for bytes that are none."""
    return Example(record)


def encode_example(features: Mapping[str, Value]) -> bytes:
    """The Example as bytes: keys sorted, numbers packed, as TensorFlow writes them."""
    entries = [
        write_field(1, write_field(1, key) + write_field(2, _write_feature(name, features[name])))
        for key, name in sorted((name.encode(), name) for name in features)
    ]
    return write_field(1, b"".join(entries))


def _find_features(record: bytes, at: int, end: int, features: dict[str, Feature]) -> None:
    """The hot loop.  An entry is 0x0A and its size; in it 0x0A, size and bytes of the key; value"""
    try:
        for _ in _TURNS:
            if at >= end:
                return
            size = record[at + 1]
            if size < _SHORT:
                stop = at + 2 + size
                known = _features.get(record[at:stop])
                if known is None or stop > end:
                    stop = _read_entry(record, at, end, features)
                else:
                    features[known[0]] = known[1]
            else:
                second, begin = record[at + 2], at + 3
                if second < 0x80:
                    size += (second << 7) - 0x80
                else:
                    size, begin = read_varint(record, at + 1, end)
                value, stop = begin + 2 + record[begin + 1], begin + size
                key = _keys.get(record[begin:value])  # with its tag and size: they are checked too
                if key is None or record[at] != 0x0A or not value <= stop <= end:
                    stop = _read_entry(record, at, end, features)
                else:
                    features[key] = (value, stop)
            at = stop
    except IndexError:
        raise BadItem(f"no protobuf: the entry at byte {at} is cut short") from None
    if at < end:
        raise BadItem(f"an Example of more than {MAX_FEATURES:,} features")


def _read_entry(record: bytes, at: int, end: int, features: dict[str, Feature]) -> int:
    """Any field of Features, in the slow way that takes all spellings.  -> where it ends"""
    number, wire, begin, stop = next(read_fields(record, at, end))
    if number != 1 or wire != LENGTH:
        return stop  # unknown: skipped
    name, feature = b"", (EMPTY, ())
    for number, wire, inner, after in read_fields(record, begin, stop):
        if number == 1 and wire == LENGTH:
            name = record[inner:after]
        elif number == 2 and wire == LENGTH:
            feature = _read_feature(record, inner, after)
    key = str(name, "utf-8", "backslashreplace")
    features[key] = feature
    if len(name) < 0x80:
        _remember(_keys, write_field(1, name), key)
    if stop - at < _SHORT:
        _remember(_features, record[at:stop], (key, feature))
    return stop


def _read_value(record: bytes, begin: int, end: int) -> Feature:
    """What stands in an entry after its key."""
    feature = (EMPTY, ())
    for number, wire, inner, after in read_fields(record, begin, end):
        if number == 1:
            raise BadItem("an entry of an Example has two keys")
        if number == 2 and wire == LENGTH:
            feature = _read_feature(record, inner, after)
    return feature


def _read_feature(record: bytes, begin: int, end: int) -> Feature:
    kind = EMPTY
    lists: list[tuple[int, int]] = []
    for number, wire, inner, after in read_fields(record, begin, end):
        if wire != LENGTH or number not in KINDS:
            continue
        if number != kind:  # one of three: the last one stands
            kind, lists = number, []
        lists.append((inner, after))
    if kind == EMPTY:
        return EMPTY, ()
    # several lists of one kind are one; and numbers, packed or not, are the same bytes without tags
    data = b"".join(record[first:last] for first, last in lists)
    wires = {BYTES: (LENGTH,), FLOATS: (LENGTH, FIXED32), INTS: (LENGTH, VARINT)}[kind]
    pieces = [
        data[first:last]
        for number, wire, first, last in read_fields(data, 0, len(data), limit=MAX_VALUES)
        if number == 1 and wire in wires
    ]
    if kind == BYTES:
        return BYTES, tuple(pieces)
    return kind, (_read_ints if kind == INTS else _read_floats)(pieces)


def _read_ints(pieces: list[bytes]) -> tuple[int, ...]:
    if any(piece and piece[-1] > 0x7F for piece in pieces):
        raise BadItem("no protobuf: a packed number does not end")
    numbers = read_packed_ints(b"".join(pieces), limit=MAX_VALUES)
    return tuple(numbers.tolist())


def _read_floats(pieces: list[bytes]) -> np.ndarray:
    if any(len(piece) % 4 for piece in pieces):
        raise BadItem("no protobuf: packed floats are not whole")
    return np.frombuffer(b"".join(pieces), dtype="<f4")


def _head(size: int) -> bytes:
    """What stands before a single bytes value where `size` bytes are left; b"?" where none can."""
    head, left = b"", size
    for tag in b"\x12\x0a\x0a":  # Feature in the entry, BytesList in it, value in it
        head, left = _nested(head, tag, left)
    _remember(_heads, size, head if left >= 0 else b"?")
    return _heads[size]


def _outer_head(size: int) -> bytes:
    """What stands before the features of an Example of `size` bytes; b"?" where none can."""
    head, left = _nested(b"", 0x0A, size)
    _remember(_outer_heads, size, head if left >= 0 else b"?")
    return _outer_heads[size]


def _nested(head: bytes, tag: int, left: int) -> tuple[bytes, int]:
    """Adds tag and size of a message that takes all of `left` bytes; -1 are left if none can."""
    for width in range(1, 6):
        size = left - 1 - width
        if size >= 0 and len(number := write_varint(size)) == width:
            return head + bytes((tag,)) + number, size
    return head, -1


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    if len(table) >= _REMEMBERED:
        table.clear()
    table[key] = value


def _some(keys: Iterable[str]) -> str:
    """Names for an error, no longer than a line."""
    names = [repr(key if len(key) <= 40 else key[:39] + "\u2026") for key in keys]
    rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "none") + rest


def _write_feature(name: str, value: Value) -> bytes:
    values: Any = [value] if isinstance(value, bytes | str | int | float | np.generic) else value
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f":
            return _write_list(FLOATS, values.astype("<f4").tobytes())
        if values.dtype.kind in "iub" and not values.size:
            return _write_list(INTS, b"")
        values = values.reshape(-1).tolist()
    values = list(values)
    if all(isinstance(each, bytes | str) for each in values):
        blobs = [each.encode() if isinstance(each, str) else each for each in values]
        return (
            write_field(BYTES, b"".join(write_field(1, each) for each in blobs)) if blobs else b""
        )
    if all(isinstance(each, int | np.integer | np.bool_) for each in values):
        if not all(-(2**63) <= each < 2**63 for each in values):
            raise ValueError(f"feature {name!r}: an int of more than 64 bits")
        return _write_list(INTS, write_packed_ints(int(each) for each in values))
    if all(isinstance(each, int | float | np.number) for each in values):
        return _write_list(FLOATS, np.asarray(values).astype("<f4").tobytes())
    raise TypeError(f"feature {name!r}: write bytes or text, ints, or floats, and do not mix them")


def _write_list(kind: int, packed: bytes) -> bytes:
    return write_field(kind, write_field(1, packed) if packed else b"")
