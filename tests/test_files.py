"""Atomic files: whole or not at all, strict JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from discern.files import json_text, replacing, sha256, write_bytes, write_json


def test_bytes_arrive_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for data in (b"first", b"", os.urandom(100_000), memoryview(b"view")):
        write_bytes(path, data)
        assert path.read_bytes() == bytes(data)
        assert sha256(path) == hashlib.sha256(data).hexdigest()
    assert os.listdir(tmp_path) == ["a.bin"]


def test_array_of_wider_items_is_written_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", memoryview(np.arange(5, dtype=np.int64)))
    assert (tmp_path / "a").stat().st_size == 40


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
    write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "replace"])
def test_a_failure_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_replacing_keeps_the_suffix_and_the_old_file_after_a_failure(tmp_path: Path) -> None:
    with replacing(tmp_path / "clip.mp4") as name:
        assert name.suffix == ".mp4" and name.parent == tmp_path
        name.write_bytes(b"one")
    with pytest.raises(RuntimeError), replacing(tmp_path / "clip.mp4") as name:
        name.write_bytes(b"tw")
        raise RuntimeError
    assert (tmp_path / "clip.mp4").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_the_longest_name_works(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 255), b"x")
    write_bytes(tmp_path / ("n." + "s" * 253), b"x")


class Colour(StrEnum):
    RED = "red"


def test_json_is_strict_and_lists_what_was_not_finite(tmp_path: Path) -> None:
    value = {
        "loss": float("nan"),
        "parts": {"r1": np.float32("inf"), "ok": np.float32(0.5)},
        "list": [1, -np.inf, True],
        "count": np.int64(3),
        "flag": np.bool_(True),
        "rows": np.arange(2),
        "path": Path("a/b"),
        "colour": Colour.RED,
        7: None,
    }
    write_json(tmp_path / "a.json", value)
    read = json.loads(
        (tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert read == {
        "loss": None,
        "parts": {"r1": None, "ok": 0.5},
        "list": [1, None, True],
        "count": 3,
        "flag": True,
        "rows": [0, 1],
        "path": "a/b",
        "colour": "red",
        "7": None,
        "nonfinite": ["loss", "parts.r1", "list[1]"],
    }


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match=r"a\.b\[0\]: object cannot"):
        json_text({"a": {"b": [object()]}})
