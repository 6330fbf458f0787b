"""Published numbers come from committed JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_readme_and_results_say_what_the_json_says() -> None:
    page = [sys.executable, str(ROOT / "benchmarks" / "page.py"), "--check"]
    found = subprocess.run(page, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"run python benchmarks/page.py; {found.stderr}"


def test_every_result_says_how_it_was_made() -> None:
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        found = json.loads(path.read_text())
        assert found["command"], path
        assert str(ROOT.parent) not in path.read_text(), f"{path.name} holds a path of a machine"


def test_margins_say_by_how_much_a_bar_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from few_labels import BARS, margins

    cells = {
        "pretrain-0": {"steps": 3},
        "pretrained-0": {"accuracy": 0.6},
        "scratch-0": {"accuracy": 0.5},
        "handcrafted-0": {"methods": {"hog_svm": {"accuracy": 0.7}}},
        "pretrained-1": {"accuracy": 0.5},
        "scratch-1": {"accuracy": 0.5},
        "scratch-2": {"accuracy": 0.9},  # nothing to compare it with yet
    }
    found = margins(cells, {"scratch": 0.08, "hog_svm": -0.2})
    assert found["scratch"]["mean"] == pytest.approx(0.05) and found["scratch"]["seeds"] == 2
    assert found["scratch"]["missed_by"] == pytest.approx(0.03)
    assert found["hog_svm"]["mean"] == pytest.approx(-0.1) and found["hog_svm"]["missed_by"] == 0
    for path in (ROOT / "benchmarks" / "results").glob("few_labels_*.json"):
        result = json.loads(path.read_text())
        assert result["margins"] == margins(result["cells"], BARS[result["data"]]), path
