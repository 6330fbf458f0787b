"""How long the demo trains: longer on a slow machine, and the same when it is taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discern.recipes import demo


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0.01, 2.5), (demo.QUICK, 2.5), (1.6 * demo.QUICK, 4.0), (60.0, 5.0)]
)
def test_a_slow_machine_gets_more_minutes(
    seconds: float,
    minutes: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "seconds_per_step", lambda config, kind: seconds)
    assert demo._fair_minutes(tmp_path) == pytest.approx(minutes)
    assert ("slow or busy" in capsys.readouterr().out) is (minutes > 2.5)
    # what was begun goes on with the minutes that it was begun with
    (tmp_path / "config.json").write_text(json.dumps({"settings": {"minutes": 3.25}}))
    assert demo._fair_minutes(tmp_path) == 3.25


def test_the_trial_is_a_step_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(demo, "seconds_per_step", lambda config, kind: asked.append(config) or 1e-3)
    demo._fair_minutes(tmp_path)
    (config,) = asked
    assert config.backbone.patch == 8 and config.data.loader.batch_size == 64
    assert (config.data.preprocess.height, config.data.preprocess.width) == (32, 32)
