"""Signatures: whose they are, what they cover, and that nothing altered passes."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discern import load
from discern.errors import DiscernError, IntegrityError, UsageError
from discern.models.weights import load_bundle, save_bundle
from discern.seal.keys import read_private, read_public
from discern.seal.sign import check_signature, requiring, sign, verify
from tests.seal.conftest import Keys, tiny_model


@pytest.fixture
def signed(bundle: Path, keys: Keys) -> Path:
    sign(bundle, read_private(keys.mine))
    return bundle


def _said(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "signature.json").read_text()))


def test_the_library_agrees(signed: Path, keys: Keys) -> None:
    """Checked without our code: Ed25519 over the line and the manifest's bytes."""
    message = b"discern-signature/1\n" + (signed / "manifest.json").read_bytes()
    signature = base64.b64decode(_said(signed)["signature"])
    read_public(keys.mine_public).verify(signature, message)


def test_a_signed_model_verifies_and_loads(signed: Path, keys: Keys) -> None:
    found = verify(signed, read_public(keys.mine_public))
    assert found["files"] == [
        "config.json",
        "labels.json",
        "model.safetensors",
        "preprocess.json",
    ]
    assert load(signed, require_signature=keys.mine_public).labels == ["cat", "dog"]
    assert load(signed).labels == ["cat", "dog"]


def test_a_wrong_a_swapped_and_a_missing_signature_are_refused(
    signed: Path, original: Path, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="not by"):
        load(signed, require_signature=keys.other_public)
    with pytest.raises(IntegrityError, match="not signed"):
        load(original, require_signature=keys.mine_public)
    with pytest.raises(IntegrityError, match="not signed"):
        verify(original, read_public(keys.mine_public))
    # a signature of the same key on another bundle
    other = tmp_path / "other"
    save_bundle(other, tiny_model(), labels=["a", "b"], preprocess={}, made={})
    sign(other, read_private(keys.mine))
    shutil.copy(other / "signature.json", signed / "signature.json")
    with pytest.raises(IntegrityError, match="does not fit"):
        load(signed, require_signature=keys.mine_public)
    with pytest.raises(IntegrityError, match="does not fit"):
        load(signed)  # also where none is asked for
    with pytest.raises(UsageError, match="no such file"):
        load(signed, require_signature=tmp_path / "no.pub")
    with pytest.raises(UsageError, match=r"mine\.pub"):
        load(signed, require_signature=keys.mine)


def test_the_requirement_ends_with_its_block(original: Path, keys: Keys) -> None:
    with requiring(keys.mine_public), pytest.raises(IntegrityError):
        load_bundle(original)
    load_bundle(original)


def test_what_asks_for_nothing_takes_nothing_back(original: Path, keys: Keys) -> None:
    """`load` within a verb that wants a signature, for one."""
    with requiring(keys.mine_public):
        with requiring(None), pytest.raises(IntegrityError):
            load_bundle(original)
        with pytest.raises(IntegrityError):
            load(original)
        with pytest.raises(IntegrityError):
            load_bundle(original)


def test_what_is_saved_anew_is_not_signed(signed: Path) -> None:
    save_bundle(signed, tiny_model(), labels=["cat", "dog"], preprocess={}, made={})
    assert not (signed / "signature.json").exists()
    load_bundle(signed)


def test_an_altered_bundle_is_not_signed(bundle: Path, keys: Keys) -> None:
    (bundle / "labels.json").write_text('["dog", "cat"]')
    with pytest.raises(IntegrityError, match="labels"):
        sign(bundle, read_private(keys.mine))
    assert not (bundle / "signature.json").exists()


def test_swapped_labels_under_a_new_manifest_are_caught(signed: Path, keys: Keys) -> None:
    """Who alters a bundle can fit its manifest, and not its signature."""
    stolen = signed.parent / "stolen"
    save_bundle(stolen, tiny_model(), labels=["dog", "cat"], preprocess={}, made={})
    shutil.copy(signed / "signature.json", stolen / "signature.json")
    with pytest.raises(IntegrityError, match="does not fit"):
        load(stolen, require_signature=keys.mine_public)


def test_thousands_of_altered_bundles_are_refused(signed: Path, keys: Keys) -> None:
    """Bits flipped, bytes cut, added and exchanged, in every file: none is loaded."""
    drawn = random.Random(0)
    files = sorted(signed.iterdir())
    contents = {path: path.read_bytes() for path in files}
    manifest, public = contents[signed / "manifest.json"], read_public(keys.mine_public)
    for round_number in range(3000):
        path = drawn.choice(files)
        data = contents[path]
        altered = _altered(data, drawn)
        if altered == data:
            continue
        if path.name == "signature.json":  # in memory, and fast
            with pytest.raises(IntegrityError):
                check_signature(manifest, altered, path, public)
        elif path.name == "manifest.json":
            with pytest.raises(IntegrityError):
                check_signature(altered, contents[signed / "signature.json"], path, public)
        elif round_number % 10 == 0:
            path.write_bytes(altered)
            with pytest.raises(IntegrityError):
                load(signed, require_signature=keys.mine_public)
            path.write_bytes(data)
    load(signed, require_signature=keys.mine_public)


def _altered(data: bytes, drawn: random.Random) -> bytes:
    place = drawn.randrange(len(data))
    what = drawn.randrange(4)
    if what == 0:
        return data[:place] + bytes([data[place] ^ 1 << drawn.randrange(8)]) + data[place + 1 :]
    if what == 1:
        return data[:place]
    if what == 2:
        return data[:place] + bytes([drawn.randrange(256)]) + data[place:]
    other = drawn.randrange(len(data))
    swapped = bytearray(data)
    swapped[place], swapped[other] = data[other], data[place]
    return bytes(swapped)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "discern-signature/9"},
        {"algorithm": "none"},
        {"extra": "x"},
        {"key_id": "0" * 16},
        {"signature": ""},
        {"public_key": "AAAA"},
    ],
)
def test_odd_signature_files_are_refused(change: dict[str, str], signed: Path, keys: Keys) -> None:
    said = _said(signed) | change
    (signed / "signature.json").write_text(json.dumps(said, indent=2) + "\n")
    with pytest.raises(IntegrityError):
        load(signed, require_signature=keys.mine_public)
    with pytest.raises(IntegrityError):
        load(signed)


def test_links_are_not_followed(signed: Path, keys: Keys, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.json"
    shutil.move(signed / "signature.json", moved)
    (signed / "signature.json").symlink_to(moved)
    with pytest.raises(DiscernError, match="plain file"):
        load(signed, require_signature=keys.mine_public)


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text + b"\n",
        lambda text: text.replace(b'  "key_id"', b'   "key_id"'),
        lambda text: text.replace(b'  "signature"', b'  "signature": "",\n  "signature"'),
        lambda text: (
            json.dumps(dict(reversed(json.loads(text).items())), indent=2).encode() + b"\n"
        ),
    ],
    ids=["a line more", "a space more", "a name twice", "another order"],
)
def test_a_signature_has_one_text(
    alter: Callable[[bytes], bytes], signed: Path, keys: Keys
) -> None:
    path = signed / "signature.json"
    altered = alter(path.read_bytes())
    assert json.loads(altered) == json.loads(path.read_bytes())  # it says the same
    path.write_bytes(altered)
    with pytest.raises(IntegrityError, match="not as it was written"):
        verify(signed, read_public(keys.mine_public))
    with pytest.raises(IntegrityError, match="not as it was written"):
        load_bundle(signed)
