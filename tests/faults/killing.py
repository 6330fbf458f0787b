"""`discern` runs that are killed: the script in which children of one process train and die.

torch is imported once; each run is a fork that calls the command line's `main`.  A pipe tells when
each save begins ("b12") and ends ("a12").
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# small enough that a step takes a few milliseconds
TINY = [
    *("backbone.width=32", "backbone.depth=1", "backbone.heads=2"),
    *("generator.width=32", "generator.depth=1", "generator.heads=2"),
    *("precision=fp32", "threads=1", "data.loader.batch_size=8", "loop.log_seconds=0"),
]


def write_pictures(folder: Path, count: int = 24, side: int = 8) -> Path:
    """Class folders of small noisy pictures, half of them dark."""
    rng = np.random.default_rng(0)
    for number in range(count):
        name = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 100, (side, side, 3)) + 150 * (number % 2)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


def pretrain_words(source: Path, out: Path, steps: int, *more: str) -> list[str]:
    """The words of a tiny pre-training."""
    settings = [word for setting in (*TINY, *more) for word in ("--set", setting)]
    return ["pretrain", str(source), "--out", str(out), "--steps", str(steps), *settings]


SCENE = """
import contextlib, hashlib, json, os, random, select, shutil, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import discern.recipes.pretrain
from discern.cli import main
from discern.train import checkpoint

task = json.loads(sys.argv[1])
words, out = task["words"], Path(task["out"])
rng = random.Random(task["seed"])
write_checkpoint = checkpoint.write_checkpoint

def run(words, writer):
    def save(folder, step, *rest, **more):
        os.write(writer, b"b%d\\n" % step)
        path = write_checkpoint(folder, step, *rest, **more)
        os.write(writer, b"a%d\\n" % step)
        return path
    checkpoint.write_checkpoint = save
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os._exit(main(words))

def as_run(suffix):
    return [word + suffix if word == str(out) else word for word in words]

def start(words):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        run(words, writer)
    os.close(writer)
    return child, reader

def listen(reader, until, seconds):
    # what the child says, up to a word of it, for some seconds or to its end
    data, end = b"", time.monotonic() + seconds
    while until is None or until not in data:
        ready, _, _ = select.select([reader], [], [], max(0, end - time.monotonic()))
        part = os.read(reader, 1 << 16) if ready else b""
        data += part
        if not part:
            return data, not ready
    return data, True

def last(data, kind):
    return max([int(line[1:]) for line in data.split() if line.startswith(kind)], default=None)

def whole(words):
    child, reader = start(words)
    listen(reader, None, 200)
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def ending(out):
    found = checkpoint.load_latest(out / "checkpoints")
    sums = {n: hashlib.sha256(t.numpy().tobytes()).hexdigest() for n, t in found.tensors.items()}
    state = {k: v for k, v in found.state.items() if k != "seconds"}
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timed = {"time", "minutes", "steps_per_second"}
    return {
        "model": hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "step": found.step, "tensors": sums, "state": state,
        "log": [{k: v for k, v in e.items() if k not in timed} for e in entries],
    }

with contextlib.redirect_stdout(sys.stderr):  # once here: what is loaded late is loaded
    assert main([*as_run("-warm"), "--steps", "2"]) == 0
started = time.monotonic()
assert whole(as_run("-whole")) == 0
seconds = time.monotonic() - started

kills = []
for number in range(task["kills"]):
    child, reader = start(words)
    if number % 2:
        # inside a save: a moment after the child has said that one begins
        data, alive = listen(reader, b"b", 60)
        more, alive = listen(reader, None, rng.random() * 0.015) if alive else (b"", False)
        data += more
    else:
        data, alive = listen(reader, None, rng.random() * seconds * task["span"])
    if alive:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    rest, _ = listen(reader, None, 60)
    data += rest
    os.close(reader)
    found = checkpoint.load_latest(out / "checkpoints")
    kills.append({
        "code": code, "begun": last(data, b"b"), "acknowledged": last(data, b"a"),
        "found": None if found is None else found.step,
        "notes": [] if found is None else found.notes,
    })
    if code == 0:  # it was through before the moment came: the next one begins anew
        assert ending(out) == ending(Path(str(out) + "-whole"))
        shutil.rmtree(out)

code = 0 if (out / "results.json").exists() else whole(words)
print(json.dumps({"kills": kills, "code": code, "whole": ending(Path(str(out) + "-whole")),
                  "resumed": ending(out)}))
"""


def kill_and_resume(words: list[str], out: Path, kills: int, seed: int, span: float) -> Any:
    """Run `words` once undisturbed; then with `kills` kills, and to the end.  -> what was found.

    `span` is the share of the undisturbed time within which the random kills fall.
    """
    task = {"words": words, "out": str(out), "kills": kills, "seed": seed, "span": span}
    done = subprocess.run(
        [sys.executable, "-c", SCENE, json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
