"""The first verbs once for all tests of verbs, and short trainings from where they end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from discern.cli import main
from discern.data.synthetic import DigitsConfig, write_digits
from tests.child import child
from tests.verbs.scene import COMMON, ENCODER, GENERATOR, Scene, flags


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("verbs")
    data = write_digits(
        root / "data", config=DigitsConfig(train_clips=24, test_clips=16, frames=6, images=80)
    )
    made = Scene(root, data, root / "pretrained", root / "tuned", {})
    settings = flags(*ENCODER, *GENERATOR, *COMMON)
    words = ("pretrain", data, "--out", made.pretrained, "--steps", 6, *settings)
    made.answers["pretrain"] = child(*words, "--json")
    words = ("train", data, "--from", made.pretrained, "--out", made.tuned, "--steps", 8)
    # few items: a rate that they can tell
    made.answers["train"] = child(*words, *flags(*COMMON, "guard.false_alarms=0.2"), "--json")
    for code, _, said in made.answers.values():
        assert code == 0, said
    return made


@pytest.fixture
def make_run(scene: Scene, tmp_path: Path) -> Callable[..., Path]:
    def make(*more: str) -> Path:
        words = ["train", str(scene.data), "--from", str(scene.pretrained), "--steps", "1"]
        assert main([*words, "--out", str(tmp_path / "run"), *flags(*COMMON), *more]) == 0
        return tmp_path / "run"

    return make
