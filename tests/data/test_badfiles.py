from __future__ import annotations

import json
from pathlib import Path

import pytest

from discern.data.badfiles import BadFiles
from discern.errors import DataError


def test_listed_once_and_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "bad_files.jsonl"
    bad = BadFiles(path)
    assert not path.exists()
    bad.add("a.jpg", "cut short")
    bad.add("a.jpg", "cut short")
    bad.add("b.jpg", ValueError("garbage"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        {"path": "a.jpg", "reason": "cut short"},
        {"path": "b.jpg", "reason": "garbage"},
    ]
    again = BadFiles(path)
    again.add("a.jpg", "cut short")
    assert len(again) == 2 and len(path.read_text().splitlines()) == 2


def test_more_than_one_in_a_hundred_stops(tmp_path: Path) -> None:
    bad = BadFiles(None)
    bad.check(0)
    bad.add("a.jpg", "cut short")
    bad.check(100)
    with pytest.raises(
        DataError, match="1 of 99 items .* more than 1%: a.jpg: cut short"
    ) as caught:
        bad.check(99)
    assert caught.value.exit_code == 4
    listed = BadFiles(tmp_path / "bad_files.jsonl", allowed=0.5)
    listed.add("a", "x")
    listed.add("b", "x")
    listed.check(4)
    with pytest.raises(DataError, match="the others are in .*bad_files.jsonl"):
        listed.check(3)


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    bad = BadFiles(tmp_path / "bad_files.jsonl", strict=True)
    with pytest.raises(DataError, match="a.jpg: cut short: mend or remove it"):
        bad.add("a.jpg", "cut short")
    assert len(BadFiles(bad.path)) == 1


def test_a_list_cut_off_by_a_crash_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bad_files.jsonl"
    path.write_text('{"path": "a", "reason": "x"}\n{"pa')
    bad = BadFiles(path)
    assert len(bad) == 1
    bad.add("b", "x")
    assert list(BadFiles(path).reasons) == ["a", "b"]
