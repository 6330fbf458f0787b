"""How long a training waits for a checkpoint, and how long until it is on the disk.

    python benchmarks/stall.py [--rounds 7]

The state of a `tiny` encoder with AdamW's: weights and two moments.  Discern (in the background,
with SHA-256 and every sync), torch.save with a sync, safetensors with a sync, and
torch.distributed's asynchronous checkpoint.  Contenders take turns on the same disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from few_labels import HERE, commit, hardware, versions
from rounds import interleaved, summary, times_faster
from torch import Tensor

from discern.models.backbone import SIZES, Backbone, BackboneConfig
from discern.train.checkpoint import Saver, load_latest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=5.0, help="From one save to the next.")
    parser.add_argument("--out", type=Path, help="A folder on the disk to measure.")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    tensors = state()
    size = sum(tensor.nbytes for tensor in tensors.values())
    with tempfile.TemporaryDirectory(dir=args.out) as home:
        pauses, durable = measured(Path(home), tensors, args.rounds)
        started = time.perf_counter()
        found = load_latest(Path(home) / "discern")
        resume = time.perf_counter() - started
        assert found is not None and found.tensors.keys() == tensors.keys()
    found_all = {
        "command": " ".join(["python", "benchmarks/stall.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        "bytes": size,
        "pause_seconds": {name: summary(values) for name, values in pauses.items()},
        "durable_seconds": {name: summary(values) for name, values in durable.items()},
        "resume_seconds": resume,
        "share_of_the_time": statistics.median(pauses["discern"]) / (60 * args.minutes),
        "claims": {
            "pause, against torch.save": times_faster(pauses, "discern", "torch.save", 2.0),
            "on the disk, against safetensors": times_faster(
                durable, "discern", "safetensors", round(1 / 1.6, 3)
            ),
        },
    }
    (HERE / "results" / "stall.json").write_text(json.dumps(found_all, indent=1) + "\n")
    for part in ("pause_seconds", "durable_seconds"):
        print(part, {name: block["median"] for name, block in found_all[part].items()})  # type: ignore[attr-defined]
    print("resume", round(resume, 3), "share", found_all["share_of_the_time"])


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    encoder = Backbone(BackboneConfig(**SIZES["tiny"]))
    return {
        f"{part}/{name}": torch.randn_like(value)
        for part in ("weight", "first", "second")
        for name, value in encoder.state_dict().items()
        if value.is_floating_point()
    }


def measured(
    home: Path, tensors: dict[str, Tensor], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds that the training waits, and seconds until all is on the disk."""
    saver = Saver(home / "discern", background=True)
    pauses: dict[str, list[float]] = {}
    step = [0]

    def timed(name: str, pause: Callable[[], Callable[[], object]]) -> Callable[[], None]:
        def once() -> None:
            started = time.perf_counter()
            wait = pause()
            pauses.setdefault(name, []).append(time.perf_counter() - started)
            wait()

        return once

    def ours() -> Callable[[], object]:
        step[0] += 1
        saver.save(step[0], tensors, {"step": step[0]})
        return saver.wait

    def plain() -> Callable[[], object]:
        torch.save(tensors, home / "torch.pt")  # noqa: TID251  # the peer
        sync(home / "torch.pt")
        return nothing

    def safe() -> Callable[[], object]:
        safetensors.torch.save_file(tensors, home / "x.safetensors")
        sync(home / "x.safetensors")
        return nothing

    def distributed() -> Callable[[], object]:
        step[0] += 1
        return dcp.async_save(tensors, checkpoint_id=home / f"dcp-{step[0]}").result  # type: ignore[union-attr]

    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    makers = {
        "discern": ours,
        "torch.save": plain,
        "safetensors": safe,
        "dcp.async_save": distributed,
    }
    durable = interleaved({name: timed(name, make) for name, make in makers.items()}, rounds)
    torch.distributed.destroy_process_group()
    return {name: values[1:] for name, values in pauses.items()}, durable


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def nothing() -> None:
    """It is on the disk already."""


if __name__ == "__main__":
    main()
