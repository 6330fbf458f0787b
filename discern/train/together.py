"""Checkpoints of divided blocks: all ranks save and load, the leader's word is the last.

The same folders, names and promises as those of one process; one can go on from the other's.  What
is whole again on the disk needs a folder that all ranks see.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discern.errors import DiscernError, IntegrityError
from discern.files import write_new
from discern.models.model import named_tensors
from discern.objectives.objective import Objective
from discern.scale.divided import like, own_part
from discern.scale.ranks import Ranks
from discern.train import checkpoint, parts
from discern.train.manifest import Entry, entry_of

_log = logging.getLogger("discern")


class TogetherSaver:
    """Where the checkpoints of divided blocks go; all ranks call each method."""

    def __init__(
        self, folder: Path, ranks: Ranks, objective: Objective, *, keep: int = 2, failures: int = 3
    ) -> None:
        self.folder = Path(ranks.from_leader(str(folder.absolute())))
        self._ranks, self._objective = ranks, objective
        self._keep, self._patience = keep, checkpoint.Patience(failures)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save, or warn; raises on all ranks at the last of several failures in a row.

        Raises NotFinite at once.
        """
        own = {name: own_part(value) for name, value in tensors.items()}
        bad = sorted(set().union(*self._ranks.gathered(checkpoint.not_finite(own))))
        if bad:
            raise checkpoint.NotFinite(f"step {step} is not saved: NaN or infinity in {bad[0]}")
        text = checkpoint.encode_state(step, state)
        self._patience.of(step, lambda: self._save(step, tensors, text))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest checkpoint that verifies, its tensors divided as the objective's are."""
        found, state = self._by_leader(self._newest) or (None, {})
        if found is None:
            return None
        path = self.folder / found
        layout = self._layout()
        if parts.in_parts(path):
            return parts.read_parts(path, layout), state
        _, tensors, _ = checkpoint.read(path)
        return {name: like(layout(name), value) for name, value in tensors.items()}, state

    def wait(self) -> None:
        """Nothing is written in the background."""

    def _save(self, step: int, tensors: Mapping[str, Tensor], state: bytes) -> Path:
        hidden = self.folder / self._by_leader(lambda: self._hidden(tensors))
        try:
            entries = parts.write_parts(hidden, tensors, self._ranks)
        except Exception as error:  # DCP tells all ranks, in a class of its own
            self._by_leader(lambda: shutil.rmtree(hidden, ignore_errors=True))
            first = str(error).splitlines()[0]
            raise checkpoint.CheckpointError(f"{self.folder}: {first}") from error
        return self.folder / self._by_leader(lambda: self._seal(hidden, step, state, entries))

    def _hidden(self, tensors: Mapping[str, Tensor]) -> str:
        checkpoint.check_space(self.folder, tensors)
        checkpoint.remove_leftovers(self.folder)
        hidden = checkpoint.hidden(self.folder)
        os.mkdir(hidden)
        return hidden.name

    def _seal(self, hidden: Path, step: int, state: bytes, entries: dict[str, Entry]) -> str:
        """The folder gets its name once all of it is on the disk."""
        try:
            write_new(hidden / parts.STATE, state)
            known = {**entries, parts.STATE: entry_of(state)}
            path = checkpoint.seal(hidden, parts.FORMAT, step, known)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        checkpoint.sync_up(path)
        checkpoint.prune(self.folder, path, self._keep)
        return path.name

    def _newest(self) -> tuple[str, dict[str, Any]] | None:
        found = checkpoint.load_latest(self.folder, tensors=False)
        if found is None:
            return None
        for note in found.notes:
            _log.warning("%s", note)
        return found.path.name, found.state

    def _layout(self) -> Callable[[str], Tensor]:
        """Name in a checkpoint -> a tensor of this rank's that has the shape and the parts."""
        known = {f"objective/{name}": one for name, one in named_tensors(self._objective).items()}
        for phase, player in self._objective.players.items():
            for name, one in player.named_parameters():
                known[f"optimizer/{phase}/{name}"] = one

        def found(name: str) -> Tensor:
            if name in known:
                return known[name]
            place, _, key = name.rpartition("/")
            return torch.zeros(()) if key == "step" else known[place]

        return found

    def _by_leader(self, work: Callable[[], Any]) -> Any:
        """What the leader's work brings; what it raises is raised on all ranks."""
        said: dict[str, Any] = {}
        raised: Exception | None = None
        if self._ranks.leads:
            try:
                said = {"value": work()}
            except OSError as error:
                raised = checkpoint.translate(error, self.folder, 0)
            except DiscernError as error:
                raised = error
            if raised is not None:
                said = {"error": str(raised), "broken": isinstance(raised, IntegrityError)}
        said = self._ranks.from_leader(said)
        if raised is not None:
            raise raised
        if "error" in said:
            kind = IntegrityError if said["broken"] else checkpoint.CheckpointError
            raise kind(said["error"])
        return said["value"]
