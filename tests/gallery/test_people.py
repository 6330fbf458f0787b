"""Enrol, identify, verify, calibrate and remove, with a tiny network, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from discern.cli import main
from discern.clip import Batch
from discern.data.augment import to_float
from discern.gallery import people
from discern.gallery.search import Index
from discern.gallery.store import Gallery, read
from discern.models.backbone import BackboneConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import load_bundle, save_bundle
from tests.tiny import pixels

SIZE = {"height": 16, "width": 16}


def _model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    shape = BackboneConfig(width=32, depth=1, heads=2, patch=4, stem="linear")
    save_bundle(
        folder, Model(ModelConfig(backbone=shape)).eval(), labels=[], preprocess=SIZE, made={}
    )
    return folder


def _picture(path: Path, person: int, seed: int) -> Path:
    """A coarse pattern of a person, with noise of the moment."""
    pattern = np.random.default_rng(person).integers(0, 256, (4, 4, 3))
    noise = np.random.default_rng([person, seed]).normal(0, 12, (16, 16, 3))
    pixels = np.kron(pattern, np.ones((4, 4, 1))) + noise
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    _model(folder / "model")
    for person in range(8):
        for number in range(6):
            _picture(folder / "people" / f"person {person}" / f"{number}.png", person, number)
    for person in range(20, 50):  # whom nobody enrols
        for number in range(6):
            _picture(folder / "others" / f"other {person}" / f"{number}.png", person, number)
    return folder


@pytest.fixture(autouse=True)
def sees_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a random network, which knows nobody: the pattern itself, as far as it fits."""

    def vectors(bundle: Any, batches: Any) -> np.ndarray:
        clips = torch.cat([batch.clip[:, :, 0].float() / 127.5 - 1 for batch in batches])
        coarse = torch.nn.functional.avg_pool2d(clips, 4).flatten(1)
        return np.asarray(coarse[:, : bundle.model.config.backbone.width].numpy())

    monkeypatch.setattr(people, "vectors_of", vectors)


def test_the_network_gives_one_vector_for_each_item(place: Path, monkeypatch: Any) -> None:
    monkeypatch.undo()
    bundle = load_bundle(place / "model")
    items = pixels(3, side=16)
    found = people.vectors_of(bundle, [Batch(clip=items[:2]), Batch(clip=items[2:])])
    torch.testing.assert_close(torch.from_numpy(found), bundle.model(to_float(items)))


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    code = main(["gallery", *map(str, words), "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


@pytest.fixture
def gallery(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    home = tmp_path / "known.gallery"
    for person in range(5):
        files = [place / "people" / f"person {person}" / f"{number}.png" for number in range(3)]
        code, found = _run(
            capsys, "enroll", home, f"person {person}", *files, "--model", place / "model"
        )
        assert code == 0 and found["names"] == person + 1 and found["added"] == 3
    return home


def test_those_enrolled_are_known_and_others_not(
    gallery: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by = ("--model", place / "model")
    code, found = _run(
        capsys, "calibrate", gallery, place / "others", *by, "--false-match", "0.001"
    )
    assert code == 0 and found["false_match_found"] <= 0.001 and found["classes"] == 30
    assert found["impostor_pairs"] == 30 * 29 * 3
    files = [place / "people" / f"person {person}" / "5.png" for person in range(8)]
    code, answers = _run(capsys, "identify", gallery, *files, *by, "--top", "2")
    assert code == 0
    assert [one["name"] for one in answers] == [f"person {n}" for n in range(5)] + [None] * 3
    assert all(one["calibrated"] and len(one["top"]) == 2 for one in answers)
    assert answers[0]["top"][0]["score"] >= answers[0]["threshold"]
    for name, same in (("person 1", True), ("person 2", False)):
        _, said = _run(capsys, "verify", gallery, name, files[1], *by)
        assert said["same"] is same


def test_who_is_removed_is_not_known_any_more(
    gallery: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(capsys, "remove", gallery, "person 3")[1]["removed"] == 3
    code, found = _run(capsys, "list", gallery)
    assert code == 0 and found["names"] == {f"person {n}": 3 for n in (0, 1, 2, 4)}
    assert b"person 3" not in gallery.read_bytes()
    picture = place / "people" / "person 3" / "0.png"
    assert _run(capsys, "verify", gallery, "person 3", picture, "--model", place / "model")[0] == 2


def test_class_folders_are_enrolled_at_once(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "g"
    code, found = _run(
        capsys, "enroll", home, "--source", place / "people", "--model", place / "model"
    )
    assert code == 0 and found["names"] == 8 and found["vectors"] == 48


def test_vectors_of_two_models_do_not_mix(
    gallery: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _model(tmp_path / "other", seed=1)
    picture, before = place / "people" / "person 0" / "0.png", gallery.read_bytes()
    for words in (("identify", gallery, picture), ("enroll", gallery, "x", picture)):
        assert main(["gallery", *map(str, words), "--model", str(other)]) == 2
        assert "another model" in capsys.readouterr().err
    assert gallery.read_bytes() == before


def test_a_rate_needs_pairs_and_strangers(
    gallery: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by = ("--model", str(place / "model"))
    words = ["gallery", "calibrate", str(gallery)]
    assert main([*words, str(place / "others"), *by, "--false-match", "0.00001"]) == 4
    assert "pairs" in capsys.readouterr().err
    assert main([*words, str(place / "people"), *by]) == 4
    assert "enrolled too" in capsys.readouterr().err


def test_unhappy_paths(
    gallery: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by = ("--model", str(place / "model"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    code, answers = _run(capsys, "identify", gallery, broken, *by)
    assert code == 4 and "error" in answers[0]
    assert main(["gallery", "enroll", str(gallery), "new", str(broken), *by]) == 4
    assert "new" not in read(gallery).names
    assert main(["gallery", "enroll", str(gallery), "new", *by]) == 2
    gallery.write_bytes(gallery.read_bytes()[:-1])
    assert main(["gallery", "list", str(gallery)]) == 6


def test_an_empty_gallery_knows_nobody() -> None:
    index = Index(Gallery.empty("a" * 64, 8))
    assert index.ranked(np.ones(8, dtype=np.float32), 3) == []


def test_the_best_picture_of_a_name_counts() -> None:
    gallery = Gallery.empty("a" * 64, 2)
    gallery.centre = np.zeros(2, dtype=np.float32)
    gallery.add("two sides", np.array([[1.0, 0.0], [0.0, 1.0]]))
    gallery.add("between", np.array([[1.0, 1.2]]))
    ranked = Index(gallery).ranked(np.array([0.0, 2.0], dtype=np.float32), 2)
    assert ranked[0] == ("two sides", pytest.approx(1.0)) and ranked[1][1] < 0.8
