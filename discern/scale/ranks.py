"""Ranks: processes that train one model together, each on its part of every batch.

`torchrun --nproc-per-node 2 -m discern train ...` starts them.  Rank 0, the leader, alone judges,
writes the run folder and decides by its clock; the others follow.  Gradients are averaged by hand
and not by DistributedDataParallel, which breaks losses that take gradients themselves (PyTorch
#47562).  Nothing is pickled on the way: texts go as bytes, tensors as safetensors.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeGuard

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from discern.errors import DiscernError

WAIT = timedelta(minutes=30)  # for a rank that judges or saves; one that died is known at once


class RankLost(DiscernError):
    """Another process of the training is gone."""


class Followed(DiscernError):
    """The training is over for a rank that is not the leader: the rest is the leader's."""

    exit_code = 0


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; all methods do nothing where it is alone."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # of what is exchanged

    @property
    def leads(self) -> bool:
        """Whether this rank writes and decides."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Mean over ranks, in one exchange; those of divided parameters are means already.

        A parameter without a gradient counts as zero; where no rank has one it keeps none, since
        an optimizer would let it decay.
        """
        if self.world == 1:
            return
        wanted = [one for one in parameters if one.requires_grad and not is_divided(one)]
        has = torch.tensor([float(one.grad is not None) for one in wanted], device=self.device)
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in wanted]
        *means, shares = self._mean([*found, has], torch.float32)
        for one, mean, share in zip(wanted, means, shares.tolist(), strict=True):
            if share > 0:
                one.grad = mean.to(one.dtype)

    def average_buffers(self, module: torch.nn.Module) -> None:
        """Mean over ranks of what a module counts on the way, in one exchange."""
        if self.world == 1:
            return
        counted = [one for one in module.buffers() if one.is_floating_point()]
        for value, mean in zip(counted, self._mean(counted, torch.float64), strict=True):
            value.copy_(mean)

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Mean over ranks of named numbers, whose names are the same on all of them."""
        if self.world == 1 or not values:
            return dict(values)
        flat = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        self._sum(flat)
        return dict(zip(values, (flat / self.world).tolist(), strict=True))

    def decided(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The leader's clock, and whether any rank was asked to stop."""
        if self.world == 1:
            return seconds, stop
        said = [seconds if self.leads else 0.0, float(stop)]
        flat = torch.tensor(said, dtype=torch.float64, device=self.device)
        self._sum(flat)
        clock, stops = flat.tolist()
        return clock, stops > 0

    def from_leader(self, value: Any) -> Any:
        """A JSON value of the leader's, on all ranks."""
        if self.world == 1:
            return value
        return json.loads(self._bytes(json.dumps(value).encode() if self.leads else b""))

    def gathered(self, value: Any) -> list[Any]:
        """A JSON value of each rank, on all ranks."""
        if self.world == 1:
            return [value]
        data = json.dumps(value).encode()
        lengths = torch.zeros(self.world, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(data)
        self._sum(lengths)
        box = torch.zeros(int(lengths.sum()), dtype=torch.uint8, device=self.device)
        parts = box.split(lengths.tolist())
        parts[self.rank].copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._sum(box)
        return [json.loads(part.cpu().numpy().tobytes()) for part in parts]

    def saved_from_leader(
        self, saved: tuple[dict[str, Tensor], dict[str, Any]] | None
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state that the leader has read, or None where there are none."""
        if self.world == 1:
            return saved
        state = self.from_leader(None if saved is None else saved[1])
        if state is None:
            return None
        data = safetensors.torch.save(saved[0]) if self.leads and saved is not None else b""
        return safetensors.torch.load(self._bytes(data)), state

    def _mean(self, values: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Mean over ranks of tensors whose shapes are the same on all of them."""
        if not values:
            return []
        flat = torch.cat([one.detach().reshape(-1).to(self.device, dtype) for one in values])
        self._sum(flat)
        parts = (flat / self.world).split([one.numel() for one in values])
        return [part.view_as(one).clone() for part, one in zip(parts, values, strict=True)]

    def _bytes(self, data: bytes) -> bytes:
        length = torch.tensor([len(data)], dtype=torch.int64, device=self.device)
        self._broadcast(length)
        box = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if self.leads:
            box.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._broadcast(box)
        return box.cpu().numpy().tobytes()

    def _sum(self, value: Tensor) -> None:
        with told():
            dist.all_reduce(value)

    def _broadcast(self, value: Tensor) -> None:
        with told():
            dist.broadcast(value, src=0)


ALONE = Ranks()
_joined = False  # whether this process has ever been one of several


def current() -> Ranks:
    """The ranks that this process has joined, or itself alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = dist.get_backend() == "nccl"
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    return Ranks(rank=dist.get_rank(), world=dist.get_world_size(), device=device)


def launched() -> bool:
    """Whether a launcher such as torchrun has started this process as one of several."""
    try:
        return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    except ValueError:
        return False


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the others where a launcher has started several; such a process ends by `leave`."""
    global _joined
    if not launched():
        yield ALONE
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=WAIT)
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise DiscernError(f"the ranks do not find each other: {first}") from None
    _joined = True
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def leave(code: int) -> None:
    """End a process that has joined others at once; one that worked alone goes on.

    torch holds on to process groups of divided tensors, whose threads then outlive them until the
    interpreter is gone.  Now and then that aborts a rank whose work is done, and the launcher takes
    the whole run for a failed one.
    """
    if not _joined:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # who read it has left
            stream.flush()
    os._exit(code)


def is_divided(value: Tensor) -> TypeGuard[Any]:
    """Whether a tensor (torch's DTensor) lies on several ranks in parts."""
    return hasattr(value, "placements")  # its module takes long to import


@contextmanager
def told() -> Iterator[None]:
    """Names what an exchange says when another rank is gone.  Raises RankLost."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            "another rank is gone: the same command goes on from the last checkpoint "
            f"({str(error).splitlines()[0][:120]})"
        ) from None
