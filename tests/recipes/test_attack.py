"""The verb `attack` on a tiny model: its keys, its report, its gate, and who is told what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from discern.cli import main
from discern.data.clipset import ClipSet
from discern.models.backbone import BackboneConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.recipes.certainty import learn_certainty
from discern.security.guard import GuardConfig
from tests.tiny import random_sets


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attack")
    torch.manual_seed(0)
    shape = BackboneConfig(width=32, depth=1, heads=2, patch=4, stem="linear")
    model = Model(ModelConfig(backbone=shape, classes=2)).eval()
    assert model.classifier is not None
    model.classifier.head.weight.data *= 20
    sets: dict[object, ClipSet] = dict(random_sets(images=60))  # type: ignore[arg-type]
    for items in sets.values():
        items.labels = items.labels % 2
    sure = learn_certainty(model, sets, {}, GuardConfig(false_alarms=0.2, head=True), 0)  # type: ignore[arg-type]
    size = {"height": 16, "width": 16}
    save_bundle(
        folder / "model", model, labels=["dark", "light"], preprocess=size, made={}, certainty=sure
    )
    drawn = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 120)):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(8):
            pixels = drawn.integers(low, low + 130, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.png")
    return folder


WORDS = ("--items", "10", "--steps", "3", "--json")


def test_what_it_says(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["attack", str(place / "model"), str(place / "photos"), "--out", str(out), *WORDS]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    attack = found["attack"]
    assert found["samples"] == 10 and attack["eps"] == pytest.approx(8 / 255)
    assert list(attack["after"]) == ["fgsm", "pgd"] and attack["steps"] == {"fgsm": 1, "pgd": 3}
    assert attack["worst_case"] == attack["after"]["pgd"] <= found["accuracy"]
    curve = attack["curve"]
    assert curve[0] == [0.0, found["accuracy"]] and len(curve) == 7
    assert all(b <= a for (_, a), (_, b) in zip(curve, curve[1:], strict=False))
    assert set(attack["guard"]) == {"samples", "clean", "attacked", "joint"}
    assert all(len(levels) == 5 for levels in attack["corruptions"].values())
    assert ("robust" in found["verdict"]) == (attack["flags"] == [])
    page = (out / "report.html").read_text()
    assert "Under attack" in page and "The guard under attack" in page


def test_the_gate_and_wrong_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["attack", str(place / "model"), str(place / "photos"), *WORDS]
    assert main([*words, "--at-least", "1", "--eps", "0.5"]) == 5
    assert main([*words, "--norm", "l2", "--eps", "0.1"]) == 0
    for wrong in (("--eps", "none"), ("--norm", "l1"), ("--suite", "hard"), ("--at-least", "50")):
        assert main([*words, *wrong]) == 2
    capsys.readouterr()


def test_robust_is_not_said_while_a_flag_is_up(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from discern.recipes import attack

    monkeypatch.setattr(attack, "red_flags", lambda *a, **k: ["gradients mislead"])
    assert main(["attack", str(place / "model"), str(place / "photos"), *WORDS[:-1]]) == 0
    printed = capsys.readouterr().out
    assert "robust" not in printed and "gradients mislead" in printed


def test_what_is_proven_stands_beside_what_is_attacked(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proven"
    words = ["attack", str(place / "model"), str(place / "photos"), "--out", str(out), *WORDS]
    assert main([*words, "--certify", "0.1"]) == 0
    proven = json.loads(capsys.readouterr().out)["attack"]["smoothing"]
    assert proven["sigma"] == 0.1 and proven["samples"] == 10 and proven["copies"] == 1000
    shares = [share for _, share in proven["curve"]]
    assert shares == sorted(shares, reverse=True) and shares[0] == proven["accuracy"]
    assert proven["curve"][-1][0] == pytest.approx(0.3)
    assert proven["accuracy"] + proven["abstained"] <= 1
    assert "randomized smoothing" in (out / "report.html").read_text()
    assert main([*words[:3], "--certify", "-1", *WORDS]) == 2
