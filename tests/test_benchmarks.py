"""Published numbers come from committed JSON."""

import json
import subprocess
import sys
from pathlib import Path

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
