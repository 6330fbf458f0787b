"""What reading data adds to a pre-training step: steps with the loader against steps on one batch.

    python benchmarks/feeding.py [--rounds 7]

The default recipe on Tiny-ImageNet's vehicles (JPEG, 64 x 64), in memory, decoded anew in every
step, and decoded by a process beside the training.  Contenders take turns.
"""

from __future__ import annotations

from discern.threads import choose_threads, prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

from few_labels import HERE, commit, hardware, unpacked, versions  # noqa: E402
from rounds import interleaved, summary  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.clip import Batch, Kind  # noqa: E402
from discern.data.badfiles import BadFiles  # noqa: E402
from discern.data.clipset import ClipSet  # noqa: E402
from discern.data.loader import Loader  # noqa: E402
from discern.data.sources import open_source  # noqa: E402
from discern.heap import keep_freed_memory  # noqa: E402
from discern.recipes.images import masked_gan  # noqa: E402
from discern.recipes.prepare import load_sets  # noqa: E402
from discern.train.build import build_objective  # noqa: E402
from discern.train.loop import step_rng  # noqa: E402
from discern.train.settings import RunConfig  # noqa: E402

STEPS, LIMIT = 3, 1.05
SETTINGS = ["data.preprocess.height=64", "data.preprocess.width=64", "backbone.patch=8"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    set_threads(choose_threads())
    keep_freed_memory()
    config = configuration.override(masked_gan(), SETTINGS)
    objective = build_objective(config).train()
    sets = pictures(unpacked("tiny_imagenet_vehicles", args.out), config)
    held = next(batches(sets, config, workers=0))
    unloaded = {kind: forgotten(one) for kind, one in sets.items()}
    sources: dict[str, Iterator[Batch]] = {
        "one batch": iter(lambda: held, None),
        "in memory": batches(sets, config, workers=0),
        "decoded in the step": batches(unloaded, config, workers=0),
        "decoded beside it": batches(unloaded, config, workers=1),
    }
    number = [0]

    def steps(source: Iterator[Batch]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(STEPS):
                number[0] += 1
                losses = objective.loss("both", next(source), step_rng(0, number[0] % STEPS), 0.7)
                losses.total.backward()
                objective.zero_grad(set_to_none=True)

        return run

    seconds = interleaved({name: steps(one) for name, one in sources.items()}, args.rounds)
    plain = seconds["one batch"]
    times = {
        name: summary([each / one for each, one in zip(values, plain, strict=True)])
        for name, values in seconds.items()
        if name != "one batch"
    }
    found = {
        "command": " ".join(["python", "benchmarks/feeding.py", *sys.argv[1:]]).replace(
            str(args.out), "OUT"
        ),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "batch": len(held.clip),
        "seconds_per_step": {
            name: summary([one / STEPS for one in values]) for name, values in seconds.items()
        },
        "times_as_long": times,
        "limit": LIMIT,
        "reached": times["in memory"]["median"] <= LIMIT,
    }
    (HERE / "results" / "feeding.json").write_text(json.dumps(found, indent=1) + "\n")
    print({name: block["median"] for name, block in times.items()})


def pictures(folder: Path, config: RunConfig) -> dict[Kind, ClipSet]:
    source = open_source([str(folder)])
    chosen = [i for i, item in enumerate(source.items) if item.split == "train"]
    return load_sets(source, chosen, config, BadFiles(None), classes=source.classes)


def forgotten(one: ClipSet) -> ClipSet:
    """The same items, not in memory."""
    return ClipSet(one.source, one.indices, one.labels, one.kind, one.preprocess)


def batches(sets: dict[Kind, ClipSet], config: RunConfig, workers: int) -> Iterator[Batch]:
    loader = Loader(sets, replace(config.data.loader, workers=workers), seed=0)
    for _, batch in loader.batches():
        yield batch


if __name__ == "__main__":
    main()
