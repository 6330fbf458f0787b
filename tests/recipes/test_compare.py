"""What is held against the pre-trained model: the same network, in the same minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from discern.errors import UsageError
from discern.recipes.compare import PRETRAIN_SHARE, compare
from discern.recipes.pretrain import pretrain
from tests.faults.killing import write_pictures
from tests.tiny import ENCODER, EXACT

MINUTES = 0.01


def _settings(run: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((run / "config.json").read_text())["settings"]
    return settings


def test_from_scratch_gets_the_minutes_of_the_pre_training_too(tmp_path: Path) -> None:
    data, out = write_pictures(tmp_path / "data", 24, 16), tmp_path / "out"
    found = compare(str(data), out, minutes=MINUTES, overrides=[*ENCODER, *EXACT])
    minutes = {
        name: _settings(out / name)["loop"]["minutes"]
        for name in ("pretrained", "pretrained-all", "scratch-all")
    }
    assert minutes["pretrained"] == PRETRAIN_SHARE * MINUTES
    assert minutes["scratch-all"] == minutes["pretrained"] + minutes["pretrained-all"]
    blocks = found["images"]
    assert blocks["pretrained"]["pretrain_seconds"] >= 60 * minutes["pretrained"]
    assert "pretrain_seconds" not in blocks["scratch"]
    page = (out / "report.html").read_text()
    assert "training from scratch in as many minutes" in page


def test_from_scratch_is_the_network_that_was_pre_trained(tmp_path: Path) -> None:
    data, out = write_pictures(tmp_path / "data", 24, 16), tmp_path / "out"
    # nothing of it is as it comes
    other = ["backbone.stem=conv", "backbone.sees=edges", "backbone.mlp_ratio=2"]
    other += ["backbone.layer_scale=null", "backbone.qk_norm=false", "backbone.pool=class"]
    other += ["backbone.class_token=true"]
    base = tmp_path / "base"
    pretrain(str(data), base, steps=1, overrides=[*ENCODER, *EXACT, *other])
    found = compare(str(data), out, minutes=MINUTES, base=base, overrides=EXACT)
    tuned, scratch = (_settings(out / f"{name}-all") for name in ("pretrained", "scratch"))
    assert tuned["backbone"]["sees"] == "edges"
    assert scratch["backbone"] == tuned["backbone"]
    # how long the base was pre-trained is not known, so both are tuned alike
    assert scratch["loop"]["minutes"] == tuned["loop"]["minutes"] == MINUTES
    assert "pretrain_seconds" not in found["images"]["pretrained"]


def test_a_base_brings_its_own_size(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", 24, 16)
    with pytest.raises(UsageError, match="brings its own encoder"):
        compare(str(data), tmp_path / "out", base="discern-nano", size="pico")
