"""Answers in bf16: those of fp32 but for rounding, where they are asked for and nowhere else."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import discern.predict as answering
from discern.clip import Kind
from discern.errors import ConfigError, UsageError
from discern.gallery.people import vectors_of
from discern.predict import classify, evidence, load, look, predict_files, probabilities
from discern.scale.precision import Precision
from tests.tiny import a_model, batch, random_sets


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision") / "model"
    return a_model(folder, sharpness=3.0, depth=2, stem="conv")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precision") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_every_answer_is_computed_in_it(model: Path, photo: Path) -> None:
    items = random_sets(12)[Kind.IMAGE]
    clip = answering.read_file(photo, answering.preprocessing(load(model)), answering.Limits())
    found = {}
    for precision in ("fp32", "bf16"):
        bundle = load(model, precision=precision)
        (said,) = predict_files(model, [photo], top=3, precision=precision)
        (twice,) = predict_files(model, [photo], top=3, precision=precision, views=2)
        found[precision] = {
            "look": look(bundle.model, [batch(4)], head=False).logits.numpy(),
            "evidence": evidence(bundle.model, items, head=False, views=2).logits.numpy(),
            "probabilities": probabilities(bundle.model, items),
            "classify": classify(bundle, [clip]),
            "predict": np.array([one["probability"] for one in said["top"]]),
            "views": np.array([one["probability"] for one in twice["top"]]),
        }
    for name, plain in found["fp32"].items():
        halved = found["bf16"][name]
        assert not np.array_equal(plain, halved), name
        np.testing.assert_allclose(plain, halved, atol=0.03 * np.abs(plain).max(), err_msg=name)


def test_logits_are_not_rounded_to_16_bits(model: Path) -> None:
    logits = look(load(model, precision="bf16").model, [batch(8)], head=False).logits
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_a_training_around_it_keeps_its_own_precision(model: Path) -> None:
    """An evaluation within autocast is not thrown back to 32 bits."""
    plain = load(model).model
    alone = look(plain, [batch(4)], head=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = look(plain, [batch(4)], head=False)
    assert not torch.equal(inside.features, alone.features)
    assert torch.equal(inside.features, inside.features.bfloat16().float())


def test_the_model_itself_stays_in_32_bits(model: Path) -> None:
    """What explains or enrols beside the answers needs it as it is; and the copy is made once."""
    gc.collect()  # models of other tests
    bundle = load(model, precision="bf16")
    before = {name: one.clone() for name, one in bundle.model.state_dict().items()}
    first, again = (look(bundle.model, [batch(4)], head=False) for _ in range(2))
    assert torch.equal(first.logits, again.logits)
    assert len(answering._HALVED) == 1
    for name, one in bundle.model.state_dict().items():
        assert one.dtype == torch.float32 and torch.equal(one, before[name]), name
    del bundle, one
    gc.collect()
    assert not answering._HALVED


def test_a_gallery_holds_vectors_of_one_kind(model: Path) -> None:
    """Who was enrolled by one server is found by another."""
    vectors = [
        vectors_of(load(model, precision=precision), [batch(3)]) for precision in ("fp32", "bf16")
    ]
    assert np.array_equal(*vectors)


def test_auto_is_timed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def choose(wanted: str, device: torch.device) -> Precision:
        asked.append(wanted)
        return Precision.BF16

    monkeypatch.setattr(answering, "choose_precision", choose)
    assert load(model, precision="auto").model.precision == "bf16"
    assert asked == ["auto"]


def test_what_there_is_not_is_refused(model: Path, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'int8' does not exist: choose one of auto, bf16, fp32"):
        load(model, precision="int8")
    export = pytest.importorskip("discern.recipes.export")
    pytest.importorskip("onnxruntime")
    export.export(model, "onnx", tmp_path / "onnx")
    with pytest.raises(UsageError, match="an exported model has its own"):
        predict_files(tmp_path / "onnx", [photo], precision="bf16")


def test_scores_go_on_in_the_precision_they_began_with(
    model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    from discern.recipes.score import ABOUT, RESULTS, score

    out = tmp_path / "scores"
    score(str(photo.parent), model, out, precision="bf16")
    about = json.loads((out / ABOUT).read_bytes())
    assert about["precision"] == "bf16"
    (out / RESULTS).unlink()  # as if it had been stopped at the end
    with pytest.raises(UsageError, match="was begun with another precision"):
        score(str(photo.parent), model, out, precision="fp32")
    monkeypatch.setattr(answering, "choose_precision", lambda wanted, _: Precision(wanted))
    score(str(photo.parent), model, out, precision="auto")  # not timed anew: that would raise
    # begun before there was a choice
    (out / RESULTS).unlink()
    del about["precision"]
    (out / ABOUT).write_text(json.dumps(about))
    score(str(photo.parent), model, out, precision="fp32")
