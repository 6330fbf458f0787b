"""Bundles: what was saved comes back, what was altered is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from discern.clip import Kind
from discern.errors import IntegrityError, UsageError
from discern.models.discriminator import DiscriminatorConfig
from discern.models.model import Model, ModelConfig, named_tensors
from discern.models.weights import (
    FILES,
    GUARD,
    MANIFEST,
    Bundle,
    find_bundle,
    load_bundle,
    save_bundle,
)
from discern.security.certainty import Certainty
from discern.security.guard import GuardConfig, fit_guard
from discern.security.scores import Evidence
from tests.tiny import backbone_config, generator_config, rng


def _model(seed: int = 0, **changes: Any) -> Model:
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "backbone": backbone_config(learned_grid=(1, 4, 4), positions="learned"),
        "discriminator": DiscriminatorConfig(),
        "generator": generator_config(),
        "classes": 2,
        "own_encoder": True,
    }
    return Model(ModelConfig(**(parts | changes))).eval()


def _guarded() -> Certainty:
    features = torch.randn(120, 32, generator=rng())
    found = Evidence(features, features[:, :2], features, features[:, 0])
    guard, facts = fit_guard(found, torch.zeros(120).long(), found, GuardConfig())
    assert guard is not None
    return Certainty(temperature=1.25, guards={Kind.IMAGE: guard}, facts={"image": facts})


def _save(folder: Path, model: Model | None = None, certainty: Certainty | None = None) -> Path:
    save_bundle(
        folder,
        model or _model(),
        labels=["cat", "dog"],
        preprocess={"height": 16},
        made={"verb": "train"},
        certainty=certainty,
    )
    return folder


@torch.no_grad()
def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    model = _model()
    bundle = load_bundle(_save(tmp_path / "model", model))
    assert bundle.labels == ["cat", "dog"] and bundle.preprocess == {"height": 16}
    assert bundle.made == {"verb": "train"} and bundle.path == tmp_path / "model"
    assert bundle.model.config == model.config and not bundle.model.training
    found = named_tensors(bundle.model)
    assert all(torch.equal(found[name], value) for name, value in named_tensors(model).items())
    assert not any(parameter.requires_grad for parameter in bundle.model.parameters())
    clip = torch.randn(2, 3, 1, 16, 16, generator=rng())
    assert torch.equal(bundle.model(clip), model(clip))


def test_shared_tensors_are_stored_once_and_shared_again(tmp_path: Path) -> None:
    _save(tmp_path / "model", _model(own_encoder=False))
    stored = safetensors.torch.load_file(tmp_path / "model/model.safetensors")
    assert not any(name.startswith("discriminator.backbone") for name in stored)
    model = load_bundle(tmp_path / "model").model
    assert model.discriminator is not None and model.discriminator.backbone is model.backbone


def test_a_newer_one_takes_the_place_of_the_older(tmp_path: Path) -> None:
    _save(tmp_path / "model", _model(0))
    (tmp_path / "model/extra.txt").write_text("of the old one")
    _save(tmp_path / "model", _model(1))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {*FILES, MANIFEST}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    first, second = (named_tensors(m) for m in (_model(1), load_bundle(tmp_path / "model").model))
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_a_run_folder_leads_to_its_model(tmp_path: Path) -> None:
    _save(tmp_path / "run/model")
    assert find_bundle(tmp_path / "run") == tmp_path / "run/model"
    assert find_bundle(str(tmp_path / "run/model")) == tmp_path / "run/model"
    with pytest.raises(UsageError, match="does not exist"):
        load_bundle(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no model in it"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_byte_is_refused(tmp_path: Path, name: str) -> None:
    path = _save(tmp_path / "model") / name
    good = path.read_bytes()
    for place in (0, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match=f"{name}.*SHA-256"):
            load_bundle(tmp_path / "model")
    path.write_bytes(good[:-1])
    with pytest.raises(IntegrityError, match=name):
        load_bundle(tmp_path / "model")
    path.write_bytes(good)
    assert isinstance(load_bundle(tmp_path / "model"), Bundle)


def test_a_missing_or_linked_file_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "model") / "labels.json"
    path.rename(tmp_path / "elsewhere.json")
    with pytest.raises(IntegrityError, match="labels.json: missing"):
        load_bundle(tmp_path / "model")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(IntegrityError, match="not a plain file"):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold an object"),
        ('{"format": "discern-model/99", "files": {}}', "discern-model/99"),
        ('{"format": "discern-model/1", "files": {}}', "must name exactly"),
        ('{"format": "discern-model/1", "files": []}', "must name exactly"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (_save(tmp_path / "model") / MANIFEST).write_text(content)
    with pytest.raises(IntegrityError, match=said):
        load_bundle(tmp_path / "model")


def _reseal(folder: Path, name: str, data: bytes) -> None:
    """Exchange a file and write its sum into the manifest, as a careless tool would."""
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = _save(tmp_path / "model")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "backbone.norm.weight"
    for changed, said in (
        ({**tensors, name: torch.zeros(33)}, r"norm.weight has shape \[33\], not \[32\]"),
        ({k: v for k, v in tensors.items() if k != name}, "do not fit.*norm.weight"),
        ({**tensors, "more": torch.zeros(1)}, "do not fit.*more"),
    ):
        _reseal(folder, "model.safetensors", safetensors.torch.save(changed))
        with pytest.raises(IntegrityError, match=said):
            load_bundle(folder)
    _reseal(folder, "model.safetensors", b"no safetensors")
    with pytest.raises(IntegrityError, match="not a safetensors file"):
        load_bundle(folder)


def test_labels_must_be_as_many_as_logits(tmp_path: Path) -> None:
    folder = _save(tmp_path / "model")
    for labels in (["cat"], {"cat": 0}):
        _reseal(folder, "labels.json", json.dumps(labels).encode())
        with pytest.raises(IntegrityError, match="must list 2 class names"):
            load_bundle(folder)


def test_a_guard_comes_back(tmp_path: Path) -> None:
    sure = _guarded()
    folder = _save(tmp_path / "model", certainty=sure)
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == {*FILES, GUARD}
    found = load_bundle(folder).certainty
    assert found.temperature == 1.25 and found.facts == sure.facts
    stored = sure.tensors()
    assert stored.keys() == found.tensors().keys()
    assert all(torch.equal(stored[name], value) for name, value in found.tensors().items())
    _save(folder)  # a newer one without
    assert not (folder / GUARD).exists() and load_bundle(folder).certainty == Certainty()


def test_a_bundle_of_before_is_read(tmp_path: Path) -> None:
    folder = _save(tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    del settings["certainty"]
    _reseal(folder, "config.json", json.dumps(settings).encode())
    assert load_bundle(folder).certainty == Certainty()


def test_an_altered_guard_is_refused(tmp_path: Path) -> None:
    folder = _save(tmp_path / "model", certainty=_guarded())
    good = (folder / GUARD).read_bytes()
    for place in (0, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        (folder / GUARD).write_bytes(bad)
        with pytest.raises(IntegrityError, match=f"{GUARD}.*SHA-256"):
            load_bundle(folder)
    (folder / GUARD).unlink()
    with pytest.raises(IntegrityError, match=f"{GUARD}: missing"):
        load_bundle(folder)
    _reseal(folder, GUARD, b"no safetensors")
    with pytest.raises(IntegrityError, match="not a safetensors file"):
        load_bundle(folder)
    _reseal(folder, GUARD, safetensors.torch.save({"image.bank": torch.zeros(3, 32)}))
    with pytest.raises(IntegrityError, match="not a guard for this model"):
        load_bundle(folder)


def test_a_kill_between_the_renames_leaves_the_older_one(tmp_path: Path) -> None:
    from tests.seal.conftest import tiny_model

    folder = tmp_path / "run" / "model"
    save_bundle(folder, tiny_model(), labels=["a", "b"], preprocess={}, made={})
    folder.rename(folder.parent / ".tmp-old-model")
    for name in (folder, folder.parent):
        assert load_bundle(name).labels == ["a", "b"]
    save_bundle(folder, tiny_model(), labels=["c", "d"], preprocess={}, made={})
    assert load_bundle(folder).labels == ["c", "d"]
