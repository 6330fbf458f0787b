"""Signatures of bundles: the manifest's bytes and a key in, `signature.json` out, and back.

The manifest holds the size and SHA-256 of every other file, so that its signature is one of the
whole bundle.  Ed25519 (RFC 8032) over a line that says what is signed, and the manifest.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from discern.errors import IntegrityError, UsageError
from discern.files import json_text, parse_json, write_bytes
from discern.seal.keys import key_id, raw, read_public

FORMAT = "discern-signature/1"
SIGNATURE, MANIFEST = "signature.json", "manifest.json"
MOST = 64 * 2**10  # bytes of a signature file
FIELDS = ("format", "algorithm", "key_id", "public_key", "signature")  # in the order of the file

_required: ContextVar[Path | None] = ContextVar("required", default=None)


@contextlib.contextmanager
def requiring(key: Path | str | None) -> Iterator[None]:
    """Within, every bundle that is loaded must be signed by this public key.  Raises UsageError.

    None asks for nothing more than what is asked for around it.
    """
    if key is None:
        yield
        return
    read_public(Path(key))  # a file that is no key is said before any work
    token = _required.set(Path(key))
    try:
        yield
    finally:
        _required.reset(token)


def is_required() -> bool:
    """Whether a signature is asked for."""
    return _required.get() is not None


def sign(folder: Path, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Write `signature.json` into a bundle whose files fit its manifest.  Raises IntegrityError."""
    manifest = _manifest(folder)
    check_files(folder, manifest)
    public = key.public_key()
    said = {
        "format": FORMAT,
        "algorithm": "ed25519",
        "key_id": key_id(public),
        "public_key": base64.b64encode(raw(public)).decode(),
        "signature": base64.b64encode(key.sign(_message(manifest))).decode(),
    }
    write_bytes(folder / SIGNATURE, _text(said))
    return said


def verify(folder: Path, key: Ed25519PublicKey) -> dict[str, Any]:
    """Check signature and files.  -> `key_id` and `files`.  Raises IntegrityError."""
    manifest = _manifest(folder)
    signature = _read(folder / SIGNATURE)
    if signature is None:
        raise IntegrityError(f"{folder}: not signed: `discern seal sign` signs it")
    who = check_signature(manifest, signature, folder / SIGNATURE, key)
    return {"key_id": who, "files": check_files(folder, manifest)}


def check_bundle(folder: Path, manifest: bytes) -> str | None:
    """What loading asks: the signature, if there is one, fits; where one is required, by its key.

    -> the signer's key id, None without a signature.  Raises IntegrityError.
    """
    signature, required = _read(folder / SIGNATURE), _required.get()
    if signature is None:
        if required is not None:
            raise IntegrityError(
                f"{folder}: not signed, and --require-signature {required} asks for it"
            )
        return None
    key = None if required is None else read_public(required)
    return check_signature(manifest, signature, folder / SIGNATURE, key)


def check_signature(
    manifest: bytes, signature: bytes, path: Path, key: Ed25519PublicKey | None
) -> str:
    """Whether `signature`, the bytes of signature.json, is one of `manifest`.

    By `key`, or without one by the key that it names, which only tells that nothing was altered by
    accident.  -> the key's id.  Raises IntegrityError.
    """
    said = _fields(signature, path)
    public = _decoded(said["public_key"], 32, path)
    if key is not None and public != raw(key):
        raise IntegrityError(
            f"{path}: signed by key {_short(said['key_id'])}, not by {key_id(key)}: "
            "get the model or the key from whom you trust"
        )
    holder = Ed25519PublicKey.from_public_bytes(public)
    if said["key_id"] != key_id(holder):
        raise IntegrityError(f"{path}: names another key than it holds: copy the bundle again")
    try:
        holder.verify(_decoded(said["signature"], 64, path), _message(manifest))
    except InvalidSignature:
        raise IntegrityError(
            f"{path}: does not fit {MANIFEST}: one of the two was altered: copy the bundle again"
        ) from None
    return key_id(holder)


def check_files(folder: Path, manifest: bytes) -> list[str]:
    """Whether every file is what the manifest says.  -> their names.  Raises IntegrityError."""
    try:
        files = parse_json(manifest)["files"]
        sums = {name: (int(one["bytes"]), str(one["sha256"])) for name, one in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise IntegrityError(
            f"{folder / MANIFEST}: not a manifest: copy the bundle again"
        ) from None
    for name, (size, wanted) in sums.items():
        path = folder / name
        if name != Path(name).name or path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{path}: missing, or not a plain file: copy the bundle again")
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if path.stat().st_size != size or found != wanted:
            raise IntegrityError(
                f"{path}: not the file that the manifest names (SHA-256 differs): "
                "copy the bundle again"
            )
    return sorted(sums)


def _message(manifest: bytes) -> bytes:
    # a signature of something else by the same key must not pass for one of a bundle
    return FORMAT.encode() + b"\n" + manifest


def _manifest(folder: Path) -> bytes:
    data = _read(folder / MANIFEST, 16 * 2**20)
    if data is None:
        raise UsageError(f"{folder}: no bundle: {MANIFEST} is missing")
    return data


def _read(path: Path, most: int = MOST) -> bytes | None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise IntegrityError(f"{path}: not a plain file: copy the bundle again")
    if not path.exists():
        return None
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise IntegrityError(f"{path}: too large for what it is: copy the bundle again")
    return data


def _fields(signature: bytes, path: Path) -> dict[str, str]:
    try:
        said = parse_json(signature)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not all(isinstance(said.get(one), str) for one in FIELDS):
        raise IntegrityError(f"{path}: not a signature: sign the bundle again")
    if set(said) != set(FIELDS) or said["format"] != FORMAT or said["algorithm"] != "ed25519":
        raise IntegrityError(f"{path}: {_short(said['format'])}: this version reads {FORMAT}")
    # one text for each signature, as `sign` writes it: no spaces, names or words beside it
    if signature != _text(said):
        raise IntegrityError(f"{path}: not as it was written: copy the bundle again")
    return said


def _text(said: Mapping[str, str]) -> bytes:
    return (json_text({name: said[name] for name in FIELDS}, indent=2) + "\n").encode()


def _decoded(text: str, length: int, path: Path) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    # one text for each value: a signature that can be rewritten could not be told from another
    if len(data) != length or base64.b64encode(data).decode() != text:
        raise IntegrityError(f"{path}: not a signature: sign the bundle again")
    return data


def _short(text: str) -> str:
    return repr(text[:40])
