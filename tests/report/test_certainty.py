"""The sections on how sure the answers are, and what they make of broken records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from discern.report.certainty import calibration, guard
from discern.report.plots import Trace, square
from discern.report.records import Record, read_record


def test_both_are_said_in_words(run: Path) -> None:
    record = read_record(run)
    sure = calibration(record)
    assert sure is not None
    for words in (
        "as answered, error 3.0 %",
        "without temperature, error 9.0 %",
        "Temperature 1.4",
    ):
        assert words in sure, words
    told = guard(record)
    assert told is not None
    for words in ("1.50 %", "0.3 to 4.3", "500 items, validation", "91.0", "62.0 %", "k-NN alone"):
        assert words in told, words
    assert told.count("<svg") == 2 and "nan" not in told


def record(**values: Any) -> Record:
    return Record(folder=Path("."), results={"accuracy": 0.5, **values})


def test_without_them_there_is_no_section() -> None:
    assert calibration(record()) is None and guard(record(guard=None)) is None


def test_a_run_without_validation_says_so() -> None:
    found = calibration(record(temperature=None, reliability={"after": [[0.5, 0.5, 3]]}))
    assert found is not None and "no validation items" in found


@pytest.mark.parametrize(
    "broken",
    [
        {"guard": 3, "reliability": []},
        {"guard": {"flagged": "x"}, "reliability": {"after": "x"}},
        {"guard": {"flagged": None}, "reliability": {"after": [[1], "x", [None, 2, 3]]}},
    ],
)
def test_broken_records_are_passed_over(broken: dict[str, Any]) -> None:
    assert guard(record(**broken)) is None and calibration(record(**broken)) is None


def test_part_of_a_guard_is_shown() -> None:
    odd = {"flagged": 0.1, "curve": [[0.1]], "unknown": {"curves": {"guard": None}, "knn": 7}}
    found = guard(record(guard=odd))
    assert found is not None and "10.00 %" in found and "<svg" not in found


def test_shares_outside_of_the_square_stay_on_its_edge() -> None:
    drawn = square([Trace(label="a", points=[(-1.0, 2.0), (3.0, 0.5)])], "t", "x", "y")
    assert 'points="52.0,12.0 332.0,152.0"' in drawn


def test_a_scale_of_its_own_has_no_diagonal() -> None:
    traces = [Trace(label="a", points=[(0.0, 1.0), (1.0, 0.5)])]
    plain, scaled = square(traces, "t", "x", "y"), square(traces, "t", "x", "y", 32.0)
    assert 'class="target"' in plain and 'class="target"' not in scaled
    assert ">x, %<" in plain and ">x<" in scaled
    for tick in ("0", "8", "16", "24", "32"):
        assert f">{tick}</text>" in scaled
