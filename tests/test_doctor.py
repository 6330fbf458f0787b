"""The doctor: findings about this machine, and the way out of each problem."""

from __future__ import annotations

import json
from typing import Any

import pytest

from discern import doctor
from discern.cli import main


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return doctor.examine()


def test_findings_are_json(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found)) == found


def test_findings_of_this_machine(found: dict[str, Any]) -> None:
    assert 0 < found["cpu"]["usable"] <= found["cpu"]["cores"]
    assert 0 < found["memory"]["available"] <= found["memory"]["total"]
    assert 0 < found["disk"]["free"] <= found["disk"]["total"]
    assert found["torch"]["threads"] >= 1 and found["torch"]["fp32_ms"] > 0
    assert found["torch"]["precision"] in ("bf16", "fp32")
    assert "h264" in found["video"]["reads"]
    assert found["video"]["h264_roundtrip"] is True


def test_lines_name_every_missing_extra(found: dict[str, Any]) -> None:
    text = "\n".join(doctor.lines({**found, "extras": {"serve": ["fastapi"], "tune": []}}))
    assert "not installed: fastapi; pip install 'discern[serve]'" in text
    assert "extra tune  installed" in text


def test_problems_have_a_way_out(found: dict[str, Any]) -> None:
    broken = {
        **found,
        "torch": {"error": "ImportError: no"},
        "torchvision": {
            "installed": True,
            "version": "1",
            "error": "RuntimeError: operator torchvision::nms does not exist",
        },
        "video": {"error": "ImportError: no"},
        "disk": {"folder": "/", "free": 1, "total": 2},
        "cpu": {**found["cpu"], "usable": 0.5},
    }
    problems = doctor._problems(broken)
    assert len(problems) == 5 and all(problem["fix"] for problem in problems)
    text = "\n".join(doctor.lines({**broken, "problems": problems}))
    assert "torchvision does not fit" in text and "no problems" not in text


def test_a_broken_package_is_a_finding() -> None:
    def look() -> dict[str, Any]:
        raise RuntimeError("operator does not exist\nmore lines")

    assert doctor._guarded(look) == {"error": "RuntimeError: operator does not exist"}


def test_extra_of() -> None:
    assert doctor.extra_of("fastapi") == "serve"
    assert doctor.extra_of("torch") is None


def test_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert "problems" in json.loads(capsys.readouterr().out)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: discern demo"
