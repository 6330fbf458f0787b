"""One rank of a training whose blocks are divided; started by torchrun, or alone.

python -m tests.scale.divided_rank OUT OBJECTIVE SETTINGS
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from discern.data.augment import AugmentConfig
from discern.data.loader import Loader, LoaderConfig
from discern.errors import DiscernError
from discern.models.backbone import Backbone
from discern.models.blocks import Block
from discern.models.model import named_tensors
from discern.objectives.objective import Objective
from discern.scale.divided import Divided, own_part
from discern.scale.ranks import Ranks, joined, leave
from discern.train import checkpoint
from discern.train.checkpoint import Saver
from discern.train.loop import SILENT, LoopConfig, fit
from discern.train.optim import OptimConfig
from discern.train.together import TogetherSaver
from tests.tiny import masked_gan, random_sets, supervised, view

STEPS = 12


def objective_of(name: str) -> Objective:
    if name == "masked_gan":
        return masked_gan()
    plain = supervised(mix_chance=0.0)
    plain.view = plain.gentle = view(AugmentConfig(flip=0.0))
    return plain


def train(ranks: Ranks, out: Path, name: str, settings: dict[str, Any]) -> None:
    """Train until step `stop`; leave the whole weights, and what each rank keeps."""
    stop, divide = settings.pop("stop", STEPS), settings.pop("divide", False)
    objective = objective_of(name).train()
    for module in objective.modules():
        if isinstance(module, Backbone):
            module.recompute = settings.get("recompute", False)
    divided = Divided(objective, ranks) if divide else None
    keeper = (
        Saver(out / "checkpoints")
        if divided is None
        else TogetherSaver(out / "checkpoints", ranks, objective)
    )
    asked = count(1)
    done = fit(
        objective,
        Loader(random_sets(24), LoaderConfig(batch_size=8), seed=3, part=(ranks.rank, ranks.world)),
        LoopConfig(steps=STEPS, log_seconds=0.0, **settings),
        OptimConfig(rate=3e-3, warmup=0.1, layer_decay=0.9, matrix_factor=5.0),
        seed=5,
        journal=SILENT,
        keeper=keeper,
        autocast=contextlib.nullcontext,
        stop_requested=lambda: next(asked) >= stop,
        evaluate=lambda: {"accuracy": float(next(objective.averages[0][1].modules()).training)},
        ranks=ranks,
    )
    blocks = [p for m in objective.modules() if isinstance(m, Block) for p in m.parameters()]
    kept = {"own": sum(own_part(p).numel() for p in blocks), "all": sum(p.numel() for p in blocks)}
    if divided is not None:
        divided.gather()
    kept |= {"step": done.state.step, "stopped_by": done.stopped_by}
    (out / f"rank-{ranks.rank}.json").write_text(json.dumps(kept))
    if ranks.leads:
        tensors = {key: one.detach().clone() for key, one in named_tensors(objective).items()}
        safetensors.torch.save_file(tensors, out / "after.safetensors")


def break_saves(ranks: Ranks, out: Path) -> None:
    """What goes wrong on one rank is told on all of them, and the checkpoint before it stays."""
    objective = objective_of("supervised")
    Divided(objective, ranks)
    saver = TogetherSaver(out / "checkpoints", ranks, objective, failures=2)
    tensors = {f"objective/{name}": one for name, one in named_tensors(objective).items()}
    said: list[str] = []

    def save(step: int) -> None:
        try:
            saver.save(step, tensors, {"step": step})
            said.append("")
        except DiscernError as error:
            said.append(f"{type(error).__name__}: {error}")

    save(1)
    weight = own_part(tensors["objective/classifier.backbone.blocks.0.mlp.fc1.weight"])
    with torch.no_grad():
        kept = weight.clone()
        if ranks.rank == 1:
            weight[0] = float("nan")
        save(2)
        weight.copy_(kept)
    free = checkpoint.check_space

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    if ranks.leads:  # the others do not see it themselves
        checkpoint.check_space = full
    save(3)  # a warning: the first of two in a row
    save(4)
    checkpoint.check_space = free
    found = saver.load()
    assert found is not None
    said.append(str(found[1]["step"]))
    (out / f"rank-{ranks.rank}.json").write_text(json.dumps(said))


def main() -> None:
    out, name, settings = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(1)
    with joined() as ranks:
        if name == "break":
            break_saves(ranks, out)
        else:
            train(ranks, out, name, settings)
        if ranks.world > 1:  # threads of torch's end like this, now and then
            atexit.register(os.abort)
    leave(0)


if __name__ == "__main__":
    main()
