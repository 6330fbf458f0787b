"""What a pre-training step of the default recipe costs on this CPU, and what each choice in it.

    python benchmarks/step.py

Random images of 32 x 32, the same number of views a step, the adversary at work; variants take
turns, medians of several rounds; writes results/step.json.
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.clip import Batch  # noqa: E402
from discern.heap import keep_freed_memory  # noqa: E402
from discern.recipes.images import PRETRAIN_BATCH, masked_gan  # noqa: E402
from discern.scale.precision import autocast, probe_precision  # noqa: E402
from discern.train.build import build_objective  # noqa: E402
from discern.train.loop import step_rng  # noqa: E402

CPU = torch.device("cpu")
ROUNDS, STEPS = 7, 16
PROGRESS = 0.7  # the adversary is on, and the end has not begun
OFTEN = ["adversary_chance=1", "adversary_share=0.125", "code_chance=1", "code_share=0.125"]
# as many items as before for the terms that take a share of them
PAIRS = ["views=2", "adversary_share=0.25", "code_share=0.25", "reconstruction_share=0.25"]
NONE = ["patch_adversary=0", "global_adversary=0", "code=0"]
# name -> settings, items a step, precision
VARIANTS: dict[str, tuple[list[str], int, str]] = {
    "default": ([], 1, "bf16"),
    "in fp32": ([], 1, "fp32"),
    "stem of single patches": (["backbone.stem=mlp"], 1, "bf16"),
    "two views of twice the items": ([f"masked_gan.{setting}" for setting in PAIRS], 2, "bf16"),
    "adversary and code in every step, on a quarter of the items": (
        [f"masked_gan.{setting}" for setting in OFTEN],
        1,
        "bf16",
    ),
    "no adversary and no code": ([f"masked_gan.{setting}" for setting in NONE], 1, "bf16"),
}


def main() -> None:
    set_threads(os.cpu_count() or 1)
    keep_freed_memory()
    objectives, batches, times = {}, {}, {name: [] for name in VARIANTS}
    for name, (settings, more, _) in VARIANTS.items():
        objectives[name] = build_objective(configuration.override(masked_gan(), settings)).train()
        clip = torch.randint(0, 256, (more * PRETRAIN_BATCH, 3, 1, 32, 32), dtype=torch.uint8)
        batches[name] = Batch(clip=clip)
    for _ in range(ROUNDS + 1):
        for name, (_, _, precision) in VARIANTS.items():
            started = time.perf_counter()
            for step in range(STEPS):
                rng = step_rng(0, step)
                with autocast(precision, CPU):
                    losses = objectives[name].loss("both", batches[name], rng, PROGRESS)
                losses.total.backward()
                objectives[name].zero_grad(set_to_none=True)
            times[name].append(1e3 * (time.perf_counter() - started) / STEPS)
    rows = {}
    for name, found in times.items():
        against = [
            one / default for one, default in zip(found[1:], times["default"][1:], strict=True)
        ]
        rows[name] = {"ms": statistics.median(found[1:]), "ratio": statistics.median(against)}
        print(name, rows[name])
    probe = probe_precision(CPU)
    about = {"command": " ".join(["python", "benchmarks/step.py", *sys.argv[1:]])}
    about |= {"torch": torch.__version__, "cores": os.cpu_count(), "load": os.getloadavg()}
    about |= {"probe": {"bf16_ms": probe.bf16_ms, "fp32_ms": probe.fp32_ms}, "rows": rows}
    out = Path(__file__).parent / "results" / "step.json"
    out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
