"""A gallery in one file: names and feature vectors, a threshold, and the model that they belong to.

    magic  SHA-256 of the rest  4 bytes: length of the header  header (JSON)  vectors  owners

Written whole or not at all, under a lock, so that writers at the same time and `kill -9` lose
nothing; an altered file is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from discern.errors import IntegrityError, UsageError
from discern.files import json_text, parse_json, write_bytes

MAGIC = b"DISCERN-GALLERY/1\n"
MOST_HEADER = 256 * 2**20
WAIT = 30.0  # seconds for other writers
LONGEST_NAME = 200


@dataclass(kw_only=True)
class Gallery:
    """Vectors [N, D] in order of their owners [N], which count in `names`."""

    model: str  # SHA-256 of the weights that made the vectors
    vectors: np.ndarray
    names: list[str] = field(default_factory=list)
    owners: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    centre: np.ndarray | None = None  # [D], of calibration
    threshold: float | None = None
    calibration: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, model: str, width: int) -> Gallery:
        """One without anybody."""
        return cls(model=model, vectors=np.zeros((0, width), dtype=np.float32))

    def add(self, name: str, vectors: np.ndarray) -> None:
        """Enrol further vectors [n, D] of a name.  Raises UsageError for a name that is none."""
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise UsageError(f"name {name[:40]!r}: 1 to {LONGEST_NAME} printable characters")
        if name not in self.names:
            self.names.append(name)
        owner = self.names.index(name)
        owners = np.concatenate([self.owners, np.full(len(vectors), owner, dtype=np.int32)])
        order = np.argsort(owners, kind="stable")
        self.owners = owners[order]
        self.vectors = np.concatenate([self.vectors, vectors.astype(np.float32)])[order]

    def remove(self, name: str) -> int:
        """Forget a name and all its vectors.  -> how many.  Raises UsageError."""
        owner = self.number(name)
        gone = self.owners == owner
        self.vectors, owners = self.vectors[~gone], self.owners[~gone]
        self.owners = (owners - (owners > owner)).astype(np.int32)
        del self.names[owner]
        return int(gone.sum())

    def number(self, name: str) -> int:
        """Where a name stands.  Raises UsageError for one that is not enrolled."""
        if name not in self.names:
            raise UsageError(f"{name!r} is not enrolled: `discern gallery list` shows who is")
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)


def read(path: Path) -> Gallery:
    """Raises UsageError where there is none, IntegrityError for an altered file."""
    if not path.is_file():
        raise UsageError(f"{path}: no gallery: `discern gallery enroll` makes one")
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise IntegrityError(f"{path}: not a gallery that this version reads")
    digest, body = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if hashlib.sha256(body).digest() != digest:
        raise IntegrityError(f"{path}: altered or cut off (SHA-256 differs): take a copy of it")
    try:
        return _parse(body)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise IntegrityError(f"{path}: not a gallery: {error}") from None


def write(path: Path, gallery: Gallery) -> None:
    """The old file or the new one is there at any time."""
    centre = None if gallery.centre is None else gallery.centre.astype(float).tolist()
    header = json_text(
        {
            "model": gallery.model,
            "names": gallery.names,
            "shape": list(gallery.vectors.shape),
            "centre": centre,
            "threshold": gallery.threshold,
            "calibration": gallery.calibration,
        }
    ).encode()
    body = struct.pack("<I", len(header)) + header
    body += gallery.vectors.astype("<f4").tobytes() + gallery.owners.astype("<i4").tobytes()
    write_bytes(path, MAGIC + hashlib.sha256(body).digest() + body)


@contextlib.contextmanager
def editing(path: Path, new: Gallery | None = None) -> Iterator[Gallery]:
    """The gallery, to be changed and written back, by one writer at a time.

    `new` is taken where there is no file.  Raises UsageError where another writer takes too long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        gallery = new if new is not None and not path.exists() else read(path)
        yield gallery
        write(path, gallery)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    # a file of its own: the gallery's is exchanged, and its lock would be left on the old one
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        end = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UsageError(f"{path}: another writer holds it: try again") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _parse(body: bytes) -> Gallery:
    (length,) = struct.unpack_from("<I", body)
    if length > MOST_HEADER:
        raise ValueError("its header is too long")
    head = parse_json(body[4 : 4 + length])
    count, width = (int(one) for one in head["shape"])
    place = 4 + length
    if count < 0 or width < 1 or place + 4 * count * (width + 1) != len(body):
        raise ValueError("its length is wrong")
    vectors = np.frombuffer(body, "<f4", count * width, place).reshape(count, width)
    owners = np.frombuffer(body, "<i4", count, place + 4 * count * width)
    names = [str(name) for name in head["names"]]
    if len(set(names)) != len(names) or (
        count and not 0 <= owners.min() <= owners.max() < len(names)
    ):
        raise ValueError("its names do not fit its vectors")
    centre = head["centre"]
    return Gallery(
        model=str(head["model"]),
        vectors=vectors.astype(np.float32),
        names=names,
        owners=owners.astype(np.int32),
        centre=None if centre is None else np.array(centre, dtype=np.float32),
        threshold=None if head["threshold"] is None else float(head["threshold"]),
        calibration=dict(head["calibration"]),
    )
