"""One writer: the second start fails at once and names the first; a dead holder blocks nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from discern.errors import UsageError
from discern.lock import FolderLock

HOLD = """
import os, sys, time
from pathlib import Path
from discern.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if sys.argv[2] == "fork":
    there, here = os.pipe()
    if os.fork() == 0:
        os.write(here, b".")  # it runs: its copy of the lock is closed by now
        time.sleep(60)
    os.read(there, 1)
print("held", flush=True)
time.sleep(60)
"""


def _holder(folder: Path, mode: str = "plain") -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), mode], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_the_second_names_the_first_within_two_seconds(tmp_path: Path) -> None:
    with _holder(tmp_path) as child:
        start = time.monotonic()
        with pytest.raises(UsageError) as caught:
            FolderLock(tmp_path)
        assert time.monotonic() - start < 2
        child.kill()
    text = str(caught.value)
    assert f"in use by process {child.pid} on {socket.gethostname()}" in text
    assert f"kill {child.pid}" in text


def test_the_lock_of_a_killed_holder_is_taken_over(tmp_path: Path) -> None:
    with _holder(tmp_path) as child:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with FolderLock(tmp_path) as lock:
        assert lock.left_by is not None and lock.left_by["pid"] == child.pid
    with FolderLock(tmp_path) as lock:
        assert lock.left_by is None


def test_a_worker_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "fork"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        try:
            FolderLock(tmp_path).close()
        finally:
            os.killpg(child.pid, signal.SIGKILL)


def test_in_one_process_too_and_free_after_close(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(UsageError, match=f"process {os.getpid()} "):
        FolderLock(tmp_path)
    lock.close()
    lock.close()
    FolderLock(tmp_path).close()


def test_a_holder_that_wrote_no_name_yet(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    for content in ("", "{", "[1]"):
        (tmp_path / "run.lock").write_text(content)
        with pytest.raises(UsageError, match="in use by another process: wait for it"):
            FolderLock(tmp_path)
    (tmp_path / "run.lock").write_text('{"pid": 7, "host": "elsewhere"}')
    with pytest.raises(UsageError, match="process 7 on elsewhere: wait for it, or choose"):
        FolderLock(tmp_path)
    lock.close()


def test_a_start_between_two_looks_is_no_foreign_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another start writes its first file just after this one has looked for it."""
    from discern.log import Run

    read = Path.read_bytes
    other: list[Run] = []

    def late(path: Path) -> bytes:
        try:
            return read(path)
        except FileNotFoundError:
            if not other:
                monkeypatch.setattr(Path, "read_bytes", read)
                other.append(Run.open(tmp_path, "train", {"seed": 0}))
            raise

    monkeypatch.setattr(Path, "read_bytes", late)
    with pytest.raises(UsageError, match="in use by"):
        Run.open(tmp_path, "train", {"seed": 0})
    assert len(other) == 1
    other[0].close()


def _race(folder: str, losers: str, start: float) -> None:
    from discern.log import Run

    time.sleep(max(0.0, start - time.time()))
    try:
        run = Run.open(Path(folder), "train", {"seed": 0})
    except UsageError as error:
        (Path(losers) / str(os.getpid())).touch()
        os._exit(2 if "in use by" in str(error) else 4)
    finish = time.time() + 60
    while len(os.listdir(losers)) < 19 and time.time() < finish:
        time.sleep(0.02)
    run.close()
    os._exit(0)


def test_of_twenty_racing_starts_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["discern.log"])
    losers = tmp_path / "losers"
    losers.mkdir()
    arguments = (str(tmp_path / "run"), str(losers), time.time() + 1.0)
    racers = [context.Process(target=_race, args=arguments) for _ in range(20)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(90)
    codes = sorted(racer.exitcode for racer in racers if racer.exitcode is not None)
    assert codes == [0] + [2] * 19
