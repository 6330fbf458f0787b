"""What dividing blocks over ranks saves in memory, and what it costs in time.

    python benchmarks/divided.py

Two ranks of one thread do the default pre-training, whole (`loop.divide=false`) and divided, turn
by turn; writes results/divided.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from few_labels import HERE, commit, hardware, versions
from rounds import summary

from discern.clip import Batch
from discern.recipes.images import masked_gan, sized
from discern.scale.divided import Divided, clip_gradients, own_part
from discern.scale.ranks import current, joined
from discern.train.build import build_objective
from discern.train.ema import update_averages
from discern.train.loop import step_rng
from discern.train.optim import OptimConfig, build_optimizer

OUT = HERE / "results" / "divided.json"
SIZES = ("nano", "small")
ROUNDS, STEPS, BATCH = 3, 4, 16  # of all ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rank", choices=["whole", "divided"])
    parser.add_argument("--size", choices=SIZES, default="nano")
    args = parser.parse_args()
    if args.rank:
        torch.set_num_threads(1)
        with joined():
            print(json.dumps(rank(args.size, divide=args.rank == "divided")), flush=True)
        return
    found: dict[str, Any] = {"command": "python benchmarks/divided.py", "hardware": hardware()}
    found |= {"versions": versions(), "commit": commit(), "batch": BATCH, "sizes": {}}
    for size in SIZES:
        told: dict[str, list[dict[str, float]]] = {"whole": [], "divided": []}
        for _ in range(ROUNDS):
            for name, rows in told.items():
                rows.append(launched(name, size))
        found["sizes"][size] = {
            name: {key: summary([row[key] for row in rows]) for key in rows[0]}
            for name, rows in told.items()
        }
        print(size, found["sizes"][size], flush=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")


def rank(size: str, *, divide: bool) -> dict[str, float]:
    """What one of the ranks takes for a step and keeps in memory between steps."""
    ranks = current()
    torch.manual_seed(0)
    objective = build_objective(sized(masked_gan(), size)).train()
    if divide:
        Divided(objective, ranks)
    (player,) = objective.players.values()
    optimizer = build_optimizer(player, OptimConfig())
    clip = torch.randint(0, 256, (BATCH // ranks.world, 3, 1, 32, 32), dtype=torch.uint8)
    taken = []
    for number in range(STEPS + 1):
        objective.zero_grad(set_to_none=True)
        ranks.decided(0.0, False)  # all begin together
        started = time.perf_counter()
        objective.loss("both", Batch(clip=clip), step_rng(0, number), 0.7).total.backward()
        ranks.average_gradients(player.parameters())
        clip_gradients(player.parameters(), 1.0)
        optimizer.step()
        update_averages(objective.averages, 0.99, number)
        taken.append(time.perf_counter() - started)
    kept = [own_part(one) for one in objective.parameters()]
    kept += [own_part(one.grad) for one in objective.parameters() if one.grad is not None]
    kept += [own_part(one) for moments in optimizer.state.values() for one in moments.values()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB
    return {
        "seconds": sum(taken[1:]) / STEPS,
        "megabytes": sum(one.numel() * one.element_size() for one in kept) / 2**20,
        "peak_megabytes": peak / 2**10,
    }


def launched(name: str, size: str) -> dict[str, float]:
    """What the first of two ranks found."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc-per-node", "2", str(Path(__file__).resolve()), "--rank", name]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, "--size", size], check=True, capture_output=True, text=True, env=environment
    )
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
