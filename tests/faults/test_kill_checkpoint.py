"""kill -9 at random moments of a process that saves all the time.

Invariant: what was acknowledged survives; a save that was cut off is absent or complete.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# torch is imported once; each process that is killed is a fork of it
SCENE = """
import json, os, random, select, signal, sys, time
from pathlib import Path
import torch
from discern.train.checkpoint import load_latest, save_checkpoint

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
rng = random.Random(int(sys.argv[3]))

def tensors(step):
    return {"w": torch.full((50_000,), float(step)), "n": torch.tensor(step)}

def save_for_ever(step, out):
    while True:
        step += 1
        os.write(out, b"b%d\\n" % step)
        save_checkpoint(folder, step, tensors(step), {"step": step}, keep=2)
        os.write(out, b"a%d\\n" % step)
        time.sleep(rng.random() * 0.002)

def last(lines, kind):
    return max([int(line[1:]) for line in lines if line.startswith(kind)], default=None)

report = []
for _ in range(kills):
    found = load_latest(folder)
    start = 0 if found is None else found.step
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        save_for_ever(start, writer)
    os.close(writer)
    time.sleep(0.005 + rng.random() * 0.08)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    data = b""
    while part := os.read(reader, 1 << 16):
        data += part
    os.close(reader)
    lines = data.decode().splitlines()
    acknowledged, begun = last(lines, "a"), last(lines, "b")
    found = load_latest(folder)
    report.append({
        "start": start, "acknowledged": acknowledged, "begun": begun,
        "found": None if found is None else found.step,
        "whole": found is None or (
            torch.equal(found.tensors["w"], tensors(found.step)["w"])
            and found.tensors["n"].item() == found.state["step"] == found.step),
        "notes": [] if found is None else found.notes,
        "temporary": sum(name.startswith(".tmp-") for name in os.listdir(folder)),
    })
print(json.dumps(report))
"""


# a kill before operation 1, 2, 3... of a save that also prunes, until a save is through
STEPS = """
import json, os, signal, sys
from pathlib import Path
import torch
from discern.train.checkpoint import load_latest, save_checkpoint

root = Path(sys.argv[1])
torch.set_num_threads(1)
names = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "listdir")

def save(folder, step):
    save_checkpoint(folder, step, {"w": torch.full((9,), float(step))}, {"step": step}, keep=2)

def arm(at):
    count = 0
    def wrap(real):
        def operation(*arguments, **settings):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **settings)
        return operation
    for name in names:
        setattr(os, name, wrap(getattr(os, name)))

report = []
for at in range(1, 1000):
    folder = root / str(at)
    for step in (1, 2):
        save(folder, step)
    child = os.fork()
    if child == 0:
        arm(at)
        save(folder, 3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = load_latest(folder)
    report.append({
        "killed": os.WIFSIGNALED(status), "found": found.step, "state": found.state["step"],
        "w": found.tensors["w"].tolist(), "notes": found.notes,
        "files": [len(os.listdir(path)) for path in folder.glob("step-*")],
    })
    save(folder, 4)
    assert sorted(os.listdir(folder))[-1] == "step-00000004" and len(os.listdir(folder)) == 2
    if not os.WIFSIGNALED(status):
        break
print(json.dumps(report))
"""


def test_a_kill_at_each_operation_of_a_save(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    report = json.loads(done.stdout)
    assert len(report) > 20 and not report[-1]["killed"]
    for at, kill in enumerate(report, start=1):
        assert kill["notes"] == [], (at, kill)  # nothing half-written has a checkpoint's name
        assert len(kill["files"]) >= 2 and set(kill["files"]) == {3}, (at, kill)
        assert kill["state"] == kill["found"] and kill["w"] == [kill["found"]] * 9, (at, kill)
    found = [kill["found"] for kill in report]
    assert found == sorted(found) and set(found) == {2, 3}  # the old one until the new one is there


@pytest.mark.parametrize("kills", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_no_acknowledged_checkpoint_is_lost(tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCENE, str(folder), str(kills), "1"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    report = json.loads(done.stdout)
    assert len(report) == kills
    for kill in report:
        assert kill["whole"], kill
        assert kill["notes"] == [], kill  # nothing half-written ever had a checkpoint's name
        oldest = kill["start"] if kill["acknowledged"] is None else kill["acknowledged"]
        newest = kill["start"] if kill["begun"] is None else kill["begun"]
        assert oldest <= (kill["found"] or 0) <= newest, kill
    inside = [kill for kill in report if kill["begun"] != kill["acknowledged"]]
    assert len(inside) >= kills // 4, f"only {len(inside)} kills fell into a save"
    assert sum(kill["temporary"] > 0 for kill in report) >= kills // 10
