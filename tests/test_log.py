"""A run's folder: one writer, the same settings, records that survive."""

from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from discern.errors import ConfigError, DiscernError, UsageError
from discern.files import write_json
from discern.log import Run, read_log

SETTINGS = {"seed": 0, "train": {"rate": 0.1, "betas": (0.9, 0.95)}}


def _events(folder: Path) -> list[Any]:
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for file in sorted((folder / "events").iterdir()):
        data = file.read_bytes()
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def test_a_new_run_writes_settings_and_versions(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "first"
    with Run.open(out, "train", SETTINGS) as run:
        assert not run.resumed and run.notes == []
        stored = json.loads((out / "config.json").read_text())
    assert stored["verb"] == "train"
    assert stored["settings"] == {"seed": 0, "train": {"rate": 0.1, "betas": [0.9, 0.95]}}
    assert {"python", "platform", "cpu", "discern"} <= stored["versions"].keys()


def test_the_same_command_resumes(tmp_path: Path) -> None:
    Run.open(tmp_path, "train", SETTINGS).close()
    with Run.open(tmp_path, "train", SETTINGS) as run:
        assert run.resumed and run.notes == []
        assert run.checkpoints == tmp_path / "checkpoints"


def test_other_settings_are_listed_and_refused(tmp_path: Path) -> None:
    Run.open(tmp_path, "train", SETTINGS).close()
    changed = {"seed": 1, "train": {"rate": 0.2, "betas": (0.9, 0.95)}}
    with pytest.raises(ConfigError, match=r"seed: 0 -> 1; train.rate: 0.1 -> 0.2.*--allow-change"):
        Run.open(tmp_path, "train", changed)
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        Run.open(tmp_path, "train", changed, may_change=["train", "see"])
    with Run.open(tmp_path, "train", changed, may_change=["train.rate", "seed"]) as run:
        assert run.notes == ["setting seed: 0 -> 1", "setting train.rate: 0.1 -> 0.2"]
    Run.open(tmp_path, "train", changed).close()  # these are the settings now
    Run.open(tmp_path, "train", SETTINGS, allow_change=True).close()
    stored = json.loads((tmp_path / "config.json").read_text())
    assert [len(change["settings"]) for change in stored["changes"]] == [2, 2]


def test_other_versions_are_noted(tmp_path: Path) -> None:
    Run.open(tmp_path, "train", SETTINGS).close()
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["versions"]["python"] = "3.1"
    write_json(tmp_path / "config.json", stored)
    with Run.open(tmp_path, "train", SETTINGS) as run:
        assert len(run.notes) == 1 and run.notes[0].startswith("version of python: '3.1' -> ")


def test_a_folder_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"not a run \(there is holiday.jpg\): choose another"):
        Run.open(tmp_path, "train", SETTINGS)
    assert os.listdir(tmp_path) == ["holiday.jpg"]
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="not of a run"):
        Run.open(tmp_path, "train", SETTINGS)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        Run.open(tmp_path, "train", SETTINGS)
    with pytest.raises(UsageError, match="choose another folder"):
        Run.open(tmp_path / "holiday.jpg", "train", SETTINGS)


def test_another_verb_and_a_finished_run_are_refused(tmp_path: Path) -> None:
    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.log(step=1, loss=1.0)
    with pytest.raises(UsageError, match="unfinished `train`, not a `pretrain`"):
        Run.open(tmp_path, "pretrain", SETTINGS)
    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.results({"accuracy": 0.5, "ece": float("nan")})
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "accuracy": 0.5,
        "ece": None,
        "nonfinite": ["ece"],
    }
    with pytest.raises(UsageError, match="finished run: choose another --out, or delete it"):
        Run.open(tmp_path, "train", SETTINGS)


def test_a_refusal_frees_the_lock(tmp_path: Path) -> None:
    Run.open(tmp_path, "train", SETTINGS).close()
    for _ in range(2):
        with pytest.raises(ConfigError):
            Run.open(tmp_path, "train", {})
    Run.open(tmp_path, "train", SETTINGS).close()


def test_a_run_killed_before_its_settings_were_there(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text('{"pid": 1, "host": "x"}')
    (tmp_path / ".tmp-12-ab.json").write_text('{"format"')
    with Run.open(tmp_path, "train", SETTINGS) as run:
        assert not run.resumed


def test_lines_and_events(tmp_path: Path) -> None:
    import torch

    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.log(step=1, loss=torch.tensor(0.5), parts={"r1": float("inf")}, event="warm")
        run.log(step=2, loss=0.25, note=None)
        assert len(read_log(tmp_path / "log.jsonl")) == 2  # there at once, not at the end
    first, second = read_log(tmp_path / "log.jsonl")
    assert list(first) == ["step", "time", "loss", "parts", "event", "nonfinite"]
    assert (first["step"], first["loss"], first["event"]) == (1, 0.5, "warm")
    assert first["parts"] == {"r1": None} and first["nonfinite"] == ["parts.r1"]
    assert second["time"] >= first["time"] > 1.7e9
    points = [
        (event.step, value.tag, value.simple_value)
        for event in _events(tmp_path)
        for value in event.summary.value
    ]
    assert points == [(1, "loss", 0.5), (1, "parts/r1", float("inf")), (2, "loss", 0.25)]


def test_events_are_what_tensorboard_reads(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.log(step=1, loss=0.5)
    (file,) = (tmp_path / "events").iterdir()
    assert len(list(RawEventFileLoader(str(file)).Load())) == 2


def test_rewind_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    with Run.open(tmp_path, "train", SETTINGS) as run:
        for step in range(1, 6):
            run.log(step=step, loss=step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    assert len(read_log(tmp_path / "log.jsonl")) == 5
    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.rewind(3)
        run.log(step=4, loss=40)
    assert [(e["step"], e["loss"]) for e in read_log(tmp_path / "log.jsonl")] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 40),
    ]
    restarts = [event.step for event in _events(tmp_path) if event.HasField("session_log")]
    assert restarts == [4]  # TensorBoard drops what stood there before


def test_a_half_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.log(step=1, loss=1)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.log(step=2, loss=2)
    assert [entry["step"] for entry in read_log(tmp_path / "log.jsonl")] == [1, 2]


def test_a_full_disk_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, room = os.write, 20

    def nearly_full(file: int, data: Any) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        done = write(file, data[:room])
        room -= done
        return done

    with Run.open(tmp_path, "train", SETTINGS) as run:
        run.log(step=1)
        with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "discern"):
            broken.setattr(os, "write", nearly_full)
            run.log(step=2)
            run.log(step=3)
        assert caplog.text.count("No space left on device") == 1
        assert (tmp_path / "log.jsonl").read_bytes().endswith(b"}\n")
        assert [entry["step"] for entry in read_log(tmp_path / "log.jsonl")] == [1]
        run.log(step=4)
    assert [entry["step"] for entry in read_log(tmp_path / "log.jsonl")] == [1, 2, 3, 4]


def test_results_that_cannot_be_written_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with Run.open(tmp_path, "train", SETTINGS) as run:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DiscernError, match="results.json: No space left on device: make room"):
            run.results({})
        monkeypatch.undo()
    assert not (tmp_path / "results.json").exists()


def test_torch_is_not_needed(tmp_path: Path) -> None:
    code = (
        "import sys; from discern.log import Run\n"
        f"with Run.open({str(tmp_path)!r}, 'train', {{}}) as run: run.log(step=1, loss=0.5)\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
