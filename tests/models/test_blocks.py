"""The Transformer block: attention by hand, both attention paths alike, modulation, depth."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from discern.models.blocks import (
    PLAIN_TOKENS,
    Attention,
    Block,
    LayerScale,
    attend,
    init_linear,
    stream,
)
from tests.tiny import rng


def _x(count: int = 2, tokens: int = 5, width: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, tokens, width, generator=rng(seed))


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [True, False])
def test_attention_by_hand(qk_norm: bool) -> None:
    attention, x = Attention(8, 2, qk_norm), _x()
    expected = torch.zeros_like(x)
    for item in range(2):
        q, k, v = (x[item] @ attention.qkv.weight.T + attention.qkv.bias).split(8, dim=1)
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            query, key = q[:, part], k[:, part]
            if qk_norm:
                query, key = (F.layer_norm(one, (4,), eps=1e-6) for one in (query, key))
            heads.append((query @ key.T / 2).softmax(1) @ v[:, part])
        expected[item] = attention.proj(torch.cat(heads, dim=1))
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tokens", [PLAIN_TOKENS, PLAIN_TOKENS + 1])
def test_both_paths_of_attention_agree(tokens: int) -> None:
    q, k, v = (torch.randn(1, 2, tokens, 4, generator=rng(i)).requires_grad_() for i in range(3))
    found, expected = attend(q, k, v), F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), (q, k, v)) for out in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-5)


def test_attention_in_bf16_stays_in_bf16() -> None:
    attention = Attention(8, 2, qk_norm=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention(_x())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), attention(_x()), rtol=0, atol=0.05)


@torch.no_grad()
def test_block_by_hand() -> None:
    block, x = Block(8, 2, layer_scale=0.3), _x()
    middle = x + 0.3 * block.attn(F.layer_norm(x, (8,), eps=1e-6))
    hidden = F.gelu(block.mlp.fc1(F.layer_norm(middle, (8,), eps=1e-6)))
    torch.testing.assert_close(block(x), middle + 0.3 * block.mlp.fc2(hidden), rtol=0, atol=1e-6)


@torch.no_grad()
def test_modulation_of_zero_changes_nothing_and_others_do() -> None:
    block, x = Block(8, 2), _x()
    assert torch.equal(block(x, torch.zeros(2, 1, 16)), block(x))
    scale, shift = _x(2, 1, 8, seed=1), _x(2, 1, 8, seed=2)
    first, second = block.ls1.gamma, block.ls2.gamma
    middle = x + first * block.attn(block.norm1(x) * (1 + scale) + shift)
    expected = middle + second * block.mlp(block.norm2(middle) * (1 + scale) + shift)
    torch.testing.assert_close(block(x, torch.cat([scale, shift], -1)), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_stochastic_depth_keeps_the_mean_and_drops_whole_items() -> None:
    torch.manual_seed(0)
    block, x = Block(8, 2, drop_path=0.5), _x(1).expand(4000, -1, -1)
    plain = block.eval()(x)
    block.train()
    branch = block._drop(torch.ones(4000, 5, 8))
    assert branch.mean().item() == pytest.approx(1.0, abs=0.05)
    assert set(branch.unique().tolist()) == {0.0, 2.0}
    assert (branch == branch[:, :1, :1]).all()
    untouched = (block(x) == x).flatten(1).all(1).float().mean().item()
    assert untouched == pytest.approx(0.25, abs=0.05)  # both branches dropped
    assert torch.equal(plain, block.eval()(x))


def test_layer_scale_keeps_the_precision_of_its_input() -> None:
    scale = LayerScale(8, 0.1)
    branch = _x(seed=1)
    assert scale(_x().bfloat16(), branch.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(scale(_x(), branch), _x() + 0.1 * branch)


def test_the_stream_follows_autocast() -> None:
    assert stream(_x()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert stream(_x()).dtype == torch.bfloat16


def test_weights_start_spread_alike_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 192).apply(init_linear)
    assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert not layer.bias.any()
    without = torch.nn.Linear(4, 4, bias=False).apply(init_linear)
    assert without.bias is None
