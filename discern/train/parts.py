"""Tensors of a checkpoint that several ranks write, each its part, into files of one folder.

    shard-00001-model-00001-of-00001.safetensors  shard-00002-...  state.json  manifest.json

torch's distributed checkpoint (DCP) settles who writes what, and reads parts that another number of
ranks has written.  Its files here are safetensors, not pickles; its plans, which ranks of one
training tell each other, it does pickle.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from discern.errors import IntegrityError
from discern.files import sha256
from discern.scale.ranks import Ranks
from discern.train.manifest import Entry, read_entries

FORMAT = "discern-checkpoint-parts/1"
STATE = "state.json"
_SHARD = "shard-{:05d}-*.safetensors"  # DCP's names; ranks count from 1


def in_parts(folder: Path) -> bool:
    """Whether several ranks wrote this checkpoint."""
    return next(folder.glob(_SHARD.format(1)), None) is not None


def write_parts(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Entry]:
    """Write all tensors, each rank its part of them; all ranks call it.  -> what to know of files

    What is whole, and on all ranks, is written by one of them.  Raises what DCP raises, on all
    ranks; files of a failed call may be left.
    """
    import torch.distributed.checkpoint as dcp

    plain = {name: value.detach() for name, value in tensors.items()}
    with _quietly():
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(plain, storage_writer=writer)
    mine = sorted(folder.glob(_SHARD.format(ranks.rank + 1)))
    found = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in mine}
    return {name: entry for part in ranks.gathered(found) for name, entry in part.items()}


def read_state(folder: Path, step: int) -> dict[str, Any]:
    """The state beside the parts, once all files are what the manifest says.

    Raises IntegrityError or OSError.
    """
    entries = read_entries(folder, {"format": FORMAT, "step": step})
    strange = {path.name for path in folder.glob("*.safetensors")} - set(entries)
    if strange:  # DCP would read it with the others
        raise IntegrityError(f"{min(strange)} is not in the manifest")
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{name} is missing")
        if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise IntegrityError(f"{name} was altered: it is not the manifest's")
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except ValueError as error:
        raise IntegrityError(f"cannot be parsed ({error})") from None
    return state


def read_parts(folder: Path, like: Callable[[str], Tensor] | None = None) -> dict[str, Tensor]:
    """All tensors: whole ones, by this process alone; or each as `like` has it, by all ranks.

    Raises IntegrityError.
    """
    import torch.distributed.checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(folder))
    try:
        found: dict[str, Any] = {}
        written: dict[str, Any] = reader.read_metadata().state_dict_metadata
        for name, value in written.items():
            if like is not None:
                found[name] = torch.zeros_like(like(name))
            else:
                found[name] = torch.zeros(value.size, dtype=value.properties.dtype)
        with _quietly():
            dcp.load(found, storage_reader=reader, no_dist=like is None)
    except (dcp.CheckpointException, safetensors.SafetensorError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise IntegrityError(f"{folder.name}: its parts are not whole ({first})") from None
    return found


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's remark that one process alone reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
