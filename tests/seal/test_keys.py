"""Key files: rights, formats, and what a wrong file is told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from discern.errors import IntegrityError, UsageError
from discern.seal import keys as module
from discern.seal.keys import (
    key_id,
    make_secret,
    make_signing_key,
    read_passphrase,
    read_private,
    read_public,
    read_secret,
)
from tests.seal.conftest import Keys


def test_only_the_owner_may_read_what_is_secret(tmp_path: Path) -> None:
    private, public = make_signing_key(tmp_path / "a" / "key")
    secret = make_secret(tmp_path / "secret")
    for path in (private, secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public.name == "key.pub" and b"PRIVATE" not in public.read_bytes()


def test_the_halves_belong_together_and_others_do_not(keys: Keys) -> None:
    mine = read_private(keys.mine)
    assert key_id(mine.public_key()) == key_id(read_public(keys.mine_public))
    assert key_id(read_public(keys.other_public)) != key_id(mine.public_key())
    assert read_secret(keys.secret) != read_secret(keys.other_secret)


def test_files_are_those_of_the_field(keys: Keys) -> None:
    """PEM that the library reads without us."""
    found = serialization.load_pem_private_key(keys.mine.read_bytes(), None)
    assert type(found).__name__.endswith("Ed25519PrivateKey")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        make_signing_key(tmp_path / "key")
    with pytest.raises(UsageError, match="never overwritten"):
        make_secret(tmp_path / "key")
    (tmp_path / "half.pub").write_bytes(b"")
    with pytest.raises(UsageError, match=r"half\.pub"):
        make_signing_key(tmp_path / "half")
    assert (tmp_path / "key").read_bytes() == before and not (tmp_path / "half").exists()


def test_a_locked_key_wants_its_passphrase(tmp_path: Path) -> None:
    private, public = make_signing_key(tmp_path / "key", b"open sesame")
    assert b"ENCRYPTED" in private.read_bytes()
    same = key_id(read_private(private, b"open sesame").public_key())
    assert same == key_id(read_public(public))
    with pytest.raises(UsageError, match="passphrase-file"):
        read_private(private)
    with pytest.raises(IntegrityError, match="wrong"):
        read_private(private, b"open barley")
    plain, _ = make_signing_key(tmp_path / "plain")
    with pytest.raises(UsageError, match="not locked"):
        read_private(plain, b"open sesame")


def test_wrong_files_are_named(tmp_path: Path, keys: Keys) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"\x00" * 100)
    for read in (read_private, read_public, read_secret):
        with pytest.raises(UsageError, match="rubbish"):
            read(rubbish)
        with pytest.raises(UsageError, match="no such file"):
            read(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"mine\.pub"):
        read_public(keys.mine)
    with pytest.raises(UsageError, match="symmetric"):
        read_secret(keys.mine)
    rubbish.write_bytes(b"a" * (module.MOST + 1))
    with pytest.raises(UsageError, match="too large"):
        read_public(rubbish)
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    rubbish.write_bytes(
        rsa_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(UsageError, match="another kind"):
        read_public(rubbish)


def test_a_passphrase_is_a_first_line(tmp_path: Path) -> None:
    file = tmp_path / "phrase"
    file.write_bytes(b"open sesame \r\nmore\n")
    assert read_passphrase(file) == b"open sesame "
    file.write_bytes(b"\nmore")
    with pytest.raises(UsageError, match="empty"):
        read_passphrase(file)
