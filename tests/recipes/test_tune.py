"""The search of settings: on made-up folders, with Optuna."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.errors import Interrupted, UsageError
from discern.recipes import tune as recipe
from discern.recipes.tune import tune
from tests.tiny import ENCODER, EXACT

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'discern[tune]'")

TINY = [*ENCODER, *EXACT, "guard.false_alarms=0", "loop.evaluations=6"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("tune") / "photos"
    for label, low in (("dark", 0), ("light", 90)):
        (folder / label).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(low, low + 160, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def _tune(photos: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"trials": 3, "steps": 6, "overrides": TINY}
    return tune([str(photos)], out, **(settings | changes))


def test_it_says_whether_the_defaults_were_beaten(photos: Path, tmp_path: Path) -> None:
    found = _tune(photos, tmp_path / "out", trials=6)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["verb"] == "tune"
    assert found["trials"] == 6 and found["stopped_by"] == "trials"
    best, first = found["validation_accuracy"], found["defaults_validation_accuracy"]
    assert found["beats_defaults"] == (best > first)
    assert ("keep" in found["verdict"]) or f"{best:.1%}" in found["verdict"]
    assert set(found["settings"]) in (set(), set(recipe.SPACE))
    assert found["tested"].keys() == {"defaults", "best"}
    assert Path(found["model"], "manifest.json").is_file()
    assert "validation" in (tmp_path / "out" / "report.html").read_text()
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(6))


def test_trials_stay_in_the_space_and_leave_what_set_names(photos: Path, tmp_path: Path) -> None:
    _tune(photos, tmp_path / "out", overrides=[*TINY, "optim.rate=0.001"])
    lines = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert not set(recipe.SPACE) & set(lines[0])
    for line in lines[1:]:
        assert "optim.rate" not in line
        for name, span in recipe.SPACE.items():
            if name == "optim.rate":
                continue
            inside = (
                line[name] in span
                if isinstance(span, tuple)
                else span.low <= line[name] <= span.high
            )
            assert inside, (name, line[name])
    assert lines[1]["optim.weight_decay"] != lines[2]["optim.weight_decay"]


def test_trials_never_see_the_test_split(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def spy(*args: Any, test: bool = True, **named: Any) -> dict[str, Any]:
        told.append(test)
        return {"validation_accuracy": 0.5}

    monkeypatch.setattr(recipe, "train", spy)
    found = _tune(photos, tmp_path / "out")
    assert told == [False, False, False]
    assert found["tested"] == {}  # there is no model to test at the end
    assert not found["beats_defaults"] and "keep" in found["verdict"]


def test_a_broken_search_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = recipe.train, []

    def breaks(*args: Any, **named: Any) -> dict[str, Any]:
        calls.append(named["overrides"])
        if len(calls) == 2:
            raise Interrupted(tmp_path / "out", "SIGINT")
        return whole(*args, **named)

    monkeypatch.setattr(recipe, "train", breaks)
    with pytest.raises(Interrupted):
        _tune(photos, tmp_path / "out")
    found = _tune(photos, tmp_path / "out")
    assert found["trials"] == 3 and len(calls) == 4
    assert calls[0] == TINY and calls[2] != calls[3]  # the defaults were not run again


def test_one_trial_is_no_search(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 at least"):
        _tune(photos, tmp_path / "out", trials=1)
