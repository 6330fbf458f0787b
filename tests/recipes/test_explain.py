"""The verb `explain`: pictures and numbers for an image and a clip, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from discern.cli import main
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.synthetic import DigitsConfig, write_digits
from discern.explain.overlay import overlay
from discern.models.backbone import BackboneConfig
from discern.models.generator import GeneratorConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.recipes.explain import over_time


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=32, depth=1, heads=2)
    generator = GeneratorConfig(width=32, depth=1, heads=2)
    made = Model(ModelConfig(backbone=backbone, generator=generator, classes=3, own_encoder=True))
    folder = tmp_path_factory.mktemp("explain") / "model"
    preprocess = {"height": 16, "width": 24, "frames": 4, "stored_frames": 4}
    save_bundle(folder, made, labels=["a", "b", "c"], preprocess=preprocess, made={})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DigitsConfig(train_clips=8, test_clips=8, frames=6, images=40)
    return write_digits(tmp_path_factory.mktemp("explain-data"), config=config)


@pytest.mark.parametrize("method", ["occlusion", "relevance", "gradients", "attention", "chance"])
def test_an_image(
    model: Path, data: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = next(data.glob("test/*/*.png")), tmp_path / "heat.png"
    words = ["explain", str(model), str(image), "--out", str(out), "--method", method, "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["method"] == method and found["label"] in ("a", "b", "c")
    assert 0 <= found["deletion"] <= 1 and 0 <= found["insertion"] <= 1
    with Image.open(out) as picture:
        width, height = picture.size
    assert width == 3 * 24 * 11 + 4 and height == 16 * 11  # item, heat and painting, 11-fold
    assert main([*words, "--label", "b"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "b"


def test_a_clip(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = next(data.glob("test/*/*.mp4")), tmp_path / "heat.mp4"
    assert main(["explain", str(model), str(clip), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["time"]) == 4 and sum(found["time"]) == pytest.approx(1, abs=1e-3)
    frames = decode(out.read_bytes(), Limits()).frames
    assert len(frames) == 4 and frames.shape[1] == 16 * 11 + 24  # the curve below


def test_what_is_refused(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next(data.glob("test/*/*.png")))
    words = ["explain", str(model), image, "--out"]
    for more, code, said in (
        ([str(tmp_path / "x.txt")], 2, "write a .png"),
        ([str(tmp_path / "x.png"), "--label", "z"], 2, "there are a, b, c"),
        ([str(tmp_path / "x.png"), "--method", "magic"], 2, "there are occlusion"),
    ):
        assert main([*words, *more]) == code
        assert said in capsys.readouterr().err
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert main(["explain", str(model), str(broken), "--out", str(tmp_path / "x.png")]) == 4
    assert main(["explain", str(model), "nowhere.png", "--out", str(tmp_path / "x.png")]) == 2
    assert not (tmp_path / "x.png").exists()


def test_overlay_is_hot_where_the_heat_is() -> None:
    heat = torch.zeros(2, 4, 4)
    heat[1, 0, 0] = 1
    frames = np.full((4, 32, 32, 3), 100, dtype=np.uint8)
    found = overlay(frames, heat).astype(int)
    assert (
        found[3, 2, 2].sum() > found[3, 28, 28].sum() + 100 and (found[0] == found[0, 0, 0]).all()
    )
    np.testing.assert_allclose(over_time(heat, 4), [0, 0, 0.5, 0.5])
