"""What builds a release is pinned by its hash, and is what the rest of the project is pinned to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"([a-z_]+)==(\S+) --hash=sha256:[0-9a-f]{64}")


@pytest.fixture
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints-release.txt").read_text().splitlines()
    found = [PIN.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(found), "a line without one version and one hash"
    return dict(match.groups() for match in found if match)


def test_every_tool_has_its_hash(pins: dict[str, str]) -> None:
    assert set(pins) == {"setuptools", "build", "packaging", "pyproject_hooks"}


def test_its_versions_are_those_of_the_project(pins: dict[str, str]) -> None:
    ours = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if re.fullmatch(r"[\w.-]+==\S+", line)
    )
    shared = set(pins) & set(ours)
    assert "setuptools" in shared
    assert {name: pins[name] for name in shared} == {name: ours[name] for name in shared}
