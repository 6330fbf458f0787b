"""Key files: made, written with owner's rights only, and read back with one-line errors.

Signing keys are Ed25519 (RFC 8032) in PEM, as OpenSSL writes them; encryption keys are 32 random
bytes in base64 under a line that says what they are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from discern.errors import IntegrityError, UsageError
from discern.files import sync_folder

SECRET_HEADER = b"discern-key/1"
SECRET_BYTES = 32
MOST = 64 * 2**10  # bytes of any key or passphrase file


def make_signing_key(path: Path, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """A new private key at `path` and its public half at `path`.pub.

    Raises UsageError where a file of either name exists.
    """
    key = Ed25519PrivateKey.generate()
    locked: form.KeySerializationEncryption = form.NoEncryption()
    if passphrase:
        locked = form.BestAvailableEncryption(passphrase)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    half = key.public_key()
    public = half.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    other = path.with_name(path.name + ".pub")
    for one in (path, other):
        if one.exists():
            raise UsageError(f"{one}: exists already, and a key is never overwritten")
    _write(path, private, 0o600)
    _write(other, public, 0o644)
    return path, other


def make_secret(path: Path) -> Path:
    """A new encryption key at `path`.  Raises UsageError where the file exists."""
    text = base64.b64encode(secrets.token_bytes(SECRET_BYTES))
    _write(path, SECRET_HEADER + b"\n" + text + b"\n", 0o600)
    return path


def read_private(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Raises UsageError for a file that is no such key, IntegrityError for a wrong passphrase."""
    data = read_small(path)
    try:
        key = form.load_pem_private_key(data, passphrase)
    except TypeError:
        if passphrase is None:
            raise UsageError(f"{path}: locked: give its passphrase by --passphrase-file") from None
        raise UsageError(f"{path}: not locked: leave --passphrase-file out") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase is not None and b"ENCRYPTED" in data:
            raise IntegrityError(f"{path}: the passphrase is wrong, or the file altered") from None
        raise UsageError(f"{path}: not a private key of `discern seal keygen`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: a key of another kind: make one with `discern seal keygen`")
    return key


def read_public(path: Path) -> Ed25519PublicKey:
    """Raises UsageError for a file that is no such key."""
    data = read_small(path)
    if b"PRIVATE KEY" in data:
        raise UsageError(f"{path}: the private key: name its public half, {path}.pub")
    try:
        key = form.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path}: not a public key of `discern seal keygen`") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: a key of another kind: make one with `discern seal keygen`")
    return key


def read_secret(path: Path) -> bytes:
    """The 32 bytes of an encryption key.  Raises UsageError for another file."""
    header, _, text = read_small(path).partition(b"\n")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if header.strip() != SECRET_HEADER or len(key) != SECRET_BYTES:
        raise UsageError(f"{path}: not a key of `discern seal keygen --symmetric`")
    return key


def read_passphrase(path: Path) -> bytes:
    """The first line of a file, without its end.  Raises UsageError for an empty one."""
    phrase = read_small(path).partition(b"\n")[0].rstrip(b"\r")
    if not phrase:
        raise UsageError(f"{path}: the first line must hold the passphrase, and is empty")
    return phrase


def raw(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: the start of the SHA-256 of its bytes."""
    return hashlib.sha256(raw(key)).hexdigest()[:16]


def read_small(path: Path) -> bytes:
    """A file that has to be small.  Raises UsageError where it is missing or too large."""
    try:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        with open(path, "rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(data) > MOST:
        raise UsageError(f"{path}: too large for a key")
    return data


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file that has these rights from its first moment on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise UsageError(f"{path}: exists already, and a key is never overwritten") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
