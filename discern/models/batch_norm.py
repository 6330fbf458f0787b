"""Batch normalisation for images and clips, over all ranks.  [B, C, H, W] -> the same

In use it knows two statistics, of frames that stand alone and of those that move: what a stem adds
for motion would shift the one, and miss in the other (Chang et al. 2019, domain-specific batch
normalisation).  Until it has learned from both kinds, either stands for both.  What a network is
shown besides its data, such as forgeries, can be normalised without a trace in them (AdvProp, Xie
et al. 2020); and an averaged network learns its statistics from items as they are in use ("precise"
statistics, Wu and Johnson 2021), not from the augmented and mixed ones of the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

MOMENTUM = 0.1  # of a batch in the statistics, once there were several
EPS = 1e-5


class BatchNorm(nn.Module):
    """Ioffe and Szegedy (2015), with the statistics of the whole batch where ranks share it."""

    mean: Tensor  # [2, C]: alone, moving
    var: Tensor  # [2, C]
    learned: Tensor  # int64 [2]: from how many batches

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(2, width))
        self.register_buffer("var", torch.ones(2, width))
        self.register_buffer("learned", torch.zeros(2, dtype=torch.int64))
        self.forgets = False

    def forward(self, x: Tensor, moving: bool) -> Tensor:
        kind = int(moving)
        if not self.training:
            mean, var = self.mean[kind], self.var[kind]
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, EPS)
        # a momentum of 1 leaves the batch's own
        mean, var = torch.zeros_like(self.mean[0]), torch.ones_like(self.var[0])
        if dist.is_initialized() and dist.get_world_size() > 1:
            found = self._over_ranks(x, mean, var)
        else:
            found = F.batch_norm(x, mean, var, self.weight, self.bias, True, 1.0, EPS)
        if not self.forgets:
            self._learn(mean, var, kind)
        return found

    @torch.no_grad()
    def _learn(self, mean: Tensor, var: Tensor, kind: int) -> None:
        """Early batches count alike: a short training must not use what it began with.

        Nothing is read here, which a GPU would have to be waited for.
        """
        weight = (1.0 / (self.learned[kind] + 1)).clamp(min=MOMENTUM)
        unknown = self.learned[1 - kind] == 0
        for known, seen in ((self.mean, mean), (self.var, var)):
            known[kind] = known[kind].lerp(seen, weight)
            known[1 - kind] = torch.where(unknown, known[kind], known[1 - kind])
        self.learned[kind] += 1

    def _over_ranks(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """The same, `mean` and `var` [C] set in place.

        Two exchanges, the mean first: a sum of squares would lose small variances.
        """
        seen, axes = x.float(), (0, 2, 3)
        count = seen.new_tensor([seen.numel() / seen.shape[1]])
        sums = all_reduce(torch.cat([seen.sum(axes), count]))
        everything = sums[-1].detach()
        middle = sums[:-1] / everything
        apart = seen - middle.view(1, -1, 1, 1)
        spread = all_reduce(apart.square().sum(axes)) / everything
        with torch.no_grad():
            mean.copy_(middle)
            var.copy_(spread * everything / (everything - 1))
        scale = self.weight * torch.rsqrt(spread + EPS)
        return (apart * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


def norms_of(network: nn.Module) -> list[BatchNorm]:
    """All of a network's."""
    return [one for one in network.modules() if isinstance(one, BatchNorm)]


def restart(network: nn.Module) -> None:
    """What statistics know of earlier weights counts as one batch from here on."""
    for one in norms_of(network):
        one.learned.clamp_(max=1)


@contextmanager
def forgetting(network: nn.Module) -> Iterator[None]:
    """What a network sees inside leaves no trace in its statistics."""
    norms = [one for one in norms_of(network) if not one.forgets]
    for one in norms:
        one.forgets = True
    try:
        yield
    finally:
        for one in norms:
            one.forgets = False


@contextmanager
def learning(network: nn.Module) -> Iterator[None]:
    """A network's statistics learn from what it sees inside, whatever else it does."""
    before = [(one, one.training, one.forgets) for one in norms_of(network)]
    for one, _, _ in before:
        one.training, one.forgets = True, False
    try:
        yield
    finally:
        for one, training, forgets in before:
            one.training, one.forgets = training, forgets
