"""What a resumed training needs: tensors of an objective and its optimizers, and plain values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from discern.data.loader import Position
from discern.models.model import named_tensors
from discern.objectives.objective import Objective
from discern.train.muon import Muon


@dataclass(kw_only=True)
class State:
    """What a resumed run needs besides tensors; all of it is in the checkpoint."""

    step: int = 0
    seconds: float = 0.0  # spent training, over all resumes
    position: Position = Position()
    best: float = -math.inf
    last: float | None = None  # of the network as it is: what is handed over is the last one
    stale: int = 0  # evaluations since the best
    next_evaluation: float = 0.0  # progress
    next_save: float = 0.0  # progress
    watch: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)  # what each term said last


def tensors_of(objective: Objective, optimizers: dict[str, Muon]) -> dict[str, Tensor]:
    """What a checkpoint holds of the networks, and of what their optimizers know, by name."""
    tensors = {f"objective/{name}": value for name, value in named_tensors(objective).items()}
    for phase, optimizer in optimizers.items():
        for name, parameter in objective.players[phase].named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{phase}/{name}/{key}"] = value
    return tensors


def restore(
    objective: Objective,
    optimizers: dict[str, Muon],
    tensors: dict[str, Tensor],
    saved: dict[str, Any],
    state: State,
    *,
    weights_only: bool = False,
) -> None:
    """All of it back from `tensors_of` and `plain_of`; with `weights_only` the state stays."""
    with torch.no_grad():
        for name, value in named_tensors(objective).items():
            value.copy_(tensors[f"objective/{name}"])
    for phase, optimizer in optimizers.items():
        prefix = f"optimizer/{phase}/"
        optimizer.state.clear()
        parameters = dict(objective.players[phase].named_parameters())
        for place, value in tensors.items():
            if place.startswith(prefix):
                name, key = place.removeprefix(prefix).rsplit("/", 1)
                moved = value.to(parameters[name].device, copy=True)
                optimizer.state[parameters[name]][key] = moved
    if weights_only:
        return
    for key, value in saved.items():
        setattr(state, key, Position(*value) if key == "position" else value)


def plain_of(state: State) -> dict[str, Any]:
    """The state as JSON types."""
    plain = asdict(state)
    plain["position"] = list(state.position)
    # a state is JSON, which has no word for what is not finite
    plain["parts"] = {name: value for name, value in state.parts.items() if math.isfinite(value)}
    plain["best"] = state.best if math.isfinite(state.best) else -1.0
    return plain
