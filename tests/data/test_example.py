"""tf.train.Example: golden bytes, all spellings of the wire, hostile bytes."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from discern.data import example as module
from discern.data.example import encode_example, parse_example
from discern.data.wire import read_packed_ints, write_field, write_varint
from discern.errors import BadItem

# {"a": [1, 300], "b": b"hi"} as TensorFlow serializes it
GOLDEN = bytes.fromhex("0a1b0a0c0a016112071a050a0301ac020a0b0a016212060a040a026869")


def entry(key: bytes, feature: bytes) -> bytes:
    return write_field(1, write_field(1, key) + write_field(2, feature))


def one(feature: bytes, key: bytes = b"x") -> bytes:
    return write_field(1, entry(key, feature))


def test_golden_bytes() -> None:
    record = encode_example({"b": b"hi", "a": [1, 300]})
    assert record.hex() == GOLDEN.hex()
    parsed = parse_example(GOLDEN)
    assert parsed.keys() == ["a", "b"]
    assert parsed.ints("a") == [1, 300]
    assert parsed.blob("b") == b"hi"


@pytest.mark.parametrize(
    "size", [0, 1, 100, 110, 119, 120, 121, 127, 128, 16_000, 16_383, 16_384, 2**21]
)
def test_a_blob_of_any_size(size: int) -> None:
    blob = bytes(size)
    parsed = parse_example(encode_example({"image/encoded": blob, "label": 7}))
    assert parsed.blob("image/encoded") == blob == parsed.blobs("image/encoded")[0]
    assert parsed.number("label") == 7


def test_values_of_all_kinds() -> None:
    many = [0, 1, -1, 127, 128, 2**31, -(2**31), 2**63 - 1, -(2**63)] * 3
    parsed = parse_example(
        encode_example(
            {
                "ints": many,
                "int array": np.array(many),
                "bool": True,
                "np": np.int32(5),
                "floats": [1, 2.5],
                "float array": np.array([[0.5, 1.5]]),
                "text": "Käfer",
                "blobs": [b"", b"a", b"bc" * 200],
                "empty": [],
            }
        )
    )
    assert parsed.ints("ints") == many == parsed.ints("int array")
    assert (parsed.number("bool"), parsed.number("np")) == (1, 5)
    assert parsed.floats("floats").tolist() == [1, 2.5]
    assert parsed.floats("float array").tolist() == [0.5, 1.5]
    assert parsed.floats("float array").dtype == np.float32
    assert parsed.text("text") == "Käfer"
    assert parsed.blobs("blobs") == [b"", b"a", b"bc" * 200]
    assert parsed.kind("empty") == "nothing"
    assert (parsed.ints("empty"), parsed.blobs("empty"), len(parsed.floats("empty"))) == ([], [], 0)
    assert "ints" in parsed and "int" not in parsed


def test_packed_and_unpacked_and_mixed_numbers() -> None:
    mixed = write_field(1, b"\x01\xac\x02") + b"\x08\x05" + b"\x08\xac\x02" + write_field(1, b"")
    assert parse_example(one(write_field(3, mixed))).ints("x") == [1, 300, 5, 300]
    half = np.float32(0.5).tobytes()
    mixed = write_field(1, half * 2) + b"\x0d" + half
    assert parse_example(one(write_field(2, mixed))).floats("x").tolist() == [0.5] * 3


def test_long_lists_of_ints_are_read_at_once() -> None:
    draw = random.Random(3)
    numbers = [draw.randrange(-(2**63), 2**63) >> draw.randrange(64) for _ in range(5000)]
    assert parse_example(encode_example({"x": numbers})).ints("x") == numbers


def test_unknown_fields_and_other_orders_are_read() -> None:
    unknown = write_field(9, b"junk") + b"\x50\x01" + b"\x5d1234" + b"\x6112345678"
    feature = unknown + write_field(1, unknown + write_field(1, b"v")) + unknown
    inner = write_field(2, feature) + unknown + write_field(1, b"key")  # value first
    record = unknown + write_field(1, unknown + write_field(1, inner) + unknown) + unknown
    parsed = parse_example(record)
    assert parsed.keys() == ["key"]
    assert parsed.blob("key") == b"v"
    big = write_field(1, b"big") + write_field(
        2, write_field(1, write_field(1, b"w" * 500) + unknown)
    )
    assert parse_example(write_field(1, write_field(1, big))).blob("big") == b"w" * 500


def test_the_last_of_two_wins_and_parts_are_merged() -> None:
    first, second = (write_field(1, write_field(1, value)) for value in (b"1", b"2"))
    record = write_field(1, entry(b"x", first)) + write_field(1, entry(b"x", second))
    assert parse_example(record).blob("x") == b"2"
    assert parse_example(one(first + second)).blobs("x") == [b"1", b"2"]
    assert parse_example(one(first + write_field(3, b"\x08\x04"))).ints("x") == [4]


@pytest.mark.parametrize("size", [10, 1000])
def test_errors_name_the_key_and_the_keys_present(size: int) -> None:
    parsed = parse_example(encode_example({"image/encoded": b"x" * size, "label": [1, 2]}))
    with pytest.raises(
        BadItem, match="^no feature 'clip'; the record has: 'image/encoded', 'label'$"
    ):
        parsed.blob("clip")
    with pytest.raises(BadItem, match="'image/encoded' holds bytes where ints are expected"):
        parsed.number("image/encoded")
    with pytest.raises(BadItem, match="'label' has 2 values where one is expected"):
        parsed.number("label")
    with pytest.raises(BadItem, match="'label' holds ints where bytes"):
        parsed.text("label")


def test_an_error_stays_one_short_line() -> None:
    parsed = parse_example(encode_example({f"a\nb{number}" * 50: number for number in range(99)}))
    with pytest.raises(BadItem) as caught:
        parsed.blob("x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "record",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\xff" * 30,
        b"\x0a" + b"\x80" * 11 + b"\x01",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x00\x00",
        b"\x0b\x0c",
        write_field(1, b"\x0a\x7f"),
        write_field(1, b"\x0a\x03\x0a\x09x"),
        write_field(1, b"\x0a" + b"\xff" * 9 + b"\x01"),
        write_field(1, b"\x0a\x80\x01" + bytes(128)),
        b"a JPEG, say: \xff\xd8\xff\xe0",
        one(write_field(3, write_field(1, b"\x80"))),
        one(write_field(3, b"\x08" + b"\x80" * 10)),
        one(write_field(2, write_field(1, b"123"))),
    ],
)
def test_bytes_that_are_no_example(record: bytes) -> None:
    with pytest.raises(BadItem):
        parse_example(record)


def test_an_empty_record_is_an_empty_example() -> None:
    assert parse_example(b"").keys() == []
    assert parse_example(b"\x0a\x00").keys() == []
    with pytest.raises(BadItem, match="the record has: none"):
        parse_example(b"").blob("x")


def test_damage_in_a_long_feature_is_found_when_it_is_asked_for() -> None:
    long = write_field(3, write_field(1, b"\x80" * 300))
    with pytest.raises(BadItem, match="does not end"):
        parse_example(one(long)).ints("x")
    twice = write_field(1, b"x") + write_field(2, b"") + write_field(1, b"y" * 200)
    with pytest.raises(BadItem, match="two keys"):
        parse_example(write_field(1, write_field(1, twice))).blob("x")


def test_random_bytes_and_random_damage_give_bad_item_or_an_example() -> None:
    draw = random.Random(5)
    good = encode_example({"image": b"j" * 200, "label": [3, -1], "f": [0.5] * 40, "t": "cat"})
    for number in range(20_000):
        if number % 2:
            data = bytearray(good[: draw.randrange(len(good) + 1)])
        else:
            data = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            if data:
                data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            parsed = parse_example(bytes(data))
            for key in parsed.keys():  # noqa: SIM118 - no mapping
                parsed.kind(key)
                key in parsed and parsed.blob(key)
        except BadItem:
            pass


@pytest.mark.parametrize(
    "record",
    [
        write_field(1, b"\x0a\x00" * 500_000),  # entries
        b"\x0a\x00" * 500_000,  # Features
        b"\x10\x01" * 500_000,  # unknown fields
        one(b"\x18\x01" * 500_000),
        one(write_field(3, b"\x08\x01" * 2_000_000)),
        one(write_field(3, write_field(1, b"\x01" * 2_000_000))),
        one(write_field(1, b"\x0a\x00" * 1_000_000)),
        one(write_field(3, write_field(1, b"\x80" * 4_000_000 + b"\x01"))),
    ],
)
def test_work_is_bounded(record: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 10_000)
    start = time.process_time()
    with pytest.raises(BadItem, match="more than|does not end"):
        parse_example(record).kind("x")
    assert time.process_time() - start < 1


def test_tables_of_what_is_remembered_stay_small() -> None:
    for number in range(4500):
        record = encode_example({f"key {number}": number, f"long {number}": b"x" * (200 + number)})
        assert parse_example(record).number(f"key {number}") == number
        assert len(parse_example(record).blob(f"long {number}")) == 200 + number
    for table in (module._features, module._keys, module._heads):
        assert 0 < len(table) <= 4096  # emptied when full


def test_what_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="'x': an int of more than 64 bits"):
        encode_example({"x": 2**63})
    with pytest.raises(TypeError, match="do not mix"):
        encode_example({"x": [b"a", 1]})
    with pytest.raises(TypeError, match="bytes or text"):
        encode_example({"x": [None]})  # type: ignore[list-item]


def test_varints_like_protobuf() -> None:
    assert write_varint(0) == b"\0"
    assert write_varint(300) == b"\xac\x02"
    assert read_packed_ints(write_varint(2**64 - 1) * 9, limit=9).tolist() == [-1] * 9
    with pytest.raises(BadItem, match="more than 8"):
        read_packed_ints(bytes(9 * 3), limit=8)
