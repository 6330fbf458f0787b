"""`--size auto`: which size is chosen for which times, and that a resumed run keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discern.cli import main
from discern.clip import Kind
from discern.models.backbone import SIZES
from discern.recipes import fit, images
from discern.train.settings import RunConfig
from tests.faults.killing import write_pictures


def by_work(config: RunConfig, kind: Kind) -> float:
    """A machine on which `nano` takes a tenth of a second."""
    work = config.backbone.depth * config.backbone.width**2
    return 0.1 * work / (4 * 128**2)


def tried(size: str) -> RunConfig:
    return images.sized(images.masked_gan(), size)


@pytest.mark.parametrize(
    ("minutes", "size"),
    [
        (0.1, "hybrid_pico"),
        (2.6, "hybrid"),
        (20, "hybrid"),
        (25, "hybrid_small"),
        (300, "base"),
        (1e6, "large"),
    ],
)
def test_the_largest_that_takes_enough_steps(minutes: float, size: str) -> None:
    found = fit.chosen(tried, Kind.IMAGE, minutes, 1500, by_work)
    assert found == size


def test_what_does_not_fit_the_memory_ends_the_search() -> None:
    asked: list[int] = []

    def full(config: RunConfig, kind: Kind) -> float:
        asked.append(config.backbone.width)
        if config.backbone.width > 200:
            raise RuntimeError("out of memory")
        return 1e-6

    assert fit.chosen(tried, Kind.IMAGE, 60, 1500, full) == "hybrid"
    assert asked == [64, 128, 384]


def test_a_step_of_a_trial_is_one_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    config = replace(images.supervised(), threads=1, precision="fp32")
    loader = replace(config.data.loader, batch_size=4)
    size = replace(config.data.preprocess, height=16, width=16)
    config = replace(config, data=replace(config.data, loader=loader, preprocess=size))
    for kind in Kind:
        assert 0 < fit.seconds_per_step(config, kind) < 30


def test_an_unfinished_run_keeps_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_pictures(tmp_path / "data", 24, 16), tmp_path / "run"
    times = iter([0.001] * 2 + [1e9] * 99)  # `hybrid` and no more, and never again
    monkeypatch.setattr(fit, "seconds_per_step", lambda config, kind: next(times))
    words = ["pretrain", str(data), "--out", str(out), "--size", "auto"]
    words += ["--set", "precision=fp32", "--set", "threads=1", "--set", "loop.steps=1"]
    assert main(words) == 2 and "--minutes" in capsys.readouterr().err
    words += ["--minutes", "10"]
    assert main(words) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]["backbone"]
    shape = SIZES["hybrid"] | {"patch": 4}  # of pictures of 16 pixels
    assert {name: settings[name] for name in shape} == shape
    (out / "results.json").unlink()
    assert main(words) == 0  # the same command goes on, though the machine is slower now
    assert json.loads((out / "results.json").read_text())["steps"] == 1
    assert main(["compare", str(data), "--out", str(tmp_path / "c"), "--size", "auto"]) == 2
