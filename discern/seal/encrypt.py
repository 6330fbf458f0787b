"""Bundles that only the holder of a key can read: a folder and a key in, one file out, and back.

    magic  4 bytes: length of the header  header (JSON)  chunks of ciphertext with their tags

AES-256-GCM in chunks as STREAM has it (Hoang et al. 2015): the nonce is a random prefix, the
chunk's number and whether it is the last one, so that chunks cannot be left out, exchanged or
added; the header is authenticated with each.  Each file has a key of its own by HKDF (RFC 5869)
from a key file, or by scrypt (RFC 7914) from a passphrase.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from discern.errors import IntegrityError, UsageError
from discern.files import TEMPORARY, parse_json, sync_folder, write_bytes, write_new
from discern.seal.sign import MANIFEST, SIGNATURE, check_files

MAGIC = b"DISCERN\x01"
FORMAT = "discern-sealed/1"
CHUNK = 2**20  # bytes of plain text
TAG, PREFIX, SALT = 16, 7, 32  # bytes
MOST_HEADER = 4096
# OWASP's first choice is N = 2^17, r = 8: 128 MiB; a file may not ask for more than twice that
SCRYPT = {"n": 2**17, "r": 8, "p": 1}
MOST_MEMORY, MOST_P = 256 * 2**20, 4
MOST_BYTES = 8 * 2**30  # of a bundle
NAMES = {
    "model.safetensors",
    "config.json",
    "labels.json",
    "preprocess.json",
    "guard.safetensors",
    MANIFEST,
    SIGNATURE,
}


def encrypt(
    folder: Path, out: Path, *, passphrase: bytes | None = None, key: bytes | None = None
) -> dict[str, Any]:
    """Write a bundle whose files fit its manifest as one file that only the key opens.

    Raises UsageError (no bundle, `out` exists), IntegrityError.
    """
    if out.exists():
        raise UsageError(f"--out {out}: exists already: choose another name")
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UsageError(f"{folder}: no bundle: {MANIFEST} is missing")
    names = [*check_files(folder, manifest.read_bytes()), MANIFEST]
    names += [SIGNATURE] if (folder / SIGNATURE).is_file() else []
    if unknown := set(names) - NAMES:
        raise UsageError(f"{folder}: {', '.join(sorted(unknown))}: no file of a bundle")
    contents = {name: (folder / name).read_bytes() for name in names}
    salt, prefix = secrets.token_bytes(SALT), secrets.token_bytes(PREFIX)
    header: dict[str, Any] = {"format": FORMAT, "salt": _text(salt), "prefix": _text(prefix)}
    header |= {"kdf": {"name": "hkdf"} if key is not None else {"name": "scrypt", **SCRYPT}}
    head = json.dumps(header, sort_keys=True).encode()
    begin = MAGIC + struct.pack(">I", len(head)) + head
    cipher = AESGCM(_derived(header, passphrase, key, out))
    index = json.dumps({name: len(data) for name, data in contents.items()}).encode()
    plain = struct.pack(">I", len(index)) + index + b"".join(contents.values())
    sealed = bytearray(begin)
    pieces = [plain[start : start + CHUNK] for start in range(0, len(plain), CHUNK)]
    for number, piece in enumerate(pieces):
        nonce = _nonce(prefix, number, last=number == len(pieces) - 1)
        sealed += cipher.encrypt(nonce, piece, begin)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, sealed)
    return {"out": str(out), "bytes": len(sealed), "files": sorted(names)}


def decrypt(
    file: Path, out: Path, *, passphrase: bytes | None = None, key: bytes | None = None
) -> dict[str, Any]:
    """Write the bundle that lies in a file.

    All is checked before anything is written.  Raises UsageError (`out` exists, another kind of
    key), IntegrityError (wrong key, altered file).
    """
    if out.exists():
        raise UsageError(f"--out {out}: exists already: choose another folder")
    contents = opened(file, passphrase=passphrase, key=key)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{out.name[:40]}")
    try:
        temporary.mkdir()
        for name, data in contents.items():
            write_new(temporary / name, data)
        check_files(temporary, contents[MANIFEST])
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(out.parent)
    return {"out": str(out), "files": sorted(contents)}


def opened(
    file: Path, *, passphrase: bytes | None = None, key: bytes | None = None
) -> dict[str, bytes]:
    """The files of a sealed bundle by name, in memory.  Raises UsageError, IntegrityError."""
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    if file.stat().st_size > MOST_BYTES:
        raise IntegrityError(f"{file}: larger than any bundle")
    data = file.read_bytes()
    header, begin = _header(data, file)
    cipher = AESGCM(_derived(header, passphrase, key, file))
    prefix = _bytes(header, "prefix", PREFIX, file)
    try:
        plain = b"".join(_chunks(cipher, prefix, data, begin))
    except InvalidTag:
        raise IntegrityError(
            f"{file}: cannot be opened: the key or passphrase is wrong, or the file was altered"
        ) from None
    return _split(plain, file)


def _chunks(cipher: AESGCM, prefix: bytes, data: bytes, begin: bytes) -> Iterator[bytes]:
    starts = range(len(begin), len(data), CHUNK + TAG)
    if not starts:
        raise InvalidTag  # not even the last chunk is there
    for number, start in enumerate(starts):
        nonce = _nonce(prefix, number, last=number == len(starts) - 1)
        yield cipher.decrypt(nonce, data[start : start + CHUNK + TAG], begin)


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + struct.pack(">IB", number, last)


def _header(data: bytes, file: Path) -> tuple[dict[str, Any], bytes]:
    """The header, and all bytes up to its end."""
    if not data.startswith(MAGIC):
        raise IntegrityError(f"{file}: not a file of `discern seal encrypt`, or of a newer version")
    place = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : place], "big")
    if length > MOST_HEADER or place + length > len(data):
        raise IntegrityError(f"{file}: cut off or altered: copy it again")
    try:
        header = parse_json(data[place : place + length])
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise IntegrityError(f"{file}: not a header that this version reads ({FORMAT})")
    return header, data[: place + length]


def _derived(
    header: Mapping[str, Any], passphrase: bytes | None, key: bytes | None, file: Path
) -> bytes:
    """The key of one file."""
    salt, kdf = _bytes(header, "salt", SALT, file), header.get("kdf")
    kind = kdf.get("name") if isinstance(kdf, dict) else None
    if kind == "hkdf":
        if key is None:
            raise UsageError(f"{file}: sealed with a key file: give it by --key-file")
        return HKDF(SHA256(), 32, salt, FORMAT.encode()).derive(key)
    if kind != "scrypt" or not isinstance(kdf, dict):
        raise IntegrityError(f"{file}: not a header that this version reads ({FORMAT})")
    if passphrase is None:
        raise UsageError(f"{file}: sealed with a passphrase: give it by --passphrase-file")
    parts = [kdf.get(name) for name in ("n", "r", "p")]
    if any(type(part) is not int for part in parts):
        raise IntegrityError(f"{file}: altered: copy it again")
    n, r, p = (int(part or 0) for part in parts)
    # before any memory is asked for: the header is not yet known to be ours
    fits = 2**14 <= n <= 2**20 and n & (n - 1) == 0 and 1 <= r <= 32 and 1 <= p <= MOST_P
    if not fits or 128 * n * r > MOST_MEMORY:
        raise IntegrityError(f"{file}: asks for more memory than any file of ours: altered")
    return Scrypt(salt, 32, n=n, r=r, p=p).derive(passphrase)


def _split(plain: bytes, file: Path) -> dict[str, bytes]:
    """Files by name; authentic by now, and still not allowed to name a path."""
    length = int.from_bytes(plain[:4], "big")
    try:
        index = parse_json(plain[4 : 4 + length])
        sizes = {str(name): int(size) for name, size in index.items()}
    except (ValueError, AttributeError, TypeError):
        sizes = {}
    whole = 4 + length + sum(sizes.values())
    if MANIFEST not in sizes or set(sizes) - NAMES or whole != len(plain):
        raise IntegrityError(f"{file}: holds no bundle")
    if min(sizes.values()) < 0:
        raise IntegrityError(f"{file}: holds no bundle")
    found, place = {}, 4 + length
    for name, size in sizes.items():
        found[name] = plain[place : place + size]
        place += size
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(header: Mapping[str, Any], name: str, length: int, file: Path) -> bytes:
    try:
        data = base64.b64decode(str(header.get(name)), validate=True)
    except ValueError:
        data = b""
    if len(data) != length:
        raise IntegrityError(f"{file}: altered: copy it again")
    return data
