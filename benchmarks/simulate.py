"""Is the forecast right?  Steps with decoders, gradients between ranks, and both together, measured
and foretold; then what a billion images and a hundred million clips would cost.

    python benchmarks/simulate.py --out OUT

Decoders: the loader's own, on pictures of Tiny-ImageNet, while the training waits as long as a step
would take, so that two cores can show it.  Exchange: `Ranks.average_gradients` between processes on
this machine; the link is fitted to some sizes and asked for the others.  Ranks: the default
pre-training in one process and in two, one thread each.
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from dataclasses import asdict, replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from feeding import forgotten, pictures  # noqa: E402
from few_labels import HERE, commit, hardware, unpacked, versions  # noqa: E402
from forecast import Cluster, Work, fitted, paced, plan  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.clip import Batch  # noqa: E402
from discern.data.loader import Loader  # noqa: E402
from discern.recipes.images import masked_gan, sized  # noqa: E402
from discern.scale.ranks import joined  # noqa: E402
from discern.train.build import build_objective  # noqa: E402
from discern.train.loop import step_rng  # noqa: E402

TABLE = HERE / "results" / "simulate.json"
STEPS = 40
SHARES = (0.5, 0.9, 1.1, 2.0, 4.0)  # of a step, in times that a batch takes to decode
FITTED, ASKED = (2**14, 2**20, 2**24), (2**17, 2**22, 2**26)  # bytes
SMALL = ["data.preprocess.height=64", "data.preprocess.width=64", "backbone.patch=8"]
IMAGE, CLIP = (1, 224), (16, 224)  # frames, side
STORED = {"images": 110e3, "clips": 1.5e6}  # bytes: ImageNet's JPEG, ten seconds at 480p
EPOCHS = 3
# what was timed in decoding.json that is most like them
TIMED = {
    "images": ("pictures", "0.2 Mpx", "discern"),
    "clips": ("clips", "h264, a key frame in 30", "discern, scaled"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--part", choices=("exchange", "ranks"))  # of a rank that we start
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plans", action="store_true", help="Anew; what was measured stays.")
    args = parser.parse_args()
    set_threads(args.threads)
    if args.part:
        with joined() as ranks:
            found = {"exchange": exchange_here, "ranks": steps_here}[args.part](ranks)
            if ranks.leads:
                print(json.dumps(found))
        return
    if args.plans:
        done = json.loads(TABLE.read_text()) | {"plans": plans(), "plans_commit": commit()}
        done["assumed"] = asdict(Cluster(devices=1))
        TABLE.write_text(json.dumps(done, indent=1) + "\n")
        return
    command = " ".join(["python", "benchmarks/simulate.py", *sys.argv[1:]])
    done: dict[str, Any] = {
        "command": command.replace(str(args.out), "OUT"),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    done["pipeline"] = pipeline(args.out)
    done["exchange"] = exchange()
    done["ranks"] = together(done["exchange"])
    done["plans"] = plans()
    done["assumed"] = asdict(Cluster(devices=1))
    TABLE.write_text(json.dumps(done, indent=1) + "\n")
    print(json.dumps(done, indent=1))


def pipeline(out: Path) -> dict[str, Any]:
    """Seconds a step, foretold and measured, for waits that are short and long."""
    config = configuration.override(masked_gan(), SMALL)
    sets = pictures(unpacked("tiny_imagenet_vehicles", out), config)
    unloaded = {kind: forgotten(one) for kind, one in sets.items()}

    def loader(workers: int) -> Loader:
        return Loader(unloaded, replace(config.data.loader, workers=workers), seed=0)

    decode = []
    batches = loader(0).batches()
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        next(batches)
        decode.append(time.perf_counter() - started)
    decode = decode[1:]
    usual = statistics.median(decode)
    cases = []
    for workers in (0, 1, 2):
        for share in SHARES:
            wait = share * usual
            batches = loader(workers).batches()
            for _ in range(4 * max(1, workers)):  # the queue fills
                next(batches)
            started = time.perf_counter()
            for _ in range(STEPS):
                time.sleep(wait)
                next(batches)
            measured = (time.perf_counter() - started) / STEPS
            batches.close()
            foretold = paced(wait, decode, workers)
            cases.append(
                {
                    "workers": workers,
                    "wait": wait,
                    "measured": measured,
                    "foretold": foretold,
                    "error": foretold / measured - 1,
                }
            )
            print(cases[-1], flush=True)
    batch = config.data.loader.batch_size
    return {"batch": batch, "decode_seconds_per_batch": usual, "cases": cases}


def exchange() -> dict[str, Any]:
    """All-reduces of two and four ranks; the link of each is fitted to some sizes."""
    found = {}
    for count in (2, 4):
        seconds = {int(size): taken for size, taken in launched("exchange", count).items()}
        link = fitted(FITTED, [seconds[size] for size in FITTED], count)
        found[str(count)] = {
            **asdict(link),
            "cases": [
                {
                    "bytes": size,
                    "measured": seconds[size],
                    "foretold": link.all_reduce(size, count),
                    "error": link.all_reduce(size, count) / seconds[size] - 1,
                    "fitted": size in FITTED,
                }
                for size in sorted(seconds)
            ],
        }
    return found


def exchange_here(ranks: Any) -> dict[str, float]:
    found = {}
    for size in (*FITTED, *ASKED):
        parameter = torch.nn.Parameter(torch.zeros(size // 4))
        parameter.grad = torch.ones(size // 4)
        taken = []
        for _ in range(9):
            started = time.perf_counter()
            ranks.average_gradients([parameter])
            taken.append(time.perf_counter() - started)
        found[str(size)] = statistics.median(taken[1:])
    return found


def together(exchanged: dict[str, Any]) -> dict[str, Any]:
    """The default pre-training: one process with all the batch, and two with half of it each."""
    alone = {name: launched("ranks", 1, threads=threads) for name, threads in (("1", 1), ("2", 2))}
    both = launched("ranks", 2)
    sent = both["gradient_bytes"]
    link = fitted(
        [case["bytes"] for case in exchanged["2"]["cases"]],
        [case["measured"] for case in exchanged["2"]["cases"]],
        2,
    )
    foretold = both["seconds_alone"] + link.all_reduce(sent, 2)
    return {
        "seconds_one_thread": alone["1"]["seconds"],
        "seconds_two_threads": alone["2"]["seconds"],
        "seconds_two_ranks": both["seconds"],
        "two_ranks_foretold": foretold,
        "error": foretold / both["seconds"] - 1,
        "gradient_bytes": sent,
        "times_as_fast": alone["1"]["seconds"] / both["seconds"],
    }


def steps_here(ranks: Any) -> dict[str, float]:
    """Seconds of a step on this rank's part of the batch, with and without the exchange."""
    config = masked_gan()
    objective = build_objective(config).train()
    count = config.data.loader.batch_size // ranks.world
    batch = Batch(clip=torch.randint(0, 256, (count, 3, 1, 32, 32), dtype=torch.uint8))
    parameters = [one for one in objective.parameters() if one.requires_grad]
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(12):
        for exchanged in (True, False):
            objective.zero_grad(set_to_none=True)
            ranks.decided(0.0, False)  # all begin together
            started = time.perf_counter()
            objective.loss("both", batch, step_rng(0, number % 4), 0.7).total.backward()
            if exchanged:
                ranks.average_gradients(parameters)
            taken[exchanged].append(time.perf_counter() - started)
    return {
        "seconds": statistics.mean(taken[True][4:]),
        "seconds_alone": statistics.mean(taken[False][4:]),
        "gradient_bytes": float(sum(4 * one.numel() for one in parameters)),
    }


def launched(part: str, count: int, threads: int = 1) -> dict[str, float]:
    """What the first of `count` processes of this script found."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc-per-node", str(count), __file__, "--part", part, "--threads", str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    found = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    told: dict[str, float] = json.loads(found.stdout.strip().splitlines()[-1])
    return told


def plans() -> list[dict[str, Any]]:
    """A billion images and a hundred million clips, by sizes and numbers of devices."""
    timed = json.loads((HERE / "results" / "decoding.json").read_text())
    decode = {
        kind: timed[group][name]["milliseconds"][contender]["median"] / 1e3
        for kind, (group, name, contender) in TIMED.items()
    }
    found = []
    for size, kind, (frames, side), items, batch in (
        ("small", "images", IMAGE, 1e9, 4096),
        ("base", "images", IMAGE, 1e9, 4096),
        ("small", "clips", CLIP, 1e8, 1024),
    ):
        flops, parameters = flops_of(size, frames, side)
        work = Work(
            items=items,
            epochs=EPOCHS,
            flops=flops,
            decode=decode[kind],
            size=STORED[kind],
            parameters=parameters,
            batch=batch,
        )
        for devices in (8, 64, 256):
            cluster = Cluster(devices=devices)
            found.append({"encoder": size, "kind": kind} | asdict(work) | plan(work, cluster))
    return found


def flops_of(size: str, frames: int, side: int) -> tuple[float, float]:
    """Operations of a pre-training step for one item of a size, counted; and the parameters."""
    shape = [f"data.preprocess.{name}={side}" for name in ("height", "width")]
    settings = [*shape, "backbone.patch=16", f"data.preprocess.frames={frames}"]
    config = configuration.override(sized(masked_gan(), size), settings)
    objective = build_objective(config).train()
    count = 2 if frames > 1 else 4  # terms that take a share of the items need some
    clip = torch.randint(0, 256, (count, 3, frames, side, side), dtype=torch.uint8)
    total = 0
    rounds = 2  # a step has other terms than the next
    for number in range(rounds):
        with FlopCounterMode(display=False) as counter:
            objective.loss("both", Batch(clip=clip), step_rng(0, number), 0.7).total.backward()
        total += counter.get_total_flops()
        objective.zero_grad(set_to_none=True)
    parameters = sum(one.numel() for one in objective.parameters() if one.requires_grad)
    return total / rounds / count, float(parameters)


if __name__ == "__main__":
    main()
