"""Bundles of this release stay readable: a signed and a locked one as they were written first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from discern import load
from discern.seal.encrypt import decrypt
from discern.seal.keys import read_secret
from discern.seal.sign import verify

HOME = Path(__file__).parent.parent / "golden" / "sealed"
LOGITS = torch.tensor([[1.12869, -0.912184]])


@pytest.mark.parametrize("locked", [False, True])
def test_they_are_read_and_give_the_same_logits(locked: bool, tmp_path: Path) -> None:
    folder = HOME / "model"
    if locked:  # the key of this file opens nothing else
        folder = tmp_path / "model"
        decrypt(HOME / "locked", folder, key=read_secret(HOME / "test-only.key"))
    bundle = load(folder, require_signature=HOME / "signer.pub")
    assert bundle.labels == ["cat", "dog"]
    ramp = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 1, 16, 16)
    torch.testing.assert_close(bundle.model(ramp), LOGITS, atol=1e-4, rtol=0)


def test_the_signer_is_known() -> None:
    from discern.seal.keys import key_id, read_public

    public = read_public(HOME / "signer.pub")
    assert verify(HOME / "model", public)["key_id"] == key_id(public)
