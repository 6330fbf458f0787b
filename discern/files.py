"""Files written whole or not at all: bytes or JSON come in, a durable file goes out.

A reader sees the old file or the new one, never a part: the data goes to a hidden file in the same
folder, is synced, and then takes the name; the folder is synced last, so that the name survives a
power cut too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import numbers
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"  # how the name of an unfinished file or folder begins


def write_bytes(path: Path | str, data: bytes | bytearray | memoryview) -> None:
    """The file holds `data` when this returns; after an OSError it holds what it held before."""
    path = Path(path)
    with _temporary(path) as temporary:
        write_new(temporary, data)
        os.replace(temporary, path)
    sync_folder(path.parent)


def write_json(path: Path | str, value: Any) -> None:
    """`value` as readable JSON; NaN and infinity as in `json_text`."""
    write_bytes(path, (json_text(value, indent=2) + "\n").encode())


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A name to write to, for libraries that open files themselves; at the end it is `path`."""
    path = Path(path)
    with _temporary(path) as temporary:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
    sync_folder(path.parent)


def write_new(path: Path | str, *pieces: bytes | bytearray | memoryview) -> None:
    """A new file, synced to the disk.  Not atomic by itself: for files in a temporary folder."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for piece in pieces:
            left = memoryview(piece).cast("B")
            while left:
                left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


def sync_file(path: Path | str) -> None:
    """Wait until the file's data is on the disk."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path | str) -> None:
    """Wait until the folder's list of names is on the disk (Windows cannot open a folder)."""
    if os.name == "posix":
        sync_file(path)


def sha256(path: Path | str) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON.  NaN and infinity become null, and a key `nonfinite` lists where they stood."""
    lost: list[str] = []
    plain = _plain(value, "", lost)
    if lost and isinstance(plain, dict):
        plain["nonfinite"] = lost
    return json.dumps(plain, indent=indent, allow_nan=False)


def parse_json(data: bytes | str) -> Any:
    """JSON of strangers.  Raises ValueError, also where it is nested too deeply to be read."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _plain(value: Any, place: str, lost: list[str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {
            str(key): _plain(part, f"{place}.{key}" if place else str(key), lost)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(part, f"{place}[{index}]", lost) for index, part in enumerate(value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isfinite(number):
            return number
        lost.append(place)
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _plain(_from_array(value, place), place, lost)


def _from_array(value: Any, place: str) -> Any:
    import numpy as np

    torch = sys.modules.get("torch")  # whoever has a tensor has loaded it
    if isinstance(value, np.bool_ | np.ndarray):
        return value.tolist()
    if torch is not None and isinstance(value, torch.Tensor):
        return value.tolist()
    raise TypeError(f"{place or 'value'}: {type(value).__name__} cannot be written as JSON")


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    # short for any length of the name; the suffix stays: libraries choose the format by it
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}{path.suffix[:20]}")
    try:
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
