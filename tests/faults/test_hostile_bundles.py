"""Bundles by somebody who means harm: each file fits the manifest, and none does more than fail.

A manifest tells what was altered on the way, not what was built to deceive; so whatever it lists is
read with bounds.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from discern.errors import DiscernError, IntegrityError
from discern.models.weights import load_bundle, save_bundle
from tests.seal.conftest import tiny_model

ODD: list[Any] = [
    *(0, -1, 1, 7, 10**9, 10**18, 1e308, float("inf"), 0.5, True, None, "", "x" * 1000),
    *([], {}, [1, 2, 3], {"a": 1}, "conv", "__class__", [[[[]]]]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    size = {"height": 16, "width": 16}
    save_bundle(tmp_path / "m", tiny_model(), labels=["a", "b"], preprocess=size, made={})
    return tmp_path / "m"


def _put(folder: Path, name: str, data: bytes) -> None:
    """Exchange a file, and fit the manifest to it."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["files"][name] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, part in value.items():
            found += _places(part, (*path, key))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            found += _places(part, (*path, place))
    return found


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_no_configuration_gets_memory_that_no_weights_stand_behind(folder: Path) -> None:
    whole = json.loads((folder / "config.json").read_text())
    for generator in (None, {}):  # what torch loads at first use is not counted
        altered = copy.deepcopy(whole)
        altered["model"]["generator"] = generator
        _put(folder, "config.json", json.dumps(altered).encode())
        with contextlib.suppress(DiscernError):
            load_bundle(folder)
    before, drawn = _memory(), random.Random(0)
    places = _places(whole)
    tried = [(place, odd) for place in places for odd in ODD]
    for place, odd in drawn.sample(tried, len(tried)):
        altered = copy.deepcopy(whole)
        node = altered
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = odd
        _put(folder, "config.json", json.dumps(altered).encode())
        started = time.monotonic()
        try:
            load_bundle(folder)
        except DiscernError as error:
            assert "\n" not in str(error)
        assert time.monotonic() - started < 2, (place, odd)
    assert _memory() - before < 64 * 1024  # kilobytes
    _put(folder, "config.json", json.dumps(whole).encode())
    assert load_bundle(folder).labels == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("width", 16384),
        ("depth", 10**6),
        ("mlp_ratio", 1e9),
        ("patch", 1024),
        ("channels", 10**6),
        ("registers", 10**9),
    ],
)
def test_large_shapes_are_refused_at_once(part: str, value: float, folder: Path) -> None:
    whole = json.loads((folder / "config.json").read_text())
    load_bundle(folder)
    whole["model"]["backbone"][part] = value
    _put(folder, "config.json", json.dumps(whole).encode())
    started, before = time.monotonic(), _memory()
    with pytest.raises(IntegrityError):
        load_bundle(folder)
    assert time.monotonic() - started < 1 and _memory() - before < 32 * 1024


@pytest.mark.parametrize("name", ["config.json", "labels.json", "preprocess.json"])
@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"null", b"nan", b"\xff\xfe", b"[" * 2000, b'{"a":' * 500, b"1e999"]
)
def test_rubbish_under_a_fitting_manifest(name: str, data: bytes, folder: Path) -> None:
    _put(folder, name, data)
    try:
        bundle = load_bundle(folder)
    except DiscernError:
        return
    assert name == "preprocess.json" and bundle.preprocess == {}


def _header(entries: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**62),
        struct.pack("<Q", 100 * 2**20) + b"{",
        _header({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, b"1234"),
        _header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000]}}, b"1234"),
        _header({"w": {"dtype": "O", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"PK\x03\x04" + b"\0" * 100,
    ],
)
def test_weights_that_are_none(data: bytes, folder: Path) -> None:
    _put(folder, "model.safetensors", data)
    started = time.monotonic()
    with pytest.raises(IntegrityError):
        load_bundle(folder)
    assert time.monotonic() - started < 0.5


def test_other_tensors_under_right_names(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = next(iter(tensors))
    for odd in (torch.zeros(1), torch.zeros(tensors[name].shape, dtype=torch.int64)[..., None]):
        _put(folder, "model.safetensors", safetensors.torch.save(tensors | {name: odd}))
        with pytest.raises(IntegrityError, match="shape"):
            load_bundle(folder)
