"""Models on a hub: what goes up is the bundle, what comes down is verified; no network here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from discern.errors import IntegrityError
from discern.predict import predict_files
from discern.seal.keys import make_signing_key, read_private
from discern.seal.sign import sign
from tests.recipes.test_score import a_model
from tests.serve.test_app import png

pytest.importorskip("huggingface_hub", reason="missing: pip install 'discern[hub]'")

from discern import hub
from discern.hub import HubModel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_bytes(png())
    return tmp_path / "photo.png"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


def test_a_folder_comes_back_as_it_was(model: Path, photo: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    HubModel.of(model).save_pretrained(saved)
    assert contents(saved) == contents(model)
    card = (saved / "README.md").read_text()
    assert "library_name: discern" in card and "from_pretrained" in card
    again = HubModel.from_pretrained(saved)
    assert again.predict([photo], top=3) == predict_files(model, [photo], top=3)
    again.save_pretrained(saved)  # over itself
    assert contents(saved) == contents(model)


def test_what_was_altered_or_is_not_signed_is_refused(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    HubModel.of(model).save_pretrained(saved)
    private, public = make_signing_key(tmp_path / "key")
    with pytest.raises(IntegrityError, match="not signed"):
        HubModel.from_pretrained(saved, require_signature=public)
    sign(saved, read_private(private))
    signed = HubModel.from_pretrained(saved, require_signature=public)
    signed.save_pretrained(tmp_path / "more")  # the signature goes along
    HubModel.from_pretrained(tmp_path / "more", require_signature=public)
    (saved / "labels.json").write_text('["x", "y", "z"]')
    with pytest.raises(IntegrityError):
        HubModel.from_pretrained(saved)


def test_what_goes_up_is_the_bundle_and_a_card(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {}

    def create_repo(self: Any, repo_id: str, **rest: Any) -> Any:
        return type("Repo", (), {"repo_id": repo_id})()

    def upload_folder(self: Any, *, folder_path: Any, repo_id: str, **rest: Any) -> str:
        sent.update(contents(Path(folder_path)), repo=repo_id)
        return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.upload_folder", upload_folder)
    HubModel.of(model).push_to_hub("me/birds")
    assert sent.pop("repo") == "me/birds"
    assert sent == contents(model)


def test_what_comes_down_may_be_links_as_the_cache_has_them(
    model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
    shutil.copytree(model, blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        os.symlink(path, snapshot / path.name)
    asked: dict[str, Any] = {}

    def fetch(model_id: str, **settings: Any) -> str:
        asked.update(settings, model=model_id)
        return str(snapshot)

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", lambda **_: None)
    for _ in range(2):
        found = HubModel.from_pretrained("me/birds", revision="v1")
    assert asked["model"] == "me/birds" and asked["revision"] == "v1"
    assert set(asked["allow_patterns"]) >= {"model.safetensors", "manifest.json", "signature.json"}
    assert not any("*" in pattern or "bin" in pattern for pattern in asked["allow_patterns"])
    assert found.predict([photo]) == predict_files(model, [photo])
