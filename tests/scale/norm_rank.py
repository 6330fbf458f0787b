"""One rank of a batch normalisation; started by torchrun, or alone.

python -m tests.scale.norm_rank OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import safetensors.torch
import torch

from discern.models.batch_norm import BatchNorm
from discern.scale.ranks import Ranks, joined, leave

UNEVEN = (1, 4)  # 5 items on two ranks


def main(out: Path, ranks: Ranks) -> None:
    """Outputs, slopes and statistics of this rank's part of a batch, over two steps."""
    rng = torch.Generator().manual_seed(0)
    norm = BatchNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
    for step in range(2):
        whole = torch.randn(5, 3, 4, 2, generator=rng) * 2 + 100 + step
        weight = torch.randn(whole.shape, generator=rng)
        sizes = UNEVEN if ranks.world == 2 else (5,)
        own = whole.split(sizes)[ranks.rank].clone().requires_grad_()
        found = norm(own, moving=step == 1)
        # a part of the sum over the whole batch: slopes are summed over ranks on the way back
        (found**2 * weight.split(sizes)[ranks.rank]).sum().backward()
    assert own.grad is not None
    kept = {"found": found.detach().contiguous(), "slope": own.grad.contiguous()}
    kept |= {"mean": norm.mean, "var": norm.var, "learned": norm.learned}
    safetensors.torch.save_file(kept, out / f"norm-{ranks.world}-{ranks.rank}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as ranks:
        main(Path(sys.argv[1]), ranks)
    leave(0)
