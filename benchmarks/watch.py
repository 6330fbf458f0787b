"""How soon the watch over a training sees that it goes wrong, and how often it cries for nothing.

    python benchmarks/watch.py

Small networks play on the embedded digits.  Ten times a fault is made at step 100: five faults, in
each of the two adversarial objectives; the watch has 500 steps to say so.  Twenty healthy runs of
600 steps must stay silent.  Seeds of both kinds differ.
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from few_labels import HERE, commit, hardware, versions  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.data.badfiles import BadFiles  # noqa: E402
from discern.data.loader import Loader  # noqa: E402
from discern.data.sources import open_source  # noqa: E402
from discern.data.synthetic import DigitsConfig, write_digits  # noqa: E402
from discern.objectives.gan import Gan  # noqa: E402
from discern.objectives.masked_gan import MaskedGan  # noqa: E402
from discern.objectives.objective import Objective  # noqa: E402
from discern.recipes import images  # noqa: E402
from discern.recipes.prepare import load_sets  # noqa: E402
from discern.train.build import build_objective  # noqa: E402
from discern.train.loop import fit  # noqa: E402
from discern.train.settings import RunConfig  # noqa: E402

FAULT_AT, LOOKED, HEALTHY = 100, 500, 10  # steps, steps, runs of each objective
SMALL = (
    *("backbone.width=48", "backbone.depth=2", "backbone.heads=2", "backbone.patch=8"),
    *("generator.width=48", "generator.depth=1", "generator.heads=2", "generator.noise=16"),
    *("data.preprocess.height=32", "data.preprocess.width=32", "data.loader.batch_size=16"),
    *("loop.log_seconds=0", "masked_gan.adversary_start=0"),
)
OBJECTIVES: dict[str, Callable[[], RunConfig]] = {
    "masked_gan": images.masked_gan,
    "gan": images.gan,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--healthy", type=int, default=HEALTHY, help="Runs of each objective.")
    args = parser.parse_args()
    set_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        folder = write_digits(Path(home), config=DigitsConfig(train_clips=0, test_clips=0))
        forced = {
            f"{name}, {fault}": run(folder, name, 100 + number, FAULT_AT + LOOKED, fault)
            for name in OBJECTIVES
            for number, fault in enumerate(FAULTS)
        }
        calm = {
            f"{name}, seed {seed}": run(folder, name, seed, FAULT_AT + LOOKED, None)
            for name in OBJECTIVES
            for seed in range(args.healthy)
        }
    seen = [one for one in forced.values() if one["seen_after"] is not None]
    found = {
        "command": " ".join(["python", "benchmarks/watch.py", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "seconds": round(time.monotonic() - started, 1),
        "forced": forced,
        "healthy": calm,
        "seen": len(seen),
        "forced_runs": len(forced),
        "false_alarms": sum(bool(one["said"]) for one in calm.values()),
        "healthy_runs": len(calm),
    }
    (HERE / "results" / "watch.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def run(folder: Path, name: str, seed: int, steps: int, fault: str | None) -> dict[str, Any]:
    """What the watch says of one training, and how many steps after the fault."""
    config = replace(configuration.override(OBJECTIVES[name](), SMALL), seed=seed)
    config = replace(config, loop=replace(config.loop, steps=steps, minutes=None))
    source = open_source([str(folder)])
    chosen = [i for i, item in enumerate(source.items) if item.split == "train"]
    sets = load_sets(source, chosen, config, BadFiles(None), classes=source.classes)
    objective = build_objective(config)
    lines: list[dict[str, Any]] = []
    memory: dict[str, Any] = {}

    class Journal:
        def log(self, *, step: int, **values: Any) -> None:
            if "event" in values:
                lines.append({"step": step, "said": values["event"]})

    class Keeper:
        def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
            memory["saved"] = ({k: v.clone() for k, v in tensors.items()}, dict(state))

        def load(self) -> Any:
            return memory.get("saved") if memory.get("began") else None

    loss, taken = objective.loss, [0]

    def faulty(phase: str, *rest: Any) -> Any:
        memory["began"] = True
        if phase == next(iter(objective.players)):
            taken[0] += 1
        if fault is not None and taken[0] > FAULT_AT:
            FAULTS[fault](objective, taken[0] == FAULT_AT + 1)
        return loss(phase, *rest)

    objective.loss = faulty  # type: ignore[method-assign]
    outcome = fit(
        objective.train(),
        Loader(sets, config.data.loader, seed=seed),
        config.loop,
        config.optim,
        seed=seed,
        journal=Journal(),
        keeper=Keeper(),
        autocast=contextlib.nullcontext,
    )
    after = [line for line in lines if line["step"] > FAULT_AT]
    return {
        "seen_after": after[0]["step"] - FAULT_AT if fault and after else None,
        "said": [f"{line['step']}: {line['said']}" for line in lines[:4]],
        "stopped_by": outcome.stopped_by,
    }


def paint_one_thing(objective: Objective, first: bool) -> None:
    """The fakes are all alike: mode collapse."""
    if first:
        assert isinstance(objective, MaskedGan | Gan)
        objective.generator.register_forward_hook(
            lambda module, given, out: out.mean(dim=0, keepdim=True).expand_as(out)
        )


def paint_rubbish(objective: Objective, first: bool) -> None:
    """The generator paints what nobody takes for real, and does not get better."""
    if first:
        assert isinstance(objective, MaskedGan | Gan)
        objective.generator.register_forward_hook(
            lambda module, given, out: out * 0 + torch.randn_like(out).sign()
        )


def judge_by_lot(objective: Objective, first: bool) -> None:
    """The discriminator's heads say nothing."""
    assert isinstance(objective, MaskedGan | Gan)
    with torch.no_grad():
        for name, value in objective.discriminator.named_parameters():
            if not name.startswith("backbone."):
                value.zero_()


def break_a_weight(objective: Objective, first: bool) -> None:
    """A weight of the generator is no number."""
    if first:
        assert isinstance(objective, MaskedGan | Gan)
        with torch.no_grad():
            next(iter(objective.generator.parameters())).fill_(float("nan"))


def leap(objective: Objective, first: bool) -> None:
    """All weights of the discriminator are thrown far away, as by a rate that is far too high."""
    if first:
        assert isinstance(objective, MaskedGan | Gan)
        with torch.no_grad():
            for module in objective.discriminator.modules():
                if isinstance(module, nn.Linear):
                    module.weight.mul_(1e4)


FAULTS: dict[str, Callable[[Objective, bool], None]] = {
    "fakes all alike": paint_one_thing,
    "fakes of noise": paint_rubbish,
    "a judge by lot": judge_by_lot,
    "a weight that is no number": break_a_weight,
    "weights thrown far away": leap,
}


if __name__ == "__main__":
    main()
