"""Attention that is written out, and the fused one, are the same function."""

import pytest
import torch
from torch.nn import functional as F

from discern.models.blocks import PLAIN_TOKENS, attend


@pytest.mark.parametrize("tokens", [1, 33, PLAIN_TOKENS, PLAIN_TOKENS + 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_agrees_with_the_reference(tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 16).to(dtype) for _ in range(3))
    weights = torch.softmax(q.double() @ k.double().transpose(-2, -1) / 16**0.5, dim=-1)
    expected = weights @ v.double()
    allowed = 0.03 if dtype == torch.bfloat16 else 1e-5
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = attend(q, k, v)
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() < allowed


def test_in_32_bits_the_fused_kernel_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, **_: called.append(q.dtype) or v
    )
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(1, 1, 4, 8).to(dtype)
        attend(x, x, x)
    assert called == [torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_added_before_the_softmax(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 8, generator=rng).to(dtype) for _ in range(3))
    bias = torch.randn(2, 1, 1, 7, generator=rng)
    scores = q.double() @ k.double().transpose(-2, -1) / 8**0.5 + bias.double()
    expected = scores.softmax(dim=-1) @ v.double()
    found = attend(q, k, v, bias).double()
    assert (found - expected).abs().max() < (1e-5 if dtype is torch.float32 else 3e-2)
    assert (found - attend(q, k, v).double()).abs().max() > 0.1
