"""Layer normalisation is torch's, and on a GPU it stays in the 16 bits of what it is given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from discern.models.blocks import Block, stream
from discern.models.norm import LayerNorm
from discern.scale.precision import autocast


def _both(width: int) -> tuple[nn.LayerNorm, nn.LayerNorm]:
    ours, torchs = LayerNorm(width), nn.LayerNorm(width)
    with torch.no_grad():
        for one in ours.parameters():
            one.normal_()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_cpu_it_is_torchs_bit_by_bit(dtype: torch.dtype) -> None:
    ours, torchs = _both(24)
    x = torch.randn(3, 5, 24).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = ours(x), torchs(x)
    assert found.dtype == wanted.dtype == dtype and torch.equal(found, wanted)


@pytest.mark.gpu
def test_on_a_gpu_it_is_torchs_but_for_rounding_and_learns() -> None:
    ours, torchs = (one.cuda() for one in _both(64))
    x = torch.randn(8, 16, 64, device="cuda").bfloat16()
    with autocast("bf16", "cuda"):
        found, wanted = ours(x), torchs(x)
    assert found.dtype == torch.bfloat16 and wanted.dtype == torch.float32
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)
    found.float().square().sum().backward()
    wanted.square().sum().backward()
    for mine, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None and mine.grad.dtype == torch.float32
        torch.testing.assert_close(mine.grad, other.grad, rtol=0.03, atol=0.03 * other.grad.norm())


@pytest.mark.gpu
def test_a_block_hands_16_bits_from_each_product_to_the_next_on_a_gpu() -> None:
    block, seen = Block(64, heads=2).cuda(), []

    def see(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        seen.append((type(module).__name__, given[0].dtype, found.dtype))

    for one in block.modules():
        if isinstance(one, nn.LayerNorm | nn.Linear):
            one.register_forward_hook(see)
    with autocast("bf16", "cuda"):
        block(stream(torch.randn(2, 5, 64, device="cuda")))
    assert len(seen) == 8
    assert all(given == found == torch.bfloat16 for _, given, found in seen), seen
