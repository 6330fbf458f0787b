"""Manifests: files come in, sizes and hashes go to manifest.json; only verified bytes come out.

The manifest holds the hash of its own text too, so that no bit of it can change unseen.  It detects
accidents, not attacks: whoever can change the files can write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from discern.errors import IntegrityError

MANIFEST = "manifest.json"


Entry = dict[str, Any]  # what a manifest says of a file


def entry_of(*pieces: bytes | memoryview) -> Entry:
    """Bytes and SHA-256 of what a file holds, one piece after the other."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return {"bytes": sum(map(len, pieces)), "sha256": digest.hexdigest()}


def manifest(head: Mapping[str, Any], entries: Mapping[str, Entry]) -> bytes:
    """The text of a manifest: `head`, and what is to know of each file."""
    return _seal({**head, "files": entries})


def read_sealed(folder: Path, head: Mapping[str, Any], names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of the named files, each as its manifest says.

    Raises IntegrityError when one is not, or when the manifest does not say `head`.
    """
    entries = read_entries(folder, head)
    if set(entries) != set(names):
        raise IntegrityError(f"{MANIFEST} lists {sorted(entries)}, expected are {sorted(names)}")
    return {name: _read_verified(folder / name, entries[name]) for name in names}


def read_entries(folder: Path, head: Mapping[str, Any]) -> dict[str, Entry]:
    """What a manifest says of its files.

    Raises IntegrityError when it is damaged, or does not say `head`.
    """
    content = _read_manifest(folder / MANIFEST)
    for key, expected in head.items():
        if content.get(key) != expected:
            raise IntegrityError(
                f"{MANIFEST} says {key} {content.get(key)}, expected is {expected}"
            )
    entries: dict[str, Entry] = content["files"]
    return entries


def _seal(content: Mapping[str, Any]) -> bytes:
    """One text for one content, with its own hash in it."""
    body = json.dumps(content, sort_keys=True, indent=1)
    own = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**content, "sha256": own}, sort_keys=True, indent=1).encode()


def _read_manifest(path: Path) -> dict[str, Any]:
    data = _read_file(path)
    try:
        content = json.loads(data)
        content.pop("sha256")
        whole = _seal(content) == data
    except (ValueError, KeyError, AttributeError, TypeError):
        raise IntegrityError(f"{MANIFEST} is damaged") from None
    if not whole or "files" not in content:
        raise IntegrityError(f"{MANIFEST} was altered")
    return content


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    data = _read_file(path)
    if len(data) != entry["bytes"]:
        raise IntegrityError(f"{path.name} has {len(data)} bytes instead of {entry['bytes']}")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise IntegrityError(f"{path.name} was altered: its SHA-256 is not the manifest's")
    return data


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(f"{path.name} is missing") from None
