"""The Nth write, sync, rename or open fails, for N = 1, 2, 3 ...: the old thing stands, or the new.

A full disk or a failing one may strike at any operation.  Each verb that writes is run with its
first, second, ... operation failing until one run meets no fault; after each, what was there before
must be whole, and the same command must then succeed.
"""

from __future__ import annotations

import builtins
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from discern.data.convert import convert
from discern.data.sources import open_source
from discern.gallery.store import Gallery, editing, read
from discern.models.weights import load_bundle, save_bundle
from discern.seal.encrypt import decrypt, encrypt, opened
from discern.seal.keys import make_secret, make_signing_key, read_private, read_public, read_secret
from discern.seal.sign import sign, verify
from tests.seal.conftest import tiny_model

OPERATIONS = ("write", "fsync", "replace", "rename", "open", "mkdir")
MOST = 400


class _Struck(Exception):
    """Counts how many operations there were."""


@contextmanager
def failing(number: int) -> Iterator[list[int]]:
    """The operation of this number fails as on a full disk, and so do all writes after it."""
    count = [0]

    def guarded(real: Callable[..., Any], writes: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            count[0] += 1
            if count[0] == number or (writes and count[0] > number):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")
            return real(*arguments, **settings)

        return call

    def opening(real: Callable[..., Any]) -> Callable[..., Any]:
        struck = guarded(real, False)

        def call(path: Any, flags: int = 0, *arguments: Any, **settings: Any) -> Any:
            make = isinstance(flags, int) and flags & os.O_CREAT
            return (struck if make else real)(path, flags, *arguments, **settings)

        return call

    patches = [mock.patch.object(os, "open", opening(os.open))]
    for name in OPERATIONS:
        if name != "open":
            real = getattr(os, name)
            patches.append(mock.patch.object(os, name, guarded(real, name == "write")))
    for one in patches:
        one.start()
    try:
        yield count
    finally:
        for one in patches:
            one.stop()


def _each_operation(
    prepare: Callable[[Path], None],
    act: Callable[[Path], None],
    whole: Callable[[Path], bool],
    home: Path,
) -> int:
    """How many operations were made to fail; `whole` says whether old or new is there."""
    for number in range(1, MOST):
        folder = home / str(number)
        folder.mkdir()
        prepare(folder)
        try:
            with failing(number) as count:
                act(folder)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        except Exception as error:  # ours, in one line
            assert "\n" not in str(error), error
        if count[0] < number:
            assert whole(folder)
            return number - 1
        assert whole(folder), f"neither old nor new after operation {number}"
        act_again(act, folder)
        assert whole(folder)
        shutil.rmtree(folder)
    raise AssertionError("it never ends")


def act_again(act: Callable[[Path], None], folder: Path) -> None:
    try:
        act(folder)
    except Exception as error:
        if "exists" not in str(error):  # the struck one had done its work
            raise


def test_bundles(tmp_path: Path) -> None:
    def save(folder: Path, labels: list[str]) -> None:
        size = {"height": 16, "width": 16}
        save_bundle(folder / "model", tiny_model(), labels=labels, preprocess=size, made={})

    found = _each_operation(
        lambda folder: save(folder, ["old", "older"]),
        lambda folder: save(folder, ["new", "newer"]),
        lambda folder: load_bundle(folder / "model").labels in (["old", "older"], ["new", "newer"]),
        tmp_path,
    )
    assert found >= 10


def test_signatures_and_locked_files(tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    secret = read_secret(make_secret(tmp_path / "secret"))
    size = {"height": 16, "width": 16}
    model = tmp_path / "model"
    save_bundle(model, tiny_model(), labels=["a", "b"], preprocess=size, made={})
    private, public = read_private(tmp_path / "key"), read_public(tmp_path / "key.pub")

    def signed(folder: Path) -> bool:
        load_bundle(folder / "model")
        if (folder / "model" / "signature.json").exists():
            verify(folder / "model", public)
        return True

    homes = [tmp_path / name for name in ("sign", "lock", "unlock")]
    for home in homes:
        home.mkdir()
    assert _each_operation(
        lambda folder: shutil.copytree(model, folder / "model") and None,
        lambda folder: sign(folder / "model", private) and None,
        signed,
        homes[0],
    )
    assert _each_operation(
        lambda folder: None,
        lambda folder: encrypt(model, folder / "locked", key=secret) and None,
        lambda folder: (
            not (folder / "locked").exists() or bool(opened(folder / "locked", key=secret))
        ),
        homes[1],
    )
    encrypt(model, tmp_path / "locked", key=secret)
    assert _each_operation(
        lambda folder: None,
        lambda folder: decrypt(tmp_path / "locked", folder / "out", key=secret) and None,
        lambda folder: (
            not (folder / "out").exists() or load_bundle(folder / "out").labels == ["a", "b"]
        ),
        homes[2],
    )


def test_keys_are_whole_or_not_there(tmp_path: Path) -> None:
    def whole(folder: Path) -> bool:
        if (folder / "key").exists():
            read_private(folder / "key")
        return True

    def make(folder: Path) -> None:
        make_signing_key(folder / "key")

    assert _each_operation(lambda folder: None, make, whole, tmp_path)


def test_galleries(tmp_path: Path) -> None:
    def enrol(folder: Path, name: str) -> None:
        with editing(folder / "g", Gallery.empty("a" * 64, 4)) as gallery:
            gallery.add(name, np.ones((2, 4)))

    found = _each_operation(
        lambda folder: enrol(folder, "old"),
        lambda folder: enrol(folder, "new"),
        lambda folder: read(folder / "g").names in (["old"], ["old", "new"]),
        tmp_path,
    )
    assert found >= 3


@pytest.mark.parametrize("form", ["tfrecord", "folder"])
def test_conversions(form: Any, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for label in ("cat", "dog"):
        (photos / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), (len(label) * 9, 0, 0)).save(photos / label / "1.png")
    home = tmp_path / "home"
    home.mkdir()

    def whole(folder: Path) -> bool:
        """Nothing that looks finished and is not."""
        out = folder / "out"
        if not out.exists() or not any(out.iterdir()):
            return True
        try:
            source = open_source([str(out)])
        except Exception:
            return True  # not taken for data
        for index in range(len(source.items)):
            source.read(index)
        return True

    def act(folder: Path) -> None:
        if (folder / "out").exists():
            shutil.rmtree(folder / "out")
        convert(open_source([str(photos)]), folder / "out", form, 1, False)

    assert _each_operation(lambda folder: None, act, whole, home)


def test_the_shim_strikes(tmp_path: Path) -> None:
    with failing(1) as count, pytest.raises(OSError, match="space"):
        os.mkdir(tmp_path / "x")
    assert count == [1] and not (tmp_path / "x").exists()
    with failing(2) as count:
        builtins.open(tmp_path / "y", "w").close()  # of Python's own, which no code of ours uses
    assert not count[0]
