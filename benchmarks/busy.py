"""What a training keeps of its speed when another program wants both cores.

    python benchmarks/busy.py [--rounds 5] [--seconds 10]

The pre-training step of the default recipe, in a process of its own: alone, begun beside a rival,
and begun alone with a rival that comes later.  Beside it the same step with the threads that torch
takes by itself.  The rival multiplies matrices in two threads, as torch comes.  Contenders take
turns; shares are of the same round's speed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
RIVAL = "import torch\nx = torch.rand(1024, 1024)\nwhile True: x @ x"
TO_KEEP = 0.4
SETTLING = 2.0  # seconds until a rival is at full speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="Of each measurement.")
    parser.add_argument("--child", choices=["discern", "torch"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return train(args.child, args.seconds)
    from few_labels import commit, hardware, versions
    from rounds import summary

    speeds: dict[str, list[float]] = {}
    draw = random.Random(0)
    for _ in range(args.rounds):
        order = [(who, when) for who in ("discern", "torch") for when in ("alone", *WHEN)]
        draw.shuffle(order)
        for who, when in order:
            found = measured(who, when, args.seconds)
            speeds.setdefault(f"{who}, {when}", []).append(found)
            print(who, when, round(found, 2), flush=True)
    kept = {
        f"{who}, {when}": summary(
            [
                busy / quiet
                for busy, quiet in zip(
                    speeds[f"{who}, {when}"], speeds[f"{who}, alone"], strict=True
                )
            ]
        )
        for who in ("discern", "torch")
        for when in WHEN
    }
    found = {
        "command": " ".join(["python", "benchmarks/busy.py", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "steps_per_second": {name: summary(values) for name, values in speeds.items()},
        "kept": kept,
        "to_keep": TO_KEEP,
        "reached": all(kept[f"discern, {when}"]["median"] >= TO_KEEP for when in WHEN),
    }
    (ROOT / "benchmarks/results/busy.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: block["median"] for name, block in kept.items()}, indent=1))


WHEN = ("begun beside a rival", "a rival comes later")


def measured(who: str, when: str, seconds: float) -> float:
    """Steps a second of a training in a child."""
    plain = {name: value for name, value in os.environ.items() if name not in PLAIN}
    words = [sys.executable, __file__, "--child", who, "--seconds", str(seconds)]
    early, late = when == WHEN[0], when == WHEN[1]
    with rival(plain, early):
        child = subprocess.Popen(
            words, env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with rival(plain, late):
            print("go", file=child.stdin, flush=True)
            speed = float(child.stdout.readline())
        child.wait()
    return speed


@contextmanager
def rival(environment: dict[str, str], wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", RIVAL], env=environment)
    try:
        time.sleep(SETTLING)
        yield
    finally:
        other.kill()
        other.wait()


def train(who: str, seconds: float) -> None:
    """Steps for so many seconds, after the word; prints their speed."""
    if who == "discern":
        from discern.threads import choose_threads, prepare_threads, set_threads

        prepare_threads()
        set_threads(choose_threads())
    import torch

    from discern import config as configuration
    from discern.clip import Batch
    from discern.heap import keep_freed_memory
    from discern.recipes.images import PRETRAIN_BATCH, masked_gan
    from discern.train.build import build_objective
    from discern.train.loop import step_rng

    keep_freed_memory()
    objective = build_objective(configuration.override(masked_gan(), [])).train()
    clip = torch.randint(0, 256, (PRETRAIN_BATCH, 3, 1, 32, 32), dtype=torch.uint8)

    def step(number: int) -> None:
        losses = objective.loss("both", Batch(clip=clip), step_rng(0, number), 0.7)
        losses.total.backward()
        objective.zero_grad(set_to_none=True)

    for number in range(3):
        step(number)
    print("ready", flush=True)
    sys.stdin.readline()
    started, number = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step(number)
        number += 1
    print(number / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
