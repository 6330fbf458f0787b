"""A public encoder on disk is tuned, and pre-trained further, by the same verbs as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from discern.cli import main
from discern.data.synthetic import DigitsConfig, write_digits
from discern.models.weights import load_bundle
from tests.tiny import rng

WIDTH, PATCH, SIDE = 64, 8, 16
SHORT = ("--steps", "2", "--set", "precision=fp32", "--set", "threads=1", "--json")
GENERATOR = ("--set", "generator.width=32", "--set", "generator.depth=1", "--set")
GENERATOR += ("generator.heads=2",)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block under timm's names, 16 x 16 pixels in patches of 8, as timm's hub has it."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "blocks.0.attn.qkv.weight": (3 * WIDTH, WIDTH),
        "blocks.0.attn.qkv.bias": (3 * WIDTH,),
        "blocks.0.attn.proj.weight": (WIDTH, WIDTH),
        "blocks.0.attn.proj.bias": (WIDTH,),
        "blocks.0.mlp.fc1.weight": (4 * WIDTH, WIDTH),
        "blocks.0.mlp.fc1.bias": (4 * WIDTH,),
        "blocks.0.mlp.fc2.weight": (WIDTH, 4 * WIDTH),
        "blocks.0.mlp.fc2.bias": (WIDTH,),
        "head.weight": (7, WIDTH),
    }
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    state = {name: 0.1 * torch.randn(shape, generator=rng()) for name, shape in shapes.items()}
    folder = tmp_path_factory.mktemp("public")
    safetensors.torch.save_file(state, folder / "model.safetensors")
    scaling = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, SIDE, SIDE]}
    about = {"architecture": "vit_odd", "global_pool": "token", "pretrained_cfg": scaling}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DigitsConfig(train_clips=12, test_clips=8, frames=6, images=80)
    return write_digits(tmp_path_factory.mktemp("public-data") / "digits", config=config)


def test_tuned_on_images_and_clips(
    vit: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "tuned"
    assert main(["train", str(data), "--from", str(vit), "--out", str(run), *SHORT]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["steps"] == 2 and answer["base"] == str(vit)
    assert {"images", "clips"} <= set(answer)
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["optim"]["rate"] == 5e-4 and settings["optim"]["layer_decay"] == 0.75
    assert settings["backbone"]["learned_grid"] == [1, 2, 2]
    assert settings["data"]["preprocess"]["height"] == SIDE
    model = load_bundle(run).model
    moved = model.backbone.state_dict()["blocks.0.attn.qkv.weight"]
    stored = safetensors.torch.load_file(vit / "model.safetensors")["blocks.0.attn.qkv.weight"]
    assert 0 < (moved - stored).abs().max() < 0.01  # it started there
    item = next(data.glob("test/*/*.mp4"))
    assert main(["predict", str(run), str(item), "--json"]) == 0


def test_pretrained_further(
    vit: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "further"
    words = ["pretrain", str(data), "--from", str(vit), "--out", str(run), *SHORT, *GENERATOR]
    assert (
        main([*words, "--set", "data.preprocess.height=24", "--set", "data.preprocess.width=24"])
        == 0
    )
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["optim"]["rate"] == 1.5e-4 and settings["data"]["preprocess"]["height"] == 24
    assert load_bundle(run).model.generator is not None
    capsys.readouterr()
    tuned = tmp_path / "tuned"
    assert main(["train", str(data), "--from", str(run), "--out", str(tuned), *SHORT]) == 0
    assert main(["generate", str(tuned), "--count", "2", "--out", str(tmp_path / "s.png")]) == 0


def test_what_cannot_be_started_from(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled = tmp_path / "vit.pth"
    pickled.write_bytes(b"\x80\x04")
    words = ["train", str(data), "--out", str(tmp_path / "run"), "--from"]
    assert main([*words, str(pickled)]) == 2
    assert "never pickle" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "nowhere")]) == 2
    assert main([*words, "nowhere", "--size", "tiny"]) == 2
    assert main([*words, "hf:odd", "--size", "tiny"]) == 2
    assert "--size tiny: --from hf:odd brings its own encoder" in capsys.readouterr().err
    assert main([*words, "hf:odd"]) == 2
    assert "write timm:" in capsys.readouterr().err
