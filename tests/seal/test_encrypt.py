"""Locked bundles: what comes out is what went in, and nothing altered opens."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from discern.errors import DiscernError, IntegrityError, UsageError
from discern.models.weights import load_bundle
from discern.seal import encrypt as module
from discern.seal.encrypt import MAGIC, decrypt, encrypt, opened
from discern.seal.keys import read_private, read_secret
from discern.seal.sign import sign
from tests.seal.conftest import Keys


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 500)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCRYPT", {"n": 2**14, "r": 8, "p": 1})


def _locked(bundle: Path, keys: Keys) -> Path:
    out = bundle.parent / "model.sealed"
    encrypt(bundle, out, key=read_secret(keys.secret))
    return out


def test_out_comes_what_went_in(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    sign(bundle, read_private(keys.mine))
    file = _locked(bundle, keys)
    decrypt(file, tmp_path / "again", key=read_secret(keys.secret))
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(
        p.name for p in bundle.iterdir()
    )
    for path in bundle.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert load_bundle(tmp_path / "again").labels == ["cat", "dog"]
    assert b"cat" not in file.read_bytes()


@pytest.mark.usefixtures("cheap")
def test_a_passphrase_opens_it_and_another_does_not(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "locked"
    encrypt(bundle, file, passphrase=b"open sesame")
    assert "labels.json" in opened(file, passphrase=b"open sesame")
    with pytest.raises(IntegrityError, match="wrong"):
        decrypt(file, tmp_path / "out", passphrase=b"open barley")
    with pytest.raises(UsageError, match="passphrase"):
        opened(file, key=b"k" * 32)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_chunks")
def test_the_library_opens_it_without_us(bundle: Path, keys: Keys) -> None:
    """AES-256-GCM of chunks under HKDF, nonce = prefix, number, last."""
    data = _locked(bundle, keys).read_bytes()
    length = struct.unpack(">I", data[len(MAGIC) : len(MAGIC) + 4])[0]
    begin = data[: len(MAGIC) + 4 + length]
    header = json.loads(begin[len(MAGIC) + 4 :])
    import base64

    salt, prefix = (base64.b64decode(header[name]) for name in ("salt", "prefix"))
    cipher = AESGCM(HKDF(SHA256(), 32, salt, b"discern-sealed/1").derive(read_secret(keys.secret)))
    chunks = [data[i : i + 516] for i in range(len(begin), len(data), 516)]
    assert len(chunks) > 3
    plain = b""
    for number, chunk in enumerate(chunks):
        nonce = prefix + struct.pack(">IB", number, number == len(chunks) - 1)
        plain += cipher.decrypt(nonce, chunk, begin)
    assert (bundle / "labels.json").read_bytes() in plain


@pytest.mark.usefixtures("small_chunks")
def test_chunks_cannot_be_cut_exchanged_repeated_or_added(bundle: Path, keys: Keys) -> None:
    file, key = _locked(bundle, keys), read_secret(keys.secret)
    data = file.read_bytes()
    start = len(MAGIC) + 4 + int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "big")
    head, body = data[:start], data[start:]
    chunks = [body[i : i + 516] for i in range(0, len(body), 516)]
    first, second, *rest = chunks
    for other in (
        chunks[:-1],
        chunks[:1],
        [],
        [second, first, *rest],
        [first, first, second, *rest],
        [first, *rest],
        [*chunks, chunks[-1]],
        [*chunks, b""],
    ):
        altered = head + b"".join(other)
        if altered == data:
            continue
        file.write_bytes(altered)
        with pytest.raises(IntegrityError):
            opened(file, key=key)


@pytest.mark.usefixtures("small_chunks")
def test_thousands_of_altered_files_are_refused(bundle: Path, keys: Keys) -> None:
    file, key, drawn = _locked(bundle, keys), read_secret(keys.secret), random.Random(0)
    data = file.read_bytes()
    for _ in range(2000):
        place = drawn.randrange(len(data) if drawn.random() < 0.7 else 300)
        altered = bytearray(data)
        altered[place] ^= 1 << drawn.randrange(8)
        if drawn.random() < 0.3:
            altered = altered[: drawn.randrange(len(data))]
        file.write_bytes(altered)
        with pytest.raises(DiscernError):  # a header may now ask for a passphrase
            opened(file, key=key)
    file.write_bytes(data)
    opened(file, key=key)


def test_nothing_is_left_where_it_cannot_be_opened(
    bundle: Path, keys: Keys, tmp_path: Path
) -> None:
    file = _locked(bundle, keys)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError):
        decrypt(file, tmp_path / "deep" / "out", key=read_secret(keys.other_secret))
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UsageError, match="exists"):
        decrypt(file, bundle, key=read_secret(keys.secret))
    with pytest.raises(UsageError, match="exists"):
        encrypt(bundle, file, key=read_secret(keys.secret))


@pytest.mark.parametrize(
    "kdf",
    [
        {"name": "scrypt", "n": 2**30, "r": 8, "p": 1},
        {"name": "scrypt", "n": 2**20, "r": 32, "p": 1},
        {"name": "scrypt", "n": 2**17, "r": 8, "p": 2**20},
        {"name": "scrypt", "n": 2**17 + 1, "r": 8, "p": 1},
        {"name": "scrypt", "n": True, "r": 8, "p": 1},
        {"name": "scrypt"},
        {"name": "none"},
        "scrypt",
    ],
)
def test_a_header_cannot_ask_for_more_than_its_share(kdf: Any, tmp_path: Path) -> None:
    header = {
        "format": "discern-sealed/1",
        "kdf": kdf,
        "salt": "A" * 43 + "=",
        "prefix": "A" * 9 + "w==",
    }
    head = json.dumps(header).encode()
    file = tmp_path / "bomb"
    file.write_bytes(MAGIC + struct.pack(">I", len(head)) + head + b"x" * 100)
    with pytest.raises(IntegrityError):
        opened(file, passphrase=b"any")


def test_a_name_in_it_cannot_be_a_path(
    bundle: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by somebody who has the key."""
    monkeypatch.setattr(module, "NAMES", module.NAMES | {"../evil.json"})
    real = module.check_files

    def with_evil(folder: Path, manifest: bytes) -> list[str]:
        return [*real(folder, manifest), "../evil.json"]

    monkeypatch.setattr(module, "check_files", with_evil)
    (bundle.parent / "evil.json").write_text("{}")
    file = _locked(bundle, keys)
    monkeypatch.undo()
    (bundle.parent / "evil.json").unlink()
    with pytest.raises(IntegrityError, match="no bundle"):
        decrypt(file, tmp_path / "inside" / "out", key=read_secret(keys.secret))
    assert not list(tmp_path.rglob("evil.json"))
