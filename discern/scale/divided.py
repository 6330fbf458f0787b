"""Blocks that are divided over ranks: an objective comes in, and is whole again in the end.

Each rank keeps its part of a block's weights, gradients, moments and averages; a block is put
together for the time in which it computes (FSDP2, Zhao et al. 2023; ZeRO-3, Rajbhandari et al.
2020).  What lies outside of blocks, the less of a Transformer the larger it is, is on all ranks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from discern.models.blocks import Block
from discern.scale.ranks import Ranks, is_divided, told


class Divided:
    """The blocks of a module, divided from now on until `gather`."""

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._module = module
        blocks = [one for one in module.modules() if isinstance(one, Block)]
        # what a block becomes cannot be undone: these take its place in the end
        self._blank = {block: copy.deepcopy(block).to("meta") for block in blocks}
        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        for block in blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)

    def gather(self) -> None:
        """Make the module whole on each rank's main memory; all ranks call it."""
        for block, blank in self._blank.items():
            state = {name: whole(value).cpu() for name, value in block.state_dict().items()}
            blank.load_state_dict(state, assign=True)
            for own, was in zip(blank.parameters(), block.parameters(), strict=True):
                own.requires_grad_(was.requires_grad)
            blank.train(block.training)
        for parent in list(self._module.modules()):
            for name, child in parent.named_children():
                if isinstance(child, Block) and child in self._blank:
                    setattr(parent, name, self._blank[child])
        self._blank = {}


def own_part(value: Tensor) -> Tensor:
    """The part that lies on this rank, in the same memory; all of one that is not divided."""
    return value.to_local() if is_divided(value) else value


def whole(value: Tensor) -> Tensor:
    """All of a tensor; all ranks call it."""
    if not is_divided(value):
        return value
    with told():
        return value.full_tensor()


def like(target: Tensor, value: Tensor) -> Tensor:
    """This rank's part of a whole tensor, if `target` is divided; nothing is exchanged."""
    if not is_divided(target):
        return value
    from torch.distributed.tensor import distribute_tensor

    here = value.to(target.device)
    return distribute_tensor(here, target.device_mesh, target.placements, src_data_rank=None)


def by_kind(values: Iterable[Tensor]) -> list[list[Tensor]]:
    """Whole ones and divided ones apart: torch's operations on lists take one kind alone."""
    lists: dict[bool, list[Tensor]] = {}
    for value in values:
        lists.setdefault(is_divided(value), []).append(value)
    return list(lists.values())


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that the norm over all of them is at most `limit`.  -> the norm before"""
    moved = [one for one in parameters if one.grad is not None]
    if not any(map(is_divided, moved)):
        return nn.utils.clip_grad_norm_(moved, limit)
    kinds = by_kind(moved)
    gradients: list[list[Tensor]] = [
        [one.grad for one in kind if one.grad is not None] for kind in kinds
    ]
    norms = [whole(nn.utils.get_total_norm(kind)) for kind in gradients]
    norm = torch.stack(norms).norm()
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, limit, norm)
    return norm


def divided_like(value: Tensor, example: Tensor) -> Tensor:
    """A whole tensor, divided over ranks where the example is; all ranks call it with the same."""
    if not is_divided(example):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = example.device_mesh, example.placements
    return distribute_tensor(value, mesh, placements, src_data_rank=None)
