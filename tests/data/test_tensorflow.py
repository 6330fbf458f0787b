"""Real TensorFlow reads what we write, and we read what it writes: the same bytes and labels.

The files in `golden/` were written by TensorFlow once, so that reading them is tested everywhere.
The other tests start a Python that has TensorFlow: the one named by DISCERN_TF_PYTHON, or this one.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from discern.data.example import encode_example, parse_example
from discern.data.layout import record_to_sample
from discern.data.tfrecord import RecordFile, read_records, write_records

GOLDEN = Path(__file__).parent / "golden"
SIDE = Path(__file__).parent / "tensorflow_side.py"
PYTHON = os.environ.get("DISCERN_TF_PYTHON", sys.executable)
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.is_file())
NUMBERS = [0, 1, 300, 2**40, -7]


def image(number: int) -> bytes:
    return bytes([number]) * (10 + 50 * number)


def record(number: int) -> bytes:
    return encode_example(
        {
            "image/encoded": image(number),
            "image/format": "JPEG",
            "image/class/label": number,
            "image/class/text": ["Käfer", "red"],
            "numbers": NUMBERS,
            "floats": [0.5, -2.25, 1e30],
        }
    )


def check_written_by_tensorflow(path: Path) -> None:
    records = list(read_records(path))
    assert list(RecordFile(path)) == records
    assert len(records) == 5
    for number, one in enumerate(records):
        example = parse_example(one)
        assert example.blob("image/encoded") == image(number)
        assert example.number("image/class/label") == number
        assert example.ints("numbers") == NUMBERS
        assert example.floats("floats").tolist() == pytest.approx([0.5, -2.25, 1e30])
        assert example.kind("nothing") == "nothing"
        assert example.ints("no_ints") == []
        assert record_to_sample(one).labels == ("Käfer", "red")


@pytest.mark.parametrize("name", FILES)
def test_files_that_tensorflow_wrote_are_read(name: str) -> None:
    check_written_by_tensorflow(GOLDEN / name)


def test_we_write_the_very_bytes_that_tensorflow_writes(tmp_path: Path) -> None:
    records = list(read_records(GOLDEN / "packed.tfrecord"))
    parsed = [parse_example(one) for one in records]
    again = [
        encode_example(
            {
                "image/encoded": one.blob("image/encoded"),
                "image/format": one.blobs("image/format"),
                "image/class/label": one.number("image/class/label"),
                "image/class/text": one.texts("image/class/text"),
                "numbers": one.ints("numbers"),
                "floats": one.floats("floats"),
                "nothing": [],
                "no_ints": one.floats("nothing").astype(int),
            }
        )
        for one in parsed
    ]
    assert again == records
    write_records(tmp_path / "ours", again)
    assert (tmp_path / "ours").read_bytes() == (GOLDEN / "packed.tfrecord").read_bytes()


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    """A function that runs `tensorflow_side.py`."""
    probe = "import importlib.util as u, sys; sys.exit(u.find_spec('tensorflow') is None)"
    if subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode:
        pytest.skip(f"no tensorflow in {PYTHON}: DISCERN_TF_PYTHON names a Python that has it")

    def run(*arguments: str | Path) -> Any:
        done = subprocess.run([PYTHON, SIDE, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run


def test_what_tensorflow_writes_now_is_read(tensorflow: Any, tmp_path: Path) -> None:
    print("written by TensorFlow", tensorflow("write", tmp_path)["version"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == FILES
    for name in names:
        check_written_by_tensorflow(tmp_path / name)
        print(f"read here: 5 records of {name}, bytes and labels as they were")


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_tensorflow_reads_what_we_write(tensorflow: Any, tmp_path: Path, gzip: bool) -> None:
    path = tmp_path / "ours.tfrecord"
    records = [record(number) for number in range(5)]
    assert write_records(path, records, gzip=gzip) == 5
    answer = tensorflow("read", path, "GZIP" if gzip else "")
    assert [base64.b64decode(one) for one in answer["records"]] == records
    assert len(answer["seen"]) == 5
    for number, seen in enumerate(answer["seen"]):
        assert base64.b64decode(seen["image"]) == image(number)
        assert seen["label"] == number
        assert seen["texts"] == ["Käfer", "red"]
        assert seen["numbers"] == NUMBERS
        assert seen["floats"] == pytest.approx([0.5, -2.25, 1e30])
    print(f"TensorFlow {answer['version']} read 5 records of ours, bytes and labels as they were")
