"""Trainings that are killed, stopped, started twice or run out of disk.

Invariants: no checkpoint that was promised is lost; the same command goes on, and ends with the
same bytes as a run that nothing disturbed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from discern.cli import main
from discern.train import loop
from discern.train.checkpoint import load_latest
from tests.faults.killing import TINY, kill_and_resume, pretrain_words, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data")


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("kills", "steps", "span"),
    [
        (5, 40, 0.6),
        pytest.param(20, 150, 0.5, marks=slow),
        # many of these fall into the end: the model, the samples, the results, the report
        pytest.param(20, 4, 1.2, marks=slow),
    ],
)
@pytest.mark.timeout(400)
def test_a_killed_training_loses_nothing(
    pictures: Path, tmp_path: Path, kills: int, steps: int, span: float
) -> None:
    out = tmp_path / "run"
    words = pretrain_words(pictures, out, steps, "loop.saves=20")
    report = kill_and_resume(words, out, kills, seed=steps, span=span)

    newest = 0  # step that must be there from the last kill on
    for kill in report["kills"]:
        assert kill["notes"] == [], kill  # nothing half-written has a checkpoint's name
        found = kill["found"] or 0
        assert found >= max(newest, kill["acknowledged"] or 0), kill
        assert found <= max(newest, kill["begun"] or 0), kill
        newest = 0 if kill["code"] == 0 else found
    killed = [kill for kill in report["kills"] if kill["code"] == -signal.SIGKILL]
    assert len(killed) >= kills // 2
    inside = [kill for kill in killed if (kill["begun"] or 0) > (kill["acknowledged"] or 0)]
    assert len(inside) >= kills // 5, report["kills"]

    assert report["code"] == 0
    assert report["resumed"]["step"] == steps
    for part in ("model", "tensors", "state", "log"):
        assert report["resumed"][part] == report["whole"][part], part


def checkpoint_step(out: Path) -> int | None:
    found = load_latest(out / "checkpoints")
    return None if found is None else found.step


def model_hash(out: Path) -> str:
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """`signal_at(SIGTERM, 5)`: the process gets the signal in the midst of its step 5."""
    step_rng = loop.step_rng

    def arm(number: int, at: int) -> None:
        def sending(seed: int, step: int, *more: Any) -> Any:
            if step == at:
                os.kill(os.getpid(), number)
            return step_rng(seed, step, *more)

        monkeypatch.setattr(loop, "step_rng", sending)

    return arm


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_signal_saves_the_step_it_fell_into(
    pictures: Path,
    tmp_path: Path,
    signal_at: Callable[[int, int], None],
    capfd: pytest.CaptureFixture[str],
    number: int,
    code: int,
    as_json: bool,
) -> None:
    out = tmp_path / "run"
    words = pretrain_words(pictures, out, 12, "loop.saves=1") + ["--json"] * as_json
    signal_at(number, 6)  # the seventh step
    assert main(words) == code
    assert checkpoint_step(out) == 7
    assert not (out / "results.json").exists() and not (out / "model").exists()
    printed = capfd.readouterr()
    if as_json:
        answer = json.loads(printed.out)  # one object
        assert answer["exit_code"] == code and "goes on" in answer["error"]
    else:
        assert printed.out == ""
    said = printed.err.splitlines()[-1]
    assert said.startswith("discern: ") and str(out) in said and "goes on" in said

    signal_at(number, 99)
    assert main(words) == 0
    assert checkpoint_step(out) == 12
    whole = pretrain_words(pictures, tmp_path / "whole", 12, "loop.saves=1")
    assert main(whole) == 0
    assert model_hash(out) == model_hash(tmp_path / "whole")


def test_a_signal_ends_all_of_a_comparison(
    pictures: Path, tmp_path: Path, signal_at: Callable[[int, int], None]
) -> None:
    assert main(pretrain_words(pictures, tmp_path / "base", 1)) == 0
    out = tmp_path / "compared"
    words = ["compare", str(pictures), "--out", str(out), "--from", str(tmp_path / "base")]
    signal_at(signal.SIGTERM, 1)
    assert main([*words, "--minutes", "1"]) == 143
    assert checkpoint_step(out / "pretrained-all") == 2
    assert not (out / "scratch-all").exists() and not (out / "results.json").exists()


def test_what_ended_a_training_still_ends_it_after_a_kill(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discern.recipes import train as recipe

    steps: list[int] = []
    step_rng = loop.step_rng

    def counting(seed: int, step: int, *more: Any) -> Any:
        steps.append(step)
        return step_rng(seed, step, *more)

    monkeypatch.setattr(loop, "step_rng", counting)
    monkeypatch.setattr(recipe, "tuned_model", killed)
    settings = [word for one in TINY if "generator" not in one for word in ("--set", one)]
    words = ["train", str(pictures), "--out", str(tmp_path / "run"), "--steps", "40", *settings]
    words += ["--target-accuracy", "0.1"]
    with pytest.raises(Killed):
        main(words)
    assert 0 < len(steps) < 40  # the target was met, and then the process was gone
    monkeypatch.undo()
    monkeypatch.setattr(loop, "step_rng", counting)
    before = len(steps)
    assert main(words) == 0
    assert len(steps) == before
    assert json.loads((tmp_path / "run/results.json").read_text())["stopped_by"] == "target"


class Killed(BaseException):
    """Passes through every handler, as a kill does."""


def killed(*arguments: Any) -> Any:
    raise Killed


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command line as a child process, killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "discern", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def wait_for(found: Callable[[], Any], child: subprocess.Popen[str], seconds: float = 60) -> Any:
    """Wait until something is there, or the child is gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    raise AssertionError("it did not come")


def test_a_run_in_use_and_its_end(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = pretrain_words(pictures, out, 1_000_000, "loop.saves=1000000")
    with running(words) as child:
        wait_for(lambda: checkpoint_step(out), child)
        started = time.monotonic()
        assert main(words) == 2
        assert time.monotonic() - started < 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"in use by process {child.pid} on" in said

        child.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, said = child.communicate(timeout=30)
        assert child.returncode == 143
        assert "SIGTERM: finishing this step and saving" in said
    lines = (out / "log.jsonl").read_text().splitlines()
    assert checkpoint_step(out) == json.loads(lines[-1])["step"]  # each step is logged


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of this size."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    # all weights learn in every step, so that all checkpoints are of one size
    always = ("loop.saves=8", "masked_gan.reconstruction_chance=1")
    assert main(pretrain_words(pictures, whole, 8, *always)) == 0
    each = sum(file.stat().st_size for file in (whole / "checkpoints/step-00000008").iterdir())
    with small_disk(tmp_path / "disk", 8 * each // 1024) as disk:
        out = disk / "run"
        words = pretrain_words(pictures, out, 8, *always)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler = disk / "filler"
        filler.write_bytes(
            bytes(free - each * 5 // 2)
        )  # the third one, after those of steps 0 and 1, will not fit
        capfd.readouterr()
        assert main(words) == 1
        said = capfd.readouterr().err.splitlines()[-1]
        assert f"{out}/checkpoints: No space left on device: a checkpoint needs " in said
        needed = int(said.split("needs ")[1].split(" bytes")[0])
        assert each * 0.9 < needed < each + 100_000
        assert checkpoint_step(out) == 1

        filler.unlink()
        assert main(words) == 0
        assert model_hash(out) == model_hash(whole)


def test_a_limit_on_file_sizes_leaves_the_last_checkpoint(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = pretrain_words(pictures, out, 1_000_000, "loop.saves=1000000")
    with running(words) as child:
        step = wait_for(lambda: checkpoint_step(out), child)
        # the log may go on for a while, a checkpoint is larger
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (60_000, 60_000))
        _, said = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "File too large: a checkpoint needs" in said.splitlines()[-1]
    assert (checkpoint_step(out) or 0) >= step
